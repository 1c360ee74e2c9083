"""Signatures by content: what makes no difference, what is left out, and real splits that share texts or do not."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from support.training import encoded_split, make_workspace

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.tasks import overlap
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import EncodedSplit, encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.kinds import classification, tagging
from adapter_stilts.tasks.kinds.contract import WordPieceOptions
from adapter_stilts.tasks.overlap import (
    MINIMUM_CHARACTERS,
    read_signatures,
    refuse_overlap,
    shared_texts,
    text_signatures,
    write_signatures,
)

pytestmark = pytest.mark.usefixtures("isolated_cache")


SENTENCE = "They do n't run to the house of seven unbelievable dogs ."


def tagged(sentences: Sequence[Sequence[str]], tokenizer: Any) -> EncodedSplit:
    """Sentences of words, encoded as a tagging task does."""
    sequences = list(tagging.encode({"tokens": [list(words) for words in sentences]}, tokenizer, WordPieceOptions()))
    return encoded_split(sequences, [[0] * len(sequence.starts) for sequence in sequences])


def paired(rows: Sequence[tuple[str, str]], tokenizer: Any) -> EncodedSplit:
    """Text pairs, encoded as a classification task does."""
    columns = {"text": [one for one, _ in rows], "text_pair": [other for _, other in rows]}
    sequences = list(classification.encode(columns, tokenizer, WordPieceOptions()))
    return encoded_split(sequences, [[0]] * len(sequences))


def signatures(split: EncodedSplit, tokenizer: Any) -> list[int]:
    return [int(signature) for signature in text_signatures(split, np.arange(split.examples), tokenizer)]


def by_hand(*texts: str) -> list[int]:
    """The signatures of texts that are normalised already."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return sorted(int.from_bytes(digest, "little") for digest in digests)


# --- what makes no difference ---------------------------------------------------------------------------------------


def test_signature_is_blake2b_of_the_letters(tokenizer: Any) -> None:
    computed = text_signatures(tagged([SENTENCE.split()], tokenizer), np.arange(1), tokenizer)
    assert computed.dtype == np.uint64
    assert computed.tolist() == by_hand("theydontruntothehouseofsevenunbelievabledogs")


@pytest.mark.parametrize(
    "other",
    [
        "They don't run to the house of seven unbelievable dogs.",
        "They don ' t run to the house of seven un believ able dogs .",
        "THEY do n't run to the House of Seven unbelievable dogs .",
        "`` They do n't run to the house of seven unbelievable dogs . ''",
        '"They do n\'t run to the house of seven unbelievable dogs"',
        "They do n't ԱԱ run to the house Ա Ա of seven unbelievable dogs .",  # unknown to the tokenizer
    ],
)
def test_words_case_and_punctuation_make_no_difference(tokenizer: Any, other: str) -> None:
    expected = signatures(tagged([SENTENCE.split()], tokenizer), tokenizer)
    assert signatures(tagged([other.split()], tokenizer), tokenizer) == expected
    assert signatures(paired([(other, "no")], tokenizer), tokenizer) == expected


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz'.,αβγδабвг的一是不了"), min_size=40, max_size=80),
    cuts=st.lists(st.integers(1, 79), max_size=12),
    other_cuts=st.lists(st.integers(1, 79), max_size=12),
)
def test_any_two_segmentations_are_one_text(tokenizer: Any, text: str, cuts: list[int], other_cuts: list[int]) -> None:
    def segmented(cuts: list[int]) -> list[str]:
        borders = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
        return [text[start:end] for start, end in pairwise(borders)]

    split = tagged([segmented(cuts), segmented(other_cuts)], tokenizer)
    assert len(signatures(split, tokenizer)) == int(counted(text) >= MINIMUM_CHARACTERS)


def counted(text: str) -> int:
    """Letters, a Chinese one threefold."""
    return sum(3 if letter in "的一是不了" else 1 for letter in text if letter not in "'.,")


def test_one_other_word_is_another_text(tokenizer: Any) -> None:
    split = tagged([SENTENCE.split(), SENTENCE.replace("seven", "nine").split()], tokenizer)
    assert len(signatures(split, tokenizer)) == 2


