"""Metrics against hand counts (written beside each literal) and against second implementations."""

import socket
import warnings

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.metrics import (
    METRICS,
    ClassificationAccuracy,
    OfficialTagF1,
    SpanF1,
    TaggingAccuracy,
    compute,
)

UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART"]
UPOS += ["PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"]
IOB2 = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


def chunks_of_seqeval_0_0_12(sentences):
    """(type, first, last) of every chunk by the rules of conlleval as seqeval 0.0.12 applied them.

    All sentences form one sequence with an O after each. A tag's prefix is its first letter, its type what follows the
    last hyphen (the whole tag if there is none).
    """
    always_ends = {"E", "S"}
    ends = {("B", "B"), ("B", "S"), ("B", "O"), ("I", "B"), ("I", "S"), ("I", "O")}
    starts = {("E", "E"), ("E", "I"), ("S", "E"), ("S", "I"), ("O", "E"), ("O", "I")}
    previous, previous_type, first, chunks = "O", "", 0, set()
    for position, tag in enumerate([tag for sentence in sentences for tag in [*sentence, "O"]] + ["O"]):
        prefix, kind = tag[0], tag.split("-")[-1]
        other_type = kind != previous_type
        if previous in always_ends or (previous, prefix) in ends or (previous not in "O." and other_type):
            chunks.add((previous_type, first, position - 1))
        if prefix in "BS" or (previous, prefix) in starts or (prefix not in "O." and other_type):
            first = position
        previous, previous_type = prefix, kind
    return chunks


def f1_of_seqeval_0_0_12(references, predictions):
    gold, predicted = chunks_of_seqeval_0_0_12(references), chunks_of_seqeval_0_0_12(predictions)
    correct = len(gold & predicted)
    if not correct:
        return 0.0
    precision, recall = correct / len(predicted), correct / len(gold)
    return 100 * 2 * precision * recall / (precision + recall)


def tagged(tags):
    """Pairs of (predictions, references) over the same sentences, at least one word in all."""
    word = st.tuples(tags, tags)
    corpus = st.lists(st.lists(word, max_size=12), min_size=1, max_size=5).filter(any)
    return corpus.map(lambda pairs: ([[p for p, _ in s] for s in pairs], [[g for _, g in s] for s in pairs]))


# --- official tag F1 -------------------------------------------------------------------------------------------------


def test_official_f1_merges_equal_neighbours():
    # gold: NOUN NOUN | VERB | PUNCT = 3 spans; predicted: NOUN | PROPN | VERB | PUNCT = 4; both have VERB and PUNCT.
    # F1 = 2 * 2 / (3 + 4) = 57.142857; accuracy 3 of 4 words.
    gold, predicted = [["NOUN", "NOUN", "VERB", "PUNCT"]], [["NOUN", "PROPN", "VERB", "PUNCT"]]
    scores = compute(["accuracy", "official_tag_f1"], predicted, gold)
    assert scores == {"accuracy": 75.0, "f1": pytest.approx(57.142857, abs=1e-6)}


def test_official_f1_keeps_cconj_and_sconj_apart_and_sym_single():
    # gold: CCONJ | SCONJ | SCONJ | SYM | SYM = 5 spans, none merged; predicted: CCONJ CCONJ | SCONJ | SYM | NOUN = 4.
    # Both have SCONJ on word 2 and SYM on word 3: F1 = 2 * 2 / (5 + 4) = 44.444444.
    gold = [["CCONJ", "SCONJ", "SCONJ", "SYM", "SYM"]]
    predicted = [["CCONJ", "CCONJ", "SCONJ", "SYM", "NOUN"]]
    assert compute(["official_tag_f1"], predicted, gold)["f1"] == pytest.approx(44.444444, abs=1e-6)


def test_official_f1_does_not_merge_over_the_end_of_a_sentence():
    # gold: NOUN | VERB || VERB = 3 spans; predicted: NOUN NOUN || VERB = 2; both have the last VERB: 2 * 1 / 5 = 40.
    # Merged over the border gold's VERB VERB would match nothing, and F1 were 0.
    gold, predicted = [["NOUN", "VERB"], ["VERB"]], [["NOUN", "NOUN"], ["VERB"]]
    assert compute(["official_tag_f1"], predicted, gold) == {"f1": 40.0}


@pytest.mark.parametrize("tag", UPOS)
def test_official_f1_of_every_pair_of_ud_tags(tag):
    for neighbour in UPOS:
        gold = [[tag, tag, neighbour, neighbour, tag]]
        predicted = [[tag, neighbour, neighbour, neighbour, tag]]
        score = OfficialTagF1().compute(predictions=predicted, references=gold)["f1"]
        assert score == pytest.approx(f1_of_seqeval_0_0_12(gold, predicted), abs=1e-9), neighbour


