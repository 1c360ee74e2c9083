"""Tokens a second of training and prediction, beside `AdapterTrainer`, `peft` with `Trainer`, and `Trainer`.

    python -m benchmarks.throughput --device cpu --backbone embedded --hub-mirror hub --out throughput.json

A token is a piece that the encoder reads: special tokens count, padding does not. All contenders see the same English
sentences, one epoch a repeat; the contenders of one variant are timed in turn, round after round, so that a busy
machine hurts all alike, and a ratio is that of two speeds of one round. An epoch's time holds sampling, packing or
collating, and the optimizer steps. The JSON file gets a chart beside it (`benchmarks.chart`).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from adapter_stilts.engine.predicting import INFERENCE_TOKENS
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import mirror_dir
from adapter_stilts.runs.record import package_versions
from adapter_stilts.tasks.catalog import find_task
from benchmarks.chart import write_chart
from benchmarks.comparison import PREDICTION_SIZE, Comparison
from benchmarks.contenders import (
    DEFAULT_VARIANTS,
    PREDICTIONS,
    SHAPES,
    TRAINING_ORDERS,
    VARIANTS,
    Size,
    check_task,
    job_of,
    train_intermediates,
)
from benchmarks.hardware import DTYPES, ROWS, multiply_adds
from benchmarks.machine import describe_machine, portable
from benchmarks.ours import EXECUTIONS
from benchmarks.peers import FULL_WINDOW_BATCHES
from benchmarks.random_backbone import RANDOM_LARGE, random_large
from benchmarks.report import table

SENTENCES_A_STEP = 32
NOTES = {
    "unit": "real pieces a second, special tokens included, padding not; ratios are of speeds in the same round",
    "stack": "over an adapter trained for a step or two",
    "fuse": "over three such adapters; fuse: the recipe's fusion, fuse_full: AdapterFusion as published",
    "full": "the word embedding holds the rows that the English data reach (training.embedding_rows)",
    "matrix_share": "2 x multiply-adds of the backbone's linear layers a token, times 1 (prediction), 2 (backbone "
    "frozen) or 3 (full), a second; by the rate of plain torch.matmul in the same precision",
    "waiting_share": "of the time between steps, which holds packing; on CUDA where the device was idle at its end",
    "peak_memory_bytes": "the contender's own on CUDA; null on a CPU, where all share the process",
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark; returns what FILE holds."""
    mirror, load = mirror_dir(options.hub_mirror), list(os.getloadavg())
    backbone = str(random_large()) if options.backbone == RANDOM_LARGE else options.backbone
    task, base = find_task(options.task), load_backbone(backbone, mirror=mirror)
    check_task(task)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        below = max(SHAPES[name].intermediates if name in SHAPES else 0 for name in options.variants)
        runs = train_intermediates(task, base, below, options.device, mirror, folder)
        job = job_of("none", task, base, runs, PREDICTION_SIZE, "float32", mirror)
        data = load_training_data(job)
        comparison = Comparison(options, mirror, base, task, runs, data, folder)
        results: dict[str, Any] = {}
        if any(name in SHAPES for name in options.variants):
            results = {f"{size} a step": comparison.training(size) for size in sizes(options)}
        results |= {name: comparison.prediction(name) for name in PREDICTIONS if name in options.variants}
    return {
        "results": results,
        "notes": NOTES,
        "ours": {
            "adapter": job.recipe.adapter,
            "reduction": job.recipe.reduction,
            "dropout": job.recipe.dropout,
            "inference_batch_tokens": INFERENCE_TOKENS[options.device],
        },
        "task": {"name": task.name, "word_piece": task.options.labelling, "data_sha256": data.tasks[0].train.sha256},
        "backbone": {"id": portable(options.backbone), "sha256": base.sha256},
        "device": options.device,
        "repeats": options.repeats,
        "multiply_adds_a_token": multiply_adds(base.config),
        "matrix_operations_per_second": comparison.rates,
        "matrix_rows": ROWS[options.device],
        "machine": describe_machine(),
        "load_average_before": load,
        "packages": {**package_versions()[0], "accelerate": version("accelerate")},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(options),
    }


def sizes(options: argparse.Namespace) -> list[Size]:
    """The sizes of a step that were asked for."""
    sentences = options.sentences_a_step or ([] if options.tokens_a_step else [SENTENCES_A_STEP])
    return [Size(sentences=count) for count in sentences] + [
        Size(tokens=count) for count in options.tokens_a_step or ()
    ]


def command(options: argparse.Namespace) -> str:
    """The command that repeats the run; the mirror is shown as `hub`."""
    threads = os.environ.get("OMP_NUM_THREADS")
    words = [f"OMP_NUM_THREADS={threads}"] if threads else []
    words += ["python", "-m", "benchmarks.throughput"]
    for name, value in vars(options).items():
        if value is not None:
            values = value if isinstance(value, list) else ["hub" if name == "hub_mirror" else value]
            words += [f"--{name.replace('_', '-')}", *(shlex.quote(_shown(item)) for item in values)]
    return " ".join(words)


def _shown(value: Any) -> str:
    return portable(value) if isinstance(value, (str, Path)) else str(value)


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, accepted: a whole number from 1")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what has another default on CUDA has it by then."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--device", choices=sorted(INFERENCE_TOKENS), default="cpu")
    add("--backbone", default="embedded", help=f"embedded, {RANDOM_LARGE}, a Hub id, or a checkpoint's folder")
    add("--task", default="udpos", help="a tagging task's name or YAML file")
    add("--hub-mirror", type=Path, help="folder that stands in for the Hub")
    add("--sentences-a-step", type=positive, nargs="+", help=f"sizes of a step (default: {SENTENCES_A_STEP})")
    add("--tokens-a-step", type=positive, nargs="+", help="sizes of a step in tokens, as 1024 4096 16384")
    add("--steps", type=positive, default=4 * FULL_WINDOW_BATCHES, help="steps of one timed epoch")
    add("--repeats", type=positive, default=3, help="rounds")
    add("--variants", nargs="+", choices=VARIANTS, default=list(DEFAULT_VARIANTS), help="what to measure")
    add("--precisions", nargs="+", choices=list(DTYPES), help="default: float32, on CUDA bf16 too")
    add("--peer-orders", nargs="+", choices=[*TRAINING_ORDERS, "none"], help="of peers; none: without; default: all")
    add("--executions", nargs="+", choices=list(EXECUTIONS), help="of ours; default: eager, on CUDA all")
    add("--inference-sentences", type=positive, default=6_400, help="at most so many for `inference`")
    add("--language-sentences", type=positive, help="at most so many of each language for `languages`")
    add("--out", type=Path, required=True, help="the JSON file to write; a chart, .svg, is put beside it")
    options = parser.parse_args(arguments)
    cuda = options.device == "cuda"
    options.peer_orders = options.peer_orders or list(TRAINING_ORDERS)
    options.precisions = options.precisions or (list(DTYPES) if cuda else ["float32"])
    options.executions = options.executions or (list(EXECUTIONS) if cuda else ["eager"])
    return options


def check(options: argparse.Namespace) -> None:
    """Raise UsageError for what this machine cannot do."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device: found cuda, which PyTorch does not see here; accepted: cpu")
    if options.device == "cpu" and options.executions != ["eager"]:
        raise UsageError(f"--executions: found {' '.join(options.executions)} on cpu, accepted: eager")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the file and the chart, print the table; returns the exit code."""
    options = parse(arguments)
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    try:
        check(options)
        result = run(options)
        atomic_write_text(options.out, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        write_chart(result, options.out)
    except StiltsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
