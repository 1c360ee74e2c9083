"""Check annotated data: every finding with its file and line, what was found and what is accepted."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from adapter_stilts.checking import corpus
from adapter_stilts.checking.findings import CheckedFile, Finding, Report, Say
from adapter_stilts.checking.sentences import (
    ENTITY_KEY,
    SEMANTIC_KEY,
    check_entities,
    check_form,
    check_punctuation,
    check_relations,
    check_semantic_tags,
    check_text,
    check_tree,
    check_upos,
)
from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.conllu import DEPREL, HEAD, MISC, UPOS, Row, Sentence, misc_values, read_sentences

# What a word has of each annotation; a file in which no word has it is spared the checks of it.
_ANNOTATIONS: dict[str, Callable[[list[str]], str | None]] = {
    "UPOS": lambda fields: _present(fields[UPOS]),
    "HEAD": lambda fields: _present(fields[HEAD]),
    "DEPREL": lambda fields: _present(fields[DEPREL]),
    ENTITY_KEY: lambda fields: misc_values(fields[MISC]).get(ENTITY_KEY),
    SEMANTIC_KEY: lambda fields: misc_values(fields[MISC]).get(SEMANTIC_KEY),
}


def check_files(
    paths: Sequence[Path],
    *,
    varied: bool = False,
    parallel: bool = False,
    minimum: int | None = None,
    skip: Collection[str] = (),
) -> Report:
    """Check CoNLL-U files, and all `.conllu` files in folders.

    Always: CoNLL-U's form, `# text`, UPOS and relations of UD v2, trees, entity spans (MISC Entity: IOB2 over PER, LOC,
    ORG) and coarse semantic tags (MISC Sem), each where the file has it at all; sentences that stand twice, or in both
    training and test data. `varied`: no four words in a row in more than 3 sentences of a language, no UPOS sequence in
    more than 2% of a file's sentences. `parallel`: the same sentences in all files whose names differ in the language
    code alone. `minimum`: so many sentences in each file. `skip`: codes of `findings.CODES` that are left out.

    Raises UsageError for a path without files, and where nothing is parallel.
    """
    findings: list[Finding] = []

    def say(path: Path, line: int, code: str, message: str) -> None:
        findings.append(Finding(path, line, code, message))

    def say_of(file: CheckedFile, line: int, code: str, message: str) -> None:
        say(file.path, line, code, message)

    files = [_check_file(path, partial(say, path)) for path in _conllu_files(paths)]
    corpus.check_repetitions(files, say_of)
    for file in files:
        corpus.check_count(file, minimum or 1, say_of)
        if varied and "UPOS" not in file.unchecked:
            corpus.check_tag_sequences(file, say_of)
    if varied:
        corpus.check_n_grams(files, say_of)
    if parallel:
        corpus.check_parallel(files, say_of)
    order = {file.path: place for place, file in enumerate(files)}
    kept = [finding for finding in findings if finding.code not in skip]
    return Report(tuple(files), tuple(sorted(kept, key=lambda own: (order[own.file], own.line))))


def _conllu_files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.conllu")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path}: found no .conllu file in the folder, accepted one or more")
        if not path.exists():
            raise UsageError(f"{path}: found no such file, accepted CoNLL-U files and folders of them")
        found += inside
    return list(dict.fromkeys(found))


def _check_file(path: Path, say: Say) -> CheckedFile:
    sentences = tuple(read_sentences(_lines(path.read_bytes(), say), say))
    whole = [sentence for sentence in sentences if sentence.whole]
    words = [row for sentence in whole for row in sentence.words]
    missing = [name for name in _ANNOTATIONS if not _has(words, name, say)]
    missing += [key for key in ("sent_id", "text") if all(own.comment(key) is None for own in sentences)]
    _check_identifiers(sentences, say, "sent_id" not in missing)
    for sentence in whole:
        check_form(sentence, say)
        for check in _checks(missing):
            check(sentence, say)
    return CheckedFile(path, sentences, tuple(missing))


def _checks(missing: Collection[str]) -> Iterator[Callable[[Sentence, Say], None]]:
    """The checks for which no annotation is missing."""
    relations = "DEPREL" not in missing
    needs: list[tuple[set[str], Callable[[Sentence, Say], None]]] = [
        ({"text"}, check_text),
        ({"UPOS"}, check_upos),
        ({"DEPREL"}, check_relations),
        ({"UPOS", "DEPREL"}, check_punctuation),
        ({"HEAD"}, partial(check_tree, relations=relations)),
        ({ENTITY_KEY}, check_entities),
        ({SEMANTIC_KEY}, check_semantic_tags),
    ]
    return (check for needed, check in needs if not needed & set(missing))


def _lines(raw: bytes, say: Say) -> Iterator[tuple[int, str]]:
    """Numbered lines as the tasks' reader takes them; says where they are not UTF-8, and of ends and blank lines."""
    lines = raw.split(b"\n")
    if b"\r" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\r")) + 1
        say(line, "line-end", "found a carriage return, accepted lines that end with a line feed alone")
    if raw and lines[-2:] != [b"", b""]:
        say(len(lines) - (lines[-1] == b""), "blank-line", "found no blank line after the last sentence, accepted one")
    for number, coded in enumerate(lines[:-1] if lines[-1] == b"" else lines, 1):
        text = coded.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").removesuffix("\r")
        if not text and (number == 1 or not lines[number - 2].removesuffix(b"\r")):
            say(number, "blank-line", "found a blank line with no sentence above, accepted one after each sentence")
        try:
            coded.decode("utf-8")
        except UnicodeDecodeError as error:
            say(number, "utf-8", f"found bytes that are not UTF-8 ({error.reason}), accepted UTF-8")
        yield number, text


def _has(words: Sequence[Row], name: str, say: Say) -> bool:
    """Whether the annotation is there to be checked: on at least half of the words. On fewer it is a finding."""
    having = [(line, value) for line, fields in words if (value := _ANNOTATIONS[name](fields)) is not None]
    if name == ENTITY_KEY and not any(value == "O" or value[:2] in ("B-", "I-") for _, value in having):
        return False  # other corpora keep other things under this key, such as coreference
    if 0 < 2 * len(having) < len(words):
        say(
            having[0][0], "partial", f"found {name} on {len(having)} of {len(words)} words, accepted on all, or on none"
        )
        return False
    return bool(having)


def _present(value: str) -> str | None:
    return None if value in ("_", "") else value


def _check_identifiers(sentences: Sequence[Sentence], say: Say, needed: bool) -> None:
    seen: dict[str, int] = {}
    for sentence in sentences:
        comment = sentence.comment("sent_id")
        if comment is None:
            if needed and sentence.words:
                say(sentence.line, "sent_id", "found no '# sent_id = ...', accepted one before a sentence's words")
            continue
        line, name = comment
        if name in seen:
            say(line, "sent_id", f"found the sent_id {name} of line {seen[name]}, accepted each once")
        seen.setdefault(name, line)
