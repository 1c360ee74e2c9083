"""How the package's own recipes were chosen: candidates on several small English tasks of a kind, under several seeds.

    python -m benchmarks.default_recipes --hub-mirror hub --kind tagging --method bottleneck \
        --rates 0.0005 0.001 0.002 0.004 --epochs 5 8 --seeds 0 1 --out benchmarks/results/default_recipes_embedded.json

A candidate is a learning rate with a number of epochs and a share of warm-up. A run has collapsed where its English
development score is at or under the majority class's, as that of every run is that predicts one label. Chosen is, of
the candidates with the smallest share of collapsed runs, the one whose score is on average the largest share of the
best candidate's on the task (means over seeds). A task on which every run collapsed decides nothing. No test data is
read.

The file is written again after each run, with what stands in it from other calls; runs that stand in the store are not
trained again, so a call that was cut off goes on.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import fmean

from adapter_stilts.engine.step import NotFinite
from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.paths import mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.store import RunStore
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.training.api import train
from benchmarks.command import command_of
from benchmarks.machine import describe_machine

TASKS = Path(__file__).parent / "task_configs"
RULE = (
    "the smallest share of collapsed runs (development score at or under the majority class's); among equals the mean"
    " over tasks of score over the best candidate's, scores being means over the seeds that all of them have; tasks"
    " that no candidate learnt left out"
)


@dataclass(frozen=True)
class Sample:
    """A task with so many English training and development examples, as a user has them."""

    task: str
    examples: int
    development: int = 300

    @property
    def name(self) -> str:
        return Path(self.task).stem


SAMPLES = {
    "tagging": (
        Sample(str(TASKS / "small_entities.yaml"), 800),
        Sample("chunking", 300, 150),
        Sample("udpos", 300, 150),
        Sample("ud_deprel", 300, 150),
    ),
    "classification": (
        Sample(str(TASKS / "small_topics.yaml"), 400),
        Sample(str(TASKS / "small_pairs.yaml"), 500),
        Sample("snli_devtest", 600),
    ),
}


@dataclass(frozen=True)
class Candidate:
    """What is chosen among."""

    learning_rate: float
    epochs: int
    warmup: float

    def __str__(self) -> str:
        return f"{self.learning_rate:g}, {self.epochs} epochs, warm-up {self.warmup:g}"


@dataclass(frozen=True)
class Outcome:
    """What one candidate reached on one task under one seed: English development scores in percent, the majority
    class's there beside them. `score` is that after the last epoch; without a finite loss 0, and `run` is empty."""

    kind: str
    method: str
    task: str
    examples: int
    learning_rate: float
    epochs: int
    warmup: float
    seed: int
    score: float
    majority: float
    by_epoch: tuple[float, ...]
    seconds: float
    run: str

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.learning_rate, self.epochs, self.warmup)

    @property
    def collapsed(self) -> bool:
        return self.score <= self.majority


@dataclass(frozen=True)
class Standing:
    """A candidate beside the others of its kind and method. `share` is the mean over tasks of its score over the best
    candidate's, on the tasks and seeds that all candidates with as few collapses tried (None: it has more); `scores`
    are means over all its seeds, `lowest` the least of any."""

    learning_rate: float
    epochs: int
    warmup: float
    collapsed: int
    runs: int
    share: float | None
    scores: dict[str, float]
    lowest: dict[str, float]


Tried = dict[tuple[str, int], float]


def standings(outcomes: Sequence[Outcome]) -> list[Standing]:
    """The candidates of one kind and method, best first."""
    learnt = {outcome.task for outcome in outcomes if not outcome.collapsed}
    tried: dict[Candidate, Tried] = defaultdict(dict)
    collapsed = Counter[Candidate]()
    for outcome in outcomes:
        if outcome.task in learnt:
            tried[outcome.candidate][outcome.task, outcome.seed] = outcome.score
            collapsed[outcome.candidate] += outcome.collapsed
    fewest = min((collapsed[candidate] / len(scores) for candidate, scores in tried.items()), default=0.0)
    shares = shares_of(
        {candidate: scores for candidate, scores in tried.items() if collapsed[candidate] / len(scores) == fewest}
    )
    ranked = []
    for candidate, scores in tried.items():
        of_task = by_task(scores, scores)
        means = {task: fmean(values) for task, values in of_task.items()}
        lowest = {task: min(values) for task, values in of_task.items()}
        share = shares.get(candidate)
        ranked.append(Standing(*astuple(candidate), collapsed[candidate], len(scores), share, means, lowest))
    return sorted(
        ranked,
        key=lambda standing: (standing.collapsed / standing.runs, -(standing.share or 0.0), standing.learning_rate),
    )


