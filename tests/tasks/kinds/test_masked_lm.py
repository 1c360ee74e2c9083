"""Text without labels: all its pieces are read, in windows; what such a task's YAML may say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import tiny_backbone_folder
from support.training import TEXT_TASK, encoded_split, make_workspace, text_task, use_of

from adapter_stilts.engine.batches import pack
from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.tasks.catalog import find_task, find_tasks
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import concatenate, encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.kinds import find_kind, masked_lm
from adapter_stilts.tasks.kinds.contract import HeadSpec, WordPieceOptions
from adapter_stilts.tasks.tokenizing import tokenize_texts

# --- encoding -------------------------------------------------------------------------------------------------------


def test_pieces_by_hand(tokenizer: Any) -> None:
    short, deleted = masked_lm.encode({"text": ["the of 你好", "\u200b"]}, tokenizer, WordPieceOptions())
    assert tokenizer.convert_ids_to_tokens(short.input_ids) == ["<s>", "▁the", "▁of", "▁", "你", "好", "</s>"]
    assert tokenizer.convert_ids_to_tokens(deleted.input_ids) == ["<s>", "<unk>", "</s>"]
    assert [(sequence.example, sequence.starts, sequence.ends) for sequence in (short, deleted)] == [
        (0, [], []),
        (1, [], []),
    ]


@pytest.mark.parametrize(("words", "lengths"), [(510, [510]), (511, [255, 256]), (1021, [340, 340, 341])])
def test_long_text_becomes_even_windows_of_all_its_pieces(tokenizer: Any, words: int, lengths: list[int]) -> None:
    text = " ".join(str(word) for word in np.random.default_rng(0).choice(["the", "of", "and"], words))
    windows = list(masked_lm.encode({"text": ["a", text]}, tokenizer, WordPieceOptions()))[1:]
    assert [len(window.input_ids) - 2 for window in windows] == lengths
    assert {window.example for window in windows} == {1}
    assert {(window.input_ids[0], window.input_ids[-1]) for window in windows} == {(0, 2)}
    assert [id_ for window in windows for id_ in window.input_ids[1:-1]] == tokenizer(text).input_ids[1:-1]


@pytest.mark.slow
def test_split_without_units_is_packed(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_workspace(tmp_path, monkeypatch)
    task = find_task(str(text_task(tmp_path / "task")))
    assert label_inventory(task, None) == ()
    split = encode_split(task, "en", "train", tokenizer, ())
    assert (split.examples, split.label_names, split.trained) == (2, (), 0)
    assert (split.unit_offsets.tolist(), split.targets) == ([0, 0, 0], {})
    assert not find_kind(task.kind).has_answers
    batch = pack(split, np.array([1, 0]), use_of("text", "masked_lm"), 2)
    texts = tokenizer.convert_ids_to_tokens(batch.input_ids.tolist())
    assert texts == ["<s>", "▁the", "▁of", "</s>", "<s>", "▁", "你", "好", "▁and", "</s>"]
    assert (batch.targets["label"].tolist(), batch.pieces.tolist(), batch.unit_of_piece) == ([], [], None)


def test_mirror_text_is_read_whole(
    hub_mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, embedded_tokenizer: Any
) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path))
    task = find_task("mlm_text")
    parts = [encode_split(task, code, "validation", embedded_tokenizer, (), hub_mirror) for code in ("te", "th")]
    both = concatenate(parts)
    # 5% of 870 and of 3,000 lines, as the repository's table counts them
    assert (both.language, [part.examples for part in parts], both.examples) == ("te+th", [44, 150], 194)
    texts = [text for code in ("te", "th") for text in load_split(task, code, "validation", hub_mirror).columns["text"]]
    expected = embedded_tokenizer(texts, add_special_tokens=False).input_ids
    read: list[list[int]] = [[] for _ in texts]
    for sequence, example in enumerate(both.example):
        ids = both.ids[both.id_offsets[sequence] : both.id_offsets[sequence + 1]].tolist()
        assert (ids[0], ids[-1]) == (0, 2)
        read[example].extend(ids[1:-1])
    assert read == expected


# --- the YAML -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[accuracy]",
            "[span_f1, accuracy]",
            ":10: metrics[0]: found 'span_f1', accepted accuracy (kind masked_lm)",
        ),
        ("data:", "labels: open\ndata:", ":12: labels: found labels, accepted none (kind masked_lm has no labels)"),
        (
            "{text: words}",
            "{text: words, label: y}",
            ":14: data.columns.label: found an unknown column, accepted text (",
        ),
        (
            "format: tsv\n  columns: {text: words}",
            "format: conllu\n  columns: {text: form}",
            ":13: data.format: found conllu, accepted tsv, jsonl, parquet (kind masked_lm)",
        ),
    ],
)
def test_what_the_yaml_may_not_say(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TEXT_TASK.count(old) == 1
    path = text_task(tmp_path, TEXT_TASK.replace(old, new)).resolve()
    with pytest.raises(UsageError) as error:
        find_task(str(path))
    assert str(error.value).removeprefix(str(path))[: len(message)] == message


def test_text_may_be_in_a_language_of_no_benchmark(tmp_path: Path) -> None:
    task = find_task(str(text_task(tmp_path, TEXT_TASK.replace("    en:", "    eo: {train: train.tsv}\n    en:"))))
    assert load_split(task, "eo", "train", None).columns == {"text": ["the of", "你好 and"]}


def test_among_several_tasks_it_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        find_tasks(["cola", "mlm_text"])
    assert str(error.value) == "task mlm_text: kind masked_lm is mixed in with --set mlm_share=SHARE"


# --- drawing and head -----------------------------------------------------------------------------------------------


def test_candidates_are_the_pieces_of_the_training_examples(tokenizer: Any) -> None:
    texts = ["the of", "and <unk> ö", "\u200b"]
    sequences = list(masked_lm.encode({"text": texts}, tokenizer, WordPieceOptions()))
    split = encoded_split(sequences, [[]] * 3)
    for examples in ([0], [1, 2], [0, 1, 2]):
        ids = {id_ for row in examples for id_ in tokenizer(texts[row]).input_ids} - set(tokenizer.all_special_ids)
        if 1 in examples:  # what a text says in control pieces is its characters
            ids |= set(next(tokenize_texts(tokenizer, ["<unk>"])))
        assert masked_lm.prepare(split, tokenizer, np.array(examples)).tolist() == sorted(ids)
    with pytest.raises(DataError, match=r"^by hand: found no piece that the backbone knows, accepted text to hide"):
        masked_lm.prepare(split, tokenizer, np.array([2]))


def test_its_head_has_no_labels_but_the_candidates(tmp_path: Path) -> None:
    model = load_model(load_backbone(str(tiny_backbone_folder(tmp_path / "tiny"))))
    candidates = np.array([4, 17, 250])
    masked_lm.add_head(model, "mlm_text", HeadSpec((), 0.1, candidates))
    head = model.heads["mlm_text"]
    assert head.candidates.tolist() == candidates.tolist()
    assert head(torch.zeros(2, model.config.hidden_size)).shape == (2, 3)
