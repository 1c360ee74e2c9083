"""The package's metrics as modules of the library `evaluate`, for whoever scores with that; nothing here imports them.

Each folder beside this file is one that `evaluate.load` takes by its path:

    evaluate.load(f"{adapter_stilts.__path__[0]}/evaluation/metric_modules/span_f1")

Nothing is fetched from the Hub. A module that is made from its class keeps its predictions in memory unless told
otherwise; `evaluate.load` does so with `keep_in_memory=True`. What is computed: see `tasks.metrics`.
"""

import uuid
from typing import Any, ClassVar

import datasets
import evaluate

from adapter_stilts.tasks.metrics import LABEL_METRICS, TAG_METRICS, Metric, paired_labels, paired_sentences

_SEQEVAL_CITATION = "Nakayama 2018, seqeval, https://github.com/chakki-works/seqeval"
_XTREME_CITATION = "Hu et al. 2020, XTREME, https://arxiv.org/abs/2003.11080"


class _Module(evaluate.Metric):
    """What the modules share: string labels, one prediction for each reference, no files of one process beside
    another's."""

    # Function of predictions and references that gives both as lists; raises `StiltsError` where they do not pair up.
    pair: ClassVar[Any]
    metric: ClassVar[Metric]
    feature: ClassVar[Any]
    description = ""
    citation = ""

    def __init__(self, **options: Any) -> None:
        """Takes the options of `evaluate.Metric`; one process alone keeps its data in memory unless told otherwise."""
        if options.get("num_process", 1) == 1:
            options = {"keep_in_memory": True} | options
            options["experiment_id"] = options.get("experiment_id") or uuid.uuid4().hex
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
        predictions, references = self.pair(predictions, references)
        super().add_batch(predictions=predictions, references=references, **others)

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """Adds one example; raises `StiltsError` where prediction and reference do not pair up."""
        predictions, references = self.pair([prediction], [reference])
        super().add(prediction=predictions[0], reference=references[0], **others)

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        return {self.metric.result: self.metric.score(predictions, references)}


class _TaggingModule(_Module):
    """Of sentences: predictions and references are (sentences, words) tags."""

    pair = staticmethod(paired_sentences)
    feature = datasets.List(datasets.Value("string"))


class TaggingAccuracy(_TaggingModule):
    """Words with the right tag, in percent of all words of all sentences; {'accuracy': 0 to 100}."""

    metric = TAG_METRICS["accuracy"]
    description = "Token accuracy in percent over all words of all sentences."


class SpanF1(_TaggingModule):
    """Micro F1 over spans in IOB2 tags, as conlleval and seqeval 1.2.2 (default mode) count; {'f1': 0 to 100}.

    An I- without its B- opens a span. Raises `StiltsError` for another tag than O, and B-, I-, E- or S- with a type.
    """

    metric = TAG_METRICS["span_f1"]
    description = "Micro F1 of seqeval (default mode) over spans in IOB2 tags, in percent."
    citation = _SEQEVAL_CITATION


class OfficialTagF1(_TaggingModule):
    """The F1 that XTREME's `evaluate.py` gives for part-of-speech tags; {'f1': 0 to 100}.

    Raises `StiltsError` for an empty tag and for one with a hyphen.
    """

    metric = TAG_METRICS["official_tag_f1"]
    description = "F1 in percent over runs of equal tags: XTREME's official score of part-of-speech tagging."
    citation = _XTREME_CITATION


class ClassificationAccuracy(_Module):
    """Examples with the right label, in percent; predictions and references are (examples,) labels."""

    pair = staticmethod(paired_labels)
    metric = LABEL_METRICS["accuracy"]
    feature = datasets.Value("string")
    description = "Accuracy in percent over all examples."
