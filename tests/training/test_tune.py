"""Tuning: the best of the trials, by English development data alone, once; spaces by formula; what is refused."""

import math
from typing import Any

import pytest
from support.training import Workspace, english_task

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.schema import Recipe
from adapter_stilts.training import api, trainer
from adapter_stilts.training import tune as tuning
from adapter_stilts.training.tune import Space, Tuned, search_spaces, tune

RATES = {"learning_rate": "1e-4,1e-3,1e-2,3e-2,1e-1"}


def tuned(workspace: Workspace, **options: Any) -> Tuned:
    return tune(
        english_task(workspace.folder / "data"),
        backbone=workspace.backbone,
        runs=workspace.store,
        device="cpu",
        **options,
    )


def test_best_of_the_trials(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial is the run that `train` gives for its settings, without weights; the second call trains nothing."""
    result = tuned(workspace, trials=4, search=RATES, settings={"epochs": "3", "reduction": "2"}, limit=20)
    assert (result.task, result.method, result.backbone) == ("tags", "bottleneck", workspace.backbone.id)
    assert len(result.trials) == 4
    best = max(result.trials, key=lambda trial: trial.development)
    assert len({trial.development for trial in result.trials}) > 1
    assert result.recipe.learning_rate == float(best.settings["learning_rate"])
    assert (result.recipe.epochs, result.recipe.reduction) == (3, 2.0)
    assert result.recipe.tuning == (
        "best of 4 trials over learning_rate 1e-4, 1e-3, 1e-2, 3e-2, 1e-1 (20 English examples, 3 epochs, seed 0: "
        f"development accuracy {best.development:.1f})"
    )
    for trial in result.trials:
        (attempt,) = trial.attempts
        run = workspace.store.find(attempt.run)
        assert not run.has_weights
        assert sorted(path.name for path in run.folder.iterdir()) == ["record.json", "trained_on.safetensors"]
        assert run.record.recipe.learning_rate == float(trial.settings["learning_rate"])
        assert (run.record.limit, run.record.development, len(attempt.by_epoch)) == (20, trial.development, 3)
        assert attempt.by_epoch == tuple(epoch.scores["accuracy"] for epoch in run.record.history)
        assert run.record.scores == {}
    names = workspace.store.names()
    monkeypatch.setattr(api, "execute", lambda *_: pytest.fail("trained again"))
    assert tuned(workspace, trials=4, search=RATES, settings={"epochs": "3", "reduction": "2"}, limit=20) == result
    assert workspace.store.names() == names


def test_trial_is_what_train_gives(workspace: Workspace) -> None:
    result = tuned(workspace, trials=1, search={"learning_rate": "1e-3"})
    run = workspace.train(english_task(workspace.folder / "data"), settings={"learning_rate": "1e-3"})
    assert (run.name, run.record.development) == (result.trials[0].attempts[0].run, result.trials[0].development)
    assert run.has_weights


@pytest.mark.parametrize(
    ("scores", "best"), [([50.0, 80.0, 80.0, 60.0], 1), ([70.0, 70.0, 70.0, 70.0], 0), ([10.0, 20.0, 30.0, 90.0], 3)]
)
def test_earlier_trial_wins_a_tie(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: int
) -> None:
    left = iter(scores)
    monkeypatch.setattr(trainer, "development_scores", lambda *_: ({"accuracy": next(left)}, 2))
    result = tuned(workspace, trials=4, settings={"epochs": "1"})
    assert [trial.development for trial in result.trials] == scores
    assert result.recipe.learning_rate == float(result.trials[best].settings["learning_rate"])
    assert result.recipe.tuning is not None
    assert result.recipe.tuning.endswith(
        f"(all English examples, 1 epochs, seed 0: development accuracy {scores[best]:.1f})"
    )


def test_test_data_are_never_read(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "data")
    (workspace.folder / "data" / "en-test.conllu").unlink()
    result = tune(
        task, trials=2, backbone=workspace.backbone, runs=workspace.store, device="cpu", settings={"epochs": "1"}
    )
    assert len(result.trials) == 2


# --- spaces ----------------------------------------------------------------------------------------------------------


def test_default_space_is_as_wide_for_every_method(workspace: Workspace) -> None:
    """From an eighth of the present learning rate to four times it, spread evenly on a logarithmic scale."""
    (space,) = search_spaces(None, Recipe(learning_rate=8e-4))
    assert (space.key, space.choices, space.low, space.high) == ("learning_rate", (), 1e-4, 32e-4)
    assert space.text == "0.0001 to 0.0032"
    for method, rate in (("bottleneck", 1e-2), ("full", 1e-3)):
        result = tuned(workspace, method=method, trials=3, settings={"epochs": "1"})
        tried = [float(trial.settings["learning_rate"]) for trial in result.trials]
        # Two digits; the middle of the scale is sqrt(rate / 8 * rate * 4).
        assert tried == pytest.approx([rate / 8, rate / math.sqrt(2), rate * 4], rel=0.05)


@pytest.mark.parametrize(("trials", "distinct"), [(1, 1), (2, 2), (5, 5)])
def test_values_lie_evenly(trials: int, distinct: int) -> None:
    space = Space("learning_rate", low=1e-4, high=1e-2)
    values = [space.spread(index, trials) for index in range(trials)]
    expected = [1e-3] if trials == 1 else [1e-4 * 100 ** (index / (trials - 1)) for index in range(trials)]
    assert values == pytest.approx(expected, rel=1e-9)
    assert len({space_choice(index, trials) for index in range(trials)}) == min(distinct, 4)


def space_choice(index: int, count: int) -> str | float:
    return Space("adapter", ("pfeiffer", "houlsby", "parallel", "compacter")).spread(index, count)


def test_spaces_from_text() -> None:
    recipe = Recipe()
    assert search_spaces({"learning_rate": "1e-4:2e-3", "adapter": "pfeiffer, houlsby"}, recipe) == [
        Space("learning_rate", low=1e-4, high=2e-3),
        Space("adapter", ("pfeiffer", "houlsby")),
    ]


def test_whole_numbers_are_searched_as_such(workspace: Workspace) -> None:
    """Two digits of 121 would be 120, those of 2.4 no rank; the ends are the whole numbers in the range."""
    (space,) = search_spaces({"rank": "1.5:120.5"}, Recipe())
    assert (space.whole, space.text) == (True, "2 to 120")
    assert [space.typed(value) for value in (1.5, 2.4, 2.6, 104.4, 120.5)] == ["2", "2", "3", "104", "120"]
    (rate,) = search_spaces({"learning_rate": "1e-4:1e-3"}, Recipe())
    assert (rate.whole, rate.typed(1.26e-4)) == (False, "0.00013")
    result = tuned(workspace, method="lora", trials=3, search={"rank": "3:121"}, settings={"epochs": "1"})
    # In the middle is sqrt(3 * 121) = 19.05.
    assert [trial.settings["rank"] for trial in result.trials] == ["3", "19", "121"]
    assert result.search.over == {"rank": "3 to 121"}


def test_two_fields_do_not_rise_together(workspace: Workspace) -> None:
    result = tuned(
        workspace,
        trials=5,
        search={"learning_rate": "1e-3:1e-1", "reduction": "2,4,8,16"},
        settings={"epochs": "1"},
    )
    pairs = [(float(trial.settings["learning_rate"]), float(trial.settings["reduction"])) for trial in result.trials]
    assert len(set(pairs)) == 5
    assert [rate for rate, _ in pairs] == sorted(rate for rate, _ in pairs)
    assert [size for _, size in pairs] != sorted(size for _, size in pairs)
    assert result.recipe.tuning is not None
    assert result.recipe.tuning.startswith("best of 5 trials over learning_rate 0.001 to 0.1; reduction 2, 4, 8, 16 (")


@pytest.mark.parametrize(
    ("search", "complaint"),
    [
        ({"learning_rate": "1e-2:1e-3"}, "--search learning_rate: found '1e-2:1e-3', accepted: LOW:HIGH with 0 < LOW"),
        (
            {"learning_rate": "0:1"},
            "--search learning_rate: found '0:1', accepted: LOW:HIGH with 0 < LOW < HIGH, or ",
        ),
        ({"learning_rate": "a:b"}, "--search learning_rate: found 'a:b', accepted: LOW:HIGH with 0 < LOW < HIGH"),
        ({"learning_rate": "1e-3:inf"}, "--search learning_rate: found '1e-3:inf', accepted: LOW:HIGH"),
        ({"learning_rate": "nan:1"}, "--search learning_rate: found 'nan:1', accepted: LOW:HIGH"),
        ({"adapter": "pfeiffer,magic"}, "--search adapter: found 'magic', accepted 'pfeiffer', 'houlsby'"),
        ({"learning_rat": "1e-3,1e-2"}, "--search learning_rat: found an unknown key (did you mean 'learning_rate'?)"),
        ({"warmup": "0.5:2"}, "--search warmup: found 2, accepted less than or equal to 1"),
        ({"rank": "16:9000"}, "--search rank: decides nothing under bottleneck none, accepted with lora, dora"),
        ({"epochs": "50:200000"}, "--search epochs: found 200000, accepted less than or equal to 100000"),
        ({"epochs": "2.2:2.8"}, "--search epochs: found '2.2:2.8', accepted a range with a whole number in it"),
        ({"fusion": "full,light"}, "--search fusion: decides nothing under bottleneck none, accepted with fuse"),
    ],
)
def test_refused_searches(workspace: Workspace, search: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        tuned(workspace, search=search)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)
    assert workspace.store.names() == []


def test_seeds_are_averaged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rates the one that both seeds learn by is chosen, not the one that is best under the first seed."""
    scores = iter([80.0, 10.0, 60.0, 70.0])
    monkeypatch.setattr(trainer, "development_scores", lambda *_: ({"accuracy": next(scores)}, 2))
    result = tuned(
        workspace,
        trials=2,
        seeds=(0, 1),
        search={"learning_rate": "1e-2,1e-3"},
        match_tokens=60,
        settings={"epochs": "1"},
    )
    assert [trial.development for trial in result.trials] == [45.0, 65.0]
    assert [[one.development for one in trial.attempts] for trial in result.trials] == [[80.0, 10.0], [60.0, 70.0]]
    assert result.recipe.learning_rate == 1e-3
    assert result.recipe.tuning == (
        "best of 2 trials over learning_rate 1e-2, 1e-3 (60 English pieces, 1 epochs, seeds 0, 1: development accuracy "
        "65.0, 60.0 to 70.0)"
    )
    records = [workspace.store.find(one.run).record for trial in result.trials for one in trial.attempts]
    assert [(record.seed, record.recipe.learning_rate, record.match_tokens) for record in records] == [
        (0, 1e-2, 60),
        (1, 1e-2, 60),
        (0, 1e-3, 60),
        (1, 1e-3, 60),
    ]


@pytest.mark.parametrize("seeds", [(), (0, 1, 0)])
def test_refused_seeds(workspace: Workspace, seeds: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"^--seed: found \[.*\], accepted: at least one, none twice$"):
        tuned(workspace, seeds=seeds)
    assert workspace.store.names() == []


def test_no_trial(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"^--trials: found 0, accepted: at least 1$"):
        tuned(workspace, trials=0)


def test_more_trials_than_are_spread_are_guided(workspace: Workspace) -> None:
    """The same seed proposes the same trials, so an interrupted search goes on where it stopped."""
    few = tuned(workspace, trials=2, search={"learning_rate": "1e-3,1e-2"}, settings={"epochs": "1"})
    more = tuned(workspace, trials=tuning.SPREAD_TRIALS + 2, settings={"epochs": "1"})
    again = tuned(workspace, trials=tuning.SPREAD_TRIALS + 2, settings={"epochs": "1"})
    assert len(few.trials) == 2
    assert [trial.settings for trial in more.trials] == [trial.settings for trial in again.trials]
    rates = [float(trial.settings["learning_rate"]) for trial in more.trials]
    assert all(1e-2 / 8 * 0.95 <= rate <= 4e-2 * 1.05 for rate in rates)


def test_trial_whose_loss_is_not_finite_does_not_end_the_search(workspace: Workspace) -> None:
    """It counts as 0."""
    result = tuned(workspace, trials=2, search={"learning_rate": "1e-2,1e37"}, settings={"warmup": "0"})
    assert [trial.development > 0 for trial in result.trials] == [True, False]
    assert result.recipe.learning_rate == 1e-2


def test_no_trial_with_a_finite_loss(workspace: Workspace) -> None:
    with pytest.raises(StiltsError, match=r"^tags: found no finite loss in 2 trials; search lower learning rates$"):
        tuned(workspace, trials=2, search={"learning_rate": "1e36,1e37"}, settings={"warmup": "0"})


def test_bottleneck_adapters_by_name(workspace: Workspace) -> None:
    result = tuned(workspace, method="houlsby", trials=1, settings={"epochs": "1"})
    assert (result.method, result.recipe.adapter) == ("bottleneck", "houlsby")
    assert workspace.store.find(result.trials[0].attempts[0].run).record.recipe.adapter == "houlsby"
