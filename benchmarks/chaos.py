"""Survival: commands whose processes are killed, ended and stopped in the middle end as ones that were left alone.

    python -m benchmarks.chaos --kills 60 --out benchmarks/results/chaos.json

Twelve runs on a tiny random backbone: bottleneck and full, none, stack, fuse and continue. The study (training,
checkpoints, scores), further evaluations, its report and the building of caches (encoded data; the embedded backbone,
where its package is installed) are each done by two processes at once, which get SIGKILL, SIGTERM or SIGSTOP (and go on
after what they had claimed is another's), by turns at a random instant and at a random rename or sync, until there were
so many. The next command then runs undisturbed. Weight hashes, scores, the report and the caches are compared with
those of the same commands left alone; nothing may be made twice, and nothing half-written be left.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapter_stilts.evaluation.zero_shot import SCORES, evaluate
from adapter_stilts.files import atomic_write_text
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.model.embedded import PACKAGE, build_embedded
from adapter_stilts.paths import CACHE_VARIABLE, sha256_file
from adapter_stilts.progress import say
from adapter_stilts.report.content import make_report
from adapter_stilts.report.write import write_report
from adapter_stilts.runs.manifest import MANIFEST, read_manifest
from adapter_stilts.runs.store import BUNDLE, EVALUATIONS, Run, RunStore
from adapter_stilts.studies.plan import Plan, make_plan, runs_of, states
from adapter_stilts.studies.reading import read_study
from adapter_stilts.studies.scheduler import run_plan
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.encode import encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.training.execution import Execution
from benchmarks.disturbing import disturb, run_alone
from benchmarks.machine import describe_machine
from benchmarks.tiny_study import TASKS, write_study, write_tiny_backbone

# However often chance kills one run, it comes to its end.
EVERY_STEP = Execution(checkpoint_seconds=0)
# What says whether all went well.
SAME = ("kills", "missing", "more", "different", "made_again", "left_over", "report_is_same", "caches_are_same")
# Test sentences a language of the further evaluations.
LIMITS = (8, 12, 16, 20)


@dataclass(frozen=True)
class Workspace:
    """The study's file, the backbone that it is on, and where its commands write."""

    study: Path
    backbone: Backbone
    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def plan(self) -> Plan:
        return make_plan(read_study(self.study), self.runs, backbone=self.backbone, device="cpu")


@dataclass(frozen=True)
class Kind:
    """A command that is disturbed: its share of the kills, the renames and syncs of its first seconds, whether it is
    done, and what it makes that can be made again (None: nothing)."""

    name: str
    command: Callable[[Workspace], None]
    share: float
    operations: int
    done: Callable[[Workspace], bool]
    forget: Callable[[Workspace], None] | None = None


def run_study(workspace: Workspace) -> None:
    """The whole study, in this process."""
    result = run_plan(workspace.plan(), 0, execution=EVERY_STEP)
    if result.failed:
        raise SystemExit(f"failed: {result.failed}")


def study_is_done(workspace: Workspace) -> bool:
    return all(state == "done" for state in states(workspace.plan()).values())


def score_more(workspace: Workspace) -> None:
    """Every target in parts of its test split."""
    for run in RunStore(workspace.runs).runs():
        if run.record.scores:
            for limit in LIMITS:
                evaluate(run, limit=limit, runs=workspace.runs, device="cpu")


def all_scored(workspace: Workspace) -> bool:
    records = [run.record for run in RunStore(workspace.runs).runs() if run.record.scores]
    return all({scores["limit"] for scores in record.scores.values()} >= set(LIMITS) for record in records)


def forget_scores(workspace: Workspace) -> None:
    for run in RunStore(workspace.runs).runs():
        for name, scores in run.record.scores.items():
            if scores["limit"] in LIMITS:
                shutil.rmtree(run.folder / EVALUATIONS / name, ignore_errors=True)


def report(workspace: Workspace) -> None:
    plan = workspace.plan()
    write_report(make_report(plan.study, list(runs_of(plan)), plan.store), workspace.folder / "report")


