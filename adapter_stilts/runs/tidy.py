"""What kills leave in a store, put right by the next command that works there: half-written folders and claims of dead
processes, runs that were being replaced, checkpoints of finished runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from adapter_stilts.errors import StiltsError
from adapter_stilts.files import REPLACED
from adapter_stilts.owners import Owner, owner_of_partial
from adapter_stilts.residue import is_time_for, remove, sweep
from adapter_stilts.runs.claims import CLAIMS, Claims
from adapter_stilts.runs.record import RECORD, read_record
from adapter_stilts.runs.store import BUNDLE, EVALUATIONS, RunStore
from adapter_stilts.runs.update import update_record
from adapter_stilts.trust import check_tree, refuse_links

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
        names = [own.name for own in entries if own.is_dir(follow_symlinks=False)]
    for name in names:
        if name.startswith(".") and name.endswith((REPLACED, _OLD_REPLACED)):
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
        if (store.folder / folder.name / BUNDLE).is_dir() and not claims.held(folder.name):
            remove(folder)
    with suppress(OSError):  # others have theirs there
        (store.folder / CHECKPOINTS).rmdir()


def _put_back(aside: Path) -> None:
    """A run that was being replaced: under its name again where there is none, else its evaluations under the new one,
    and the scores in its record."""
    name, owner = _replaced(aside.name)
    target = aside.with_name(name)
    if owner is not None and (not owner.is_here or owner.lives):
        return
    with suppress(OSError, StiltsError):
        check_tree(aside)
        if not os.path.lexists(target):
            aside.rename(target)
            return
        check_tree(target)
        for old in (aside / EVALUATIONS).glob("[!.]*"):
            new = target / EVALUATIONS / old.name
            new.parent.mkdir(exist_ok=True)
            if not new.exists():
                old.rename(new)
        if (aside / RECORD).is_file():
            scores = read_record(aside).scores
            update_record(target, lambda new: new.model_copy(update={"scores": {**scores, **new.scores}}))
        remove(aside)


def _replaced(name: str) -> tuple[str, Owner | None]:
    """The name that a folder had before it gave way, and who took it away."""
    if name.endswith(_OLD_REPLACED):
        return name[1:].removesuffix(_OLD_REPLACED), None
    whole = name.removesuffix(REPLACED)
    return whole[1:].rpartition(".")[0], owner_of_partial(f"{whole}.partial")
