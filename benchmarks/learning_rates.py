"""How the shipped recipes' learning rates were chosen: as many trials for each method, on English development data.

    python -m benchmarks.learning_rates --backbone embedded --hub-mirror hub --limit 400 --development-limit 200 \
        --out benchmarks/results/learning_rates_embedded.json

Trials are runs in a store (`--runs`), so an interrupted benchmark goes on where it was. No test data is read.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import atomic_write_text, mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.store import Run, RunStore, keep_of
from adapter_stilts.training.api import train
from benchmarks.machine import describe_machine

TARGETS = ("udpos", "wikiann")
# As many for each method, a factor of two apart, around what smaller trials had shown to learn at all.
RATES = {"bottleneck": ("1e-3", "2e-3", "4e-3"), "full": ("1e-4", "2e-4", "4e-4")}


def trial(run: Run) -> dict[str, Any]:
    """What a reader must know of one trial."""
    record = run.record
    return {
        "learning_rate": record.recipe.learning_rate,
        "development": record.development,
        "by_epoch": [epoch.scores[record.task.selection_metric] for epoch in record.history],
        "loss_by_epoch": [epoch.loss for epoch in record.history],
        "seconds": record.cost.seconds,
        "run": run.name,
    }


def command(options: argparse.Namespace) -> str:
    """The command that repeats the trials; the mirror stands as `hub`."""
    parts = ["python -m benchmarks.learning_rates", f"--backbone {options.backbone}"]
    parts += ["--hub-mirror hub"] if options.hub_mirror else []
    parts += [f"--limit {options.limit}", f"--development-limit {options.development_limit}"]
    return " ".join([*parts, f"--out benchmarks/results/{options.out.name}"])


def main(argv: Sequence[str] | None = None) -> None:
    """Train every trial and write what each reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_rates", description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--hub-mirror", type=Path, help="folder laid out like the Hub, in place of it")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the run store")
    parser.add_argument("--limit", type=int, default=400, help="English training examples")
    parser.add_argument("--development-limit", type=int, default=200, help="English development examples")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(argv)
    store, mirror = RunStore(options.runs), mirror_dir(options.hub_mirror)
    backbone = load_backbone(options.backbone, mirror=mirror)
    fixed = {"epochs": "5", "batch_examples": "16", "development_examples": str(options.development_limit)}
    result: dict[str, Any] = {
        "benchmark": "learning_rates",
        "command": command(options),
        "settings": fixed,
        "chosen": {},
    }
    result |= {"date": datetime.date.today().isoformat(), "machine": describe_machine(), "trials": {}}
    for target in TARGETS:
        for method, rates in RATES.items():
            trials = []
            for rate in rates:
                settings = {**fixed, "learning_rate": rate}
                common = {"backbone": backbone, "runs": store, "mirror": mirror, "limit": options.limit}
                run = train(target, method=method, settings=settings, weights=False, **common)
                keep_of(run, "scores")
                trials.append(trial(run))
                say(f"{target} {method} {rate}: {trials[-1]['development']:.2f}")
            result["trials"][f"{target} {method}"] = trials
            best = max(trials, key=lambda own: own["development"])
            result["chosen"][f"{target} {method}"] = best["learning_rate"]
    atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["chosen"], indent=1))


if __name__ == "__main__":
    main()
