"""Multiple choice: which of an example's texts answers its question; each is read with it, and all compete.

An example of n choices is n sequences `<s> context question </s></s> choice </s>`, scored at `<s>` by one number each;
the softmax goes over the example's sequences, which no batch takes apart. As in XTREME-R's XCOPA and jiant.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.kinds.classification import set_dropout
from adapter_stilts.tasks.kinds.contract import (
    Columns,
    EncodedSequence,
    HeadSpec,
    Inventory,
    Kind,
    LocationOf,
    Options,
)
from adapter_stilts.tasks.metrics import Array, Metric, paired_numbers, percent_right
from adapter_stilts.tasks.sequences import MAX_PIECES, PORTION
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.tasks.tokenizing import tokenize_texts

if TYPE_CHECKING:
    from torch import Tensor

    from adapter_stilts.engine.batches import Batch
    from adapter_stilts.model.protocols import Model
    from adapter_stilts.tasks.documents.document import Document
    from adapter_stilts.tasks.encode import EncodedSplit


class MultipleChoiceOptions(Options):
    """`questions`: what stands for a value of the question's column, such as `cause: What was the cause?`; empty: the
    column's own text is read. `first_answer`: the number of the first choice, where answers are numbers."""

    questions: dict[str, str] = Field(default_factory=dict)
    first_answer: int = Field(default=0, ge=0, le=1)


# --- the data -------------------------------------------------------------------------------------------------------


def take(columns: Columns, names: Mapping[str, Any], location_of: LocationOf) -> list[int]:
    """Every row. Raises DataError for a row without two choices or more, with a blank one, or with lists and texts in
    each other's place."""
    for row, choices in enumerate(columns["choices"]):
        where = f"{location_of(row, None)}: {shown(names['choices'])}"
        if not isinstance(choices, list):
            raise DataError(f"{where}: found one text, accepted a list of choices")
        if len(choices) < 2:
            raise DataError(f"{where}: found {_counted(choices)}, accepted two or more")
        for number, choice in enumerate(choices, 1):
            if isinstance(choice, list) or not _shows(choice):
                refused = "a list" if isinstance(choice, list) else "a blank text"
                raise DataError(f"{where}: found {refused} for choice {number}, accepted a text")
    for role in ("question", "context", "answer"):
        for row, value in enumerate(columns.get(role, ())):
            if isinstance(value, list):
                refused = f"a list of {len(value)}"
                raise DataError(
                    f"{location_of(row, None)}: {shown(names[role])}: found {refused}, accepted one text a row"
                )
    for row, keys in enumerate(columns.get("keys", ())):
        choices = columns["choices"][row]
        if not isinstance(keys, list) or len(keys) != len(choices) or len(set(keys)) < len(keys):
            refused = f"the keys {', '.join(keys)[:60]}" if isinstance(keys, list) else "one text"
            accepted = f"a key of its own for each of {len(choices)} choices"
            raise DataError(f"{location_of(row, None)}: {shown(names['keys'])}: found {refused}, accepted {accepted}")
    return list(range(len(columns["choices"])))


def _shows(text: str) -> bool:
    """Whether a text has a character that can be seen."""
    return any(unicodedata.category(character)[0] not in "ZC" for character in text)


def _counted(choices: Sequence[str]) -> str:
    return "one choice" if choices else "no choice"


def shown(name: Any) -> str:
    """What a message calls a column, or several that make one list."""
    return ", ".join(name) if isinstance(name, (list, tuple)) else str(name)


def read(
    columns: Columns,
    names: Mapping[str, Any],
    location_of: LocationOf,
    options: MultipleChoiceOptions,
    class_names: Sequence[str] | None = None,
) -> Columns:
    """The columns with `answer` as the number of the right choice, counted from 0, and the question's text in place of
    its value. Raises DataError for an answer that is no choice, and for a value that `questions` does not have."""
    made = dict(columns)
    if options.questions and "question" in columns:
        made["question"] = [
            _question(value, options, f"{location_of(row, None)}: {shown(names['question'])}")
            for row, value in enumerate(columns["question"])
        ]
    if "answer" in columns:
        made["answer"] = [
            _answer(columns, names, row, options, class_names, f"{location_of(row, None)}: {shown(names['answer'])}")
            for row in range(len(columns["answer"]))
        ]
    return made


