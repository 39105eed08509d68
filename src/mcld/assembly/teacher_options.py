"""What may be said of the teacher: all that may be said of a network, and where its logits are kept."""

from dataclasses import dataclass

from mcld.assembly.network_options import NetworkSettings


@dataclass(frozen=True)
class TeacherSettings(NetworkSettings):
    """The network to learn from.

    Attributes:
        allow_near_chance: go on with a teacher that is no better than guessing.
        store: where its logits are kept, for this run and for all later ones with the same teacher, data and views:
            ``auto`` (a folder of the user's cache, where the method and the disk allow it), ``off`` or a folder.
        store_precision: bits of a stored logit, 16 or 32. As measured with one teacher (logits from -13 to 19;
            ``benchmarks/store_precision.py``), 16 bits change a logit by at most 0.004, a batch's loss by at most 0.03%
            and its gradient by at most 0.15%; 32 bits give the student of the live teacher to the bit.
        views: show only so many different views of each training image, so that their logits can be stored: an
            approximation of the whole augmentation. By default all there are.
    """

    allow_near_chance: bool = False
    store: str = "auto"
    store_precision: int = 16
    views: int | None = None
