"""What killed processes leave half-written or half-replaced, put right: at once where its owner is seen to be dead."""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

from adapter_stilts.owners import Owner, owner_of_partial, owner_of_replaced, partial_name

# Seconds after which something half-written is taken for left where its writer cannot be seen: on another machine, or
# of a version that did not write down whose it is.
LEFT_AFTER = 3600.0
# Seconds between two looks of one process at one folder.
LOOK_EVERY = 60.0
_WITHOUT_OWNER = re.compile(r"\..+\.[0-9a-f]{32}\.partial|tmp[a-z0-9_]{8}\.part")
_looked: dict[tuple[int, str], float] = {}


def sweep(folder: Path, inside: bool = False) -> None:
    """Remove what dead processes left half-written in a folder, and in the folders inside where they are asked for.
    What they had moved aside gets its name back, or goes where its successor has that. Where it cannot be seen whether
    the owner lives, all this happens once nothing was written for LEFT_AFTER seconds. Names that this package does not
    give stay."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.endswith((".partial", ".part")) and _is_left(folder / name):
            remove(folder / name)
        elif (replaced := owner_of_replaced(name)) is not None:
            if _is_abandoned(folder / name, replaced[1]):
                _put_back(folder / name, folder / replaced[0])
        elif inside and (folder / name).is_dir() and not (folder / name).is_symlink():
            sweep(folder / name)


def sweep_at_times(folder: Path, inside: bool = False) -> None:
    """`sweep`, unless this process did so a moment ago."""
    if is_time_for(folder):
        sweep(folder, inside)


def is_time_for(folder: Path) -> bool:
    """Whether this process has not asked so of this folder for a while."""
    key, now = (os.getpid(), str(folder)), time.monotonic()
    if now - _looked.get(key, -LOOK_EVERY) < LOOK_EVERY:
        return False
    _looked[key] = now
    return True


def remove(path: Path) -> None:
    """Remove a file, folder, or whatever has that name, as far as this process may."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def seconds_silent(path: Path) -> float:
    """Seconds since something was last written to a file, or into a folder, by the clock of its file system: machines
    need not agree on the time. Raises OSError where it cannot be told."""
    newest = path.lstat().st_mtime
    if stat.S_ISDIR(path.lstat().st_mode):
        for inside in path.rglob("*"):
            with suppress(FileNotFoundError):
                newest = max(newest, inside.lstat().st_mtime)
    probe = path.with_name(partial_name("clock"))
    probe.touch()
    try:
        return probe.stat().st_mtime - newest
    finally:
        probe.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    owner = owner_of_partial(path.name)
    if owner is None and not _WITHOUT_OWNER.fullmatch(path.name):
        return False
    return _is_abandoned(path, owner)


def _is_abandoned(path: Path, owner: Owner | None) -> bool:
    """Whether the owner is dead, or, where that cannot be seen, nothing was written for long."""
    lives = owner.lives if owner is not None else None
    if lives is not None:
        return not lives
    try:
        return seconds_silent(path) > LEFT_AFTER
    except OSError:
        return False


def _put_back(aside: Path, target: Path) -> None:
    if os.path.lexists(target):
        remove(aside)
    else:
        with suppress(OSError):
            aside.rename(target)
