"""The peers of the throughput benchmark: `adapters.AdapterTrainer` and `transformers.Trainer` at their defaults."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    XLMRobertaForTokenClassification,
)
from transformers.trainer_callback import PrinterCallback
from transformers.training_args import OptimizerNames

from adapter_stilts.model.arrangement import activate, count_parameters, quiet_adapters
from adapter_stilts.model.backbone import Backbone, load_model
from adapter_stilts.model.bottleneck import add_bottleneck
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.training.data import TrainingData
from adapter_stilts.training.inference import INFERENCE_TOKENS
from adapter_stilts.training.job import Job

# `group_by_length` sorts within windows of a quarter of the data, at most 50 batches (get_length_grouped_indices in
# transformers' trainer_pt_utils.py). Fewer than 200 steps make narrower windows: more padding than a whole epoch has.
FULL_WINDOW_BATCHES = 50


@dataclass(frozen=True)
class Sample:
    """The same sentences for everyone: examples of our data, rows for the peers (`rows_sorted`: shortest first)."""

    data: TrainingData
    rows: Dataset
    rows_sorted: Dataset


@dataclass(frozen=True)
class Measured:
    """One timed epoch or pass: real tokens, places in the tensors (tokens and padding), seconds."""

    tokens: int
    places: int
    seconds: float


@dataclass(frozen=True)
class Variant:
    """What is timed: `run(sample, repeat)`; the repeat seeds our order, a peer has a generator of its own."""

    run: Callable[[Sample, int], Measured]
    trainable_parameters: int
    pads: bool


def now(device: str) -> float:
    """Seconds of a monotonic clock, once the device has done what it was asked to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peer_rows(split: EncodedSplit, sequences: np.ndarray) -> Dataset:
    """Rows as a tokenizer gives them: input_ids, attention_mask, and labels with -100 on pieces that carry none."""
    rows: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for sequence in sequences:
        ids = split.ids[split.id_offsets[sequence] : split.id_offsets[sequence + 1]]
        units = slice(split.unit_offsets[sequence], split.unit_offsets[sequence + 1])
        labels = np.full(len(ids), -100)
        labels[split.starts[units]] = split.labels[units]
        rows["input_ids"].append(ids.tolist())
        rows["attention_mask"].append([1] * len(ids))
        rows["labels"].append(labels.tolist())
    return Dataset.from_dict(rows)


@dataclass
class CountingCollator(DataCollatorForTokenClassification):
    """The peers' collator (pads to the longest of a batch), which notes tokens and places."""

    tokens: int = 0
    places: int = 0

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> dict[str, Any]:
        self.tokens += sum(len(feature["input_ids"]) for feature in features)
        batch = super().__call__(features, return_tensors)
        self.places += batch["input_ids"].numel()
        return batch


class Stopwatch(TrainerCallback):
    """Times the epoch: from before the sampler starts to after the last step."""

    def __init__(self, device: str) -> None:
        self.device, self.started, self.seconds = device, 0.0, 0.0

    def on_epoch_begin(self, *arguments: Any, **keywords: Any) -> None:
        self.started = now(self.device)

    def on_epoch_end(self, *arguments: Any, **keywords: Any) -> None:
        self.seconds = now(self.device) - self.started


