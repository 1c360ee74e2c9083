"""Studies whose runs were never trained: a record, scores and predictions by hand for every cell of the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adapter_stilts.evaluation.scores import SCORES, Scores
from adapter_stilts.runs.record import Underneath
from adapter_stilts.runs.store import EVALUATIONS, Run
from adapter_stilts.studies.grid import Cell, expand, tasks_of, title_of
from adapter_stilts.studies.plan import StudyRun
from adapter_stilts.studies.reading import read_study
from adapter_stilts.study_schema import Study
from adapter_stilts.training.describe import stored_task
from support.records import TRAIN, under, write_run

LANGUAGES = ("de", "nl", "ru", "ar", "zh", "fi")
# Right words of a hundred, in each language.
Right = Callable[[Cell, str], int]
GRID = """\
question: Do they differ?
backbone: embedded
targets: [udpos, wikiann]
intermediates: [ud_deprel, pmb_semtag, chunking, cola, pawsx_devtest, snli_devtest, mrpc, rte]
methods: [bottleneck, full]
compositions: [none, stack, continue]
controls: [none, random, shuffled]
seeds: [0, 1, 2]
exclude:
  - {method: bottleneck, composition: continue}
  - {method: full, control: [random, shuffled]}
  - {control: random, intermediate: [pmb_semtag, chunking, cola, pawsx_devtest, snli_devtest, mrpc, rte]}
  - {control: shuffled, intermediate: [ud_deprel, chunking, cola, pawsx_devtest, snli_devtest, mrpc, rte]}
"""
COST = {"bottleneck": (454_097, 110.0), "full": (117_512_849, 320.0)}


def study_of(folder: Path, text: str = GRID, name: str = "made_up") -> Study:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return read_study(path)


def no_noise(cell: Cell, code: str) -> int:
    """Scores from which every difference can be told by hand: 60, 2 more over a syntactic intermediate, 1 fewer over
    any control, 5 more of full fine-tuning, and another level for each seed and language."""
    right = 60 + 3 * cell.seed + len(LANGUAGES) * (code == "de")
    if cell.over and not cell.control and tasks_of(cell.over[0])[0].knowledge == "syntactic":
        right += 2
    return right - bool(cell.control) + 5 * (cell.method == "full")


def noisy(seed: int = 0, knowledge: float = 0.6) -> Right:
    """Scores with an effect of knowledge, of each intermediate, and noise; about as large as real ones."""
    generator = np.random.default_rng(seed)
    levels: dict[str, float] = {}

    def level(key: str, spread: float) -> float:
        return levels.setdefault(key, float(generator.normal(0, spread)))

    def right(cell: Cell, code: str) -> int:
        base = {"udpos": 76.0, "wikiann": 46.0}.get(cell.target, 60.0) + level(f"language {code} {cell.target}", 9)
        base += level(f"seed {cell.seed} {cell.target} {cell.method}", 0.4)
        if cell.over:
            base += level(f"{cell.target} {cell.over} {cell.method}", 0.7) - 0.5
            base += level(f"{cell.target} {cell.over} {code}", 0.8)
            syntactic = tasks_of(cell.over[0])[0].knowledge == "syntactic"
            base += (knowledge / 2 if syntactic else -knowledge / 2) if not cell.control else -1.5
        return int(np.clip(round(base + float(generator.normal(0, 0.5))), 1, 99))

    return right


def fake_runs(
    store: Path,
    study: Study,
    right: Right = no_noise,
    languages: Sequence[str] = LANGUAGES,
    finished: Callable[[Cell], bool] = lambda cell: True,
) -> list[StudyRun]:
    """Every cell of the study with a run, where it is finished."""
    runs = []
    for number, cell in enumerate(expand(study)):
        run = _run(store, cell, {code: right(cell, code) for code in languages}) if finished(cell) else None
        evaluation = run.folder / EVALUATIONS / "test" if run else None
        runs.append(StudyRun(cell, run.name if run else f"to-do-{number}", run, evaluation))
    return runs


def _run(store: Path, cell: Cell, right: dict[str, int]) -> Run:
    run = write_run(store, cell.method, cell.composition, right, over=[_under(name, cell) for name in cell.over])
    trainable, seconds = COST[cell.method]
    cost = run.record.cost.model_copy(update={"seconds": seconds + 7 * cell.seed})
    task = stored_task(tasks_of(cell.target))
    changes = {
        "task": task.model_copy(update={"selection_metric": "accuracy", "metrics": ("accuracy",)}),
        "seed": cell.seed,
        "trainable_parameters": trainable,
        "cost": cost,
        "data": (TRAIN.model_copy(update={"task": task.name}),),
    }
    path = run.folder / EVALUATIONS / "test" / SCORES
    scores = Scores.model_validate_json(path.read_text()).model_copy(update={"task": task.name})
    path.write_text(scores.model_dump_json())
    return Run(run.folder, run.record.model_copy(update=changes))


def _under(name: str, cell: Cell) -> Underneath:
    task = tasks_of(name)[0]
    made = under(
        title_of(name) + (f" ({cell.control})" if cell.control else ""),
        control=cell.control,  # type: ignore[arg-type]
        run=f"{name}-{cell.method}-{cell.control}-{cell.seed}",
        development=12.0 if cell.control else 70.0 + 2 * len(name) % 25,
    )
    return made.model_copy(update={"knowledge": task.knowledge, "granularity": task.granularity})
