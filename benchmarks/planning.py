"""How long a large study takes to plan, and a finished one to be recognised.

    python -m benchmarks.planning --out benchmarks/results/planning.json

A grid of 5,000 runs on tiny local tasks is planned once their data hashes are remembered; the 500 runs of a study get
made-up records and scores, and the study is asked what is to do. No model is loaded.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from adapter_stilts.evaluation.scored_task import evaluation_name
from adapter_stilts.evaluation.scores import SCORES
from adapter_stilts.files import atomic_write_text
from adapter_stilts.jobs.job import Intermediate
from adapter_stilts.jobs.training_data import TrainingData, load_training_data
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.runs.record import Cost, EpochScore, read_record, write_record
from adapter_stilts.runs.store import EVALUATIONS, Run
from adapter_stilts.studies.plan import Node, Plan, make_plan, states
from adapter_stilts.studies.reading import read_study
from adapter_stilts.training.describe import record_of
from adapter_stilts.training.state import Fitted
from benchmarks.machine import describe_machine
from benchmarks.tiny_study import write_study, write_tiny_backbone

GRID = """\
targets: [target.yaml]
intermediates: [first.yaml, second.yaml]
methods: [bottleneck, lora, full]
compositions: [none, stack, fuse, continue]
controls: [none, random, shuffled]
layers: [all, '0', '1']
seeds: {seeds}
"""
EPOCH = EpochScore(epoch=1, loss=1.0, scores={"accuracy": 50.0})
FITTED = Fitted(history=[EPOCH], selected_epoch=1, development=50.0)
COST = Cost(train_seconds=1.0, seconds=2.0, steps=1, tokens_per_second=1.0, peak_memory_bytes=1, bundle_bytes=1)


def timed(function: Callable[[], Any], repeats: int = 5) -> tuple[Any, dict[str, Any]]:
    """What the function returns, and the seconds of each call after a first one that fills caches: on the clock, and of
    the processor, which other work on the machine does not change."""
    function()
    clock, processor = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        result = function()
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return result, {"seconds": median(clock), "processor_seconds": median(processor), "all_seconds": clock}


def plan_of(folder: Path, runs: int, backbone: Backbone) -> Callable[[], Plan]:
    """Makes the plan of a study with about so many runs (its seeds are as many as it takes)."""
    path = folder / f"grid-{runs}.yaml"
    path.write_text(GRID.format(seeds=[0]), encoding="utf-8")
    each = len(make_plan(read_study(path), folder / "runs", backbone=backbone, device="cpu").nodes)
    path.write_text(GRID.format(seeds=list(range(-(-runs // each)))), encoding="utf-8")
    return lambda: make_plan(read_study(path), folder / "runs", backbone=backbone, device="cpu")


def make_up(plan: Plan, node: Node, data: TrainingData) -> None:
    """A finished run without weights, over runs that are there, scored where it is a target."""
    folder = plan.store.folder / node.name
    (folder / EVALUATIONS).mkdir(parents=True)
    below = [plan.store.folder / name for name in node.over]
    runs = [Run(path, read_record(path)) for path in below]
    job = replace(node.job, intermediates=tuple(map(Intermediate.of_run, runs)))
    record = record_of(job, data, FITTED, COST, plan.device)
    if node.cells:
        study, identities = plan.study, plan.evaluations[node.cells[0].target]
        name = evaluation_name(Run(folder, record), node.job.task.metrics, study.split, study.test_limit, identities)
        (folder / EVALUATIONS / name).mkdir()
        (folder / EVALUATIONS / name / SCORES).write_text("{}", encoding="utf-8")
        record = record.model_copy(update={"scores": {name: {"mean": {"accuracy": 50.0}}}})
    write_record(folder, record)


def planning(folder: Path) -> dict[str, Any]:
    """Both measurements."""
    backbone = load_backbone(str(write_tiny_backbone(folder / "tiny")))
    write_study(folder / "study", examples=8, epochs=1)
    large, large_seconds = timed(plan_of(folder / "study", 5_000, backbone))
    plan = plan_of(folder / "study", 500, backbone)
    small = plan()
    data: dict[str, TrainingData] = {}
    for node in small.nodes.values():
        # Of a task's runs the first decides: what was used of the data makes no difference here.
        if node.job.title not in data:
            data[node.job.title] = load_training_data(node.job)
        make_up(small, node, data[node.job.title])
    now, small_seconds = timed(lambda: states(plan()))
    if set(now.values()) != {"done"}:
        raise SystemExit("a finished study was not recognised")
    return {
        "plan": {"runs": len(large.nodes), **large_seconds},
        "recognise": {"runs": len(now), **small_seconds},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADAPTER_STILTS_CACHE"] = f"{folder}/cache"
        measured = planning(Path(folder))
    for what, row in measured.items():
        print(f"{what}: {row['runs']} runs in {row['seconds']:.2f} s ({row['processor_seconds']:.2f} of the processor)")
    if options.out is not None:
        result = {
            "benchmark": "planning",
            "command": f"python -m benchmarks.planning --out benchmarks/results/{options.out.name}",
            "date": datetime.date.today().isoformat(),
            "machine": describe_machine(),
            **measured,
        }
        atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
