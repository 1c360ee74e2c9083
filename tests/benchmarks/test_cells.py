"""The quality benchmarks: which cells there are, and that a table written twice trains nothing twice."""

import argparse
import json
from pathlib import Path

import pytest
from support.training import english_task, make_place

from adapter_stilts.runs.store import RunStore
from benchmarks import compositions, tuning
from benchmarks.cells import Cell, Intermediate, command_of, run_cells


def test_rows_hold_every_composition_the_controls_and_the_full_forms() -> None:
    tasks = ("a", "b", "c")
    bottleneck = [(tuple(map(str, below)), compose) for below, compose, _ in compositions.rows("bottleneck", tasks)]
    assert bottleneck[:5] == [((), None), (("a",), None), (("b",), None), (("c",), None), (tasks, "fuse")]
    assert [compose for _, compose in bottleneck].count("continue") == 3
    assert (("a (random)",), None) in bottleneck
    assert (("a (shuffled)",), None) in bottleneck
    assert (tasks, "merge") in bottleneck
    full = [tuple(map(str, below)) for below, _, _ in compositions.rows("full", tasks)]
    recipes = [("a+b+c",), ("c (mlm_share=0.2)",), ("xnli (de+es+hi+ru+zh)",)]
    assert full == [(), ("a",), ("b",), ("c",), *recipes]
    assert bottleneck[-3:] == [(own, None) for own in recipes]
    assert list(compositions.rows("bottleneck", tasks, compositions=False)) == list(compositions.rows("full", tasks))
    without = [
        (tuple(map(str, below)), compose) for below, compose, _ in compositions.rows("bottleneck", tasks, True, False)
    ]
    assert without == bottleneck[:-3]
    assert [tuple(map(str, below)) for below, _, _ in compositions.rows("lora", tasks)] == [(), ("a",), ("b",), ("c",)]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    place = make_place(tmp_path, monkeypatch)
    return argparse.Namespace(
        backbone=str(place.backbone.folder),
        hub_mirror=None,
        runs=tmp_path / "runs",
        limit=12,
        match_tokens=60,
        test_limit=5,
        development_limit=4,
        set=["epochs=1"],
        target_set=["bottleneck:learning_rate=0.002"],
        device="cpu",
        out=tmp_path / "table.json",
    )


def test_a_table_is_written_and_repeated_from_the_store(tmp_path: Path, options: argparse.Namespace) -> None:
    below = english_task(tmp_path / "a", "below", shift=1)
    target = english_task(tmp_path / "t", "target")
    over = (Intermediate(str(below.path)),)
    todo = [Cell(str(target.path), "bottleneck"), Cell(str(target.path), "bottleneck", over)]
    todo += [Cell(str(target.path), "full", over)]
    run_cells(todo, options, "table", "the command")
    first = json.loads(options.out.read_text(encoding="utf-8"))
    (table,) = first["comparison"]["tables"]
    assert [row["composition"] for row in table["rows"]] == ["none", "stack", "continue"]
    assert [own["match_tokens"] for own in first["intermediates"]] == [60, 60]
    assert [own["task"]["config"] for own in first["intermediates"]] == [below.path.name] * 2
    assert [own["task"]["config"] for own in first["runs"]] == [target.path.name] * 3
    assert {own["backbone"]["id"] for own in first["runs"]} == {Path(options.backbone).name}
    tokens = [own["data"][0]["tokens"] for own in first["intermediates"]]
    assert all(60 <= own < 60 + 40 for own in tokens)
    assert [own["limit"] for own in first["runs"]] == [12, 12, 12]
    # What is set for a method's targets is set neither for their intermediates nor for another method.
    rates = [own["recipe"]["learning_rate"] for own in (*first["runs"], *first["intermediates"])]
    assert rates == [2e-3, 2e-3, 1e-3, 1e-2, 1e-3]
    assert first["command"] == "the command"
    names = RunStore(options.runs).names()
    created = [run.record.created for run in RunStore(options.runs).runs()]
    run_cells(todo, options, "table", "the command")
    assert RunStore(options.runs).names() == names
    assert [run.record.created for run in RunStore(options.runs).runs()] == created
    assert json.loads(options.out.read_text(encoding="utf-8"))["comparison"] == first["comparison"]


def test_command_repeats_what_was_asked() -> None:
    asked = argparse.Namespace(
        backbone="embedded", hub_mirror=Path("x"), limit=5, test_limit=None, seeds=[0, 1], set=[]
    )
    asked.out = Path("somewhere/table.json")
    parser = argparse.ArgumentParser()
    for name, default in (("--seeds", [0]), ("--set", []), ("--over", ["ud_deprel"])):
        parser.add_argument(name, default=default)
    assert command_of(parser, asked, "compositions", ("limit", "test_limit"), ("seeds", "set")) == (
        "python -m benchmarks.compositions --backbone embedded --hub-mirror hub --limit 5 --seeds 0 1 "
        "--out benchmarks/results/table.json"
    )
    asked.over = []
    assert " --over --out" in command_of(parser, asked, "compositions", (), ("set", "over")), (
        "without, there would be one"
    )
    asked.over = ["/home/me/my.yaml", "tasks/other.yaml"]
    assert " --over my.yaml tasks/other.yaml " in command_of(parser, asked, "compositions", (), ("over",))


def test_a_search_that_stands_in_the_file_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(tmp_path, monkeypatch)
    task = english_task(tmp_path / "t", "target")
    out = tmp_path / "tuning.json"
    asked = ["--backbone", str(place.backbone.folder), "--runs", str(tmp_path / "runs"), "--tasks", str(task.path)]
    asked += ["--methods", "bottleneck", "--trials", "2", "--limit", "12", "--out", str(out)]
    tuning.main(asked)
    (search,) = json.loads(out.read_text(encoding="utf-8"))["searches"]
    best = max(search["trials"], key=lambda trial: trial["development"])
    assert search["recipe"]["learning_rate"] == float(best["settings"]["learning_rate"])
    assert [float(trial["settings"]["learning_rate"]) for trial in search["trials"]] == [1.3e-3, 4e-2]
    before = out.stat().st_mtime_ns
    tuning.main(asked)
    assert out.stat().st_mtime_ns == before
