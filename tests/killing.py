"""Processes that end themselves at a chosen operation on the file system."""

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

OPERATIONS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate"})


def killed_at(operation: int, action: Callable[[], object]) -> bool:
    """Do it in a child process that kills itself before its n-th operation on the file system; whether it did.

    Writing to a file that is open counts as well, half of the bytes being written.
    """
    child = os.fork()
    if child == 0:
        left = [operation]
        pwrite = os.pwrite

        def count(event: str, _: object = None) -> None:
            if event in OPERATIONS:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def half(descriptor: int, data: "Buffer", at: int) -> int:
            if left[0] == 1:
                pwrite(descriptor, memoryview(data)[: len(memoryview(data)) // 2 + 1], at)
            count("open")
            return pwrite(descriptor, data, at)

        os.pwrite = half
        sys.addaudithook(count)
        action()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0
