"""Tagging: one label for each word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.kinds import labelled
from adapter_stilts.tasks.kinds.contract import (
    Columns,
    EncodedSequence,
    HeadSpec,
    Inventory,
    Kind,
    LocationOf,
    WordPieceOptions,
)
from adapter_stilts.tasks.metrics import TAG_METRICS
from adapter_stilts.tasks.sequences import MAX_PIECES, PORTION
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.tasks.tokenizing import tokenize_words

if TYPE_CHECKING:
    from adapter_stilts.model.protocols import Model
    from adapter_stilts.tasks.documents.document import Document

# What XLM-R's tokenizer puts in front of a word. Alone it is a piece without a character of the word: the usual first
# piece of a Chinese, Japanese or Thai word.
_BARE = "▁"


# --- the data -------------------------------------------------------------------------------------------------------


def take(columns: Columns, names: Mapping[str, Any], location_of: LocationOf) -> list[int]:
    """The rows that have tokens. Raises DataError for a row with more or fewer labels than tokens."""
    for row, (tokens, labels) in enumerate(zip(columns["tokens"], columns["labels"], strict=True)):
        if not isinstance(tokens, list) or not isinstance(labels, list):
            raise DataError(f"{location_of(row, None)}: found text, accepted a list of tokens and a list of labels")
        if len(tokens) != len(labels):
            raise DataError(
                f"{location_of(row, None)}: found {len(labels)} labels, accepted {len(tokens)} (one a token)"
            )
    return [row for row, tokens in enumerate(columns["tokens"]) if tokens]


def check(columns: Columns, location_of: LocationOf) -> None:
    """Raise DataError where `_` stands for every word of a split, or of a sentence whose words have several labels:
    treebanks are handed out so where the texts are not free."""
    sentences = columns["tokens"]
    hidden = [row for row, words in enumerate(sentences) if words[0] == "_" and set(words) == {"_"}]
    for row in hidden:
        if len(hidden) == len(sentences) or len(set(columns["labels"][row])) > 1:
            raise DataError(f"{location_of(row, 0)}: found '_' for every word, accepted the words of the text")


# --- sequences ------------------------------------------------------------------------------------------------------


def encode(
    columns: Columns, tokenizer: Tokenizer, options: WordPieceOptions, inventory: Inventory | None = None
) -> Iterator[EncodedSequence]:
    """Sequences of all sentences, in order; a sentence over 510 pieces becomes several windows of whole words.

    Every word lies in exactly one window and has exactly one span there: its first piece that has a character
    (`first_content`), its first piece (`first`), or all its pieces (`mean`). A word that the tokenizer deletes
    altogether (control characters) is read as `<unk>`; of a word over 510 pieces the first 510 are read.
    """
    bare = {id_ for piece, id_ in tokenizer.get_vocab().items() if piece == _BARE}
    sentences = columns["tokens"]
    for first in range(0, len(sentences), PORTION):
        portion = [list(words) for words in sentences[first : first + PORTION]]
        for offset, (ids, word_ids) in enumerate(tokenize_words(tokenizer, portion)):
            example, done = first + offset, 0
            pieces = _pieces_of_words(ids, word_ids, len(portion[offset]), tokenizer)
            for window in _windows(pieces):
                sequence = _sequence(example, window, bare, tokenizer, options.word_piece)
                if inventory is None:
                    yield sequence
                else:
                    words = columns["labels"][example][done : done + len(window)]
                    ids_ = [inventory.id_of(label, example, done + word) for word, label in enumerate(words)]
                    yield EncodedSequence(example, sequence.input_ids, sequence.starts, sequence.ends, {"label": ids_})
                done += len(window)


def _pieces_of_words(ids: Sequence[int], word_ids: Sequence[int], words: int, tokenizer: Tokenizer) -> list[list[int]]:
    pieces: list[list[int]] = [[] for _ in range(words)]
    for id_, word in zip(ids, word_ids, strict=True):
        pieces[word].append(id_)
    return [of_word[:MAX_PIECES] or [tokenizer.unk_token_id] for of_word in pieces]


def _windows(pieces: list[list[int]]) -> Iterator[list[list[int]]]:
    """Cut a sentence at word borders into the fewest windows, of about equal length so that none lacks context."""
    total = sum(map(len, pieces))
    target = total / -(-total // MAX_PIECES)
    window: list[list[int]] = []
    filled = 0
    for of_word in pieces:
        if filled and (filled >= target or filled + len(of_word) > MAX_PIECES):
            yield window
            window, filled = [], 0
        window.append(of_word)
        filled += len(of_word)
    yield window


def _sequence(
    example: int, pieces: list[list[int]], bare: set[int], tokenizer: Tokenizer, word_piece: str
) -> EncodedSequence:
    ids, starts, ends = [tokenizer.bos_token_id], [], []
    for of_word in pieces:
        begin = len(ids)
        ids.extend(of_word)
        content = next((index for index, id_ in enumerate(of_word) if id_ not in bare), 0)
        starts.append(begin + (content if word_piece == "first_content" else 0))
        ends.append(len(ids) if word_piece == "mean" else starts[-1] + 1)
    return EncodedSequence(example, [*ids, tokenizer.eos_token_id], starts, ends)


# --- head and answers -----------------------------------------------------------------------------------------------


def add_head(model: Model, name: str, spec: HeadSpec) -> None:
    """One linear layer over the span's state, as in the XTREME baseline."""
    model.add_tagging_head(name, num_labels=len(spec.labels), id2label=dict(enumerate(spec.labels)))
    model.heads[name][0].p = spec.dropout


def write_official(answers: Sequence[Sequence[str]], path: Path) -> None:
    """A tag a line, a blank line between sentences."""
    path.write_text("\n".join("".join(f"{tag}\n" for tag in tags) for tags in answers), encoding="utf-8")


def read_words(*arguments: Any) -> Document:
    """A user's file of words: see `tasks.documents.words`."""
    from adapter_stilts.tasks.documents.words import read

    return read(*arguments)


TAGGING_KIND = Kind(
    name="tagging",
    options=WordPieceOptions,
    columns={"tokens": "texts", "labels": "texts"},
    label_role="labels",
    answer_role="labels",
    rows="sentence",
    formats=("conllu", "conll"),
    text_roles=("tokens",),
    take=take,
    check=check,
    encode=encode,
    head_type="tagging",
    add_head=add_head,
    loss=labelled.loss,
    decode=labelled.decode,
    join=labelled.join,
    gold=labelled.gold,
    metrics=TAG_METRICS,
    labels_of=labelled.labels_of,
    floor=labelled.majority,
    write_official=write_official,
    documents=read_words,
)