def build_caches(workspace: Workspace) -> None:
    """Every split encoded, and the embedded backbone restored."""
    os.environ[CACHE_VARIABLE] = str(workspace.folder / "cache")
    for name in TASKS:
        task = find_task(str(workspace.study.parent / f"{name}.yaml"))
        for language, source in task.data.languages.items():
            for split in ("train", "validation", "test"):
                if getattr(source, split):
                    encode_split(task, language, split, workspace.backbone.tokenizer, label_inventory(task, None))
    if importlib.util.find_spec(PACKAGE) is not None:
        build_embedded()


def forget_caches(workspace: Workspace) -> None:
    for folder in (workspace.folder / "cache").glob("e*"):
        shutil.rmtree(folder)


KINDS = (
    Kind("study", run_study, 0.4, 80, study_is_done),
    Kind("evaluate", score_more, 0.2, 40, all_scored, forget_scores),
    Kind("report", report, 0.2, 60, lambda workspace: True, lambda workspace: None),
    Kind("cache", build_caches, 0.2, 30, lambda workspace: True, forget_caches),
)


def disturbed(workspace: Workspace, kind: Kind, kills: int, alone: float, seed: int) -> list[dict[str, Any]]:
    """The kills of one kind of command; what was there at each."""

    def again() -> bool:
        if not kind.done(workspace):
            return True
        if kind.forget is None:
            return False
        kind.forget(workspace)
        return True

    # Of the study, kills come faster than it can end; what is left is done without any.
    longest = max(2.0 * alone / max(kills, 1), 0.5) if kind.forget is None else alone
    return disturb(
        lambda: kind.command(workspace),
        workspace.folder / "errors.txt",
        kills,
        longest,
        kind.operations,
        random.Random(f"{kind.name} {seed}"),
        kind.forget is not None,
        again,
        lambda: {"kind": kind.name, **at_work(workspace), "made": made(workspace.runs)},
    )


def at_work(workspace: Workspace) -> dict[str, int]:
    """What a kill left: finished runs, claims, checkpoints, half-written files and folders."""
    left = residue(workspace.folder)
    return {
        "finished": len(RunStore(workspace.runs).names()),
        "claims": sum(".claims/" in path for path in left),
        "checkpoints": sum("/step-" in path for path in left),
        "half_written": sum(path.endswith((".partial", ".replaced")) for path in left),
    }


