"""``use.py``, the script beside an exported ONNX file, which needs onnxruntime, numpy and Pillow alone."""

from mcld.exports._base import Job

_SCRIPT = '''\
"""The most likely classes of photos: python use.py MODEL.onnx PHOTO [PHOTO ...]"""
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["mcld"])
height, width = about["crop"]
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode[0] in "IF":  # mcld predict scales such values
        sys.exit(f"{{path}} has more than 8 bits a value; make it an image of 8 bits first")
    image = image.convert(about["mode"])
{resize}
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height))).reshape(1, height, width, -1)
{normalise}    found = session.run(["probabilities"], {{"images": pixels}})[0][0]
    print(path, *(f"{{about['classes'][i]}} {{found[i]:.1%}}" for i in found.argsort()[::-1][:3]), sep="\\t")
'''
_SQUARE = '    size = [about["resize"] * side // min(image.size) for side in image.size]'
_OTHER = """\
    scale = max(about["resize"] / min(image.size), width / image.width, height / image.height)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))"""
_NORMALISE = """\
    pixels = (pixels / np.float32(255) - np.float32(about["mean"])) / np.float32(about["std"])
    pixels = pixels.transpose(0, 3, 1, 2).astype(np.float32)
"""


def use_script(job: Job) -> str:
    """The script for a network: how it resizes depends on whether its images are square (mcld.data.preprocessing)."""
    return _SCRIPT.format(
        resize=_SQUARE if job.size[0] == job.size[1] else _OTHER,
        normalise="" if job.preprocess else _NORMALISE,
    )
