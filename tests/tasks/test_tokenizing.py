"""Control pieces that stand in users' texts are characters like others, in every kind of task."""

from typing import Any

import pytest

from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.tokenizing import tokenize_examples, tokenize_texts, tokenize_words, tokenizer_hash

NAMES = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]


def pieces(tokenizer: Any, ids: Any) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(ids))


@pytest.mark.parametrize("name", [*NAMES, "＜s＞", "<\x01s>", "＜unk＞"])
def test_a_control_piece_in_a_text_is_its_characters(tokenizer: Any, name: str) -> None:
    plain = name.replace("＜", "<").replace("＞", ">").replace("\x01", "")
    (ids,) = tokenize_texts(tokenizer, [f"the {name} of"])
    read = pieces(tokenizer, ids)
    assert "".join(read) == f"▁the▁{plain}▁of"
    assert not set(read) & set(NAMES)
    ((words, numbers),) = tokenize_words(tokenizer, [["the", f"a{name}b", "of"]])
    assert "".join(pieces(tokenizer, words)) == f"▁the▁a{plain}b▁of"
    assert numbers == sorted(numbers)
    assert set(numbers) == {0, 1, 2}
    (pair,) = tokenize_examples(tokenizer, [f"the {name}"], [name], 512)
    assert "".join(pieces(tokenizer, pair)) == f"<s>▁the▁{plain}</s></s>▁{plain}</s>"


def test_other_texts_are_read_as_by_the_tokenizer_itself(tokenizer: Any) -> None:
    texts = ["the of", "", "你 \ue000 \ue001", "a < b > s", "< s >", "unk \ue000"]
    assert list(tokenize_texts(tokenizer, texts)) == tokenizer(texts, add_special_tokens=False).input_ids
    assert list(tokenize_examples(tokenizer, texts, texts[::-1], 8)) == (
        tokenizer(texts, texts[::-1], truncation="longest_first", max_length=8).input_ids
    )


def test_long_pairs_are_cut_alike(tokenizer: Any) -> None:
    """What is cut off decides where the cut is: a name there too, which no piece of the result shows."""
    (ids,) = tokenize_examples(tokenizer, ["the of " * 4 + "<mask>"], ["and to"], 10)
    assert pieces(tokenizer, ids) == ["<s>", "▁the", "▁of", "▁the", "▁of", "</s>", "</s>", "▁and", "▁to", "</s>"]
    assert len(ids) == 10


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("tagging", {"tokens": [["the", "</s>", "<mask>"]]}),
        ("classification", {"text": ["the </s>"], "text_pair": ["<mask> <pad>"]}),
        ("multiple_choice", {"question": ["the <s>"], "context": ["</s>"], "choices": [["<mask> <pad>"]]}),
        ("masked_lm", {"text": ["the </s> <mask> <pad> <s>"]}),
    ],
)
def test_no_kind_reads_control_pieces_of_a_text(tokenizer: Any, kind: str, columns: dict[str, Any]) -> None:
    before = tokenizer_hash(tokenizer)
    (sequence,) = find_kind(kind).encode(columns, tokenizer, find_kind(kind).options(), None)
    added = 4 if kind in ("classification", "multiple_choice") else 2
    assert sum(id_ in tokenizer.all_special_ids for id_ in sequence.input_ids) == added
    tokenizer_hash.cache_clear()
    assert tokenizer_hash(tokenizer) == before


@pytest.mark.slow
def test_the_embedded_tokenizer(embedded_tokenizer: Any) -> None:
    texts = tokenize_texts(embedded_tokenizer, ["She says <mask> today .", "x </s> y"])
    read = [pieces(embedded_tokenizer, ids) for ids in texts]
    assert read == [["▁She", "▁says", "▁<", "mas", "k", ">", "▁today", "▁", "."], ["▁x", "▁", "</", "s", ">", "▁y"]]
