"""Classification: one label for a text or a pair of texts, read at `<s>`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_stilts.tasks.kinds import labelled, texts
from adapter_stilts.tasks.kinds.contract import (
    Columns,
    EncodedSequence,
    HeadSpec,
    Inventory,
    Kind,
    WordPieceOptions,
)
from adapter_stilts.tasks.metrics import LABEL_METRICS
from adapter_stilts.tasks.sequences import MAX_PIECES
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.tasks.tokenizing import tokenize_examples

if TYPE_CHECKING:
    from adapter_stilts.model.protocols import Model
    from adapter_stilts.tasks.documents.document import Document


def encode(
    columns: Columns, tokenizer: Tokenizer, options: WordPieceOptions, inventory: Inventory | None = None
) -> Iterator[EncodedSequence]:
    """Sequences `<s> A </s>` or `<s> A </s> </s> B </s>`, in order; the longer text is cut where both exceed 512.

    `word_piece` decides nothing here: there are no words.
    """
    first, second = columns["text"], columns.get("text_pair")
    for example, ids in enumerate(tokenize_examples(tokenizer, first, second, MAX_PIECES + 2)):
        targets = {} if inventory is None else {"label": [inventory.id_of(columns["label"][example], example)]}
        yield EncodedSequence(example, ids, [0], [1], targets)


def add_head(model: Model, name: str, spec: HeadSpec) -> None:
    """Dense, tanh and a linear layer over the state of `<s>`, as RoBERTa's own classification head."""
    id2label = dict(enumerate(spec.labels))
    model.add_classification_head(name, num_labels=len(spec.labels), layers=2, id2label=id2label)
    set_dropout(model.heads[name], spec.dropout)


def set_dropout(head: Any, dropout: float) -> None:
    """Set the probability of every dropout layer of a head."""
    for module in head:
        if hasattr(module, "p"):
            module.p = dropout


def write_official(answers: Sequence[Sequence[str]], path: Path) -> None:
    """A label a line."""
    lines = labelled.only_labels("classification", answers)
    path.write_text("".join(f"{label}\n" for label in lines), encoding="utf-8")


def read_texts(*arguments: Any) -> Document:
    """A user's file of texts: see `tasks.documents.texts`."""
    from adapter_stilts.tasks.documents.texts import read

    return read(*arguments)


CLASSIFICATION_KIND = Kind(
    name="classification",
    options=WordPieceOptions,
    columns={"text": "text", "label": "text"},
    optional={"text_pair": "text"},
    label_role="label",
    answer_role="label",
    text_roles=("text", "text_pair"),
    take=texts.take,
    check=texts.check,
    encode=encode,
    head_type="classification",
    add_head=add_head,
    loss=labelled.loss,
    decode=labelled.decode,
    join=labelled.join,
    gold=labelled.gold,
    metrics=LABEL_METRICS,
    scored=partial(labelled.only_labels, "classification"),
    labels_of=labelled.labels_of,
    floor=labelled.majority,
    write_official=write_official,
    documents=read_texts,
)
