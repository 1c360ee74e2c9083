"""The peers of the throughput benchmark: trainers of `transformers` and `adapters` at their defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from adapters import AdapterTrainer
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import DataCollatorForTokenClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.training_args import OptimizerNames

from adapter_stilts.jobs.job import Job
from adapter_stilts.model.parts import count_parameters
from adapter_stilts.tasks.encode import EncodedSplit
from benchmarks.measuring import Measured, Sample, Variant, now

# `group_by_length` sorts within windows of a quarter of the data, at most 50 batches (get_length_grouped_indices in
# transformers' trainer_pt_utils.py). Fewer than 200 steps make narrower windows: more padding than a whole epoch has.
FULL_WINDOW_BATCHES = 50
# Orders of the rows at prediction: as they come and sorted by length, in batches of so many rows; the same two, in
# batches of so many padded tokens.
ORDERS = ("default", "sorted", "default_equal", "equal")


def peer_rows(split: EncodedSplit, sequences: np.ndarray) -> Dataset:
    """Rows as a tokenizer gives them: input_ids, attention_mask, and labels with -100 on pieces that carry none."""
    rows: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for sequence in sequences:
        ids = split.ids[split.id_offsets[sequence] : split.id_offsets[sequence + 1]]
        units = slice(split.unit_offsets[sequence], split.unit_offsets[sequence + 1])
        labels = np.full(len(ids), -100)
        labels[split.starts[units]] = split.targets["label"][units]
        rows["input_ids"].append(ids.tolist())
        rows["attention_mask"].append([1] * len(ids))
        rows["labels"].append(labels.tolist())
    return Dataset.from_dict(rows)


@dataclass
class CountingCollator(DataCollatorForTokenClassification):
    """The peers' collator (pads to the longest of a batch), which notes tokens and positions."""

    tokens: int = 0
    positions: int = 0

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> dict[str, Any]:
        self.tokens += sum(len(feature["input_ids"]) for feature in features)
        batch = super().__call__(features, return_tensors)
        self.positions += batch["input_ids"].numel()
        return batch


class Stopwatch(TrainerCallback):
    """Times the epoch: from before the sampler starts to after the last step."""

    def __init__(self, device: str) -> None:
        self.device, self.started, self.seconds = device, 0.0, 0.0

    def on_epoch_begin(self, *arguments: Any, **keywords: Any) -> None:
        self.started = now(self.device)

    def on_epoch_end(self, *arguments: Any, **keywords: Any) -> None:
        self.seconds = now(self.device) - self.started


def equal_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows, in their order, in batches of at most so many tokens, padding to the longest included; one that alone has
    more makes a batch of its own."""
    batches: list[list[int]] = []
    longest = 0
    for row, length in enumerate(lengths):
        longest = max(longest, length)
        if not batches or (len(batches[-1]) + 1) * longest > tokens:
            batches.append([])
            longest = length
        batches[-1].append(row)
    return batches


class EqualBatches:
    """Mixed into a trainer: prediction in the given `batches` of rows."""

    batches: list[list[int]] | None = None

    def get_test_dataloader(self: Any, test_dataset: Any) -> DataLoader:
        loader = super().get_test_dataloader(test_dataset)  # type: ignore[misc]
        if self.batches is None:
            return loader
        pinned = loader.pin_memory
        return DataLoader(loader.dataset, batch_sampler=self.batches, collate_fn=loader.collate_fn, pin_memory=pinned)


class BatchedTrainer(EqualBatches, Trainer):
    """`transformers.Trainer`."""


class BatchedAdapterTrainer(EqualBatches, AdapterTrainer):
    """`adapters.AdapterTrainer`."""


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
            self.collator.tokens = self.collator.positions = 0
            self.trainer.train_dataset = sample.rows
            self.trainer.train()
            return Measured(self.collator.tokens, self.collator.positions, self.stopwatch.seconds)

        return Variant(run, count_parameters(self.trainer.model)[0], pads=True)

    def prediction(self, order: str, batch_tokens: int) -> Variant:
        """`Trainer.predict` without labels, so that it computes no loss either; rows are sorted, and batches of
        `batch_tokens` cut (`equal` and `default_equal`), before the clock starts."""

        def run(sample: Sample, repeat: int) -> Measured:
            rows = (sample.rows if order.startswith("default") else sample.rows_sorted).remove_columns("labels")
            lengths = [len(ids) for ids in rows["input_ids"]]
            self.trainer.batches = equal_batches(lengths, batch_tokens) if order.endswith("equal") else None
            self.collator.tokens = self.collator.positions = 0
            started = now(self.device)
            self.trainer.predict(rows)
            return Measured(self.collator.tokens, self.collator.positions, now(self.device) - started)

        return Variant(run, 0, pads=True)


def peer_arguments(
    precision: str, rows_a_step: int, mean_length: float, batch_tokens: int, device: str
) -> dict[str, Any]:
    """What differs from the defaults of `TrainingArguments`. Batches of prediction hold as many tokens as ours, on
    average over the training split. `eval_do_concat_batches`: what is predicted is not padded and copied again after
    each batch, which is faster."""
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": rows_a_step,
        "per_device_eval_batch_size": max(1, round(batch_tokens / mean_length)),
        "eval_do_concat_batches": False,
        "use_cpu": device == "cpu",
        "bf16": precision == "bf16",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def peer_settings(job: Job, arguments: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """What a reader has to know of the peers to believe the comparison."""
    return {
        "training_arguments": {name: value for name, value in arguments.items() if name not in ("output_dir", "bf16")},
        "bf16": "as the contender's precision says",
        "other_arguments": "the defaults of TrainingArguments; group_by_length is False (default) or True (grouped)",
        "optimizer": OptimizerNames(TrainingArguments(use_cpu=True, report_to="none").optim).value,
        "collator": "DataCollatorForTokenClassification, padded to the longest sentence of a batch",
        "adapter_model": "XLMRobertaAdapterModel with AdapterTrainer",
        "fuse_model": "the same, Stack(Fuse(three), target) with AdapterFusion's default configuration",
        "lora_model": "peft's LoraConfig (our rank, alpha, targets) on XLMRobertaForTokenClassification with Trainer",
        "full_model": "XLMRobertaForTokenClassification with Trainer",
        "hidden_dropout_prob": job.recipe.dropout,
        "attention_probs_dropout_prob": 0.0,
        "labels": "on the pieces that ours are on, -100 elsewhere",
        "prediction": "without labels, so without a loss; sorted: rows sorted by length before the clock starts, in "
        "batches of equally many rows; equal: sorted, in batches of at most as many tokens as ours, padding included; "
        "default_equal: such batches of rows as they come",
        "grouped_window_batches": max(1, min(steps // 4, FULL_WINDOW_BATCHES)),
        "remarks": [
            "attention dropout is off in the peers too: their faster setting (the checkpoint's default is 0.1)",
            f"group_by_length sorts within {FULL_WINDOW_BATCHES} batches on 200 steps or more, within fewer on less",
        ],
    }
