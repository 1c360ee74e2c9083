"""Accuracy and F1 in percent, each as counts by example and a ratio of their sums.

A score is the ratio of the counts of all examples, and that of a resample the ratio of the counts of what it drew. Four
metrics, three of tagging and one of classification:

- accuracy: words (or examples) with the right label;
- span F1: that of conlleval, over tags with B- and I-, as seqeval 1.2.2 has it in its default mode;
- official tag F1: what XTREME's `evaluate.py` prints for part-of-speech tags, which have no B- and I-.

An F1 without any span, gold or predicted, is 0, as in seqeval. `evaluation.metric_modules` has the same metrics for the
library `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_stilts.errors import StiltsError, UsageError

Array = NDArray[np.float64]
Sentences = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Metric:
    """A score in percent, 0 to 100, decided by sums of counts.

    result: the key of its score; version: raised whenever the same predictions would score otherwise;
    counts(predictions, gold): (examples, k) counts; ratio: (..., k) sums of counts -> (...) percent, 0 where there is
    nothing to count. Predictions and gold are a list of tags a sentence for tagging, a label an example for
    classification. `counts` raises `StiltsError` for what is no label of the metric, where predictions and gold do not
    pair up, and where there is nothing to score.
    """

    result: str
    version: str
    counts: Callable[[Sequence[Any], Sequence[Any]], Array]
    ratio: Callable[[Array], Array]

    def score(self, predictions: Sequence[Any], gold: Sequence[Any]) -> float:
        """The ratio of all examples, in percent. Raises what `counts` raises."""
        return float(self.ratio(self.counts(predictions, gold).sum(axis=0)))


# --- ratios ---------------------------------------------------------------------------------------------------------


def _share(part: Array, whole: Array) -> Array:
    """part / whole, and 0 where the whole is 0."""
    return part / np.where(whole == 0, 1.0, whole)


def percent_right(sums: Array) -> Array:
    """Right in percent of all; sums are (..., 2): right, all."""
    return _share(100.0 * sums[..., 0], sums[..., 1])


def f1(sums: Array) -> Array:
    """F1 in percent; sums are (..., 3): spans in both, predicted, gold."""
    return _share(200.0 * sums[..., 0], sums[..., 1] + sums[..., 2])


def f1_of_precision_and_recall(sums: Array) -> Array:
    """The same F1 as `f1`, rounded as seqeval rounds it: by way of precision and recall, then in percent."""
    precision, recall = _share(sums[..., 0], sums[..., 1]), _share(sums[..., 0], sums[..., 2])
    return 100.0 * _share(2.0 * precision * recall, precision + recall)


# --- counts ---------------------------------------------------------------------------------------------------------


def _right_labels(predictions: Sequence[str], gold: Sequence[str]) -> Array:
    """(examples, 2): 1 where the label is right, and 1."""
    predictions, gold = paired_labels(predictions, gold)
    return np.array([(predicted == label, 1) for predicted, label in zip(predictions, gold, strict=True)], float)


def _right_tags(predictions: Sentences, gold: Sentences) -> Array:
    """(sentences, 2): words with the right tag, words."""
    predictions, gold = _sentences_with_words(predictions, gold)
    pairs = zip(predictions, gold, strict=True)
    return np.array([(sum(map(eq, predicted, tags)), len(tags)) for predicted, tags in pairs], float)


@dataclass(frozen=True)
class SpanScheme:
    """How spans are cut out of a sentence's tags.

    knows: whether a tag belongs to the scheme; accepted: those that do, in words. read: the type of a tag's span (None:
    it lies in none), whether the tag may go on with a span of its type that the word before it is in, and whether the
    next word may go on with the span that it is in.
    """

    name: str
    knows: Callable[[str], bool]
    accepted: str
    read: Callable[[str], tuple[str | None, bool, bool]]


def _span_counts(scheme: SpanScheme, predictions: Sentences, gold: Sentences) -> Array:
    """(sentences, 3): spans in both, predicted, gold. Equal are spans of the same type, first and last word."""
    sides = _sentences_with_words(predictions, gold)
    for side, sentences in zip(("predicted", "reference"), sides, strict=True):
        _refuse_unknown(scheme, side, sentences)
    lengths = np.array([len(tags) for tags in sides[1]])
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    tags = list(dict.fromkeys(chain.from_iterable(chain(*sides))))
    index = {tag: number for number, tag in enumerate(tags)}
    read = [scheme.read(tag) for tag in tags]
    types = {type_: number for number, type_ in enumerate(dict.fromkeys(type_ for type_, _, _ in read))}
    types[None] = -1
    table = np.array([(types[type_], goes_on, open_) for type_, goes_on, open_ in read])

    def spans(sentences: Sentences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(words,) types, and ends: where a span begins, the number of the word behind its last, elsewhere 0."""
        words = map(index.__getitem__, chain.from_iterable(sentences))
        type_, goes_on, open_ = table[np.fromiter(words, np.int64, len(sentence))].T
        joined = np.zeros(len(sentence), bool)
        joined[1:] = goes_on[1:] & open_[:-1] & (type_[1:] == type_[:-1]) & (sentence[1:] == sentence[:-1])
        begins = np.flatnonzero(~joined)
        ends = np.zeros(len(sentence), np.int64)
        ends[begins] = np.append(begins[1:], len(sentence))
        ends[type_ == -1] = 0
        return type_, ends

    (type_, end), (gold_type, gold_end) = map(spans, sides)
    both = (end > 0) & (end == gold_end) & (type_ == gold_type)
    counts = [np.bincount(sentence[words], minlength=len(lengths)) for words in (both, end > 0, gold_end > 0)]
    return np.stack(counts, axis=1).astype(np.float64)


