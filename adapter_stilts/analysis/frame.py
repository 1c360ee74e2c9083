"""A study's scores as a pandas DataFrame: one row a run and language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_stilts.analysis.scored import Scored
from adapter_stilts.analysis.study import REFERENCES, Reference, arrangement, differences, pairs, scored_runs
from adapter_stilts.languages import language
from adapter_stilts.studies.plan import study_runs
from adapter_stilts.studies.reading import find_study

if TYPE_CHECKING:
    import pandas

SCORES_FILE = "scores.csv"
COLUMNS = (
    "target",
    "method",
    "composition",
    "intermediate",
    "control",
    "knowledge",
    "granularity",
    "seed",
    "language",
    "zero_shot",
    "name",
    "family",
    "script",
    "metric",
    "score",
    "sentences",
    *(f"delta_{reference}" for reference in REFERENCES),
    "development",
    "intermediate_development",
    "trainable_parameters",
    "seconds",
    "run",
)


def load_study(
    path: Path | str,
    *,
    runs: Path | str | None = None,
    backbone: str | None = None,
    mirror: Path | str | None = None,
    device: str | None = None,
) -> pandas.DataFrame:
    """The finished runs of a study: its YAML file, a shipped one's name, or a folder that `study report` wrote.

    One row a run and language, as `score_rows` makes them; what is not there is None or NaN. `device` is what the study
    ran on, where that is not the default: the precision of a run is part of its name. Raises UsageError for a
    study that cannot be read, StiltsError where its data are not there.
    """
    import pandas

    written = Path(path) / "data" / SCORES_FILE
    if written.is_file():
        # An empty field alone is missing: `none` is a composition.
        return pandas.read_csv(written, keep_default_na=False, na_values=[""], dtype=_text_columns())
    scored = scored_runs(study_runs(find_study(path), runs, backbone=backbone, mirror=mirror, device=device))
    return pandas.DataFrame(score_rows(scored), columns=list(COLUMNS))


def score_rows(scored: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """One row a run and language, in the order of the study.

    `score` is the result that the target selects by, in percent; `delta_none`, `delta_full` and `delta_random` are its
    points over the run of the same seed with no intermediate, of full STILTs over the same ones, and over an
    intermediate that was never trained. Several intermediates are named with ` + ` between, and `knowledge` and
    `granularity` are `mixed` where they differ; `zero_shot` is False for the languages that the target was trained on;
    `development` are scores of development data.
    """
    deltas = {reference: _differences(scored.values(), reference) for reference in REFERENCES}
    rows = []
    for name, evaluation in scored.items():
        about = _about(evaluation)
        for code, scores in evaluation.scores.languages.items():
            known = language(code)
            rows.append(
                about
                | {"language": code, "zero_shot": code not in evaluation.trained_languages}
                | {"name": known.name, "family": known.family, "script": known.script}
                | {"score": scores[evaluation.metric], "sentences": int(scores["n"])}
                | {f"delta_{reference}": deltas[reference].get((name, code)) for reference in REFERENCES}
            )
    return [{column: row[column] for column in COLUMNS} for row in rows]


def _differences(scored: Iterable[Scored], reference: Reference) -> dict[tuple[str, str], float]:
    return {
        (evaluation.run.name, code): delta
        for evaluation, other in pairs(scored, reference)
        if other is not None
        for code, delta in differences(evaluation, other).items()
    }


def _about(evaluation: Scored) -> dict[str, Any]:
    record = evaluation.run.record
    developments = [under.development for under in record.over]
    return {
        "target": record.task.name,
        "method": record.method,
        "composition": arrangement(record),
        "intermediate": " + ".join(under.task for under in record.over) or None,
        "control": record.control or next((under.control for under in record.over if under.control), None),
        "knowledge": _common([under.knowledge for under in record.over]),
        "granularity": _common([under.granularity for under in record.over]),
        "seed": record.seed,
        "metric": evaluation.metric,
        "development": record.development,
        "intermediate_development": sum(developments) / len(developments) if developments else None,
        "trainable_parameters": record.trainable_parameters,
        "seconds": record.cost.seconds,
        "run": evaluation.run.name,
    }


def _common(values: list[str]) -> str | None:
    different = list(dict.fromkeys(values))
    return (different[0] if len(different) == 1 else "mixed") if different else None


def _text_columns() -> dict[str, str]:
    numbers = ("seed", "zero_shot", "score", "sentences", "development", "trainable_parameters", "seconds")
    texts = [name for name in COLUMNS if name not in numbers and "delta" not in name and "development" not in name]
    return dict.fromkeys(texts, "str")
