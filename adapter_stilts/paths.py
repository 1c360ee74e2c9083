"""Where files lie (cache, Hub mirror), and what they hold."""

import hashlib
import json
import os
import time
from pathlib import Path

from adapter_stilts.errors import UsageError
from adapter_stilts.files import atomic_folder as atomic_folder
from adapter_stilts.files import atomic_write_text as atomic_write_text
from adapter_stilts.residue import sweep_at_times

CACHE_VARIABLE = "ADAPTER_STILTS_CACHE"
MIRROR_VARIABLE = "ADAPTER_STILTS_HUB_MIRROR"
_SETTLED_NANOSECONDS = 2_000_000_000


def cache_dir() -> Path:
    """Folder for what can be rebuilt: $ADAPTER_STILTS_CACHE, else under $XDG_CACHE_HOME, else under ~/.cache.

    The folder is created; what killed processes left half-written in it is removed now and then. Raises UsageError
    where it cannot be created.
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
    sweep_at_times(folder, inside=True)
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
    if mirror is not None and (mirror / repository).is_dir():
        return mirror / repository
    return repository


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
