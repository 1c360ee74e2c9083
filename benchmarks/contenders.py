"""Who takes part: our variants, in every execution and precision, and the peers of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters import AdapterTrainer
from transformers import Trainer

from adapter_stilts.engine.predicting import INFERENCE_TOKENS, SCORING_PRECISION
from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.request import Request
from adapter_stilts.jobs.resolve import resolve
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Task
from adapter_stilts.training.api import train
from benchmarks.measuring import Contender, Sample, Variant
from benchmarks.ours import EXECUTIONS, our_inference, our_training
from benchmarks.peer_models import peer_model
from benchmarks.peers import ORDERS, BatchedAdapterTrainer, Peer

SEED = 0
FUSED = 3

Build = Callable[[ExitStack], Variant]


@dataclass(frozen=True)
class Shape:
    """What a variant is: method, composition, over how many intermediates, with which settings besides; the trainer
    that its peers have, and which passes over the linear layers it needs (`hardware.PASSES`)."""

    method: str
    compose: str | None = None
    intermediates: int = 0
    settings: tuple[tuple[str, str], ...] = ()
    peer: str = "adapter_trainer"
    trainer: type[Trainer] = AdapterTrainer
    passes: str = "frozen"


SHAPES = {
    "none": Shape("bottleneck"),
    "stack": Shape("bottleneck", "stack", 1),
    "fuse": Shape("bottleneck", "fuse", FUSED),
    "fuse_full": Shape("bottleneck", "fuse", FUSED, (("fusion", "full"), ("fusion_null", "false"))),
    "continue": Shape("bottleneck", "continue", 1),
    "lora": Shape("lora", peer="peft_trainer", trainer=Trainer),
    "full": Shape("full", peer="trainer", trainer=Trainer, passes="full"),
}
# Prediction by the job of `none`: of the sentences that training has, and of all the task's languages as one stream.
PREDICTIONS = {"inference": ORDERS, "languages": ("equal",)}
# Whether a peer groups its sentences by length.
TRAINING_ORDERS = {"default": False, "grouped": True}
VARIANTS = (*SHAPES, *PREDICTIONS)
DEFAULT_VARIANTS = ("none", "stack", "fuse", "continue", "lora", "full", "inference")


@dataclass(frozen=True)
class Size:
    """How much a step reads: so many sentences, or sentences of so many tokens."""

    sentences: int | None = None
    tokens: int | None = None

    def __str__(self) -> str:
        return f"{self.sentences} sentences" if self.tokens is None else f"{self.tokens} tokens"

    def rows(self, mean_length: float) -> int:
        """Sentences of one step, on average."""
        return self.sentences or max(1, round((self.tokens or 1) / mean_length))

    @property
    def settings(self) -> dict[str, str]:
        """Of the recipe."""
        if self.tokens is not None:
            return {"batch_tokens": str(self.tokens)}
        return {"batch_examples": str(self.sentences)}


def check_task(task: Task) -> None:
    """Raise UsageError for a task whose units the peers' rows cannot hold."""
    if task.kind != "tagging" or task.options.labelling == "mean":
        refused = f"kind {task.kind}, word_piece {task.options.labelling}"
        raise UsageError(f"{task.path}: found {refused}, accepted: tagging, word_piece first or first_content")


def train_intermediates(
    task: Task, base: Backbone, count: int, device: str, mirror: Path | None, folder: str
) -> list[Run]:
    """So many adapters, each trained for a step or two on the same task: speed does not depend on what they learnt."""
    short = {"epochs": "1", "development_examples": "8"}
    shared: dict[str, Any] = {"runs": Path(folder, "runs"), "mirror": mirror, "device": device}
    shared["execution"] = EXECUTIONS["eager"]
    return [train(task, backbone=base, limit=8, seed=seed, settings=short, **shared) for seed in range(count)]


def job_of(
    name: str, task: Task, base: Backbone, runs: list[Run], size: Size, precision: str, mirror: Path | None
) -> Job:
    """The job of a variant; one of prediction has that of `none`."""
    shape = SHAPES.get(name, SHAPES["none"])
    request = Request(
        tasks=(task,),
        backbone=base,
        precision=precision,
        over=tuple(runs[: shape.intermediates]),
        compose=shape.compose,
        method=shape.method,
        seed=SEED,
        settings={"epochs": "1", "accumulate": "1", **size.settings, **dict(shape.settings)},
    )
    return resolve(request, mirror)


def training_contenders(
    name: str,
    job: Job,
    data: TrainingData,
    timed: Sample,
    arguments: Mapping[str, Any],
    options: argparse.Namespace,
) -> list[Contender]:
    """Ours in every execution, then the peers in every setting, of one variant in one precision."""
    shape, device, labels = SHAPES[name], options.device, data.tasks[0].labels

    def our_builder(execution: str) -> Build:
        def build(stack: ExitStack) -> Variant:
            return our_training(job, data, timed, options.repeats, EXECUTIONS[execution], device, stack)

        return build

    def peer(grouped: bool) -> Build:
        def build(stack: ExitStack) -> Variant:
            given = {**arguments, "group_by_length": grouped}
            return Peer(shape.trainer, peer_model(job, labels), job.backbone.tokenizer, given).training()

        return build

    mine = [
        Contender(f"ours_{name}_{execution}_{job.precision}", name, True, job.precision, our_builder(execution))
        for execution in options.executions
        if job.precision == "bf16" or EXECUTIONS[execution].step == "eager"  # what is recorded is bf16
    ]
    peers = [
        Contender(f"{shape.peer}_{name}_{order}_{job.precision}", name, False, job.precision, peer(grouped))
        for order, grouped in TRAINING_ORDERS.items()
        if order in options.peer_orders
    ]
    return [*mine, *peers]


def prediction_contenders(
    name: str, job: Job, data: TrainingData, arguments: Mapping[str, Any], options: argparse.Namespace
) -> list[Contender]:
    """Ours in every precision that runs are scored in, of `inference` also in the sentences' own order; then
    `Trainer.predict` in every order, in float32."""
    device = options.device
    labels = data.tasks[0].labels

    def peer(order: str) -> Build:
        def build(stack: ExitStack) -> Variant:
            made = Peer(BatchedAdapterTrainer, peer_model(job, labels), job.backbone.tokenizer, arguments)
            return made.prediction(order, INFERENCE_TOKENS[device])

        return build

    def our_contender(precision: str, ordered: bool = False) -> Contender:
        def build(stack: ExitStack) -> Variant:
            return our_inference(job, data, device, precision, ordered)

        order = "_default" if ordered else ""
        return Contender(f"ours_{name}{order}_{precision}", name, True, precision, build)

    peers = [
        Contender(f"trainer_predict_{name}_{order}_float32", name, False, "float32", peer(order))
        for order in PREDICTIONS[name]
        if options.peer_orders != ["none"]
    ]
    mine = [our_contender(precision) for precision in dict.fromkeys(("float32", SCORING_PRECISION[device]))]
    mine += [our_contender("float32", ordered=True)] if "default" in PREDICTIONS[name] else []
    return [*mine, *peers]
