"""Metrics against hand counts (written beside each literal) and against second implementations."""

import subprocess
import sys
import warnings
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.tasks.metrics import LABEL_METRICS, METRICS, TAG_METRICS, compute

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
        score = TAG_METRICS["official_tag_f1"].score(predicted, gold)
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


# Every prefix with types that have one another's letters, hyphens and underscores in them.
ANY_SPAN_TAG = st.one_of(
    st.just("O"),
    st.builds("{}-{}".format, st.sampled_from("BIES"), st.sampled_from(["X", "X-Y", "Y", "-", "-X", "_", "I-X", "O"])),
)


def counts_by_seqeval(predicted, gold):
    """(sentences, 3): spans in both, predicted, gold, as the entities that seqeval 1.2.2 finds in each sentence."""
    pairs = [(set(get_entities(p)), set(get_entities(g))) for p, g in zip(predicted, gold, strict=True)]
    return [[len(p & g), len(p), len(g)] for p, g in pairs]


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(tagged(ANY_SPAN_TAG))
def test_span_counts_and_f1_are_those_of_seqeval_to_the_last_bit(pair):
    predicted, gold = pair
    assert TAG_METRICS["span_f1"].counts(predicted, gold).tolist() == counts_by_seqeval(predicted, gold)
    assert compute(["span_f1"], predicted, gold) == {"f1": 100 * float(f1_score(gold, predicted, zero_division=0))}


def test_span_counts_of_every_sequence_of_prefixes_are_those_of_seqeval():
    """All sequences of four tags, of nine, against themselves and against a random other one."""
    tags = ["O", *(f"{prefix}-{type_}" for prefix in "BIES" for type_ in ("X", "X-Y"))]
    gold = [[a, b, c, d] for a in tags for b in tags for c in tags for d in tags]
    predicted = Random(0).sample(gold, len(gold))
    for side in (gold, predicted):
        assert TAG_METRICS["span_f1"].counts(side, gold).tolist() == counts_by_seqeval(side, gold)
    score = TAG_METRICS["span_f1"].score(predicted, gold)
    assert score == 100 * float(f1_score(gold, predicted, zero_division=0))
    # To the last bit: the other way to the same F1 rounds otherwise.
    sums = np.array([[both, both + 1 + both % 7, both + 2 + both % 5] for both in range(1, 200)], float)
    by_seqeval = [100 * (2 * (b / p) * (b / g) / (b / p + b / g)) for b, p, g in sums.tolist()]
    assert TAG_METRICS["span_f1"].ratio(sums).tolist() == by_seqeval
    assert TAG_METRICS["official_tag_f1"].ratio(sums) == pytest.approx(by_seqeval, abs=1e-9)
    assert TAG_METRICS["official_tag_f1"].ratio(sums).tolist() != by_seqeval


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


# --- counts ----------------------------------------------------------------------------------------------------------

# 1: spans PER and LOC, predicted PER right, ORG wrong. 2: none, one invented. 3: no word. 4: one, right.
GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], [], ["B-ORG", "I-ORG"]]
PREDICTED = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-LOC"], [], ["B-ORG", "I-ORG"]]
TAGS = [["NOUN", "NOUN", "VERB"], ["SCONJ", "SYM"], ["PRON"]]
OTHER_TAGS = [["NOUN", "VERB", "VERB"], ["SCONJ", "SCONJ"], ["PRON"]]


@pytest.mark.parametrize(
    ("metric", "predicted", "gold", "counts"),
    [
        (TAG_METRICS["span_f1"], PREDICTED, GOLD, [[1, 2, 2], [0, 1, 0], [0, 0, 0], [1, 1, 1]]),
        (TAG_METRICS["accuracy"], PREDICTED, GOLD, [[3, 4], [1, 2], [0, 0], [2, 2]]),
        # NOUN VERB VERB against NOUN NOUN VERB has no run in common; of SCONJ SCONJ the first is right.
        (TAG_METRICS["official_tag_f1"], OTHER_TAGS, TAGS, [[0, 2, 2], [1, 2, 2], [1, 1, 1]]),
        (LABEL_METRICS["accuracy"], ["a", "b"], ["a", "c"], [[1, 1], [0, 1]]),
    ],
)
def test_counts_by_hand_and_the_score_is_the_ratio_of_their_sum(metric, predicted, gold, counts):
    assert metric.counts(predicted, gold).tolist() == counts
    assert float(metric.ratio(np.array(counts, float).sum(0))) == metric.score(predicted, gold)


@pytest.mark.parametrize("metric", [*TAG_METRICS.values(), *LABEL_METRICS.values()])
def test_a_ratio_takes_any_number_of_sums_and_is_zero_of_nothing(metric):
    # 2 right of 4, or 2 spans in both of 4 predicted and 4 gold: 50.
    sums = np.array([[[0, 0, 0], [2, 4, 4]], [[4, 4, 4], [0, 4, 4]]], float)
    if metric.result == "accuracy":
        sums = sums[..., :2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.ratio(sums).tolist() == [[0, 50], [100, 0]]


# --- pairing, names ---------------------------------------------------------------------------------------------------


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
        (["span_f2"], [["O"]], "unknown metric 'span_f2': did you mean 'span_f1'? known are " + ", ".join(TAG_METRICS)),
        (["span_f1"], ["yes"], "metric 'span_f1' does not score labels of texts; accepted is accuracy"),
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


def test_results_and_versions():
    assert {(form, name): (each.result, each.version) for form in METRICS for name, each in METRICS[form].items()} == {
        ("tags of words", "accuracy"): ("accuracy", "1"),
        ("tags of words", "span_f1"): ("f1", "1"),
        ("tags of words", "official_tag_f1"): ("f1", "1"),
        ("labels of texts", "accuracy"): ("accuracy", "1"),
    }


@pytest.mark.parametrize("module", ["tasks.scoring", "statistics.bootstrap", "evaluation.floor"])
def test_definitions_and_who_uses_them_need_numpy_alone(module):
    heavy = ("torch", "transformers", "datasets", "evaluate", "seqeval", "pandas", "pyarrow")
    code = f"import sys, adapter_stilts.{module}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