def _question(value: str, options: MultipleChoiceOptions, where: str) -> str:
    if value not in options.questions:
        raise DataError(f"{where}: found {value[:60]!r}, accepted {', '.join(options.questions)} (`questions`)")
    return options.questions[value]


def _answer(
    columns: Columns,
    names: Mapping[str, Any],
    row: int,
    options: MultipleChoiceOptions,
    class_names: Sequence[str] | None,
    where: str,
) -> int:
    """By the choice's key, its place in a ClassLabel, its number, or the name of its column. What is a number is one,
    also where a column is called so: `predict` writes numbers."""
    answer, count = columns["answer"][row].strip(), len(columns["choices"][row])
    if "keys" in columns:
        keys = columns["keys"][row]
        if answer not in keys:
            raise DataError(f"{where}: found {answer[:60]!r}, accepted {', '.join(keys)}")
        return keys.index(answer)
    if class_names is not None and answer in class_names[:count]:
        return class_names.index(answer)
    named = names["choices"]
    if isinstance(named, (list, tuple)) and answer in named and not answer.isdecimal():
        return list(named).index(answer)
    first, last = options.first_answer, options.first_answer + count - 1
    number = int(answer) if answer.isascii() and answer.isdecimal() and len(answer) < 9 else None
    if number is None or not first <= number <= last:
        raise DataError(f"{where}: found {answer[:60]!r}, accepted the number of a choice, {first} to {last}")
    return number - first


def inventory(columns: Columns) -> tuple[str, ...]:
    """Numbers of the choices, as many as an example of the training data has at most."""
    return tuple(str(number) for number in range(max(map(len, columns["choices"]))))


# --- sequences ------------------------------------------------------------------------------------------------------


def encode(
    columns: Columns, tokenizer: Tokenizer, options: MultipleChoiceOptions, numbers: Inventory | None = None
) -> Iterator[EncodedSequence]:
    """A sequence for each choice of each example, in order, its unit `<s>`, its target 1 for the right choice, else 0.

    Context and question are one text, the choice the other: `<s> context question </s></s> choice </s>`. Where they
    exceed 512 pieces the end of the context is cut, then that of the question, then that of the choice.
    """
    choices, asked_roles = columns["choices"], [role for role in ("context", "question") if role in columns]
    ends = [tokenizer.eos_token_id]
    for first in range(0, len(choices), PORTION):
        rows = range(first, min(first + PORTION, len(choices)))
        asked = [list(tokenize_texts(tokenizer, [columns[role][row].strip() for row in rows])) for role in asked_roles]
        answers = tokenize_texts(tokenizer, [choice.strip() for row in rows for choice in choices[row]])
        for index, row in enumerate(rows):
            for number in range(len(choices[row])):
                parts = _cut([texts[index] for texts in asked], next(answers))
                *before, choice = parts
                ids = [tokenizer.bos_token_id, *chain(*before), *ends, *ends, *choice, *ends]
                targets = {} if numbers is None else {"right": [int(columns["answer"][row] == number)]}
                starts = [1 + len(before[0])] if len(before) > 1 and before[0] and before[1] else []
                yield EncodedSequence(row, ids, [0], [1], targets, starts)


def _cut(asked: Sequence[list[int]], choice: list[int]) -> list[list[int]]:
    """The pieces of context, question and choice, cut one after another until they fit with four special pieces."""
    parts = [*asked, choice]
    surplus = sum(map(len, parts)) - (MAX_PIECES - 2)
    cut = []
    for part in parts:
        taken = min(max(surplus, 0), len(part))
        cut.append(part[: len(part) - taken])
        surplus -= taken
    return cut


