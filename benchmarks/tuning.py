"""How the shipped recipes were chosen: `adapter-stilts tune` for every task and method, as many trials for each method.

    python -m benchmarks.tuning --backbone embedded --hub-mirror hub --tasks udpos wikiann \
        --methods bottleneck lora dora ia3 full --trials 5 --limit 300 --development-limit 200 \
        --rates bottleneck=4e-3 lora=2e-3 dora=2e-3 ia3=1e-2 full=2e-4 --out benchmarks/results/FILE.json

`--rates` are the middles of the searched ranges (an eighth to four times of each); without them a recipe's own learning
rate is. Each search is written as it is done, and what stands in the file is not searched again. No test data is read.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapter_stilts.files import atomic_write_text
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.store import RunStore
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.training.tune import Tuned, tune
from benchmarks.command import command_of
from benchmarks.machine import describe_machine


def described(tuned: Tuned, limit: int | None, match_tokens: int | None) -> dict[str, Any]:
    """A search as it is written: its trials, and the recipe that it chose."""
    about = {"task": tuned.task, "method": tuned.method, "backbone": tuned.backbone}
    trials = [asdict(trial) for trial in tuned.trials]
    recipe = tuned.recipe.model_dump(mode="json")
    return {**about, "recipe": recipe, "trials": trials, "limit": limit, "match_tokens": match_tokens}


def done_before(path: Path) -> list[dict[str, Any]]:
    """The searches that stand in the file."""
    return json.loads(path.read_text(encoding="utf-8"))["searches"] if path.is_file() else []


def write(path: Path, searches: Sequence[dict[str, Any]], command: str) -> None:
    """Write all searches, whole."""
    result = {
        "benchmark": "tuning",
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "searches": list(searches),
    }
    atomic_write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Search every recipe and write what each trial reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--hub-mirror", type=Path, help="folder laid out like the Hub, in place of it")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the run store")
    parser.add_argument("--tasks", nargs="+", default=["udpos", "wikiann"])
    parser.add_argument("--methods", nargs="+", default=["bottleneck", "lora", "dora", "ia3", "full"])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--search", nargs="*", default=[], metavar="KEY=SPACE", help="as of adapter-stilts tune")
    parser.add_argument("--rates", nargs="*", default=[], metavar="METHOD=RATE", help="middles of the searched ranges")
    parser.add_argument("--limit", type=int, help="English training examples; default: all")
    parser.add_argument("--match-tokens", type=int, help="training pieces, in place of --limit")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a trial's score is the mean over them")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="fields that are not searched")
    parser.add_argument("--device", help="cpu or cuda; CUDA where there is one")
    parser.add_argument("--development-limit", type=int, default=200, help="English development examples")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(argv)
    command = command_of(
        parser,
        options,
        "tuning",
        ("trials", "limit", "match_tokens", "development_limit"),
        ("tasks", "methods", "search", "rates", "seeds", "set"),
    )
    mirror = mirror_dir(options.hub_mirror)
    backbone = load_backbone(options.backbone, mirror=mirror)
    rates = dict(assignment.split("=", 1) for assignment in options.rates)
    searches = done_before(options.out)
    searched = {(search["task"], search["method"]) for search in searches}
    for task in options.tasks:
        for method in options.methods:
            if (find_task(task).name, method) in searched:
                say(f"{task} {method}: stands in {options.out}")
                continue
            settings = dict(assignment.split("=", 1) for assignment in options.set)
            settings["development_examples"] = str(options.development_limit)
            settings |= {"learning_rate": rates[method]} if method in rates else {}
            tuned = tune(
                task,
                method=method,
                trials=options.trials,
                search=dict(assignment.split("=", 1) for assignment in options.search) or None,
                backbone=backbone,
                seeds=options.seeds,
                limit=options.limit,
                match_tokens=options.match_tokens,
                settings=settings,
                runs=RunStore(options.runs),
                mirror=mirror,
                device=options.device,
            )
            searches.append(described(tuned, options.limit, options.match_tokens))
            write(options.out, searches, command)
            say(f"{task} {method}: learning rate {tuned.recipe.learning_rate:g}, {tuned.recipe.tuning}")


if __name__ == "__main__":
    main()
