"""Accuracy and F1 in percent, as `evaluate.Metric` modules that are part of the package.

Nothing is fetched from the Hub, and unless told otherwise nothing is written to disk: predictions stay in memory, so
that any number of processes can score at once. Three scores of tagging, one of classification:

- accuracy: words (or examples) with the right label;
- span F1: seqeval 1.2.2, default mode (that of conlleval), over tags with B- and I-;
- official tag F1: what XTREME's `evaluate.py` prints for part-of-speech tags, which have no B- and I-.

An F1 without any span, gold or predicted, is 0, as in seqeval.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, groupby
from typing import Any

import datasets
import evaluate
from seqeval.metrics import f1_score

from adapter_stilts.errors import StiltsError, UsageError

_SEQEVAL_CITATION = "Nakayama 2018, seqeval, https://github.com/chakki-works/seqeval"
_XTREME_CITATION = "Hu et al. 2020, XTREME, https://arxiv.org/abs/2003.11080"


class _LabelMetric(evaluate.Metric):
    """What the modules share: string labels, one prediction for each reference, no cache files."""

    description = ""
    citation = ""
    feature: Any = datasets.Value("string")

    def __init__(self, **options: Any) -> None:
        """Takes the options of `evaluate.Metric`; one process alone keeps its data in memory unless told otherwise."""
        if options.get("num_process", 1) == 1:
            options = {"keep_in_memory": True, "experiment_id": uuid.uuid4().hex} | options
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).description,
            citation=type(self).citation,
            inputs_description="predictions, references: labels as strings, in the same order.",
            features=datasets.Features({"predictions": self.feature, "references": self.feature}),
        )

    def _build_data_dir(self) -> str:
        # The base class creates the folder even where nothing will be written, which a read-only home would not allow.
        return str(self._data_dir_root) if self.keep_in_memory else str(super()._build_data_dir())

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Adds labels; raises `StiltsError` where predictions and references do not pair up."""
        predictions, references = self._pair(predictions, references)
        super().add_batch(predictions=predictions, references=references, **others)

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """Adds one example; raises `StiltsError` where prediction and reference do not pair up."""
        predictions, references = self._pair([prediction], [reference])
        super().add(prediction=predictions[0], reference=references[0], **others)

    def _pair(self, predictions: Any, references: Any) -> tuple[list, list]:
        raise NotImplementedError