def shuffle(split: EncodedSplit, seed: int) -> dict[str, np.ndarray]:
    """The right choice of each example drawn anew: nothing to learn of them."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(split.example, minlength=split.examples)
    right = (rng.random(split.examples) * counts).astype(np.int64)
    first = np.cumsum(counts) - counts
    targets = np.zeros_like(split.targets["right"])
    targets[(first + right)[counts > 0]] = 1
    return {"right": targets}


# --- head and answers -----------------------------------------------------------------------------------------------


def add_head(model: Model, name: str, spec: HeadSpec) -> None:
    """Dense, tanh and a linear layer to one number over the state of `<s>`; `adapters` has it as multiple choice."""
    id2label = dict(enumerate(spec.labels))
    model.add_multiple_choice_head(name, num_choices=len(spec.labels), layers=2, id2label=id2label)
    set_dropout(model.heads[name], spec.dropout)


def loss(scores: Tensor, batch: Batch) -> Tensor:
    """-log softmax of the right choice among its example's: scores (U, 1)."""
    from adapter_stilts.tasks.kinds.losses import segment_loss

    assert batch.segment is not None
    return segment_loss(scores.squeeze(1), batch.segment, batch.targets["right"])


def decode(scores: Tensor, batch: Batch) -> Mapping[str, Tensor]:
    """The score of each choice, (U,)."""
    return {"score": scores.squeeze(1).float()}


def join(decoded: Mapping[str, np.ndarray], split: EncodedSplit, examples: np.ndarray) -> list[int]:
    """The choice with the highest score of each example, the first among equals."""
    return _best_choices(decoded["score"], split, examples)


def gold(split: EncodedSplit, examples: np.ndarray) -> list[int]:
    """The right choice of each example."""
    return _best_choices(split.targets["right"], split, examples)


def _best_choices(values: np.ndarray, split: EncodedSplit, examples: np.ndarray) -> list[int]:
    """The choice with the highest value of each example. Choices of the same text are one, the first of them: what
    rounding makes of equal scores decides nothing."""
    counts = np.bincount(split.example, minlength=split.examples)
    first = np.cumsum(counts) - counts
    best = []
    for begin, count in zip(first[examples].tolist(), counts[examples].tolist(), strict=True):
        borders = split.id_offsets[begin : begin + count + 1].tolist()
        texts = [split.ids[start:end].tobytes() for start, end in pairwise(borders)]
        chosen = int(values[begin : begin + count].argmax())
        best.append(texts.index(texts[chosen]))
    return best


def labels_of(answer: int) -> Iterable[int]:
    """The number of the choice."""
    return (answer,)


def floor(answers: Sequence[int]) -> list[int]:
    """Always the choice that is right most often."""
    return [Counter(answers).most_common(1)[0][0]] * len(answers)


def _right_choices(predictions: Sequence[int], answers: Sequence[int]) -> Array:
    """(examples, 2): 1 where the choice is right, and 1."""
    predictions, answers = paired_numbers(predictions, answers)
    return np.array([(chosen == right, 1) for chosen, right in zip(predictions, answers, strict=True)], float)


def write_official(answers: Sequence[int], path: Path) -> None:
    """A JSON object a line with the choice's number as `label`."""
    path.write_text("".join(f'{{"label": {answer}}}\n' for answer in answers), encoding="utf-8")


def read_choices(*arguments: Any) -> Document:
    """A user's file of questions with their choices: see `tasks.documents.choices`."""
    from adapter_stilts.tasks.documents.choices import read as read_file

    return read_file(*arguments)


MULTIPLE_CHOICE_KIND = Kind(
    name="multiple_choice",
    options=MultipleChoiceOptions,
    columns={"question": "text", "choices": "texts", "answer": "text"},
    optional={"context": "text", "keys": "texts"},
    answer_role="answer",
    text_roles=("context", "question", "choices"),
    rows="question",
    joined_roles=("choices",),
    inventory=inventory,
    take=take,
    read=read,
    encode=encode,
    targets=("right",),
    together="example",
    head_type="multiple_choice",
    add_head=add_head,
    loss=loss,
    shuffle=shuffle,
    decode=decode,
    join=join,
    gold=gold,
    metrics={"accuracy": Metric("accuracy", "1", _right_choices, percent_right)},
    labels_of=labels_of,
    floor=floor,
    answer="number",
    write_official=write_official,
    documents=read_choices,
)
