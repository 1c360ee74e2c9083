"""Encoding: every word exactly one span, whatever it is made of; the cache by content; open inventories."""

import json
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.tiny import tiny_backbone_folder
from support.training import ENGLISH, english_task, gold_of, make_workspace, use_of, write_conllu, write_task

from adapter_stilts.engine import predicting
from adapter_stilts.engine.batches import Batch
from adapter_stilts.engine.predicting import predict_answers
from adapter_stilts.errors import DataError
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.schema import Task
from adapter_stilts.tasks import encode as encode_module
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import EncodedSplit, encode_columns, encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.kinds import classification, tagging
from adapter_stilts.tasks.kinds.contract import EncodedSequence, WordPieceOptions
from adapter_stilts.tasks.scoring import score
from adapter_stilts.tasks.tokenizing import tokenize_words, tokenizer_hash

SPECIAL = [
    "",
    " ",
    "\u200b",
    "\u200d\u200d",
    "\x00",
    "\ufeff",
    "\u0085",
    "<s>",
    "</s>",
    "<mask> x",
    "👩‍👩‍👧",
    "▁",
    "a b",
]
SPECIAL += ["<pad>"]
LONG = ["ab" * 600, "你" * 511, "x" * 510]


@cache
def pieces_of(word: str, tokenizer: Any) -> list[int]:
    """The pieces of one word on its own, as the design says: at most 510, <unk> where the tokenizer leaves nothing.

    A word without the name of a control piece has the tokenizer's own pieces; one with it has no control piece.
    """
    ids = next(tokenize_words(tokenizer, [[word]]))[0]
    controls = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert not controls & set(ids)
    if not any(name in unicodedata.normalize("NFKC", word) for name in tokenizer.all_special_tokens):
        assert ids == tokenizer([word], is_split_into_words=True, add_special_tokens=False).input_ids
    return ids[:510] or [tokenizer.unk_token_id]


def check_windows(words: Sequence[str], windows: Sequence[EncodedSequence], tokenizer: Any, word_piece: str) -> None:
    """Follow the words through the windows: each one's pieces stand there once, in order, under exactly one span."""
    remaining = list(words)
    for window in windows:
        assert len(window.input_ids) <= 512
        assert (window.input_ids[0], window.input_ids[-1]) == (0, 2)
        position = 1
        for start, end in zip(window.starts, window.ends, strict=True):
            pieces = pieces_of(remaining.pop(0), tokenizer)
            assert list(window.input_ids[position : position + len(pieces)]) == pieces
            texts = tokenizer.convert_ids_to_tokens(pieces)
            content = next((index for index, text in enumerate(texts) if text != "▁"), 0)
            expected = {
                "first": (position, position + 1),
                "first_content": (position + content, position + content + 1),
                "mean": (position, position + len(pieces)),
            }
            assert (start, end) == expected[word_piece]
            position += len(pieces)
        assert position == len(window.input_ids) - 1
    assert remaining == []


WORD = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text(st.characters(categories=["Cc", "Cf", "Zs", "Mn", "Co", "Cn"]), min_size=1, max_size=4),
    st.sampled_from([*SPECIAL, *LONG, *ENGLISH]),
)


@settings(max_examples=60, deadline=None)
@given(words=st.lists(WORD, min_size=1, max_size=25), word_piece=st.sampled_from(["first_content", "first", "mean"]))
@example(words=SPECIAL + LONG, word_piece="first_content")
@example(words=LONG * 3, word_piece="mean")
def test_any_words_have_one_span_each(tokenizer: Any, words: list[str], word_piece: Any) -> None:
    windows = list(tagging.encode({"tokens": [["the"], words]}, tokenizer, WordPieceOptions(word_piece=word_piece)))
    assert [window.example for window in windows] == [0] + [1] * (len(windows) - 1)
    check_windows(words, windows[1:], tokenizer, word_piece)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(words=st.lists(WORD, min_size=1, max_size=15))
@example(words=SPECIAL + LONG)
def test_any_words_under_xlmr_pieces(embedded_tokenizer: Any, words: list[str]) -> None:
    windows = list(tagging.encode({"tokens": [words]}, embedded_tokenizer, WordPieceOptions()))
    check_windows(words, windows, embedded_tokenizer, "first_content")


