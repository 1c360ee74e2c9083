"""CoNLL-U, sentence by sentence (https://universaldependencies.org/format.html).

One reader for tasks and for checks. What it cannot read it tells its caller: a task stops there, a check goes on.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

Row = tuple[int, list[str]]
"""A line's number, from 1, and its ten columns."""
Complain = Callable[[int, str, str], None]
"""Takes a line, a code (`columns` or `id`), and what was found and is accepted there."""

CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
ID, FORM, LEMMA, UPOS, XPOS, FEATS, HEAD, DEPREL, DEPS, MISC = range(len(CONLLU_COLUMNS))
_MISC_COLUMN = "misc."


@dataclass
class Sentence:
    """One block of lines. `words` are the syntactic words; `others` multiword ranges and empty nodes, in their order;
    `whole` says that all of its lines could be read."""

    comments: list[tuple[int, str]] = field(default_factory=list)
    words: list[Row] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)
    whole: bool = True

    @property
    def line(self) -> int:
        """The number of its first line."""
        return min(lines[0][0] for lines in (self.comments, self.words, self.others) if lines)

    def comment(self, key: str) -> tuple[int, str] | None:
        """Line and value of the comment `# key = value`; None where there is none."""
        start = f"# {key} ="
        return next(
            ((line, text[len(start) :].removeprefix(" ")) for line, text in self.comments if text.startswith(start)),
            None,
        )


def read_sentences(lines: Iterable[tuple[int, str]], complain: Complain) -> Iterator[Sentence]:
    """The sentences of numbered lines without their ends; blanks alone are a blank line. The word numbers of a sentence
    must run from 1; a comment and a word 1 in the midst of a sentence are a lost blank line, and begin the next one."""
    sentence = Sentence()
    for number, text in lines:
        if not text.strip():
            if sentence != Sentence():
                yield sentence
            sentence = Sentence()
        elif text.startswith("#"):
            sentence.comments.append((number, text))
        else:
            row = (number, text.split("\t"))
            begun = _begun(sentence, row)
            readable = _readable(sentence, row, complain)
            if begun is not None:
                yield sentence
                sentence, readable = begun, len(row[1]) == len(CONLLU_COLUMNS)
            sentence.whole = sentence.whole and readable
            if len(row[1]) == len(CONLLU_COLUMNS):
                (sentence.others if _stands_beside(row[1][ID]) else sentence.words).append(row)
    if sentence != Sentence():
        yield sentence


def misc_key(column: str | int) -> str | None:
    """The key that a task's column `misc.KEY` names; None for another column."""
    name = str(column)
    return name[len(_MISC_COLUMN) :] if name.startswith(_MISC_COLUMN) and name != _MISC_COLUMN else None


def misc_values(misc: str) -> dict[str, str]:
    """Key -> value of a MISC column (`\\p` in a value is `|`). Attributes without a value are left out."""
    attributes = misc.split("|") if misc != "_" else []
    parts = (attribute.partition("=") for attribute in attributes)
    return {key: value.replace("\\p", "|") for key, equals, value in parts if equals}


def _begun(sentence: Sentence, row: Row) -> Sentence | None:
    """The sentence that begins with this row, with the comments above it, which are taken from the one before."""
    if row[1][ID] != "1" or not sentence.words or not sentence.comments:
        return None
    last = sentence.words[-1][0]
    if sentence.comments[-1][0] < last:
        return None
    begun = Sentence([comment for comment in sentence.comments if comment[0] > last])
    sentence.comments = [comment for comment in sentence.comments if comment[0] < last]
    return begun


def _readable(sentence: Sentence, row: Row, complain: Complain) -> bool:
    """Complains of the sentence's first line that is not as it should be; whatever follows it is out of step."""
    line, fields = row
    if len(fields) != len(CONLLU_COLUMNS):
        complain(line, "columns", f"found {len(fields)} columns, accepted {len(CONLLU_COLUMNS)}")
        return False
    expected = str(len(sentence.words) + 1)
    if _stands_beside(fields[ID]) or fields[ID] == expected or not sentence.whole:
        return True
    problem = f"found the word number {fields[ID]!r}"
    complain(line, "id", f"{problem}, accepted {expected}, a range (1-2), an empty node (1.1)")
    return False


def _stands_beside(identifier: str) -> bool:
    """Whether this is no syntactic word but a multiword range or an empty node."""
    return not identifier.isdecimal() and re.fullmatch(r"[0-9]+[-.][0-9]+", identifier) is not None
