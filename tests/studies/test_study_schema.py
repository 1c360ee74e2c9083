"""Study YAML: what it says when a file is wrong, and what `include` does."""

from pathlib import Path

import pytest
from support.training import Workspace, english_task, make_workspace

from adapter_stilts.errors import UsageError
from adapter_stilts.studies.reading import find_study, read_study, shipped_studies
from adapter_stilts.tasks.catalog import find_task

HEAD = "targets: [tags.yaml]\nintermediates: [other.yaml, third.yaml]\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    workspace = make_workspace(tmp_path, monkeypatch)
    for shift, name in enumerate(("tags", "other", "third")):
        english_task(tmp_path / name, name, shift=shift)
        (tmp_path / f"{name}.yaml").write_text(
            (tmp_path / name / f"{name}.yaml").read_text().replace("en-", f"{name}/en-")
        )
    return workspace


def complaints(workspace: Workspace, text: str) -> list[str]:
    """The lines, from the file's name on."""
    path = workspace.folder / "study.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_study(path)
    return [line.removeprefix(f"{workspace.folder}/") for line in str(error.value).split("\n")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "target: [tags]\n",
            "study.yaml:1: target: found an unknown key (did you mean 'targets'?), accepted include, ",
        ),
        ("seeds: [0]\n", "study.yaml:1: targets: found nothing, accepted one target task or more"),
        ("targets: [tagz]\n", "study.yaml:1: targets[0]: task 'tagz': found no such task"),
        (f"{HEAD}seeds: [0, 1, 0]\n", "study.yaml:3: seeds[2]: found 0 twice, accepted each value once"),
        (f"{HEAD}seeds: [-1]\n", "study.yaml:3: seeds[0]: found -1, accepted greater than or equal to 0"),
        (f"{HEAD}limit: 0\n", "study.yaml:3: limit: found 0, accepted greater than or equal to 1"),
        (f"{HEAD}limit: '5'\n", "study.yaml:3: limit: found '5', accepted a whole number"),
        (
            f"{HEAD}keep: some\n",
            "study.yaml:3: keep: found 'some' (did you mean 'scores'?), accepted 'scores', 'adapters' or 'all'",
        ),
        (
            f"{HEAD}methods: [lora, qlora]\n",
            "study.yaml:3: methods[1]: found 'qlora' (did you mean 'lora'?), accepted 'bottleneck', 'lora', ",
        ),
        (f"{HEAD}layers: [6-11, x]\n", "study.yaml:3: layers[1]: found 'x', accepted layers counted from 0, such as "),
        (
            f"{HEAD}methods: [full]\ncompositions: [none, stack]\n",
            "study.yaml:4: compositions[1]: found stack, accepted under full: none, continue",
        ),
        (
            f"{HEAD}methods: [full, head]\ncompositions: [continue]\n",
            "study.yaml:3: methods[1]: found head, accepted a method with one of continue",
        ),
        ("targets: [tags.yaml]\n", "study.yaml: compositions[1]: found stack without intermediates, accepted none"),
        (
            f"{HEAD}compositions: [fuse]\ngroups: {{both: [other.yaml, fourth.yaml]}}\n",
            "study.yaml:4: groups.both[1]: found 'fourth.yaml' (did you mean 'other.yaml'?), accepted intermediates: ",
        ),
        (
            f"{HEAD}groups: {{both: [other.yaml, third.yaml]}}\n",
            "study.yaml:3: groups: found groups, accepted groups with a composition of several: fuse, merge, bake",
        ),
        (
            f"{HEAD}controls: [none, random]\ncompositions: [none]\n",
            "study.yaml:3: controls: found none, random, accepted none (there is no intermediate to change)",
        ),
        (
            f"{HEAD}exclude:\n- {{method: lora}}\n",
            "study.yaml:4: exclude[0].method: found 'lora', accepted of this study: bottleneck",
        ),
        (
            f"{HEAD}exclude:\n- {{metod: lora}}\n",
            "study.yaml:4: exclude[0].metod: found an unknown key (did you mean 'method'?)",
        ),
        (
            f"{HEAD}exclude:\n- {{composition: none, intermediate: other.yaml}}\n",
            "study.yaml:4: exclude[0]: found an exclusion that no cell agrees with, accepted one that leaves out cells",
        ),
        (f"{HEAD}exclude: [{{method: bottleneck}}]\n", "study.yaml:3: exclude: found exclusions of every cell"),
        (
            f"{HEAD}overrides:\n- {{set: {{learning_rat: 1}}}}\n",
            "study.yaml:4: overrides[0].set.learning_rat: found an unknown key (did you mean 'learning_rate'?)",
        ),
        (
            f"{HEAD}overrides:\n- {{set: {{learning_rate: -1}}}}\n",
            "study.yaml:4: overrides[0].set.learning_rate: found -1, accepted greater than 0",
        ),
        (
            f"{HEAD}overrides:\n- {{set: {{rank: 4}}}}\n",
            "study.yaml:4: overrides[0]: found settings that no run of the study uses, accepted ones that decide ",
        ),
        (f"{HEAD}test_languages: [en, xx]\n", "study.yaml:3: test_languages[1]: found 'xx', accepted of tags: en"),
        ("include: base.yaml\n", "study.yaml:1: include[0]: found no file "),
        ("include: study.yaml\n", "study.yaml:1: include[0]: found study.yaml, which includes this file, accepted "),
        ("targets: [tags.yaml]\ntargets: []\n", "study.yaml:2: targets: found twice (also line 1), accepted once"),
    ],
)
def test_complaints(workspace: Workspace, text: str, message: str) -> None:
    lines = complaints(workspace, text)
    if message.startswith("study.yaml: "):  # a key that is not in the file: its place is the file's
        lines = [line.replace("study.yaml:1: ", "study.yaml: ") for line in lines]
    assert any(line.startswith(message) for line in lines), lines
    assert len(lines) <= 2


