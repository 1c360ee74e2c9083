"""What cannot end well ends at once: one line that names what was found and what is accepted; nothing is trained."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.hostile import alter, truncate
from support.tiny import tiny_backbone_folder
from support.training import (
    ENGLISH,
    Sentence,
    Workspace,
    draw_sentences,
    english_task,
    make_workspace,
    task_of,
    text_task,
    write_conllu,
    write_task,
)
from torch import nn

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.refusals import MODULE_ATTRIBUTES
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Task


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("refusals"), monkeypatch)


@cache
def under(
    workspace: Workspace, name: str = "a", method: str = "bottleneck", *settings: tuple[str, str], **options: Any
) -> Run:
    return workspace.train(
        task_of(workspace, name), method=method, settings={"epochs": "1", **dict(settings)}, **options
    )


def refusal(workspace: Workspace, kind: type[StiltsError] = UsageError, **request: Any) -> str:
    """The one line that refuses the target; the store is as it was."""
    before = workspace.store.names()
    with pytest.raises(kind) as caught:
        workspace.train(task_of(workspace, "t"), **request)
    assert caught.value.exit_code == kind.exit_code
    assert "\n" not in str(caught.value)
    assert workspace.store.names() == before
    return str(caught.value)


def paths(workspace: Workspace, names: str) -> list[str]:
    return [str(task_of(workspace, name).path) for name in names]


@pytest.mark.parametrize(
    ("names", "request_", "complaint"),
    [
        ("a", {"compose": "fuse"}, "--compose fuse: found 1 with --over, accepted 2 intermediates or more; "),
        ("ab", {"compose": "fuse", "method": "lora"}, "--compose fuse with --method lora: AdapterFusion attends over "),
        ("ab", {"compose": "fuse", "method": "dora"}, "--compose fuse with --method dora: AdapterFusion attends over "),
        ("ab", {"compose": "fuse", "method": "ia3"}, "--compose fuse with --method ia3: AdapterFusion attends over "),
        ("ab", {"compose": "merge", "method": "dora"}, "--compose merge with --method dora: peft merges low-rank "),
        ("ab", {"compose": "fuse", "method": "parallel"}, "--compose fuse: found adapter=parallel, accepted pfeiffer"),
        ("a", {"compose": "stack", "method": "full"}, "--compose stack with --method full: full fine-tuning has no "),
        ("a", {"method": "head"}, "--over: found 1 with --method head, accepted: none over no intermediate"),
        ("ab", {"compose": "merge", "settings": {"merge_weights": "1"}}, "--set merge_weights: found 1, accepted one "),
        (
            "ab",
            {"compose": "merge", "settings": {"merge_weights": "1,-1"}},
            "--set merge_weights: found 1,-1, accepted ",
        ),
        ("ab", {"compose": "merge", "settings": {"merge_weights": "0,0"}}, "--set merge_weights: found 0,0, accepted "),
        ("ab", {"compose": "merge", "settings": {"merge": "ties"}}, "--set merge: found ties, accepted with --method "),
        ("a", {"settings": {"layers": "0-5"}}, "--set layers: found 0-5, accepted layers 0 to 1 of "),
        ("a", {"settings": {"layers": "6-4"}}, "--set layers: found '6-4', accepted "),
        (
            "a",
            {"method": "lora", "settings": {"rank": "0"}},
            "--set rank: found 0, accepted greater than or equal to 1",
        ),
        ("a", {"settings": {"reduction": "0"}}, "--set reduction: found 0, accepted greater than or equal to 0.01"),
        (
            "a",
            {"settings": {"rank": "4"}},
            "--set rank: decides nothing under bottleneck stack, accepted with lora, dora",
        ),
        (
            "a",
            {"settings": {"fusion": "full"}},
            "--set fusion: decides nothing under bottleneck stack, accepted with fuse",
        ),
        (
            "a",
            {"settings": {"merge_then": "stack"}},
            "--set merge_then: decides nothing under bottleneck stack, accepted ",
        ),
        (
            "a",
            {"method": "lora", "settings": {"reduction": "4"}},
            "--set reduction: decides nothing under lora stack, ",
        ),
        (
            "a",
            {"method": "ia3", "settings": {"rank": "4"}},
            "--set rank: decides nothing under ia3 stack, accepted with ",
        ),
        ("a", {"method": "full", "settings": {"layers": "1"}}, "--set layers: decides nothing under full continue, "),
        ("a", {"settings": {"epoch": "3"}}, "--set epoch: found an unknown key (did you mean 'epochs'?), accepted "),
        ("a", {"languages": ["sw"]}, "--languages: found 'sw', accepted for t: en"),
        ("a", {"method": "lora", "settings": {"targets": "query,nosuch"}}, "--set targets: found 'nosuch', accepted "),
        ("a", {"method": "ia3", "settings": {"targets": "dense"}}, "--set targets: found 'dense', accepted names of "),
        (
            "a",
            {"method": "compacter", "settings": {"reduction": "16"}},
            "--set reduction: found 16 with adapter=compacter, a bottleneck of 2 in 32, accepted one that 4 divides",
        ),
    ],
)
def test_before_an_intermediate_is_trained(
    workspace: Workspace, names: str, request_: dict[str, Any], complaint: str
) -> None:
    """The intermediates are given as tasks: a request that cannot end well must not train them first."""
    assert refusal(workspace, over=paths(workspace, names), **request_).startswith(complaint)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"limit": 0}, "--limit: found 0, accepted: at least 1 example"),
        ({"match_tokens": 0}, "--match-tokens: found 0, accepted: at least 1 piece"),
        ({"match_tokens": 9, "limit": 9}, "--match-tokens and --limit: found both for one run, accepted one of them"),
        ({"control": "randm"}, "--control: found 'randm', accepted: random, shuffled"),
        ({"over": ["nothing_like_it"]}, "--over nothing_like_it: neither a run nor a task ("),
    ],
)
def test_amounts_controls_and_names(workspace: Workspace, request_: dict[str, Any], complaint: str) -> None:
    assert refusal(workspace, **request_).startswith(complaint)


def test_pieces_to_match_over_finished_runs_alone(workspace: Workspace) -> None:
    assert refusal(workspace, over=[under(workspace), under(workspace, "b").name], match_tokens=7) == (
        "--match-tokens: found 7 over finished runs alone, accepted with a task in --over, which is then trained on so "
        "many pieces"
    )


def test_control_of_an_intermediate(workspace: Workspace) -> None:
    path = paths(workspace, "a")[0]
    assert refusal(workspace, over=[f"{path}@randm"]) == "--control: found 'randm', accepted: random, shuffled"
    assert refusal(workspace, over=[under(workspace)], control="shuffled") == (
        "--control with --over: a control is an intermediate; give it as --over TASK@random or TASK@shuffled"
    )


def test_intermediate_of_another_method(workspace: Workspace) -> None:
    full, lora = under(workspace, method="full"), under(workspace, method="lora")
    said = refusal(workspace, over=[full])
    assert said == f"--over {full.name}: a full run, accepted under --method bottleneck: bottleneck"
    said = refusal(workspace, over=[lora], method="dora", compose="continue")
    assert said == f"--over {lora.name}: a lora run, accepted under --method dora: dora"


@pytest.mark.parametrize("sizes", [{"hidden": 48}, {"vocabulary": 480}], ids=["hidden size", "weights"])
def test_intermediate_of_another_backbone(workspace: Workspace, sizes: dict[str, int]) -> None:
    folder = tiny_backbone_folder(workspace.folder / "_".join(map(str, sizes.items())), **sizes)
    other, run = load_backbone(str(folder)), under(workspace)
    hidden = sizes.get("hidden", 32)
    with pytest.raises(UsageError, match=rf"trained on .*tiny \(2 x 32, \w+\), found .*\(2 x {hidden}, \w+\)$"):
        workspace.job(task_of(workspace, "t"), [run], backbone=other)


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_unequal_shapes(workspace: Workspace, method: str) -> None:
    """To average or to continue, not to stack or to fuse."""
    field, value, old = {"bottleneck": ("reduction", "4", "8.0"), "lora": ("rank", "4", "16")}[method]
    whole, small = under(workspace, "a", method), under(workspace, "b", method, (field, value))
    shown = f"{float(value) if method == 'bottleneck' else value}"
    said = refusal(workspace, over=[whole, small], method=method, compose="merge")
    assert said == f"--over {small.name}: {field} {shown}, accepted {old}, as of {whole.name}, to merge"
    said = refusal(workspace, over=[small], method=method, compose="continue")
    assert said == f"--set {field}: found {old}, accepted {shown}, the shape of {small.name}, to continue"
    compose = "fuse" if method == "bottleneck" else "stack"
    assert workspace.job(task_of(workspace, "t"), [whole, small], method=method, compose=compose).composition == compose


def test_composed_runs_underneath(workspace: Workspace) -> None:
    first, second = under(workspace), under(workspace, "b")
    fused = workspace.train(task_of(workspace, "b"), over=[first, second], compose="fuse")
    assert refusal(workspace, over=[fused]) == (
        f"--over {fused.name}: composed by fuse, accepted underneath: none, stack, continue, merge"
    )
    baked = workspace.train(
        task_of(workspace, "b"), over=[under(workspace, method="lora")], compose="bake", method="lora"
    )
    assert "composed by bake" in refusal(workspace, over=[baked], method="lora")
    stack = workspace.train(task_of(workspace, "b"), over=[first])
    for over, compose in (([stack], "continue"), ([first, stack], "fuse"), ([stack, second], "merge")):
        assert refusal(workspace, over=over, compose=compose) == (
            f"--over {stack.name}: a stack of 2 adapters, accepted under {compose}: runs of one"
        )
    assert workspace.job(task_of(workspace, "t"), [stack]).arrangement.adapters == ("a", "b", "t")


# --- test sentences that an intermediate has seen ---------------------------------------------------------------------


def leaking_task(workspace: Workspace, name: str, sentences: Sequence[Sentence]) -> Task:
    """A task whose training file has the given sentences under names of its own."""
    folder = workspace.folder / name
    write_conllu(folder / "x.conllu", [[(word, "C") for word, _ in sentence] for sentence in sentences])
    write_conllu(folder / "y.conllu", draw_sentences(ENGLISH, 5, 99))
    return write_task(folder, name, languages="{en: {train: x.conllu, validation: y.conllu}}")


def long_target(workspace: Workspace) -> tuple[Task, list[list[tuple[str, str]]]]:
    task = english_task(workspace.folder / "long", "long")
    test = draw_sentences(ENGLISH, 40, 5, longest=30)
    write_conllu(workspace.folder / "long" / "en-test.conllu", test)
    return task, test


def test_intermediate_that_trained_on_the_targets_test_sentences(workspace: Workspace) -> None:
    """By content: other names of task, file and labels do not hide it; nor does a run between."""
    task, test = long_target(workspace)
    for number, sentences in enumerate((test, [*draw_sentences(ENGLISH, 40, 7, longest=30), *test[:20]])):
        leak = leaking_task(workspace, f"leak{number}", sentences)
        run = workspace.train(leak, settings={"epochs": "1"})
        between = workspace.train(task_of(workspace, "a"), over=[run])
        honest = under(workspace, "b")
        for over in ([run], [between], [honest, run]):
            with pytest.raises(UsageError, match=r"trained on \d+ of the \d+ test sentences of long \(en, ") as caught:
                workspace.train(task, over=over)
            guilty = between if over == [between] else run
            assert str(caught.value).startswith(f"--over {guilty.name}: ")
            assert str(caught.value).endswith(
                "(en, en-test.conllu; by content), accepted an intermediate that never saw them"
            )
        assert not [name for name in workspace.store.names() if name.startswith("long-")]
    clean = leaking_task(workspace, "clean", draw_sentences(ENGLISH, 40, 8, longest=30))
    assert workspace.train(task, over=[str(clean.path)]).record.over[0].task == "clean"


# --- damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [(truncate, r"found \d+ bytes, the manifest says \d+$"), (alter, "altered since"), (Path.unlink, "missing from")],
    ids=["truncated", "altered", "missing"],
)
@pytest.mark.parametrize(
    ("method", "compose"), [("lora", "stack"), ("ia3", "bake"), ("bottleneck", "fuse"), ("compacter", "merge")]
)
def test_damaged_bundle(
    workspace: Workspace, method: str, compose: str, damage: Callable[[Path], None], complaint: str
) -> None:
    """The last of the intermediates is damaged; it is named, and so is the file."""
    runs = [under(workspace, name, method) for name in "ab"]
    folder = workspace.folder / "damaged" / f"{method}-{damage.__name__}"
    shutil.copytree(runs[1].folder, folder)
    hurt = workspace.store.find(str(folder))
    (path,) = (path for path in (hurt.bundle / "b").glob("*adapter*.safetensors"))
    damage(path)
    said = refusal(workspace, StiltsError, over=[runs[0], hurt], method=method, compose=compose)
    assert said.startswith(f"{path}: ")
    assert re.search(complaint, said)


def test_fusing_adapters_that_sit_elsewhere_is_refused(workspace: Workspace) -> None:
    runs = [under(workspace, "a"), under(workspace, "b", "houlsby")]
    complaint = refusal(workspace, over=runs, compose="fuse")
    assert complaint.endswith(": found adapter houlsby, accepted to fuse: pfeiffer, as the target")
    runs = [under(workspace, "a"), under(workspace, "b", "bottleneck", ("layers", "1"))]
    complaint = refusal(workspace, over=runs, compose="fuse")
    assert complaint.endswith(": found layers 1, accepted to fuse: all, as the target")


@pytest.mark.parametrize("name", ["nothing", "merged", "masked_lm", "keys"])
def test_a_name_that_the_model_needs_is_refused(workspace: Workspace, name: str) -> None:
    task = english_task(workspace.folder / name, name)
    with pytest.raises(
        UsageError, match=f"^task {name}: found a name that a model's parts have, accepted another name$"
    ):
        workspace.train(task)


def test_names_that_are_one_or_too_long_together_are_refused(workspace: Workspace) -> None:
    names = ("x.y", "x_y", "l" * 130, "m" * 130)
    tasks = [english_task(workspace.folder / "names" / name, name) for name in names]
    before = workspace.store.names()
    with pytest.raises(UsageError, match=r"^tasks x\.y and x_y: found names that are one in a model, accepted others$"):
        workspace.train(tasks[:2])
    with pytest.raises(UsageError, match=r": found a name of 265 characters in a model, accepted up to 255 \(of sev"):
        workspace.train(tasks[2:])
    assert refusal(workspace, over=[str(task.path) for task in tasks[2:]], compose="fuse") == (
        "--compose fuse: found names of 269 characters together, accepted intermediates whose names have up to 255"
    )
    assert workspace.store.names() == before
    # With .yaml behind it a file may be called so, with .recipes.yaml none.
    assert workspace.train(english_task(workspace.folder / "longest", "n" * 250), settings={"epochs": "1"}).has_weights


def test_shuffled_labels_of_a_task_without_labels_are_refused(workspace: Workspace) -> None:
    said = "--control: found shuffled for text, of kind masked_lm, which has no labels to shuffle; accepted: random"
    path = text_task(workspace.folder / "unlabelled")
    assert refusal(workspace, over=[f"{path}@shuffled"]) == said


def test_an_intermediate_that_does_not_exist_is_refused_before_any_is_trained(workspace: Workspace) -> None:
    other = english_task(workspace.folder / "other", "other")
    assert "neither a run nor a task" in refusal(workspace, over=[str(other.path), "typo"])
    assert "a control is an intermediate" in refusal(workspace, over=[str(other.path)], control="random")
    assert "found both for one run" in refusal(workspace, limit=5, match_tokens=50)


def test_names_of_a_models_parts_are_all_written_down() -> None:
    """A task's name begins with a letter or a digit. Other versions of PyTorch may have others: add them."""
    assert {name for name in dir(nn.ModuleDict()) if not name.startswith("_")} - set(MODULE_ATTRIBUTES.split()) == set()
