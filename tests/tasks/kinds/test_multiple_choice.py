"""Multiple choice: what is encoded, what competes, which batches are cut where, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.choices import COLUMNS, write_choice_task, write_rows
from support.training import Workspace
from torch.nn.functional import cross_entropy

from adapter_stilts.engine.batches import cut_batches, divide, divide_evenly, inference_batches, pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.step import EagerStep, batch_logits
from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.jobs.training_data import load_training_data, shuffle_labels
from adapter_stilts.runs.store import Run, bundle_of
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import EncodedSplit, encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import HeadUse
from adapter_stilts.tasks.kinds.losses import segment_loss
from adapter_stilts.tasks.overlap import shared_texts, text_signatures

KIND = find_kind("multiple_choice")
USE = HeadUse("c", KIND)


def encoded(workspace: Workspace, split: str = "train", **options: Any) -> EncodedSplit:
    task = write_choice_task(workspace.folder / "c", "c", **options)
    return encode_split(task, "en", split, workspace.backbone.tokenizer, label_inventory(task, None))


# --- encoding -------------------------------------------------------------------------------------------------------


def test_sequences_are_those_of_the_tokenizer(workspace: Workspace) -> None:
    rows = [
        {"premise": "the dog is", "asks": "cause", "one": "it was", "two": "that with he", "label": 1},
        {"premise": "it was", "asks": "effect", "one": "to the house", "two": "on", "label": 0},
    ]
    folder = workspace.folder / "c"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        write_rows(folder / f"en-{split}.jsonl", rows)
    columns = "{context: premise, question: asks, choices: [one, two], answer: label}"
    split = encoded(workspace, columns=columns, further='questions: {cause: "for this", effect: "on that"}\n')
    expected = [
        workspace.backbone.tokenizer(text, choice).input_ids
        for text, choice in (
            ("the dog is for this", "it was"),
            ("the dog is for this", "that with he"),
            ("it was on that", "to the house"),
            ("it was on that", "on"),
        )
    ]
    assert [ids.tolist() for ids in np.split(split.ids, split.id_offsets[1:-1])] == expected
    assert (split.example.tolist(), split.targets["right"].tolist()) == ([0, 0, 1, 1], [0, 1, 1, 0])
    assert (split.starts.tolist(), split.ends.tolist(), split.label_names) == ([0] * 4, [1] * 4, ("0", "1"))
    assert KIND.gold is not None
    assert KIND.gold(split, np.array([1, 0])) == [0, 1]


@pytest.mark.parametrize(
    ("columns", "further", "row", "answer"),
    [
        ("{question: q, choices: c.text, keys: c.label, answer: a}", "", {"c": {"label": ["A", "B"]}, "a": "B"}, 1),
        (COLUMNS, "first_answer: 1\n", {"answer": 2}, 1),
        ("{question: q, choices: [one, two], answer: a}", "", {"a": "two"}, 1),
        ("{question: q, choices: [one, two], answer: a}", "", {"a": 0}, 0),
    ],
)
def test_an_answer_is_a_key_a_number_or_a_column(
    workspace: Workspace, columns: str, further: str, row: dict[str, Any], answer: int
) -> None:
    whole = {"q": "the", "question": "the", "one": "x", "two": "y", "choices": ["x", "y"], **row}
    if "c" in whole:
        whole["c"] = {**whole["c"], "text": ["x", "y"]}
    folder = workspace.folder / "c"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        write_rows(folder / f"en-{split}.jsonl", [whole])
    task = write_choice_task(folder, "c", columns, further)
    loaded = load_split(task, "en", "train", None)
    assert (loaded.columns["answer"], loaded.columns["choices"]) == ([answer], [["x", "y"]])


def test_names_of_a_class_label_are_columns_too(workspace: Workspace) -> None:
    """As COPA stands on the Hub: `label` is a ClassLabel of choice1 and choice2."""
    folder = workspace.folder / "c"
    folder.mkdir()
    features = {"label": {"names": ["choice1", "choice2"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"q": ["the", "of"], "choice1": ["a", "b"], "choice2": ["c", "d"], "label": [1, 0]})
    for split in ("train", "validation", "test"):
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"en-{split}.parquet")
    task = write_choice_task(folder, "c", "{question: q, choices: [choice1, choice2], answer: label}")
    task.path.write_text(task.path.read_text().replace("jsonl", "parquet"))
    for path in folder.glob("de-*.jsonl"):
        path.rename(path.with_suffix(".parquet"))
    assert load_split(find_task(str(task.path)), "en", "train", None).columns["answer"] == [1, 0]


# --- what is refused ------------------------------------------------------------------------------------------------

GOOD = {"question": "the", "choices": ["a", "b"], "answer": 0}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"choices": ["a"]}, "choices: found one choice, accepted two or more"),
        ({"choices": []}, "choices: found no choice, accepted two or more"),
        ({"choices": "a"}, "choices: found one text, accepted a list of choices"),
        ({"choices": ["a", " "]}, "choices: found a blank text for choice 2, accepted a text"),
        ({"choices": ["a", "\u200b"]}, "choices: found a blank text for choice 2, accepted a text"),
        ({"choices": ["a", ["b"]]}, "choices: found ['b'], accepted text"),
        ({"choices": ["a", None]}, "choices: found None, accepted text"),
        ({"answer": 2}, "answer: found '2', accepted the number of a choice, 0 to 1"),
        ({"answer": -1}, "answer: found '-1', accepted the number of a choice, 0 to 1"),
        ({"answer": "x"}, "answer: found 'x', accepted the number of a choice, 0 to 1"),
        ({"answer": ["0"]}, "answer: found a list of 1, accepted one text a row"),
        ({"question": ["the"]}, "question: found a list of 1, accepted one text a row"),
    ],
)
@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_malformed_row_is_one_line_with_file_row_and_key(
    workspace: Workspace, file_format: str, row: dict[str, Any], complaint: str
) -> None:
    rows = [GOOD, {**GOOD, **row}]
    folder = workspace.folder / "c"
    task = write_choice_task(folder, "c")
    where = f"{folder / 'en-train.jsonl'}:2"
    if file_format == "parquet":
        if any(isinstance(value, list) != isinstance(GOOD[key], list) for key, value in row.items()) or any(
            isinstance(choice, list) for choice in row.get("choices", ())
        ):
            pytest.skip("a Parquet column has one type")
        rows = [{**row, "answer": str(row["answer"])} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), folder / "en-train.parquet")
        task.path.write_text(
            task.path.read_text()
            .replace("en: {", "en: {format: parquet, ")
            .replace("en-train.jsonl", "en-train.parquet")
        )
        where = f"{folder / 'en-train.parquet'}: row 2"
    else:
        write_rows(folder / "en-train.jsonl", rows)
    with pytest.raises(DataError) as error:
        load_split(find_task(str(task.path)), "en", "train", None)
    assert str(error.value) == f"{where}: {complaint}"


def test_a_question_and_keys_that_are_none(workspace: Workspace) -> None:
    folder = workspace.folder / "c"
    task = write_choice_task(folder, "c", further='questions: {cause: "why"}\n')
    write_rows(folder / "en-train.jsonl", [{**GOOD, "question": "reason"}])
    with pytest.raises(DataError, match=r"en-train\.jsonl:1: question: found 'reason', accepted cause"):
        load_split(task, "en", "train", None)
    keyed = write_choice_task(folder, "d", "{question: question, choices: choices, keys: keys, answer: answer}")
    for keys, complaint in (
        (["A"], r"keys: found the keys A, accepted a key of its own for each of 2 choices"),
        (["A", "A"], r"keys: found the keys A, A, accepted a key of its own"),
        (["A", "B"], r"answer: found '0', accepted A, B"),
    ):
        write_rows(folder / "en-train.jsonl", [{**GOOD, "keys": keys}])
        with pytest.raises(DataError, match=rf"en-train\.jsonl:1: {complaint}"):
            load_split(keyed, "en", "train", None)


# --- what competes, and is never cut ----------------------------------------------------------------------------------


def test_segment_loss_is_cross_entropy_of_each_segment() -> None:
    rng = torch.Generator().manual_seed(0)
    counts, rights = [2, 5, 3, 2], [1, 4, 0, 0]
    scores = torch.randn(sum(counts), generator=rng, dtype=torch.float32, requires_grad=True)
    segment = torch.arange(4).repeat_interleave(torch.tensor(counts))
    first = np.cumsum([0, *counts[:-1]])
    gold = torch.zeros(sum(counts), dtype=torch.long)
    gold[torch.tensor(first + np.array(rights))] = 1
    parts = scores.split(counts)
    pairs = zip(parts, rights, strict=True)
    expected = sum(cross_entropy(part[None], torch.tensor([right]), reduction="sum") for part, right in pairs)
    loss = segment_loss(scores, segment, gold)
    torch.testing.assert_close(loss, expected)
    (wanted,), (computed,) = torch.autograd.grad(expected, scores), torch.autograd.grad(loss, scores)
    torch.testing.assert_close(computed, wanted)
    # What fills up a buffer, a segment of its own without a right unit, adds nothing, however large its scores.
    padded = torch.cat([scores.detach(), torch.full((6,), 1e4)])
    filling = torch.cat([segment, torch.full((6,), len(padded))]), torch.cat([gold, torch.full((6,), -100)])
    torch.testing.assert_close(segment_loss(padded, *filling), expected.detach())


def examples_of(split: EncodedSplit, sequences: Sequence[int] | np.ndarray) -> list[int]:
    """The examples of the sequences; all sequences of each are there, in order."""
    sequences = np.asarray(sequences)
    examples = list(dict.fromkeys(split.example[sequences].tolist()))
    assert sequences.tolist() == [int(sequence) for row in examples for sequence in split.sequences_of(np.array([row]))]
    return examples


def test_no_batch_takes_an_example_apart(workspace: Workspace) -> None:
    split = encoded(workspace)
    assert set(np.bincount(split.example)) == {3, 4}
    order = np.random.default_rng(0).permutation(split.examples)
    for cut in (cut_batches(split, order, 7, None), cut_batches(split, order, None, 60)):
        assert [row for batch in cut for row in examples_of(split, batch)] == order.tolist()
    batches = list(inference_batches(split, split.sequences_of(np.arange(split.examples)), KIND, 150))
    assert sorted(row for batch in batches for row in examples_of(split, batch)) == list(range(split.examples))
    assert max(int(split.lengths[batch].sum()) for batch in batches) <= 150
    batch = pack(split, cut_batches(split, order, 20, None)[0], USE, 2)
    assert batch.terms == len(examples_of(split, batch.sequences)) == 20
    for parts in (list(divide(batch, 40)), list(divide_evenly(batch, 4))):
        assert len(parts) > 1
        assert sum(part.terms for part in parts) == 20
        assert [row for part in parts for row in examples_of(split, part.sequences)] == examples_of(
            split, batch.sequences
        )
        for part in parts:
            alone = pack(split, part.sequences, USE, 2)
            for name in ("input_ids", "position_ids", "pieces", "segment"):
                assert getattr(part, name).tolist() == getattr(alone, name).tolist(), name
            assert part.targets["right"].tolist() == alone.targets["right"].tolist()


def test_the_captured_step_is_the_eager_one(workspace: Workspace) -> None:
    job = workspace.job(write_choice_task(workspace.folder / "c", "c"))
    data = load_training_data(job)
    losses = []
    for step_type in (EagerStep, CapturedStep):
        model = build_model(job, data).train()
        extra = {"capacities": (64, 128, 256)} if step_type is CapturedStep else {}
        step = step_type(model, job.recipe, 6, "float32", **extra)
        for first in range(0, 48, 8):
            rng = np.random.default_rng(0)
            batches = cut_batches(data.tasks[0].train, np.arange(first, first + 8), 4, None)
            step([make_batch(job, data.tasks[0], batch, step.batches_on, rng) for batch in batches])
        losses.append(step.losses())
        step.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][0] == pytest.approx(np.log([3, 4]).mean(), abs=0.4)


# --- answers --------------------------------------------------------------------------------------------------------


def test_shuffled_answers_are_one_an_example_and_no_answers(workspace: Workspace) -> None:
    split = encoded(workspace)
    shuffled = shuffle_labels(split, "multiple_choice", 3)
    assert KIND.gold is not None
    every = np.arange(split.examples)
    assert np.bincount(split.example, weights=shuffled.targets["right"]).tolist() == [1.0] * split.examples
    same = np.mean(np.array(KIND.gold(split, every)) == np.array(KIND.gold(shuffled, every)))
    assert 0.1 < same < 0.6
    assert shuffle_labels(split, "multiple_choice", 3).targets["right"].tolist() == shuffled.targets["right"].tolist()


def test_trained_and_scored_beside_its_floor_and_by_plain_adapters(workspace: Workspace) -> None:
    """The right choice is the one with the highest logit of `adapters`' own head, loaded without this package."""
    from adapters import AutoAdapterModel

    task, below = write_choice_task(workspace.folder / "c", "c"), write_choice_task(workspace.folder / "b", "b", seed=1)
    run = workspace.train(task, over=[below])
    scores = evaluate(run, runs=workspace.store, device="cpu")
    predictions = read_predictions(next((run.folder / "evaluations").iterdir()), scores, "multiple_choice")
    rows = [json.loads(line) for line in (workspace.folder / "c" / "en-test.jsonl").read_text().splitlines()]
    gold = [row["answer"] for row in rows]
    assert list(predictions["en"].gold) == gold
    right = np.array(predictions["en"].predicted) == np.array(gold)
    assert scores.languages["en"]["accuracy"] == pytest.approx(100 * right.mean())
    assert scores.majority["en"] == pytest.approx(100 * np.bincount(gold).max() / len(gold))
    assert "unseen_gold" not in scores.languages["en"]
    assert run.record.development_majority is not None

    plain = AutoAdapterModel.from_pretrained(workspace.folder / "tiny")
    plain.load_adapter_setup(str(bundle_of(run)), set_active=True, use_safetensors=True)
    plain.eval()
    model, manifest = load_bundle(bundle_of(run), workspace.backbone)
    assert plain.heads["c"].config["num_choices"] == len(manifest.labels) == 4
    split = encode_split(task, "en", "test", workspace.backbone.tokenizer, manifest.labels)
    whole = [row for row in range(split.examples) if len(rows[row]["choices"]) == 4]
    for row in whole[:5]:
        texts = [rows[row]["question"].strip()] * 4
        inputs = workspace.backbone.tokenizer(texts, rows[row]["choices"], padding=True, return_tensors="pt")
        with torch.no_grad():
            expected = plain(**inputs).logits[0]
            batch = pack(split, split.sequences_of(np.array([row])), USE, 2)
            logits = batch_logits(model, batch).squeeze(1)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        assert predictions["en"].predicted[row] == int(expected.argmax())


