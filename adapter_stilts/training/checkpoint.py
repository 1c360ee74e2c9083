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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from adapter_stilts.engine.step import Step
from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_folder, atomic_write_text, open_to_readers
from adapter_stilts.model.tensors import read_tensors
from adapter_stilts.paths import sha256_file
from adapter_stilts.progress import say
from adapter_stilts.runs.record import EpochScore
from adapter_stilts.runs.stored import Stored, read_stored
from adapter_stilts.runs.tidy import CHECKPOINTS
from adapter_stilts.training.execution import Execution
from adapter_stilts.trust import Amount, Count, Percent, Sha256, read_json, refuse_links, regular_file

if TYPE_CHECKING:
    from adapter_stilts.runs.store import RunStore
    from adapter_stilts.training.trainer import Best, Fitted

TENSORS, STATE = "state.safetensors", "state.json"
FORMAT = 1
KEPT = 2
# Writing takes no more than this share of the time, however large the state and slow the disk.
LARGEST_SHARE = 0.05
# Fields of `Fitted` that a training goes on with.
_FITTED = ("selected_epoch", "development", "steps", "tokens", "train_seconds", "losses")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class _State(Stored):
    """What state.json holds."""

    format: Literal[1]
    seconds: Amount
    tensors: Sha256
    steps: Count
    selected_epoch: Count
    development: Percent
    tokens: Count
    train_seconds: Amount
    losses: tuple[float, ...]
    history: tuple[EpochScore, ...]
    best: float | None = None
    sha256: Sha256


class Checkpoints:
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

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and drop all but the last two; `state` holds `steps`, `history`."""
        begun = time.perf_counter()
        seconds = self.seconds_before + begun - self.started
        # The last step of an epoch has two: before the epoch is scored, and after.
        target = self.folder / f"step-{state['steps']:09d}-{len(state['history']):04d}"
        shutil.rmtree(target, ignore_errors=True)
        # Without claims two processes may train one run. The other's checkpoint of a step is as good as ours. When it
        # is done it removes the folder of them all, in which we may just be writing: then none is written this time.
        with suppress(FileExistsError, FileNotFoundError), atomic_folder(target) as beside, _still_there(beside):
            save_file({name: own.contiguous().cpu() for name, own in tensors.items()}, beside / TENSORS)
            content = {"format": FORMAT, "seconds": seconds, "tensors": sha256_file(beside / TENSORS), **state}
            atomic_write_text(beside / STATE, json.dumps({**content, "sha256": _content_sha256(content)}))
            open_to_readers(beside)
        for old in self._folders()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self.last = time.perf_counter()
        self.wrote = self.last - begun

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none. A damaged one is said and removed.

        Raises StiltsError where the folder of checkpoints, or one in it, is a link."""
        self.refuse_links()
        for folder in reversed(self._folders()):
            try:
                found = _read(folder)
            except StiltsError as error:
                say(f"{error}: this checkpoint is damaged, the one before is used")
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self.seconds_before = float(found.state["seconds"])
            return found
        return None

    def refuse_links(self) -> None:
        """Raise StiltsError where writing or removing here would happen elsewhere."""
        refuse_links(self.folder, self.folder.parent.parent)
        for folder in self._folders():
            refuse_links(folder, self.folder)

    def remove(self) -> None:
        """The run is finished, or must start anew."""
        self.refuse_links()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other runs have theirs there
            self.folder.parent.rmdir()

    def _folders(self) -> list[Path]:
        # What a killed process leaves half-written begins with a dot.
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []


@contextmanager
def _still_there(folder: Path) -> Iterator[None]:
    """Whatever fails because the folder is gone (safetensors has words of its own for it) is a FileNotFoundError."""
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


def _read(folder: Path) -> Checkpoint:
    """Raises StiltsError where a file is missing, its checksum does not agree, or a number cannot be one of a
    training's."""
    path, tensors = folder / STATE, folder / TENSORS
    state = read_json(path)
    if state.pop("sha256", None) != _content_sha256(state):
        raise StiltsError(f"{path}: found another checksum")
    read_stored(path, _State)
    if sha256_file(regular_file(tensors)) != state["tensors"]:
        raise StiltsError(f"{tensors}: found another checksum")
    return Checkpoint(read_tensors(tensors), state)


class Saver:
    """Takes the state of one training down, and puts it back: weights and optimizer (`step`), the best weights so far
    (`best`, where the run keeps those), scores and counts (`fitted`), random states. Data and schedule follow from the
    number of steps."""

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        fitted: Fitted,
        step: Step,
        best: Best,
        keeps_best: bool,
        device: torch.device,
    ) -> None:
        self.checkpoints, self.fitted, self.step, self.device = checkpoints, fitted, step, device
        self.best = best if keeps_best else None

    def due(self) -> bool:
        return self.checkpoints is not None and self.checkpoints.due()

    def end_epoch(self) -> None:
        """Save where it is worth it."""
        if self.checkpoints is not None and self.checkpoints.due(epoch_ended=True):
            self.save()

    def save(self) -> None:
        """Write a checkpoint; all losses of the steps taken must stand in `fitted`."""
        assert self.checkpoints is not None
        tensors = {f"step.{name}": own for name, own in self.step.state().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        state: dict[str, Any] = {name: getattr(self.fitted, name) for name in _FITTED}
        state["history"] = [own.model_dump() for own in self.fitted.history]
        if self.best is not None and self.fitted.history:
            state["best"] = self.best.score
            tensors |= {f"best.{place}": own for place, own in enumerate(self.best.copies)}
        self.checkpoints.save(tensors, state)

    def restore(self) -> None:
        """Go on from the newest whole checkpoint, if there is one; one that does not fit is dropped."""
        found = self.checkpoints.load() if self.checkpoints is not None else None
        if found is None or self.checkpoints is None:
            return
        try:
            self._check(found)
            self.step.load_state(_under("step.", found.tensors))
        except (StiltsError, KeyError, RuntimeError, TypeError, ValueError) as error:
            say(f"{self.checkpoints.folder}: {error}; the checkpoint is of another training, which starts anew")
            self.checkpoints.remove()
            return
        if self.best is not None and found.state.get("best") is not None:
            self.best.score = found.state["best"]
            for place, own in enumerate(self.best.copies):
                own.copy_(found.tensors[f"best.{place}"])
        for name in _FITTED:
            setattr(self.fitted, name, found.state[name])
        self.fitted.history = [EpochScore.model_validate(own) for own in found.state["history"]]
        torch.set_rng_state(found.tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in found.tensors:
            torch.cuda.set_rng_state(found.tensors["random.cuda"], self.device)

    def _check(self, found: Checkpoint) -> None:
        """Raise StiltsError for tensors that are not those of this training, before anything has changed."""
        shapes: dict[str, Any] = {"random.cpu": torch.get_rng_state()}
        if self.best is not None and found.state.get("best") is not None:
            shapes |= {f"best.{place}": own for place, own in enumerate(self.best.copies)}
        for name, own in shapes.items():
            there = found.tensors.get(name)
            if there is None or there.shape != own.shape or there.dtype != own.dtype:
                raise StiltsError(f"{name}: found none of shape {tuple(own.shape)} and type {own.dtype}")
        torch.Generator().set_state(found.tensors["random.cpu"])  # raises RuntimeError for what is no state
        if len(found.tensors["step.history"]) != found.state["steps"]:
            raise StiltsError(f"steps: found {found.state['steps']}, accepted the number of losses")


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): own for name, own in tensors.items() if name.startswith(prefix)}
