"""Contrasts between kinds of intermediate tasks: by hand, analysis of variance, enumeration and simulation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from adapter_stilts.analysis.answer import answer
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.statistics.effects import Effects, fit_effects
from adapter_stilts.statistics.observations import CELLS, Observation
from adapter_stilts.statistics.small_samples import holm, smallest_difference, t_interval, t_p_value
from benchmarks.study_statistics import Truth, analysed, confounded, measured, simulate

SMALL = Truth(languages=(5, 7))
SCOPE = "Measured zero-shot on target0 (5 languages) and target1 (7 languages), 3 seeds, bottleneck stack against none."


def study(seed: int = 0, **truth: Any) -> list[Observation]:
    return simulate(replace(SMALL, **truth), np.random.default_rng(seed))


def cell_mean(observations: Iterable[Observation], target: str, knowledge: str, granularity: str) -> float:
    kind = (target, knowledge, granularity)
    return float(np.mean([one.delta for one in observations if (one.target, one.knowledge, one.granularity) == kind]))


def fitted(observations: Iterable[Observation]) -> Effects:
    return fit_effects(observations, resamples=0)


def test_holm_by_hand() -> None:
    # .005 * 4, .01 * 3, .03 * 2, and .04 * 1 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize(("df", "power"), [(1.0, 0.8), (1.7, 0.8), (3.4, 0.8), (4.0, 0.8), (4.0, 0.95), (60.0, 0.8)])
def test_smallest_difference_has_its_power_by_the_noncentral_t(df: float, power: float) -> None:
    noncentrality = smallest_difference(0.5, df, power=power) / 0.5
    critical = stats.t.ppf(0.975, df)
    computed_power = stats.nct.sf(critical, df, noncentrality) + np.nan_to_num(
        stats.nct.cdf(-critical, df, noncentrality)
    )
    assert computed_power == pytest.approx(power, abs=1e-6)


def test_t_interval_and_p_are_those_of_scipy() -> None:
    assert t_interval(1.2, 0.4, 3.5) == pytest.approx(stats.t.interval(0.95, 3.5, loc=1.2, scale=0.4))
    assert t_p_value(-1.2, 0.4, 3.5) == pytest.approx(2 * stats.t.sf(3.0, 3.5))


def test_estimates_are_differences_of_cell_means() -> None:
    observations = study(interaction=2.0)
    effects = fitted(observations)
    cells = {target: [cell_mean(observations, target, *cell) for cell in CELLS] for target in effects.targets}
    for target, (one, two, three, four) in cells.items():
        assert effects.contrast("knowledge", target).estimate == pytest.approx((one + two - three - four) / 2)
        assert effects.contrast("granularity", target).estimate == pytest.approx((one - two + three - four) / 2)
        assert effects.contrast("interaction", target).estimate == pytest.approx(one - two - three + four)
    for name in ("knowledge", "granularity", "interaction"):
        one, other = (effects.contrast(name, target).estimate or 0.0 for target in effects.targets)
        assert effects.contrast(name).estimate == pytest.approx((one + other) / 2, rel=1e-6)


def test_knowledge_is_the_nested_f_test() -> None:
    """Balanced: F of knowledge over intermediates within kinds, on 1 and 8 - 4 degrees of freedom."""
    equal = []
    for seed in range(8):
        observations = study(seed, languages=(6, 6))
        effects = fitted(observations)
        if any(part.name == "language x kind" and part.variance for part in effects.components):
            continue
        equal.append(seed)
        means = np.array(
            [np.mean([one.delta for one in observations if one.intermediate == f"task{task}"]) for task in range(8)]
        )
        cells = means.reshape(4, 2)
        within = ((cells - cells.mean(1, keepdims=True)) ** 2).sum() / 4
        between = 8 * ((cells[:2].mean() - cells[2:].mean()) / 2) ** 2
        contrast = effects.contrast("knowledge")
        assert contrast.p == pytest.approx(stats.f.sf(between / within, 1, 4), rel=1e-4)
        assert contrast.df == pytest.approx(4.0)
    assert len(equal) >= 2


def test_what_runs_of_a_seed_share_changes_nothing() -> None:
    """The noise of the reference's run, by seed and language, cancels in contrasts between intermediates."""
    observations = study()
    noise = np.random.default_rng(5).normal(0, 3, (2, 3, 7))
    moved = [
        replace(one, delta=one.delta + float(noise[int(one.target[-1]), one.seed, int(one.language[1:])]))
        for one in observations
    ]
    for before, after in zip(fitted(observations).contrasts, fitted(moved).contrasts, strict=True):
        assert after.estimate == pytest.approx(before.estimate, abs=1e-6)
        assert after.standard_error == pytest.approx(before.standard_error, rel=1e-3)


