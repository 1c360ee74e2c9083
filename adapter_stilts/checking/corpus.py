"""Checks across sentences and files: repetitions, test sentences in training data, parallel files, variety."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from adapter_stilts.checking.findings import CheckedFile
from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.conllu import FORM, UPOS, Sentence

SayOf = Callable[[CheckedFile, int, str, str], None]
"""Takes the file, the line, the code, and what was found and is accepted there."""

REPEATED_WORDS = 4  # shorter sentences repeat by chance
N_GRAM = 4
N_GRAM_SENTENCES = 3
TAG_SEQUENCE_SHARE = 0.02


def check_repetitions(files: Sequence[CheckedFile], say: SayOf) -> None:
    """Sentences that stand twice in the files, compared by their letters and numbers; case makes no difference.

    Test data are read last, so that a sentence that training data have too is found there.
    """
    seen: dict[str, tuple[CheckedFile, int]] = {}
    ordered = sorted(files, key=lambda file: file.role == "test")
    for file, example in [(checked, example) for checked in ordered for example in checked.examples]:
        words = [letters for word in example.words if (letters := _letters(word))]
        if len(words) < REPEATED_WORDS:
            continue
        first, line = seen.setdefault("".join(words), (file, example.line))
        if first is file and line == example.line:
            continue
        what, where = file.rows, location(first, line)
        if (first.role, file.role) == ("train", "test"):
            say(file, example.line, "leak", f"found a test {what} that training data have ({where})")
        else:
            say(file, example.line, "duplicate", f"found the {what} of {where}, accepted each once")


def location(file: CheckedFile, line: int) -> str:
    """A line, or a row, of a file."""
    return f"{file.path}:{line}" if file.unit == "line" else f"{file.path} {file.unit} {line}"


def check_count(file: CheckedFile, minimum: int, say: SayOf) -> None:
    """At least so many sentences in a file."""
    if file.size < minimum:
        say(file, file.last_line, "count", f"found {file.size} {file.rows}s, accepted {minimum} or more")


# --- variety ------------------------------------------------------------------------------------------------------


def check_n_grams(files: Sequence[CheckedFile], say: SayOf) -> None:
    """No four forms in a row, case aside, in more than three sentences of one language."""
    seen: dict[tuple[str, ...], list[tuple[CheckedFile, int]]] = defaultdict(list)
    for file, sentence in _sentences(files):
        forms = [fields[FORM].lower() for _, fields in sentence.words]
        positions = {(file.language or str(file.path), *forms[at : at + N_GRAM]): at for at in range(len(forms) - 3)}
        for gram, at in positions.items():
            seen[gram].append((file, sentence.words[at][0]))
    for gram, occurrences in seen.items():
        if len(occurrences) > N_GRAM_SENTENCES:
            file, line = occurrences[N_GRAM_SENTENCES]
            words = " ".join(gram[1:])
            where = f"first in {occurrences[0][0].path}:{occurrences[0][1]}"
            say(
                file,
                line,
                "n-gram",
                f"found {words!r} in {len(occurrences)} sentences ({where}), accepted {N_GRAM_SENTENCES}",
            )


def check_tag_sequences(file: CheckedFile, say: SayOf) -> None:
    """No sentence-long UPOS sequence in more than 2% of a file's sentences (and not in one)."""
    seen: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for _, sentence in _sentences([file]):
        seen[tuple(fields[UPOS] for _, fields in sentence.words)].append(sentence.line)
    allowed = max(1, int(TAG_SEQUENCE_SHARE * len(file.sentences)))
    for tags, lines in seen.items():
        if len(lines) > allowed:
            complaint = f"found the UPOS sequence {' '.join(tags)} in {len(lines)} sentences (first in line {lines[0]})"
            say(file, lines[allowed], "tag-sequence", f"{complaint}, accepted {allowed} of {len(file.sentences)}")


# --- parallel files -----------------------------------------------------------------------------------------------


def check_parallel(files: Sequence[CheckedFile], say: SayOf) -> None:
    """The same sent_ids in the same order in all files whose names differ in the language code alone, and the English
    file's text where the others give it (`# text_en`).

    What most of the files have is right. Raises UsageError where no two files are parallel by name.
    """
    groups: dict[tuple[Path, str], list[CheckedFile]] = defaultdict(list)
    for file in files:
        if file.language is not None:
            groups[file.path.parent, file.path.name.removeprefix(file.language)].append(file)
    parallel = [group for group in groups.values() if len(group) > 1]
    if not parallel:
        accepted = "files in one folder whose names differ in the language code alone, such as de.conllu, fr.conllu"
        raise UsageError(f"--parallel: found no such files, accepted {accepted}")
    for group in parallel:
        ids = {file.path: _identifiers(file) for file in group}
        ((expected, _),) = Counter(tuple(identifiers) for identifiers in ids.values()).most_common(1)
        example = next(file for file in group if tuple(ids[file.path]) == expected)
        for file in group:
            _compare(file, ids[file.path], {name: ids[example.path][name] for name in expected}, example, say)
        _check_translations(group, say)


def _check_translations(group: Sequence[CheckedFile], say: SayOf) -> None:
    english = {}
    for _, sentence in _sentences([file for file in group if file.language == "en"]):
        if (name := sentence.comment("sent_id")) and (text := sentence.comment("text")):
            english[name[1]] = text[1]
    for file, sentence in _sentences(group):
        name, given = sentence.comment("sent_id"), sentence.comment("text_en")
        if name and given and english.get(name[1], given[1]) != given[1]:
            say(file, given[0], "parallel", f"found the text_en {given[1]!r}, accepted {english[name[1]]!r}")


def _compare(
    file: CheckedFile, identifiers: dict[str, int], expected: dict[str, int], example: CheckedFile, say: SayOf
) -> None:
    """Sentences (sent_id -> line) that are missing, that are too many, or the first that is out of its order."""
    for name, line in identifiers.items():
        if name not in expected:
            say(file, line, "parallel", f"found the sentence {name}, which {example.path} has not, accepted the same")
    order = list(expected)
    for position, name in enumerate(order):
        if name not in identifiers:
            following = next((identifiers[later] for later in order[position:] if later in identifiers), file.last_line)
            where = f"as in {example.path}:{expected[name]}"
            say(file, following, "parallel", f"found no sentence {name} here, accepted the same {where}")
    shared = [name for name in order if name in identifiers]
    for name, accepted in zip((name for name in identifiers if name in expected), shared, strict=True):
        if name != accepted:
            say(file, identifiers[name], "parallel", f"found {name}, accepted {accepted} first as in {example.path}")
            return


def _identifiers(file: CheckedFile) -> dict[str, int]:
    comments = [(sentence.comment("sent_id"), sentence.line) for sentence in file.sentences]
    return {comment[1]: line for comment, line in comments if comment is not None}


def _sentences(files: Sequence[CheckedFile]) -> Iterator[tuple[CheckedFile, Sentence]]:
    """Sentences that could be read and have words."""
    for file in files:
        for sentence in file.sentences:
            if sentence.whole and sentence.words:
                yield file, sentence


def _letters(form: str) -> str:
    return "".join(character for character in form.casefold() if unicodedata.category(character)[0] in "LMN")
