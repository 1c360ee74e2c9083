"""The benchmark of scores by execution, on a tiny backbone: two times the same execution in two stores."""

import itertools
import json
from pathlib import Path

import pytest
from support.training import english_task, make_workspace

from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.runs.store import RunStore
from benchmarks import same_scores


@pytest.mark.slow
def test_share_of_deals_is_that_of_all_orders() -> None:
    """Against every order within every seed: three groups of two seeds, two of three, and means that agree exactly."""
    for groups in ([[3.0, 2.0], [0.5, 0.9], [2.1, 2.6]], [[1.0, 5.0, 2.0], [4.0, 5.5, 2.5]]):
        seen = same_scores.spread([sum(group) for group in groups])
        orders = [itertools.permutations(column) for column in zip(*groups, strict=True)]
        dealt = [
            same_scores.spread([sum(means) for means in zip(*columns, strict=True)])
            for columns in itertools.product(*orders)
        ]
        exact = sum(spread >= seen - 1e-9 for spread in dealt) / len(dealt)
        assert 0 < exact < 1
        assert same_scores.share_of_deals(groups) == pytest.approx(exact, abs=0.01)
    assert same_scores.share_of_deals([[1.0, 2.0], [1.5, 1.5]]) == 1.0


def test_means_by_execution_seed_and_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    task = english_task(tmp_path / "t", "tags")
    monkeypatch.setitem(same_scores.WAYS, "captured", same_scores.WAYS["eager"])
    asked = ["--backbone", str(workspace.backbone.folder), "--device", "cpu", "--targets", str(task.path)]
    asked += ["--executions", "eager", "captured", "--test-limit", "5", "--set", "epochs=1"]
    same_scores.main([*asked, "--runs", str(tmp_path / "same"), "--out", str(tmp_path / "same.json")])
    (target,) = json.loads((tmp_path / "same.json").read_text(encoding="utf-8"))["targets"].values()
    assert target["means"]["eager"] == target["means"]["captured"]
    assert list(target["means"]["eager"]) == ["float32", "fp16", "bf16"]
    assert (target["between_executions"], target["share_of_deals"]) == (0.0, 1.0)
    eager = target["means"]["eager"]["float32"]
    assert target["between_seeds"]["eager"] == max(eager) - min(eager)
    store = RunStore(tmp_path / "same" / "eager")
    scored = {
        run.record.seed: evaluate(run, limit=5, runs=store, device="cpu").mean["accuracy"] for run in store.runs()
    }
    assert eager == [scored[0], scored[1]]
    for precision, moved in target["most_by_precision"].items():
        pairs = zip(eager, target["means"]["eager"][precision], strict=True)
        assert moved == max(abs(one - other) for one, other in pairs)

    (name, *_) = store.names()
    seed = store.find(name).record.seed
    again = [*asked[2:4], "--of", name, "--runs", str(store.folder), "--test-limit", "5", "--precisions", "fp16"]
    same_scores.main([*again, "--out", str(tmp_path / "of.json")])
    runs = json.loads((tmp_path / "of.json").read_text(encoding="utf-8"))["runs"]
    fp16 = target["means"]["eager"]["fp16"][seed]
    assert runs["means"] == {name: {"float32": scored[seed], "fp16": fp16}}
    assert runs["most_by_precision"] == {"fp16": abs(fp16 - scored[seed])}


def test_what_graphs_record_is_compared_in_their_precision_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    task = english_task(tmp_path / "t", "tags")
    asked = [
        "--backbone",
        str(workspace.backbone.folder),
        "--device",
        "cpu",
        "--targets",
        str(task.path),
        "--seeds",
        "0",
    ]
    asked += ["--executions", "unrecorded", "unrecorded_bf16", "--test-limit", "5", "--set", "epochs=1"]
    asked += ["--precisions", "float32", "--runs", str(tmp_path / "same"), "--out", str(tmp_path / "same.json")]
    same_scores.main(asked)
    runs = [RunStore(tmp_path / "same" / name).runs() for name in ("unrecorded", "unrecorded_bf16")]
    (plain,), (half,) = ([run.record for run in execution] for execution in runs)
    assert (plain.precision, half.precision) == ("float32", "bf16")
    (one,), (other,) = plain.history, half.history
    assert one.loss != other.loss
    assert one.loss == pytest.approx(other.loss, rel=0.02)
