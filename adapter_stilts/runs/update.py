"""Changes of a record that others may change at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter_stilts.errors import StiltsError
from adapter_stilts.locks import lock
from adapter_stilts.runs.record import RECORD, Record, read_record, write_record


def update_record(folder: Path, change: Callable[[Record], Record]) -> Record:
    """Replace the record in a run's folder by what `change` makes of it, read anew: of two that change it at once, each
    sees what the other wrote. Nothing is written where nothing changes. Raises StiltsError for a damaged record."""
    record = read_record(folder)
    if change(record) == record:
        return record
    with locked_record(folder):
        record = read_record(folder)
        changed = change(record)
        if changed != record:
            write_record(folder, changed)
        return changed


@contextmanager
def locked_record(folder: Path) -> Iterator[None]:
    """For the time of the block nobody else changes the record: its file is locked, and it is still the one that has
    the name (a change gives the name to another file)."""
    path = folder / RECORD
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StiltsError(f"{path}: cannot be changed ({error.strerror})") from None
        try:
            lock(handle, path)
            if _is_same(handle, path):
                yield
                return
        finally:
            os.close(handle)


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