def residue(folder: Path) -> list[str]:
    """Everything that no command should leave."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    hidden = [name for name in names if name.rpartition("/")[2].startswith(".") or "/." in f"/{name}"]
    accepted = {"runs/.claims", "runs/.claims/.lock", "runs/.failures"}
    return sorted(set(hidden) - accepted)


def described(run: Run) -> dict[str, Any]:
    """What must be the same: weight hashes, scores, the score of every epoch."""
    manifest = read_manifest(run.bundle)
    weights = {name: file.sha256 for name, file in manifest.files.items() if name.endswith(".safetensors")}
    return {
        "weights": weights,
        "scores": {name: scores["mean"] for name, scores in run.record.scores.items()},
        "history": [epoch.model_dump() for epoch in run.record.history],
    }


def compared(whole: Path, broken: Path) -> dict[str, Any]:
    """Where two stores differ."""
    one = {run.name: described(run) for run in RunStore(whole).runs()}
    other = {run.name: described(run) for run in RunStore(broken).runs()}
    return {
        "runs": len(one),
        "weight_files": sum(len(run["weights"]) for run in one.values()),
        "missing": sorted(one.keys() - other.keys()),
        "more": sorted(other.keys() - one.keys()),
        "different": sorted(name for name in one.keys() & other.keys() if one[name] != other[name]),
    }


def report_of(workspace: Workspace) -> dict[str, Any]:
    """What must be the same in a report: its files, and what it says besides times."""
    folder = workspace.folder / "report"
    content = json.loads((folder / "data" / "report.json").read_text(encoding="utf-8"))
    return {
        "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
        **{key: content[key] for key in ("answers", "left_out", "done", "planned")},
    }


def caches_of(workspace: Workspace) -> dict[str, str]:
    folder = workspace.folder / "cache"
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.glob("e*/*")}


def made(runs: Path) -> dict[str, int]:
    """When the weights of each finished run, and its scores, were written: of what is made again, another time."""
    files = [*runs.glob(f"[!.]*/{BUNDLE}/{MANIFEST}"), *runs.glob(f"[!.]*/{EVALUATIONS}/[!.]*/{SCORES}")]
    return {path.relative_to(runs).as_posix(): path.stat().st_mtime_ns for path in files if path.exists()}


def made_again(moments: Sequence[dict[str, Any]]) -> list[str]:
    """What was there at one kill, and another at a later one of the same kind (some is made again on purpose)."""
    seen: dict[str, int] = {}
    again = set()
    for moment in moments:
        again |= {name for name, when in moment["made"].items() if seen.setdefault(name, when) != when}
    return sorted(again)


def chaos(folder: Path, kills: int, seed: int, examples: int, epochs: int) -> dict[str, Any]:
    """All commands left alone and disturbed, and how they compare."""
    backbone = load_backbone(str(write_tiny_backbone(folder / "tiny")))
    study = write_study(folder / "study", examples, epochs)
    alone, broken = Workspace(study, backbone, folder / "alone"), Workspace(study, backbone, folder / "killed")
    all_moments: list[dict[str, Any]] = []
    again: list[str] = []
    seconds: dict[str, dict[str, float]] = {}
    left: dict[str, list[str]] = {}
    for workspace in (alone, broken):
        workspace.folder.mkdir()
    for kind in KINDS:
        undisturbed = run_alone(lambda kind=kind: kind.command(alone), folder / "errors.txt")  # type: ignore[misc]
        begun = time.perf_counter()
        moments = disturbed(broken, kind, round(kind.share * kills), undisturbed, seed)
        run_alone(lambda kind=kind: kind.command(broken), broken.folder / "errors.txt")  # type: ignore[misc]
        seconds[kind.name] = {"alone": undisturbed, "killed": time.perf_counter() - begun}
        moments_and_end = [*moments, {"made": made(broken.runs)}]
        again += made_again(moments_and_end) if kind.forget is not forget_scores else []
        left[kind.name] = residue(broken.folder)
        all_moments += moments
        say(f"{kind.name}: {len(moments)} disturbed; left over: {left[kind.name] or 'nothing'}")
    return {
        "kills": len(all_moments),
        "by_kind_and_signal": Counter(
            f"{moment['kind']} {moment['signal']} at {moment['at']}" for moment in all_moments
        ),
        "seconds": seconds,
        **compared(alone.runs, broken.runs),
        "report_is_same": report_of(alone) == report_of(broken),
        "caches_are_same": caches_of(alone) == caches_of(broken),
        "cache_files": len(caches_of(alone)),
        "made_again": again,
        "left_over": left,
        "at_each_kill": [{key: value for key, value in moment.items() if key != "made"} for moment in all_moments],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Kill, compare, write what was found; exit code 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--examples", type=int, default=96, help="training sentences of each task")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = f"{folder}/cache"
        outcome = chaos(Path(folder), options.kills, options.seed, options.examples, options.epochs)
    for key in (*SAME, "by_kind_and_signal", "runs", "weight_files", "cache_files", "seconds"):
        print(f"{key}: {outcome[key]}")
    if options.out is not None:
        amounts = " ".join(f"--{name} {getattr(options, name)}" for name in ("kills", "seed", "examples", "epochs"))
        command = f"python -m benchmarks.chaos {amounts} --out benchmarks/results/{options.out.name}"
        result = {
            "benchmark": "chaos",
            "command": command,
            "date": datetime.date.today().isoformat(),
            "machine": describe_machine(),
            **outcome,
        }
        atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")
    if any(outcome[key] for key in ("missing", "more", "different", "made_again")) or any(
        outcome["left_over"].values()
    ):
        raise SystemExit(1)
    if not (outcome["report_is_same"] and outcome["caches_are_same"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
