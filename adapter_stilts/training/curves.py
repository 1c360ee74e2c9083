"""The curves of a training for TensorBoard: loss and learning rate of each step, development scores of each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adapter_stilts.engine.step import learning_rate_share
from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import Job

# Seconds after which what was written can be seen.
SEEN_AFTER = 10


def check_tensorboard() -> None:
    """Raise UsageError where TensorBoard is not installed; nothing of it is imported."""
    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard: TensorBoard is not installed; install it with: pip install tensorboard")


class Curves:
    """Writes the log of one training, in a folder of the run's name; without a folder for logs it does nothing.

    Steps are counted from 1, as in `train/loss` and `train/learning_rate` (and `train/fusion_learning_rate`, which
    fusion has of its own); `development/METRIC`, in percent, stands at the last step of its epoch.
    """

    def __init__(self, logs: Path | None, job: Job, steps: int) -> None:
        self.folder, self.steps, self.warmup = logs and Path(logs) / job.name, steps, job.recipe.warmup
        self.rates = {"train/learning_rate": job.recipe.learning_rate}
        if job.composition == "fuse" and job.recipe.fusion_learning_rate:
            self.rates["train/fusion_learning_rate"] = job.recipe.fusion_learning_rate
        self.writer: Any = None

    def begin(self, done: int, losses: Sequence[float]) -> None:
        """Open the log after so many steps; `losses` are those of the epoch that was cut off, which are written again.
        What an earlier process wrote of that epoch, and of what came after, gives way.

        Raises UsageError for a folder that cannot be written to.
        """
        if self.folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        first = done - len(losses)
        try:
            self.writer = SummaryWriter(str(self.folder), purge_step=first + 1, flush_secs=SEEN_AFTER)
        except OSError as error:
            raise UsageError(
                f"--tensorboard: {self.folder}: {error.strerror}; accepted: a folder to write to"
            ) from None
        self.add_losses(first, losses)

    def add_losses(self, before: int, losses: Sequence[float]) -> None:
        """The losses, in nats, of the steps after so many."""
        if self.writer is None:
            return
        for step, loss in enumerate(losses, before):
            self.writer.add_scalar("train/loss", loss, step + 1)
            share = learning_rate_share(step, self.steps, self.warmup)
            for name, peak in self.rates.items():
                self.writer.add_scalar(name, share * peak, step + 1)

    def add_scores(self, done: int, scores: Mapping[str, float]) -> None:
        """The development scores after so many steps. Then the epoch is on disk, since nobody writes it again."""
        if self.writer is None:
            return
        for metric, score in scores.items():
            self.writer.add_scalar(f"development/{metric}", score, done)
        self.writer.flush()

    def close(self) -> None:
        """Write what is still to be written."""
        if self.writer is not None:
            self.writer.close()
