"""Classification: one label for a text or a pair of texts, read at `<s>`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from adapter_stilts.tasks.sequences import MAX_PIECES, EncodedSequence
from adapter_stilts.tasks.tokenizing import tokenize_examples


def encode(
    columns: dict[str, list[Any]], tokenizer: Any, word_piece: str = "first_content"
) -> Iterator[EncodedSequence]:
    """Sequences `<s> A </s>` or `<s> A </s> </s> B </s>`, in order; the longer text is cut where both exceed 512.

    `word_piece` decides nothing here: there are no words.
    """
    texts, pairs = columns["text"], columns.get("text_pair")
    for example, ids in enumerate(tokenize_examples(tokenizer, texts, pairs, MAX_PIECES + 2)):
        yield EncodedSequence(example, ids, [0], [1])


def add_head(model: Any, name: str, labels: Sequence[str], dropout: float) -> None:
    """Dense, tanh and a linear layer over the state of `<s>`, as RoBERTa's own classification head."""
    model.add_classification_head(name, num_labels=len(labels), layers=2, id2label=dict(enumerate(labels)))
    for module in model.heads[name]:
        if hasattr(module, "p"):
            module.p = dropout
