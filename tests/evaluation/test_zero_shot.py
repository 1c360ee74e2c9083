"""Zero-shot scores recomputed from the stored predictions, means by hand, and what is missing."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.training import (
    CHINESE,
    ENGLISH,
    GERMAN,
    Workspace,
    draw_sentences,
    write_conllu,
    write_task,
)

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation import scored_task, zero_shot
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.scored_task import task_of
from adapter_stilts.evaluation.scores import read_scores
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task

TESTS = {"en": (ENGLISH, 20), "de": (GERMAN, 15), "zh": (CHINESE, 12)}
LANGUAGES = (
    "{en: {train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}, de: {test: de-test.conllu},"
    " fr: {train: de-test.conllu}, zh: {test: zh-test.conllu}}"
)
SPANS = {"A": "O", "B": "B-X", "C": "I-X"}


def spans_task(folder: Path, **options: Any) -> Task:
    """Span tags in three languages; French has no test split. English ends with a sentence of 2,000 words."""
    drawn = {f"{code}-test": draw_sentences(words, count, 9) for code, (words, count) in TESTS.items()}
    drawn["en-test"][-1:] = draw_sentences(ENGLISH, 1, 4, longest=1)
    drawn["en-test"][-1] = [pair for sentence in draw_sentences(ENGLISH, 2000, 5, longest=1) for pair in sentence]
    drawn["en-train"], drawn["en-dev"] = draw_sentences(ENGLISH, 24, 1), draw_sentences(ENGLISH, 8, 2)
    for name, sentences in drawn.items():
        write_conllu(
            folder / f"{name}.conllu", [[(word, SPANS[tag]) for word, tag in sentence] for sentence in sentences]
        )
    options = {"labels": "[O, B-X, I-X]", "metrics": "[accuracy, span_f1]"} | options
    return write_task(folder, "spans", languages=LANGUAGES, **options)


def score(workspace: Workspace, run: Run | str, **options: Any) -> zero_shot.Scores:
    return evaluate(run, runs=workspace.store, device="cpu", **options)


def rows_of(run: Run) -> list[dict[str, Any]]:
    (path,) = run.folder.glob("evaluations/*/predictions.parquet")
    return pq.read_table(path).to_pylist()


def accuracy(rows: list[dict[str, Any]]) -> float:
    pairs = [pair for row in rows for pair in zip(row["predicted"], row["gold"], strict=True)]
    return 100 * sum(predicted == gold for predicted, gold in pairs) / len(pairs)


def spans(tags: list[str]) -> set[tuple[int, int]]:
    """(first, end) of every span: B- opens one, and so does an I- after O (conlleval)."""
    starts = [at for at, tag in enumerate(tags) if tag == "B-X" or (tag == "I-X" and (at == 0 or tags[at - 1] == "O"))]
    ends = [next((at for at in range(first + 1, len(tags)) if tags[at] != "I-X"), len(tags)) for first in starts]
    return set(zip(starts, ends, strict=True))


def span_f1(rows: list[dict[str, Any]]) -> float:
    pairs = [(spans(row["predicted"]), spans(row["gold"])) for row in rows]
    common = sum(len(predicted & gold) for predicted, gold in pairs)
    return 200 * common / sum(len(predicted) + len(gold) for predicted, gold in pairs)


def test_scores_by_recomputation(workspace: Workspace) -> None:
    task = spans_task(workspace.folder / "data")
    run = workspace.train(task)
    scores = score(workspace, run)
    (path,) = run.folder.glob("evaluations/*/scores.json")
    stored = json.loads(path.read_text())
    rows = rows_of(run)
    assert stored.keys() >= {"run", "task", "split", "limit", "metrics", "labelling", "languages", "mean", "missing"}
    assert (stored["run"], stored["task"], stored["split"]) == (run.name, "spans", "test")
    assert (stored["metrics"], stored["labelling"], stored["limit"]) == (["accuracy", "span_f1"], "first_content", None)
    assert list(stored["languages"]) == ["en", "de", "zh"]
    for code, (_, count) in TESTS.items():
        rows_of_language = [row for row in rows if row["language"] == code]
        assert [row["example"] for row in rows_of_language] == list(range(count))
        expected = {"accuracy": accuracy(rows_of_language), "f1": span_f1(rows_of_language), "n": count}
        assert stored["languages"][code] == pytest.approx(expected, abs=1e-9)
        gold = (workspace.folder / "data" / f"{code}-test.conllu").read_text().strip().split("\n\n")
        assert [row["gold"] for row in rows_of_language] == [
            [line.split("\t")[3] for line in block.split("\n")] for block in gold
        ]
    assert max(len(row["predicted"]) for row in rows) == 2000
    for key in ("accuracy", "f1"):
        by_language = {code: values[key] for code, values in stored["languages"].items()}
        assert stored["mean"][key] == pytest.approx(mean(by_language.values()), abs=1e-9)
        without = mean([by_language["de"], by_language["zh"]])
        assert stored["mean_zero_shot"][key] == pytest.approx(without, abs=1e-9)
    assert stored["mean"].keys() == {"accuracy", "f1"}
    assert list(stored["missing"]) == ["fr"]
    assert "no path for the test split" in stored["missing"]["fr"]
    assert scores.model_dump(mode="json") == stored
    assert {values["accuracy"] for values in scores.languages.values()} != {0.0}


def test_scores_are_noted_and_not_computed_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = workspace.train(spans_task(workspace.folder / "data"))
    first = score(workspace, run.name)
    (folder,) = (run.folder / "evaluations").iterdir()
    noted = workspace.store.find(run.name).record.scores
    assert noted.keys() == {folder.name}
    assert noted[folder.name]["mean"] == first.mean
    assert noted[folder.name]["mean_zero_shot"] == first.mean_zero_shot
    assert (noted[folder.name]["languages"], noted[folder.name]["missing"]) == (["de", "en", "zh"], ["fr"])
    monkeypatch.setattr(zero_shot, "load_run", lambda *_: pytest.fail("scored again"))
    assert score(workspace, run.name, keep="scores") == first
    assert not run.has_weights
    assert score(workspace, run.name) == first


def test_limit_takes_the_same_sentences_for_all_runs(workspace: Workspace) -> None:
    task = spans_task(workspace.folder / "data")
    runs = [workspace.train(task), workspace.train(task, seed=1), workspace.train(task, method="full")]
    for run in runs:
        score(workspace, run, limit=7)
    chosen = [[(row["language"], row["example"]) for row in rows_of(run)] for run in runs]
    expected = [
        (code, int(example))
        for code, (_, count) in TESTS.items()
        for example in np.sort(np.random.default_rng(0).permutation(count)[:7])
    ]
    assert chosen == [expected] * 3
    assert score(workspace, runs[0], limit=7).languages["zh"]["n"] == 7


def test_some_languages_and_other_splits(workspace: Workspace) -> None:
    run = workspace.train(spans_task(workspace.folder / "data"))
    whole = score(workspace, run)
    some = score(workspace, run, languages=["zh", "de"])
    assert some.languages == {code: whole.languages[code] for code in ("zh", "de")}
    assert some.mean == pytest.approx(some.mean_zero_shot, abs=1e-12)
    english = score(workspace, run, languages=["en"])
    assert english.mean_zero_shot is None
    assert english.mean["f1"] == whole.languages["en"]["f1"]
    development = score(workspace, run, split="validation")
    assert list(development.missing) == ["de", "fr", "zh"]
    assert development.mean["accuracy"] == pytest.approx(run.record.development, abs=1e-9)
    assert len(list((run.folder / "evaluations").iterdir())) == 4
    with pytest.raises(UsageError, match=r"^--languages: found 'sw', accepted for spans: en, de, fr, zh$"):
        score(workspace, run, languages=["de", "sw"])
    with pytest.raises(UsageError, match=r"found no split 'tset'"):
        score(workspace, run, split="tset")
    with pytest.raises(StiltsError, match=r"^spans: no test data in any language"):
        score(workspace, run, languages=["fr"])


def test_copies(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.train(spans_task(workspace.folder / "data"))
    out = tmp_path / "out"
    for limit in (4, 3):
        score(workspace, run, limit=limit, out=out)
        limits = {
            path.parent: json.loads(path.read_text())["limit"] for path in run.folder.glob("evaluations/*/scores.json")
        }
        (kept,) = (folder for folder, stored in limits.items() if stored == limit)
        assert sorted(path.name for path in out.iterdir()) == ["predictions.parquet", "scores.json"]
        for path in out.iterdir():
            assert path.read_bytes() == (kept / path.name).read_bytes()
    read = read_predictions(out, read_scores(out, run), "tagging")
    assert {code: len(predictions.examples) for code, predictions in read.items()} == {"en": 3, "de": 3, "zh": 3}


def test_copied_run_is_scored_in_its_own_folder(workspace: Workspace, tmp_path: Path) -> None:
    """`--out` of training gives a folder that serves as a run."""
    run = workspace.train(spans_task(workspace.folder / "data"), out=tmp_path / "copy")
    assert score(workspace, str(tmp_path / "copy"), limit=3).languages == score(workspace, run, limit=3).languages
    assert len(list((tmp_path / "copy" / "evaluations").iterdir())) == 1


def test_unseen_gold_counts_as_wrong_and_is_counted(workspace: Workspace) -> None:
    folder = workspace.folder / "data"
    task = spans_task(folder, labels="open", metrics="[accuracy]")
    strange = [[("Hund", "STRANGE"), ("und", "O")], [("ist", "O"), ("!", "STRANGE"), ("der", "OTHER")]]
    write_conllu(folder / "de-test.conllu", strange)
    run = workspace.train(task)
    scores = score(workspace, run, languages=["de", "zh"])
    rows = [row for row in rows_of(run) if row["language"] == "de"]
    assert (scores.languages["de"]["unseen_gold"], scores.languages["de"]["n"]) == (3, 2)
    assert "unseen_gold" not in scores.languages["zh"]
    assert scores.mean.keys() == {"accuracy"}
    assert scores.languages["de"]["accuracy"] == pytest.approx(accuracy(rows), abs=1e-9)
    assert scores.languages["de"]["accuracy"] <= 40.0
    assert {tag for row in rows for tag in row["predicted"]} <= {"O", "B-X", "I-X"}


def test_task_that_has_changed_since(workspace: Workspace) -> None:
    task = spans_task(workspace.folder / "data")
    run = workspace.train(task)
    assert task_of(run) == task
    spans_task(workspace.folder / "data", version=2)
    assert find_task(str(task.path)).version == 2
    with pytest.raises(UsageError, match=r"spans\.yaml:2: version: found 2, accepted 1, as spans-.* was trained$"):
        score(workspace, run)


def test_damaged_scores_are_named(workspace: Workspace) -> None:
    run = workspace.train(spans_task(workspace.folder / "data"))
    score(workspace, run, languages=["de"])
    (path,) = run.folder.glob("evaluations/*/scores.json")
    path.write_text('{"run": 1}')
    with pytest.raises(StiltsError, match=r"scores\.json: \w+: "):
        score(workspace, run, languages=["de"])


def test_another_reading_of_the_same_file_is_another_evaluation(workspace: Workspace) -> None:
    """German read from the column of word numbers instead of the form: the same bytes must be scored anew."""
    run = workspace.train(spans_task(workspace.folder / "data"))
    score(workspace, run, languages=["de"])
    source = workspace.folder / "data" / "spans.yaml"
    before = source.read_text()
    source.write_text(before.replace("de: {test: de-test.conllu}", "de: {test: de-test.conllu, columns: COLUMNS}"))
    source.write_text(source.read_text().replace("COLUMNS", "{tokens: id, labels: upos}"))
    score(workspace, run, languages=["de"])
    assert len(list(run.folder.glob("evaluations/*/scores.json"))) == 2


@pytest.mark.parametrize(("scale", "precision"), [(1.0, "fp16"), (1e7, "float32")])
def test_the_precision_that_was_computed_in_is_noted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, scale: float, precision: str
) -> None:
    """As on CUDA; where a number is too large for fp16, float32 is what the scores are of."""
    monkeypatch.setitem(zero_shot.SCORING_PRECISION, "cpu", "fp16")
    load = zero_shot.load_run

    def scaled(*arguments: Any) -> Any:
        model, *others = load(*arguments)
        with torch.no_grad():
            model.roberta.embeddings.LayerNorm.weight.mul_(scale)
        return model, *others

    monkeypatch.setattr(zero_shot, "load_run", scaled)
    run = workspace.train(spans_task(workspace.folder / "spans"))
    assert score(workspace, run, limit=5).precision == precision


def test_another_way_of_scoring_is_another_evaluation(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = workspace.train(spans_task(workspace.folder / "spans"))
    score(workspace, run, limit=2)
    monkeypatch.setattr(scored_task, "SCORING_VERSION", scored_task.SCORING_VERSION + 1)
    score(workspace, run, limit=2)
    assert len(list(run.folder.glob("evaluations/*"))) == 2