def test_a_target_is_not_measured_by_the_spread_of_another() -> None:
    observations = study()
    stretched = [replace(one, delta=one.delta * (5 if one.target == "target1" else 1)) for one in observations]
    before, after = (fitted(them).contrast("knowledge", "target0") for them in (observations, stretched))
    assert replace(after, holm_p=None) == replace(before, holm_p=None)


def test_a_slope_of_languages_widens_the_interval() -> None:
    """Languages that take to syntax differently: with few of them, the mean over them is less sure."""
    observations = study(languages=(4, 4), intermediate=0.05, intermediate_by_target=0.05)
    slopes = np.random.default_rng(1).normal(0, 3, 4)
    sloped = [
        replace(one, delta=one.delta + float(slopes[int(one.language[1:])]) * (one.knowledge == "syntactic"))
        for one in observations
    ]
    error, wider = (fitted(them).contrast("knowledge").standard_error for them in (observations, sloped))
    assert error is not None
    assert wider is not None
    assert wider > 2 * error


def test_english_and_order_change_nothing() -> None:
    observations = study()
    english = [replace(one, language="en", delta=50.0, zero_shot=False) for one in observations if one.language == "l0"]
    assert fitted([*observations, *english]) == fitted(observations)
    shuffled = [observations[index] for index in np.random.default_rng(0).permutation(len(observations))]
    assert fitted(shuffled) == fitted(observations)


def test_all_of_it_is_plain_data() -> None:
    plain = json.loads(json.dumps(asdict(fit_effects(study(), resamples=50))))
    assert plain["counts"]["languages"] == {"target0": 5, "target1": 7}
    assert plain["counts"]["observations"] == 8 * 3 * 12
    assert len(plain["contrasts"]) == 9


def test_confounded_knowledge_is_not_estimated() -> None:
    result = confounded()
    assert result["knowledge"]["estimate"] is None
    assert result["knowledge"]["reason"].startswith("knowledge is confounded with granularity: all syntactic")
    assert "cannot be answered" in result["answer"]
    assert len(result["limits"]) == 1


def test_three_cells_answer_what_a_pair_can() -> None:
    observations = [one for one in study() if (one.knowledge, one.granularity) != ("syntactic", "sentence")]
    effects = fitted(observations)
    assert effects.contrast("knowledge").estimate is None
    assert "no intermediate under target0 and target1 is syntactic and sentence-level" in answer(effects).sentence
    pair = effects.contrast("knowledge of token tasks", "target0")
    means = [cell_mean(observations, "target0", knowledge, "token") for knowledge in ("syntactic", "semantic")]
    assert pair.estimate == pytest.approx(means[0] - means[1])
    assert pair.df is not None
    assert pair.df <= 3
    with pytest.raises(StiltsError, match="knowledge of sentence tasks"):
        effects.contrast("knowledge of sentence tasks")


def test_one_level_of_knowledge_is_named() -> None:
    effects = fitted([one for one in study() if one.knowledge == "semantic"])
    reason = effects.contrast("knowledge").reason
    assert reason == "no intermediate under target0 and target1 is syntactic"
    assert effects.contrast("granularity of semantic tasks").p is not None