class Peer:
    """A trainer of `transformers` or `adapters` at its defaults, apart from `arguments`."""

    def __init__(self, trainer: type[Trainer], model: Any, tokenizer: Any, arguments: Mapping[str, Any]) -> None:
        self.device = "cpu" if arguments["use_cpu"] else "cuda"
        self.collator, self.stopwatch = CountingCollator(tokenizer), Stopwatch(self.device)
        settings = TrainingArguments(**arguments)
        self.trainer = trainer(model=model, args=settings, data_collator=self.collator, callbacks=[self.stopwatch])
        self.trainer.remove_callback(PrinterCallback)

    def training(self) -> Variant:
        """One epoch over the rows; the optimizer lives on from call to call."""

        def run(sample: Sample, repeat: int) -> Measured:
            self.collator.tokens = self.collator.places = 0
            self.trainer.train_dataset = sample.rows
            self.trainer.train()
            return Measured(self.collator.tokens, self.collator.places, self.stopwatch.seconds)

        return Variant(run, count_parameters(self.trainer.model)[0], pads=True)

    def prediction(self, ordered: bool) -> Variant:
        """`Trainer.predict` without labels, so that it computes no loss either; the rows are sorted beforehand."""

        def run(sample: Sample, repeat: int) -> Measured:
            rows = (sample.rows_sorted if ordered else sample.rows).remove_columns("labels")
            self.collator.tokens = self.collator.places = 0
            started = now(self.device)
            self.trainer.predict(rows)
            return Measured(self.collator.tokens, self.collator.places, now(self.device) - started)

        return Variant(run, 0, pads=True)


def peer_backbone(job: Job) -> Backbone:
    """The backbone with our dropout: the recipe's on states, none on attention probabilities."""
    config = copy.deepcopy(job.backbone.config)
    config.hidden_dropout_prob, config.attention_probs_dropout_prob = job.recipe.dropout, 0.0
    return replace(job.backbone, config=config)


def peer_adapter_model(job: Job, labels: Sequence[str]) -> Any:
    """The job's model as a user of `adapters` builds it; an intermediate is left untrained, which costs the same."""
    model, arrangement = load_model(peer_backbone(job)), job.arrangement
    for name in arrangement.adapters:
        add_bottleneck(model, name, job.recipe)
    find_kind(job.task.kind).add_head(model, arrangement.head, labels, job.recipe.dropout)
    with quiet_adapters():
        model.train_adapter(arrangement.head)
    activate(model, arrangement)
    return model


def peer_full_model(job: Job, labels: Sequence[str]) -> Any:
    """`transformers`' own model for tagging, without anything of `adapters`."""
    backbone = peer_backbone(job)
    backbone.config.num_labels = len(labels)
    return XLMRobertaForTokenClassification.from_pretrained(
        str(backbone.folder), config=backbone.config, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )


def peer_arguments(job: Job, data: TrainingData, device: str) -> dict[str, Any]:
    """What differs from the defaults of `TrainingArguments`. Batches of prediction hold as many tokens as ours, on
    average over the training split."""
    batch_tokens = INFERENCE_TOKENS[device]
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": job.recipe.batch_examples,
        "per_device_eval_batch_size": max(1, round(batch_tokens / float(data.tasks[0].train.lengths.mean()))),
        "use_cpu": device == "cpu",
        "bf16": job.precision == "bf16",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def peer_settings(job: Job, arguments: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What a reader has to know of the peers to believe the comparison."""
    return {
        "training_arguments": dict(arguments),
        "other_arguments": "the defaults of TrainingArguments; group_by_length is False (default) or True (grouped)",
        "optimizer": OptimizerNames(TrainingArguments(use_cpu=True, report_to="none").optim).value,
        "collator": "DataCollatorForTokenClassification, padded to the longest sentence of a batch",
        "adapter_model": "XLMRobertaAdapterModel with AdapterTrainer",
        "full_model": "XLMRobertaForTokenClassification with Trainer",
        "hidden_dropout_prob": job.recipe.dropout,
        "attention_probs_dropout_prob": 0.0,
        "labels": "on the pieces that ours are on, -100 elsewhere",
        "prediction": "without labels, so without a loss; sorted: rows sorted by length before the clock starts",
        "grouped_window_batches": max(1, min(options.steps // 4, FULL_WINDOW_BATCHES)),
        "remarks": [
            "attention dropout is off in the peers too: their faster setting (the checkpoint's default is 0.1)",
            f"group_by_length sorts within {FULL_WINDOW_BATCHES} batches on 200 steps or more, within fewer on less",
        ],
    }
