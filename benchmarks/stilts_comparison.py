"""Adapters beside full STILTs: every intermediate task under every target, zero-shot in all languages.

    python -m benchmarks.stilts_comparison --backbone embedded --hub-mirror hub --limit 1000 --test-limit 50 \
        --development-limit 300 --seeds 0 --full-over ud_deprel snli_devtest --out benchmarks/results/FILE.json

Runs live in a store (`--runs`), so an interrupted benchmark goes on where it was, and a finished run is never trained
again. The JSON holds the comparison (`adapter-stilts compare --json`), each run's record without its machine's paths,
and the command; a Markdown file of the same name holds the tables.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import atomic_write_text, mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.training.api import train
from benchmarks.machine import describe_machine

TARGETS = ("udpos", "wikiann")
INTERMEDIATES = ("ud_deprel", "chunking", "pmb_ccg", "pmb_semtag", "snli_devtest")


@dataclass(frozen=True)
class Cell:
    """One row of the table for one seed: a target by a method, over an intermediate task or none."""

    target: str
    method: str
    over: str | None
    seed: int


def cells(
    targets: Sequence[str], over: Sequence[str], full_over: Sequence[str], seeds: Sequence[int]
) -> Iterator[Cell]:
    """All cells; those that matter most come first, so that a benchmark that was cut short has a table to show."""
    for seed in seeds:
        for target in targets:
            yield Cell(target, "bottleneck", None, seed)
            yield Cell(target, "full", None, seed)
        for task in over:
            for target in targets:
                yield Cell(target, "bottleneck", task, seed)
        for task in full_over:
            for target in targets:
                yield Cell(target, "full", task, seed)


def run_cell(cell: Cell, arguments: argparse.Namespace, shared: dict[str, Any]) -> Run:
    """Train the cell's runs, where that has not been done, and score the target; drop a full target's weights."""
    settings = dict(own.split("=", 1) for own in arguments.set)
    if arguments.development_limit:
        settings["development_examples"] = str(arguments.development_limit)
    common = {**shared, "method": cell.method, "seed": cell.seed, "limit": arguments.limit, "settings": settings}
    over = [train(cell.over, **common)] if cell.over else []
    run = train(cell.target, over=over, **common, weights=False)
    keep = "adapters" if cell.method == "full" else "all"
    evaluate(run, limit=arguments.test_limit, runs=shared["runs"], mirror=shared["mirror"], keep=keep)
    return shared["runs"].get(run.name)


def report(runs: Sequence[Run], intermediates: Sequence[Run], store: RunStore, arguments: argparse.Namespace) -> None:
    """Write the comparison of what is done so far, whole."""
    comparison = compare_runs(store, list(runs), limit=arguments.test_limit)
    result = {
        "benchmark": "stilts_comparison",
        "command": command(arguments),
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "comparison": comparison.as_json(),
        "intermediates": [summary(run) for run in intermediates],
        "runs": [summary(run) for run in runs],
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    # Reasons for missing languages name the mirror's folder, which is nobody else's.
    if (mirror := mirror_dir(arguments.hub_mirror)) is not None:
        text = text.replace(str(mirror), "hub")
    atomic_write_text(arguments.out, text + "\n")
    atomic_write_text(arguments.out.with_suffix(".md"), f"`{command(arguments)}`\n\n{comparison.markdown()}")


def summary(run: Run) -> dict[str, Any]:
    """A run's record without what its tables hold already."""
    return run.record.model_dump(mode="json", exclude={"identity", "labels", "scores"})


def underneath(runs: Sequence[Run], store: RunStore) -> list[Run]:
    """The intermediate runs under the given ones, each once."""
    names = dict.fromkeys(own.run for run in runs for own in run.record.over)
    return [run for name in names if (run := store.get(name)) is not None]


def command(arguments: argparse.Namespace) -> str:
    """The command that repeats the benchmark; the mirror stands as `hub`."""
    parts = ["python -m benchmarks.stilts_comparison", f"--backbone {arguments.backbone}"]
    parts += ["--hub-mirror hub"] if arguments.hub_mirror else []
    for name in ("limit", "test_limit", "development_limit"):
        if getattr(arguments, name) is not None:
            parts.append(f"--{name.replace('_', '-')} {getattr(arguments, name)}")
    for name in ("seeds", "targets", "over", "full_over", "set"):
        values = getattr(arguments, name)
        parts += [f"--{name.replace('_', '-')} {' '.join(map(str, values))}"] if values else []
    return " ".join([*parts, f"--out benchmarks/results/{arguments.out.name}"])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options of the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stilts_comparison", description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="FacebookAI/xlm-roberta-large")
    parser.add_argument("--hub-mirror", type=Path, help="folder laid out like the Hub, in place of it")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the run store")
    parser.add_argument("--limit", type=int, help="English training examples of every task")
    parser.add_argument("--development-limit", type=int, help="English development examples scored after each epoch")
    parser.add_argument("--test-limit", type=int, help="test sentences a language")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--over", nargs="*", default=list(INTERMEDIATES), help="intermediates under adapters")
    parser.add_argument("--full-over", nargs="*", default=list(INTERMEDIATES), help="intermediates of full STILTs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="recipe fields of every run")
    parser.add_argument("--device", help="cpu or cuda; CUDA where there is one")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every cell, writing the table again after each."""
    arguments = parse(argv)
    store, mirror = RunStore(arguments.runs), mirror_dir(arguments.hub_mirror)
    backbone = load_backbone(arguments.backbone, mirror=mirror)
    shared = {"runs": store, "mirror": mirror, "backbone": backbone, "device": arguments.device}
    done: list[Run] = []
    todo = list(cells(arguments.targets, arguments.over, arguments.full_over, arguments.seeds))
    for place, cell in enumerate(todo, 1):
        over = f" over {cell.over}" if cell.over else ""
        say(f"[{place}/{len(todo)}] {cell.target} {cell.method}{over}, seed {cell.seed}")
        done.append(run_cell(cell, arguments, shared))
        report(done, underneath(done, store), store, arguments)
    print(compare_runs(store, done, limit=arguments.test_limit).markdown())


if __name__ == "__main__":
    main()