def test_predict_gives_back_what_is_scored_in_the_file_s_own_form(workspace: Workspace, tmp_path: Path) -> None:
    """By number from `first_answer` on, by key, in JSON lines, Parquet and TSV: the answers of the evaluation."""
    folder = workspace.folder / "c"
    write_choice_task(folder, "c")
    rows = {path: read_rows(path) for path in sorted(folder.glob("*.jsonl"))}
    for path, lines in rows.items():
        for line in lines:
            line["keys"] = list("DCBA")[: len(line["choices"])]
            line["key"] = line["keys"][line["answer"]]
            line["answer"] += 1
        write_rows(path, lines)
    numbered = write_choice_task(folder, "n", further="first_answer: 1\n")
    keyed = write_choice_task(folder, "k", "{question: question, choices: choices, keys: keys, answer: key}")
    for task in (numbered, keyed):
        run = workspace.train(task)
        scores = evaluate(run, runs=workspace.store, device="cpu")
        scored = read_predictions(next((run.folder / "evaluations").iterdir()), scores, "multiple_choice")["en"]
        assert len(set(scored.predicted)) > 1
        test = folder / "en-test.jsonl"
        expected: list[Any] = [answer + 1 for answer in scored.predicted]
        if task is keyed:
            expected = ["DCBA"[answer] for answer in scored.predicted]
        role = "key" if task is keyed else "answer"
        written = [json.loads(line) for line in predict_file(run, test).decode().splitlines()]
        assert [line[role] for line in written] == expected
        assert [{**line, role: None} for line in written] == [{**line, role: None} for line in rows[test]]
        pq.write_table(pa.Table.from_pylist(rows[test]), tmp_path / "mine.parquet")
        (tmp_path / "back.parquet").write_bytes(predict_file(run, tmp_path / "mine.parquet"))
        assert pq.read_table(tmp_path / "back.parquet")[role].to_pylist() == expected
    four = [line for line in rows[test] if len(line["choices"]) == 3]
    table = [["question", "a", "b", "c"], *([line["question"], *line["choices"]] for line in four)]
    (tmp_path / "mine.tsv").write_text("".join("\t".join(row) + "\n" for row in table), encoding="utf-8")
    run = workspace.train(numbered)
    lines = predict_file(run, tmp_path / "mine.tsv", columns={"choices": "a+b+c"}).decode().splitlines()
    same = [
        answer for answer, line in zip(numbers_of(run, workspace), rows[test], strict=True) if len(line["choices"]) == 3
    ]
    assert [line.split("\t")[-1] for line in lines] == ["answer", *map(str, same)]
    write_rows(tmp_path / "broken.jsonl", [{"question": "dog ?", "choices": ["dog"]}])
    with pytest.raises(DataError, match=r"broken\.jsonl:1: choices: found one choice, accepted two or more"):
        predict_file(run, tmp_path / "broken.jsonl")


