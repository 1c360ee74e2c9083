"""Training texts in a task's own development and test data: counted, said, recorded; an intermediate's: refused."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from support.training import (
    BOTTLENECK,
    ENGLISH,
    FULL,
    GERMAN,
    HEAD,
    Sentence,
    Workspace,
    draw_sentences,
    write_conllu,
    write_task,
)

from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.leaks import Leak, leak_line
from adapter_stilts.runs.record import read_record
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Task
from adapter_stilts.tasks import overlap

FILES = "{train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}"
LANGUAGES = f"{{en: {FILES}, de: {{test: de-test.conllu}}}}"


def long_sentences(words: list[str], count: int, seed: int) -> list[list[tuple[str, str]]]:
    """Sentences of 20 words, all different and long enough to be counted."""
    drawn = draw_sentences(words, count * 20, seed, longest=1)
    return [[pair for sentence in drawn[20 * row : 20 * row + 20] for pair in sentence] for row in range(count)]


def task_of(
    workspace: Workspace, name: str, files: Mapping[str, Sequence[Sentence]], languages: str = LANGUAGES
) -> Task:
    for file, sentences in files.items():
        write_conllu(workspace.folder / name / f"{file}.conllu", sentences)
    return write_task(workspace.folder / name, name, languages=languages)


def quick(workspace: Workspace, task: Task, **options: Any) -> Run:
    return workspace.train(task, settings={"epochs": "1"}, **options)


def test_shared_texts_are_counted_by_language_and_recorded(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    train, other = long_sentences(ENGLISH, 30, 1), long_sentences(ENGLISH, 20, 2)
    german = long_sentences(GERMAN, 20, 3)
    files = {"en-train": train, "en-dev": other, "en-test": [*train[:3], *other[:17]]}
    task = task_of(workspace, "shared", {**files, "de-test": [*german[:18], *train[5:7]]})
    run = quick(workspace, task)
    assert run.record.leaks == (Leak(task="shared", language="en", split="test", texts=20, shared=3, identical=False),)
    line = f"{run.name}: trained on texts that it is scored on: en test (3 of 20 texts)\n"
    assert capsys.readouterr().err.startswith(line)
    scores = evaluate(run, runs=workspace.store, device="cpu")
    assert [(leak.language, leak.shared, leak.texts) for leak in scores.leaks or ()] == [("en", 3, 20), ("de", 2, 20)]
    assert evaluate(run, split="validation", runs=workspace.store, device="cpu").leaks == ()
    assert evaluate(run, split="train", runs=workspace.store, device="cpu", languages="en").leaks == ()
    quick(workspace, task)
    assert line in capsys.readouterr().err


def test_the_same_file_is_told_however_short_its_texts(workspace: Workspace) -> None:
    short = draw_sentences(ENGLISH, 8, 1, longest=2)
    run = quick(
        workspace, task_of(workspace, "same", dict.fromkeys(("en-train", "en-dev", "en-test", "de-test"), short))
    )
    assert [(leak.split, leak.shared, leak.identical) for leak in run.record.leaks or ()] == [
        ("validation", 0, True),
        ("test", 0, True),
    ]
    leaks = evaluate(run, runs=workspace.store, device="cpu").leaks
    assert leak_line(leaks or ()) == (
        "trained on texts that it is scored on: en test (the training data itself), de test (the training data itself)"
    )


def test_one_file_with_rows_of_several_languages_is_no_leak(workspace: Workspace) -> None:
    """A filter tells them apart, so equal bytes are not equal rows."""
    folder = workspace.folder / "rows"
    folder.mkdir()
    pairs = [
        (code, sentence) for seed, code in enumerate(("en", "de")) for sentence in draw_sentences(ENGLISH, 9, seed)
    ]
    rows = [
        json.dumps({"lang": code, "tokens": [word for word, _ in sentence], "tags": [tag for _, tag in sentence]})
        for code, sentence in pairs
    ]
    (folder / "all.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    fields = {"name": "rows", "version": 1, "labels": "[A, B, C]", "word_piece": "first", "metrics": "[accuracy]"}
    data = (
        "data:\n  format: jsonl\n  columns: {tokens: tokens, labels: tags}\n  languages:\n"
        "    en: {filter: {lang: [en]}, train: all.jsonl, validation: all.jsonl}\n"
        "    de: {filter: {lang: [de]}, test: all.jsonl}\n"
    )
    head = HEAD.format(kind="tagging", bottleneck=BOTTLENECK, full=FULL, **fields)
    (folder / "rows.yaml").write_text(head + data)
    run = workspace.train(str(folder / "rows.yaml"), settings={"epochs": "1"})
    assert [(leak.language, leak.split, leak.identical) for leak in run.record.leaks or ()] == [
        ("en", "validation", True)
    ]
    assert evaluate(run, runs=workspace.store, device="cpu").leaks == ()


def test_an_old_record_says_nothing_and_is_not_looked_into(workspace: Workspace) -> None:
    train = long_sentences(ENGLISH, 30, 1)
    run = quick(
        workspace, task_of(workspace, "old", {"en-train": train, "en-dev": train, "en-test": train, "de-test": train})
    )
    # Format 2 had neither leaks nor a seal.
    record = json.loads((run.folder / "record.json").read_text())
    before = {key: value for key, value in record.items() if key not in ("leaks", "seal", "trained_on")}
    (run.folder / "record.json").write_text(json.dumps({**before, "format": 2}))
    assert read_record(run.folder).leaks is None
    (run.folder / "trained_on.safetensors").unlink()
    assert evaluate(workspace.store.find(run.name), runs=workspace.store, device="cpu").leaks is None


def test_an_intermediate_that_trained_on_the_sentences_now_scored_is_refused(workspace: Workspace) -> None:
    """Training found nothing wrong; then the test file changed."""
    seen, unseen = long_sentences(ENGLISH, 30, 1), long_sentences(ENGLISH, 30, 2)
    below = quick(
        workspace,
        task_of(
            workspace,
            "below",
            {"en-train": seen, "en-dev": unseen, "en-test": unseen, "de-test": []},
            f"{{en: {FILES}}}",
        ),
    )
    files = {"en-train": long_sentences(ENGLISH, 20, 3), "en-dev": unseen, "en-test": unseen, "de-test": unseen}
    run = quick(workspace, task_of(workspace, "above", files), over=[below])
    assert evaluate(run, runs=workspace.store, device="cpu").leaks == ()
    task_of(workspace, "above", {**files, "en-test": [*unseen[:20], *seen[:10]]})
    with pytest.raises(UsageError) as raised:
        evaluate(run, runs=workspace.store, device="cpu")
    assert str(raised.value) == (
        f"{run.name}: its intermediate {below.name}: trained on 10 of the 30 test sentences of above "
        "(en, en-test.conllu; by content), accepted an intermediate that never saw them"
    )
    assert len(list((run.folder / "evaluations").iterdir())) == 1
    # Without that language, nothing is wrong.
    assert list(evaluate(run, languages="de", runs=workspace.store, device="cpu").languages) == ["de"]


def test_signatures_are_computed_once_and_damage_is_made_good(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = long_sentences(ENGLISH, 30, 1)
    files = {"en-train": train, "en-dev": train[:10], "en-test": train[10:15], "de-test": train[20:]}
    run = quick(workspace, task_of(workspace, "once", files))
    first = evaluate(run, runs=workspace.store, device="cpu").leaks
    cached = sorted((workspace.folder / "cache" / "signatures").iterdir())
    assert len(cached) == 3
    for path in cached:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    capsys.readouterr()
    assert evaluate(run, limit=2, runs=workspace.store, device="cpu").leaks == first
    assert capsys.readouterr().err.count(".arrow: damaged, made anew\n") == 2
    monkeypatch.setattr(overlap, "text_signatures", lambda *_: pytest.fail("computed again"))
    assert evaluate(run, limit=3, runs=workspace.store, device="cpu").leaks == first
