"""Training: the same loop, data order, schedule and selection for every method and composition.

A step is forward, loss, backward, clipping, AdamW and the learning rate's schedule: `engine/step.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain

import numpy as np
import torch

from adapter_stilts.engine.batches import Batch
from adapter_stilts.engine.drawing import make_batch, reachable_ids, reads_several_pieces
from adapter_stilts.engine.embedding_rows import reachable_rows
from adapter_stilts.engine.step import NotFinite
from adapter_stilts.errors import FailedTraining
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.model.parts import FrozenWeights, count_parameters, parts_of
from adapter_stilts.model.protocols import Model
from adapter_stilts.runs.record import EpochScore
from adapter_stilts.training.checkpoint import Checkpoints
from adapter_stilts.training.curves import Curves
from adapter_stilts.training.execution import Execution, make_step
from adapter_stilts.training.observers import Observer, ProgressBar, observed
from adapter_stilts.training.sampling import Draw, draw_epochs
from adapter_stilts.training.scoring import development_scores
from adapter_stilts.training.state import Best, Fitted, RandomState, TrainingState

# Which targets are drawn, where a kind draws them: by run, epoch and step.
_DRAWING = 2
# Steps between two looks at the losses.
ASK_EVERY = {"cpu": 1, "cuda": 50}


def train_epochs(
    job: Job,
    model: Model,
    data: TrainingData,
    epochs: Sequence[Sequence[Draw]],
    state: TrainingState,
    observers: Sequence[Observer],
) -> None:
    """The method: train on the draws of every epoch that is left, score the model on English development data after
    each, and keep the weights that the recipe's `selection` asks for."""
    history = state.fitted.history
    for epoch, draws in enumerate(epochs[len(history) :], len(history) + 1):
        loss = train_epoch(job, draws, state, observers)
        with state.step.in_float32():
            scores, labels = development_scores(job, model, data)
        history.append(EpochScore(epoch=epoch, loss=loss, scores=scores, labels=labels))
        state.keep(scores[job.task.selection_metric])
        for observer in observers:
            observer.after_epoch(state)
    state.select()


def train_epoch(job: Job, draws: Sequence[Draw], state: TrainingState, observers: Sequence[Observer] = ()) -> float:
    """One epoch, or what is left of it, of a model in training mode; returns the mean loss of its steps, in nats."""
    fitted, step = state.fitted, state.step
    ask_every = ASK_EVERY[step.weights()[0].device.type]
    done = len(fitted.losses)  # a state is saved with the losses of all steps that were taken
    with state.timed():
        batches = packed(job, draws[done : done + 1], state)
    for number in range(done + 1, len(draws) + 1):
        with state.timed():
            step(batches)
            fitted.steps += 1
            fitted.tokens += sum(batch.tokens for batch in batches)
            # While a CUDA device computes, and before it is asked for losses: it would be idle until they were packed.
            batches = packed(job, draws[number : number + 1], state)
            # Asking waits for the device, so a fast one is asked now and then.
            if number % ask_every == 0 or number == len(draws):
                state.take_losses()
        for observer in observers:
            observer.after_step(state)
    mean = float(np.mean(fitted.losses))
    fitted.losses.clear()
    return mean


def packed(job: Job, draws: Sequence[Draw], state: TrainingState) -> list[Batch]:
    """The batches of the draw of the next step, packed, or none; what is drawn in them is decided by its number."""
    rng = np.random.default_rng([job.seed, _DRAWING, state.fitted.steps])
    return [
        make_batch(job, draw.part, sequences, state.step.batches_on, rng)
        for draw in draws
        for sequences in draw.batches
    ]


def fit(
    job: Job,
    model: Model,
    data: TrainingData,
    execution: Execution | None = None,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train the model in place: epochs of shuffled, packed examples, scored on English development data after each; the
    weights of the last or of the best epoch stay, as the recipe's `selection` says. A `random` control stays untrained.
    Where `checkpoints` hold the state of a training that was cut off, it goes on from there, and ends on the CPU with
    the same weights, bit for bit.

    Raises FailedTraining, naming step and examples, where a loss or gradient is not finite, and where a frozen weight
    has changed.
    """
    frozen = FrozenWeights(model)
    if job.control == "random":
        scores, labels = development_scores(job, model, data)
        fitted = Fitted(development=scores[job.task.selection_metric], development_labels=labels)
    else:
        fitted = _train(job, model, data, execution or Execution(), checkpoints)
    fitted.parts = parts_of(model)
    fitted.trainable_parameters, fitted.total_parameters = count_parameters(model)
    frozen.check(model)
    return fitted


def _train(job: Job, model: Model, data: TrainingData, execution: Execution, checkpoints: Checkpoints | None) -> Fitted:
    """Set the loop up, with those who look on, and run it; returns what it has come to."""
    epochs = draw_epochs(data, job.recipe, job.seed)
    # Seeded anew, so that dropout does not depend on how many weights were drawn before.
    torch.manual_seed(job.seed)
    model.train()
    with ExitStack() as stack:
        if job.method == "full":
            stack.enter_context(reachable_rows(model, reachable_ids(job, data)))
        total = sum(map(len, epochs))
        averaged = reads_several_pieces(data)
        step = make_step(job, model, total, drawn_tokens(epochs), execution, averaged)
        stack.callback(step.close)
        best = Best(step.weights()) if job.recipe.selection == "best" else None
        state = TrainingState(step, RandomState(next(model.parameters()).device), best=best)
        observers: list[Observer] = [ProgressBar(job.name, total, job.task.selection_metric)]
        if execution.tensorboard is not None:
            observers.append(Curves(execution.tensorboard, job, total))
        if checkpoints is not None:
            checkpoints.restore(state)
            # The last: what the others write of an epoch is written once, before a checkpoint says that it is over.
            observers.append(checkpoints)
        with observed(observers, state):
            try:
                train_epochs(job, model, data, epochs, state, observers)
            except NotFinite as error:
                raise FailedTraining(f"{error}; examples: {_examples(epochs, error.step)}") from None
        state.fitted.executed = step.executed()
        return state.fitted


def drawn_tokens(epochs: Sequence[Sequence[Draw]]) -> int:
    """Pieces that all steps read together."""
    batches = ((draw.part.train.lengths, sequences) for draw in chain(*epochs) for sequences in draw.batches)
    return sum(int(lengths[sequences].sum()) for lengths, sequences in batches)


def _examples(epochs: Sequence[Sequence[Draw]], step: int) -> str:
    """File and rows of the examples of the step of that number, counted from 0."""
    draw = list(chain(*epochs))[step]
    split = draw.part.train
    rows = sorted({int(example) + 1 for sequences in draw.batches for example in split.example[sequences]})
    return f"{split.source}, rows {', '.join(map(str, rows))}"
