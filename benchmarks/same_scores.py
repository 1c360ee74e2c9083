"""Do ways of computing change scores? Runs trained eagerly, captured and compiled, each scored in several precisions.

    python -m benchmarks.same_scores --device cuda --backbone embedded --hub-mirror hub --out same_scores.json

For each target: means over all languages of every execution and precision, by seed; how far apart the seeds of one
execution are; how far the executions' means over seeds are from each other, and in what share of random deals of each
seed's scores to executions they are as far apart or farther; and how far each precision moves any run's mean from
float32. Without a GPU, `--device cpu` compares eager steps with what a captured step records, run as it is: plain,
compiled, and in bf16 with the products of a GPU. `--of RUN` scores runs that exist in place of training any, which
needs none either.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.engine.predicting import HALF, predict_answers
from adapter_stilts.evaluation.scored_task import TEST_SEED, language_identities, task_of
from adapter_stilts.evaluation.zero_shot import load_run
from adapter_stilts.files import atomic_write_text
from adapter_stilts.paths import mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.tasks.encode import encode_split
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import HeadUse
from adapter_stilts.tasks.scoring import score
from adapter_stilts.training.api import train
from adapter_stilts.training.execution import Execution
from benchmarks.machine import describe_machine
from benchmarks.ours import EXECUTIONS
from benchmarks.rounded_products import RoundedProducts


@dataclass(frozen=True)
class Way:
    """How a run is trained; `precision` None is the device's own."""

    execution: Execution
    precision: str | None = None


# Where there is no CUDA: the functions that the captured step records, as they are, also in the precision that it has.
UNRECORDED = {
    "unrecorded": Way(Execution(step="unrecorded", compile="off")),
    "unrecorded_compiled": Way(Execution(step="unrecorded", compile="on")),
    "unrecorded_bf16": Way(Execution(step="unrecorded", compile="off"), "bf16"),
}
WAYS = {**{name: Way(execution) for name, execution in EXECUTIONS.items()}, **UNRECORDED}
BY_DEVICE = {"cuda": list(EXECUTIONS), "cpu": ["eager", *UNRECORDED]}
PRECISIONS = ("float32", *HALF)


def mean_score(run: Run, mirror: Path | None, device: str, limit: int, precision: str) -> float:
    """The mean over all languages of the task's own metric, in percent, of so many test sentences a language."""
    model, manifest, backbone = load_run(run, mirror, device)
    task = task_of(run)
    scores = []
    for code in language_identities(task, list(task.data.languages), "test", mirror)[0]:
        split = encode_split(task, code, "test", backbone.tokenizer, manifest.labels, mirror)
        examples = split.sample(limit, TEST_SEED)
        prediction = predict_answers(
            model, HeadUse(manifest.head, find_kind(task.kind)), split, examples, precision=precision
        )
        kind = find_kind(task.kind)
        assert kind.gold is not None
        gold = kind.gold(split, examples)
        scores.append(score(task.kind, task.metrics, prediction.answers, gold)[task.selection_metric])
    return float(np.mean(scores))


def spread(values: Sequence[float]) -> float:
    """Distance of the outermost values."""
    return max(values) - min(values)


def share_of_deals(groups: Sequence[Sequence[float]], deals: int = 20_000) -> float:
    """Share of random deals of each seed's values to the groups (each has one value a seed, in the same order) in which
    the groups' means are spread as far as they are or farther.

    A permutation test within blocks: a seed draws the training data too, so seeds differ by more than executions may,
    and are not dealt across. A large share says that chance would do it.
    """
    values = np.array(groups, dtype=float)
    means = np.random.default_rng(0).permuted(np.tile(values, (deals, 1, 1)), axis=1).mean(axis=2)
    # Sums in another order differ in their last digits.
    return float((np.ptp(means, axis=1) >= np.ptp(values.mean(axis=1)) - 1e-9).mean())


def compare(options: argparse.Namespace, mirror: Path | None, target: str) -> dict[str, Any]:
    """All executions, precisions and seeds of one target."""
    means: dict[str, dict[str, list[float]]] = {}
    settings = dict(setting.split("=", 1) for setting in options.set)
    for execution in options.executions:
        for seed in options.seeds:
            say(f"{target}, {execution}, seed {seed}")
            way = WAYS[execution]
            rounded = options.device == "cpu" and way.precision == "bf16"
            with RoundedProducts() if rounded else nullcontext():
                run = train(
                    target,
                    backbone=options.backbone,
                    seed=seed,
                    limit=options.limit,
                    settings=settings,
                    mirror=mirror,
                    # A run's name does not depend on how it was computed.
                    runs=options.runs / execution,
                    device=options.device,
                    precision=way.precision,
                    execution=way.execution,
                )
            for precision in options.precisions:
                mean = mean_score(run, mirror, options.device, options.test_limit, precision)
                means.setdefault(execution, {}).setdefault(precision, []).append(mean)
    of_seeds = {name: float(np.mean(by_precision["float32"])) for name, by_precision in means.items()}
    scored = [
        dict(zip(by_precision, values, strict=True))
        for by_precision in means.values()
        for values in zip(*by_precision.values(), strict=True)
    ]
    return {
        "means": means,
        "mean_of_seeds": of_seeds,
        "between_seeds": {name: spread(by_precision["float32"]) for name, by_precision in means.items()},
        "between_executions": spread(list(of_seeds.values())),
        "share_of_deals": share_of_deals([by_precision["float32"] for by_precision in means.values()]),
        "most_by_precision": most_by_precision(scored),
    }


def most_by_precision(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How far each precision moves the mean of any run from that in float32."""
    return {name: max(abs(row[name] - row["float32"]) for row in scored) for name in scored[0] if name != "float32"}


def compare_precisions(options: argparse.Namespace, mirror: Path | None) -> dict[str, Any]:
    """Runs that exist, in every precision."""
    means: dict[str, dict[str, float]] = {}
    for name in options.of:
        run = RunStore(options.runs).find(name)
        for precision in options.precisions:
            mean = mean_score(run, mirror, options.device, options.test_limit, precision)
            means.setdefault(run.name, {})[precision] = mean
            say(f"{run.name}, {precision}: {mean:.3f}")
    return {"means": means, "most_by_precision": most_by_precision(list(means.values()))}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score, write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_scores", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--backbone", default="embedded")
    add("--device", choices=["cpu", "cuda"], default="cuda")
    add("--hub-mirror", type=Path)
    add("--runs", type=Path, default=Path("runs/same_scores"))
    add("--targets", nargs="+", default=["udpos", "wikiann"])
    add("--executions", nargs="+", choices=list(WAYS), help="default: all that the device has")
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--limit", type=int, help="English training examples; default: all")
    add("--test-limit", type=int, default=100, help="test sentences a language")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="recipe fields of every run")
    add("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    add("--of", nargs="+", metavar="RUN", help="runs of --runs to score, in place of training")
    add("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.precisions = list(dict.fromkeys(["float32", *options.precisions]))
    options.executions = options.executions or BY_DEVICE[options.device]
    mirror = mirror_dir(options.hub_mirror)
    shown = {name: value for name, value in vars(options).items() if name not in ("out", "runs", "hub_mirror")}
    if options.of:
        compared = {"runs": compare_precisions(options, mirror)}
    else:
        compared = {"targets": {target: compare(options, mirror, target) for target in options.targets}}
    about = {"machine": describe_machine(), "date": datetime.date.today().isoformat()}
    result: dict[str, Any] = {"benchmark": "same_scores", "options": shown, **compared, **about}
    atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(compared, indent=1))


if __name__ == "__main__":
    main()
