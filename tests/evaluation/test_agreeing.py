"""Sealed records, scores and predictions of others whose parts contradict each other."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.cli import command
from support.hostile import VALUES, paths_of, seal
from support.training import Workspace, english_task, make_workspace

from adapter_stilts.analysis.scored import Scored
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.scores import read_scores, write_scores
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.paths import sha256_file
from adapter_stilts.runs.record import read_record
from adapter_stilts.runs.store import Run, evaluation_folders
from adapter_stilts.tasks.scoring import score


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Run]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace = make_workspace(tmp_path_factory.mktemp("agreeing"), monkeypatch)
        run = workspace.train(english_task(workspace.folder / "t", "t"), settings={"epochs": "1"})
        evaluate(run, runs=workspace.store, device="cpu")
        return workspace, run


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    seal(path, content)


@pytest.fixture
def kept(whole: tuple[Workspace, Run]) -> Any:
    """The run, whose files are as they were after the test."""
    _, run = whole
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    yield run
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda content: content["identity"]["tasks"][0].update(train={}),
            r"identity: tasks\.0\.train: .*at least 1 item",
        ),
        (lambda content: content["identity"].update(tasks=[3]), r"identity: tasks\.0: "),
        (
            lambda content: content["identity"]["tasks"][0]["train"]["en"].pop("reading"),
            r"tasks\.0\.train\.en\.reading: ",
        ),
        (lambda content: content.update(selected_epoch=99), r"selected_epoch: found 99, accepted up to 1"),
        (lambda content: content.update(total_parameters=0), r"total_parameters: found 0, accepted 1 or more"),
        (
            lambda content: content["task"].update(selection_metric="x"),
            r"task.selection_metric: found 'x', accepted accuracy$",
        ),
        (
            lambda content: content["task"].update(selection_metric="f1"),
            r"json: task.selection_metric: found 'f1', accepted a",
        ),
        (
            lambda content: content["task"].update(kind="x"),
            r"json: task.kind: found 'x', accepted tagging, classif",
        ),
        (
            lambda content: content["task"].update(metrics=["x"]),
            r"json: task.metrics: found 'x', accepted accuracy, span_f1",
        ),
        (
            lambda content: content.update(languages=["xx"]),
            r"json: languages.0: found 'xx', accepted the code of a language",
        ),
    ],
)
def test_records(kept: Run, change: Callable[[dict[str, Any]], Any], complaint: str) -> None:
    changed(kept.folder / "record.json", change)
    with pytest.raises(StiltsError, match=complaint):
        read_record(kept.folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda content: content["languages"]["en"].pop("n"),
            r"languages\.en: found no n, accepted the number of sentences",
        ),
        (
            lambda content: content["languages"]["en"].update(n=0.5),
            r"languages\.en: found n 0\.5, accepted the number of sen",
        ),
        (
            lambda content: content["test_data"].update(de="x"),
            r"json: test_data: found other languages \(de\), accepted",
        ),
        (
            lambda content: content["missing"].update(en="gone"),
            r"json: missing: found en, which has scores, accepted languages",
        ),
        (
            lambda content: content.update(metrics=["x"]),
            r"metrics: found 'x', accepted metrics of tagging that give accuracy",
        ),
        (lambda content: content["majority"].update(xx=1.0), r"majority: found other languages \(xx\)"),
        (lambda content: content.update(selection_metric="x"), r"selection_metric: found 'x', accepted accuracy"),
        (lambda content: content.update(metrics=[]), r"metrics: .*at least 1 item"),
        (
            lambda content: content["mean"].update(accuracy=99.0),
            r"mean: found {'accuracy': 99.0}, accepted the mean of the",
        ),
        (lambda content: content.update(mean_zero_shot={"accuracy": 1.0}), r"mean_zero_shot: found .* languages, None"),
        (
            lambda content: content.update(leaks=[leak("en\x1b[31m")]),
            r"leaks\.0\.language: found 'en.x1b\[31m', accepted the code of a language",
        ),
    ],
)
def test_scores(kept: Run, change: Callable[[dict[str, Any]], Any], complaint: str) -> None:
    (folder,) = evaluation_folders(kept)
    changed(folder / "scores.json", change)
    with pytest.raises(StiltsError, match=complaint):
        read_scores(folder, kept)


def leak(language: str) -> dict[str, Any]:
    return {"task": "t", "language": language, "split": "test", "texts": 1, "shared": 1, "identical": True}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows[:-1], r"found 9 rows, accepted 10, as scores.json says"),
        (
            lambda rows: [{**rows[0], "language": "xx"}, *rows[1:]],
            r"'en': found 9 examples, accepted 10, as scores.json",
        ),
        (lambda rows: [{**rows[0], "example": -1}, *rows[1:]], r"found an example number twice, or under 0"),
        (lambda rows: [rows[1], *rows[1:]], r"found an example number twice, or under 0"),
        (lambda rows: [{**rows[0], "gold": []}, *rows[1:]], r"example \d: found \d+ predicted and 0 gold labels"),
    ],
)
def test_predictions(kept: Run, change: Callable[[list[Any]], list[Any]], complaint: str) -> None:
    (folder,) = evaluation_folders(kept)
    path = folder / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(type(table).from_pylist(change(table.to_pylist()), schema=table.schema), path)
    write_scores(folder, read_scores(folder, kept).model_copy(update={"predictions": sha256_file(path)}))
    with pytest.raises(StiltsError, match=complaint):
        read_predictions(folder, read_scores(folder, kept), "tagging")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content.update(identity={}), r"its record does not say which columns it read; train it again"),
        (
            lambda content: content["identity"]["tasks"][0]["train"]["en"]["reading"]["data"].update(
                columns={"text": "form"}
            ),
            r"found columns text in its record's identity, accepted tokens, labels among them",
        ),
    ],
)
def test_predict_needs_the_columns_of_training(
    kept: Run, tmp_path: Path, change: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    changed(kept.folder / "record.json", change)
    (tmp_path / "my.txt").write_text("the dog\n")
    with pytest.raises(StiltsError, match=complaint):
        predict_file(Run(kept.folder, read_record(kept.folder)), tmp_path / "my.txt")


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_numbers_that_no_float_holds(kept: Run, number: str) -> None:
    path = kept.folder / "record.json"
    path.write_text(path.read_text().replace('"identity": {', f'"identity": {{"x": {number}, ', 1))
    with pytest.raises(StiltsError, match=rf"record.json: JSON: found {number}, accepted numbers that a float"):
        read_record(kept.folder)


def test_columns_of_predictions_that_are_not_those_of_the_scores(kept: Run) -> None:
    """Of scores from before the majority class and checksums were written down; another file is never read whole."""
    (folder,) = evaluation_folders(kept)
    scores = read_scores(folder, kept).model_copy(update={"majority": {}, "predictions": None})
    table = pq.read_table(folder / "predictions.parquet")
    pq.write_table(table.slice(0, 0), folder / "predictions.parquet")
    for name in ("majority", "gold"):
        with pytest.raises(StiltsError, match=r"found 0 rows, accepted 10, as scores\.json says"):
            getattr(Scored(kept, scores, folder), name)
    empty = [{**row, "gold": []} for row in table.to_pylist()]
    pq.write_table(table.from_pylist(empty, schema=table.schema), folder / "predictions.parquet")
    with pytest.raises(StiltsError, match="nothing to score: 10 examples without a label"):
        _ = Scored(kept, scores, folder).majority


def test_one_label_an_example_of_classification() -> None:
    with pytest.raises(StiltsError, match="an example of classification: found 2 labels, accepted one"):
        score("classification", ("accuracy",), [["a", "b"]], [["a"]])


def remove_others(run: Run, folder: Path) -> None:
    """A run that says something else has evaluations of other names."""
    for other in set(evaluation_folders(run)) - {folder}:
        shutil.rmtree(other)


def walk(workspace: Workspace, run: Run, drawn: random.Random, values: int, every: int) -> int:
    """Every `every`th place of record.json and scores.json with other values, sealed, through the command line; how
    many were refused. Anything but a line ends the test."""
    refused, broken = 0, []
    text = workspace.folder / "my.txt"
    text.write_text("the dog is seven !\n")
    (folder,) = evaluation_folders(run)
    for path in (run.folder / "record.json", folder / "scores.json"):
        whole = path.read_bytes()
        for spot in paths_of(json.loads(whole))[::every]:
            for value in drawn.sample(VALUES, values):
                content = json.loads(whole)
                at = content
                for key in spot[:-1]:
                    at = at[key]
                at[spot[-1]] = value
                seal(path, content)
                for arguments in (("evaluate", run.name), ("compare",), ("predict", run.name, text)):
                    result = command(*arguments, "--runs", workspace.store.folder)
                    if not isinstance(result.exception, SystemExit | None) or "\x1b" in result.output:
                        broken.append((spot, value, arguments[0], result.exception))
                    refused += result.exit_code != 0
                path.write_bytes(whole)
                remove_others(run, folder)
    assert broken == []
    return refused


@pytest.mark.slow
def test_odd_values(whole: tuple[Workspace, Run], kept: Run) -> None:
    assert walk(*whole, random.Random(0), values=1, every=5) > 20


@pytest.mark.slow
def test_odd_values_everywhere(whole: tuple[Workspace, Run], kept: Run) -> None:
    assert walk(*whole, random.Random(1), values=2, every=1) > 300
