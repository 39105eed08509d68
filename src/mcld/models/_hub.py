"""Weights of the Hugging Face hub where there is no network: from the cache or not at all, and said at once."""

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

PATIENCE = 5.0
"""Seconds to wait for the hub. Its library tries again five times, ever more slowly, before it says so."""


@contextlib.contextmanager
def hub_or_cache() -> Iterator[None]:
    """In this context the hub's library does not try to reach the hub when it is out of reach."""
    try:
        from huggingface_hub import constants
    except ImportError:  # timm asks for it by name then
        yield
        return
    if constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _answers(address: str) -> bool:
    """Whether a web address answers at all, in time."""
    found = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError, ValueError):
            with contextlib.suppress(urllib.error.HTTPError):  # an answer, too
                urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE).close()
            found.set()

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name may take half a minute, whatever the timeout
    asking.start()
    deadline = time.monotonic() + PATIENCE
    while asking.is_alive() and time.monotonic() < deadline and not found.wait(0.05):
        pass
    return found.is_set()
