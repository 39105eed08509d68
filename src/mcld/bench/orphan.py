"""A cell must not outlive its bench."""

import os
import signal
import threading
import time


def stop_with_parent(interval: float = 1.0) -> None:
    """From now on ask this process to stop, as Ctrl-C does, when its parent is gone.

    A bench that is killed cannot tell its cells; they would go on, and hold the runs that the next bench needs.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()
