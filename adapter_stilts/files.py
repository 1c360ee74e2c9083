"""How files are written: whole or not at all, and on the disk before they have their name; and how small ones are
read, whatever has their name."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adapter_stilts.errors import StiltsError
from adapter_stilts.owners import owner_of_partial, partial_name, replaced_name
from adapter_stilts.residue import remove, sweep, sweep_at_times

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What the system says of a full or protected disk.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


@contextmanager
def partial_folder(target: Path, said: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which is removed at the end unless it has got another name by then.
    `said` is the folder that a line about a full disk names (None: the one that `target` lies in)."""
    partial = target.with_name(partial_name(target.name))
    with naming(target.parent, said):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_at_times(target.parent)
        partial.mkdir()
    try:
        with naming(target.parent, said):
            yield partial
    finally:
        if partial.exists():
            remove(partial)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which becomes `target` on success and is removed on any exception.

    Raises FileExistsError, and leaves `target` as it is, if a file or a folder with content has that name by then.
    """
    with partial_folder(target) as partial:
        yield partial
        publish(partial, target)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """`atomic_folder`, but what `target` holds gives way once the block has ended well; where the system can exchange
    two names (Linux), there is never none."""
    sweep(target.parent)  # what a kill left of the last time
    with partial_folder(target, said=target) as partial:
        yield partial
        try:
            publish(partial, target)
        except FileExistsError:
            swap(partial, target)


def publish(partial: Path, target: Path) -> None:
    """Give a folder that is whole its name. Raises FileExistsError where something else has it."""
    sync_folder(partial)
    try:
        os.replace(partial, target)
    except OSError as error:
        if target.exists() or error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise FileExistsError(f"{target} exists already") from error
        raise
    _sync(target.parent)


def swap(partial: Path, target: Path) -> None:
    """Give a whole folder the name of another one, which is removed. Where the system cannot exchange two names, a kill
    in between leaves the other one as `.NAME.….replaced`; `adapter_stilts.residue.sweep` of the parent gives it its
    name back, or removes it where the new one has that."""
    sync_folder(partial)
    if _exchange(partial, target):
        remove(partial)
    else:
        aside = target.with_name(replaced_name(target.name))
        os.utime(target)  # other machines go by age
        target.rename(aside)
        partial.rename(target)
        remove(aside)
    _sync(target.parent)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to; the file that is there in the end replaces `path`, unless the block
    raises."""
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    # What lies in a folder that is itself half-written goes to the disk with it.
    inside = any(owner_of_partial(part) for part in path.parent.parts)
    if not inside:
        sweep_at_times(path.parent)
    partial = path.with_name(partial_name(path.name))
    try:
        with naming(path.parent):
            yield partial
            if not inside:
                _sync(partial)
            os.replace(partial, path)
            if not inside:
                _sync(path.parent)
    except BaseException:
        remove(partial)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text so that a reader sees the old file or the new one, never a part."""
    atomic_write_bytes(path, text.encode())


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part."""
    with atomic_file(path) as partial:
        partial.write_bytes(content)


def write_through(path: Path, content: bytes) -> None:
    """Writes into a device or a pipe, which a rename would replace. Raises StiltsError where that is not possible."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StiltsError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def naming(folder: Path, said: Path | None = None) -> Iterator[None]:
    """A disk that is full, or a folder that cannot be written, is named: the folder that was asked for (`said`, where
    that is another), not a file with a passing name in it. Raises StiltsError."""
    said = said or folder
    try:
        yield
    except shutil.Error as error:  # its list of what could not be copied: the first such reason stands for all
        for number in re.findall(r"\[Errno (\d+)\]", str(error)):
            if int(number) in _DISK:
                raise StiltsError(f"{said}: cannot be written ({os.strerror(int(number))})") from error
        raise
    except OSError as error:
        inside = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(folder)
        if error.errno not in _DISK or not inside:
            raise
        raise StiltsError(f"{said}: cannot be written ({error.strerror})") from error
    except SafetensorError as error:  # its form of the same
        if match := re.search(r"No space [^\"()]*|File too large|[^\"]*quota[^\"]*", str(error)):
            raise StiltsError(f"{said}: cannot be written ({match[0].strip()})") from error
        raise


def open_to_readers(path: Path) -> None:
    """Give a file, or the files in a folder, the mode that any new file gets here: safetensors writes files that nobody
    but their owner can read."""
    probe = path.with_name(partial_name("mode"))
    probe.touch()
    try:
        mode = stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Wait until a folder is on the disk with all that is in it."""
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not os.path.islink(os.path.join(directory, name)):
                _sync(Path(directory, name))
        _sync(Path(directory))


def read_regular(path: Path, most: int = 2**28) -> bytes:
    """The content of a file of up to `most` bytes. Raises OSError, with the reason, for what is no regular file (a FIFO
    would be waited for) or is larger."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, f"found {kind_of(status.st_mode)}, accepted a regular file", str(path))
        if status.st_size > most:
            raise OSError(0, f"found {status.st_size:,} bytes, accepted up to {most:,}", str(path))
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def kind_of(mode: int) -> str:
    """What is no regular file, in words."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk. Raises OSError where a file cannot be written there after all."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise  # of folders some file systems know nothing
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at one instant; False where system or file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0
