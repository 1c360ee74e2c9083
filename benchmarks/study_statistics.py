"""Are the intervals of a study right? Studies of the shipped shape are simulated with known effects and analysed.

    python -m benchmarks.study_statistics --studies 500 --out benchmarks/results/study_statistics.json

Scores are simulated, the reference's too, and differences taken, so that runs of a seed share their reference's noise.
Two intermediates of each kind, two targets with 37 and 47 languages, three seeds; the spreads stand in the file.
Coverage is that of 95% intervals; `wald_coverage` is what z intervals from the same standard errors have. Intermediates
move the second target four times as far as the first in the scenario `spreads`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.analysis.answer import answer
from adapter_stilts.files import atomic_write_text
from adapter_stilts.progress import say
from adapter_stilts.statistics.effects import Contrast, Effects, fit_effects
from adapter_stilts.statistics.observations import CELLS, Observation
from benchmarks.machine import describe_machine

Z = 1.959963984540054
CODES = {"syntactic": 0.5, "semantic": -0.5, "token": 0.5, "sentence": -0.5}


@dataclass(frozen=True)
class Truth:
    """A simulated study: true effects and standard deviations in points. `residual` and `run` are those of a score, and
    the reference has its own; `stretch` multiplies what intermediates do to each target."""

    knowledge: float = 0.0
    granularity: float = 0.0
    interaction: float = 0.0
    intermediate: float = 0.6
    intermediate_by_target: float = 0.4
    language_by_intermediate: float = 0.6
    run: float = 0.3
    residual: float = 0.7
    languages: tuple[int, ...] = (37, 47)
    stretch: tuple[float, ...] = (1.0, 1.0)
    seeds: int = 3
    cells: tuple[tuple[str, str], ...] = field(default=tuple(cell for cell in CELLS for _ in range(2)))


def simulate(truth: Truth, generator: np.random.Generator) -> list[Observation]:
    """The differences of one study to its runs without an intermediate task."""
    count = len(truth.cells)
    shared = generator.normal(0, truth.intermediate, count)
    observations = []
    for target, (languages, stretch) in enumerate(zip(truth.languages, truth.stretch, strict=True)):
        of_task = shared + generator.normal(0, truth.intermediate_by_target, count)
        of_language = generator.normal(0, truth.language_by_intermediate, (count, languages))
        kinds = np.array([_mean(truth, *cell) for cell in truth.cells])
        shape = (count + 1, truth.seeds, languages)
        noise = generator.normal(0, truth.run, (*shape[:2], 1)) + generator.normal(0, truth.residual, shape)
        delta = noise[1:] - noise[0] + (kinds + stretch * of_task)[:, None, None] + of_language[:, None, :]
        for (task, seed, language), value in np.ndenumerate(delta):
            knowledge, granularity = truth.cells[task]
            names = (f"target{target}", "bottleneck", "stack", f"task{task}", knowledge, granularity, f"l{language}")
            observations.append(Observation(*names, seed, float(value)))
    return observations


def _mean(truth: Truth, knowledge: str, granularity: str) -> float:
    one, two = CODES[knowledge], CODES[granularity]
    return truth.knowledge * one + truth.granularity * two + truth.interaction * one * two


def analysed(truth: Truth, studies: int, seed: int, resamples: int) -> list[Effects]:
    """So many studies, each simulated from a seed of its own and fitted."""
    generators = (np.random.default_rng([seed, study]) for study in range(studies))
    return [fit_effects(simulate(truth, generator), resamples=resamples) for generator in generators]


def measured(truth: Truth, studies: Sequence[Effects]) -> dict[str, Any]:
    """Bias, coverage and chance of an alarm of every contrast, and of any alarm after Holm's correction."""
    contrasts = []
    for index, first in enumerate(studies[0].contrasts):
        fitted = [study.contrasts[index] for study in studies]
        table = np.array(
            [(one.estimate, one.standard_error, one.df, one.low, one.high, one.p) for one in fitted], dtype=float
        )
        estimate, error, df, low, high, p = table.T
        effect = getattr(truth, first.name)
        contrasts.append(
            {
                "name": first.name,
                "target": first.target,
                "truth": effect,
                "mean_estimate": estimate.mean(),
                "bias": estimate.mean() - effect,
                "bias_standard_error": estimate.std(ddof=1) / len(fitted) ** 0.5,
                "estimate_sd": estimate.std(ddof=1),
                "root_mean_square_standard_error": float(np.sqrt((error**2).mean())),
                "median_df": float(np.median(df)),
                "coverage": _share((low <= effect) & (effect <= high)),
                "wald_coverage": _share(np.abs(estimate - effect) <= Z * error),
                "bootstrap_coverage": _bootstrap_coverage(fitted, effect),
                "significant": _share(p < 0.05),
                "median_smallest_difference": float(np.median([one.smallest_difference for one in fitted])),
            }
        )
    alarms = [any(one.holm_p is not None and one.holm_p < 0.05 for one in study.contrasts) for study in studies]
    return {"studies": len(studies), "contrasts": contrasts, "any_significant_after_holm": float(np.mean(alarms))}


def _share(hits: np.ndarray) -> float:
    return float(np.mean(hits))


def _bootstrap_coverage(fitted: Sequence[Contrast], effect: float) -> float | None:
    if fitted[0].bootstrap_low is None:
        return None
    return float(np.mean([one.bootstrap_low <= effect <= one.bootstrap_high for one in fitted]))


def scenarios(studies: int, resamples: int) -> dict[str, Any]:
    """Every scenario's truth with what its studies came to."""
    planted = Truth(knowledge=1.5, granularity=-0.8, interaction=1.0)
    truths = {"planted": planted, "null": Truth(), "spreads": replace(planted, stretch=(0.5, 2.0))}
    results = {}
    for number, (name, truth) in enumerate(truths.items()):
        begin = time.process_time()
        fitted = analysed(truth, studies, number, resamples if name == "planted" else 0)
        results[name] = {"truth": asdict(truth), **measured(truth, fitted)}
        results[name]["cpu_seconds"] = time.process_time() - begin
        say(f"{name}: {studies} studies in {results[name]['cpu_seconds']:.0f} s")
    return results


def confounded() -> dict[str, Any]:
    """A study whose syntactic tasks are all token tasks, its semantic ones sentence tasks, and what is said of it."""
    cells = (("syntactic", "token"),) * 4 + (("semantic", "sentence"),) * 4
    effects = fit_effects(simulate(replace(Truth(knowledge=1.5), cells=cells), np.random.default_rng(0)), resamples=0)
    return {
        "answer": str(answer(effects)),
        "limits": effects.limits,
        "knowledge": asdict(effects.contrast("knowledge")),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, analyse, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study_statistics", description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=500, help="studies of each scenario")
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap of planted studies; 0: none")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(argv)
    result = {
        "benchmark": "study_statistics",
        "command": f"python -m benchmarks.study_statistics --studies {options.studies} --resamples {options.resamples} "
        f"--out {options.out}",
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "scenarios": scenarios(options.studies, options.resamples),
        "confounded": confounded(),
    }
    atomic_write_text(options.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
