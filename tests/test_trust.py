"""Names, paths, links and files of others."""

import json
import os
from pathlib import Path

import pytest
from support.records import write_run

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.scores import read_scores
from adapter_stilts.files import atomic_folder
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.paths import resolve_repository
from adapter_stilts.runs.record import read_record, write_record
from adapter_stilts.runs.store import RunStore
from adapter_stilts.trust import is_name, is_repository, matching_files, read_json, regular_file, tensor_shapes


@pytest.mark.parametrize(
    "name", ["udpos-bottleneck-none-s0-0123456789ab", "a+b-full", "run of tags (shuffled)", "日本"]
)
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "a/b", "a\\b", "a\x00", "a\nb", "\x1b[2J", "x" * 256, "a\u202eb"]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_repositories(tmp_path: Path) -> None:
    assert all(map(is_repository, ["google/xtreme", "xnli", "org/data.v2"]))
    assert not any(map(is_repository, ["../x", "a/../b", "/etc", "a/b/c", "~/x", "a/..b"]))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "outside").mkdir()
    assert resolve_repository("../outside", tmp_path / "mirror") == "../outside"


def test_patterns_of_a_readme(tmp_path: Path) -> None:
    folder, readme = tmp_path / "mirror", tmp_path / "mirror" / "README.md"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-0.tsv").write_text("x")
    (tmp_path / "secret.tsv").write_text("x")
    assert matching_files(folder, "data/train-*", readme) == [folder / "data" / "train-0.tsv"]
    for pattern in ("../secret.tsv", "data/../../secret.tsv", "/etc/passwd", "**/../../*.tsv", "", "a**b/\0"):
        with pytest.raises(StiltsError, match=r"README.md: found the pattern .*, accepted files of the repository"):
            matching_files(folder, pattern, readme)
    (folder / "data" / "train-1.tsv").symlink_to(tmp_path / "secret.tsv")
    with pytest.raises(StiltsError, match=r"train-1.tsv: found a link to what is outside .*, accepted the file itself"):
        matching_files(folder, "data/train-*", readme)


def test_links_of_the_hubs_cache_stay_inside(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "datasets--a" / "snapshots" / "0123", tmp_path / "datasets--a" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("x")
    (snapshot / "x.tsv").symlink_to("../../blobs/abc")
    assert matching_files(snapshot, "*.tsv", snapshot / "README.md") == [snapshot / "x.tsv"]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"), (Path("/dev/zero"), "a device")):
        with pytest.raises(StiltsError, match=f"{path}: found {kind}, accepted a regular file"):
            regular_file(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "found the key 'a' twice"),
        ('{"a": NaN}', "found NaN, accepted numbers"),
        ("[1]", "found JSON of a list, accepted an object"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(StiltsError, match=reason) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_header_longer_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 7 + b"\x00{}")
    with pytest.raises(StiltsError, match="found 10 bytes that begin with no header, accepted safetensors"):
        tensor_shapes(path)


# --- records and scores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "../x"}, r"name: found '../x', accepted a name"),
        ({"development": 999}, r"development: Input should be less than or equal to 100"),
        ({"development": True}, r"development: Input should be a valid number"),
        ({"development": "90"}, r"development: Input should be a valid number"),
        ({"selected_epoch": -5}, r"selected_epoch: Input should be greater than or equal to 0"),
        ({"seal": None}, r"seal: found none, accepted that of format 3"),
        ({"seed": 1}, r"altered since it was written \(its seal differs\)"),
    ],
)
def test_records(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 80)
    path = run.folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StiltsError, match=complaint):
        read_record(run.folder)


@pytest.mark.parametrize("name", ["x/../../../outside", "/etc", "a\nb", ".x", ""])
def test_task_names_that_leave_the_store(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 80)
    path = run.folder / "record.json"
    content = json.loads(path.read_text())
    content["task"]["name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(StiltsError, match=r"record.json: task.name: found "):
        read_record(run.folder)


def test_a_record_from_before_seals_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 80)
    path = run.folder / "record.json"
    content = json.loads(path.read_text())
    del content["seal"], content["trained_on"]
    path.write_text(json.dumps({**content, "format": 2}))
    assert read_record(run.folder).name == run.name
    assert write_record(run.folder, read_record(run.folder)).format == 3


@pytest.mark.parametrize("value", [999, -5, True])
def test_numbers_that_are_no_scores(tmp_path: Path, value: object) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 80)
    folder = run.folder / "evaluations" / "test"
    content = json.loads((folder / "scores.json").read_text())
    content["languages"]["de"]["accuracy"] = value
    (folder / "scores.json").write_text(json.dumps(content))
    with pytest.raises(StiltsError, match=r"scores.json: .*(languages.de.accuracy)"):
        read_scores(folder, run)


def test_scores_of_another_run(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path, "bottleneck", "none", right) for right in (70, 80))
    with pytest.raises(StiltsError, match=f"run: found {other.name}, accepted {one.name}"):
        read_scores(other.folder / "evaluations" / "test", one)


def test_copies_and_readers_follow_no_link(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "bottleneck", "none", 80)
    (tmp_path / "secret").write_text("SECRET")
    (run.folder / "notes").symlink_to(tmp_path / "secret")
    store = RunStore(tmp_path / "runs")
    with pytest.raises(StiltsError, match="notes: found a symbolic link, accepted files and folders alone"):
        store.find(run.name)
    with pytest.raises(StiltsError, match="notes: found a symbolic link"):
        store.copy(run, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()
    (run.folder / "notes").unlink()
    run.folder.rename(tmp_path / "moved")
    run.folder.symlink_to(tmp_path / "moved")
    with pytest.raises(StiltsError, match=f"{run.name}: found a symbolic link, accepted a folder"):
        store.find(run.name)


def test_a_run_under_another_name(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bottleneck", "none", 80)
    run.folder.rename(tmp_path / "other")
    with pytest.raises(StiltsError, match=f"name: found {run.name}, accepted other, as its folder"):
        RunStore(tmp_path).get("other")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    def full() -> None:
        with atomic_folder(tmp_path / "a" / "b"):
            raise OSError(28, "No space left on device", str(tmp_path / "a" / ".b.0.partial" / "x"))

    with pytest.raises(StiltsError, match=rf"^{tmp_path}/a: cannot be written \(No space left on device\)$"):
        full()
    assert list((tmp_path / "a").iterdir()) == []


def test_a_checkpoint_that_points_elsewhere(tmp_path: Path) -> None:
    from support.tiny import tiny_backbone_folder

    folder = tiny_backbone_folder(tmp_path / "tiny")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "../elsewhere"}')
    with pytest.raises(UsageError, match=r"adapter_config.json: found an adapter of peft"):
        load_backbone(str(folder))
