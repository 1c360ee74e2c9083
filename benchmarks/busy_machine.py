"""Tokens a second on a CPU that does something else besides: ours by number of threads, and `AdapterTrainer`.

    python -m benchmarks.busy_machine --hub-mirror hub --out benchmarks/results/busy_machine.json

Every contender is a process of its own, since how threads wait is a property of a process. In each round all are timed
in turn, one at a time, first on the machine as it is, then beside processes that only count (`--busy`), another one
first in each round; a ratio is that of two speeds of one round. Before each half of a round the machine should be idle:
what others used of it is waited for, for some seconds, and stands in the result, since it hurts whoever is timed then.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from adapters import AdapterTrainer
from transformers.utils import logging as transformers_logging

from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import atomic_write_text, mirror_dir
from adapter_stilts.progress import quiet_libraries, say
from adapter_stilts.runs.record import package_versions
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.threads import computing_with, usable_cores
from benchmarks.contenders import Size, check_task, job_of
from benchmarks.machine import describe_machine, portable
from benchmarks.measuring import Measured, Sample, Variant
from benchmarks.ours import EXECUTIONS, our_inference, our_training
from benchmarks.peer_models import peer_model
from benchmarks.peers import Peer, peer_arguments
from benchmarks.samples import draw_examples, make_sample

CONDITIONS = ("idle", "busy")
# Share of the machine that others may use of it where it counts as idle, and seconds that it is waited for.
IDLE_UNDER, PATIENCE = 0.05, 60.0
PEER = "adapter_trainer"
NOTES = {
    "unit": "real pieces a second, special tokens included, padding not: medians over rounds",
    "ours": "the default: as many threads as cores, which wait as is best",
    "ours_always_awake": "the same without that choice (OpenMP's default, GOMP_SPINCOUNT=300000)",
    "ratios": "of `ours` to each contender within a round: median, least, most",
    "to_best": "of `ours` to the best of `ours_*_threads` (by median) within a round",
    "others": "share of the machine's cores that other processes used in the second before a half of a round",
}


@dataclass(frozen=True)
class Contender:
    """Who is timed: what (ours, prediction, or the peer), with how many threads (None: all cores), and, where
    `awake`, without the choice of how threads wait."""

    name: str
    what: str
    threads: int | None = None
    awake: bool = False


@dataclass(frozen=True)
class Asked:
    """What a contender's process needs to know; `runs` is how often it will be timed."""

    contender: Contender
    sentences: int
    steps: int
    runs: int
    backbone: str
    mirror: Path | None


def contenders(what: str) -> list[Contender]:
    """All that are timed together: training, or prediction."""
    counts = sorted({1, usable_cores()})
    ours = [Contender("ours", what), Contender("ours_always_awake", what, awake=True)]
    ours += [Contender(f"ours_{count}_threads", what, count) for count in counts]
    peers = [Contender(PEER, PEER), Contender(f"{PEER}_1_threads", PEER, 1)]
    return ours + (peers if what == "training" else [])


# --- a contender's process --------------------------------------------------------------------------------------------


def serve(connection: Connection, asked: Asked) -> None:
    """Build the contender, then time an epoch for each number that comes, until None does."""
    transformers_logging.set_verbosity_error()
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(computing_with(asked.contender.threads))
        variant, warm, timed = build(asked, folder, stack)
        variant.run(warm, 0)
        connection.send("ready")
        while (repeat := connection.recv()) is not None:
            connection.send(variant.run(timed, repeat))


def build(asked: Asked, folder: str, stack: ExitStack) -> tuple[Variant, Sample, Sample]:
    """The contender, and its sentences: of the first step, to warm up, and of all."""
    task, base = find_task("udpos"), load_backbone(asked.backbone, mirror=asked.mirror)
    check_task(task)
    job = job_of("none", task, base, [], Size(sentences=asked.sentences), "float32", asked.mirror)
    data = load_training_data(job)
    split = data.tasks[0].train
    warm, timed = (
        make_sample(data, draw_examples(split, asked.sentences, steps)) for steps in (min(2, asked.steps), asked.steps)
    )
    if asked.contender.what == PEER:
        given = peer_arguments("float32", asked.sentences, float(split.lengths.mean()), 1_024, "cpu")
        model = peer_model(job, data.tasks[0].labels)
        return Peer(AdapterTrainer, model, base.tokenizer, {**given, "output_dir": folder}).training(), warm, timed
    if asked.contender.what == "prediction":
        return our_inference(job, data, "cpu", "float32"), warm, timed
    return our_training(job, data, timed, asked.runs, EXECUTIONS["eager"], "cpu", stack), warm, timed