# --- which texts there are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "count"), [("a", MINIMUM_CHARACTERS), ("б", MINIMUM_CHARACTERS), ("的", 10), ("の", 10)]
)
def test_short_texts_are_left_out(tokenizer: Any, letter: str, count: int) -> None:
    split = tagged([[letter] * (count - 1), [letter] * count, ["."] * 50], tokenizer)
    assert signatures(split, tokenizer) == by_hand(letter * count)


def test_pair_is_two_texts(tokenizer: Any) -> None:
    one, other = "a dog that runs to the house of seven cats", "the cats of the house are on the dog that runs"
    split = paired([(one, other), (other, "no"), ("no", one)], tokenizer)
    assert signatures(split, tokenizer) == by_hand(one.replace(" ", ""), other.replace(" ", ""))
    assert signatures(tagged([one.split()], tokenizer), tokenizer) == by_hand(one.replace(" ", ""))


def test_windows_of_a_sentence_are_one_text(tokenizer: Any) -> None:
    words = [f"{word}{number}" for number, word in enumerate(["the", "house", "of"] * 300)]
    split = tagged([["short"], words, words[:20]], tokenizer)
    assert np.sum(split.example == 1) > 2
    assert signatures(split, tokenizer) == by_hand("".join(words), "".join(words[:20]))


def test_examples_order_and_repetitions(tokenizer: Any) -> None:
    sentences = [[f"sentence{name}"] * 4 for name in "abcde"]
    split = tagged([*sentences, sentences[1]], tokenizer)
    drawn = text_signatures(split, np.array([3, 1, 5, 1]), tokenizer)
    assert drawn.tolist() == by_hand("sentenceb" * 4, "sentenced" * 4)
    backwards = tagged([*sentences[::-1], *sentences], tokenizer)
    assert signatures(backwards, tokenizer) == signatures(split, tokenizer) == by_hand(*("".join(s) for s in sentences))
    assert text_signatures(split, np.array([], dtype=int), tokenizer).tolist() == []


# --- refusal --------------------------------------------------------------------------------------------------------


def test_shared_texts_counts_both_sides() -> None:
    one, other = (np.array(values, dtype=np.uint64) for values in ([1, 5, 2**63 + 1], [2, 5, 7, 2**63 + 1, 2**63 + 3]))
    assert shared_texts(one, other) == shared_texts(other, one) == 2
    assert shared_texts(one, other[:1]) == shared_texts(one[:0], other) == 0


def numbered(numbers: range, tokenizer: Any) -> EncodedSplit:
    return tagged(
        [["the", "sentence", "of", "the", "number", "in", "this", "test", str(n)] for n in numbers], tokenizer
    )


@pytest.mark.parametrize(
    ("trained", "refused"),
    [
        (range(95, 1000), False),  # 5 of 100 test texts
        (range(94, 1000), True),  # 6 of 100
        (range(99, 119), False),  # 1 of the 20 texts trained on
        (range(99, 118), True),  # 1 of 19
        (range(100, 200), False),
    ],
)
def test_share_of_the_smaller_side_decides(tokenizer: Any, trained: range, refused: bool) -> None:
    trained_signatures = np.array(signatures(numbered(trained, tokenizer), tokenizer), dtype=np.uint64)
    test = numbered(range(100), tokenizer)
    if not refused:
        refuse_overlap("--over numbers-1a2b", trained_signatures, "tags", test, tokenizer)
        return
    with pytest.raises(UsageError) as raised:
        refuse_overlap("--over numbers-1a2b", trained_signatures, "tags", test, tokenizer)
    assert str(raised.value) == (
        f"--over numbers-1a2b: trained on {100 - trained.start} of the 100 test sentences of tags "
        "(en, by hand; by content), accepted an intermediate that never saw them"
    )


def test_nothing_long_enough_is_no_overlap(tokenizer: Any) -> None:
    split = tagged([["the", "dog"]], tokenizer)
    computed = text_signatures(split, np.arange(1), tokenizer)
    refuse_overlap("short", computed, "tags", split, tokenizer)
    assert computed.tolist() == []


