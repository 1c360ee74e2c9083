"""Where files lie (cache, Hub mirror), and how they are written: whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.trust import is_repository

CACHE_VARIABLE = "ADAPTER_STILTS_CACHE"
MIRROR_VARIABLE = "ADAPTER_STILTS_HUB_MIRROR"
_SETTLED_NANOSECONDS = 2_000_000_000
# What the system says of a full or protected disk.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


def cache_dir() -> Path:
    """Folder for what can be rebuilt: $ADAPTER_STILTS_CACHE, else under $XDG_CACHE_HOME, else under ~/.cache.

    The folder is created. Raises UsageError where that is impossible.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        folder = Path(chosen).expanduser()
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "adapter_stilts"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cache folder {folder} cannot be created ({error.strerror}); set {CACHE_VARIABLE} to a writable folder"
        ) from error
    return folder


def mirror_dir(option: Path | None) -> Path | None:
    """Folder that stands in for the Hub: the option, else $ADAPTER_STILTS_HUB_MIRROR, else None (the Hub itself).

    Raises UsageError for a folder that does not exist, naming it and where the value came from.
    """
    if option is not None:
        folder, source = Path(option).expanduser(), "--hub-mirror"
    elif chosen := os.environ.get(MIRROR_VARIABLE):
        folder, source = Path(chosen).expanduser(), f"${MIRROR_VARIABLE}"
    else:
        return None
    if not folder.is_dir():
        raise UsageError(f"{source}: no folder {folder}; give a folder that holds OWNER/NAME as on the Hub")
    return folder


def resolve_repository(repository: str, mirror: Path | None) -> Path | str:
    """The one place that turns a repository id into what is loaded: mirror/repository if it exists, else the id."""
    if mirror is not None and is_repository(repository) and (mirror / repository).is_dir():
        return mirror / repository
    return repository


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """A disk that is full, or a folder that cannot be written, is named: the folder that was asked for, not a file with
    a passing name in it."""
    try:
        yield
    except OSError as error:
        there = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(folder)
        if error.errno not in _DISK or not there:
            raise
        raise StiltsError(f"{folder}: cannot be written ({error.strerror})") from error
    except SafetensorError as error:  # its form of the same
        if found := re.search(r"No space [^\"()]*|File too large|[^\"]*quota[^\"]*", str(error)):
            raise StiltsError(f"{folder}: cannot be written ({found[0].strip()})") from error
        raise


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which becomes `target` on success and is removed on any exception.

    Raises FileExistsError, and leaves `target` as it is, if a file or a folder with content has that name by then.
    """
    partial = _sibling(target)
    with _naming(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    try:
        with _naming(target.parent):
            yield partial
        try:
            os.replace(partial, target)
        except OSError as error:
            if target.exists():
                raise FileExistsError(f"{target} exists already") from error
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text so that a reader sees the old file or the new one, never a part."""
    partial = _sibling(path)
    try:
        with _naming(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8", newline="")
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """`sha256_file`, computed once for as long as the file's size and times stay the same; kept in the cache.

    A file that changed in the last two seconds is not remembered: a second change of equal size could then go
    unnoticed, because file times advance in steps.
    """
    path = path.resolve()
    status = path.stat()
    fingerprint = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    note = cache_dir() / "sha256" / f"{hashlib.sha256(str(path).encode()).hexdigest()}.json"
    try:
        remembered = json.loads(note.read_text(encoding="utf-8"))
        if remembered["file"] == fingerprint:
            return str(remembered["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = sha256_file(path)
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NANOSECONDS:
        atomic_write_text(note, json.dumps({"file": fingerprint, "sha256": digest}))
    return digest
