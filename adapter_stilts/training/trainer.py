"""Training: the same loop, data order, schedule and selection for every method and composition."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adapter_stilts.errors import StiltsError
from adapter_stilts.model.backbone import load_model
from adapter_stilts.model.composition import (
    Arrangement,
    activate,
    adapter_config,
    count_parameters,
    set_dropout,
    set_trainable,
)
from adapter_stilts.model.packing import install
from adapter_stilts.progress import Reporter, progress
from adapter_stilts.runs.bundle import check_files, load_encoder, load_intermediate_adapter, read_manifest
from adapter_stilts.runs.record import EpochScore
from adapter_stilts.runs.store import bundle_of
from adapter_stilts.schema import Recipe
from adapter_stilts.tasks.encode import EncodedSplit, encode_split, label_inventory
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.training.batches import cut_batches, epoch_order, group_steps, pack
from adapter_stilts.training.embedding_rows import reachable_rows
from adapter_stilts.training.inference import predict_labels, score
from adapter_stilts.training.job import Job
from adapter_stilts.training.step import EagerStep, NotFinite

# Which development examples are scored, where a recipe asks for a part of them, is the same for every run.
DEVELOPMENT_SEED = 0


@dataclass(frozen=True)
class TrainingData:
    """English training and development splits, and which of their examples are used."""

    train: EncodedSplit
    train_examples: np.ndarray
    development: EncodedSplit
    development_examples: np.ndarray
    labels: tuple[str, ...]

    @property
    def reachable_ids(self) -> np.ndarray:
        """Every piece id that training or development scoring can look up."""
        return np.union1d(self.train.ids, self.development.ids)


@dataclass
class Fitted:
    """What training leaves: the score of every epoch, which one's weights are in the model, and what it cost."""

    history: list[EpochScore] = field(default_factory=list)
    selected_epoch: int = 0
    steps: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    trainable_parameters: int = 0
    total_parameters: int = 0


def load_training_data(job: Job) -> TrainingData:
    """Both English splits, encoded; the training examples are drawn with the run's seed."""
    labels = label_inventory(job.task, job.mirror)
    train, development = (
        encode_split(job.task, job.task.train_language, split, job.backbone.tokenizer, labels, job.mirror)
        for split in ("train", "validation")
    )
    return TrainingData(
        train,
        train.sample(job.limit, job.seed),
        development,
        development.sample(job.recipe.development_examples, DEVELOPMENT_SEED),
        labels,
    )


def build_model(job: Job, labels: Sequence[str], device: torch.device | str = "cpu") -> Any:
    """The job's model: backbone, intermediates with their trained weights, a fresh target adapter and head.

    The seed decides the fresh weights. Only the arrangement's parts train; `set_trainable` checks that.
    Raises StiltsError for an intermediate whose files are damaged.
    """
    for run in job.intermediates:
        check_files(bundle_of(run), read_manifest(bundle_of(run)).files)
    arrangement = job.arrangement
    model = load_model(job.backbone)
    set_dropout(model, job.recipe.dropout)
    for (run, adapter), name in job.adapters:
        load_intermediate_adapter(model, bundle_of(run), adapter, name)
    if job.method == "full":
        for run in job.intermediates:
            load_encoder(model, bundle_of(run))
    # After what lies underneath, so that target adapter and head start alike under every composition.
    torch.manual_seed(job.seed)
    if job.method != "full":
        model.add_adapter(arrangement.head, config=adapter_config(job.recipe.adapter, job.recipe.reduction))
    find_kind(job.task.kind).add_head(model, arrangement.head, labels, job.recipe.dropout)
    activate(model, arrangement)
    set_trainable(model, arrangement)
    return install(model).to(device)


