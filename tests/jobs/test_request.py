"""One value for a request: each field decides the run, whoever asks makes the same one, and what lies underneath is
resolved, trained and told once."""

import inspect
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from support.cli import command
from support.studies import make_study_workspace, plan_of
from support.tiny import tiny_backbone_folder
from support.training import TEXT_IN_ONE_FILE, Workspace, write_task

import adapter_stilts
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs import resolve as resolving
from adapter_stilts.jobs.job import Intermediate, Job
from adapter_stilts.jobs.request import Request
from adapter_stilts.jobs.resolve import resolve
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.runs.store import Run, keep_of
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.training import api
from adapter_stilts.training.environment import Environment

EPOCH = {"epochs": "1"}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return make_study_workspace(tmp_path, monkeypatch)


def task_of(workspace: Workspace, name: str = "tags") -> Task:
    return find_task(workspace.folder / name / f"{name}.yaml")


def test_each_field_changes_the_name(workspace: Workspace) -> None:
    """Of a request over an intermediate; a control and a number of pieces are of one that stands on none."""
    languages = "{en: {train: en-train.conllu, validation: en-dev.conllu}, de: {train: en-dev.conllu}}"
    task, other = write_task(workspace.folder / "tags", "tags", languages=languages), task_of(workspace, "other")
    alone = workspace.request(task)
    base = workspace.request(task, [workspace.request(other)], compose="stack")
    assert isinstance(base.over[0], Request)
    changed = {
        "tasks": replace(base, tasks=(task, task_of(workspace, "third"))),
        "backbone": replace(
            base, backbone=load_backbone(str(tiny_backbone_folder(workspace.folder / "small", vocabulary=480)))
        ),
        "precision": replace(base, precision="bf16"),
        "over": replace(base, over=(replace(base.over[0], seed=1),)),
        "compose": replace(base, compose="continue"),
        "method": replace(base, method="houlsby"),
        "seed": replace(base, seed=1),
        "limit": replace(base, limit=5),
        "development_limit": replace(base, development_limit=5),
        "match_tokens": replace(alone, match_tokens=40),
        "languages": replace(base, languages=("en", "de")),
        "control": replace(alone, control="shuffled"),
        "settings": replace(base, settings=EPOCH),
    }
    assert changed.keys() == {field.name for field in fields(Request)}
    names = {resolve(request, None).name for request in (base, alone, *changed.values())}
    assert len(names) == len(changed) + 2
    assert all(request not in (base, alone) for request in changed.values())


def test_a_request_is_known_by_its_value(workspace: Workspace) -> None:
    one = workspace.request(
        task_of(workspace), [workspace.request(task_of(workspace, "other"))], settings={"epochs": "1", "clip": "2"}
    )
    other = workspace.request(
        task_of(workspace), [workspace.request(task_of(workspace, "other"))], settings={"clip": "2", "epochs": "1"}
    )
    assert (one == other, hash(one) == hash(other)) == (True, True)
    houlsby = workspace.request(task_of(workspace), method="houlsby", settings=EPOCH)
    assert houlsby.normalised() == replace(houlsby, method="bottleneck", settings={"adapter": "houlsby", **EPOCH})
    assert resolve(houlsby, None).name == resolve(houlsby.normalised(), None).name


def test_languages_are_a_set_in_the_order_of_the_task(workspace: Workspace) -> None:
    """However they are written, they are one run with one record."""
    source = "{train: en-train.conllu, validation: en-dev.conllu}"
    task = write_task(workspace.folder / "tags", "tags", languages=f"{{en: {source}, de: {source}, es: {source}}}")
    for written in (("de", "es"), ("es", "de"), ("es", "de", "es")):
        job = workspace.job(task, languages=written)
        assert (job.languages, job.variant) == (("de", "es"), "in de+es")
    with pytest.raises(UsageError, match=r"^--languages: found 'xx', accepted for tags: en, de, es$"):
        workspace.job(task, languages=("xx", "de"))
    plain, english = workspace.job(task), workspace.job(task, languages=("en", "en"))
    assert (english.name, english.variant, english.languages) == (plain.name, plain.variant, ("en",))


