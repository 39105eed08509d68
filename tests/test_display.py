"""The line of an epoch."""

from mcld.display import epoch_line

ROW = {
    "epoch": 3,
    "lr": 0.05,
    "loss": 1.25,
    "ce": 0.25,
    "kd": 1.0,
    "train_top1": 0.5,
    "val_loss": 1.0,
    "val_top1": 0.625,
    "val_top5": 0.9,
    "images_per_second": 1234.5,
    "seconds": 3.0,
}


def test_cross_entropy_is_labelled_with_its_weight() -> None:
    """The terms sum to the loss: 0.25 is a tenth of a cross-entropy of 2.5, and must not be read as one of 0.25."""
    line = "epoch   3/100  top-1 62.50%  loss 1.250  {}  kd 1.000  lr 0.05  1,234 images/s"
    assert epoch_line(ROW, 100, 0.1) == line.format("0.1·ce 0.250")
    assert epoch_line(ROW, 100) == line.format("ce 0.250")
