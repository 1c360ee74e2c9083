"""Check annotated data: every finding with its file and line, what was found and what is accepted."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from adapter_stilts.checking import corpus
from adapter_stilts.checking.findings import CheckedFile, Example, Finding, Report, Say
from adapter_stilts.checking.labels import check_labels, check_spans, check_unseen_labels, scheme_of
from adapter_stilts.checking.rows import (
    SayOfUnit,
    check_repository_split,
    check_rows,
    complaint_of_task,
    labels_of_conllu,
)
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
from adapter_stilts.checking.sources import RepositorySplit, Source, sources_of
from adapter_stilts.errors import DataError
from adapter_stilts.tasks.conllu import DEPREL, FORM, HEAD, MISC, UPOS, Row, Sentence, misc_values, read_sentences

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
    file_format: str | None = None,
    columns: Mapping[str, str] | None = None,
    mirror: Path | None = None,
) -> Report:
    """Check data files of every format that tasks have, all `.conllu` files in folders, and all files of a task's YAML.

    CoNLL-U, always: its form, `# text`, UPOS and relations of UD v2, trees, entity spans (MISC Entity: IOB2 over PER,
    LOC, ORG) and coarse semantic tags (MISC Sem), each where the file has it at all. Other formats, and the column of
    labels of a task: what stops the reader, what is no label, tags of spans; in a task labels that its training data do
    not have. All: sentences or texts that stand twice, or in both training and test data. `varied`: no four words in a
    row in more than 3 sentences of a language, no UPOS sequence in more than 2% of a file's sentences. `parallel`: the
    same sentences in all files whose names differ in the language code alone. `minimum`: so many sentences in each
    file. `skip`: codes of `findings.CODES` that are left out. `file_format` and `columns` (role -> column) say what the
    files do not, `mirror` where the datasets of a task are.

    Raises UsageError for a path without files, a file of no known format, and where nothing is parallel.
    """
    findings: list[Finding] = []

    def say(path: Path, line: int, code: str, message: str, unit: str = "line") -> None:
        findings.append(Finding(path, line, code, message, unit))

    def say_of(file: CheckedFile, line: int, code: str, message: str) -> None:
        say(file.path, line, code, message, file.unit)

    groups: dict[str, list[CheckedFile]] = {}
    for source in sources_of(paths, file_format, columns or {}):
        file, group = _check_source(source, mirror, say)
        if isinstance(source, Source) and (complaint := complaint_of_task(source, mirror)) is not None:
            line, message, unit = complaint
            if not any((finding.file, finding.line) == (source.path, line) for finding in findings):
                say(source.path, line, "read", message, unit)
        if file is not None:
            groups.setdefault(group, []).append(file)
    files = [file for members in groups.values() for file in members]
    for members in groups.values():
        check_unseen_labels(members, say_of)
        _check_missing_tags(members, say_of)
    corpus.check_repetitions(files, say_of)
    for file in files:
        if not file.read.endswith("not read"):
            corpus.check_count(file, minimum or 1, say_of)
        if varied and file.sentences and "UPOS" not in file.unchecked:
            corpus.check_tag_sequences(file, say_of)
    if varied:
        corpus.check_n_grams(files, say_of)
    if parallel:
        corpus.check_parallel(files, say_of)
    order = {file.path: index for index, file in reversed(list(enumerate(files)))}
    reported = dict.fromkeys(finding for finding in findings if finding.code not in skip)
    return Report(tuple(files), tuple(sorted(reported, key=lambda finding: (order[finding.file], finding.line))))


def _check_source(
    source: Source | RepositorySplit, mirror: Path | None, say: SayOfUnit
) -> tuple[CheckedFile | None, str]:
    """The checked file, and the task (or nothing) that it belongs to."""
    if isinstance(source, RepositorySplit):
        return check_repository_split(source, mirror, say), str(source.task.path)
    if source.format != "conllu" or source.complaint is not None:
        return check_rows(source, say), source.group
    of_line = lambda line, code, message: say(source.path, line, code, message, "line")  # noqa: E731
    file = replace(_check_file(source.path, of_line), given_role=source.split)
    if "labels" not in source.columns:
        return file, source.group
    try:
        labels = labels_of_conllu(source)
    except DataError:  # said before, or with its code: a key that a word has not in MISC
        labels = ()
    scheme = scheme_of(labels)
    check_labels(labels, of_line, source.labels)
    check_spans(labels, scheme, of_line)
    return replace(file, labels=labels, scheme=scheme), source.group


def _check_missing_tags(files: Sequence[CheckedFile], say: corpus.SayOf) -> None:
    """UPOS that a file has nowhere, where others have it, or where there are trees: test data without their gold."""
    having = [file for file in files if file.sentences and "UPOS" not in file.unchecked]
    for file in files:
        if file in having or not file.examples or not file.sentences:
            continue
        if having or "HEAD" not in file.unchecked or "DEPREL" not in file.unchecked:
            where = f" as in {having[0].path}" if having else " beside HEAD and DEPREL"
            complaint = f"found UPOS _ on all of {file.words} words"
            say(file, file.examples[0].line, "upos", f"{complaint}, accepted a tag on each{where}")


def _check_file(path: Path, say: Say) -> CheckedFile:
    sentences = tuple(read_sentences(_lines(path.read_bytes(), say), say))
    whole = [sentence for sentence in sentences if sentence.whole]
    words = [row for sentence in whole for row in sentence.words]
    missing = [name for name in _ANNOTATIONS if not _has(words, name, say)]
    missing += [key for key in ("sent_id", "text") if all(sentence.comment(key) is None for sentence in sentences)]
    _check_identifiers(sentences, say, "sent_id" not in missing)
    _check_forms(words, say)
    for sentence in whole:
        check_form(sentence, say)
        for check in _checks(missing):
            check(sentence, say)
    filled = [sentence for sentence in whole if sentence.words]
    examples = tuple(Example(sentence.line, tuple(fields[FORM] for _, fields in sentence.words)) for sentence in filled)
    return CheckedFile(path, sentences, tuple(missing), examples)


def _check_forms(words: Sequence[Row], say: Say) -> None:
    """A treebank whose text is distributed apart has _ in the place of its words."""
    without = [line for line, fields in words if fields[FORM] == "_"]
    if len(without) > 1 and 2 * len(without) > len(words):
        say(without[0], "form", f"found FORM _ on {len(without)} of {len(words)} words, accepted the words of the text")


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
