"""What is timed, in which order, and in how much memory: rounds that go over all contenders in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from datasets import Dataset

from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.progress import say

_VERSIONS = 64


@dataclass(frozen=True)
class Sample:
    """The same sentences for everyone: examples of our data, rows for the peers (`rows_sorted`: shortest first)."""

    data: TrainingData
    rows: Dataset
    rows_sorted: Dataset
    lengths_sorted: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """One timed epoch or pass: real tokens, positions in the tensors (tokens and padding), seconds; and of these,
    seconds in which the step waited for its batch (None: not known)."""

    tokens: int
    positions: int
    seconds: float
    waiting: float | None = None


@dataclass(frozen=True)
class Variant:
    """What is timed: `run(sample, repeat)`; the repeat seeds our order, a peer has a generator of its own. `compiled`
    says whether the layers run compiled."""

    run: Callable[[Sample, int], Measured]
    trainable_parameters: int
    pads: bool
    compiled: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Contender:
    """A variant before it is built: one of `group` (what is trained or predicted), ours or a peer's. `build` puts what
    has to be undone on the stack."""

    name: str
    group: str
    ours: bool
    precision: str
    build: Callable[[ExitStack], Variant]


@dataclass
class Result:
    """What was measured of a contender; `peak_memory` in bytes (None: no CUDA), `failure` why it was left out."""

    contender: Contender
    measured: list[Measured] = field(default_factory=list)
    pads: bool = False
    trainable_parameters: int = 0
    peak_memory: int | None = None
    compiled: bool | None = None
    failure: str | None = None


def now(device: str) -> float:
    """Seconds of a monotonic clock, once the device has done what it was asked to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_group(
    contenders: Sequence[Contender], warm: Sample, timed: Sample, repeats: int, device: str
) -> dict[str, Result]:
    """Build and warm up every contender, then time all of them once a round; they leave the memory together.

    On CUDA ours are warmed up on the whole sample: what is recorded or compiled for a capacity is so before the clock
    starts. One that fails, for want of memory above all, is left out, and its result says why.
    """
    results: dict[str, Result] = {}
    ready: dict[str, _Ready] = {}
    with ExitStack() as stack:
        if device == "cuda":
            # Several models in one process share PyTorch's count of compiled versions, which it gives up above 8.
            stack.enter_context(torch._dynamo.config.patch(recompile_limit=_VERSIONS))  # type: ignore[attr-defined]
        for contender in contenders:
            say(f"warm-up: {contender.name}")
            results[contender.name] = Result(contender)
            sample = timed if contender.ours and device == "cuda" else warm
            built = _prepare(contender, sample, device, results[contender.name])
            if built is not None:
                stack.callback(built.undo.close)
                ready[contender.name] = built
        for repeat in range(1, repeats + 1):
            for name in list(ready):
                if not _time(ready[name], timed, repeat, device, results[name]):
                    ready.pop(name).undo.close()
                    _free(device)
                    continue
                last = results[name].measured[-1]
                say(f"round {repeat} of {repeats}: {name}: {last.tokens / last.seconds:,.0f} tokens/s")
        for name, timed_one in ready.items():
            compiled = timed_one.variant.compiled
            results[name].compiled = compiled() if compiled else None
        ready.clear()
    _free(device)
    return results


@dataclass
class _Ready:
    variant: Variant
    undo: ExitStack
    held: int


def _prepare(contender: Contender, warm: Sample, device: str, result: Result) -> _Ready | None:
    before, undo = _start_counting(device), ExitStack()
    variant = None
    try:
        variant = contender.build(undo)
        variant.run(warm, 0)
    except Exception as error:  # one that fails must not cost what was measured of the others
        result.failure = failure(error)
    if variant is None or result.failure is not None:
        say(f"{contender.name}: left out: {result.failure}")
        variant = None
        undo.close()
        _free(device)
        return None
    result.pads, result.trainable_parameters = variant.pads, variant.trainable_parameters
    if device != "cuda":
        return _Ready(variant, undo, 0)
    result.peak_memory = torch.cuda.max_memory_allocated() - before
    return _Ready(variant, undo, torch.cuda.memory_allocated() - before)


def _time(ready: _Ready, timed: Sample, repeat: int, device: str, result: Result) -> bool:
    """Add one measurement; false where memory does not suffice."""
    before = _start_counting(device)
    try:
        result.measured.append(ready.variant.run(timed, repeat))
    except Exception as error:  # as above
        result.failure = failure(error)
        say(f"{result.contender.name}: left out: {result.failure}")
        return False
    if result.peak_memory is not None:
        result.peak_memory = max(result.peak_memory, torch.cuda.max_memory_allocated() - before + ready.held)
    return True


def failure(error: Exception) -> str:
    """Why a contender is left out, in a line. A mistake in usage is nobody's failure: it is raised."""
    if isinstance(error, UsageError):
        raise error
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"


def _start_counting(device: str) -> int:
    if device != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _free(device: str) -> None:
    gc.collect()
    if device == "cuda":
        # What was compiled for these models must not count against the next.
        torch.compiler.reset()
        torch.cuda.empty_cache()
