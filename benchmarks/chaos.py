"""Survival: a study whose processes are killed at random instants ends as one that was left alone.

    python -m benchmarks.chaos --kills 20 --out benchmarks/results/chaos.json

Twelve runs on a tiny random backbone: bottleneck and full, none, stack, fuse and continue. Two processes share the
study; each is killed (SIGKILL) after a random time, and started again, until there were so many kills; then the study
runs to its end. Scores and weight hashes are compared with those of the same study left alone. The driver lives through
it all and forks, so that what Python imports is paid for once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.paths import atomic_write_text
from adapter_stilts.progress import say
from adapter_stilts.runs.bundle import MANIFEST, read_manifest
from adapter_stilts.runs.store import BUNDLE, Run, RunStore
from adapter_stilts.studies.execute import execute
from adapter_stilts.studies.plan import make_plan, states
from adapter_stilts.studies.reading import read_study
from adapter_stilts.training.execution import Execution
from benchmarks.machine import describe_machine
from benchmarks.tiny_study import write_study, write_tiny_backbone

# Processes that share the study.
TOGETHER = 2
# However often chance kills one run, it comes to its end.
EVERY_STEP = Execution(checkpoint_seconds=0)


@dataclass(frozen=True)
class Place:
    """The study's file, and the backbone that it is on."""

    study: Path
    backbone: Backbone


def run_study(place: Place, runs: Path) -> None:
    """The whole study, in this process."""
    plan = make_plan(read_study(place.study), runs, backbone=place.backbone, device="cpu")
    result = execute(plan, 0, execution=EVERY_STEP)
    if result.failed:
        raise SystemExit(f"failed: {result.failed}")


def quietly(place: Place, runs: Path) -> None:
    """What a forked process does."""
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    run_study(place, runs)


def start(place: Place, runs: Path) -> Any:
    process = multiprocessing.get_context("fork").Process(target=quietly, args=(place, runs))
    process.start()
    return process


def left_alone(place: Place, runs: Path) -> float:
    """Seconds that the study takes."""
    begun = time.perf_counter()
    process = start(place, runs)
    process.join()
    if process.exitcode:
        raise SystemExit(f"the undisturbed study ended with exit code {process.exitcode}")
    return time.perf_counter() - begun


def killed(place: Place, runs: Path, kills: int, longest: float, seed: int) -> list[dict[str, Any]]:
    """Kill so many processes, each a random time (up to `longest` seconds) after its start; what was there then."""
    rng = random.Random(seed)
    told: list[dict[str, Any]] = []
    alive: list[tuple[float, Any]] = []
    while len(told) < kills:
        while len(alive) < TOGETHER:
            alive.append((time.monotonic() + rng.uniform(0.05, longest), start(place, runs)))
        alive.sort(key=lambda own: own[0])
        until, process = alive.pop(0)
        process.join(max(until - time.monotonic(), 0))
        hit = process.is_alive()
        process.kill()
        process.join()
        if hit:
            told.append(
                {"kill": len(told) + 1, "finished": len(RunStore(runs).names()), **at_work(runs), "made": made(runs)}
            )
        elif process.exitcode:
            raise SystemExit(f"a process of the study ended by itself with exit code {process.exitcode}")
        elif done(place, runs):
            break
    for _, process in alive:
        process.kill()
        process.join()
    return told


def done(place: Place, runs: Path) -> bool:
    plan = make_plan(read_study(place.study), runs, backbone=place.backbone, device="cpu")
    return all(state == "done" for state in states(plan).values())


def at_work(runs: Path) -> dict[str, int]:
    """What a kill left: claims, checkpoints, half-written folders."""
    return {
        "claims": len(list(runs.glob(".claims/*.json"))),
        "checkpoints": len(list(runs.glob(".checkpoints/*/step-*"))),
        "half_written": len([*runs.glob(".*.partial"), *runs.glob(".checkpoints/*/.*.partial")]),
    }


def described(run: Run) -> dict[str, Any]:
    """What must be the same: weight hashes, scores, the score of every epoch."""
    manifest = read_manifest(run.bundle)
    weights = {name: own.sha256 for name, own in manifest.files.items() if name.endswith(".safetensors")}
    return {
        "weights": weights,
        "scores": {name: own["mean"] for name, own in run.record.scores.items()},
        "history": [own.model_dump() for own in run.record.history],
    }


def compared(whole: Path, broken: Path) -> dict[str, Any]:
    """Where two stores differ."""
    one = {run.name: described(run) for run in RunStore(whole).runs()}
    other = {run.name: described(run) for run in RunStore(broken).runs()}
    return {
        "runs": len(one),
        "weight_files": sum(len(own["weights"]) for own in one.values()),
        "missing": sorted(one.keys() - other.keys()),
        "more": sorted(other.keys() - one.keys()),
        "different": sorted(name for name in one.keys() & other.keys() if one[name] != other[name]),
    }


def made(runs: Path) -> dict[str, int]:
    """When the weights of each finished run were written: of one that is made again, another time."""
    return {own.parents[1].name: own.stat().st_mtime_ns for own in runs.glob(f"[!.]*/{BUNDLE}/{MANIFEST}")}


def chaos(folder: Path, kills: int, seed: int, examples: int, epochs: int) -> dict[str, Any]:
    """Both studies, and how they compare."""
    backbone = load_backbone(str(write_tiny_backbone(folder / "tiny")))
    place = Place(write_study(folder / "study", examples, epochs), backbone)
    alone = left_alone(place, folder / "alone")
    say(f"left alone: {alone:.1f} s")
    begun = time.perf_counter()
    # Kills come faster than the study can end; what is left is done without any.
    told = killed(place, folder / "killed", kills, longest=max(2.0 * alone / max(kills, 1), 0.5), seed=seed)
    seen: dict[str, int] = {}
    for moment in told:
        seen = {**moment.pop("made"), **seen}
    left_alone(place, folder / "killed")
    seconds = time.perf_counter() - begun
    again = sorted(name for name, when in made(folder / "killed").items() if seen.get(name, when) != when)
    return {
        "kills": len(told),
        "seconds_alone": alone,
        "seconds_killed": seconds,
        **compared(folder / "alone", folder / "killed"),
        "made_again": again,
        "left_over": at_work(folder / "killed"),
        "at_each_kill": told,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Kill, compare, write what was found; exit code 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--examples", type=int, default=96, help="training sentences of each task")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADAPTER_STILTS_CACHE"] = f"{folder}/cache"
        found = chaos(Path(folder), options.kills, options.seed, options.examples, options.epochs)
    for key in ("kills", "runs", "weight_files", "missing", "more", "different", "made_again", "left_over"):
        print(f"{key}: {found[key]}")
    if options.out is not None:
        amounts = " ".join(f"--{name} {getattr(options, name)}" for name in ("kills", "seed", "examples", "epochs"))
        command = f"python -m benchmarks.chaos {amounts} --out benchmarks/results/{options.out.name}"
        result = {
            "benchmark": "chaos",
            "command": command,
            "date": datetime.date.today().isoformat(),
            "machine": describe_machine(),
            **found,
        }
        atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")
    if found["missing"] or found["more"] or found["different"] or found["made_again"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
