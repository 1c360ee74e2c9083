"""What is scored is what was named: the task as it is now, read as the run was trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.training import (
    GERMAN,
    Workspace,
    draw_sentences,
    english_task,
    pairs_task,
    write_conllu,
)

from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.scored_task import check_languages, task_of
from adapter_stilts.evaluation.zero_shot import evaluate, load_run
from adapter_stilts.runs.record import read_record
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task

LANGUAGES = (
    "{en: {train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}, de: {test: de-test.conllu}}"
)


def version(workspace: Workspace, name: str, german: str, **options: Any) -> Task:
    """The task in a folder of that name; all German words have the label `german`."""
    folder = workspace.folder / name
    sentences = [[(word, german) for word, _ in sentence] for sentence in draw_sentences(GERMAN, 6, 4)]
    write_conllu(folder / "de-test.conllu", sentences)
    return english_task(folder, languages=options.pop("languages", LANGUAGES), **options)


def quick(workspace: Workspace, task: Task, **options: Any) -> Run:
    return workspace.train(task, method="head", settings={"epochs": "1"}, **options)


def score(workspace: Workspace, run: Run | str, *task: Any, **options: Any) -> Any:
    return evaluate(run, *task, runs=workspace.store, device="cpu", **options)


def test_the_second_yaml_is_what_is_scored(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal training data, another German test file."""
    first, second = version(workspace, "v1", "A"), version(workspace, "v2", "B")
    run = quick(workspace, first)
    before = score(workspace, run.name)
    again = quick(workspace, second)
    assert again.name == run.name
    assert f"{run.name}: evaluated on {second.path} from now on (before: {first.path})\n" in capsys.readouterr().err
    after = score(workspace, run.name)
    assert f"scored on the test data of {second.path}\n" in capsys.readouterr().err
    assert before.languages["en"] == after.languages["en"]
    assert before.test_data["en"] == after.test_data["en"]
    assert before.test_data["de"] != after.test_data["de"]
    assert before.languages["de"]["accuracy"] + after.languages["de"]["accuracy"] <= 100
    # Each by name again, without being scored again.
    assert score(workspace, run.name, first.path) == before
    assert score(workspace, run.name, str(second.path)) == score(workspace, run.name, second) == after
    notes = workspace.store.find(run.name).record.scores
    assert sorted(note["test_data"]["de"] for note in notes.values()) == sorted(
        scores.test_data["de"] for scores in (before, after)
    )


def test_an_edited_test_file_is_scored_anew(workspace: Workspace) -> None:
    task = version(workspace, "v1", "A")
    run = quick(workspace, task)
    before = score(workspace, run)
    version(workspace, "v1", "B")
    after = score(workspace, run)
    assert after.test_data["de"] != before.test_data["de"]
    assert len(workspace.store.find(run.name).record.scores) == 2


def test_a_yaml_that_has_moved(workspace: Workspace) -> None:
    run = quick(workspace, version(workspace, "a", "A"))
    before = score(workspace, run)
    (workspace.folder / "a").rename(workspace.folder / "b")
    moved = workspace.folder / "b" / "tags.yaml"
    with pytest.raises(UsageError) as gone:
        score(workspace, run.name)
    assert str(gone.value) == (
        f"{workspace.folder / 'a' / 'tags.yaml'}: found no such file, accepted with --task FILE: the YAML of "
        f"{run.name}'s task"
    )
    assert score(workspace, run.name, moved) == before
    assert quick(workspace, find_task(str(moved))).record.task.config == str(moved)
    assert score(workspace, run.name) == before
    assert len(workspace.store.find(run.name).record.scores) == 1


def test_a_folder_of_runs_that_cannot_be_written_keeps_its_task(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = version(workspace, "v1", "A"), version(workspace, "v2", "B")
    run = quick(workspace, first)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("adapter_stilts.runs.update.write_record", refuse)
    assert quick(workspace, second).record.task.config == str(first.path)
    assert f"evaluated on {first.path} as before; see --task" in capsys.readouterr().err
    assert read_record(run.folder).task.config == str(first.path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("labels: upos}", "labels: deprel}", r":\d+: data\.columns\.labels: found deprel, accepted upos, as "),
        ("labels: [A, B, C]", "labels: open", r":\d+: labels: found open, accepted A, B, C, as "),
        (
            "labels: [A, B, C]",
            "labels: [A, B, C]\nlabel_until: ':'",
            r":\d+: label_until: found :, accepted nothing, as ",
        ),
        (
            "word_piece: first_content",
            "word_piece: first",
            r":\d+: word_piece: found first, accepted first_content, as ",
        ),
        ("name: tags", "name: other", r":1: name: found other, accepted tags, as "),
        ("version: 1", "version: 2", r":2: version: found 2, accepted 1, as "),
    ],
)
def test_what_training_read_otherwise_is_refused(workspace: Workspace, old: str, new: str, complaint: str) -> None:
    task = version(workspace, "v1", "A")
    run = quick(workspace, task)
    edited = task.path.read_text().replace(old, new)
    assert edited != task.path.read_text()
    copy = task.path.with_name("copy.yaml")
    copy.write_text(edited)
    with pytest.raises(UsageError, match=rf"^{copy}{complaint}{run.name} was trained$"):
        score(workspace, run, copy)
    task.path.write_text(edited)
    with pytest.raises(UsageError, match=rf"^{task.path}{complaint}{run.name} was trained$"):
        score(workspace, run)
    assert not (run.folder / "evaluations").exists()