def test_include_fills_what_is_not_given_and_its_mistakes_are_named_there(workspace: Workspace) -> None:
    """Own keys replace included ones; of two files that are included, the later."""
    (workspace.folder / "sub").mkdir()
    (workspace.folder / "sub" / "base.yaml").write_text("targets: [../tags.yaml]\nseeds: [5]\nlimit: 7\n")
    (workspace.folder / "more.yaml").write_text("intermediates: [other.yaml]\nseeds: [6, 7]\nkeep: all\n")
    (workspace.folder / "study.yaml").write_text("include: [sub/base.yaml, more.yaml]\nkeep: scores\n")
    study = read_study(workspace.folder / "study.yaml")
    assert (study.name, study.seeds, study.limit, study.keep) == ("study", (6, 7), 7, "scores")
    assert [Path(path).name for path in (*study.targets, *study.intermediates)] == ["tags.yaml", "other.yaml"]
    (workspace.folder / "more.yaml").write_text("intermediates: [other.yaml]\nseeds: [6, 6]\n")
    with pytest.raises(UsageError, match=r"more\.yaml:2: seeds\[1\]: found 6 twice"):
        read_study(workspace.folder / "study.yaml")
    (workspace.folder / "more.yaml").write_text("limits: 5\n")
    with pytest.raises(UsageError, match=r"more\.yaml:1: limits: found an unknown key \(did you mean 'limit'\?\)"):
        read_study(workspace.folder / "study.yaml")


def test_unknown_study_names_the_shipped_ones() -> None:
    with pytest.raises(
        UsageError,
        match=r"study 'quik': found no such study \(did you mean 'quick'\?\), accepted compositions, .* quick, ",
    ):
        find_study("quik")


@pytest.mark.parametrize("path", shipped_studies(), ids=lambda path: path.stem)
def test_shipped_studies_are_sound(path: Path) -> None:
    study = find_study(path.stem)
    assert study.path == path
    assert study.question


def test_syntax_vs_semantics_crosses_knowledge_with_granularity() -> None:
    """Two intermediates or more in each of the four cells, all controls, full STILTs beside, three seeds."""
    study = find_study("syntax_vs_semantics")
    cells: dict[tuple[str, str], int] = {}
    for name in study.intermediates:
        task = find_task(name)
        cells[task.knowledge, task.granularity] = cells.get((task.knowledge, task.granularity), 0) + 1
    assert cells == {(k, g): 2 for k in ("syntactic", "semantic") for g in ("token", "sentence")}
    assert set(study.compositions) == {"none", "stack", "fuse", "continue"}
    assert set(study.controls) == {"none", "random", "shuffled"}
    assert study.methods == ("bottleneck", "full")
    assert len(study.seeds) == 3
    small = find_study("syntax_vs_semantics_small")
    assert (small.limit, small.test_limit, small.intermediates) == (600, 50, study.intermediates)


def test_all_that_is_wrong_in_a_study_is_said_at_once(workspace: Workspace) -> None:
    (workspace.folder / "bad.yaml").write_text(
        (workspace.folder / "tags.yaml").read_text().replace("[A, B, C]", "[A, A]")
    )
    text = (
        "targets: [tags.yaml, bad.yaml]\nintermediates: [other.yaml, thirt.yaml]\nbackbone: embeded\nseeds: [0, 0]\n"
        "overrides:\n- {intermediate: oter.yaml, set: {epoch: 2, rank: x}}\n- {target: other.yaml, set: {epochs: 2}}\n"
    )
    lines = complaints(workspace, text)
    assert [line.split(", accepted")[0] for line in lines] == [
        f"study.yaml:1: targets[1]: {workspace.folder}/bad.yaml:12: labels: found 'A' twice",
        "study.yaml:2: intermediates[1]: thirt.yaml: found no such file",
        "study.yaml:3: backbone: found 'embeded' (did you mean 'embedded'?)",
        "study.yaml:4: seeds[1]: found 0 twice",
        "study.yaml:6: overrides[0].intermediate: found 'oter.yaml' (did you mean 'other.yaml'?)",
        "study.yaml:6: overrides[0].set.epoch: found an unknown key (did you mean 'epochs'?)",
        "study.yaml:6: overrides[0].set.rank: found 'x'",
        f"study.yaml:7: overrides[1].target: found '{workspace.folder}/other.yaml'",
    ]


def test_paths_of_a_study_are_relative_to_it_or_to_home(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those with + between."""
    monkeypatch.setenv("HOME", str(workspace.folder))
    monkeypatch.chdir("/")
    (workspace.folder / "sub").mkdir()
    (workspace.folder / "sub" / "base.yaml").write_text(
        "targets: [~/tags.yaml]\nintermediates: [../other.yaml+~/third.yaml]\nbackbone: ~/tiny\n"
    )
    (workspace.folder / "study.yaml").write_text("include: ~/sub/base.yaml\n")
    study = find_study("~/study.yaml")
    assert study.targets == (f"{workspace.folder}/tags.yaml",)
    assert study.intermediates == (f"{workspace.folder}/other.yaml+{workspace.folder}/third.yaml",)
