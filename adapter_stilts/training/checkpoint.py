"""The state of a training that may be cut off at any instant, so that it goes on where it was.

A checkpoint is a folder that appears as a whole: tensors in safetensors, the rest in JSON, each with its checksum. The
one before is kept until the next is there: where the newest is damaged, it is used. There is no pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_folder, atomic_write_text, open_to_readers
from adapter_stilts.model.tensors import read_tensors
from adapter_stilts.owners import partial_name
from adapter_stilts.paths import sha256_file
from adapter_stilts.progress import say
from adapter_stilts.runs.stored import Stored, read_stored
from adapter_stilts.runs.tidy import CHECKPOINTS
from adapter_stilts.training.execution import Execution
from adapter_stilts.training.observers import Observer
from adapter_stilts.training.state import TrainingState
from adapter_stilts.trust import Amount, Sha256, read_json, refuse_links, regular_file

if TYPE_CHECKING:
    from adapter_stilts.runs.store import RunStore

TENSORS, STATE = "state.safetensors", "state.json"
FORMAT = 2
NEWEST_KEPT = 2
# Writing takes no more than this share of the time, however large the state and slow the disk.
LARGEST_SHARE = 0.05


class _State(Stored):
    """What state.json holds: `values` are those of the state that are no tensors."""

    format: Literal[2]
    seconds: Amount
    tensors: Sha256
    values: dict[str, Any]
    sha256: Sha256


class OtherFormat(StiltsError):
    """A whole checkpoint, which another version of this package wrote."""


class Checkpoints(Observer):
    """The checkpoints of one run, in a folder of their own; `every` seconds one is due (0: after every step)."""

    def __init__(self, folder: Path, every: float) -> None:
        self.folder, self.every = folder, every
        self.seconds_before = 0.0
        self.started = self.last = time.perf_counter()
        self.wrote = 0.0

    def due(self, epoch_ended: bool = False) -> bool:
        """Whether it is time to save: after so many seconds, or at the end of an epoch."""
        if self.every == 0:
            return True
        since = time.perf_counter() - self.last
        return (epoch_ended or since >= self.every) and since * LARGEST_SHARE >= self.wrote

    def after_step(self, state: TrainingState) -> None:
        """Save where it is time to."""
        if self.due():
            # A state is saved with the losses of all steps that were taken.
            with state.timed():
                state.take_losses()
            self._save(state)

    def after_epoch(self, state: TrainingState) -> None:
        """Save where it is worth it."""
        if self.due(epoch_ended=True):
            self._save(state)

    def restore(self, state: TrainingState) -> None:
        """Go on from the newest whole checkpoint, if there is one; one that does not fit is dropped."""
        stored = self.load()
        if stored is None:
            return
        try:
            state.load_state(stored)
        except (StiltsError, KeyError, RuntimeError, TypeError, ValueError) as error:
            say(f"{self.folder}: {error}; the checkpoint is of another training, which starts anew")
            self.remove()

    def _save(self, state: TrainingState) -> None:
        self.save(state.state(), state.fitted.steps, len(state.fitted.history))

    def save(self, state: Mapping[str, Any], steps: int, epochs: int) -> None:
        """Write the state after so many steps and scored epochs, whole or not at all; drop all but the last two."""
        begun = time.perf_counter()
        seconds = self.seconds_before + begun - self.started
        tensors = {name: value.contiguous().cpu() for name, value in state.items() if isinstance(value, Tensor)}
        values = {name: value for name, value in state.items() if name not in tensors}
        # The last step of an epoch has two: before the epoch is scored, and after.
        target = self.folder / f"step-{steps:09d}-{epochs:04d}"
        shutil.rmtree(target, ignore_errors=True)
        # Without claims two processes may train one run. Either's checkpoint of a step will do. The one that is done
        # removes the folder of them all, in which the other may just be writing: then none is written this time.
        with suppress(FileExistsError, FileNotFoundError), atomic_folder(target) as beside, _still_there(beside):
            save_file(tensors, beside / TENSORS)
            sha256 = sha256_file(beside / TENSORS)
            content = {"format": FORMAT, "seconds": seconds, "tensors": sha256, "values": values}
            atomic_write_text(beside / STATE, json.dumps({**content, "sha256": _content_sha256(content)}))
            open_to_readers(beside)
        for old in self._folders()[:-NEWEST_KEPT]:
            _drop(old)
        self.last = time.perf_counter()
        self.wrote = self.last - begun

    def load(self) -> dict[str, Any] | None:
        """The state in the newest checkpoint that is whole; None where there is none. A damaged one is said and
        removed; where the newest is of another version of this package, all are.

        Raises StiltsError where the folder of checkpoints, or one in it, is a link."""
        self.refuse_links()
        for folder in reversed(self._folders()):
            try:
                seconds, state = _read(folder)
            except OtherFormat as error:
                say(f"{error}; the training starts anew")
                self.remove()
                return None
            except (OSError, StiltsError) as error:
                if folder.is_dir():
                    say(f"{error}: this checkpoint is damaged, the one before is used")
                    _drop(folder)
                else:
                    say(f"{folder}: another process has removed this checkpoint: it went on with this run, or ended it")
                continue
            self.seconds_before = seconds
            return state
        return None

    def refuse_links(self) -> None:
        """Raise StiltsError where writing or removing here would happen elsewhere."""
        refuse_links(self.folder, self.folder.parent.parent)
        for folder in self._folders():
            refuse_links(folder, self.folder)

    def remove(self) -> None:
        """The run is finished, or must start anew."""
        self.refuse_links()
        self.seconds_before = 0.0
        for folder in self._folders():
            _drop(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other runs have checkpoints there
            self.folder.parent.rmdir()

    def _folders(self) -> list[Path]:
        # What a killed process leaves half-written begins with a dot.
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []


@contextmanager
def _still_there(folder: Path) -> Iterator[None]:
    """Whatever fails because the folder is gone (safetensors calls it otherwise) is a FileNotFoundError."""
    try:
        yield
    except (OSError, SafetensorError, StiltsError) as error:
        if folder.is_dir():
            raise
        raise FileNotFoundError(errno.ENOENT, "removed while it was written", str(folder)) from error


def checkpoints_of(name: str, store: RunStore, execution: Execution) -> Checkpoints | None:
    """Where the run of that name writes its checkpoints; None where it writes none."""
    every = execution.checkpoint_seconds
    return None if every is None else Checkpoints(store.folder / CHECKPOINTS / name, every)


def _content_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _drop(folder: Path) -> None:
    """A checkpoint goes as it came, as a whole: another process never reads half of it, and takes it for damaged."""
    aside = folder.with_name(partial_name(folder.name))
    with suppress(OSError):
        folder.rename(aside)
    for path in (folder, aside):
        shutil.rmtree(path, ignore_errors=True)


def _read(folder: Path) -> tuple[float, dict[str, Any]]:
    """The seconds that the run had taken, and the state. Raises StiltsError where a file is missing, or its checksum
    does not agree, OtherFormat where another version wrote it."""
    path, tensors = folder / STATE, folder / TENSORS
    content = read_json(path)
    if content.pop("sha256", None) != _content_sha256(content):
        raise StiltsError(f"{path}: found another checksum")
    if content.get("format") != FORMAT:
        raise OtherFormat(f"{path}: format: found {str(content.get('format'))[:80]}, accepted {FORMAT}")
    stored = read_stored(path, _State)
    if sha256_file(regular_file(tensors)) != stored.tensors:
        raise StiltsError(f"{tensors}: found another checksum")
    return stored.seconds, {**stored.values, **read_tensors(tensors)}
