"""Which image formats are decoded, by name, and which files hold one."""

import functools
import warnings
from typing import TYPE_CHECKING, BinaryIO

from mcld.files import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

MEGAPIXELS = 178
"""The largest image, unless a setting says otherwise: where Pillow, too, takes a file for a decompression bomb."""

_NARROW = 1000  # resized by its short side, such an image would have as many pixels as a bomb

# Formats that Pillow decodes by itself. Those for which it starts other programs (EPS), asks the system or a plug-in of
# whoever registered one (WMF, GRIB, …), or opens a second file of any format inside (IPTC) are never tried.
_SUFFIXES = {
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "DDS": (".dds",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "ICO": (".ico",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_LIBRARIES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # that Pillow may be built without
# Those that may hold pages or frames: in others what follows the first is a preview, a layer or another size of it.
_SEVERAL = frozenset(("AVIF", "GIF", "HEIF", "PNG", "TIFF", "WEBP"))
_NEVER_IMAGES = frozenset(
    (
        *(
            ".txt",
            ".json",
            ".xml",
            ".csv",
            ".tsv",
            ".md",
            ".yaml",
            ".yml",
            ".html",
            ".log",
            ".py",
            ".pdf",
            ".eps",
            ".ps",
        ),
        *(".svg", ".zip", ".tar", ".gz", ".npy", ".npz", ".pt", ".pth", ".mat", ".h5", ".db", ".mp4", ".avi", ".mov"),
    )
)


@functools.cache
def formats() -> tuple[str, ...]:
    """Names of the formats that this Pillow decodes; HEIF where ``pillow-heif`` is installed."""
    from PIL import Image, features

    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener(thumbnails=False)
    # What Pillow warns of (sizes, damaged tags) is checked here, and refused in one line.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    known = [name for name in _SUFFIXES if name in Image.OPEN]
    return tuple(name for name in known if name not in _LIBRARIES or features.check(_LIBRARIES[name]))


@functools.cache
def suffixes() -> frozenset[str]:
    """Endings, in small letters, of the files that are taken for images without a look inside."""
    return frozenset(suffix for name in formats() for suffix in _SUFFIXES[name])


def suffix_of(file: str) -> str:
    """The ending of a file's name in small letters, or nothing."""
    name = file.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def open_image(stream: BinaryIO, name: str = "", megapixels: int = MEGAPIXELS) -> "Image":
    """Read the header of an image in one of :func:`formats`.

    Args:
        stream: the file.
        name: its name: TGA has no mark of its own, and is tried only where the name says so.
        megapixels: the most million pixels that it may have.

    Raises:
        ValueError: when it is none, damaged or too large, in a few words.
    """
    from PIL import Image

    tried = [form for form in formats() if form != "TGA" or suffix_of(name) in _SUFFIXES["TGA"]]
    if Image.MAX_IMAGE_PIXELS is not None and megapixels * 1_000_000 > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = megapixels * 500_000  # Pillow refuses from twice as many on; never made less
    try:
        image = Image.open(stream, formats=tried)
        width, height = image.size
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"too large: {' '.join(str(error).split())}; expected at most {_allowed(megapixels)}"
        ) from None
    except Exception as error:  # Pillow's readers raise nearly any type on damaged files
        raise ValueError(in_words(error)) from None
    if width * height > megapixels * 1_000_000:
        raise ValueError(f"too large: {width}×{height} pixels; expected at most {_allowed(megapixels)}")
    if max(width, height) > _NARROW * min(width, height):
        raise ValueError(
            f"too narrow: {width}×{height} pixels; expected sides that differ by at most {_NARROW:,} times"
        )
    return image


def has_several(image: "Image") -> bool:
    """Whether the file of an opened image holds further ones: pages of a TIFF, frames of an animation."""
    try:
        return image.format in _SEVERAL and bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except Exception:  # looks for a second one, and Pillow's readers raise nearly any type on damaged files
        return False


def in_words(error: Exception) -> str:
    """Why Pillow did not take a file, in a few words."""
    text = " ".join(str(error).split())
    return "not an image" if "cannot identify" in text else text or type(error).__name__


def is_image(path: str) -> bool:
    """Whether a file whose ending says nothing begins as an image does; False where it cannot be read."""
    if suffix_of(path) in _NEVER_IMAGES:
        return False
    try:
        with open_regular(path) as file:
            open_image(file).close()
    except (OSError, ValueError):
        return False
    return True


def _allowed(megapixels: int) -> str:
    return f"{megapixels} million, or set data.max_megapixels"