def fit(job: Job, model: Any, data: TrainingData) -> Fitted:
    """Train the model in place: epochs of shuffled, packed English examples, scored on English development data after
    each; the weights of the last or of the best epoch stay, as the recipe's `selection` says.

    Raises StiltsError, naming step and examples, where a loss or gradient is not finite.
    """
    recipe, arrangement, fitted = job.recipe, job.arrangement, Fitted()
    fitted.trainable_parameters, fitted.total_parameters = count_parameters(model)
    epochs = plan_epochs(data, recipe, job.seed)
    best = Best(model, arrangement)
    with ExitStack() as stack:
        if job.method == "full":
            stack.enter_context(reachable_rows(model, data.reachable_ids))
        reporter = stack.enter_context(progress(job.name, sum(map(len, epochs)), "steps"))
        step = EagerStep(model, arrangement.head, recipe, sum(map(len, epochs)), job.precision)
        for epoch, steps in enumerate(epochs, 1):
            loss = train_epoch(step, model, data.train, steps, fitted, reporter)
            scores = development_scores(job, model, data)
            fitted.history.append(EpochScore(epoch=epoch, loss=loss, scores=scores))
            selection = scores[job.task.selection_metric]
            reporter.say(f"epoch {epoch}: development {job.task.selection_metric} {selection:.2f}")
            if recipe.selection == "last" or best.improved(selection):
                fitted.selected_epoch = epoch
        if recipe.selection == "best":
            best.restore()
    return fitted


def plan_epochs(data: TrainingData, recipe: Recipe, seed: int) -> list[list[Sequence[np.ndarray]]]:
    """For each epoch its steps, for each step its batches of sequences."""
    epochs = []
    for epoch in range(recipe.epochs):
        order = epoch_order(data.train_examples, seed, epoch)
        batches = cut_batches(data.train, order, recipe.batch_examples, recipe.batch_tokens)
        epochs.append(group_steps(batches, recipe.accumulate))
    return epochs


def train_epoch(
    step: EagerStep,
    model: Any,
    split: EncodedSplit,
    steps: Sequence[Sequence[np.ndarray]],
    fitted: Fitted,
    reporter: Reporter,
) -> float:
    """One epoch; returns the mean loss of its steps, in nats, and adds steps, tokens and seconds to `fitted`."""
    model.train()
    device = next(model.parameters()).device
    first_position = model.config.pad_token_id + 1
    losses, started = [], time.perf_counter()
    for sequences in steps:
        batches = [pack(split, own, first_position, device) for own in sequences]
        try:
            losses.append(step(batches))
        except NotFinite as error:
            examples = sorted({int(example) + 1 for own in sequences for example in split.example[own]})
            raise StiltsError(f"{error}; examples: {split.source}, rows {', '.join(map(str, examples))}") from None
        tokens = sum(batch.tokens for batch in batches)
        fitted.tokens += tokens
        reporter.advance(tokens=tokens, loss=losses[-1])
    fitted.steps += len(steps)
    fitted.train_seconds += time.perf_counter() - started
    return float(np.mean(losses))


def development_scores(job: Job, model: Any, data: TrainingData) -> dict[str, float]:
    """Scores in percent on the English development examples."""
    examples = data.development_examples
    predictions = predict_labels(model, job.arrangement.head, data.development, examples)
    return score(job.task.kind, job.task.metrics, predictions, data.development.gold(examples))


class Best:
    """A copy of the trained weights at the best development score so far."""

    def __init__(self, model: Any, arrangement: Arrangement) -> None:
        self.model, self.arrangement = model, arrangement
        self.score = -float("inf")
        self.weights: dict[str, torch.Tensor] = {}

    def improved(self, score: float) -> bool:
        """Note a score; true, and the weights are copied, where it is the best so far (the earliest among equals)."""
        if score <= self.score:
            return False
        self.score = score
        self.weights = {name: own.detach().clone() for name, own in self._trained()}
        return True

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back into the model."""
        for name, own in self._trained():
            own.copy_(self.weights[name])

    def _trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, own) for name, own in self.model.named_parameters() if own.requires_grad)
