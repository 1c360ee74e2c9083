"""How many threads compute on a CPU."""

from __future__ import annotations

import os
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


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """PyTorch uses so many threads for the time of the block (None: as many as before)."""
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