def test_an_architecture_by_name_is_not_set_to_another(workspace: Workspace) -> None:
    task = task_of(workspace)
    with pytest.raises(UsageError, match=r"^--set adapter: found parallel with --method houlsby, accepted: houlsby$"):
        workspace.job(task, method="houlsby", settings={"adapter": "parallel"})
    same = workspace.job(task, method="houlsby", settings={"adapter": "houlsby"})
    assert same.name == workspace.job(task, method="houlsby").name


def test_a_setting_that_changes_nothing_is_no_variant(workspace: Workspace) -> None:
    task = task_of(workspace)
    plain, same, other = (
        workspace.job(task, method="lora", settings=settings) for settings in ({}, {"rank": "16"}, {"rank": "8"})
    )
    assert plain.name == same.name != other.name
    assert [job.variant for job in (plain, same, other)] == ["", "", "rank=8"]
    assert workspace.job(task, method="houlsby").variant == "adapter=houlsby"


STUDY = """\
targets: [tags/tags.yaml]
intermediates: [other/other.yaml, third/third.yaml]
methods: [houlsby]
compositions: [fuse]
controls: [shuffled]
seeds: [3]
limit: 7
match_tokens: 60
overrides: [{target: tags/tags.yaml, set: {epochs: 1}}]
"""


def test_command_line_python_and_study_make_the_same_request(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Request] = []
    run_request = api.run_request

    def noted(request: Request, environment: Environment) -> Run:
        seen.append(request)
        return run_request(request, environment)

    monkeypatch.setattr(api, "run_request", noted)
    over = [f"{task_of(workspace, name).path}@shuffled" for name in ("other", "third")]
    options = {"method": "houlsby", "compose": "fuse", "seed": 3, "limit": 7, "match_tokens": 60}
    run = workspace.train(task_of(workspace), over=over, settings={"epochs": 1}, **options)
    typed = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    typed += [part for intermediate in over for part in ("--over", intermediate)]
    folders = ["--backbone", workspace.folder / "tiny", "--runs", workspace.store.folder, "--device", "cpu"]
    assert command("train", task_of(workspace).path, *typed, "--set", "epochs=1", *folders).exit_code == 0
    plan = plan_of(workspace, STUDY)
    (target,) = [node for node in plan.nodes.values() if node.cells]
    assert seen == [target.request] * 2
    assert target.name == run.name
    below = target.request.over[0]
    assert isinstance(below, Request)
    assert (below.control, below.match_tokens, below.limit, below.seed) == ("shuffled", 60, None, 3)


