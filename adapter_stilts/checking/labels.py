"""Checks of labels: what can be none, spellings of one label, tags of spans and their scheme, labels of other files."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from adapter_stilts.checking.findings import CheckedFile, Say
from adapter_stilts.tasks.formats import is_span_tag
from adapter_stilts.tasks.labels import UNLABELLED, meaning

LabelsOfExample = Sequence[tuple[int, str]]
"""The labels of one example, each with its line (or row)."""

_CONTINUES, _OPENS, _CLOSES = "IELM", "BIM", "ELSU"


def check_labels(examples: Sequence[LabelsOfExample], say: Say, accepted: Collection[str] | None = None) -> None:
    """Labels that are not among those accepted; where these are open, labels that are none, with blanks, quotes or
    control characters, spelled in two ways, or no tags among tags of spans. Each is said where it stands first."""
    counts = Counter(label for labels in examples for _, label in labels)
    first: dict[str, int] = {}
    for labels in examples:
        for line, label in labels:
            first.setdefault(label, line)
    spans = "O" in counts and any(label[:2] in ("B-", "I-") for label in counts)
    spelled: dict[str, str] = {}
    for label, count in counts.items():
        if accepted is not None:
            if label not in accepted:
                complaint = f"found the label {label!r}, {_times(count)}"
                say(first[label], "label", f"{complaint}, accepted {', '.join(accepted)}")
            continue
        what = _complaint(label, spans)
        other = spelled.setdefault(meaning(label.strip()), label)
        if what is None and other != label:
            what = f"the label {label!r} beside {other!r} (line {first[other]})", "one spelling"
        if what is not None:
            say(first[label], "label", f"found {what[0]}, {_times(count)}, accepted {what[1]}")


def _complaint(label: str, spans: bool) -> tuple[str, str] | None:
    """What is found and what is accepted; None where nothing is wrong."""
    bare = label.strip()
    if bare.casefold() in UNLABELLED:
        return f"the label {label!r}", "a label"
    if bare != label:
        return f"the label {label!r} with blanks around it", "none"
    if label[0] == label[-1] and label[0] in "\"'" and label.strip(label[0]):
        return f"the label {label} in quotes", "it without"
    if any(unicodedata.category(character) == "Cc" for character in label):
        return f"the label {label!r} with a control character", "none"
    if spans and not is_span_tag(label):
        return f"the label {label!r} among tags of spans", "O, and B- or I- with a type"
    return None


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


# --- spans --------------------------------------------------------------------------------------------------------


def scheme_of(examples: Sequence[LabelsOfExample]) -> str | None:
    """The scheme of a file's tags of spans; None where they are no such tags: IOB1, IOB2, BIOES, BILOU, BMES, or mixed.

    IOB1 has B- only between two spans of one type that touch each other.
    """
    labels = {label for example in examples for _, label in example}
    tags = {label for label in labels if is_span_tag(label)}
    if "O" not in tags or len(tags) < 2 or 2 * len(tags) < len(labels):
        return None
    prefixes = {tag[0] for tag in tags if tag != "O"}
    schemes = {"BIOES": "ES", "BILOU": "LU", "BMES": "M"}
    marked = [name for name, letters in schemes.items() if set(letters) & prefixes]
    if "BMES" in marked and "I" not in prefixes:
        return "BMES"
    if len(marked) == 1 and marked != ["BMES"]:
        return marked[0]
    if marked:
        return "mixed"
    starts = list(_span_starts(examples))
    bare = any(tag[0] == "I" for _, tag, _ in starts)
    free = any(tag[0] == "B" and before[2:] != tag[2:] for _, tag, before in starts)
    return "IOB2" if not bare else "mixed" if free else "IOB1"


def _span_starts(examples: Sequence[LabelsOfExample]) -> Iterator[tuple[int, str, str]]:
    """Line and tag of every word at which a span begins, and the tag before it."""
    for labels in examples:
        before = "O"
        for line, tag in labels:
            tag = tag.strip()
            if tag != "O" and (tag[:1] not in _CONTINUES or not _goes_on(before, tag)):
                yield line, tag, before
            before = tag


def _goes_on(before: str, tag: str) -> bool:
    return before[:1] in _OPENS and before[2:] == tag[2:]


def check_spans(examples: Sequence[LabelsOfExample], scheme: str | None, say: Say) -> None:
    """Tags of one scheme; I-TYPE (E-, L-, M-) only within a span of that type. IOB1 and a mixture are said once."""
    if scheme is None:
        return
    starts = [start for start in _span_starts(examples) if is_span_tag(start[1])]
    inside = [(line, tag, before) for line, tag, before in starts if tag[0] in _CONTINUES]
    if scheme == "IOB1":
        line, tag, before = inside[0]
        complaint = f"found tags in IOB1, where spans begin with I- ({tag} after {before}, {_times(len(inside))})"
        say(line, "spans", f"{complaint}, accepted IOB2, where they begin with B-")
        return
    if scheme == "mixed" and not inside:
        prefixes = ", ".join(
            sorted({tag[0] for example in examples for _, tag in example if is_span_tag(tag) and tag != "O"})
        )
        say(starts[0][0], "spans", f"found tags of several schemes ({prefixes}), accepted one, such as IOB2 or BIOES")
    for line, tag, before in inside:
        opening = f"B-{tag[2:]} or I-{tag[2:]}"
        say(line, "spans", f"found {tag} after {before or 'no tag'}, accepted it after {opening}")


# --- several files ------------------------------------------------------------------------------------------------


def check_unseen_labels(files: Sequence[CheckedFile], say: Callable[[CheckedFile, int, str, str], None]) -> None:
    """Labels of development and test data that the training data of the same task do not have; other schemes."""
    trained = [file for file in files if file.role == "train" and file.labels]
    if not trained:
        return
    known = {label for file in trained for labels in file.labels for _, label in labels}
    names = ", ".join(str(file.path) for file in trained)
    schemes = {file.scheme for file in trained}
    for file in files:
        if file.role == "train":
            continue
        counts = Counter(label for labels in file.labels for _, label in labels)
        for label, count in counts.items():
            if label not in known and label.strip().casefold() not in UNLABELLED:
                line = next(line for labels in file.labels for line, other in labels if other == label)
                say(file, line, "unseen", f"found the label {label!r}, {_times(count)}, accepted those of {names}")
        if file.scheme is not None and None not in schemes and not schemes & {file.scheme, "mixed"}:
            complaint = f"found tags in {file.scheme}, accepted {', '.join(map(str, schemes))} as in {names}"
            say(file, file.labels[0][0][0], "spans", complaint)