def is_span_tag(tag: str) -> bool:
    """Whether span F1 knows the tag: O, or B-, I-, E- or S- with a type (IOB1, IOB2, BIOES)."""
    return tag == "O" or (tag[:2] in ("B-", "I-", "E-", "S-") and len(tag) > 2)


def is_tag_without_prefix(tag: str) -> bool:
    """Whether official tag F1 knows the tag: it has no hyphen, whose left side would be read as a prefix."""
    return bool(tag) and "-" not in tag


def _read_span_tag(tag: str) -> tuple[str | None, bool, bool]:
    """conlleval's rules: I- and E- go on with a span of their type behind B- and I-, and open one where there is none.
    B- and S- always open one, E- and S- end theirs. The type is what follows the prefix, hyphens and all."""
    return (None if tag == "O" else tag[2:]), tag[0] in "IE", tag[0] in "BI"


def _read_official_tag(tag: str) -> tuple[str | None, bool, bool]:
    """XTREME's script gives tags without B- and I- to seqeval 0.0.12, which reads the first letter as the prefix and
    the part after the last hyphen, here the whole tag, as the type. So equal neighbours of one sentence merge into one
    span, except that tags in S (SCONJ, SYM), B and E stay single, and tags in O or `.` lie outside all spans."""
    merges = tag[0] not in "BES"
    return (None if tag[0] in "O." else tag), merges, merges


SPAN_TAGS = SpanScheme("span_f1", is_span_tag, "O, B-TYPE and I-TYPE; plain tags: official_tag_f1", _read_span_tag)
OFFICIAL_TAGS = SpanScheme(
    "official_tag_f1", is_tag_without_prefix, "tags without a hyphen; IOB2 tags: span_f1", _read_official_tag
)

# --- the metrics ----------------------------------------------------------------------------------------------------

TAG_METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy", "1", _right_tags, percent_right),
    # For PAN-X this is the score of XTREME's `evaluate.py`.
    "span_f1": Metric("f1", "1", partial(_span_counts, SPAN_TAGS), f1_of_precision_and_recall),
    "official_tag_f1": Metric("f1", "1", partial(_span_counts, OFFICIAL_TAGS), f1),
}
LABEL_METRICS: Mapping[str, Metric] = {"accuracy": Metric("accuracy", "1", _right_labels, percent_right)}
# By what they score: a list of tags an example, or a label each.
METRICS: Mapping[str, Mapping[str, Metric]] = {"tags of words": TAG_METRICS, "labels of texts": LABEL_METRICS}


def find_metric(name: str, metrics: Mapping[str, Metric], scored: str) -> Metric:
    """The metric of that name among those of what is scored. Raises `UsageError`
    for one that is unknown or scores something else."""
    if name in metrics:
        return metrics[name]
    if any(name in others for others in METRICS.values()):
        raise UsageError(f"metric '{name}' does not score {scored}; accepted is {' or '.join(metrics)}")
    names = list(dict.fromkeys(chain(*METRICS.values())))
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"unknown metric '{name}': {hint}known are {', '.join(names)}")


