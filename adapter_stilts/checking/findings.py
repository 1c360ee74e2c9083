"""What a check found: places with messages, and how much was looked at."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.languages import LANGUAGES
from adapter_stilts.tasks.conllu import Sentence

Say = Callable[[int, str, str], None]
"""Takes the line, the code, and what was found and is accepted there."""

CODES: dict[str, str] = {
    "utf-8": "bytes that are no UTF-8",
    "line-end": "a carriage return",
    "blank-line": "not one blank line after each sentence",
    "columns": "not ten columns",
    "id": "words not numbered from 1",
    "range": "a multiword range or an empty node out of place",
    "comment": "a comment after a word, or without words",
    "empty": "a column with nothing in it, or blanks around its value",
    "misc": "a key twice in MISC, or a value that UD does not have",
    "sent_id": "no sent_id, or one twice",
    "text": "no text, or one that is not its words",
    "upos": "no UPOS of UD v2",
    "deprel": "no relation of UD v2, or a wrong subtype",
    "punct": "UPOS PUNCT and the relation punct apart",
    "head": "a HEAD that is no other word of the sentence",
    "root": "not one root with the relation root",
    "cycle": "words that hang on each other",
    "entity": "spans that are no IOB2 (MISC Entity)",
    "entity-type": "a span that is not PER, LOC or ORG",
    "sem": "no coarse semantic tag (MISC Sem)",
    "partial": "an annotation on fewer than half of a file's words",
    "duplicate": "a sentence of four or more words twice",
    "leak": "a test sentence that stands in training data",
    "read": "what stops a reader, or the task, at this place",
    "form": "FORM _ on most words: a treebank without its text",
    "nothing": "a text, or a sentence, with nothing in it",
    "label": "what can be no label, is not in the task's list, or is spelled in two ways",
    "spans": "tags of spans in IOB1, in several schemes, or inside a span that has not begun",
    "unseen": "a label of development or test data that training data do not have",
    "count": "no sentence, or too few (--minimum)",
    "parallel": "other sentences than in the other languages (--parallel)",
    "n-gram": "four words in a row in more than 3 sentences of a language (--varied)",
    "tag-sequence": "one UPOS sequence in more than 2% of a file's sentences (--varied)",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: `message` says what was found and what is accepted. `line` counts rows
    where `unit` says so."""

    file: Path
    line: int
    code: str
    message: str
    unit: str = "line"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.unit == "line" else f"{self.file}: {self.unit} {self.line}"
        return f"{where}: {self.message} [{self.code}]"

    def as_json(self) -> dict[str, Any]:
        return {"file": str(self.file), self.unit: self.line, "code": self.code, "message": self.message}


@dataclass(frozen=True)
class Example:
    """A sentence, or a text (and its second text) cut at blanks: its line (or row) and its words."""

    line: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class CheckedFile:
    """One file that was looked at. `unchecked`: annotations that it does not have, and checks that it was spared.

    `examples` could be read and have words. `sentences` are those of CoNLL-U, empty for other formats; `labels` are the
    labels of each example, each with its line, and `scheme` that of their spans; `read` says how another format was
    read; `given_role` is that which a task gives it, before what its name says.
    """

    path: Path
    sentences: tuple[Sentence, ...]
    unchecked: tuple[str, ...]
    examples: tuple[Example, ...] = ()
    labels: tuple[tuple[tuple[int, str], ...], ...] = ()
    scheme: str | None = None
    read: str = ""
    rows: str = "sentence"
    unit: str = "line"
    given_role: str | None = None

    @property
    def size(self) -> int:
        """Number of sentences or texts."""
        return len(self.sentences or self.examples)

    @property
    def words(self) -> int:
        """Number of syntactic words; of texts, of what stands between blanks."""
        if self.sentences:
            return sum(len(sentence.words) for sentence in self.sentences)
        return sum(len(example.words) for example in self.examples)

    @property
    def language(self) -> str | None:
        """The code that the name begins with (`de.conllu`, `de_gsd-ud-test.conllu`), where it is a language's."""
        code = _parts(self.path)[0]
        return code if code in LANGUAGES else None

    @property
    def role(self) -> str | None:
        """`train`, `dev` or `test`, from the task, else from the name, else from the name of the folder."""
        if self.given_role is not None:
            return _ROLES[self.given_role]
        named = [*_parts(self.path), self.path.resolve().parent.name]
        return next((_ROLES[part] for part in named if part in _ROLES), None)

    @property
    def last_line(self) -> int:
        """The last line with something on it; 1 for an empty file."""
        if not self.sentences:
            return self.examples[-1].line if self.examples else 1
        last = self.sentences[-1]
        return max(lines[-1][0] for lines in (last.comments, last.words, last.others) if lines)

    @property
    def description(self) -> str:
        """How the file was read, and its labels with how often they stand there, the commonest first."""
        counts = Counter(label for labels in self.labels for _, label in labels)
        if not counts:
            return f"{self.path}: {self.read}"
        shown = [f"{label} {count:,}" for label, count in counts.most_common(_SHOWN_LABELS)]
        more = f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
        scheme = f"; {self.scheme}" if self.scheme else ""
        return f"{self.path}: {self.read}; {_counted(len(counts), 'label')}: {', '.join(shown)}{more}{scheme}"

    def as_json(self) -> dict[str, Any]:
        counts = {f"{self.rows}s": self.size, "words": self.words}
        described: dict[str, Any] = {"file": str(self.path), **counts, "unchecked": list(self.unchecked)}
        if self.read:
            described |= {"read": self.read, "scheme": self.scheme}
            described["labels"] = dict(Counter(label for labels in self.labels for _, label in labels).most_common())
        return described


@dataclass(frozen=True)
class Report:
    """All findings, by file in the order given and by line, and what was looked at."""

    files: tuple[CheckedFile, ...]
    findings: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """One line with counts, and with what was not checked where the annotation is missing."""
        counts = [
            _counted(len(self.files), "file"),
            *self._sizes(),
            _counted(sum(file.words for file in self.files), "word"),
            _counted(len(self.findings), "finding"),
        ]
        spared: dict[str, int] = {}
        for file in self.files:
            for what in file.unchecked:
                spared[what] = spared.get(what, 0) + 1
        listed = ", ".join(f"{what} ({count} of {len(self.files)} files)" for what, count in spared.items())
        return ", ".join(counts) + (f"; not checked, for want of it: {listed}" if listed else "")

    def _sizes(self) -> list[str]:
        sizes: dict[str, int] = {}
        for file in self.files:
            sizes[file.rows] = sizes.get(file.rows, 0) + file.size
        named = [_counted(size, rows) for rows, size in sorted(sizes.items()) if size]
        return named or [_counted(0, "sentence")]

    def as_json(self) -> dict[str, Any]:
        return {
            "files": [file.as_json() for file in self.files],
            "findings": [finding.as_json() for finding in self.findings],
            "summary": self.summary,
        }


_SHOWN_LABELS = 12
_ROLES = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}


def _parts(path: Path) -> list[str]:
    return path.stem.replace("_", "-").split("-")


def _counted(number: int, what: str) -> str:
    return f"{f'{number:,}' if number else 'no'} {what}{'' if number == 1 else 's'}"
