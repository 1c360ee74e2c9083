"""Cells of a comparison: one target run with what lies under it, trained where that has not been done, and scored."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.files import atomic_write_text
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.store import Keep, Run, RunStore
from adapter_stilts.training.api import train
from benchmarks.machine import describe_machine, portable

Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Intermediate:
    """An intermediate run: `tasks` is a task, or several with + between; the rest as `train` has it."""

    tasks: str
    control: str | None = None
    settings: Settings = ()
    languages: tuple[str, ...] | None = None

    def __str__(self) -> str:
        settings = [f"{key}={value}" for key, value in self.settings]
        about = [own for own in (self.control, *settings, "+".join(self.languages or ())) if own]
        return self.tasks + (f" ({', '.join(about)})" if about else "")


@dataclass(frozen=True)
class Cell:
    """One row of a table for one seed."""

    target: str
    method: str
    over: tuple[Intermediate, ...] = ()
    compose: str | None = None
    settings: Settings = ()
    seed: int = 0

    def __str__(self) -> str:
        over = f" over {' + '.join(map(str, self.over))}" if self.over else ""
        settings = "".join(f" {key}={value}" for key, value in self.settings)
        return f"{self.target} {self.method} {self.compose or ''}{over}{settings}, seed {self.seed}"


def run_cell(cell: Cell, arguments: argparse.Namespace, shared: dict[str, Any]) -> Run:
    """Train the cell's runs, where that has not been done, and score the target; drop a full target's weights."""
    settings = dict(own.split("=", 1) for own in arguments.set)
    of_target = dict(own.partition(":")[2].split("=", 1) for own in arguments.target_set if _method(own) == cell.method)
    if arguments.development_limit:
        settings["development_examples"] = str(arguments.development_limit)
    common = {**shared, "method": cell.method, "seed": cell.seed}
    # As many pieces for every intermediate, also for one on several tasks.
    tokens = getattr(arguments, "match_tokens", None) or 0
    over = [
        train(
            own.tasks,
            control=own.control,  # type: ignore[arg-type]
            languages=own.languages,
            settings={**settings, **dict(own.settings)},
            limit=None if tokens else arguments.limit,
            match_tokens=tokens // len(own.tasks.split("+")) or None,
            **common,
        )
        for own in cell.over
    ]
    run = train(
        cell.target,
        over=over,
        compose=cell.compose,
        settings={**settings, **of_target, **dict(cell.settings)},
        limit=arguments.limit,
        **common,
        weights=False,
    )
    keep: Keep = "adapters" if cell.method == "full" else "all"
    evaluate(run, limit=arguments.test_limit, runs=shared["runs"], mirror=shared["mirror"], keep=keep)
    return shared["runs"].get(run.name)


def _method(setting: str) -> str:
    """The method of METHOD:KEY=VALUE."""
    return setting.partition(":")[0]


def run_cells(todo: Sequence[Cell], arguments: argparse.Namespace, benchmark: str, command: str) -> None:
    """Run every cell, writing the table again after each, and print the last one."""
    store, mirror = RunStore(arguments.runs), mirror_dir(arguments.hub_mirror)
    backbone = load_backbone(arguments.backbone, mirror=mirror)
    shared = {"runs": store, "mirror": mirror, "backbone": backbone, "device": arguments.device}
    done: list[Run] = []
    for place, cell in enumerate(todo, 1):
        say(f"[{place}/{len(todo)}] {cell}")
        done.append(run_cell(cell, arguments, shared))
        report(done, store, arguments, benchmark, command)
    print(compare_runs(store, done, limit=arguments.test_limit).markdown())


def report(runs: Sequence[Run], store: RunStore, arguments: argparse.Namespace, benchmark: str, command: str) -> None:
    """Write the comparison of what is done so far, whole: JSON, and Markdown beside it."""
    comparison = compare_runs(store, list(runs), limit=arguments.test_limit)
    result = {
        "benchmark": benchmark,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "comparison": comparison.as_json(),
        "intermediates": [summary(run) for run in underneath(runs, store)],
        "runs": [summary(run) for run in runs],
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    # Reasons for missing languages name the mirror's folder, which is nobody else's.
    if (mirror := mirror_dir(arguments.hub_mirror)) is not None:
        text = text.replace(str(mirror), "hub")
    atomic_write_text(arguments.out, text + "\n")
    atomic_write_text(arguments.out.with_suffix(".md"), f"`{command}`\n\n{comparison.markdown()}")


def summary(run: Run) -> dict[str, Any]:
    """A run's record without what its tables hold already."""
    found = run.record.model_dump(mode="json", exclude={"identity", "labels", "scores"})
    found["task"]["config"] = portable(found["task"]["config"])
    found["backbone"]["id"] = portable(found["backbone"]["id"])
    return found


def underneath(runs: Sequence[Run], store: RunStore) -> list[Run]:
    """The intermediate runs under the given ones, each once."""
    names = dict.fromkeys(own.run for run in runs for own in run.record.over)
    return [run for name in names if (run := store.get(name)) is not None]


def command_of(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    benchmark: str,
    amounts: Sequence[str],
    lists: Sequence[str],
) -> str:
    """The command that repeats a benchmark; the mirror stands as `hub`, an empty list where it is not the default."""
    parts = [f"python -m benchmarks.{benchmark}", f"--backbone {portable(arguments.backbone)}"]
    parts += ["--hub-mirror hub"] if arguments.hub_mirror else []
    for name in amounts:
        if getattr(arguments, name) is not None:
            parts.append(f"--{name.replace('_', '-')} {getattr(arguments, name)}")
    for name in lists:
        values = getattr(arguments, name)
        if values or parser.get_default(name):
            parts.append(" ".join([f"--{name.replace('_', '-')}", *(portable(str(own)) for own in values)]))
    return " ".join([*parts, f"--out benchmarks/results/{arguments.out.name}"])


def common_options(parser: argparse.ArgumentParser) -> None:
    """Options of every comparison."""
    parser.add_argument("--backbone", default="FacebookAI/xlm-roberta-large")
    parser.add_argument("--hub-mirror", type=Path, help="folder laid out like the Hub, in place of it")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the run store")
    parser.add_argument("--limit", type=int, help="English training examples of every task")
    parser.add_argument("--development-limit", type=int, help="English development examples scored after each epoch")
    parser.add_argument("--test-limit", type=int, help="test sentences a language")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="recipe fields of every run")
    parser.add_argument(
        "--target-set", nargs="*", default=[], metavar="METHOD:KEY=VALUE", help="recipe fields of a method's targets"
    )
    parser.add_argument("--device", help="cpu or cuda; CUDA where there is one")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
