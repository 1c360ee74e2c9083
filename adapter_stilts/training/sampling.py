"""Which examples each step trains on: one task's epochs, or several tasks mixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adapter_stilts.engine.batches import cut_batches, epoch_order, group_steps
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.schema import Recipe

_MIXING_STREAM = 1


@dataclass(frozen=True)
class Draw:
    """What one optimizer step reads: a part of the training data, and of each of its batches the sequences, as indices
    into the part's split."""

    part: TrainingPart
    batches: Sequence[np.ndarray]


def draw_epochs(data: TrainingData, recipe: Recipe, seed: int) -> list[list[Draw]]:
    """The draws of every epoch, one a step, decided by data, recipe and seed alone.

    An epoch has as many steps as one pass over all tasks. Of one task it is that pass, in an order of its own in each
    epoch. Of several, `mixing` shares its steps out, and a task goes on in one epoch where it stopped before.
    What is mixed in comes on top, so many steps that it has its share of all.
    """
    if len(data.parts) == 1:
        (part,) = data.parts
        return [_draws_of_epoch(part, recipe, seed, epoch) for epoch in range(recipe.epochs)]
    streams = [_draws_of(part, recipe, seed) for part in data.parts]
    steps = [_steps_in_epoch(part, recipe) for part in data.tasks]
    counts = mixing_counts([len(part.train_examples) for part in data.tasks], steps, recipe)
    whole = sum(counts)
    counts += [round(whole * part.share / (1 - part.share)) for part in data.mixed_in if part.share is not None]
    epochs = []
    for epoch in range(recipe.epochs):
        turns = np.repeat(np.arange(len(counts)), counts)
        turns = np.random.default_rng([seed, epoch, _MIXING_STREAM]).permutation(turns)
        epochs.append([next(streams[turn]) for turn in turns])
    return epochs


def mixing_counts(examples: Sequence[int], steps: Sequence[int], recipe: Recipe) -> list[int]:
    """How many of an epoch's steps each task gets; they sum to that of one pass over all tasks.

    proportional: as min(examples, mixing_cap); uniform: equally; temperature: as examples ** (1 / T) (Wang et al.,
    2019; Conneau & Lample, 2019). A task gets at least one step.
    """
    if len(examples) == 1:
        return list(steps)
    sizes = np.minimum(np.array(examples, dtype=float), recipe.mixing_cap or np.inf)
    power = {"proportional": 1.0, "uniform": 0.0, "temperature": 1 / recipe.mixing_temperature}[recipe.mixing]
    shares = sizes**power / (sizes**power).sum() * sum(steps)
    counts = np.floor(shares).astype(int)
    # What rounding down left over goes to the largest remainders, the first among equals.
    for index in np.argsort(counts - shares, kind="stable")[: sum(steps) - counts.sum()]:
        counts[index] += 1
    return [max(int(count), 1) for count in counts]


def _steps_in_epoch(part: TrainingPart, recipe: Recipe) -> int:
    return len(_cut(part, recipe, part.train_examples))


def _draws_of(part: TrainingPart, recipe: Recipe, seed: int) -> Iterator[Draw]:
    """Draws without end: one pass over the examples after another, each in an order of its own."""
    epoch = 0
    while True:
        yield from _draws_of_epoch(part, recipe, seed, epoch)
        epoch += 1


def _draws_of_epoch(part: TrainingPart, recipe: Recipe, seed: int, epoch: int) -> list[Draw]:
    return [Draw(part, batches) for batches in _cut(part, recipe, epoch_order(part.train_examples, seed, epoch))]


def _cut(part: TrainingPart, recipe: Recipe, examples: np.ndarray) -> list[Sequence[np.ndarray]]:
    batches = cut_batches(part.train, examples, recipe.batch_examples, recipe.batch_tokens)
    return group_steps(batches, recipe.accumulate)