# --- what lies underneath ---------------------------------------------------------------------------------------------


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of what is resolved, in order."""
    seen: list[str] = []
    original = resolving.resolve

    def noted(request: Request, *arguments: Any, **options: Any) -> Any:
        seen.append("+".join(task.name for task in request.tasks))
        return original(request, *arguments, **options)

    monkeypatch.setattr(resolving, "resolve", noted)
    monkeypatch.setattr(api, "resolve", noted)
    return seen


def lines_about(error: str, name: str) -> list[str]:
    """What is said of the runs of a task, without progress."""
    return [line.split(": ", 1)[1] for line in error.splitlines() if re.match(rf"{name}-\S+: done before", line)]


def test_an_intermediate_is_resolved_trained_and_told_once(
    workspace: Workspace, resolved: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[str] = []
    execute = api.execute

    def noted(job: Job, *arguments: Any) -> Run:
        trained.append(job.title)
        return execute(job, *arguments)

    monkeypatch.setattr(api, "execute", noted)
    over = [str(task_of(workspace, name).path) for name in ("other", "third")]
    first = workspace.train(task_of(workspace), over=over[:1], settings=EPOCH)
    assert (resolved, trained) == (["tags", "other"], ["other", "tags"])
    assert "done before" not in capsys.readouterr().err
    workspace.train(task_of(workspace), over=over, compose="fuse", settings=EPOCH)
    assert trained == ["other", "tags", "third", "tags"]
    below = first.record.over[0].run
    assert lines_about(capsys.readouterr().err, "other") == [f"done before, in {workspace.store.folder / below}"]
    again = workspace.train(task_of(workspace), over=over[:1], settings=EPOCH)
    assert (again.name, len(trained)) == (first.name, 4)
    error = capsys.readouterr().err
    assert (len(lines_about(error, "other")), len(lines_about(error, "tags"))) == (1, 1)


def test_a_target_that_is_done_needs_nothing_underneath(workspace: Workspace) -> None:
    over = [str(task_of(workspace, "other").path)]
    run = workspace.train(task_of(workspace), over=over)
    below = workspace.store.find(run.record.over[0].run)
    keep_of(below, "scores")
    assert workspace.train(task_of(workspace), over=over).name == run.name
    assert not below.has_weights
    (below.folder / "record.json").unlink()
    assert workspace.train(task_of(workspace), over=over).name == run.name
    assert workspace.store.get(below.name) is None


def test_a_head_for_masked_language_modelling_is_trained_and_told_once(
    workspace: Workspace, resolved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace.folder / "text.tsv").write_text("words\n" + "the of and to is dog cats run house seven\n" * 8)
    path = workspace.folder / "text.yaml"
    path.write_text(TEXT_IN_ONE_FILE)
    settings = {**EPOCH, "mlm_share": "0.5", "mlm_task": str(path)}
    announced = "has no head for masked language modelling; it gets one trained on text"
    run = workspace.train(task_of(workspace), settings=settings, development_limit=4)
    assert resolved == ["tags", "text"]
    error = capsys.readouterr().err
    assert (error.count(announced), error.count("done before")) == (1, 0)
    (head,) = [run.record for run in workspace.store.runs() if run.record.task.name == "text"]
    assert (head.method, head.recipe.development_examples) == ("head", 4)
    assert workspace.train(task_of(workspace), settings=settings, development_limit=4).name == run.name
    error = capsys.readouterr().err
    assert (error.count(announced), len(lines_about(error, "text")), len(lines_about(error, "tags"))) == (1, 1, 1)


def test_an_intermediate_is_the_same_before_and_after_it_is_trained(workspace: Workspace) -> None:
    """Of every way in which a run can lie underneath."""
    below = workspace.request(task_of(workspace, "other"))
    for request in (
        below,
        replace(below, method="full"),
        replace(below, method="lora"),
        workspace.request(task_of(workspace, "third"), [below]),
        workspace.request(task_of(workspace, "third"), [below], compose="continue"),
    ):
        job = resolve(request, None)
        over = [intermediate.source for intermediate in job.intermediates]
        options = {"compose": request.compose, "method": request.method}
        run = workspace.train(request.tasks[0], over=[workspace.store.find(source.name) for source in over], **options)
        before, after = Intermediate.of_job(job), Intermediate.of_run(run)
        assert before == after
        with pytest.raises(StiltsError, match=f"^{job.name}: has yet to be trained$"):
            _ = before.run
        assert after.run == run


def test_data_that_change_while_an_intermediate_trains_name_the_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, file = api.execute, workspace.folder / "tags" / "en-train.conllu"

    def edited(job: Job, *arguments: Any) -> Run:
        if job.title == "other":
            file.write_text(file.read_text().replace("\tA\t", "\tB\t"))
        return execute(job, *arguments)

    monkeypatch.setattr(api, "execute", edited)
    before = resolve(workspace.request(task_of(workspace), [workspace.request(task_of(workspace, "other"))]), None)
    run = workspace.train(task_of(workspace), over=[str(task_of(workspace, "other").path)])
    assert run.name != before.name
    assert run.name == workspace.train(task_of(workspace), over=run.record.over[0].run).name


# --- the shape of the code --------------------------------------------------------------------------------------------


def test_no_record_is_made_without_its_checks() -> None:
    package = Path(inspect.getfile(adapter_stilts)).parent
    assert not [path for path in package.rglob("*.py") if "Record.model_construct" in path.read_text(encoding="utf-8")]