@pytest.mark.slow
def test_mirror_tells_udpos_test_from_other_text(
    hub_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UD English-EWT's test split under another name and release is udpos's; its train split and GUM's are not."""
    make_workspace(tmp_path, monkeypatch)
    tokenizer = load_backbone(str(tmp_path / "tiny")).tokenizer
    relations = find_task("ud_deprel")
    text = relations.path.read_text(encoding="utf-8").replace("en: en_gum", "en: en_ewt")
    renamed = tmp_path / "renamed.yaml"
    renamed.write_text(
        text.replace("name: ud_deprel", "name: renamed").replace("train: train,", "train: test,"), encoding="utf-8"
    )

    def encoded(name: str, split: str) -> EncodedSplit:
        task = find_task(name)
        return encode_split(task, "en", split, tokenizer, label_inventory(task, hub_mirror), hub_mirror)

    def long_texts(name: str, split: str) -> list[str]:
        """From the words, without a tokenizer."""
        words = load_split(find_task(name), "en", split, hub_mirror).columns["tokens"]
        texts = [re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", "".join(text)).casefold()) for text in words]
        return [text if len(text) >= MINIMUM_CHARACTERS else "" for text in texts]

    test = encoded("udpos", "test")
    for name in ("ud_deprel", "udpos"):
        train = encoded(name, "train")
        trained_signatures = text_signatures(train, np.arange(train.examples), tokenizer)
        refuse_overlap(name, trained_signatures, "udpos", test, tokenizer)
    leaked, texts = encoded(str(renamed), "train"), long_texts(str(renamed), "train")
    known = {text for text in long_texts("udpos", "test") if text}
    for examples in (np.arange(leaked.examples), leaked.sample(100, 0)):
        shared = len(known & {texts[example] for example in examples})
        assert shared > 0.4 * sum(texts[example] != "" for example in examples)
        trained_signatures = text_signatures(leaked, examples, tokenizer)
        message = rf"^--over renamed: trained on {shared} of the {len(known)} test sentences of udpos \(en, "
        with pytest.raises(UsageError, match=message):
            refuse_overlap("--over renamed", trained_signatures, "udpos", test, tokenizer)


# --- files ----------------------------------------------------------------------------------------------------------


def test_written_signatures_are_read_again(tmp_path: Path) -> None:
    for content in ([1, 2**63 + 5, 2**64 - 1], []):
        path = tmp_path / "folder" / "texts.safetensors"
        write_signatures(path, np.array(content, dtype=np.uint64))
        again = read_signatures(path)
        assert (again.tolist(), again.dtype) == (content, np.uint64)
        assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "texts.safetensors"
    write_signatures(path, np.array([7], dtype=np.uint64))

    def fail(tensors: dict[str, np.ndarray], target: str) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(overlap, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_signatures(path, np.array([8], dtype=np.uint64))
    assert read_signatures(path).tolist() == [7]
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.safetensors"
    write_signatures(path, np.arange(100, dtype=np.uint64))
    whole = path.read_bytes()
    for content in (whole[:-3], whole[:20], b"", b"not safetensors at all"):
        path.write_bytes(content)
        with pytest.raises(StiltsError, match=rf"^{re.escape(str(path))}: cannot be read \(.*accepted a safetensors"):
            read_signatures(path)
    path.unlink()
    with pytest.raises(StiltsError, match=rf"^{re.escape(str(path))}: cannot be read .*accepted"):
        read_signatures(path)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"weight": np.zeros(2, dtype=np.uint64)}, "found tensors weight"),
        ({"signatures": np.array([1.0, 2.0])}, "found float64 of 1 dimensions"),
        ({"signatures": np.array([[1], [2]], dtype=np.uint64)}, "found uint64 of 2 dimensions"),
        ({"signatures": np.array([1, 3, 2], dtype=np.uint64)}, "found signatures out of order"),
        ({"signatures": np.array([1, 2, 2], dtype=np.uint64)}, "found signatures out of order"),
    ],
)
def test_file_of_something_else_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray], complaint: str) -> None:
    path = tmp_path / "texts.safetensors"
    save_file(tensors, path)
    with pytest.raises(StiltsError, match=rf"^{re.escape(str(path))}: {complaint}, accepted .* 'signatures'"):
        read_signatures(path)
