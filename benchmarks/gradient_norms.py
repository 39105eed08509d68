"""The norm of the gradient at the first step of untrained students: what optimizer.clip would limit.

    python benchmarks/gradient_norms.py --photos ../shared/data/clothing

One batch of 64 photographs at 32 px, with logits of N(0, 3²) for the teacher's: the size of the norms is what matters.
"""

import argparse

import torch

import mcld
from mcld.data import load_data
from mcld.models import create_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, metavar="FOLDER", help="with train/CLASS and validation/CLASS")
    parser.add_argument("--students", nargs="+", default=["resnet8", "resnet20", "MobileNetV2", "ShuffleV1"])
    given = parser.parse_args()
    data = load_data("folder", path=given.photos, image_size=32)
    g = torch.Generator().manual_seed(0)
    index = torch.randperm(len(data.train), generator=g)[:64]
    images = data.train.images(index, data.train.views.sample(64, g)).float() / 255
    teacher = 3 * torch.randn(64, len(data.info.classes), generator=g)
    for name in given.students:
        norms = []
        for method in ("mcld", "dist", "kd"):
            torch.manual_seed(0)
            student = create_model(name, len(data.info.classes))
            distiller = mcld.Distiller(student, method=method, images=mcld.ImageSpec())
            out = distiller(images, data.train.labels[index], progress=0.5, teacher_logits=teacher)
            torch.autograd.backward(out.loss)
            gradients = [p.grad for p in student.parameters() if p.grad is not None]
            norms.append(f"{method} {float(torch.nn.utils.get_total_norm(gradients)):,.0f}")
        print(f"{name:<12} {'  '.join(norms)}")


if __name__ == "__main__":
    main()
