"""Tokens a second of training and inference, beside `adapters.AdapterTrainer` and `transformers.Trainer`.

    python -m benchmarks.throughput --device cpu --backbone embedded --hub-mirror hub --out throughput.json

A token is a piece that the encoder reads: special tokens count, padding does not. All variants see the same English
sentences, one epoch a repeat; repeats go round-robin over the variants, so that a busy machine hurts all alike. An
epoch's time holds sampling, packing or collating, and the optimizer steps.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapters import AdapterTrainer
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
from transformers.utils import logging as transformers_logging

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.backbone import Backbone, load_backbone, load_model
from adapter_stilts.model.composition import activate, adapter_config, count_parameters, quiet_adapters
from adapter_stilts.paths import atomic_write_text, mirror_dir
from adapter_stilts.progress import progress, say
from adapter_stilts.runs.record import package_versions
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.training.api import default_precision, train
from adapter_stilts.training.embedding_rows import reachable_rows
from adapter_stilts.training.inference import INFERENCE_TOKENS, predict_labels
from adapter_stilts.training.job import Job, make_job
from adapter_stilts.training.step import EagerStep
from adapter_stilts.training.trainer import (
    Fitted,
    TrainingData,
    build_model,
    load_training_data,
    plan_epochs,
    train_epoch,
)
from benchmarks.machine import describe_machine

SEED = 0
WARMUP_STEPS = 3
# `group_by_length` sorts within windows of a quarter of the data, at most 50 batches (get_length_grouped_indices in
# transformers' trainer_pt_utils.py). Fewer than 200 steps make narrower windows: more padding than a whole epoch has.
FULL_WINDOW_BATCHES = 50
RATIOS = {
    "ratio_training_default": ("ours_none", "adapter_trainer_none_default"),
    "ratio_training_grouped": ("ours_none", "adapter_trainer_none_grouped"),
    "ratio_stack_default": ("ours_stack", "adapter_trainer_stack_default"),
    "ratio_stack_grouped": ("ours_stack", "adapter_trainer_stack_grouped"),
    "ratio_full_default": ("ours_full", "trainer_full_default"),
    "ratio_full_grouped": ("ours_full", "trainer_full_grouped"),
    "ratio_inference_default": ("ours_inference", "trainer_predict_default"),
    "ratio_inference_sorted": ("ours_inference", "trainer_predict_sorted"),
}


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


def draw_examples(split: EncodedSplit, sentences_a_step: int, steps: int) -> np.ndarray:
    """`sentences_a_step * steps` examples in random order; sentences of several windows are left out, because a peer
    would count each window as a sentence. Raises UsageError where there are not enough."""
    whole = np.flatnonzero(np.bincount(split.example, minlength=split.examples) == 1)
    if len(whole) < sentences_a_step * steps:
        most = len(whole) // sentences_a_step
        raise UsageError(f"--steps: found {steps}, accepted: at most {most} ({len(whole)} sentences of one window)")
    return np.random.default_rng(SEED).permutation(whole)[: sentences_a_step * steps]


def make_sample(data: TrainingData, examples: np.ndarray) -> Sample:
    """The sample of these examples, which the peers' rows keep in order; they label the pieces that our units read."""
    place = {int(example): index for index, example in enumerate(data.train.example)}
    sequences = np.array([place[int(example)] for example in examples])
    by_length = sequences[np.argsort(data.train.lengths[sequences], kind="stable")]
    chosen = replace(data, train_examples=examples)
    return Sample(chosen, peer_rows(data.train, sequences), peer_rows(data.train, by_length))


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


def our_training(job: Job, model: Any, parameters: int, steps: int, device: str) -> Variant:
    """The package's own epoch; the optimizer lives on from the warm-up through all `steps`, as the peers' does."""
    step = EagerStep(model, job.arrangement.head, job.recipe, steps, job.precision)

    def run(sample: Sample, repeat: int) -> Measured:
        fitted, started = Fitted(), now(device)
        planned = plan_epochs(sample.data, job.recipe, repeat)[0]
        with progress(f"ours {job.method} {job.composition}", len(planned), "steps") as reporter:
            train_epoch(step, model, sample.data.train, planned, fitted, reporter)
        return Measured(fitted.tokens, fitted.tokens, now(device) - started)

    return Variant(run, parameters, pads=False)


def our_inference(job: Job, model: Any, device: str) -> Variant:
    """`predict_labels`, which sorts by length itself."""

    def run(sample: Sample, repeat: int) -> Measured:
        tokens: list[int] = []
        started = now(device)
        predict_labels(model, job.arrangement.head, sample.data.train, sample.data.train_examples, tokens.append)
        return Measured(sum(tokens), sum(tokens), now(device) - started)

    return Variant(run, 0, pads=False)


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
        model.add_adapter(name, config=adapter_config(job.recipe.adapter, job.recipe.reduction))
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


