"""Locks on files, which the system frees when their holder dies."""

from __future__ import annotations

import fcntl
import threading
from contextlib import suppress
from pathlib import Path

from adapter_stilts.progress import say

# Seconds of waiting after which it is said.
PATIENCE = 30.0


def lock(handle: int, path: Path) -> None:
    """Lock an open file for this process alone, waiting for another that has it; closing it frees it. On a file system
    without locks nothing happens."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    except OSError:
        return
    timer = threading.Timer(PATIENCE, say, [f"{path}: waiting for a process that holds it (stopped?)"])
    timer.daemon = True
    timer.start()
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        timer.cancel()