def numbers_of(run: Run, workspace: Workspace) -> list[int]:
    """What predict writes for the English test data of a task whose first answer is 1."""
    scores = evaluate(run, runs=workspace.store, device="cpu")
    kept = read_predictions(next((run.folder / "evaluations").iterdir()), scores, "multiple_choice")
    return [answer + 1 for answer in kept["en"].predicted]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_answer_column_inside_another_is_not_left_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.folder / "c"
    write_choice_task(folder, "c")
    for path in folder.glob("*.jsonl"):
        write_rows(path, [{**row, "gold": {"number": row["answer"]}} for row in read_rows(path)])
    run = workspace.train(
        write_choice_task(folder, "inner", "{question: question, choices: choices, answer: gold.number}")
    )
    with pytest.raises(UsageError, match=r"--columns: found 'gold\.number', which is inside 'gold'"):
        predict_file(run, folder / "en-test.jsonl")
    written = predict_file(run, folder / "en-test.jsonl", columns={"answer": "mine"}).decode().splitlines()
    assert {type(json.loads(line)["mine"]) for line in written} == {int}


def test_a_number_is_a_number_also_where_columns_are_called_so(workspace: Workspace) -> None:
    """So what predict writes is read back as the same choice."""
    folder = workspace.folder / "c"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        write_rows(folder / f"en-{split}.jsonl", [{"q": "the", "1": "x", "2": "y", "a": "1"}])
    task = write_choice_task(folder, "c", '{question: q, choices: ["1", "2"], answer: a}')
    assert load_split(task, "en", "train", None).columns["answer"] == [1]
    features = {"a": {"names": ["1", "2"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(
        pa.table({"q": ["the"] * 2, "1": ["x"] * 2, "2": ["y"] * 2, "a": [0, 1]}).replace_schema_metadata(metadata),
        folder / "en-train.parquet",
    )
    text = task.path.read_text().replace("en: {", "en: {format: parquet, ")
    task.path.write_text(text.replace("en-train.jsonl", "en-train.parquet"))
    assert load_split(find_task(str(task.path)), "en", "train", None).columns["answer"] == [0, 1]


def test_choices_of_one_text_are_one(workspace: Workspace) -> None:
    folder = workspace.folder / "c"
    folder.mkdir()
    rows = [{"question": "the", "choices": ["a", "b", "b"], "answer": 2}]
    for split in ("train", "validation", "test"):
        write_rows(folder / f"en-{split}.jsonl", rows)
    task = write_choice_task(folder, "c")
    split = encode_split(task, "en", "train", workspace.backbone.tokenizer, label_inventory(task, None))
    assert KIND.gold is not None
    assert KIND.join is not None
    assert KIND.gold(split, np.array([0])) == [1]
    for scores in ([0.0, 1.0, 1.0 + 1e-7], [0.0, 1.0 + 1e-7, 1.0]):
        assert KIND.join({"score": np.array(scores)}, split, np.array([0])) == [1]


def test_a_long_context_is_cut_and_the_question_stays(workspace: Workspace) -> None:
    folder = workspace.folder / "c"
    folder.mkdir()
    rows = [{"p": "the of " * 300, "q": text, "choices": ["a", "b"], "answer": 0} for text in ("it was", "in that")]
    for split in ("train", "validation", "test"):
        write_rows(folder / f"en-{split}.jsonl", rows)
    task = write_choice_task(folder, "c", "{context: p, question: q, choices: choices, answer: answer}")
    split = encode_split(task, "en", "train", workspace.backbone.tokenizer, label_inventory(task, None))
    sequences = np.split(split.ids, split.id_offsets[1:-1])
    assert {len(ids) for ids in sequences} == {512}
    for row, text in enumerate(("it was", "in that")):
        question = workspace.backbone.tokenizer(text, add_special_tokens=False).input_ids
        at = int(split.text_starts[2 * row] - split.id_offsets[2 * row])
        assert sequences[2 * row][at : at + len(question)].tolist() == question


def test_the_leak_check_sees_a_context_whatever_is_asked_of_it(workspace: Workspace) -> None:
    premises = [f"the house of {word} was for the dogs and cats to be in" for word in ("it", "that", "he", "this")]
    signatures = []
    for name, columns, further in (
        ("a", "{context: p, question: q, choices: choices, answer: answer}", ""),
        (
            "b",
            "{context: p, question: q, choices: choices, answer: answer}",
            'questions: {why: "and what was it for"}\n',
        ),
        ("c", "{question: p, choices: choices, answer: answer}", ""),
    ):
        folder = workspace.folder / name
        folder.mkdir()
        for split in ("train", "validation", "test"):
            rows = [{"p": text, "q": "why", "choices": ["+", "-"], "answer": 0} for text in premises]
            write_rows(folder / f"en-{split}.jsonl", rows)
        task = write_choice_task(folder, name, columns, further)
        split_ = encode_split(task, "en", "train", workspace.backbone.tokenizer, label_inventory(task, None))
        signatures.append(text_signatures(split_, np.arange(4), workspace.backbone.tokenizer))
    assert [len(each) for each in signatures] == [4, 4, 4]
    assert shared_texts(signatures[0], signatures[1]) == shared_texts(signatures[0], signatures[2]) == 4


def test_official_files(tmp_path: Path) -> None:
    """XTREME's own: JSON lines with `label` for choices, a tag a line with blank lines between sentences, a label a
    line."""
    for kind, answers, expected in (
        ("multiple_choice", [1, 0], '{"label": 1}\n{"label": 0}\n'),
        ("tagging", [["NOUN", "X"], ["DET"]], "NOUN\nX\n\nDET\n"),
        ("classification", [["neutral"], ["entailment"]], "neutral\nentailment\n"),
    ):
        write = find_kind(kind).write_official
        assert write is not None
        write(answers, tmp_path / "test-en.txt")
        assert (tmp_path / "test-en.txt").read_text() == expected


# --- real data --------------------------------------------------------------------------------------------------------


def test_commonsenseqa_and_xcopa_of_the_mirror(hub_mirror: Path) -> None:
    commonsense = load_split(find_task("commonsenseqa"), "en", "validation", hub_mirror)
    raw = pq.read_table(next((hub_mirror / "tau/commonsense_qa/default").glob("validation-*"))).to_pylist()
    assert len(commonsense.columns["answer"]) == 1221
    assert commonsense.columns["answer"] == ["ABCDE".index(row["answerKey"]) for row in raw]
    assert commonsense.columns["choices"] == [row["choices"]["text"] for row in raw]
    xcopa = find_task("xcopa")
    test = load_split(xcopa, "qu", "test", hub_mirror)
    raw = pq.read_table(next((hub_mirror / "cambridgeltl/xcopa/qu").glob("test-*"))).to_pylist()
    assert test.columns["answer"] == [row["label"] for row in raw]
    asked = {"cause": "What was the cause?", "effect": "What was the effect?"}
    assert test.columns["question"] == [asked[row["question"]] for row in raw]
    english = [len(load_split(xcopa, "en", split, hub_mirror).columns["answer"]) for split in ("train", "validation")]
    assert english == [640, 160]
    assert label_inventory(xcopa, hub_mirror) == ("0", "1")
