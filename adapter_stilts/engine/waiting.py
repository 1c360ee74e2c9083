"""How long threads that wait for each other stay awake: long on a machine of their own, briefly beside other work.

Threads that share an operation wait for each other after it. A thread that stays awake meanwhile (it spins) goes on at
once, which on a quiet machine makes small batches a quarter faster. Beside other processes it keeps a core from whoever
is waited for, and a step takes ten times as long. So what this process's threads lose to others is measured while they
work, and decides how they wait. It decides nothing else: the same threads compute the same, bit for bit.

Works with GNU's OpenMP on Linux, which PyTorch's packages bring there; elsewhere threads wait as they always did.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from adapter_stilts.threads import usable_cores

# Who sets one of these has chosen how threads wait.
CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LOOK_EVERY = 0.15
# Seconds a second that threads wait for a core that another has, averaged over the last seconds: half a second and more
# beside other work; without, threads of this process alone come to a twentieth.
BUSY_FROM, QUIET_UNDER = 0.25, 0.1
OVER_SECONDS = 0.3
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Reading:
    """Seconds of a clock, and seconds that each of this process's threads, by its id, has waited for a core so far."""

    clock: float
    delays: Mapping[str, float]


def read_delays(tasks: Path = _TASKS) -> Reading:
    """The delays up to now (Linux's Documentation/scheduler/sched-stats.rst), of no thread where the kernel does not
    count them."""
    delays = {}
    with suppress(OSError):
        for task in os.listdir(tasks):
            with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
                delays[task] = int(_content(tasks / task / "schedstat").split()[1]) / 1e9
    return Reading(time.monotonic(), delays)


def _content(path: Path) -> bytes:
    """A small file of the kernel, read in a third of the time that `Path.read_text` takes."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 256)
    finally:
        os.close(file)


def delay_rate(before: Reading, after: Reading) -> float:
    """Seconds a second that all threads together waited for a core between two readings. Threads that began or ended in
    between are left out."""
    both = before.delays.keys() & after.delays.keys()
    return sum(after.delays[task] - before.delays[task] for task in both) / (after.clock - before.clock)


class Chooser:
    """Whether threads should wait briefly, told from the rates of their delays: their running average must rise above
    one bound for it, and fall below a lower one for the contrary, so that chance does not have it change."""

    def __init__(self) -> None:
        self.brief = False
        self.average = 0.0

    def __call__(self, rate: float, seconds: float) -> bool:
        """The choice after so many seconds in which delays had that rate."""
        self.average += (rate - self.average) * (1 - math.exp(-seconds / OVER_SECONDS))
        self.brief = self.average >= (QUIET_UNDER if self.brief else BUSY_FROM)
        return self.brief


class Surplus:
    """More OpenMP threads than there are cores, all asleep: while there are so many, GNU's OpenMP has every thread wait
    for about a microsecond only (gomp_throttled_spin_count_var in libgomp's config/linux/wait.h). Unlike its
    environment variables, which are read when PyTorch is loaded, this can be changed at any time."""

    def __init__(self, runtime: ctypes.CDLL) -> None:
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
def gnu_openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP that PyTorch computes with; None where it is another, or is not known."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        # Looked up through PyTorch's own library: other packages bring other copies.
        openmp = ctypes.CDLL(str(library), os.RTLD_NOLOAD | os.RTLD_LAZY)
    except (OSError, AttributeError):
        return None
    # Intel's and LLVM's have GNU's entry points too, and count other things.
    return openmp if hasattr(openmp, "GOMP_parallel") and not hasattr(openmp, "kmp_set_blocktime") else None


class Watcher:
    """A thread that looks at what this process's threads lose to others, and has them wait as is best, until it is
    closed."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        runtime = None if any(os.environ.get(name) for name in CHOSEN_BY) else gnu_openmp()
        if runtime is not None and read_delays().delays:
            self.thread = threading.Thread(target=self._watch, args=(Surplus(runtime),), name="waiting", daemon=True)
            self.thread.start()

    def _watch(self, surplus: Surplus) -> None:
        chooser, before = Chooser(), read_delays()
        while not self.ended.wait(LOOK_EVERY):
            after = read_delays()
            surplus.hold(chooser(delay_rate(before, after), after.clock - before.clock))
            before = after
        surplus.hold(False)

    def close(self) -> None:
        """Look no more; threads wait as they did before."""
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
