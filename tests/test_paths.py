"""Folders, mirrors, and writing whole or not at all."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from adapter_stilts import paths
from adapter_stilts.errors import UsageError
from adapter_stilts.files import atomic_folder, atomic_write_text
from adapter_stilts.paths import (
    cache_dir,
    check_folder,
    crc32_file,
    mirror_dir,
    remembered_sha256,
    resolve_repository,
    sha256_file,
    user_path,
)


def test_cache_dir_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("ADAPTER_STILTS_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "adapter_stilts"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "adapter_stilts"
    assert (tmp_path / "home" / ".cache" / "adapter_stilts").is_dir()


def test_cache_dir_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match=r"file/cache cannot be created .* ADAPTER_STILTS_CACHE"):
        cache_dir()


def test_mirror_option_goes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADAPTER_STILTS_HUB_MIRROR", raising=False)
    assert mirror_dir(None) is None
    (tmp_path / "variable").mkdir()
    (tmp_path / "option").mkdir()
    monkeypatch.setenv("ADAPTER_STILTS_HUB_MIRROR", str(tmp_path / "variable"))
    assert mirror_dir(None) == tmp_path / "variable"
    assert mirror_dir(tmp_path / "option") == tmp_path / "option"


def test_missing_mirror_names_folder_and_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"^--hub-mirror: no folder {tmp_path}/gone"):
        mirror_dir(tmp_path / "gone")
    monkeypatch.setenv("ADAPTER_STILTS_HUB_MIRROR", str(tmp_path / "lost"))
    with pytest.raises(UsageError, match=rf"^\$ADAPTER_STILTS_HUB_MIRROR: no folder {tmp_path}/lost"):
        mirror_dir(None)


def test_repository_resolves_to_the_mirror_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "google" / "xtreme").mkdir(parents=True)
    assert resolve_repository("google/xtreme", tmp_path) == tmp_path / "google" / "xtreme"
    assert resolve_repository("google/xquad", tmp_path) == "google/xquad"
    assert resolve_repository("google/xtreme", None) == "google/xtreme"


def test_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    with atomic_folder(target) as partial:
        (partial / "a").write_text("1")
        assert not target.exists()
        assert partial.parent == target.parent
    assert (target / "a").read_text() == "1"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_folder_is_removed_on_any_exception(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "target") as partial:
            (partial / "a").write_text("1")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "a").write_text("old")
    with pytest.raises(FileExistsError, match="target exists already"), atomic_folder(tmp_path / "target") as partial:
        (partial / "a").write_text("new")
    assert (tmp_path / "target" / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "record.json"
    atomic_write_text(path, "ä\n")
    assert path.read_bytes() == b"\xc3\xa4\n"

    def refuse(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_text(path, "new")
    assert path.read_bytes() == b"\xc3\xa4\n"
    assert list(path.parent.iterdir()) == [path]


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1: the digest of 'abc'."""
    (tmp_path / "abc").write_text("abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "_SETTLED_NANOSECONDS", -1)  # take every file as settled
    path, read = tmp_path / "weights", []

    def count(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(paths, "sha256_file", count)
    path.write_text("one")
    one = hashlib.sha256(b"one").hexdigest()
    assert [remembered_sha256(path), remembered_sha256(path)] == [one, one]
    assert len(read) == 1
    time.sleep(0.02)  # longer than a step of the file system's clock
    path.write_text("two")
    assert remembered_sha256(path) == hashlib.sha256(b"two").hexdigest()
    assert len(read) == 2


def test_hash_of_a_fresh_file_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_text("one")
    assert remembered_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert list((tmp_path / "cache").rglob("*.json")) == []


def test_damaged_note_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "_SETTLED_NANOSECONDS", -1)
    path = tmp_path / "weights"
    path.write_text("one")
    remembered_sha256(path)
    (note,) = (tmp_path / "cache").rglob("*.json")
    note.write_text("{")
    assert remembered_sha256(path) == hashlib.sha256(b"one").hexdigest()
    note.write_text(note_of_another_file(note, path))
    assert remembered_sha256(path) == hashlib.sha256(b"one").hexdigest()


def note_of_another_file(note: Path, path: Path) -> str:
    """The note with one digit of the hash changed: right JSON, wrong content."""
    digest = sha256_file(path)
    changed = ("1" if digest[0] != "1" else "2") + digest[1:]
    text = note.read_text()
    assert digest in text
    return text.replace(digest, changed)


def test_a_damaged_note_is_said_and_one_of_an_older_version_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "_SETTLED_NANOSECONDS", -1)
    path = tmp_path / "weights"
    path.write_text("one")
    digest = remembered_sha256(path)
    (note,) = (tmp_path / "cache").rglob("*.json")
    old = {key: value for key, value in json.loads(note.read_text()).items() if key != "crc32"}
    note.write_text(json.dumps({**old, "sha256": "0" * 64}))
    assert remembered_sha256(path) == digest
    assert capsys.readouterr().err == ""
    note.write_bytes(note.read_bytes()[:40])
    assert remembered_sha256(path) == digest
    assert capsys.readouterr().err == f"remembered hash {note}: damaged, made anew\n"


def test_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    assert user_path(Path("~")) == tmp_path
    assert user_path("a/~") == Path("a/~")
    with pytest.raises(UsageError, match=r"^~nobody_of_that_name/x: found no home folder for it, accepted"):
        user_path("~nobody_of_that_name/x")


def test_a_folder_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deep", "--runs")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=rf"^--runs: found {tmp_path}/file, which is no folder, accepted a folder to "):
        check_folder(tmp_path / "file", "--runs")
    with pytest.raises(UsageError, match=rf"^--out: found {tmp_path}/file/x, of which {tmp_path}/file is no folder, "):
        check_folder(tmp_path / "file" / "x", "--out")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="gone, which is no folder"):
        check_folder(tmp_path / "gone", "--out")
    with pytest.raises(UsageError, match=r"^\$X: /proc/runs cannot be written \(.*\), accepted a folder to write to$"):
        check_folder(Path("/proc/runs"), "$X")


def test_crc32_of_a_known_text(tmp_path: Path) -> None:
    """The check value of CRC-32/ISO-HDLC: that of '123456789'."""
    (tmp_path / "known").write_text("123456789")
    (tmp_path / "empty").touch()
    assert (crc32_file(tmp_path / "known"), crc32_file(tmp_path / "empty")) == ("cbf43926", "00000000")