@settings(max_examples=200, deadline=None)
@given(tagged(st.sampled_from(UPOS)))
def test_official_f1_equals_seqeval_0_0_12_on_ud_tags(pair):
    predicted, gold = pair
    score = compute(["official_tag_f1"], predicted, gold)["f1"]
    assert score == pytest.approx(f1_of_seqeval_0_0_12(gold, predicted), abs=1e-9)
    # The same under seqeval 1.2.2 with explicit prefixes: S- for the tags that 0.0.12 reads as single.
    prefixed = [[[("S-" if t[0] == "S" else "I-") + t for t in s] for s in side] for side in (gold, predicted)]
    assert score == pytest.approx(100 * f1_score(*prefixed, zero_division=0), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(tagged(st.sampled_from(["CCONJ", "SCONJ", "SYM", "B", "BX", "EX", "E", "S", "O", "OBJ", ".", "I", "_", "名詞"])))
def test_official_f1_equals_seqeval_0_0_12_on_any_tag_without_hyphen(pair):
    predicted, gold = pair
    score = compute(["official_tag_f1"], predicted, gold)["f1"]
    assert score == pytest.approx(f1_of_seqeval_0_0_12(gold, predicted), abs=1e-9)


@pytest.mark.parametrize("tag", ["B-PER", "-", ""])
def test_official_f1_refuses_prefixes(tag):
    with pytest.raises(StiltsError) as failure:
        compute(["official_tag_f1"], [["X"], ["X", "X"]], [["X"], ["X", tag]])
    accepted = "accepted are tags without a hyphen; IOB2 tags: span_f1"
    assert str(failure.value) == f"official_tag_f1: reference tag '{tag}' (sentence 1, word 1, from 0); {accepted}"


# --- span F1 ---------------------------------------------------------------------------------------------------------


def test_span_f1_counts_whole_spans():
    # gold: PER 0-1, LOC 3 | ORG 1 = 3 spans; predicted: PER 0-1, ORG 3 | ORG 1, PER 2 = 4; both have PER 0-1 and ORG 1.
    # F1 = 2 * 2 / (3 + 4) = 57.142857; accuracy 5 of 7 words = 71.428571.
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-ORG", "B-PER"]]
    scores = compute(["span_f1", "accuracy"], predicted, gold)
    assert scores == {"f1": pytest.approx(57.142857, abs=1e-6), "accuracy": pytest.approx(71.428571, abs=1e-6)}


def test_span_f1_lets_an_i_open_a_span():
    # Default mode: I-PER I-PER is the span PER 0-1 as B-PER I-PER is, and B-LOC I-ORG is LOC 2, ORG 3.
    # gold: PER 0-1, LOC 2-3 = 2 spans; predicted: PER 0-1, LOC 2, ORG 3 = 3; one in common: 2 * 1 / 5 = 40.
    gold, predicted = [["B-PER", "I-PER", "B-LOC", "I-LOC"]], [["I-PER", "I-PER", "B-LOC", "I-ORG"]]
    assert compute(["span_f1"], predicted, gold)["f1"] == pytest.approx(40.0, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(tagged(st.sampled_from(IOB2)))
def test_span_f1_equals_the_official_script_on_iob2(pair):
    predicted, gold = pair
    score = compute(["span_f1"], predicted, gold)["f1"]
    assert score == pytest.approx(f1_of_seqeval_0_0_12(gold, predicted), abs=1e-9)


@pytest.mark.parametrize("metric", ["span_f1", "official_tag_f1"])
@pytest.mark.parametrize(("predicted", "gold"), [("O", "O"), ("X", "O"), ("O", "X")])
def test_f1_without_spans_is_zero_and_silent(metric, predicted, gold, capfd):
    mark = "B-" if metric == "span_f1" else ""
    predicted, gold = (tag.replace("X", f"{mark}X") for tag in (predicted, gold))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute([metric], [[predicted, "O"]], [[gold, "O"]]) == {"f1": 0.0}
    assert capfd.readouterr() == ("", "")


def test_span_f1_refuses_tags_without_prefix():
    with pytest.raises(StiltsError) as failure:
        compute(["span_f1"], [["O", "NOUN"]], [["O", "O"]])
    accepted = "accepted are O, B-TYPE and I-TYPE; plain tags: official_tag_f1"
    assert str(failure.value) == f"span_f1: predicted tag 'NOUN' (sentence 0, word 1, from 0); {accepted}"


# --- accuracy --------------------------------------------------------------------------------------------------------


def test_tagging_accuracy_weighs_words_not_sentences():
    # 1 of 1, 0 of 3 and no word: 1 of 4 words = 25 (the mean over the two sentences would be 50).
    gold, predicted = [["A"], ["A", "A", "A"], []], [["A"], ["B", "B", "B"], []]
    assert compute(["accuracy"], predicted, gold) == {"accuracy": 25.0}


def test_classification_accuracy():
    # right, wrong, right: 2 of 3.
    gold, predicted = ["neutral", "entailment", "neutral"], ["neutral", "contradiction", "neutral"]
    assert compute(["accuracy"], predicted, gold) == {"accuracy": pytest.approx(66.666667, abs=1e-6)}


# --- pairing, names, modules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "gold", "message"),
    [
        (
            [["X"], ["X", "X"]],
            [["X"], ["X"]],
            "sentence 1 (from 0): 2 predicted tags for 1 reference tags; every word needs exactly one",
        ),
        ([["X"]], [["X"], ["X"]], "1 predictions for 2 references: sentence 1 (from 0) has no partner"),
        ([["X", None]], [["X", "X"]], "sentence 0, predicted tag 1 (from 0) is None; accepted is a string"),
        (["X"], [["X"]], "sentence 0 (from 0): a text was found where a list of tags is expected"),
        ([], [], "nothing to score: 0 sentences"),
        ([[], []], [[], []], "nothing to score: 2 sentences without a word"),
        (["yes"], ["yes", "no"], "1 predictions for 2 references: example 1 (from 0) has no partner"),
        (["yes", 1], ["yes", "no"], "predicted label of example 1 (from 0) is 1; accepted is a string"),
    ],
)
def test_what_does_not_pair_up_is_named(predicted, gold, message):
    with pytest.raises(StiltsError) as failure:
        compute(["accuracy"], predicted, gold)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("names", "gold", "message"),
    [
        (["span_f2"], [["O"]], "unknown metric 'span_f2': did you mean 'span_f1'? known are " + ", ".join(METRICS)),
        (["span_f1"], ["yes"], "metric 'span_f1' does not score classification; accepted is tagging"),
        (
            ["span_f1", "official_tag_f1"],
            [["O"]],
            "metrics span_f1, official_tag_f1: two of them give 'f1'; accepted is one",
        ),
    ],
)
def test_metric_names_that_cannot_be_scored(names, gold, message):
    with pytest.raises(UsageError) as failure:
        compute(names, gold, gold)
    assert str(failure.value) == message


