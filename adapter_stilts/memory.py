"""How much memory a piece of work takes: that of this process and of those that it starts."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

# Seconds between two looks.
LOOK_EVERY = 0.1


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
