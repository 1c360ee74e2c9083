"""What kills leave in a store, put right by the next command that works there: half-written folders and claims of dead
processes, runs that were being replaced, checkpoints of finished runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from adapter_stilts.errors import StiltsError
from adapter_stilts.residue import is_time_for, remove, sweep
from adapter_stilts.runs.claims import CLAIMS, Claims
from adapter_stilts.runs.record import RECORD, read_record
from adapter_stilts.runs.store import BUNDLE, EVALUATIONS, TRAINED_ON, RunStore
from adapter_stilts.runs.update import update_record
from adapter_stilts.trust import check_tree, is_name, refuse_links

CHECKPOINTS = ".checkpoints"
FAILURES = ".failures"
# Names that an earlier version gave.
_OLD_REPLACED, _OLD_DROPPED = "-replaced", f".{BUNDLE}-dropped"


def tidy(store: RunStore) -> None:
    """Put right what kills left in a store; does nothing where this process did so a moment ago. Raises StiltsError
    where one of the store's folders besides runs is a link: what lies behind it is not the store's."""
    if not store.folder.is_dir() or not is_time_for(store.folder):
        return
    for name in (CLAIMS, CHECKPOINTS, FAILURES):
        refuse_links(store.folder / name, store.folder)
    sweep(store.folder)
    with os.scandir(store.folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        if name.startswith(".") and name.endswith(_OLD_REPLACED):
            _put_back(store.folder / name)
        elif not name.startswith("."):
            tidy_run(store.folder / name)
    sweep(store.folder / FAILURES)
    claims = Claims(store.folder)
    if claims.folder.is_dir():
        with suppress(OSError, StiltsError):  # a store that this process may only read
            claims.clear()
    _tidy_checkpoints(store, claims)


def tidy_run(folder: Path) -> None:
    """Put right what kills left in a run's folder."""
    sweep(folder)
    if not (folder / EVALUATIONS).is_symlink():
        sweep(folder / EVALUATIONS)
    if (folder / _OLD_DROPPED).is_dir():
        remove(folder / _OLD_DROPPED)


def _tidy_checkpoints(store: RunStore, claims: Claims) -> None:
    """Those of a finished run are of no use, unless it is being trained again for its weights."""
    for folder in (store.folder / CHECKPOINTS).glob("[!.]*"):
        refuse_links(folder, store.folder)
        sweep(folder)
        if _is_finished(store.folder / folder.name, folder) and not claims.held(folder.name):
            remove(folder)
    with suppress(OSError):  # others have theirs there
        (store.folder / CHECKPOINTS).rmdir()


def _is_finished(run: Path, checkpoints: Path) -> bool:
    """Whether a run has what its checkpoints are for. One without weights has, unless they are younger than the run:
    then it was being trained again for its weights, and can go on."""
    if not (run / RECORD).is_file():
        return False
    if (run / BUNDLE).is_dir():
        return True
    # Written at the end of a training, and not changed by evaluations, as the record is.
    end = run / TRAINED_ON if (run / TRAINED_ON).is_file() else run / RECORD
    try:
        # Of files alone: removing them touches their folders.
        written = [path.lstat().st_mtime_ns for path in checkpoints.rglob("*") if not path.is_dir()]
        return max(written, default=0) <= end.stat().st_mtime_ns
    except OSError:
        return False


def _put_back(aside: Path) -> None:
    """A run that an earlier version was replacing: under its name again where there is none, else its evaluations under
    the new one, and the scores in its record."""
    name = aside.name[1:].removesuffix(_OLD_REPLACED)
    if not is_name(name) or not (aside / RECORD).is_file():
        return
    target = aside.with_name(name)
    with suppress(OSError, StiltsError):
        check_tree(aside)
        record = read_record(aside)
        if record.name != name:  # somebody's own folder
            return
        if not os.path.lexists(target):
            aside.rename(target)
            return
        check_tree(target)
        for old in (aside / EVALUATIONS).glob("[!.]*"):
            new = target / EVALUATIONS / old.name
            new.parent.mkdir(exist_ok=True)
            if not new.exists():
                old.rename(new)
        update_record(target, lambda new: new.model_copy(update={"scores": {**record.scores, **new.scores}}))
        remove(aside)