def test_registry_names_modules_and_versions():
    assert {name: (entry.result, entry.version) for name, entry in METRICS.items()} == {
        "accuracy": ("accuracy", "1"),
        "span_f1": ("f1", "1"),
        "official_tag_f1": ("f1", "1"),
    }
    assert METRICS["accuracy"].modules == {"tagging": TaggingAccuracy, "classification": ClassificationAccuracy}
    assert issubclass(SpanF1, evaluate.Metric)


def test_modules_need_neither_network_nor_disk(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("a file, so that no folder can be made under it")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(blocked / "cache"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a metric opened a connection"))
    scores = {name: compute([name], [["O", "O"]], [["O", "O"]]) for name in METRICS}
    assert scores == {"accuracy": {"accuracy": 100.0}, "span_f1": {"f1": 0.0}, "official_tag_f1": {"f1": 0.0}}


@pytest.mark.parametrize("keep_in_memory", [True, False])
def test_modules_at_work_at_once_do_not_mix(tmp_path, keep_in_memory):
    first, second = (TaggingAccuracy(keep_in_memory=keep_in_memory, cache_dir=str(tmp_path)) for _ in range(2))
    first.add_batch(predictions=[["A", "A"]], references=[["A", "A"]])
    second.add(prediction=["A"], reference=["B"])
    first.add(prediction=["A", "A"], reference=["B", "B"])
    second.add(prediction=["A"], reference=["B"])
    assert first.compute() == {"accuracy": 50.0}
    assert second.compute() == {"accuracy": 0.0}


def test_a_module_works_again_after_a_refusal():
    metric = SpanF1()
    for wrong in ([["NOUN"]], [["O", "O"]]):
        with pytest.raises(StiltsError):
            metric.compute(predictions=wrong, references=[["O"]])
    assert metric.compute(predictions=[["B-PER"]], references=[["B-PER"]]) == {"f1": 100.0}
