"""Masked language modelling: text without labels, of which training hides pieces and asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.sequences import MAX_PIECES, EncodedSequence
from adapter_stilts.tasks.tokenizing import tokenize_texts

# Texts go to the tokenizer in portions, so that a large split never stands in memory twice.
_PORTION = 2_000


def encode(
    columns: dict[str, list[Any]], tokenizer: Any, word_piece: str = "first_content"
) -> Iterator[EncodedSequence]:
    """Sequences `<s> text </s>` of all texts, in order; a text over 510 pieces becomes the fewest windows, of about
    equal length, that hold all its pieces.

    There are no units: which pieces are asked for is drawn anew for each batch. A text that the tokenizer deletes
    altogether is read as `<unk>`. `word_piece` decides nothing here.
    """
    texts = columns["text"]
    for first in range(0, len(texts), _PORTION):
        for offset, pieces in enumerate(tokenize_texts(tokenizer, texts[first : first + _PORTION])):
            for window in _windows(pieces or [tokenizer.unk_token_id]):
                ids = [tokenizer.bos_token_id, *window, tokenizer.eos_token_id]
                yield EncodedSequence(first + offset, ids, [], [])


def _windows(pieces: Sequence[int]) -> Iterator[Sequence[int]]:
    count = -(-len(pieces) // MAX_PIECES)
    borders = [len(pieces) * window // count for window in range(count + 1)]
    for begin, end in pairwise(borders):
        yield pieces[begin:end]


def add_head(model: Any, name: str, labels: Sequence[str], dropout: float) -> NoReturn:
    """Always a UsageError: a head of labels is nothing that this kind has (see `model.masked_lm_head`)."""
    raise UsageError(f"task {name}: found kind masked_lm, which has no labels to train a head on, accepted mlm_share")
