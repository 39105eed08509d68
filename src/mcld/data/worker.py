"""How a loader's worker process comes and goes."""

import contextlib
import multiprocessing.util  # its own end of all children is then later than ours
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import TracebackType

_GONE = 5.0
"""Seconds after a broken connection within which its other end, the parent, is seen to have ended."""

_STARTED: weakref.WeakSet[BaseProcess] = weakref.WeakSet()


def begin(_number: int) -> None:
    """A worker ends when its parent does or says so, and leaves signals to the whole group to the parent."""
    parents = {os.getppid()}
    if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
        parents.add(parent.pid)
    _STARTED.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.excepthook = _Orphaned(os.getppid())
    threading.Thread(target=_watch, args=(os.getppid(), parents), daemon=True, name="parent").start()


def _watch(parent: int, parents: set[int], interval: float = 0.25) -> None:
    while os.getppid() == parent:
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(interval)
        elif (sent := signal.sigtimedwait({signal.SIGTERM}, interval)) is not None and sent.si_pid in parents:
            break
    os._exit(0)


class _Orphaned:
    """In place of ``sys.excepthook``: a worker whose parent is gone ends, and says nothing.

    The thread with which a worker hands over the descriptors of its batches reports through that hook, and a parent
    that is killed meanwhile is a broken connection to it. The connection breaks a moment before the parent is gone.

    Args:
        parent: its process id.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        deadline = time.monotonic() + (_GONE if isinstance(error, OSError | EOFError) else 0)
        while os.getppid() == self._parent:
            if time.monotonic() >= deadline:
                sys.__excepthook__(kind, error, trace)
                return
            time.sleep(0.01)
        os._exit(0)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Workers that begin in this context are not ended by a signal to the whole group before they know of it."""
    others = multiprocessing.active_children()
    masked = hasattr(signal, "sigtimedwait")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT}) if masked else set()
    try:
        yield
    finally:
        _STARTED.update(child for child in multiprocessing.active_children() if child not in others)
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wake() -> None:
    """Let workers go on that somebody has stopped (SIGSTOP): whoever is to leave would wait for them without end."""
    for process in list(_STARTED):
        if process.exitcode is None and process.pid is not None and hasattr(signal, "SIGCONT"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
