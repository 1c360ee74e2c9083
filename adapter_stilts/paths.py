"""Where files lie (cache, Hub mirror), and what they hold."""

import hashlib
import json
import mmap
import os
import tempfile
import time
import zlib
from functools import lru_cache
from pathlib import Path

from adapter_stilts.errors import UsageError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.progress import say
from adapter_stilts.residue import sweep_at_times
from adapter_stilts.trust import inside, is_repository, refuse

CACHE_VARIABLE = "ADAPTER_STILTS_CACHE"
MIRROR_VARIABLE = "ADAPTER_STILTS_HUB_MIRROR"
_SETTLED_NANOSECONDS = 2_000_000_000


def user_path(path: Path | str) -> Path:
    """A path as somebody gave it (an option, a variable, YAML, an argument), with ~ and ~NAME as home folders.

    Raises UsageError for the home folder of somebody who is not there.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: found no home folder for it, accepted a path without ~") from None


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that no file system takes is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_folder(folder: Path, source: str) -> None:
    """Raise UsageError where nothing can be written into `folder`, which need not be there yet; `source` says who
    named it. Nothing is left behind."""
    accepted = "accepted a folder to write to"
    try:
        nearest = next(candidate for candidate in (folder, *folder.absolute().parents) if os.path.lexists(candidate))
        if not nearest.is_dir():
            which = "" if nearest == folder else f", of which {nearest} is no folder"
            raise UsageError(f"{source}: found {folder}{which or ', which is no folder'}, {accepted}")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UsageError(f"{source}: {folder} cannot be written ({error.strerror}), {accepted}") from None


def shipped_configs() -> Path:
    """The folder `task_configs`: inside of an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    folders = (package / "task_configs", package.parent / "task_configs")
    return next((folder for folder in folders if folder.is_dir()), package)


def cache_dir() -> Path:
    """Folder for what can be rebuilt: $ADAPTER_STILTS_CACHE, else under $XDG_CACHE_HOME, else under ~/.cache.

    The folder is created; what killed processes left half-written in it is removed now and then. Raises UsageError
    where it cannot be created.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        folder = user_path(chosen)
    else:
        folder = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "adapter_stilts"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cache folder {folder} cannot be created ({error.strerror}); set {CACHE_VARIABLE} to a writable folder"
        ) from error
    sweep_at_times(folder, inside=True)
    return folder


def mirror_dir(option: Path | str | None) -> Path | None:
    """Folder that stands in for the Hub: the option, else $ADAPTER_STILTS_HUB_MIRROR, else None (the Hub itself).

    Raises UsageError for a folder that does not exist, naming it and where the value came from.
    """
    if option is not None:
        folder, source = user_path(option), "--hub-mirror"
    elif chosen := os.environ.get(MIRROR_VARIABLE):
        folder, source = user_path(chosen), f"${MIRROR_VARIABLE}"
    else:
        return None
    if not folder.is_dir():
        raise UsageError(f"{source}: no folder {folder}; give a folder that holds OWNER/NAME as on the Hub")
    return folder


def resolve_repository(repository: str, mirror: Path | None) -> Path | str:
    """The one place that turns a repository id into what is loaded: mirror/repository if it exists, else the id.

    Raises StiltsError for a repository that is a link to what is outside the mirror.
    """
    if mirror is not None and is_repository(repository) and (mirror / repository).is_dir():
        if not inside(mirror, mirror / repository):
            refuse(mirror / repository, f"a link to what is outside {mirror}", "the folder itself")
        return mirror / repository
    return repository


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32_file(path: Path) -> str:
    """CRC-32 of a file's bytes, in hexadecimal: it tells damage, not intent, and takes 0.1 s for 450 MB. Computed once
    for as long as the file's size and time stay the same."""
    status = path.stat()
    return _crc32(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _crc32(path: Path, size: int, modified: int) -> str:
    if size == 0:
        return f"{0:08x}"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return f"{zlib.crc32(content):08x}"


def remembered_sha256(path: Path) -> str:
    """`sha256_file`, computed once for as long as the file's size and times stay the same; kept in the cache.

    A file that changed in the last two seconds is not remembered: a second change of equal size could then go
    unnoticed, because file times advance in steps.
    """
    path = path.resolve()
    status = path.stat()
    fingerprint = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    note = cache_dir() / "sha256" / f"{hashlib.sha256(str(path).encode()).hexdigest()}.json"
    remembered = read_note(note)
    if remembered is not None and remembered["file"] == fingerprint:
        return str(remembered["sha256"])
    digest = sha256_file(path)
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NANOSECONDS:
        write_note(note, {"file": fingerprint, "sha256": digest})
    return digest


def write_note(note: Path, content: dict[str, object]) -> None:
    """Write what can be worked out again into a file of the cache, with a checksum."""
    atomic_write_text(note, json.dumps({**content, "crc32": _crc32_of(content)}))


def read_note(note: Path) -> dict[str, object] | None:
    """What a note says; None where there is none, or one of an older version. A damaged one is said."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        if "crc32" not in content:
            return None
        if content.pop("crc32") == _crc32_of(content):
            return dict(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    say(f"remembered hash {note}: damaged, made anew")
    return None


def _crc32_of(content: dict[str, object]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
