"""Two studies over one run: equal training data, other test files. Each is scored on its own, and each ends."""

import shutil
from pathlib import Path

import pytest
from support.studies import make_study_workspace
from support.training import ENGLISH, Workspace, draw_sentences, write_conllu

from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.scores import read_scores
from adapter_stilts.studies.plan import Plan, make_plan, runs_of, states
from adapter_stilts.studies.reading import read_study
from adapter_stilts.studies.scheduler import run_plan

STUDY = "targets: [{target}]\nmethods: [head]\ncompositions: [none]\noverrides: [{{set: {{epochs: 1}}}}]\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The task `tags` of the study's workspace, and a copy of its folder with other test sentences."""
    made = make_study_workspace(tmp_path, monkeypatch)
    shutil.copytree(made.folder / "tags", made.folder / "copy")
    write_conllu(made.folder / "copy" / "en-test.conllu", draw_sentences(ENGLISH, 7, 77))
    return made


def plan_of(workspace: Workspace, target: str) -> Plan:
    path = workspace.folder / "study.yaml"
    path.write_text(STUDY.format(target=target), encoding="utf-8")
    return make_plan(read_study(path), workspace.store, backbone=workspace.backbone, device="cpu")


def sentences(plan: Plan) -> float:
    """Test sentences of the only cell's evaluation."""
    (study_run,) = runs_of(plan)
    assert study_run.run is not None
    assert study_run.evaluation is not None
    return read_scores(study_run.evaluation, study_run.run).languages["en"]["n"]


def test_each_study_reads_its_own_test_data(workspace: Workspace) -> None:
    first, second = plan_of(workspace, "tags/tags.yaml"), plan_of(workspace, "copy/tags.yaml")
    assert list(first.nodes) == list(second.nodes)
    (name,) = first.nodes
    for plan in (first, second):
        assert states(plan) == {name: "to do"}
        assert run_plan(plan, 0).done == (name,)
    for target in ("tags/tags.yaml", "copy/tags.yaml"):
        assert run_plan(plan_of(workspace, target), 0).before == (name,)
    assert (sentences(first), sentences(second)) == (10, 7)
    assert len(workspace.store.find(name).record.scores) == 2


def test_a_task_edited_between_two_plans_is_read_again(workspace: Workspace) -> None:
    """In one process: another test file is named in the YAML."""
    assert run_plan(plan_of(workspace, "tags/tags.yaml"), 0).failed == {}
    write_conllu(workspace.folder / "tags" / "newer.conllu", draw_sentences(ENGLISH, 4, 78))
    path = workspace.folder / "tags" / "tags.yaml"
    path.write_text(path.read_text().replace("test: en-test.conllu", "test: newer.conllu"))
    plan = plan_of(workspace, "tags/tags.yaml")
    assert list(states(plan).values()) == ["to do"]
    run_plan(plan, 0)
    assert sentences(plan) == 4


def test_another_metric_is_another_evaluation(workspace: Workspace) -> None:
    run_plan(plan_of(workspace, "tags/tags.yaml"), 0)
    path = workspace.folder / "tags" / "tags.yaml"
    path.write_text(path.read_text().replace("metrics: [accuracy]", "metrics: [accuracy, official_tag_f1]"))
    plan = plan_of(workspace, "tags/tags.yaml")
    assert list(states(plan).values()) == ["to do"]
    run_plan(plan, 0)
    assert list(states(plan_of(workspace, "tags/tags.yaml")).values()) == ["done"]


def test_a_target_that_is_an_intermediate_of_another_yaml_is_scored_on_its_own(workspace: Workspace) -> None:
    """`copy` lies under `other` and is the same run as the target `tags`, which comes later in the list."""
    more = "intermediates: [copy/tags.yaml]\n"
    plan_text = STUDY.replace("[head]", "[bottleneck]").replace("[none]", "[none, stack]")
    path = workspace.folder / "study.yaml"
    path.write_text(plan_text.format(target="other/other.yaml, tags/tags.yaml") + more, encoding="utf-8")
    plan = make_plan(read_study(path), workspace.store, backbone=workspace.backbone, device="cpu")
    run_plan(plan, 0)
    assert set(states(plan).values()) == {"done"}
    (study_run,) = (
        study_run
        for study_run in runs_of(plan)
        if study_run.cell.target.endswith("tags/tags.yaml") and not study_run.cell.over
    )
    assert study_run.name in {name for node in plan.nodes.values() for name in node.over}
    assert study_run.run is not None
    assert study_run.evaluation is not None
    assert read_scores(study_run.evaluation, study_run.run).languages["en"]["n"] == 10


def test_two_targets_that_are_one_run_are_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError) as raised:
        plan_of(workspace, "tags/tags.yaml, copy/tags.yaml")
    message = str(raised.value)
    assert message.startswith(f"{workspace.folder / 'study.yaml'}: targets: found ")
    assert "copy/tags.yaml, which train one run (tags-head-none-s0-" in message
