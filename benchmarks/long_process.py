"""Memory of one process that trains and evaluates again and again, as a notebook does.

    python -m benchmarks.long_process --runs 30 --out benchmarks/results/long_process.json

Runs on the embedded backbone, few examples each, by turns with a method each; after every third of them two trials of
a search besides. Resident memory is read after each; what counts is how far it grows once every method had its turn.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from adapter_stilts import evaluate, train, tune
from adapter_stilts.files import atomic_write_text
from adapter_stilts.progress import say
from benchmarks.machine import describe_machine

METHODS = ("bottleneck", "lora", "full")
TASK = "embedded_udpos"


def resident() -> int:
    """Resident memory of this process in MiB."""
    return int(psutil.Process().memory_info().rss) >> 20


def measure(runs: int, store: Path) -> list[int]:
    """Resident memory in MiB after each run."""
    after = []
    for seed in range(runs):
        method = METHODS[seed % len(METHODS)]
        settings = {"epochs": "1"}
        run = train(TASK, backbone="embedded", method=method, seed=seed, limit=8, settings=settings, runs=store)
        evaluate(run, runs=store, limit=2, languages=["en", "de"])
        if method == METHODS[-1]:
            tune(
                TASK,
                backbone="embedded",
                seeds=(seed,),
                trials=2,
                settings=settings,
                limit=8,
                development_limit=4,
                runs=store,
            )
        shutil.rmtree(run.folder)
        after.append(resident())
        say(f"run {seed + 1}: {after[-1]} MiB")
    return after


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        after = measure(options.runs, Path(folder))
    settled = after[len(METHODS) - 1 :]
    content = {
        "command": f"python -m benchmarks.long_process --runs {options.runs} --out {options.out}",
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "methods": METHODS,
        "resident_mib": after,
        "growth_mib": max(settled) - settled[0],
    }
    atomic_write_text(options.out, json.dumps(content, indent=2) + "\n")
    say(f"grown by {content['growth_mib']} MiB over {len(settled)} runs")


if __name__ == "__main__":
    main()