def test_one_intermediate_a_kind_has_an_estimate_and_no_interval() -> None:
    observations = study(cells=CELLS)
    effects = fitted(observations)
    contrast = effects.contrast("knowledge", "target1")
    one, two, three, four = (cell_mean(observations, "target1", *cell) for cell in CELLS)
    assert contrast.estimate == pytest.approx((one + two - three - four) / 2)
    assert (contrast.low, contrast.df, contrast.p, contrast.holm_p, contrast.smallest_difference) == (None,) * 5
    assert answer(effects).sentence == (
        "Whether syntactic and semantic intermediate tasks differ cannot be answered: no kind of intermediate task has "
        "two members, so there is no measure of chance."
    )
    tried = effects.contrast("knowledge").estimate
    assert answer(effects).limits == (
        f"Those that were tried differ by {tried:+.1f} points (syntactic minus semantic, n = 4 tasks).",
        SCOPE,
    )
    assert effects.components == ()


def test_one_seed_and_language_is_the_plain_analysis_of_variance() -> None:
    observations = study(seeds=1, languages=(1,), stretch=(1.0,))
    effects = fitted(observations)
    values = np.array([one.delta for one in observations]).reshape(4, 2)
    error = (((values - values.mean(1, keepdims=True)) ** 2).sum() / 4 / 2) ** 0.5
    contrast = effects.contrast("knowledge")
    assert (contrast.standard_error, contrast.df) == pytest.approx((error, 4.0), rel=1e-6)
    assert [limit.split(":")[0] for limit in effects.limits] == ["one seed", "target0"]
    assert len(effects.contrasts) == 3


def test_a_failed_run_is_named_and_leaves_an_interval() -> None:
    observations = study(knowledge=1.0)
    left = [one for one in observations if (one.target, one.intermediate, one.seed) != ("target0", "task3", 2)]
    whole, part = fitted(observations), fitted(left)
    assert "1 of 48 runs are missing: target0 over task3 seed 2" in part.limits
    before, after = whole.contrast("knowledge", "target0"), part.contrast("knowledge", "target0")
    assert after.estimate == pytest.approx(before.estimate, abs=0.2)
    assert after.df is not None
    assert 3 < after.df <= 4
    assert replace(part.contrast("knowledge", "target1"), holm_p=None) == replace(
        whole.contrast("knowledge", "target1"), holm_p=None
    )


def test_an_intermediate_alone_in_its_kind_and_a_language_of_some_runs_are_named() -> None:
    observations = [one for one in study() if one.intermediate != "task7"]
    observations = [
        one for one in observations if (one.intermediate, one.language, one.target) != ("task1", "l6", "target1")
    ]
    effects = fitted(observations)
    assert effects.limits == (
        "semantic sentence: one intermediate (task6) under target0 and target1; its spread is taken from the others",
        "target1: some runs lack l6",
    )
    assert all(one.df is not None and one.df <= 3 for one in effects.contrasts)


def test_bootstrap_of_two_a_cell_by_enumeration() -> None:
    """One seed and language: a resample takes one of two intermediates of each kind, so the percentiles of 2.5 are the
    least and the greatest of sixteen equally likely contrasts."""
    observations = study(seeds=1, languages=(1,), stretch=(1.0,))
    values = np.array([one.delta for one in observations]).reshape(4, 2)
    possible = [(one + two - three - four) / 2 for one, two, three, four in product(*values)]
    contrast = fit_effects(observations, resamples=2000).contrast("knowledge")
    assert (contrast.bootstrap_low, contrast.bootstrap_high) == pytest.approx((min(possible), max(possible)))


def test_bootstrap_has_the_spread_of_intermediates() -> None:
    """Where they are all that varies, the variance of resamples is the squared standard error, however few: here the
    interval's half-width over 1.96 stands for it, with twelve a kind."""
    cells = tuple(cell for cell in CELLS for _ in range(12))
    quiet: dict[str, Any] = {"run": 0.01, "residual": 0.01, "language_by_intermediate": 0.01}
    contrast = fit_effects(study(cells=cells, languages=(5,), stretch=(1.0,), **quiet), resamples=8000).contrast(
        "knowledge"
    )
    assert contrast.bootstrap_low is not None
    assert contrast.bootstrap_high is not None
    assert (contrast.bootstrap_high - contrast.bootstrap_low) / 2 / 1.96 == pytest.approx(
        contrast.standard_error, rel=0.06
    )


