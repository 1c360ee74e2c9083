"""`quickstart` on a tiny backbone: what it plans, trains, shows and proposes; which study serves for which tasks."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.cli import failed, make_cli_workspace, on_tiny, succeeded, yaml_of
from support.training import Workspace

import adapter_stilts
from adapter_stilts.studies.reading import find_study
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split

# Its tests build on one run of the command.
pytestmark = pytest.mark.slow

# `adapter_stilts.cli.quickstart` is the command of that name.
quickstart = importlib.import_module("adapter_stilts.cli.quickstart")
PACKAGE = Path(adapter_stilts.__file__).parent
LANGUAGES = ["ar", "de", "en", "es", "fi", "fr", "hi", "ja", "ko", "ru", "sw", "th", "tr", "zh"]
# The shipped study, on fewer sentences.
SMALL = """\
include: {shipped}
limit: 8
test_limit: 3
overrides:
  - {{set: {{epochs: 1}}}}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        yield make_cli_workspace(tmp_path_factory.mktemp("workspace"), patch)


@pytest.fixture(autouse=True)
def small(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy is smaller, and nothing outside the workspace is written."""
    shipped = find_study("quickstart").path
    path = workspace.folder / "quickstart.yaml"
    path.write_text(SMALL.format(shipped=shipped), encoding="utf-8")
    monkeypatch.setattr(quickstart, "EMBEDDED", str(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(workspace.folder)


@pytest.fixture(scope="module")
def printed(workspace: Workspace) -> list[str]:
    """What the first run printed: filled by the first test."""
    return []


def records(workspace: Workspace) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in workspace.store.folder.glob("*/record.json")}


def majority(code: str, sentences: list[int]) -> float:
    gold = load_split(find_task("embedded_udpos"), code, "test", None).columns["labels"]
    counts = Counter(label for sentence in sentences for label in gold[sentence])
    return 100 * max(counts.values()) / sum(counts.values())


def test_the_whole_way(workspace: Workspace, printed: list[str]) -> None:
    output = succeeded("quickstart", *on_tiny(workspace))
    printed.append(output)
    lines = output.splitlines()
    order = [
        "11 runs for 7 cells; 0 done, 11 to do",
        "about ",
        "embedded_udpos: accuracy, zero-shot",
        "report: ",
        "time: ",
    ]
    line_numbers = [next(number for number, line in enumerate(lines) if line.startswith(start)) for start in order]
    assert line_numbers == sorted(line_numbers)
    assert "report: reports/quickstart/index.html" in lines
    assert re.search(r"^time: \d+ min \d+ s; peak memory: \d\.\d GiB$", output, re.MULTILINE)
    stored = records(workspace)
    assert Counter((record["method"], record["composition"], record["task"]["name"]) for record in stored.values()) == {
        ("bottleneck", "none", "embedded_deprel"): 1,
        ("bottleneck", "none", "embedded_semtag"): 1,
        ("bottleneck", "none", "embedded_udpos"): 1,
        ("bottleneck", "stack", "embedded_udpos"): 2,
        ("bottleneck", "fuse", "embedded_udpos"): 1,
        ("full", "none", "embedded_deprel"): 1,
        ("full", "none", "embedded_semtag"): 1,
        ("full", "none", "embedded_udpos"): 1,
        ("full", "continue", "embedded_udpos"): 2,
    }


def test_scores_deltas_and_majority_are_those_of_the_files(workspace: Workspace, printed: list[str]) -> None:
    import pyarrow.parquet as pq

    runs = {(record["method"], record["composition"], *(below["task"] for below in record["over"])): name
            for name, record in records(workspace).items() if record["task"]["name"] == "embedded_udpos"}  # fmt: skip
    rows = [
        ("bottleneck", "none"),
        ("bottleneck", "stack", "embedded_deprel"),
        ("bottleneck", "stack", "embedded_semtag"),
        ("bottleneck", "fuse", "embedded_deprel", "embedded_semtag"),
        ("full", "none"),
        ("full", "continue", "embedded_deprel"),
        ("full", "continue", "embedded_semtag"),
    ]
    folders = [next((workspace.store.folder / runs[row] / "evaluations").iterdir()) for row in rows]
    scores = [json.loads((folder / "scores.json").read_text())["languages"] for folder in folders]
    read = pq.read_table(folders[0] / "predictions.parquet").to_pylist()
    table = printed[0].partition("embedded_udpos: accuracy by language")[2].splitlines()[2:]
    shown = {line.split()[0]: [float(word) for word in line.split()[3:]] for line in table[: len(LANGUAGES)]}
    assert list(shown) == LANGUAGES
    for code, numbers in shown.items():
        scores_of_language = [row[code]["accuracy"] for row in scores]
        expected = [majority(code, [row["example"] for row in read if row["language"] == code]), scores_of_language[0]]
        for column, value in enumerate(scores_of_language[1:], 1):
            expected += [value] if column == 4 else [value, value - scores_of_language[0 if column < 4 else 4]]
        assert numbers == pytest.approx(expected, abs=0.051)


def test_a_second_run_finds_all_done(workspace: Workspace, printed: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.store.folder.glob("*/record.json")}
    output = succeeded("quickstart", *on_tiny(workspace))
    assert "11 runs for 7 cells; 11 done, 0 to do" in output
    assert {path: path.stat().st_mtime_ns for path in workspace.store.folder.glob("*/record.json")} == before

    def comparison(text: str) -> str:
        return text[text.index("embedded_udpos: accuracy, zero-shot") : text.index("time: ")]

    assert comparison(output) == comparison(printed[0])


def test_the_next_commands_work(workspace: Workspace, printed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [line.strip() for line in printed[0].partition("try next:\n")[2].splitlines()]
    assert len(commands) == 3
    text, predict = commands[0].split(" && ")
    subprocess.run(text, shell=True, check=True)
    tagged = succeeded(*shlex.split(predict)[1:])
    assert [line.split("\t")[0] for line in tagged.splitlines()] == ["Mbwa", "wetu", "analala", "ndani", "."]
    assert {line.split("\t")[1] for line in tagged.splitlines()} <= set(find_task("embedded_udpos").labels)

    # As it is found from here: by its name on the PATH, else by where it lies.
    assert commands[1] == f"{shlex.split(predict)[0]} compare"
    compared = succeeded("compare")
    assert "embedded_udpos: by family without en, scores and differences" in compared
    assert "without intervals: three shared seeds are needed" in compared
    assert not re.search(r"[-+]\d+\.\d \[", compared + printed[0])
    narrow = succeeded("compare", "--sentence-intervals")
    assert "with 95% intervals over test sentences alone" in narrow
    assert re.search(r"[-+]\d+\.\d \[[-+]\d+\.\d, [-+]\d+\.\d\]", narrow)

    arguments = shlex.split(commands[2])[1:]
    assert arguments[:3] == ["quickstart", "--tasks", "udpos"]
    monkeypatch.setenv("ADAPTER_STILTS_HUB_MIRROR", str(workspace.folder))
    assert failed(1, *arguments).startswith("google/xtreme: found no folder ")


def test_another_toy_shares_the_intermediates(workspace: Workspace) -> None:
    output = succeeded("quickstart", "--tasks", "embedded_entities", *on_tiny(workspace))
    # The weights of full ones are not kept, and are made again.
    assert "11 runs for 7 cells; 2 done, 9 to do" in output
    assert "embedded_entities: f1 by language" in output


def test_real_tasks_bring_real_intermediates(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(names: list[str], mirror: Path | None) -> tuple:
        study = quickstart.study_on(names, mirror)
        return study.name, study.targets, study.intermediates

    toy = ("embedded_deprel", "embedded_semtag")
    path = yaml_of(workspace)
    assert chosen([], None) == ("quickstart", ("embedded_udpos",), toy)
    assert chosen(["embedded_entities", path], None) == ("quickstart", ("embedded_entities", path), toy)
    assert chosen(["udpos"], None) == ("quickstart_hub", ("udpos",), ("ud_deprel", "wikiann"))
    assert chosen(["udpos", path], tmp_path) == ("quickstart_hub", ("udpos", path), ("ud_deprel", "wikiann"))
    (tmp_path / "offline/pmb-4.0.0").mkdir(parents=True)
    mirrored = ("quickstart_mirror", ("udpos", "wikiann"), ("ud_deprel", "pmb_semtag"))
    assert chosen(["udpos", "wikiann"], tmp_path) == mirrored
    monkeypatch.setenv("ADAPTER_STILTS_HUB_MIRROR", str(tmp_path))
    assert chosen(["udpos", "wikiann"], None) == mirrored


def test_the_study_on_real_data_can_be_planned(workspace: Workspace, hub_mirror: Path) -> None:
    output = succeeded("study", "plan", "quickstart_mirror", *on_tiny(workspace), "--hub-mirror", hub_mirror)
    assert "11 runs for 7 cells; 0 done, 11 to do" in output
    assert [line.split()[1] for line in output.splitlines() if line.startswith(" intermediate")] == [
        "ud_deprel",
        "pmb_semtag",
        "ud_deprel",
        "pmb_semtag",
    ]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("udpso", "--tasks: task 'udpso': found no such task (did you mean 'udpos'?), accepted chunking, "),
        (" , ", "--tasks: found ' , ', accepted names of target tasks with commas between, such as udpos"),
        ("mlm_text", ": targets[0]: found mlm_text, accepted one task that has labels: it is scored"),
    ],
)
def test_wrong_tasks(tasks: str, message: str) -> None:
    assert message in failed(2, "quickstart", "--tasks", tasks)


def test_an_installed_package_finds_its_data(tmp_path: Path) -> None:
    """As it is installed: task configs inside the package, no checkout around it."""
    shutil.copytree(PACKAGE, tmp_path / "adapter_stilts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "task_configs", tmp_path / "adapter_stilts/task_configs")
    code = (
        "from adapter_stilts.tasks.catalog import find_task; task = find_task('embedded_udpos');"
        "print(task.path, task.file(task.data.languages['sw'].test))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd="/")
    inside = tmp_path / "adapter_stilts"
    assert result.stdout.split() == [
        str(inside / "task_configs/target/embedded_udpos.yaml"),
        str(inside / "embedded_data/test/sw.conllu"),
    ], result.stderr