def compute(metric_names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Scores in percent, 0 to 100, by result key: accuracy -> `accuracy`, span_f1 and official_tag_f1 -> `f1`.

    predictions and references: (sentences, words) tags for tagging, (examples,) labels for classification.
    Raises `UsageError` for a metric that is unknown, does not fit the labels, or shares its key with another one;
    `StiltsError` where predictions and references do not pair up or hold nothing to score.
    """
    labels, tags = METRICS["labels of texts"], METRICS["tags of words"]
    each = len(references) > 0 and isinstance(references[0], str)
    return scores_of(
        metric_names, labels if each else tags, "labels of texts" if each else "tags of words", predictions, references
    )


def scores_of(
    metric_names: Sequence[str],
    metrics: Mapping[str, Metric],
    scored: str,
    predictions: Sequence[Any],
    references: Sequence[Any],
) -> dict[str, float]:
    """Scores in percent by the named ones of these metrics, of what they score; see `compute`."""
    scores: dict[str, float] = {}
    for name in metric_names:
        metric = find_metric(name, metrics, scored)
        if metric.result in scores:
            raise UsageError(f"metrics {', '.join(metric_names)}: two of them give '{metric.result}'; accepted is one")
        scores[metric.result] = metric.score(predictions, references)
    return scores


# --- what is refused ------------------------------------------------------------------------------------------------


def paired_labels(predictions: Any, references: Any) -> tuple[list[str], list[str]]:
    """Both as lists of labels; raises `StiltsError` where they do not pair up, are no strings, or there are none."""
    predictions, references = _same_number(predictions, references, "example")
    _check_strings(predictions, "predicted label of example")
    _check_strings(references, "reference label of example")
    return predictions, references


def paired_numbers(predictions: Any, references: Any) -> tuple[list[int], list[int]]:
    """Both as lists of whole numbers; raises `StiltsError` where they do not pair up, are none, or there are none."""
    predictions, references = _same_number(predictions, references, "example")
    for side, numbers in (("predicted", predictions), ("reference", references)):
        for index, number in enumerate(numbers):
            if isinstance(number, bool) or not isinstance(number, int):
                raise StiltsError(
                    f"{side} answer of example {index} (from 0) is {number!r}; accepted is a whole number"
                )
    return predictions, references


def paired_sentences(predictions: Any, references: Any) -> tuple[list[list[str]], list[list[str]]]:
    """Both as lists of lists of tags; raises `StiltsError` where sentences or words do not pair up, tags are no
    strings, or there is no sentence."""
    predictions, references = _same_number(predictions, references, "sentence")
    for index, (predicted, gold) in enumerate(zip(predictions, references, strict=True)):
        if isinstance(predicted, str) or isinstance(gold, str):
            raise StiltsError(f"sentence {index} (from 0): a text was found where a list of tags is expected")
        if len(predicted) != len(gold):
            raise StiltsError(
                f"sentence {index} (from 0): {len(predicted)} predicted tags for {len(gold)} reference tags; "
                "every word needs exactly one"
            )
        _check_strings(predicted, f"sentence {index}, predicted tag")
        _check_strings(gold, f"sentence {index}, reference tag")
    return [list(sentence) for sentence in predictions], [list(sentence) for sentence in references]


def _sentences_with_words(predictions: Any, references: Any) -> tuple[list[list[str]], list[list[str]]]:
    predictions, references = paired_sentences(predictions, references)
    if not any(references):
        raise StiltsError(f"nothing to score: {len(references)} sentences without a word")
    return predictions, references


def _same_number(predictions: Any, references: Any, unit: str) -> tuple[list, list]:
    """Both as lists; raises `StiltsError` where they are missing, empty or not equally long."""
    if predictions is None or references is None or isinstance(predictions, str) or isinstance(references, str):
        raise StiltsError(f"predictions and references must both be given, as lists with one entry for each {unit}")
    predictions, references = list(predictions), list(references)
    if len(predictions) != len(references):
        first = min(len(predictions), len(references))
        raise StiltsError(
            f"{len(predictions)} predictions for {len(references)} references: {unit} {first} (from 0) has no partner"
        )
    if not references:
        raise StiltsError(f"nothing to score: 0 {unit}s")
    return predictions, references


def _check_strings(labels: Iterable[Any], what: str) -> None:
    if all(isinstance(label, str) for label in labels):
        return
    index, label = next((index, label) for index, label in enumerate(labels) if not isinstance(label, str))
    raise StiltsError(f"{what} {index} (from 0) is {label!r}; accepted is a string")


def _refuse_unknown(scheme: SpanScheme, side: str, sentences: Sentences) -> None:
    """Raises `StiltsError` for the first word whose tag does not belong to the scheme, if there is any."""
    unknown = {tag for tag in set(chain.from_iterable(sentences)) if not scheme.knows(tag)}
    if not unknown:
        return
    sentence, word, tag = next(
        (index, word, tag) for index, tags in enumerate(sentences) for word, tag in enumerate(tags) if tag in unknown
    )
    where = f"(sentence {sentence}, word {word}, from 0)"
    raise StiltsError(f"{scheme.name}: {side} tag '{tag}' {where}; accepted are {scheme.accepted}")
