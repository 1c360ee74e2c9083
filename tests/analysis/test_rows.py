"""Rows of records written by hand: their labels and places, what they stand against, and which one is chosen."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.records import under, write_run

from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.analysis.render import by_family, by_language, conditions, fitting, rich_table, summary
from adapter_stilts.analysis.table import Delta, Row, Table
from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.zero_shot import SCORES
from adapter_stilts.runs.store import EVALUATIONS, RunStore
from adapter_stilts.statistics.bootstrap import seed_interval

RANKING = ("best", "better", "beats", "wins", "worse", "highest", "outperforms", "superior", "significant")


def table_of(store: Path) -> Table:
    (table,) = compare_runs(RunStore(store)).tables_
    return table


def row_of(store: Path, label: str) -> Row:
    return next(row for row in table_of(store).rows if row.label == label)


def against(delta: Delta | None) -> tuple[str, float] | None:
    return None if delta is None else (delta.against, pytest.approx(delta.interval.value))


def test_labels_and_their_order(tmp_path: Path) -> None:
    shuffled, untrained = under("deprel (shuffled)", "shuffled"), under("deprel (random)", "random")
    deep = under("ner (stack over deprel (shuffled))", "shuffled")
    two = (under("deprel"), under("semtag"))
    rows: list[tuple[str, str, dict[str, Any], str]] = [
        ("full", "continue", {"over": [shuffled]}, "full continue over deprel (shuffled)"),
        ("full", "continue", {"over": [under("deprel+semtag")]}, "full continue over deprel+semtag"),
        ("full", "none", {}, "full none"),
        ("ia3", "none", {}, "ia3 none"),
        ("dora", "none", {}, "dora none"),
        ("lora", "bake", {"over": two}, "lora bake over deprel + semtag"),
        ("lora", "stack", {"over": [under("deprel (rank=4)")]}, "lora stack over deprel (rank=4)"),
        (
            "lora",
            "stack",
            {"over": [under("deprel")], "variant": "rank=4"},
            "lora stack over deprel (target rank=4)",
        ),
        ("lora", "none", {"variant": "rank=4"}, "lora none (rank=4)"),
        ("lora", "none", {}, "lora none"),
        ("bottleneck", "stack", {"over": [deep]}, "bottleneck stack over ner (stack over deprel (shuffled))"),
        ("bottleneck", "stack", {"over": [shuffled]}, "bottleneck stack over deprel (shuffled)"),
        ("bottleneck", "stack", {"over": [untrained]}, "bottleneck stack over deprel (random)"),
        ("bottleneck", "none", {"control": "shuffled"}, "bottleneck none (shuffled)"),
        (
            "bottleneck",
            "merge",
            {"over": two, "variant": "linear, then stack"},
            "bottleneck merge over deprel + semtag (linear, then stack)",
        ),
        ("bottleneck", "continue", {"over": two[:1]}, "bottleneck continue over deprel"),
        (
            "bottleneck",
            "fuse",
            {"over": two, "variant": "light fusion"},
            "bottleneck fuse over deprel + semtag (light fusion)",
        ),
        (
            "bottleneck",
            "fuse",
            {"over": two, "variant": "full fusion"},
            "bottleneck fuse over deprel + semtag (full fusion)",
        ),
        ("bottleneck", "stack", {"over": two}, "bottleneck stack over deprel + semtag"),
        ("bottleneck", "stack", {"over": two[1:]}, "bottleneck stack over semtag"),
        ("bottleneck", "stack", {"over": two[:1]}, "bottleneck stack over deprel"),
        ("bottleneck", "none", {"variant": "adapter=houlsby"}, "bottleneck none (adapter=houlsby)"),
        ("bottleneck", "none", {}, "bottleneck none"),
        ("head", "none", {}, "head none"),
    ]
    for method, composition, options, _ in rows:
        write_run(tmp_path, method, composition, 50, **options)
    expected = [label for *_, label in rows]
    # What stands last above comes first, but for the controls, whose labels sort by what lies underneath.
    last = expected.index("full continue over deprel (shuffled)")
    order = [*reversed(expected[last + 1 :]), expected[last]]
    controls = ["bottleneck stack over deprel (random)", "bottleneck stack over deprel (shuffled)"]
    assert [row.label for row in table_of(tmp_path).rows] == order
    assert order[order.index("bottleneck none (shuffled)") + 1 :][:2] == controls
    control = {row.label: row.control for row in table_of(tmp_path).rows}
    assert {label: kind for label, kind in control.items() if kind} == {
        "bottleneck none (shuffled)": "shuffled",
        "bottleneck stack over deprel (random)": "random",
        "bottleneck stack over deprel (shuffled)": "shuffled",
        "bottleneck stack over ner (stack over deprel (shuffled))": "shuffled",
        "full continue over deprel (shuffled)": "shuffled",
    }


def test_none_is_the_row_of_the_same_shape_or_the_plain_one(tmp_path: Path) -> None:
    one = {"over": [under("deprel")]}
    write_run(tmp_path, "bottleneck", "none", 50)
    write_run(tmp_path, "bottleneck", "none", 60, variant="adapter=houlsby")
    write_run(tmp_path, "lora", "none", 10)
    write_run(tmp_path, "bottleneck", "stack", 64, **one, variant="adapter=houlsby")
    write_run(tmp_path, "bottleneck", "stack", 65, **one, variant="adapter=houlsby, in de+en")
    write_run(tmp_path, "bottleneck", "stack", 53, **one, variant="adapter=parallel")
    write_run(tmp_path, "bottleneck", "fuse", 52, over=[under("a"), under("b")], variant="light fusion")
    write_run(tmp_path, "lora", "stack", 11, **one, variant="adapter=houlsby")
    write_run(tmp_path, "dora", "stack", 11, **one)
    differences = {row.label: against(row.delta_none) for row in table_of(tmp_path).rows if row.over}
    assert differences == {
        "bottleneck stack over deprel (target adapter=houlsby)": ("bottleneck none (adapter=houlsby)", 4),
        "bottleneck stack over deprel (target adapter=houlsby, in de+en)": ("bottleneck none (adapter=houlsby)", 5),
        "bottleneck stack over deprel (target adapter=parallel)": ("bottleneck none", 3),
        "bottleneck fuse over a + b (light fusion)": ("bottleneck none", 2),
        # A field that is no part of this method's shape says nothing of it.
        "lora stack over deprel (target adapter=houlsby)": ("lora none", 1),
        "dora stack over deprel": None,
    }
    assert row_of(tmp_path, "bottleneck none (adapter=houlsby)").delta_none is None


def test_none_of_the_same_shape_without_a_common_seed_gives_way(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, seed=0)
    write_run(tmp_path, "lora", "none", 70, seed=1)
    write_run(tmp_path, "lora", "none", 60, seed=2, variant="rank=4")
    write_run(tmp_path, "lora", "stack", 57, seed=0, over=[under("a")], variant="rank=4")
    write_run(tmp_path, "lora", "stack", 73, seed=1, over=[under("a")], variant="rank=4")
    delta = row_of(tmp_path, "lora stack over a (target rank=4)").delta_none
    assert delta is not None
    assert (delta.against, delta.seeds, delta.interval.value) == ("lora none", (0, 1), pytest.approx((7 + 3) / 2))


def test_full_is_over_the_same_intermediates(tmp_path: Path) -> None:
    shuffled = under("a (shuffled)", "shuffled")
    write_run(tmp_path, "full", "none", 40)
    for right, label in [(41, "a"), (42, "b+a"), (43, "b+a+c (9000 tokens)"), (44, "a (9000 tokens)")]:
        write_run(tmp_path, "full", "continue", right, over=[under(label)])
    write_run(tmp_path, "full", "continue", 45, over=[under("a+c")], variant="0.1 MLM")
    tokens = [under(f"{task} (9000 tokens)") for task in "abc"]
    two = [under("a"), under("b")]
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ("head", "none", {}),
        ("bottleneck", "none", {"variant": "reduction=4"}),
        ("bottleneck", "stack", {"over": [under("a")], "variant": "reduction=4"}),
        ("bottleneck", "continue", {"over": [under("a (reduction=4)")], "variant": "reduction=4"}),
        ("bottleneck", "stack", {"over": [under("a (reduction=4, 9000 tokens)")]}),
        ("bottleneck", "stack", {"over": [shuffled]}),
        ("bottleneck", "stack", {"over": [under("c")]}),
        ("bottleneck", "stack", {"over": [under("a+b")]}),
        ("bottleneck", "stack", {"over": two}),
        ("bottleneck", "fuse", {"over": two, "variant": "light fusion"}),
        ("bottleneck", "merge", {"over": tokens, "variant": "linear, then stack"}),
        ("bottleneck", "fuse", {"over": [under("a"), under("c")], "variant": "full fusion"}),
        ("bottleneck", "fuse", {"over": [shuffled, under("b")], "variant": "light fusion"}),
        ("lora", "bake", {"over": [under("a"), under("a", run="another")]}),
    ]
    for number, (method, composition, options) in enumerate(rows):
        write_run(tmp_path, method, composition, 50 + number, **options)
    differences = {row.label: against(row.delta_full) for row in table_of(tmp_path).rows if row.method != "full"}
    several = "full continue over b+a"
    assert differences == {
        "head none": ("full none", 50 - 40),
        "bottleneck none (reduction=4)": ("full none", 51 - 40),
        "bottleneck stack over a (target reduction=4)": ("full continue over a", 52 - 41),
        "bottleneck continue over a (reduction=4) (target reduction=4)": ("full continue over a", 53 - 41),
        "bottleneck stack over a (reduction=4, 9000 tokens)": ("full continue over a (9000 tokens)", 54 - 44),
        "bottleneck stack over a (shuffled)": None,
        "bottleneck stack over c": None,
        "bottleneck stack over a+b": (several, 57 - 42),
        "bottleneck stack over a + b": (several, 58 - 42),
        "bottleneck fuse over a + b (light fusion)": (several, 59 - 42),
        "bottleneck merge over a (9000 tokens) + b (9000 tokens) + c (9000 tokens) (linear, then stack)": (
            "full continue over b+a+c (9000 tokens)",
            60 - 43,
        ),
        "bottleneck fuse over a + c (full fusion)": None,
        "bottleneck fuse over a (shuffled) + b (light fusion)": None,
        "lora bake over a + a": None,
    }
    assert all(row.delta_full is None for row in table_of(tmp_path).rows if row.method == "full")


def test_full_over_a_control_is_its_counterpart_where_it_exists(tmp_path: Path) -> None:
    shuffled = under("a (shuffled)", "shuffled")
    write_run(tmp_path, "full", "continue", 41, over=[under("a")])
    write_run(tmp_path, "full", "continue", 44, over=[shuffled])
    write_run(tmp_path, "bottleneck", "stack", 50, over=[shuffled])
    row = row_of(tmp_path, "bottleneck stack over a (shuffled)")
    assert against(row.delta_full) == ("full continue over a (shuffled)", 6)


def choices_of(store: Path) -> Table:
    """Development and test scores disagree; controls are ahead of all in both, and so is the linear probe."""
    intermediates, control = [under("a")], [under("a (shuffled)", "shuffled")]
    for seed in (0, 1):
        write_run(store, "head", "none", 95, development=99.0, seed=seed)
        write_run(store, "bottleneck", "none", 60, development=90.0, seed=seed)
        write_run(store, "bottleneck", "stack", 63 + seed, over=intermediates, development=93.0, seed=seed)
        write_run(store, "bottleneck", "stack", 90, over=control, development=99.0, seed=seed)
        write_run(store, "lora", "none", 66, development=92.0, seed=seed)
        write_run(store, "full", "none", 61, development=94.0, seed=seed)
        write_run(store, "full", "continue", 70, over=intermediates, development=91.0, seed=seed)
        write_run(store, "full", "continue", 91, over=control, development=99.0, seed=seed)
    return table_of(store)


def test_choice_by_development_and_by_test(tmp_path: Path) -> None:
    table = choices_of(tmp_path)
    assert (table.chosen, table.chosen_full) == ("bottleneck stack over a", "full none")
    assert (table.oracle, table.oracle_full) == ("lora none", "full continue over a")
    assert table.chosen_delta is not None
    assert against(table.chosen_delta) == ("full none", 63.5 - 61)
    assert table.chosen_delta.seeds == (0, 1)
    assert (table.chosen_delta.interval.low, table.chosen_delta.interval.high) == (None, None)
    assert against(table.oracle_delta) == ("full continue over a", 66 - 70)


def test_caption_says_what_is_chosen_without_ranking_under_three_seeds(tmp_path: Path) -> None:
    table = choices_of(tmp_path)
    caption = conditions(table)
    assert (
        "Chosen by development score, controls left out: adapters: bottleneck stack over a 63.5, "
        "full STILTs: full none 61.0, difference +2.5. "
        "Chosen by test score (oracle): adapters: lora none 66.0, full STILTs: full continue over a 70.0, "
        "difference -4.0."
    ) in caption
    assert "seeds: 0, 1 (under three seeds: no ranking follows)" in caption
    text = compare_runs(RunStore(tmp_path)).markdown().lower()
    assert [word for word in RANKING if word in text] == []


def test_difference_of_the_chosen_names_its_seeds(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, seed=0)
    write_run(tmp_path, "lora", "none", 60, seed=1)
    write_run(tmp_path, "lora", "none", 70, seed=2)
    write_run(tmp_path, "full", "none", 58, seed=1)
    caption = conditions(table_of(tmp_path))
    assert "adapters: lora none 60.0, full STILTs: full none 58.0, difference on seeds 1 +2.0." in caption
    assert "under three seeds" not in caption


def test_choice_of_one_family_alone(tmp_path: Path) -> None:
    write_run(tmp_path, "full", "none", 58)
    table = table_of(tmp_path)
    assert (table.chosen, table.oracle, table.chosen_delta, table.oracle_delta) == (None, None, None, None)
    assert "controls left out: full STILTs: full none 58.0. Chosen by test" in conditions(table)


def test_caption_says_what_predictions_were_computed_in(tmp_path: Path) -> None:
    """Nothing of float32, which is what everyone expects."""
    write_run(tmp_path, "head", "none", 58)
    assert "labels on first_content, 1,000" in conditions(table_of(tmp_path))
    run = write_run(tmp_path, "full", "none", 58)
    scores = run.folder / EVALUATIONS / "test" / SCORES
    scores.write_text(scores.read_text().replace('"precision":"float32"', '"precision":"fp16"'))
    assert "labels on first_content, predicted in float32 and fp16, 1,000" in conditions(table_of(tmp_path))


def test_nothing_to_choose_among(tmp_path: Path) -> None:
    write_run(tmp_path, "head", "none", 58)
    assert "Chosen" not in conditions(table_of(tmp_path))


def test_cells_of_cost(tmp_path: Path) -> None:
    write_run(tmp_path, "bottleneck", "none", 50)
    write_run(tmp_path, "head", "none", 40, trainable_parameters=3_110, bundle_bytes=0)
    write_run(tmp_path, "full", "none", 45, trainable_parameters=100_000_000, bundle_bytes=1_234_000_000)
    write_run(tmp_path, "full", "none", 45, seed=1, trainable_parameters=100_000_000, bundle_bytes=0)
    cells = summary(table_of(tmp_path))
    assert list(cells.heads[-4:]) == ["trainable", "% of all", "seconds", "MB"]
    assert [list(row[-4:]) for row in cells.rows] == [
        ["3,110", "0.00311", "1,234", ""],
        ["1,234,567", "1.23", "1,234", "3.5"],
        ["100,000,000", "100", "1,234", "1234.0"],
    ]


def test_training_on_a_number_of_pieces_is_another_table(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50)
    write_run(tmp_path, "lora", "none", 55, match_tokens=9_000, variant="9000 tokens")
    assert len(compare_runs(RunStore(tmp_path)).tables_) == 2


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({"recipe": {"epochs": 2, "clip": 2.0}}, {"recipe": {"epochs": 3}}, "epochs: 3 and 2"),
        # Neither how it was tuned nor what a bottleneck adapter does not have decides anything.
        ({"recipe": {"tuning": "by hand", "rank": 4}}, {"recipe": {"dropout": 0.2}}, "dropout: 0.2 and 0.1"),
        ({"over": [under("a", run="r1")]}, {"over": [under("a", run="r2")]}, "over: r2 and r1"),
        ({}, {"precision": "bf16"}, "precision: bf16 and float32"),
        ({"identity": {"seed": 0, "masked_lm": 1}}, {"identity": {"seed": 0, "masked_lm": 2}}, "masked_lm"),
    ],
)
def test_one_row_and_seed_twice_names_the_difference(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], named: str
) -> None:
    composition = "stack" if "over" in first else "none"
    for options in (first, second):
        write_run(tmp_path, "bottleneck", composition, 50, **options)
    with pytest.raises(UsageError) as caught:
        compare_runs(RunStore(tmp_path))
    assert str(caught.value) == (
        f"run-01 and run-00 are the same row and seed with different recipes ({named}): name the runs to compare"
    )


def test_another_variant_or_seed_is_no_such_error(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50, recipe={"rank": 8})
    write_run(tmp_path, "lora", "none", 60, recipe={"rank": 4}, variant="rank=4")
    write_run(tmp_path, "lora", "none", 70, recipe={"rank": 8}, seed=1)
    assert [(row.label, row.seeds, row.mean_zero_shot) for row in table_of(tmp_path).rows] == [
        ("lora none", (0, 1), 60.0),
        ("lora none (rank=4)", (0,), 60.0),
    ]


def test_equal_candidates_are_named_and_the_smaller_one_is_chosen(tmp_path: Path) -> None:
    """Of the same scores: the row that trains the fewest parameters, then the first of the table; whatever the runs are
    called, and in whatever order they are read."""
    write_run(tmp_path, "lora", "none", 60, trainable_parameters=300)
    write_run(tmp_path, "ia3", "none", 60, trainable_parameters=200)
    write_run(tmp_path, "dora", "none", 60, trainable_parameters=200)
    write_run(tmp_path, "full", "none", 70)
    write_run(tmp_path, "bottleneck", "none", 60, development=89.9, trainable_parameters=100)
    table = table_of(tmp_path)
    assert (table.chosen, table.oracle) == ("dora none", "bottleneck none")
    assert table.ties["chosen"] == ("ia3 none", "lora none")
    assert table.ties["oracle"] == ("dora none", "ia3 none", "lora none")
    assert (
        "adapters: dora none 60.0 (of the same score: ia3 none; lora none; the fewest trained parameters decide), "
        "full STILTs: full none 70.0, difference -10.0."
    ) in conditions(table)


def three_seeds(store: Path) -> tuple[float, float, float]:
    for seed, right in enumerate((50, 52, 54)):
        write_run(store, "lora", "none", right, seed=seed)
        write_run(store, "lora", "stack", right + (2, 4, 9)[seed], seed=seed, over=[under("a")])
    return 2.0, 4.0, 9.0


def test_three_shared_seeds_give_an_interval_over_seeds_and_sentences(tmp_path: Path) -> None:
    differences = three_seeds(tmp_path)
    row = row_of(tmp_path, "lora stack over a")
    assert row.delta_none is not None
    interval = row.delta_none.interval
    assert (interval.value, row.delta_none.over) == (pytest.approx(5.0), "seeds and test sentences")
    alone = seed_interval(differences, 0.0)
    assert interval.low is not None
    assert alone.low is not None
    # Sentences add to the variance, and to the degrees of freedom.
    assert seed_interval(differences, 25.0).low < interval.low < interval.value  # type: ignore[operator]
    assert "with 95% intervals over seeds and test sentences (t), where three or more seeds are shared" in conditions(
        table_of(tmp_path)
    )
    narrow = compare_runs(RunStore(tmp_path), sentence_intervals=True).tables_[0]
    delta = narrow.rows[1].delta_none
    assert delta is not None
    assert delta.over == "test sentences"
    assert (delta.interval.low or 0) > interval.low
    assert "with 95% intervals over test sentences alone: what another seed would change is not in them" in conditions(
        narrow
    )


def test_two_shared_seeds_give_none_unless_asked_for(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    write_run(tmp_path, "full", "none", 58, seed=1)
    write_run(tmp_path, "full", "none", 58, seed=2)
    row = row_of(tmp_path, "lora none")
    assert row.delta_full is not None
    assert (row.delta_full.seeds, row.delta_full.interval.low, row.delta_full.over) == ((1, 2), None, None)
    assert "| lora none | 61.5 | 52.0 ±2.0 | - | -5.0 | 90.0 |" in compare_runs(RunStore(tmp_path)).markdown()
    asked = compare_runs(RunStore(tmp_path), sentence_intervals=True).tables_[0].rows[0].delta_full
    assert asked is not None
    assert (asked.interval.value, asked.over) == (pytest.approx(-5.0), "test sentences")
    assert asked.interval.low is not None


def test_scores_and_differences_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", "none", 50)
    write_run(tmp_path, "lora", "stack", 53, over=[under("a")])
    write_run(tmp_path, "full", "continue", 40, over=[under("a")])
    table = table_of(tmp_path)
    families, languages = by_family(table), by_language(table)
    assert [list(row[:3]) for row in families.rows] == [
        ["lora none", "score", "50.0"],
        ["lora stack over a", "difference to lora none", "+3.0"],
        ["full continue over a", "score", "40.0"],
    ]
    assert list(languages.heads[3:]) == [
        "lora none: score",
        "lora stack over a: difference to lora none",
        "full continue over a: score",
    ]
    assert "difference to none" not in "".join([families.title, languages.title])


def test_no_number_is_cut_at_80_columns(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    write_run(tmp_path, "full", "none", 58, trainable_parameters=117_512_849, bundle_bytes=1_234_000_000)
    table = table_of(tmp_path)
    cells = summary(table)
    parts = fitting(cells, 80)
    assert len(parts) > 1
    assert [head for part in parts for head in part.heads[1:]] == list(cells.heads[1:])
    assert [part.note for part in parts] == [*[""] * (len(parts) - 1), cells.note]
    console = Console(file=StringIO(), width=80)
    for part in parts:
        console.print(rich_table(part, 80))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    shown = " ".join(lines).replace("│", " ")
    for row in cells.rows:
        assert all(f" {cell} " in shown for cell in row[1:])
    assert fitting(cells, None) == fitting(cells, 1_000) == [cells]
