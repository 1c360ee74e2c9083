"""How many threads compute on a CPU, and that one call of the API computes at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from adapter_stilts.arguments import whole_number


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: object) -> int | None:
    """The number of threads that was asked for, or None. Raises UsageError for what is no number from 1 to that of the
    cores that this process may run on: more threads would only wait for each other."""
    return whole_number("--threads", threads, 1, usable_cores())


# Random numbers, the number of threads and the device that models are loaded on belong to the whole process: two that
# compute at once would get other results than each alone.
ONE_AT_A_TIME = threading.RLock()


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """PyTorch uses so many threads for the time of the block (None: as many as before). A second thread of the process
    waits before the block until the first has left it."""
    with ONE_AT_A_TIME:
        if threads is None:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