def make_jobs(options: argparse.Namespace, mirror: Path | None, folder: str) -> dict[str, Job]:
    """The jobs none, stack (over a few steps of the same task: speed does not depend on what it learnt) and full."""
    task, base = find_task(options.task), load_backbone(options.backbone, mirror=mirror)
    if task.kind != "tagging" or task.word_piece == "mean":
        found = f"kind {task.kind}, word_piece {task.word_piece}"
        raise UsageError(f"{task.path}: found {found}, accepted: tagging, word_piece first or first_content")
    settings = {"epochs": "1", "accumulate": "1", "batch_examples": str(options.sentences_a_step)}
    short = {"epochs": "1", "development_examples": "8"}
    below = train(
        task, backbone=base, limit=8, settings=short, runs=Path(folder, "runs"), mirror=mirror, device=options.device
    )
    precision = default_precision(options.device)
    return {
        name: make_job(task, over, None, method, base, SEED, None, settings, precision, mirror)
        for name, over, method in (("none", [], "bottleneck"), ("stack", [below], "bottleneck"), ("full", [], "full"))
    }


def peer_arguments(job: Job, data: TrainingData, device: str) -> dict[str, Any]:
    """What differs from the defaults of `TrainingArguments`. Batches of prediction hold as many tokens as ours, on
    average over the training split."""
    batch_tokens = INFERENCE_TOKENS[device]
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": job.recipe.batch_examples,
        "per_device_eval_batch_size": max(1, round(batch_tokens / float(data.train.lengths.mean()))),
        "use_cpu": device == "cpu",
        "bf16": job.precision == "bf16",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def build_variants(
    jobs: Mapping[str, Job], data: TrainingData, steps: int, device: str, folder: str, stack: ExitStack
) -> tuple[dict[str, Variant], dict[str, Any]]:
    """All variants by name, in the order in which a round runs them, and the peers' arguments."""
    arguments = peer_arguments(jobs["none"], data, device)
    here = {**arguments, "output_dir": folder}
    variants: dict[str, Variant] = {}
    for name, job in jobs.items():
        ours = build_model(job, data.labels, device)
        parameters = count_parameters(ours)[0]  # of the whole word embedding, which full fine-tuning holds in part
        full = job.method == "full"
        if full:
            stack.enter_context(reachable_rows(ours, data.reachable_ids))
        theirs = (peer_full_model if full else peer_adapter_model)(job, data.labels)
        trainer, prefix = (Trainer, "trainer_full") if full else (AdapterTrainer, f"adapter_trainer_{name}")
        peers = {
            order: Peer(trainer, theirs, job.backbone.tokenizer, {**here, "group_by_length": grouped})
            for order, grouped in (("default", False), ("grouped", True))
        }
        variants[f"ours_{name}"] = our_training(job, ours, parameters, steps, device)
        variants |= {f"{prefix}_{order}": peer.training() for order, peer in peers.items()}
        if name == "none":
            variants["ours_inference"] = our_inference(job, ours, device)
            variants["trainer_predict_default"] = peers["default"].prediction(ordered=False)
            variants["trainer_predict_sorted"] = peers["default"].prediction(ordered=True)
    return variants, arguments


def measure(
    variants: Mapping[str, Variant], warm: Sample, timed: Sample, repeats: int, device: str
) -> dict[str, list[Measured]]:
    """Warm every variant up, then time all of them once a round."""
    for name, variant in variants.items():
        say(f"warm-up: {name}")
        variant.run(warm, 0)
    measured: dict[str, list[Measured]] = {name: [] for name in variants}
    for repeat in range(1, repeats + 1):
        for name, variant in variants.items():
            measured[name].append(variant.run(timed, repeat))
            last = measured[name][-1]
            say(f"round {repeat} of {repeats}: {name}: {last.tokens / last.seconds:,.0f} tokens/s")
    return measured


def summary(variant: Variant, measured: Sequence[Measured]) -> dict[str, Any]:
    """Tokens a second of all repeats, their median and best; a peer's share of padding over all repeats."""
    speeds = [own.tokens / own.seconds for own in measured]
    places = sum(own.places for own in measured)
    padding = {"padding_share": 1 - sum(own.tokens for own in measured) / places} if variant.pads else {}
    return {
        "tokens_per_second": {"median": statistics.median(speeds), "best": max(speeds), "all": speeds},
        "seconds": [own.seconds for own in measured],
        "tokens": [own.tokens for own in measured],
        **padding,
        "trainable_parameters": variant.trainable_parameters,
    }


