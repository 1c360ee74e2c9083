"""How much memory a piece of work takes, that of this process and of those that it starts; and giving it back."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import psutil

# Seconds between two looks.
LOOK_EVERY = 0.1
# Bytes that a process may grow by before it is worth looking for what can be freed, which takes a fifth of a second.
WORTH_A_LOOK = 2**26
_left = 0


@contextmanager
def memory_given_back() -> Iterator[None]:
    """The models that the block has loaded are freed at its end, and their memory is the system's again.

    They hold references to themselves, and Python notices late: in one process ten runs on the embedded backbone
    (0.5 GB) came to hold 8 GB, where 2 are enough.
    """
    try:
        yield
    finally:
        _give_back()


def _give_back() -> None:
    global _left
    if _resident(psutil.Process()) < _left + WORTH_A_LOOK:
        return
    gc.collect()
    with suppress(AttributeError, OSError):  # the C library keeps what was freed, unless it is glibc and is told
        ctypes.CDLL(None).malloc_trim(0)
    _left = _resident(psutil.Process())


class PeakMemory:
    """Within its block: the highest sum of resident memory that a look every LOOK_EVERY seconds has seen, in bytes.

    The kernel's own high-water mark does not serve, since every run starts that anew to report its own.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        process = psutil.Process()
        self.bytes = max(self.bytes, sum(map(_resident, [process, *process.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0
