"""Tokens a second of training and inference, beside `adapters.AdapterTrainer` and `transformers.Trainer`.

    python -m benchmarks.throughput --device cpu --backbone embedded --hub-mirror hub --out throughput.json

A token is a piece that the encoder reads: special tokens count, padding does not. All variants see the same English
sentences, one epoch a repeat; repeats go round-robin over the variants, so that a busy machine hurts all alike. An
epoch's time holds sampling, packing or collating, and the optimizer steps.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import statistics
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapters import AdapterTrainer
from transformers import Trainer
from transformers.utils import logging as transformers_logging

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.arrangement import count_parameters
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import atomic_write_text, mirror_dir
from adapter_stilts.progress import progress, say
from adapter_stilts.runs.record import package_versions
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.training.api import train
from adapter_stilts.training.build import build_model
from adapter_stilts.training.data import TrainingData, load_training_data
from adapter_stilts.training.device import default_precision
from adapter_stilts.training.embedding_rows import reachable_rows
from adapter_stilts.training.inference import INFERENCE_TOKENS, predict_labels
from adapter_stilts.training.job import Job, make_job
from adapter_stilts.training.plan import plan_epochs
from adapter_stilts.training.step import EagerStep
from adapter_stilts.training.trainer import Fitted, reachable_ids, train_epoch
from benchmarks.machine import describe_machine
from benchmarks.peers import (
    FULL_WINDOW_BATCHES,
    Measured,
    Peer,
    Sample,
    Variant,
    now,
    peer_adapter_model,
    peer_arguments,
    peer_full_model,
    peer_rows,
    peer_settings,
)

SEED = 0
WARMUP_STEPS = 3
# What is trained, by which method; inference goes with none.
JOBS = {"none": "bottleneck", "stack": "bottleneck", "full": "full"}
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
    (part,) = data.tasks
    place = {int(example): index for index, example in enumerate(part.train.example)}
    sequences = np.array([place[int(example)] for example in examples])
    by_length = sequences[np.argsort(part.train.lengths[sequences], kind="stable")]
    chosen = TrainingData((replace(part, train_examples=examples),), None)
    return Sample(chosen, peer_rows(part.train, sequences), peer_rows(part.train, by_length))


def our_training(job: Job, model: Any, parameters: int, steps: int, device: str) -> Variant:
    """The package's own epoch; the optimizer lives on from the warm-up through all `steps`, as the peers' does."""
    step = EagerStep(model, job.recipe, steps, job.precision)

    def run(sample: Sample, repeat: int) -> Measured:
        fitted, started = Fitted(), now(device)
        planned = plan_epochs(sample.data, job.recipe, repeat)[0]
        with progress(f"ours {job.method} {job.composition}", len(planned), "steps") as reporter:
            train_epoch(job, step, model, planned, fitted, reporter)
        return Measured(fitted.tokens, fitted.tokens, now(device) - started)

    return Variant(run, parameters, pads=False)


def our_inference(job: Job, model: Any, device: str) -> Variant:
    """`predict_labels`, which sorts by length itself."""

    def run(sample: Sample, repeat: int) -> Measured:
        (part,) = sample.data.tasks
        tokens: list[int] = []
        started = now(device)
        predict_labels(model, part.head, part.train, part.train_examples, tokens.append)
        return Measured(sum(tokens), sum(tokens), now(device) - started)

    return Variant(run, 0, pads=False)


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
        name: make_job(
            [task],
            intermediates=[below] if name == "stack" else [],
            method=method,
            backbone=base,
            seed=SEED,
            settings=settings,
            precision=precision,
            mirror=mirror,
        )
        for name, method in JOBS.items()
        if name in options.variants
    }


def build_variants(
    jobs: Mapping[str, Job], data: TrainingData, steps: int, device: str, folder: str, stack: ExitStack
) -> tuple[dict[str, Variant], dict[str, Any]]:
    """All variants by name, in the order in which a round runs them, and the peers' arguments."""
    arguments = peer_arguments(next(iter(jobs.values())), data, device)
    here = {**arguments, "output_dir": folder}
    variants: dict[str, Variant] = {}
    for name, job in jobs.items():
        ours = build_model(job, data, device)
        parameters = count_parameters(ours)[0]  # of the whole word embedding, which full fine-tuning holds in part
        full = job.method == "full"
        if full:
            stack.enter_context(reachable_rows(ours, reachable_ids(job, data)))
        theirs = (peer_full_model if full else peer_adapter_model)(job, data.tasks[0].labels)
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
    """Our median tokens a second by a peer's, for each pair of `RATIOS` that was measured."""
    median = {name: own["tokens_per_second"]["median"] for name, own in variants.items()}
    return {ratio: median[ours] / median[peer] for ratio, (ours, peer) in RATIOS.items() if ours in median}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark; returns what FILE holds."""
    mirror, load = mirror_dir(options.hub_mirror), list(os.getloadavg())
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        jobs = make_jobs(options, mirror, folder)
        job = next(iter(jobs.values()))
        data = load_training_data(job)
        examples = draw_examples(data.tasks[0].train, options.sentences_a_step, options.steps)
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
        "task": {"name": job.task.name, "word_piece": job.task.word_piece, "data_sha256": data.tasks[0].train.sha256},
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
            values = value if isinstance(value, list) else ["hub" if name == "hub_mirror" else value]
            words += [f"--{name.replace('_', '-')}", *(shlex.quote(_shown(own)) for own in values)]
    return " ".join(words)


def _shown(value: Any) -> str:
    return portable(value) if isinstance(value, (str, Path)) else str(value)


def table(result: Mapping[str, Any]) -> str:
    """The result as lines of text: variants, then ratios."""
    lines = [f"{'tokens/s':30} {'median':>10} {'best':>10} {'padding':>8}"]
    for name, own in result["variants"].items():
        speed, padding = own["tokens_per_second"], own.get("padding_share")
        shown = "" if padding is None else f"{padding:8.1%}"
        lines.append(f"{name:30} {speed['median']:10,.0f} {speed['best']:10,.0f} {shown}".rstrip())
    return "\n".join([*lines, "", *(f"{ratio:30} {result[ratio]:10.2f}" for ratio in RATIOS if ratio in result)])


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
    parser.add_argument("--variants", nargs="+", choices=list(JOBS), default=list(JOBS), help="what to measure")
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
