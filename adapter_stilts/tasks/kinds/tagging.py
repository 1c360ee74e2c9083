"""Tagging: one label for each word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from adapter_stilts.tasks.sequences import MAX_PIECES, EncodedSequence
from adapter_stilts.tasks.tokenizing import tokenize_words

WordPiece = Literal["first_content", "first", "mean"]

# Sentences go to the tokenizer in portions, so that a large split never stands in memory twice.
_PORTION = 2_000
# What XLM-R's tokenizer puts in front of a word. Alone it is a piece without a character of the word: the usual first
# piece of a Chinese, Japanese or Thai word.
_BARE = "▁"


def encode(
    columns: dict[str, list[Any]], tokenizer: Any, word_piece: WordPiece = "first_content"
) -> Iterator[EncodedSequence]:
    """Sequences of all sentences, in order; a sentence over 510 pieces becomes several windows of whole words.

    Every word lies in exactly one window and has exactly one span there: its first piece that has a character
    (`first_content`), its first piece (`first`), or all its pieces (`mean`). A word that the tokenizer deletes
    altogether (control characters) is read as `<unk>`; of a word over 510 pieces the first 510 are read.
    """
    bare = {id_ for piece, id_ in tokenizer.get_vocab().items() if piece == _BARE}
    sentences = columns["tokens"]
    for first in range(0, len(sentences), _PORTION):
        portion = [list(words) for words in sentences[first : first + _PORTION]]
        for offset, (ids, word_ids) in enumerate(tokenize_words(tokenizer, portion)):
            pieces = _pieces_of_words(ids, word_ids, len(portion[offset]), tokenizer)
            yield from _windows(first + offset, pieces, bare, tokenizer, word_piece)


def _pieces_of_words(ids: Sequence[int], word_ids: Sequence[int], words: int, tokenizer: Any) -> list[list[int]]:
    pieces: list[list[int]] = [[] for _ in range(words)]
    for id_, word in zip(ids, word_ids, strict=True):
        pieces[word].append(id_)
    return [own[:MAX_PIECES] or [tokenizer.unk_token_id] for own in pieces]


def _windows(
    example: int, pieces: list[list[int]], bare: set[int], tokenizer: Any, word_piece: WordPiece
) -> Iterator[EncodedSequence]:
    """Cut a sentence at word borders into the fewest windows, of about equal length so that none lacks context."""
    total = sum(map(len, pieces))
    target = total / -(-total // MAX_PIECES)
    window: list[list[int]] = []
    filled = 0
    for own in pieces:
        if filled and (filled >= target or filled + len(own) > MAX_PIECES):
            yield _sequence(example, window, bare, tokenizer, word_piece)
            window, filled = [], 0
        window.append(own)
        filled += len(own)
    yield _sequence(example, window, bare, tokenizer, word_piece)


def _sequence(
    example: int, pieces: list[list[int]], bare: set[int], tokenizer: Any, word_piece: WordPiece
) -> EncodedSequence:
    ids, starts, ends = [tokenizer.bos_token_id], [], []
    for own in pieces:
        begin = len(ids)
        ids.extend(own)
        content = next((place for place, id_ in enumerate(own) if id_ not in bare), 0)
        starts.append(begin + (content if word_piece == "first_content" else 0))
        ends.append(len(ids) if word_piece == "mean" else starts[-1] + 1)
    return EncodedSequence(example, [*ids, tokenizer.eos_token_id], starts, ends)


def add_head(model: Any, name: str, labels: Sequence[str], dropout: float) -> None:
    """One linear layer over the span's state, as in the XTREME baseline."""
    model.add_tagging_head(name, num_labels=len(labels), id2label=dict(enumerate(labels)))
    model.heads[name][0].p = dropout