def shares_of(tried: Mapping[Candidate, Tried]) -> dict[Candidate, float]:
    """The mean over tasks of each candidate's score over the best one's, on the tasks and seeds that all of them tried
    (nothing where there are none)."""
    shared = set.intersection(*(set(scores) for scores in tried.values())) if tried else set()
    means = {
        candidate: {task: fmean(values) for task, values in by_task(scores, shared).items()}
        for candidate, scores in tried.items()
    }
    best = {task: max(of_task[task] for of_task in means.values()) for task, _ in shared}
    return {
        candidate: fmean(of_task[task] / best[task] for task in of_task)
        for candidate, of_task in means.items()
        if of_task
    }


def by_task(scores: Tried, keys: Collection[tuple[str, int]]) -> dict[str, list[float]]:
    """The scores of these tasks and seeds by task."""
    return {
        task: [scores[name, seed] for name, seed in keys if name == task] for task in sorted({name for name, _ in keys})
    }


def attempt(
    sample: Sample, candidate: Candidate, seed: int, options: argparse.Namespace, backbone: Backbone
) -> Outcome:
    """Train one candidate without keeping weights, or find it in the store."""
    shown = (options.kind, options.method, sample.name, sample.examples, *astuple(candidate), seed)
    settings = {
        "learning_rate": f"{candidate.learning_rate:g}",
        "epochs": str(candidate.epochs),
        "batch_examples": str(options.batch_examples),
        "warmup": f"{candidate.warmup:g}",
        "development_examples": str(sample.development),
    }
    try:
        run = train(
            find_task(sample.task),
            method=options.method,
            backbone=backbone,
            seed=seed,
            limit=sample.examples,
            settings=settings,
            runs=RunStore(options.runs),
            mirror=mirror_dir(options.hub_mirror),
            device=options.device,
            keep="scores",
        )
    except StiltsError as error:
        if not isinstance(error.__context__, NotFinite):
            raise
        say(str(error))
        return Outcome(*shown, 0.0, 0.0, (), 0.0, "")
    record = run.record
    by_epoch = tuple(epoch.scores[record.task.selection_metric] for epoch in record.history)
    majority = record.development_majority or 0.0
    return Outcome(*shown, record.development, majority, by_epoch, record.cost.seconds, run.name)


def read_before(path: Path) -> tuple[list[str], list[Outcome]]:
    """Commands and outcomes that stand in the file."""
    if not path.is_file():
        return [], []
    result = json.loads(path.read_text(encoding="utf-8"))
    outcomes = [Outcome(**{**stored, "by_epoch": tuple(stored["by_epoch"])}) for stored in result["outcomes"]]
    return result["commands"], outcomes


def write(path: Path, commands: Sequence[str], outcomes: Iterable[Outcome], backbone: str) -> None:
    """Write all outcomes with the standings of each kind and method, whole."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.kind, outcome.method].append(outcome)
    result = {
        "benchmark": "default_recipes",
        "commands": list(commands),
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "backbone": backbone,
        "chosen_by": RULE,
        "standings": [
            {"kind": kind, "method": method, "candidates": [asdict(standing) for standing in standings(group)]}
            for (kind, method), group in groups.items()
        ],
        "outcomes": [asdict(outcome) for group in groups.values() for outcome in group],
    }
    atomic_write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Try every candidate on every task of the kind under every seed, seed by seed, and write what each reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.default_recipes", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--backbone", default="embedded")
    add("--hub-mirror", type=Path, help="folder laid out like the Hub, in place of it")
    add("--runs", type=Path, default=Path("runs/default_recipes"), help="the run store")
    add("--kind", choices=sorted(SAMPLES), required=True)
    add("--method", default="bottleneck")
    add("--tasks", nargs="+", help="of the kind's tasks; default: all")
    add("--rates", type=float, nargs="+", required=True)
    add("--epochs", type=int, nargs="+", default=[5])
    add("--batch-examples", type=int, default=16)
    add("--warmups", type=float, nargs="+", default=[0.1])
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--device", help="cpu or cuda; CUDA where there is one")
    add("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(argv)
    backbone = load_backbone(options.backbone, mirror=mirror_dir(options.hub_mirror))
    samples = [sample for sample in SAMPLES[options.kind] if not options.tasks or sample.name in options.tasks]
    commands, before = read_before(options.out)
    command = command_of(
        parser,
        options,
        "default_recipes",
        ("kind", "method", "batch_examples"),
        ("tasks", "rates", "epochs", "warmups", "seeds"),
    )
    commands = [*commands, command] if command not in commands else commands
    outcomes = {key(outcome): outcome for outcome in before}
    candidates = [Candidate(*values) for values in itertools.product(options.rates, options.epochs, options.warmups)]
    for seed, sample, candidate in itertools.product(options.seeds, samples, candidates):
        outcome = attempt(sample, candidate, seed, options, backbone)
        outcomes[key(outcome)] = outcome
        write(options.out, commands, outcomes.values(), options.backbone)
        say(f"{sample.name} {options.method} {candidate}, seed {seed}: {outcome.score:.1f}")


def key(outcome: Outcome) -> tuple[object, ...]:
    """What tells two outcomes apart."""
    return (outcome.kind, outcome.method, outcome.task, outcome.examples, outcome.candidate, outcome.seed)


if __name__ == "__main__":
    main()