def test_columns_of_the_training_language_alone(workspace: Workspace) -> None:
    run = quick(workspace, version(workspace, "v1", "A"))
    languages = LANGUAGES.replace("{train", "{columns: {tokens: form, labels: xpos}, train")
    with pytest.raises(UsageError, match=r"data\.languages\.en\.columns: found .*xpos.*, accepted nothing, as "):
        score(workspace, run, version(workspace, "v2", "A", languages=languages))


def test_a_yaml_of_other_languages(workspace: Workspace) -> None:
    """A test set in a language that the run's own YAML does not have, read in the same way."""
    run = quick(workspace, version(workspace, "v1", "A"))
    folder = workspace.folder / "more"
    write_conllu(folder / "nl.conllu", draw_sentences(GERMAN, 5, 1))
    text = Path(run.record.task.config).read_text().partition("  languages:")[0]
    text += "  languages: {nl: {test: nl.conllu}}\ntrain_language: nl\n"
    (folder / "tags.yaml").write_text(text)
    scores = score(workspace, run, folder / "tags.yaml")
    assert (list(scores.languages), scores.trained_languages) == (["nl"], ("en",))
    (folder / "tags.yaml").write_text(text.replace("labels: upos", "labels: xpos"))
    with pytest.raises(UsageError, match=r"data\.columns\.labels: found xpos, accepted upos"):
        score(workspace, run, folder / "tags.yaml")


def test_metrics_edited_after_training(workspace: Workspace) -> None:
    """Scored in the metrics that the YAML has now; nothing of the old evaluation is taken for the new one."""
    task = version(workspace, "v1", "A")
    run = quick(workspace, task)
    assert score(workspace, run).mean.keys() == {"accuracy"}
    task.path.write_text(task.path.read_text().replace("metrics: [accuracy]", "metrics: [accuracy, official_tag_f1]"))
    after = score(workspace, run)
    assert (after.metrics, after.mean.keys()) == (("accuracy", "official_tag_f1"), {"accuracy", "f1"})
    assert set(after.majority) == {"en", "de"}
    assert len(workspace.store.find(run.name).record.scores) == 2


def test_missing_languages_are_those_of_the_yaml_that_was_named(workspace: Workspace) -> None:
    """Two YAMLs with the same test data, and each another language without any."""
    french = LANGUAGES.replace("{en:", "{fr: {train: en-train.conllu}, en:")
    first, second = version(workspace, "v1", "A", languages=french), version(workspace, "v2", "A")
    run = quick(workspace, first)
    assert list(score(workspace, run, first).missing) == ["fr"]
    assert list(score(workspace, run, second).missing) == []
    assert len(workspace.store.find(run.name).record.scores) == 1


def test_task_of_without_a_word_is_the_one_of_the_record(workspace: Workspace) -> None:
    task = version(workspace, "v1", "A")
    run = quick(workspace, task)
    assert task_of(run) == task_of(run, task) == task_of(run, str(task.path)) == task
    pairs = pairs_task(workspace.folder / "pairs")
    with pytest.raises(UsageError, match=r"pairs\.yaml:1: name: found pairs, accepted tags, as "):
        task_of(run, pairs)


def test_languages_as_one_text(workspace: Workspace) -> None:
    task = version(workspace, "v1", "A")
    assert check_languages(task, "de") == ["de"]
    assert check_languages(task, "de, en,de") == ["de", "en"]
    assert check_languages(task, None) == ["en", "de"]
    for wrong, complaint in (("d", "'d'"), ("", "''"), ([], "none"), (["de", "fr"], "'fr'")):
        with pytest.raises(UsageError, match=rf"^--languages: found {complaint}, accepted for tags: en, de$"):
            check_languages(task, wrong)
    run = quick(workspace, task)
    assert list(score(workspace, run, languages="de").languages) == ["de"]


def test_load_run_takes_what_the_command_line_takes(workspace: Workspace) -> None:
    run = quick(workspace, version(workspace, "v1", "A"))
    for named in (run, run.name, run.name[:8], str(run.folder)):
        _, manifest, backbone = load_run(named, runs=workspace.store)
        assert (manifest.task, backbone.id) == ("tags", workspace.backbone.id)
    with pytest.raises(UsageError, match=r"^run 'nothing': "):
        load_run("nothing", runs=workspace.store)


def test_a_language_trained_on_is_left_out_of_the_mean(workspace: Workspace) -> None:
    """Trained in German: `en` is zero-shot like any other language."""
    german = LANGUAGES.replace("de: {", "de: {train: de-train.conllu, validation: de-train.conllu, ")
    folder = workspace.folder / "v1"
    write_conllu(folder / "de-train.conllu", draw_sentences(GERMAN, 12, 5))
    task = version(workspace, "v1", "A", languages=german)
    run = quick(workspace, task, languages=["de"])
    scores = score(workspace, run)
    assert scores.trained_languages == ("de",)
    assert scores.mean_zero_shot == {"accuracy": scores.languages["en"]["accuracy"]}


def test_an_evaluation_without_its_scores_is_made_again(workspace: Workspace) -> None:
    run = quick(workspace, version(workspace, "v1", "A"))
    before = score(workspace, run)
    (path,) = run.folder.glob("evaluations/*/scores.json")
    path.unlink()
    assert score(workspace, run) == before
    shutil.copytree(path.parent, path.parent.with_name(f".{path.parent.name}.abc.partial"))
    assert score(workspace, run) == before