@contextmanager
def environment(awake: bool) -> Iterator[None]:
    """What OpenMP reads when PyTorch is loaded, for processes that start in the block: nothing, or its own default as
    somebody's choice."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    if awake:
        os.environ["GOMP_SPINCOUNT"] = "300000"
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)
        os.environ.update(before)


# --- the rounds -------------------------------------------------------------------------------------------------------


def others(patience: float = PATIENCE) -> float:
    """Share of the machine that is in use, while nobody is timed; waits until it is idle, or patience ends."""
    deadline = time.monotonic() + patience
    while (share := psutil.cpu_percent(interval=1.0) / 100) > IDLE_UNDER and time.monotonic() < deadline:
        say(f"others use {share:.0%} of the machine: waiting")
    return share


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that only count, for the time of the block."""
    counting = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5 if processes else 0)
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def compare(what: str, sentences: int, options: argparse.Namespace) -> dict[str, Any]:
    """All contenders at one size of a step, round after round."""
    took: dict[str, dict[str, list[Measured]]] = {condition: {} for condition in CONDITIONS}
    disturbed: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
    with ExitStack() as stack:
        ready = {contender.name: start(contender, what, sentences, options, stack) for contender in contenders(what)}
        for connection in ready.values():
            connection.recv()
        for repeat in range(options.rounds):
            for condition in CONDITIONS:
                disturbed[condition].append(others())
                with load(options.busy if condition == "busy" else 0):
                    for name in rotated(list(ready), repeat):
                        connection = ready[name]
                        connection.send(1 + len(took[condition].get(name, [])))
                        measured = connection.recv()
                        took[condition].setdefault(name, []).append(measured)
                        speed = measured.tokens / measured.seconds
                        say(f"{what} {sentences} round {repeat + 1} {condition}: {name}: {speed:,.0f} tokens/s")
        for connection in ready.values():
            connection.send(None)
    return {
        condition: {**summary(took[condition]), "others": [round(share, 3) for share in disturbed[condition]]}
        for condition in CONDITIONS
    }


def rotated(names: Sequence[str], count: int) -> list[str]:
    """The names, the first `count` of them last."""
    count %= len(names)
    return [*names[count:], *names[:count]]


def start(contender: Contender, what: str, sentences: int, options: argparse.Namespace, stack: ExitStack) -> Connection:
    """The connection to a contender's process, which ends with the stack."""
    steps = max(1, (options.peer_sentences if contender.what == PEER else options.sentences) // sentences)
    asked = Asked(contender, sentences, steps, 2 * options.rounds, options.backbone, mirror_dir(options.hub_mirror))
    connection, contender_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(contender_end, asked), daemon=True)
    with environment(contender.awake):
        process.start()
    contender_end.close()  # so that its end is noticed here
    stack.callback(process.join, 10)
    return connection


def summary(took: dict[str, list[Measured]]) -> dict[str, Any]:
    """Speeds of one condition, and the ratios of ours to them."""
    speeds = {name: [one.tokens / one.seconds for one in measured] for name, measured in took.items()}
    median = {name: statistics.median(each) for name, each in speeds.items()}
    best = max(
        (name for name in speeds if name.startswith("ours_") and name.endswith("_threads")), key=median.__getitem__
    )
    return {
        "tokens_a_second": {name: round(speed, 1) for name, speed in median.items()},
        "rounds": {name: [round(speed, 1) for speed in each] for name, each in speeds.items()},
        "ratios": {name: ratio(speeds["ours"], each) for name, each in speeds.items() if name != "ours"},
        "best": best,
        "to_best": ratio(speeds["ours"], speeds[best]),
    }


def ratio(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Median, least and most of the ratios within a round."""
    ratios = [one / other for one, other in zip(ours, others, strict=True)]
    return [round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark; returns what FILE holds."""
    before = list(os.getloadavg())
    results = {f"{size} sentences a step": compare("training", size, options) for size in options.sentences_a_step}
    results["prediction"] = compare("prediction", options.sentences_a_step[-1], options)
    return {
        "benchmark": "busy_machine",
        "command": command(options),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "results": results,
        "notes": NOTES,
        "contenders": [asdict(contender) for contender in contenders("training")],
        "backbone": portable(options.backbone),
        "machine": describe_machine(),
        "load_average_before": before,
        "packages": package_versions()[0],
    }


def command(options: argparse.Namespace) -> str:
    """The command that repeats the run; the mirror is shown as `hub`."""
    sizes = " ".join(map(str, options.sentences_a_step))
    amounts = " ".join(
        f"--{name.replace('_', '-')} {getattr(options, name)}"
        for name in ("sentences", "peer_sentences", "rounds", "busy")
    )
    mirror = "--hub-mirror hub " if options.hub_mirror else ""
    return (
        f"python -m benchmarks.busy_machine --backbone {portable(options.backbone)} {mirror}"
        f"--sentences-a-step {sizes} {amounts} --out benchmarks/results/{options.out.name}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the file, print the ratios; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.busy_machine", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--backbone", default="embedded")
    add("--hub-mirror", type=Path, help="folder that stands in for the Hub")
    add("--sentences-a-step", type=int, nargs="+", default=[16, 32])
    add("--sentences", type=int, default=128, help="of ours in one timed epoch")
    add("--peer-sentences", type=int, default=64, help="of AdapterTrainer, which is slower")
    add("--rounds", type=int, default=3)
    add("--busy", type=int, default=4, help="processes that only count")
    add("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(arguments)
    try:
        result = run(options)
    except StiltsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    atomic_write_text(options.out, json.dumps(result, indent=1) + "\n")
    for size, conditions in result["results"].items():
        for condition, measured in conditions.items():
            best = f"to best ({measured['best']}): {measured['to_best']}"
            print(f"{size}, {condition}: {measured['tokens_a_second']}, {best}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
