"""A cell must not outlive its bench."""

import os
import signal
import threading
import time

PARENT = "MCLD_BENCH_PROCESS"
"""The environment variable that tells a cell which process started it."""
GRACE = 120.0


def stop_with_parent(interval: float = 1.0) -> None:
    """From now on ask this process to stop, as Ctrl-C does, when its parent is gone; after two minutes it is ended.

    A bench that is killed cannot tell its cells; they would go on, and hold the runs that the next bench needs. It may
    be gone already when this is called, so a bench says in the environment who it is.
    """
    given = os.environ.pop(PARENT, "")
    parent = int(given) if given.isdecimal() else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()