def test_windows_are_few_and_even(tokenizer: Any) -> None:
    """1,200 words of two pieces are 2,400 pieces: five windows of 480, not four of 510 and one of 360."""
    windows = list(tagging.encode({"tokens": [["!"] * 1200]}, tokenizer, WordPieceOptions()))
    assert len(pieces_of("!", tokenizer)) == 2
    assert [len(window.input_ids) - 2 for window in windows] == [480] * 5


@pytest.mark.usefixtures("isolated_cache")
def test_sentence_of_2000_words_gets_2000_predictions_in_order(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in for a model answers with the piece that it reads, so each word's answer is known."""
    words = [str(word) for word in np.random.default_rng(0).choice([*ENGLISH, "你好", "дом"], 2000)]
    labels = tuple(f"L{id_}" for id_ in range(500))
    sentences = [[("the", "L1")], [(word, "L1") for word in words], [("!", "L1")]]
    for name in ("train", "dev", "test"):
        write_conllu(tmp_path / f"en-{name}.conllu", sentences)
    task = write_task(tmp_path, labels=f"[{', '.join(labels)}]")
    split = encode_split(task, "en", "test", tokenizer, labels)
    assert len(split.example) > 8
    assert split.lengths.max() <= 512

    def answer(model: Any, batch: Batch) -> torch.Tensor:
        return torch.nn.functional.one_hot(batch.input_ids[batch.pieces], 500).float()

    monkeypatch.setattr(predicting, "batch_logits", answer)
    model = torch.nn.Linear(1, 1)
    model.roberta = SimpleNamespace(encoder=SimpleNamespace(layer=[]))  # type: ignore[assignment]
    model.config = type("Config", (), {"pad_token_id": 1})  # type: ignore[assignment]
    predicted = predict_answers(model, use_of("tags"), split, np.array([2, 1]))
    read = {}
    for word in {*words, "!"}:
        texts = tokenizer.convert_ids_to_tokens(pieces_of(word, tokenizer))
        content = next(text for text in texts if text != "▁")
        read[word] = f"L{tokenizer.convert_tokens_to_ids(content)}"
    assert predicted.answers == [[read["!"]], [read[word] for word in words]]


def test_word_pieces_by_hand(tokenizer: Any) -> None:
    """`你好` has no piece of its own that starts a word: a bare `▁` comes first, and knows nothing of the word."""
    words = ["the", "你好"]
    assert tokenizer.convert_ids_to_tokens(pieces_of("你好", tokenizer)) == ["▁", "你", "好"]
    spans = {}
    for word_piece in ("first_content", "first", "mean"):
        (sequence,) = tagging.encode({"tokens": [words]}, tokenizer, WordPieceOptions(word_piece=word_piece))  # type: ignore[arg-type]
        assert tokenizer.convert_ids_to_tokens(sequence.input_ids) == ["<s>", "▁the", "▁", "你", "好", "</s>"]
        spans[word_piece] = list(zip(sequence.starts, sequence.ends, strict=True))
    assert spans == {"first_content": [(1, 2), (3, 4)], "first": [(1, 2), (2, 3)], "mean": [(1, 2), (2, 5)]}


def test_word_pieces_of_xlmr(embedded_tokenizer: Any) -> None:
    words = ["看似", "簡單", "house"]
    (first,) = tagging.encode({"tokens": [words]}, embedded_tokenizer, WordPieceOptions(word_piece="first"))
    (content,) = tagging.encode({"tokens": [words]}, embedded_tokenizer, WordPieceOptions(word_piece="first_content"))
    read = [[sequence.input_ids[start] for start in sequence.starts] for sequence in (first, content)]
    assert embedded_tokenizer.convert_ids_to_tokens(read[0]) == ["▁", "▁", "▁house"]
    assert embedded_tokenizer.convert_ids_to_tokens(read[1]) == ["看似", "簡單", "▁house"]


def test_pairs_are_read_at_the_first_piece(tokenizer: Any) -> None:
    columns = {"text": ["the of", "you " * 400], "text_pair": ["and", "and " * 400]}
    short, long = classification.encode(columns, tokenizer, WordPieceOptions())
    assert tokenizer.convert_ids_to_tokens(short.input_ids) == ["<s>", "▁the", "▁of", "</s>", "</s>", "▁and", "</s>"]
    assert [(sequence.starts, sequence.ends) for sequence in (short, long)] == [([0], [1])] * 2
    assert len(long.input_ids) == 512
    assert tokenizer.convert_ids_to_tokens(long.input_ids).count("</s>") == 3


# --- the cache ------------------------------------------------------------------------------------------------------


def encoded_files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache" / "encoded").iterdir()}


@pytest.mark.usefixtures("isolated_cache")
def test_each_cause_makes_another_file(tmp_path: Path, tokenizer: Any) -> None:
    task = english_task(tmp_path / "one")
    labels = ("A", "B", "C")
    encode_split(task, "en", "train", tokenizer, labels)
    seen = encoded_files(tmp_path)
    assert len(seen) == 1

    def new_file(task: Task, tokenizer: Any, labels: tuple[str, ...], split: str = "train") -> bool:
        encode_split(task, "en", split, tokenizer, labels)
        fresh = encoded_files(tmp_path) - seen
        seen.update(fresh)
        return bool(fresh)

    assert not new_file(task, tokenizer, labels)
    assert new_file(task, tokenizer, labels, "validation")
    assert new_file(task, tokenizer, ("B", "A", "C"))
    assert new_file(english_task(tmp_path / "two", word_piece="first"), tokenizer, labels)
    other = load_backbone(str(tiny_backbone_folder(tmp_path / "other", vocabulary=480))).tokenizer
    assert new_file(task, other, labels)
    assert not new_file(task, load_backbone(str(tiny_backbone_folder(tmp_path / "tiny"))).tokenizer, labels)
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere")
    assert not new_file(write_task(tmp_path / "elsewhere"), tokenizer, labels)
    data = (tmp_path / "elsewhere" / "en-train.conllu").read_text()
    (tmp_path / "elsewhere" / "en-train.conllu").write_text(data.replace("\tA\t", "\tB\t", 1))
    assert new_file(write_task(tmp_path / "elsewhere"), tokenizer, labels)


@pytest.mark.usefixtures("isolated_cache")
@pytest.mark.parametrize("word_piece", ["first_content", "mean"])
def test_cached_split_equals_the_encoding(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, word_piece: str
) -> None:
    task = english_task(tmp_path / "data", word_piece=word_piece)
    labels = ("A", "B", "C")
    rows = encode_columns(task, load_split(task, "en", "train", None), tokenizer, labels).to_pydict()
    first = encode_split(task, "en", "train", tokenizer, labels)
    monkeypatch.setattr(encode_module, "load_split", lambda *_: pytest.fail("read again"))
    again = encode_split(task, "en", "train", tokenizer, labels)
    for split in (first, again):
        assert rows_of(split) == rows
        assert (split.language, split.split, split.examples, split.label_names) == ("en", "train", 24, labels)
    words = load_split(task, "en", "train", None).columns["labels"]
    assert gold_of(again, [5, 3]) == [words[5], words[3]]


def rows_of(split: EncodedSplit) -> dict[str, list[Any]]:
    """The split's flat arrays, cut into one row a sequence again."""

    def cut(values: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
        return [part.tolist() for part in np.split(values, offsets[1:-1])]

    return {
        "example": split.example.tolist(),
        "input_ids": cut(split.ids, split.id_offsets),
        **{name: cut(getattr(split, name), split.unit_offsets) for name in ("starts", "ends")},
        "text_starts": [[]] * len(split.lengths),
        **{f"target.{name}": cut(values, split.unit_offsets) for name, values in split.targets.items()},
    }


def test_use_of_a_tokenizer_is_no_part_of_its_identity(tmp_path: Path) -> None:
    folder = str(tiny_backbone_folder(tmp_path / "tiny"))
    fresh, used = load_backbone(folder).tokenizer, load_backbone(folder).tokenizer
    used(["the of"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_hash(used) == tokenizer_hash(fresh)
    assert json.loads(used.backend_tokenizer.to_str())["truncation"]["max_length"] == 3


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("isolated_cache")
def test_unseen_gold_of_an_open_inventory_counts_as_wrong(tmp_path: Path, tokenizer: Any) -> None:
    write_conllu(tmp_path / "en-train.conllu", [[("the", "B"), ("of", "A")]])
    for name in ("dev", "test"):
        write_conllu(tmp_path / f"en-{name}.conllu", [[("the", "A"), ("of", "Z")], [("a", "Y"), ("and", "Z")]])
    task = write_task(tmp_path, labels="open")
    labels = label_inventory(task, None)
    split = encode_split(task, "en", "validation", tokenizer, labels)
    assert labels == ("A", "B")
    assert (split.label_names, split.trained) == (("A", "B", "Z", "Y"), 2)
    assert split.targets["label"].tolist() == [0, 2, 3, 2]
    gold = gold_of(split, np.arange(2))
    assert gold == [["A", "Z"], ["Y", "Z"]]
    assert score("tagging", ["accuracy"], [["A", "A"], ["B", "B"]], gold) == {"accuracy": 25.0}


@pytest.mark.usefixtures("isolated_cache")
def test_label_outside_a_closed_inventory(tmp_path: Path, tokenizer: Any) -> None:
    task = english_task(tmp_path / "data", labels="[A, B]")
    with pytest.raises(DataError, match=r"en-train\.conllu.*label 'C'.*A, B"):
        encode_split(task, "en", "train", tokenizer, label_inventory(task, None))


@pytest.mark.usefixtures("isolated_cache")
def test_sample_is_drawn_with_the_seed(tmp_path: Path, tokenizer: Any) -> None:
    split = encode_split(english_task(tmp_path / "data"), "en", "train", tokenizer, ("A", "B", "C"))
    expected = sorted(np.random.default_rng(3).permutation(24)[:5].tolist())
    assert split.sample(5, 3).tolist() == expected
    assert split.sample(5, 4).tolist() != expected
    assert split.sample(24, 3).tolist() == split.sample(None, 4).tolist() == list(range(24))


def test_equal_files_share_the_cache_but_not_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    one = english_task(tmp_path / "one")
    text = one.path.read_text()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "en-train.conllu").rename(tmp_path / "two" / "renamed.conllu")
    (tmp_path / "two" / "tags.yaml").write_text(text.replace("en-train.conllu", "renamed.conllu"))
    other = find_task(str(tmp_path / "two" / "tags.yaml"))
    splits = [encode_split(task, "en", "train", workspace.backbone.tokenizer, task.labels) for task in (one, other)]
    assert [split.source for split in splits] == ["en-train.conllu", "renamed.conllu"]
    assert splits[0].sha256 == splits[1].sha256
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 1


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """One bit, in the middle of the pieces."""
    return content[: len(content) // 3] + bytes([content[len(content) // 3] ^ 1]) + content[len(content) // 3 + 1 :]


def wrong_checksum(content: bytes) -> bytes:
    return content[:-1] + (b"0" if content[-1:] != b"0" else b"1")


@pytest.mark.usefixtures("isolated_cache")
@pytest.mark.parametrize("damage", [lambda content: b"", cut, flip, wrong_checksum, lambda content: b"{}" * 99])
def test_a_damaged_cache_file_is_said_and_made_anew(
    tmp_path: Path, tokenizer: Any, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    task = english_task(tmp_path / "data")
    before = encode_split(task, "en", "train", tokenizer, task.labels)
    (path,) = (tmp_path / "cache" / "encoded").iterdir()
    whole = path.read_bytes()
    capsys.readouterr()
    path.unlink()  # what was read is mapped from it
    path.write_bytes(damage(whole))
    after = encode_split(task, "en", "train", tokenizer, task.labels)
    assert capsys.readouterr().err == f"{path}: damaged, made anew\n"
    assert path.read_bytes() == whole
    for name in ("ids", "starts", "ends", "example", "id_offsets", "unit_offsets", "text_starts"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert list(after.targets) == list(before.targets) == ["label"]
    np.testing.assert_array_equal(after.targets["label"], before.targets["label"])
    encode_split(task, "en", "train", tokenizer, task.labels)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("isolated_cache")
def test_another_splits_cache_file_is_no_cache_of_this_one(
    tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task, folder = english_task(tmp_path / "data"), tmp_path / "cache" / "encoded"
    train = encode_split(task, "en", "train", tokenizer, task.labels)
    (path,) = folder.iterdir()
    encode_split(task, "en", "test", tokenizer, task.labels)
    (other,) = set(folder.iterdir()) - {path}
    path.unlink()
    path.write_bytes(other.read_bytes())
    np.testing.assert_array_equal(encode_split(task, "en", "train", tokenizer, task.labels).ids, train.ids)
    assert capsys.readouterr().err == f"{path}: damaged, made anew\n"


@pytest.mark.usefixtures("isolated_cache")
def test_a_cache_file_of_an_older_version_is_made_anew(
    tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task = english_task(tmp_path / "data")
    encode_split(task, "en", "train", tokenizer, task.labels)
    (path,) = (tmp_path / "cache" / "encoded").iterdir()
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: whole.rindex(b"ARROW1") + 6])
    encode_split(task, "en", "train", tokenizer, task.labels)
    assert capsys.readouterr().err == f"{path}: of a version without checksums, made anew\n"
    assert path.read_bytes() == whole
