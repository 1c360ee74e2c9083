"""The command line: what stands on standard output and standard error, exit codes, and what is left after a failure."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import command, failed, make_cli_workspace, succeeded, train_arguments
from support.training import Workspace, english_task, pairs_task, write_conllu

from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.tasks.catalog import all_tasks
from adapter_stilts.training import api, scoring


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_cli_workspace(tmp_path_factory.mktemp("cli"), monkeypatch)


@pytest.fixture(scope="module")
def trained(workspace: Workspace) -> dict[str, Any]:
    """What `train --json` prints, in a process of its own."""
    code = "from adapter_stilts.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *train_arguments(workspace), "--json"], capture_output=True, text=True, check=True
    )
    assert "epoch 2: development accuracy" in done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


def test_help_and_tasks_need_no_heavy_module() -> None:
    heavy = "('torch', 'transformers', 'adapters', 'peft', 'datasets', 'pyarrow', 'optuna')"
    code = f"import sys, adapter_stilts.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_command_shows_an_example() -> None:
    for name in ("quickstart", "tasks", "train", "tune", "evaluate", "predict", "compare"):
        assert f"Example: adapter-stilts {name}" in command(name, "--help").stdout
    assert succeeded("--version") == "adapter-stilts 0.1.0\n"


def test_tasks() -> None:
    listed = json.loads(succeeded("tasks", "--json"))
    assert [task["name"] for task in listed] == [task.name for task in all_tasks()]
    (udpos,) = [task for task in listed if task["name"] == "udpos"]
    assert list(udpos) == ["name", "kind", "role", "knowledge", "granularity", "languages", "dataset", "licence"]
    assert (udpos["kind"], udpos["role"], udpos["dataset"]) == ("tagging", "target", "google/xtreme")
    assert (len(udpos["languages"]), udpos["languages"][:2]) == (38, ["af", "ar"])
    targets = json.loads(succeeded("tasks", "--role", "target", "--json"))
    assert targets == [task for task in listed if task["role"] in ("target", "both")]
    lines = succeeded("tasks", "--role", "intermediate").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [task["name"] for task in listed if task["role"] != "target"]


def test_train_prints_what_the_record_says(workspace: Workspace, trained: dict[str, Any]) -> None:
    record = json.loads((workspace.store.folder / trained["name"] / "record.json").read_text(encoding="utf-8"))
    folder = trained["folder"]
    assert {**trained, "scores": {}} == {"folder": folder, **record, "scores": {}}
    assert folder == str(workspace.store.folder / trained["name"])
    again = command(*train_arguments(workspace), "--set", "epochs=2", "--seed", 0)
    share = 100 * record["trainable_parameters"] / record["total_parameters"]
    # 2 layers x (32 x 4 + 4 down, 4 x 32 + 32 up) and 32 x 3 + 3.
    assert (record["trainable_parameters"], record["total_parameters"]) == (584 + 99, 57952 + 584 + 99)
    assert again.stdout == (
        f"run: {trained['name']}\nfolder: {folder}\ncomposition: none\n"
        f"development accuracy: {record['development']:.2f} (epoch 2, "
        f"majority class {record['development_majority']:.2f})\n"
        f"trainable parameters: 683 of 58,635 ({share:.2f}%)\n"
        f"seconds: {record['cost']['seconds']:.1f} ({record['cost']['train_seconds']:.1f} in training steps)\n"
        f"tokens/s: {record['cost']['tokens_per_second']:,.0f}\n"
        "\n"
        " part          trains  tensors  parameters\n"
        " backbone      no           37      57,952\n"
        " adapter tags  yes           8         584\n"
        " head tags     yes           2          99\n"
    )
    # Two epochs over 24 sentences are too few.
    assert (record["development"], record["development_labels"] >= 1) == (record["development_majority"], True)
    first, second = again.stderr.splitlines()
    assert first == f"{trained['name']}: done before, in {folder}"
    assert second.startswith(f"{trained['name']}: nothing learnt shows here: ")
    assert f"accuracy at or under the majority class (development {record['development']:.2f}, " in second


def test_options_reach_the_run(workspace: Workspace, trained: dict[str, Any], tmp_path: Path) -> None:
    options = ["--over", trained["name"][:25], "--seed", 3, "--limit", 5, "--set", "epochs=1", "--set", "dropout=0"]
    printed = json.loads(
        succeeded(*train_arguments(workspace, "other"), *options, "--out", tmp_path / "copy", "--json")
    )
    record = json.loads((tmp_path / "copy" / "record.json").read_text(encoding="utf-8"))
    assert record == {key: value for key, value in printed.items() if key != "folder"}
    assert (record["seed"], record["limit"], record["composition"]) == (3, 5, "stack")
    assert (record["recipe"]["epochs"], record["recipe"]["dropout"]) == (1, 0.0)
    assert [intermediate["run"] for intermediate in record["over"]] == [trained["name"]]
    full = json.loads(succeeded(*train_arguments(workspace), "--method", "full", "--set", "epochs=1", "--json"))
    assert (full["method"], full["trainable_parameters"] > printed["trainable_parameters"]) == ("full", True)


def test_evaluate(trained: dict[str, Any], tmp_path: Path) -> None:
    name = trained["name"]
    scores = json.loads(succeeded("evaluate", name, "--languages", "en", "--limit", 7, "--out", tmp_path, "--json"))
    assert scores == json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (scores["languages"]["en"]["n"], scores["limit"]) == (7, 7)
    value, majority = f"{scores['mean']['accuracy']:.2f}", f"{scores['majority']['en']:.2f}"
    *lines, last = succeeded("evaluate", name, "--limit", 7).splitlines()
    assert [line.split() for line in lines] == [
        ["language", "family", "script", "accuracy", "majority", "class", "n"],
        ["en", "English", "IE:", "Germanic", "Latin", value, majority, "7"],
        ["mean", value, majority],
    ]
    assert last.startswith("nothing learnt shows here: ")


def test_evaluate_tells_unseen_labels_and_leaks(workspace: Workspace) -> None:
    """German gold of a label that training never showed, and French sentences that are the training data."""
    folder = workspace.folder / "told"
    code = "{train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}"
    languages = f"{{en: {code}, de: {{test: de-test.conllu}}, fr: {{test: en-train.conllu}}}}"
    write_conllu(folder / "de-test.conllu", [[("Hund", "STRANGE"), ("und", "A")]])
    english_task(folder, "told", labels="open", languages=languages)
    run = json.loads(succeeded(*train_arguments(workspace, "told"), "--json"))
    lines = succeeded("evaluate", run["name"], "--task", folder / "told.yaml").splitlines()
    assert "  ".join(lines[0].split("  ")).split()[3:] == ["accuracy", "majority", "class", "unseen", "gold", "n"]
    rows = {line.split()[0]: line.split()[-2:] for line in lines[1:4]}
    assert rows == {"en": ["0", "10"], "de": ["1", "1"], "fr": ["0", "24"]}
    assert any(line.strip().startswith("mean without en ") for line in lines)
    assert "gold labels that training never showed count as wrong: de 1" in lines
    (leak,) = [line for line in lines if line.startswith("trained on texts that it is scored on: ")]
    assert "fr test (" in leak
    assert leak.endswith("the training data itself)")


def test_predict(workspace: Workspace, trained: dict[str, Any], tmp_path: Path) -> None:
    source = workspace.folder / "tags" / "en-test.conllu"
    expected = predict_file(workspace.store.find(trained["name"]), source, device="cpu").decode()
    assert succeeded("predict", trained["folder"], source, "--device", "cpu") == expected
    assert succeeded("predict", trained["name"], source, "--out", tmp_path / "out.conllu") == ""
    assert (tmp_path / "out.conllu").read_text(encoding="utf-8") == expected
    reader, writer = os.pipe()  # written to, not replaced
    assert succeeded("predict", trained["name"], source, "--out", f"/proc/self/fd/{writer}") == ""
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        assert pipe.read() == expected
    pq.write_table(pa.table({"tokens": [["the"]]}), tmp_path / "my.parquet")
    needed = "found a Parquet file, accepted with --out FILE.parquet (it is no text to print)"
    assert failed(2, "predict", trained["name"], tmp_path / "my.parquet") == f"{tmp_path / 'my.parquet'}: {needed}"
    assert succeeded("predict", trained["name"], tmp_path / "my.parquet", "--out", tmp_path / "out.parquet") == ""
    ((label,),) = pq.read_table(tmp_path / "out.parquet").to_pydict()["labels"]
    assert label in ("A", "B", "C")
    assert (
        failed(2, "predict", trained["name"], source, "--out", tmp_path)
        == f"--out {tmp_path}: found a folder, accepted a file to write"
    )


def test_compare(trained: dict[str, Any]) -> None:
    name = trained["name"]
    scores = json.loads(succeeded("evaluate", name, "--json"))
    ((row,),) = [table["rows"] for table in json.loads(succeeded("compare", name, "--json"))["tables"]]
    assert (row["runs"], row["mean"]) == ([name], scores["mean"]["accuracy"])
    assert f"{row['mean']:.1f}" in succeeded("compare", name)
    assert f"{row['mean']:.1f} |" in succeeded("compare", name, "--markdown")


def broken_task(folder: Path, what: str) -> Path:
    """A task with one thing wrong."""
    path = english_task(folder).path
    text = path.read_text(encoding="utf-8")
    train = folder / "en-train.conllu"
    if what == "typo":
        text = text.replace("licence:", "license:")
    elif what == "language":
        text = text.replace("{en: {", "{xx: {test: en-test.conllu}, en: {")
    elif what == "label":
        text = text.replace("[A, B, C]", "[A, B]")
    elif what == "line":
        train.write_text("1\tthe\t_\tA\n" + train.read_text(encoding="utf-8"), encoding="utf-8")
    elif what == "parquet":
        table = pa.table({"form": [["the"], ["of"]], "upos": [["A"], ["B"]]})
        pq.write_table(table, folder / "en-train.conllu")
        train.write_bytes(train.read_bytes()[:-20])
        text = text.replace("format: conllu", "format: parquet")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("typo", 2, "tags.yaml:8: license: found an unknown key (did you mean 'licence'?), accepted name,"),
        ("language", 2, "tags.yaml:20: data.languages.xx: unknown language 'xx': "),
        ("label", 1, "', accepted A, B"),
        ("line", 1, "en-train.conllu:1: found 4 columns, accepted 10"),
        ("parquet", 1, "en-train.conllu: found a damaged file ("),
    ],
)
def test_broken_input_is_one_line(workspace: Workspace, tmp_path: Path, what: str, code: int, message: str) -> None:
    path = broken_task(tmp_path / "task", what)
    arguments = ["train", path, "--backbone", workspace.folder / "tiny", "--runs", tmp_path / "runs", "--device", "cpu"]
    line = failed(code, *arguments)
    assert message in line
    assert line.startswith(str(tmp_path / "task"))
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epochs"], "--set epochs: found no '=', accepted KEY=VALUE"),
        (["--set", "epoch=1"], "--set epoch: found an unknown key (did you mean 'epochs'?), accepted learning_rate,"),
        (
            ["--method", "prefix"],
            "--method: found 'prefix', accepted: bottleneck, lora, dora, ia3, full, head, houlsby, parallel, compacter",
        ),
        (["--compose", "add"], "--compose: found 'add', accepted: none, stack, fuse, continue, merge, bake"),
        (["--compose", "stack"], "--compose stack: found 0 with --over, accepted one intermediate or more; accepted"),
        (["--control", "noise"], "--control: found 'noise', accepted: random, shuffled"),
        (["--languages", "en,de"], "--languages: found 'de', accepted for tags: en"),
        (["--languages", ","], "--languages: found ',', accepted codes with commas between, such as de,ar"),
        (["--set", "rank=4"], "--set rank: decides nothing under bottleneck none, accepted with lora, dora"),
        (["--hub-mirror", "/no/such"], "--hub-mirror: no folder /no/such; give a folder that holds OWNER/NAME"),
        (["--over", "nothing"], "--over nothing: neither a run nor a task ("),
        (["--device", "tpu"], "--device: found 'tpu', accepted: cpu"),
        (["--backbone", "./none"], "backbone './none': no such folder"),
    ],
)
def test_bad_options_of_train(workspace: Workspace, tmp_path: Path, options: list[str], message: str) -> None:
    assert failed(2, *train_arguments(workspace), "--runs", tmp_path / "runs", *options).startswith(message)
    assert not (tmp_path / "runs").exists()


def test_other_bad_usage(trained: dict[str, Any], tmp_path: Path) -> None:
    name = trained["name"]
    for arguments, message in (
        (["train", "udpso"], "task 'udpso': found no such task (did you mean 'udpos'?), accepted chunking,"),
        (["tasks", "--role", "both"], "--role: found 'both', accepted: intermediate, target"),
        (["evaluate", "none"], "run 'none': not a folder with a record.json, nor a run in "),
        (["evaluate", name, "--languages", "de,ar"], "--languages: found 'de', accepted for tags: en"),
        (["evaluate", name, "--languages", ","], "--languages: found ',', accepted codes with commas between"),
        (["evaluate", name, "--split", "dev"], "--split: found 'dev', accepted: train, validation, test"),
        (["evaluate", name, "--keep", "none"], "--keep: found 'none', accepted: scores, adapters, all"),
        (["predict", name, tmp_path / "none"], f"{tmp_path / 'none'}: found no such file or directory, accepted"),
        (["compare", "--json", "--markdown"], "--json and --markdown: found both, accepted one of them"),
        (["compare", "--runs", tmp_path], f"{tmp_path}: no run with test scores"),
    ):
        assert failed(2, *arguments).startswith(message)
    for arguments in (["train"], ["train", "udpos", "--limit", "0"], ["tasks", "--nonsense"]):
        assert command(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights"), 1, "weights: No space left on device"),
    ],
)
def test_interruption_and_full_disk_leave_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def breaks(folder: Path, *_: Any) -> None:
        folder.mkdir()
        (folder / "half").write_text("a")
        raise error

    monkeypatch.setattr(api, "save_bundle", breaks)
    result = command(*train_arguments(workspace), "--runs", tmp_path / "runs")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-1] == message
    # The checkpoint, from which the same command goes on.
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".checkpoints"]


def test_unexpected_errors_are_not_hidden(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(scoring, "predict_answers", breaks)
    result = command(*train_arguments(workspace), "--runs", tmp_path / "runs")
    assert isinstance(result.exception, ZeroDivisionError)


def test_text_pairs_from_the_command_line(workspace: Workspace, tmp_path: Path) -> None:
    pairs_task(workspace.folder / "pairs")
    name = json.loads(succeeded(*train_arguments(workspace, "pairs"), "--json"))["name"]
    (tmp_path / "pairs.txt").write_text("the dog\tthe cats\n", encoding="utf-8")
    label, rest = succeeded("predict", name, tmp_path / "pairs.txt").split("\t", 1)
    assert (label in ("same", "different"), rest) == (True, "the dog\tthe cats\n")
