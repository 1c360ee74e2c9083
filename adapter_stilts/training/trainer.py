"""Training: the same loop, data order, schedule and selection for every method and composition."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adapter_stilts.engine.batches import Batch
from adapter_stilts.engine.drawing import make_batch, reachable_ids
from adapter_stilts.engine.embedding_rows import reachable_rows
from adapter_stilts.engine.step import NotFinite, Step
from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.model.parts import FrozenWeights, Part, count_parameters, parts_of
from adapter_stilts.progress import Reporter, progress
from adapter_stilts.runs.record import EpochScore
from adapter_stilts.training.checkpoint import Checkpoints, Saver
from adapter_stilts.training.curves import Curves
from adapter_stilts.training.execution import Execution, make_step
from adapter_stilts.training.schedule import PlannedStep, plan_epochs
from adapter_stilts.training.scoring import development_scores

# Which pieces are hidden in training: by run, epoch and step.
_MASKING = 2
# Steps between two looks at the losses.
ASK_EVERY = {"cpu": 1, "cuda": 50}


@dataclass
class Fitted:
    """What training leaves: the score of every epoch, which one's weights are in the model (0: untrained), what the
    model is made of, and what it cost. `development` is the selected epoch's score, `development_labels` the number of
    distinct labels predicted there; `losses` are those of the steps of the epoch that is under way."""

    history: list[EpochScore] = field(default_factory=list)
    selected_epoch: int = 0
    development: float = 0.0
    development_labels: int | None = None
    steps: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    trainable_parameters: int = 0
    total_parameters: int = 0


def fit(
    job: Job,
    model: Any,
    data: TrainingData,
    execution: Execution | None = None,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train the model in place: epochs of shuffled, packed examples, scored on English development data after each; the
    weights of the last or of the best epoch stay, as the recipe's `selection` says. A `random` control stays untrained.
    Where `checkpoints` hold the state of a training that was cut off, it goes on from there, and ends on the CPU with
    the same weights, bit for bit.

    Raises StiltsError, naming step and examples, where a loss or gradient is not finite, and where a frozen weight has
    changed.
    """
    recipe, fitted, frozen = job.recipe, Fitted(), FrozenWeights(model)
    execution = execution or Execution()
    fitted.parts = parts_of(model)
    fitted.trainable_parameters, fitted.total_parameters = count_parameters(model)
    if job.control == "random":
        scores, fitted.development_labels = development_scores(job, model, data)
        fitted.development = scores[job.task.selection_metric]
        return fitted
    epochs = plan_epochs(data, recipe, job.seed)
    # Of its own, so that dropout does not depend on how many weights were drawn before.
    torch.manual_seed(job.seed)
    model.train()
    with ExitStack() as stack:
        if job.method == "full":
            stack.enter_context(reachable_rows(model, reachable_ids(job, data)))
        total = sum(map(len, epochs))
        reporter = stack.enter_context(progress(job.name, total, "steps"))
        step = make_step(job, model, total, planned_tokens(epochs), execution)
        stack.callback(step.close)
        curves = Curves(execution.tensorboard, job, total)
        stack.callback(curves.close)
        best = Best(step.weights())
        saver = Saver(checkpoints, fitted, step, best, recipe.selection == "best", next(model.parameters()).device)
        saver.restore()
        reporter.go_on_from(fitted.steps)
        curves.begin(fitted.steps, fitted.losses)
        for epoch, steps in enumerate(epochs[len(fitted.history) :], len(fitted.history) + 1):
            loss = train_epoch(job, step, model, steps, fitted, reporter, saver, curves)
            with step.in_float32():
                scores, labels = development_scores(job, model, data)
            fitted.history.append(EpochScore(epoch=epoch, loss=loss, scores=scores, labels=labels))
            curves.add_scores(fitted.steps, scores)
            selection = scores[job.task.selection_metric]
            reporter.say(f"epoch {epoch}: development {job.task.selection_metric} {selection:.2f}")
            if recipe.selection == "last" or best.improved(selection):
                fitted.selected_epoch, fitted.development = epoch, selection
            saver.end_epoch()
        if recipe.selection == "best":
            best.restore()
        fitted.development_labels = fitted.history[fitted.selected_epoch - 1].labels
    frozen.check(model)
    return fitted


def planned_tokens(epochs: Sequence[Sequence[PlannedStep]]) -> int:
    """Pieces that all steps read together."""
    batches = ((planned.part.train.lengths, own) for steps in epochs for planned in steps for own in planned.batches)
    return sum(int(lengths[own].sum()) for lengths, own in batches)


def train_epoch(
    job: Job,
    step: Step,
    model: Any,
    steps: Sequence[PlannedStep],
    fitted: Fitted,
    reporter: Reporter,
    saver: Saver | None = None,
    curves: Curves | None = None,
) -> float:
    """One epoch, or what is left of it, of a model in training mode; returns the mean loss of its steps, in nats, and
    adds steps, tokens and seconds to `fitted`."""
    device = next(model.parameters()).device
    losses = fitted.losses
    done = len(losses)
    first, started = fitted.steps - done, time.perf_counter()
    shown = started

    def batches_of(place: int) -> list[Batch]:
        """Of the epoch's step of that number, counted from 0; none after the last."""
        planned = steps[place : place + 1]
        rng = np.random.default_rng([job.seed, _MASKING, first + place])
        return [make_batch(job, own.part, each, step.batches_on, rng) for own in planned for each in own.batches]

    following = batches_of(done)
    for place in range(done + 1, len(steps) + 1):
        batches = following
        step(batches)
        # While a CUDA device computes, and before it is asked for losses: it would be idle until they were packed.
        following = batches_of(place)
        tokens = sum(batch.tokens for batch in batches)
        fitted.tokens += tokens
        fitted.steps += 1
        # Asking waits for the device, so a fast one is asked now and then.
        save = saver is not None and saver.due()
        if save or place % ASK_EVERY[device.type] == 0 or place == len(steps):
            asked = _losses(step, steps, first)
            if curves is not None:
                curves.add_losses(first + len(losses), asked)
            losses += asked
        now = time.perf_counter()
        reporter.advance(tokens=tokens, loss=losses[-1] if losses else None, seconds=now - shown)
        shown = now
        if saver is not None and save:
            fitted.train_seconds += time.perf_counter() - started
            saver.save()
            started = shown = time.perf_counter()
    fitted.train_seconds += time.perf_counter() - started
    mean = float(np.mean(losses))
    losses.clear()
    return mean


def _losses(step: Step, steps: Sequence[PlannedStep], first: int) -> list[float]:
    """The step's losses; `first` is the number of the epoch's first step. Raises StiltsError naming the examples."""
    try:
        return step.losses()
    except NotFinite as error:
        planned = steps[error.step - first]
        split = planned.part.train
        rows = sorted({int(example) + 1 for own in planned.batches for example in split.example[own]})
        raise StiltsError(f"{error}; examples: {split.source}, rows {', '.join(map(str, rows))}") from None


class Best:
    """A copy of the trained weights at the best development score so far."""

    def __init__(self, weights: Sequence[torch.nn.Parameter]) -> None:
        self.weights, self.copies = list(weights), [own.detach().clone() for own in weights]
        self.score = -float("inf")

    @torch.no_grad()
    def improved(self, score: float) -> bool:
        """Note a score; true, and the weights are copied, where it is the best so far (the earliest among equals)."""
        if score <= self.score:
            return False
        self.score = score
        torch._foreach_copy_(self.copies, [own.data for own in self.weights])
        return True

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back."""
        torch._foreach_copy_([own.data for own in self.weights], self.copies)