def ratios(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Our median tokens a second by a peer's, for each pair of `RATIOS`."""
    median = {name: own["tokens_per_second"]["median"] for name, own in variants.items()}
    return {ratio: median[ours] / median[peer] for ratio, (ours, peer) in RATIOS.items()}


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


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark; returns what FILE holds."""
    mirror, load = mirror_dir(options.hub_mirror), list(os.getloadavg())
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        jobs = make_jobs(options, mirror, folder)
        job = jobs["none"]
        data = load_training_data(job)
        examples = draw_examples(data.train, options.sentences_a_step, options.steps)
        warmup = min(WARMUP_STEPS, options.steps)
        warm, timed = (make_sample(data, own) for own in (examples[: warmup * options.sentences_a_step], examples))
        steps = warmup + options.repeats * options.steps
        variants, arguments = build_variants(jobs, data, steps, options.device, folder, stack)
        measured = measure(variants, warm, timed, options.repeats, options.device)
    summaries = {name: summary(variants[name], own) for name, own in measured.items()}
    return {
        **ratios(summaries),
        "unit": "real pieces a second, special tokens included, padding not; ratios are of medians",
        "variants": summaries,
        "peers": peer_settings(job, arguments, options),
        "ours": {
            "adapter": job.recipe.adapter,
            "reduction": job.recipe.reduction,
            "dropout": job.recipe.dropout,
            "precision": job.precision,
            "inference_batch_tokens": INFERENCE_TOKENS[options.device],
            "stack": "over an adapter trained for one step",
            "full": "the word embedding holds the rows that the English data reach (training.embedding_rows)",
        },
        "task": {"name": job.task.name, "word_piece": job.task.word_piece, "data_sha256": data.train.sha256},
        "backbone": {"id": portable(options.backbone), "sha256": job.backbone.sha256},
        "sentences": len(examples),
        "sentences_a_step": options.sentences_a_step,
        "steps": options.steps,
        "repeats": options.repeats,
        "tokens": int(sum(map(len, timed.rows["input_ids"]))),
        "longest_sentence": max(map(len, timed.rows["input_ids"])),
        "machine": describe_machine(),
        "load_average_before": load,
        "packages": {**package_versions()[0], "accelerate": version("accelerate")},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(options),
    }


def portable(path: str | Path) -> str:
    """A name or relative path as it is; of an absolute path its last part."""
    return Path(path).name if Path(path).is_absolute() else str(path)


def command(options: argparse.Namespace) -> str:
    """The command that repeats the run; the mirror is shown as `hub`."""
    threads = os.environ.get("OMP_NUM_THREADS")
    words = [f"OMP_NUM_THREADS={threads}"] if threads else []
    words += ["python", "-m", "benchmarks.throughput"]
    for name, value in vars(options).items():
        if value is not None:
            text = "hub" if name == "hub_mirror" else portable(value) if isinstance(value, (str, Path)) else str(value)
            words += [f"--{name.replace('_', '-')}", shlex.quote(text)]
    return " ".join(words)


def table(result: Mapping[str, Any]) -> str:
    """The result as lines of text: variants, then ratios."""
    lines = [f"{'tokens/s':30} {'median':>10} {'best':>10} {'padding':>8}"]
    for name, own in result["variants"].items():
        speed, padding = own["tokens_per_second"], own.get("padding_share")
        shown = "" if padding is None else f"{padding:8.1%}"
        lines.append(f"{name:30} {speed['median']:10,.0f} {speed['best']:10,.0f} {shown}".rstrip())
    return "\n".join([*lines, "", *(f"{ratio:30} {result[ratio]:10.2f}" for ratio in RATIOS)])


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, accepted: a whole number from 1")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=sorted(INFERENCE_TOKENS), default="cpu")
    parser.add_argument("--backbone", default="embedded", help="embedded, a Hub id, or a checkpoint's folder")
    parser.add_argument("--task", default="udpos", help="a tagging task's name or YAML file")
    parser.add_argument("--hub-mirror", type=Path, help="folder that stands in for the Hub")
    parser.add_argument("--sentences-a-step", type=positive, default=32)
    parser.add_argument("--steps", type=positive, default=4 * FULL_WINDOW_BATCHES, help="steps of one timed epoch")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the file, print the table; returns the exit code."""
    options = parse(arguments)
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    try:
        if options.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device: found cuda, which PyTorch does not see here; accepted: cpu")
        result = run(options)
        atomic_write_text(options.out, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    except StiltsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