class _TaggingMetric(_LabelMetric):
    """A metric over sentences: predictions and references are (sentences, words) tags."""

    feature = datasets.List(datasets.Value("string"))

    def _pair(self, predictions: Any, references: Any) -> tuple[list[list[str]], list[list[str]]]:
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
        # Lists, because seqeval takes a tuple for a single tag.
        return [list(sentence) for sentence in predictions], [list(sentence) for sentence in references]

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        if not any(references):
            raise StiltsError(f"nothing to score: {len(references)} sentences without a word")
        return self._score(predictions, references)

    def _score(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        raise NotImplementedError


class TaggingAccuracy(_TaggingMetric):
    """Words with the right tag, in percent of all words of all sentences; {'accuracy': 0 to 100}."""

    description = "Token accuracy in percent over all words of all sentences."

    def _score(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        return {"accuracy": _percent_equal(list(chain(*predictions)), list(chain(*references)))}


class SpanF1(_TaggingMetric):
    """Micro F1 of seqeval 1.2.2 (default mode) over IOB2 tags; {'f1': 0 to 100}.

    An I- without its B- opens a span, as in conlleval. For PAN-X this is the score of XTREME's `evaluate.py`.
    Raises `StiltsError` for a tag that seqeval does not know (accepted: O, and B-, I-, E- or S- with a type).
    """

    description = "Micro F1 of seqeval (default mode) over spans in IOB2 tags, in percent."
    citation = _SEQEVAL_CITATION

    def _score(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        for kind, sentences in (("predicted", predictions), ("reference", references)):
            unknown = {tag for tag in set(chain(*sentences)) if not _is_span_tag(tag)}
            _refuse(unknown, sentences, f"span_f1: {kind} tag", "O, B-TYPE and I-TYPE; plain tags: official_tag_f1")
        return {"f1": 100 * float(f1_score(references, predictions, zero_division=0))}


class OfficialTagF1(_TaggingMetric):
    """The F1 that XTREME's `evaluate.py` gives for part-of-speech tags; {'f1': 0 to 100}.

    The script gives tags without B- and I- to seqeval 0.0.12, which reads the first letter as the prefix and the part
    after the last hyphen, here the whole tag, as the type. So equal neighbours of one sentence merge into one span,
    except that tags in S (SCONJ, SYM), B and E stay single, and tags in O or `.` lie outside all spans.
    Raises `StiltsError` for an empty tag and for one with a hyphen, whose prefix would be read as one.
    """

    description = "F1 in percent over runs of equal tags: XTREME's official score of part-of-speech tagging."
    citation = _XTREME_CITATION

    def _score(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        for kind, sentences in (("predicted", predictions), ("reference", references)):
            unknown = {tag for tag in set(chain(*sentences)) if not tag or "-" in tag}
            _refuse(unknown, sentences, f"official_tag_f1: {kind} tag", "tags without a hyphen; IOB2 tags: span_f1")
        predicted, gold = official_spans(predictions), official_spans(references)
        total = len(predicted) + len(gold)
        return {"f1": 100 * 2 * len(predicted & gold) / total if total else 0.0}


class ClassificationAccuracy(_LabelMetric):
    """Examples with the right label, in percent; predictions and references are (examples,) labels."""

    description = "Accuracy in percent over all examples."

    def _pair(self, predictions: Any, references: Any) -> tuple[list[str], list[str]]:
        predictions, references = _same_number(predictions, references, "example")
        _check_strings(predictions, "predicted label of example")
        _check_strings(references, "reference label of example")
        return predictions, references

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"accuracy": _percent_equal(predictions, references)}


@dataclass(frozen=True)
class MetricEntry:
    """A metric by the name that task files use.

    result: the key of its score; version: raised whenever the same predictions would score otherwise; modules: the
    module for each form of labels, `tagging` (lists of tags) or `classification` (one label each).
    """

    result: str
    version: str
    modules: Mapping[str, type[_LabelMetric]]


METRICS: dict[str, MetricEntry] = {
    "accuracy": MetricEntry("accuracy", "1", {"tagging": TaggingAccuracy, "classification": ClassificationAccuracy}),
    "span_f1": MetricEntry("f1", "1", {"tagging": SpanF1}),
    "official_tag_f1": MetricEntry("f1", "1", {"tagging": OfficialTagF1}),
}


def compute(metric_names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Scores in percent, 0 to 100, by result key: accuracy -> `accuracy`, span_f1 and official_tag_f1 -> `f1`.

    predictions and references: (sentences, words) tags for tagging, (examples,) labels for classification.
    Raises `UsageError` for a metric that is unknown, does not fit the labels, or shares its key with another one;
    `StiltsError` where predictions and references do not pair up or hold nothing to score.
    """
    form = "classification" if len(references) and isinstance(references[0], str) else "tagging"
    scores: dict[str, float] = {}
    for name in metric_names:
        entry = _entry(name)
        if form not in entry.modules:
            raise UsageError(f"metric '{name}' does not score {form}; accepted is {' or '.join(entry.modules)}")
        if entry.result in scores:
            raise UsageError(f"metrics {', '.join(metric_names)}: two of them give '{entry.result}'; accepted is one")
        scores |= entry.modules[form]().compute(predictions=predictions, references=references)
    return scores


def _entry(name: str) -> MetricEntry:
    if name in METRICS:
        return METRICS[name]
    near = get_close_matches(name, METRICS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"unknown metric '{name}': {hint}known are {', '.join(METRICS)}")


def _percent_equal(predictions: list[str], references: list[str]) -> float:
    equal = sum(predicted == gold for predicted, gold in zip(predictions, references, strict=True))
    return 100 * equal / len(references)


def official_spans(sentences: list[list[str]]) -> set[tuple[int, int, int, str]]:
    """(sentence, first word, last word, tag) of every span; how they are cut: see `OfficialTagF1`."""
    spans: set[tuple[int, int, int, str]] = set()
    for index, sentence in enumerate(sentences):
        start = 0
        for tag, run in groupby(sentence):
            end = start + sum(1 for _ in run)
            if tag[0] in "BES":
                spans.update((index, word, word, tag) for word in range(start, end))
            elif tag[0] not in "O.":
                spans.add((index, start, end - 1, tag))
            start = end
    return spans


def _is_span_tag(tag: str) -> bool:
    return tag == "O" or (tag[:2] in ("B-", "I-", "E-", "S-") and len(tag) > 2)


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


def _check_strings(labels: Sequence[Any], place: str) -> None:
    if all(isinstance(label, str) for label in labels):
        return
    index, label = next((index, label) for index, label in enumerate(labels) if not isinstance(label, str))
    raise StiltsError(f"{place} {index} (from 0) is {label!r}; accepted is a string")


def _refuse(unknown: set[str], sentences: list[list[str]], what: str, accepted: str) -> None:
    """Raises `StiltsError` for the first word whose tag is among the unknown ones, if there is any."""
    if not unknown:
        return
    sentence, word, tag = next(
        (index, word, tag) for index, tags in enumerate(sentences) for word, tag in enumerate(tags) if tag in unknown
    )
    raise StiltsError(f"{what} '{tag}' (sentence {sentence}, word {word}, from 0); accepted are {accepted}")