def test_answers_say_what_was_found() -> None:
    quiet: dict[str, Any] = {"intermediate": 0.2, "intermediate_by_target": 0.1}

    def points(effects: Effects, target: str | None = None) -> str:
        contrast = effects.contrast("knowledge", target)
        return f"{contrast.estimate:+.1f} points [{contrast.low:+.1f}, {contrast.high:+.1f}]"

    who, of = "syntactic and semantic intermediate tasks", "(syntactic minus semantic, n = 8 tasks)"
    some, none = fitted(study(knowledge=3.0, **quiet)), fitted(study(4))
    assert answer(some).sentence == f"{who.capitalize()} differ by {points(some)} {of}."
    contrast = none.contrast("knowledge")
    assert answer(none).sentence == f"No difference between {who} was seen: {points(none)} {of}."
    by_target, by_level, scope, test, could = answer(none).limits
    assert by_target == f"By target: target0 {points(none, 'target0')}, target1 {points(none, 'target1')}."
    level = none.contrast("granularity")
    assert by_level == (
        f"By level: token minus sentence {level.estimate:+.1f} points [{level.low:+.1f}, {level.high:+.1f}], "
        f"p = {level.holm_p:.2g} after Holm."
    )
    assert scope == SCOPE
    p = f"p = {contrast.p:.2g}, {contrast.holm_p:.2g} after Holm"
    assert test == f"The interval is at 95% (t, {contrast.df:.1f} degrees of freedom); {p}."
    seen = f"Four of five such studies would see a true difference of {contrast.smallest_difference:.1f} points"
    assert could == f"{seen}; a smaller one is not ruled out."
    between = replace(contrast, p=0.02, holm_p=0.18)
    said = answer(replace(none, contrasts=(between, *none.contrasts[1:])))
    assert said.sentence == f"A difference between {who} is not established: {points(none)} {of}."
    assert said.limits[0] == "The interval leaves out zero, but not after correction for the other contrasts."
    assert str(said) == " ".join([said.sentence, *said.limits])
    assert max(len(answer(effects).sentence) for effects in (some, none)) < 140


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lora"}, "bottleneck stack and lora stack"),
        ({"knowledge": "none"}, "task0: found none, token"),
        ({"knowledge": "semantic"}, "task0: found semantic token and syntactic token, accepted: one kind"),
        ({"delta": float("nan")}, "target0 over task0, seed 0, l0: found a difference of nan"),
        ({"language": "l1"}, "target0 over task0, seed 0, l1: found two differences"),
    ],
)
def test_observations_that_do_not_fit_together_are_refused(change: dict[str, object], message: str) -> None:
    observations = study()
    with pytest.raises(UsageError, match=message):
        fit_effects([replace(observations[0], **change), *observations[1:]])  # type: ignore[arg-type]


def test_nothing_but_english_is_refused() -> None:
    with pytest.raises(UsageError, match=r"none outside the languages trained on \(en\)"):
        fit_effects([replace(one, language="en", zero_shot=False) for one in study()])


def test_simulated_studies_are_covered_as_often_as_they_should_be() -> None:
    """Sixty studies from fixed seeds; five hundred are in benchmarks/results/study_statistics.json."""
    truth = replace(SMALL, knowledge=1.5)
    knowledge = measured(truth, analysed(truth, 60, seed=3, resamples=0))["contrasts"][0]
    assert abs(knowledge["bias"]) < 3 * knowledge["bias_standard_error"]
    assert 0.88 <= knowledge["coverage"] <= 1.0
    assert knowledge["wald_coverage"] < knowledge["coverage"]
    assert knowledge["root_mean_square_standard_error"] == pytest.approx(knowledge["estimate_sd"], rel=0.25)
