"""A study's runs before they run: their names, what is shared, what is done, what it will cost."""

from pathlib import Path

import pytest
from support.studies import SMALL, make_study_workspace, plan_of, write_study
from support.training import Workspace

from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.jobs.remembered import Remembered
from adapter_stilts.runs.store import keep_of
from adapter_stilts.studies.estimate import OVERHEAD_SECONDS, estimate
from adapter_stilts.studies.plan import as_dot, states, study_runs
from adapter_stilts.studies.reading import read_study

GRID = """\
targets: [tags/tags.yaml]
intermediates: [other/other.yaml, third/third.yaml]
methods: [bottleneck, houlsby, lora, full]
compositions: [none, stack, fuse, continue, merge, bake]
controls: [none, shuffled]
layers: [all, '1']
seeds: [0, 1]
limit: 8
development_examples: 4
exclude:
  - {method: [bottleneck, lora], seed: 1}
  - {method: houlsby, composition: [stack, continue, merge]}
overrides:
  - {set: {epochs: 1}}
  - {method: bottleneck, set: {reduction: 4}}
  - {method: full, intermediate: other/other.yaml, set: {learning_rate: 2e-3}}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return make_study_workspace(tmp_path, monkeypatch)


@pytest.mark.slow
def test_planned_names_are_those_that_train_gives(workspace: Workspace) -> None:
    """Every method, composition and control, layers, settings and seeds: one training of each kind is done by `train`,
    from names and options, as a user would."""
    plan = plan_of(workspace, GRID)
    seen: set[tuple[str, ...]] = set()
    for node in plan.nodes.values():
        request = node.request
        kind = (
            request.method,
            node.job.composition,
            request.control or "",
            "layers" if request.settings.get("layers") else "",
        )
        kind = (*kind, request.over[0].control or "" if request.over else "", "cell" if node.cells else "")
        if kind in seen or not all((workspace.store.folder / below).is_dir() for below in node.over):
            continue
        seen.add(kind)
        run = workspace.train(
            request.tasks,
            over=list(node.over),
            compose=request.compose,
            method=request.method,
            seed=request.seed,
            limit=request.limit,
            match_tokens=request.match_tokens,
            development_limit=request.development_limit,
            control=request.control,
            settings=request.settings,
        )
        assert run.name == node.name
    assert len(workspace.store.names()) >= 12


def test_an_intermediate_is_one_run_however_many_stand_on_it(workspace: Workspace) -> None:
    plan = plan_of(workspace, SMALL + "controls: [none, random]\nseeds: [0, 1, 2]\n")
    names = list(plan.nodes)
    assert len(names) == 3 * (4 + 1 + 2 * 2 + 2)
    assert names == list(dict.fromkeys(names))
    for index, node in enumerate(plan.nodes.values()):
        assert all(names.index(name) < index for name in node.over)
    fused = next(node for node in plan.nodes.values() if node.job.composition == "fuse")
    stacked = [node for node in plan.nodes.values() if node.job.composition == "stack" and node.over[0] in fused.over]
    assert sorted(node.over[0] for node in stacked) == sorted(fused.over)
    fixed = plan_of(workspace, SMALL + "seeds: [0, 1, 2]\nintermediate_seeds: 1\n")
    assert sum(not node.cells for node in fixed.nodes.values()) == 2
    dot = as_dot(fixed)
    assert dot.count(" -> ") == 3 * (1 + 1 + 2)
    assert dot.count("seed 1") == 2 + 4


def test_what_cannot_be_trained_is_refused_with_its_cell(workspace: Workspace) -> None:
    with pytest.raises(UsageError) as error:
        plan_of(workspace, SMALL + "layers: ['7']\n")
    message = (
        f"{workspace.folder / 'small.yaml'}: tags bottleneck none, layers 7, seed 0: --set layers: found 7, accepted"
    )
    assert str(error.value).startswith(message)


def test_states_and_runs_of_a_study(workspace: Workspace) -> None:
    """A target is done when it is scored as the study asks; an intermediate is needed while something waits for it."""
    plan = plan_of(workspace, SMALL + "test_limit: 5\n")
    assert set(states(plan).values()) == {"to do"}
    none = next(node for node in plan.nodes.values() if node.job.composition == "none" and node.cells)
    run = workspace.train(none.request.tasks, limit=None)
    assert run.name == none.name
    assert states(plan)[none.name] == "to do"
    evaluate(run, limit=4, runs=workspace.store)
    assert states(plan)[none.name] == "to do"
    evaluate(run, limit=5, runs=workspace.store)
    assert states(plan)[none.name] == "done"
    runs = study_runs(plan.study, workspace.store, backbone=workspace.backbone, device="cpu")
    assert [study_run.cell.composition for study_run in runs] == ["none", "stack", "stack", "fuse"]
    assert [study_run.run is not None for study_run in runs] == [True, False, False, False]
    assert runs[0].name == none.name
    assert runs[0].evaluation is not None
    assert (runs[0].evaluation / "scores.json").is_file()


def test_dropped_weights_are_wanted_only_while_something_waits(workspace: Workspace) -> None:
    plan = plan_of(workspace, SMALL.replace("none, stack, fuse", "none, stack"))
    for node in plan.nodes.values():
        run = workspace.train(node.request.tasks, over=list(node.over))
        assert run.name == node.name
        if node.cells:
            evaluate(run, runs=workspace.store)
    assert set(states(plan).values()) == {"done"}
    for node in plan.nodes.values():
        run = workspace.store.find(node.name)
        keep_of(run, "scores")
    assert set(states(plan).values()) == {"done"}
    more = plan_of(workspace, SMALL)
    now = states(more)
    to_do = {more.nodes[name].job.composition for name, state in now.items() if state == "to do"}
    assert to_do == {"none", "fuse"}
    assert sum(state == "to do" for state in now.values()) == 3
    # The target alone is left to score: nothing stands on its intermediate's weights any more.
    other = next(name for name, node in plan.nodes.items() if not node.cells)
    (workspace.store.folder / other / "record.json").unlink()
    assert states(plan)[other] == "not needed"


def test_estimates_come_from_the_store_else_from_benchmarks(workspace: Workspace) -> None:
    plan = plan_of(workspace, SMALL + "limit: 10\ntest_limit: 5\n")
    first = estimate(plan, list(plan.nodes))
    assert not any(estimated.measured for estimated in first.values())
    assert all(estimated.seconds > OVERHEAD_SECONDS for estimated in first.values())
    node = next(node for node in plan.nodes.values() if not node.cells)
    run = workspace.train(node.request.tasks, limit=10)
    (_, second), *_ = [(name, estimated) for name, estimated in estimate(plan, [node.name]).items()]
    cost, data = run.record.cost, next(source for source in run.record.data if source.split == "train")
    assert second.measured
    expected = cost.seconds - cost.train_seconds + 2 * data.tokens / cost.tokens_per_second
    assert second.seconds == pytest.approx(expected)
    assert second.bytes == cost.bundle_bytes


def test_remembered_calls_once_for_equal_arguments() -> None:
    calls: list[tuple[object, ...]] = []

    def noted(*arguments: object) -> int:
        calls.append(arguments)
        return len(calls)

    known, one, other = Remembered(), object(), object()
    assert [known(noted, argument, {"a": "1"}) for argument in (one, other, one)] == [1, 2, 1]
    assert known(noted, one, {"a": "2"}) == 3
    same = {"a": "1"}
    assert [known(noted, same, by_content=False), known(noted, dict(same), by_content=False)] == [4, 5]
    assert known(noted, same, by_content=False) == 4


def test_reading_a_study_trains_nothing(workspace: Workspace) -> None:
    assert read_study(write_study(workspace)).name == "small"
    assert workspace.store.names() == []
