"""The teacher: a source of logits. The training loop does not know which kind."""

from typing import Protocol

from mcld.data import Batch
from mcld.methods import Outputs
from mcld.teacher.check import check_order, check_teacher, order_warning
from mcld.teacher.live import LiveTeacher
from mcld.teacher.store import Header, LogitStore
from mcld.teacher.stored import StoredTeacher, plain_logits

__all__ = [
    "Header",
    "LiveTeacher",
    "LogitStore",
    "StoredTeacher",
    "Teacher",
    "check_order",
    "check_teacher",
    "order_warning",
    "plain_logits",
]


class Teacher(Protocol):
    """Gives the frozen teacher's outputs for exactly the views in a batch."""

    def __call__(self, batch: Batch) -> Outputs:
        """The outputs, without gradient."""
        ...

    def save(self) -> None:
        """Put to disk what should not be computed again."""
        ...
