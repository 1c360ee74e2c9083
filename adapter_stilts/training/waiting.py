"""How long threads that wait for each other stay awake: long on a machine of their own, briefly beside other work.

Threads that share an operation wait for each other after it. A thread that stays awake meanwhile (it spins) goes on at
once, which on a quiet machine makes small batches a quarter faster. Beside other processes it keeps a core from whoever
is waited for, and a step takes ten times as long. So what this process's threads lose to others is measured while they
work, and decides how they wait. It decides nothing else: the same threads compute the same, bit for bit.

Works with GNU's OpenMP on Linux, which PyTorch's packages bring there; elsewhere threads wait as they always did.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from adapter_stilts.threads import usable_cores

# Who sets one of these has chosen how threads wait.
CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LOOK_EVERY = 0.1
# Shares of the time in which threads could have run but another one had their core.
BUSY_FROM, QUIET_UNDER = 0.1, 0.03
# Seconds without load after which threads stay awake again.
QUIET_FOR = 1.0
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Times:
    """Nanoseconds that a thread has run, and that it could have run but waited for a core."""

    ran: int
    delayed: int


def thread_times(tasks: Path = _TASKS) -> dict[str, Times]:
    """The times of this process's threads by their ids (Linux's Documentation/scheduler/sched-stats.rst); none where
    the kernel does not count them."""
    times = {}
    with suppress(OSError):
        for task in os.listdir(tasks):
            with suppress(OSError, ValueError):  # a thread that has just ended
                ran, delayed = (tasks / task / "schedstat").read_text().split()[:2]
                times[task] = Times(int(ran), int(delayed))
    return times


def delayed_share(before: Mapping[str, Times], after: Mapping[str, Times]) -> float:
    """Share of the time in which threads could run that they waited for a core, between two readings; 0 where none ran.
    Threads that began or ended in between are left out."""
    both = [(before[task], after[task]) for task in before.keys() & after.keys()]
    ran = sum(now.ran - then.ran for then, now in both)
    delayed = sum(now.delayed - then.delayed for then, now in both)
    return delayed / (ran + delayed) if ran + delayed > 0 else 0.0


class Chooser:
    """Whether threads should wait briefly, told from the shares that they were delayed: at once where there is load,
    and until there has been none for a while."""

    def __init__(self) -> None:
        self.brief = False
        self.disturbed = 0.0

    def __call__(self, now: float, share: float) -> bool:
        """The choice from `now` (seconds of any clock) on, with `share` of the time since the last call delayed."""
        if share >= (QUIET_UNDER if self.brief else BUSY_FROM):
            self.brief, self.disturbed = True, now
        elif now - self.disturbed >= QUIET_FOR:
            self.brief = False
        return self.brief


class Surplus:
    """More OpenMP threads than there are cores, all asleep: while there are so many, GNU's OpenMP has every thread wait
    for about a microsecond only (gomp_throttled_spin_count_var in libgomp's config/linux/wait.h). Unlike its
    environment variables, which are read when PyTorch is loaded, this can be changed at any time."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.over: threading.Event | None = None

    def hold(self, wanted: bool) -> None:
        """Have the threads, or have them no more."""
        if wanted and self.over is None:
            self.over = threading.Event()
            threading.Thread(target=self._stay, args=(self.over,), name="surplus", daemon=True).start()
        elif not wanted and self.over is not None:
            self.over.set()  # a team ends with the thread that began it
            self.over = None

    def _stay(self, over: threading.Event) -> None:
        # Something for each thread to do that does nothing: free(NULL).
        self.runtime.GOMP_parallel(ctypes.CDLL(None).free, None, ctypes.c_uint(usable_cores() + 1), ctypes.c_uint(0))
        over.wait()


@cache
def gnu_openmp() -> Any:
    """The GNU OpenMP that PyTorch computes with; None where it is another, or is not known."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        # Looked up through PyTorch's own library: other packages bring other copies.
        found = ctypes.CDLL(str(library), os.RTLD_NOLOAD | os.RTLD_LAZY)
    except (OSError, AttributeError):
        return None
    # Intel's and LLVM's have GNU's entry points too, and count other things.
    return found if hasattr(found, "GOMP_parallel") and not hasattr(found, "kmp_set_blocktime") else None


class Watcher:
    """A thread that looks at what this process's threads lose to others, and has them wait as is best, until it is
    closed."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        runtime = None if any(os.environ.get(name) for name in CHOSEN_BY) else gnu_openmp()
        if runtime is not None and thread_times():
            self.thread = threading.Thread(target=self._watch, args=(Surplus(runtime),), name="waiting", daemon=True)
            self.thread.start()

    def _watch(self, surplus: Surplus) -> None:
        chooser, before = Chooser(), thread_times()
        while not self.ended.wait(LOOK_EVERY):
            after = thread_times()
            surplus.hold(chooser(time.monotonic(), delayed_share(before, after)))
            before = after
        surplus.hold(False)

    def close(self) -> None:
        """Look no more; threads wait as they did before."""
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
