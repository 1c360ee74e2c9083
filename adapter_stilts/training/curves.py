"""The curves of a training for TensorBoard: loss and learning rate of each step, development scores of each epoch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from adapter_stilts.engine.step import learning_rate_share
from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import Job
from adapter_stilts.training.observers import Observer
from adapter_stilts.training.state import TrainingState

# Seconds after which what was written can be seen.
SEEN_AFTER = 10


def check_tensorboard() -> None:
    """Raise UsageError where TensorBoard is not installed; nothing of it is imported."""
    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard: TensorBoard is not installed; install it with: pip install tensorboard")


class Curves(Observer):
    """Writes the log of one training, in a folder of the run's name.

    Steps are counted from 1, as in `train/loss` and `train/learning_rate` (and `train/fusion_learning_rate`, which
    fusion has of its own); `development/METRIC`, in percent, stands at the last step of its epoch.
    """

    def __init__(self, logs: Path, job: Job, steps: int) -> None:
        self.folder, self.steps, self.warmup = logs / job.name, steps, job.recipe.warmup
        self.rates = {"train/learning_rate": job.recipe.learning_rate}
        if job.composition == "fuse" and job.recipe.fusion_learning_rate:
            self.rates["train/fusion_learning_rate"] = job.recipe.fusion_learning_rate
        # Steps before the epoch that is under way, and steps whose loss is written.
        self.before = self.written = 0

    def begin(self, state: TrainingState) -> None:
        """Open the log. What an earlier process wrote of the epoch that was cut off, and of what came after, gives way:
        its losses are written again.

        Raises UsageError for a folder that cannot be written to.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.before = self.written = state.fitted.steps - len(state.fitted.losses)
        try:
            self.writer = SummaryWriter(str(self.folder), purge_step=self.before + 1, flush_secs=SEEN_AFTER)
        except OSError as error:
            raise UsageError(
                f"--tensorboard: {self.folder}: {error.strerror}; accepted: a folder to write to"
            ) from None
        self.after_step(state)

    def after_step(self, state: TrainingState) -> None:
        """Write the losses, in nats, and learning rates of the steps that have been told of since."""
        for loss in state.fitted.losses[self.written - self.before :]:
            share = learning_rate_share(self.written, self.steps, self.warmup)
            self.written += 1
            self.writer.add_scalar("train/loss", loss, self.written)
            for name, peak in self.rates.items():
                self.writer.add_scalar(name, share * peak, self.written)

    def after_epoch(self, state: TrainingState) -> None:
        """Write the development scores. Then the epoch is on disk, since nobody writes it again."""
        for metric, score in state.fitted.history[-1].scores.items():
            self.writer.add_scalar(f"development/{metric}", score, state.fitted.steps)
        self.writer.flush()
        self.before = state.fitted.steps

    def end(self) -> None:
        """Write what is still to be written."""
        self.writer.close()
