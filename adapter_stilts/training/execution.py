"""How a job is computed, as opposed to what: eager or captured, compiled or not, with how much memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.step import EagerStep, Step
from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import Job
from adapter_stilts.model.attention import HAS_KERNELS
from adapter_stilts.model.bottleneck import fusion_regularisation
from adapter_stilts.model.compiled import PAYS_FROM_TOKENS, compile_layers
from adapter_stilts.model.protocols import Model
from adapter_stilts.paths import check_folder, user_path
from adapter_stilts.training.curves import check_tensorboard


@dataclass(frozen=True)
class Execution:
    """`step`: eager, captured, unrecorded (what the captured step records, run as it is: the way to look into it, and
    to compare it on a CPU), or auto (captured on CUDA); `compile`: on, off, or auto (on CUDA where the run is long
    enough to pay); `checkpointing`: compute each layer twice instead of keeping what is inside it.
    `checkpoint_seconds`: how often the state of training is written down, so that a killed run goes on where it was (0:
    after every step; None: never). `tensorboard`: the folder that gets a folder of TensorBoard logs for each run that
    trains (None: no logs); raises UsageError where TensorBoard is not installed."""

    step: Literal["auto", "eager", "captured", "unrecorded"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    checkpointing: bool = False
    checkpoint_seconds: float | None = 60.0
    tensorboard: Path | None = None

    def __post_init__(self) -> None:
        if self.tensorboard is not None:
            object.__setattr__(self, "tensorboard", user_path(self.tensorboard))
            check_tensorboard()

    def check(self) -> None:
        """Raise UsageError where the logs cannot be written: before anything trains."""
        if self.tensorboard is not None:
            check_folder(self.tensorboard, "--tensorboard")


def make_step(job: Job, model: Model, steps: int, tokens: int, execution: Execution, averaged: bool = False) -> Step:
    """The step of a job that will take so many steps over about so many tokens.

    Raises UsageError for a captured step without CUDA, and on CUDA for a captured or unrecorded one without Triton or
    in another precision than bf16.
    """
    device = next(model.parameters()).device
    # On CUDA, attention in float32, or without Triton, needs the sentences' lengths on the host: a graph has none.
    fits = device.type != "cuda" or (job.precision == "bf16" and HAS_KERNELS)
    if execution.step == "captured" and device.type != "cuda":
        raise _refused(execution, f"device {device.type}", "cuda")
    if execution.step in ("captured", "unrecorded") and not fits:
        if not HAS_KERNELS:
            raise _refused(execution, "PyTorch without Triton", "with it")
        raise _refused(execution, f"precision {job.precision}", "bf16")
    if execution.compile == "on" or (
        execution.compile == "auto" and device.type == "cuda" and tokens >= PAYS_FROM_TOKENS
    ):
        compile_layers(model)
    shared: dict[str, Any] = {"checkpointing": execution.checkpointing, "regularisation": fusion_regularisation}
    captured = device.type == "cuda" and fits if execution.step == "auto" else execution.step != "eager"
    if not captured:
        return EagerStep(model, job.recipe, steps, job.precision, **shared)
    capture = False if execution.step == "unrecorded" else None
    return CapturedStep(model, job.recipe, steps, job.precision, averaged=averaged, capture=capture, **shared)


def _refused(execution: Execution, given: str, accepted: str) -> UsageError:
    return UsageError(f"--step {execution.step}: found {given}, accepted: {accepted} (else --step auto or eager)")
