"""How much room this machine has left."""

import contextlib
import os
import shutil
from pathlib import Path

_SHARED = "/dev/shm"


def free_memory() -> int:
    """Bytes of memory that could be had, in this container if it is one; all of it where the system does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", for no limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(0, limit - used))
    if found:
        return min(found)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def shared_memory() -> int | None:
    """Bytes that processes can still share, which containers often limit to 64 MB; None where nothing is known."""
    try:
        return shutil.disk_usage(_SHARED).free
    except OSError:
        return None


def in_words(size: int) -> str:
    """A number of bytes, as people read it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
