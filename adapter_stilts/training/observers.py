"""Who looks on while a model trains: the progress bar here, curves and checkpoints in modules of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from adapter_stilts.progress import progress
from adapter_stilts.training.state import TrainingState


class Observer:
    """Is told where a training is, and decides nothing of it. Each method may stay as it is: it does nothing.

    The losses of an epoch's last step stand in the state when it is told of it; before, they may come some steps later.
    """

    def begin(self, state: TrainingState) -> None:
        """Training begins, or goes on from a state that was restored."""

    def after_step(self, state: TrainingState) -> None:
        """A step was taken."""

    def after_epoch(self, state: TrainingState) -> None:
        """An epoch was scored, and its score is the last of the history; no losses are left in the state."""

    def end(self) -> None:
        """Training has ended, also where it failed."""


@contextmanager
def observed(observers: Sequence[Observer], state: TrainingState) -> Iterator[None]:
    """For the time of the block these look on; what began is ended, whatever happens."""
    with ExitStack() as stack:
        for observer in observers:
            observer.begin(state)
            stack.callback(observer.end)
        yield


class ProgressBar(Observer):
    """Shows steps, loss and speed under a name, and `metric` on development data after each epoch."""

    def __init__(self, name: str, steps: int, metric: str) -> None:
        self.name, self.steps, self.metric = name, steps, metric
        self.stack = ExitStack()
        # Of training, when the bar was last moved: the speed leaves everything else out.
        self.tokens, self.seconds = 0, 0.0

    def begin(self, state: TrainingState) -> None:
        self.reporter = self.stack.enter_context(progress(self.name, self.steps, "steps"))
        self.reporter.go_on_from(state.fitted.steps)
        self.tokens, self.seconds = state.fitted.tokens, state.fitted.train_seconds

    def after_step(self, state: TrainingState) -> None:
        fitted = state.fitted
        self.reporter.advance(
            tokens=fitted.tokens - self.tokens,
            loss=fitted.losses[-1] if fitted.losses else None,
            seconds=fitted.train_seconds - self.seconds,
        )
        self.tokens, self.seconds = fitted.tokens, fitted.train_seconds

    def after_epoch(self, state: TrainingState) -> None:
        last = state.fitted.history[-1]
        self.reporter.say(f"epoch {last.epoch}: development {self.metric} {last.scores[self.metric]:.2f}")

    def end(self) -> None:
        self.stack.close()
