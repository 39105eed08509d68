"""Leaving in order when asked to."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from mcld.data.worker import wake
from mcld.text import printable


class Interrupted(Exception):  # noqa: N818 (being asked to stop is no error)
    """The run was asked to stop, and saved its state first.

    Attributes:
        signal: the number of the signal that asked.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(printable(message))
        self.signal = signal


class StopRequest:
    """Within this context SIGINT and SIGTERM only ask the loop to stop; a second one stops at once.

    One that comes within half a second is the same request: a launcher may pass on what the whole group was sent.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python sets no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        wake()  # the loop may be waiting for a batch
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._asked = number, now
        elif now - self._asked > 0.5:
            raise KeyboardInterrupt
