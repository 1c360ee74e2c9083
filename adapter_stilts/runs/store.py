"""Where runs live: one folder a run, named by the content of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.files import naming, partial_folder, publish, read_regular, replaced_folder, swap, sync_folder
from adapter_stilts.owners import partial_name
from adapter_stilts.paths import check_folder, is_file, user_path
from adapter_stilts.progress import say
from adapter_stilts.residue import remove
from adapter_stilts.runs.claims import Claims, Needs, weights_in_use
from adapter_stilts.runs.manifest import MANIFEST, Manifest, check_bundle
from adapter_stilts.runs.record import RECORD, Record, read_record, write_record
from adapter_stilts.runs.update import locked_record
from adapter_stilts.trust import copy_tree, is_name

RUNS_VARIABLE = "ADAPTER_STILTS_RUNS"
BUNDLE = "bundle"
EVALUATIONS = "evaluations"
# Signatures of all texts that a run, and what lies under it, trained on.
TRAINED_ON = "trained_on.safetensors"
Keep = Literal["scores", "adapters", "all"]


def content_hash(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the identity as canonical JSON."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its record."""

    folder: Path
    record: Record

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def bundle(self) -> Path:
        """Folder of the weights; absent where they were not kept."""
        return self.folder / BUNDLE

    @property
    def has_weights(self) -> bool:
        return self.bundle.is_dir()


class RunStore:
    """The runs in one folder: `runs/` in the working directory, `$ADAPTER_STILTS_RUNS`, or what `--runs` says."""

    def __init__(self, folder: Path | str | None = None) -> None:
        chosen = os.environ.get(RUNS_VARIABLE)
        self.folder = user_path(folder or chosen or "runs")
        self.source = "--runs" if folder else f"${RUNS_VARIABLE}" if chosen else "the default folder of runs"

    def check(self) -> None:
        """Raise UsageError where no run can be written into the folder: before hours of training, not after."""
        check_folder(self.folder, self.source)

    def get(self, name: str) -> Run | None:
        """The finished run of exactly that name, or None. Raises StiltsError where its record is that of another."""
        run = self._named(name)
        if run is not None and run.name != name:
            raise StiltsError(f"{run.folder / RECORD}: name: found {run.name}, accepted {name}, as its folder")
        return run

    def _named(self, name: str) -> Run | None:
        folder = self.folder / name
        exists = is_name(name) and os.path.lexists(folder / RECORD)
        return Run(folder, read_record(folder)) if exists else None

    def find(self, run: str | Path) -> Run:
        """The run of that name, of that unique beginning of a name, or in that folder.

        Raises UsageError where there is none or more than one, listing what there is.
        """
        folder = user_path(run)
        if is_file(folder / RECORD):
            return Run(folder, read_record(folder))
        run = str(run)
        exact = self._named(run)
        if exact is not None:
            return exact
        names = [name for name in self.names() if run and name.startswith(run)]
        if len(names) == 1:
            return Run(self.folder / names[0], read_record(self.folder / names[0]))
        if names:
            raise UsageError(f"run {run!r}: found {len(names)} that begin so, accepted: one of {_listed(names)}")
        listed = _listed(self.names()) or "it has none yet"
        raise UsageError(f"run {run!r}: not a folder with a {RECORD}, nor a run in {self.folder} ({listed})")

    def names(self) -> list[str]:
        """Names of all finished runs, sorted."""
        if not self.folder.is_dir():
            if self.folder.exists():
                raise UsageError(f"{self.source}: found {self.folder}, which is no folder, accepted a folder of runs")
            return []
        names = (path.parent.name for path in self.folder.glob(f"*/{RECORD}"))
        # What a killed process leaves half-written begins with a dot.
        return sorted(name for name in names if not name.startswith("."))

    def runs(self) -> Iterator[Run]:
        """All finished runs, by name."""
        return (Run(self.folder / name, read_record(self.folder / name)) for name in self.names())

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """A folder to fill, which becomes the run's when the block ends well and vanishes when it does not.

        A run of that name whose weights were not kept gets the weights, and stays where it is with its evaluations.
        Raises FileExistsError where a whole run has that name by then.
        """
        target = self.folder / name
        with partial_folder(target) as beside:
            yield beside
            try:
                publish(beside, target)
            except FileExistsError:
                if not _give_weights(self.get(name), beside):
                    raise

    def copy(self, run: Run, target: Path) -> Path:
        """Copy a run's folder to `target`, which must not hold anything but a run, which is replaced."""
        check_copy(target)
        if target.resolve() == run.folder.resolve():
            return target
        with weights_in_use(run.folder, run.name), replaced_folder(target) as beside:
            copy_tree(run.folder, beside, ignore=shutil.ignore_patterns(".*"))
        return target


def check_copy(target: Path) -> None:
    """Raise UsageError where a run cannot be copied to `target`: it holds something else, or cannot be written."""
    if target.is_dir() and not (target / RECORD).is_file() and any(target.iterdir()):
        raise UsageError(f"--out {target}: the folder is not empty and holds no run")
    check_folder(target, "--out")


def _give_weights(run: Run | None, folder: Path) -> bool:
    """Move what the folder holds into the run's, if that one has no weights; the bundle comes last, so that a kill in
    between leaves a run without weights. The record is the new one, with the scores of the old one."""
    if run is None or not (folder / BUNDLE).is_dir():
        return False
    with locked_record(run.folder):
        old = read_record(run.folder)
        if run.has_weights:
            return False
        for path in folder.iterdir():
            if path.name not in (RECORD, BUNDLE):
                os.replace(path, run.folder / path.name)
        write_record(run.folder, read_record(folder).model_copy(update={"scores": old.scores}))
        os.replace(folder / BUNDLE, run.bundle)
        sync_folder(run.folder)
    return True


def evaluation_folders(run: Run) -> list[Path]:
    """Folders of a run's evaluations, sorted by name; what is half-written begins with a dot and is none."""
    return sorted(path for path in (run.folder / EVALUATIONS).glob("[!.]*") if path.is_dir())


@contextmanager
def add_evaluation(run: Run, name: str, whole: str) -> Iterator[Path]:
    """A folder to fill, which becomes the run's evaluation of that name when the block ends well. One that another
    process put there meanwhile stays; one without the file `whole` is damaged, and gives way."""
    folder = run.folder / EVALUATIONS / name
    with partial_folder(folder) as beside:
        yield beside
        try:
            publish(beside, folder)
        except FileExistsError:
            if not (folder / whole).is_file():
                swap(beside, folder)
            elif read_regular(folder / whole) != read_regular(beside / whole):
                say(f"{folder}: another process wrote other scores first; they stay")


def keep_of(run: Run, keep: Keep, needs: Needs | None = None) -> bool:
    """Drop what the policy does not keep: `scores` drops every run's weights, `adapters` those of `full` runs. Returns
    whether that is done: weights stay that a living process works on or needs (`needs` are our own).

    Records, scores and predictions always stay.
    """
    if not run.has_weights or keep == "all" or (keep == "adapters" and run.record.method != "full"):
        return True
    with Claims(run.folder.parent).unneeded(run.name, needs) as unneeded:
        if not unneeded:
            return False
        # Renamed first, so that a reader never sees half a bundle.
        doomed = run.folder / partial_name(BUNDLE)
        with naming(run.folder), suppress(FileNotFoundError):  # dropped meanwhile
            run.bundle.rename(doomed)
    remove(doomed)
    return True


class WeightsGone(StiltsError):
    """The weights of a run are not there."""


def checked_bundle(run: Run) -> Path:
    """`bundle_of` after a look at every file. Raises StiltsError for a bundle that is damaged, or of another run than
    the one in whose folder it lies."""
    manifest = check_bundle(bundle_of(run))
    check_manifest(run, manifest)
    return run.bundle


def check_manifest(run: Run, manifest: Manifest) -> None:
    """Raise StiltsError where a bundle is not of the run whose folder it lies in."""
    record = run.record
    expected = (record.task.name, record.task.kind, record.method, record.composition, record.labels, record.word_piece)
    actual = (manifest.task, manifest.kind, manifest.method, manifest.composition, manifest.labels, manifest.word_piece)
    if actual != expected or manifest.backbone.sha256 != record.backbone.sha256:
        raise StiltsError(f"{run.bundle / MANIFEST}: found the weights of another run, accepted those of {run.name}")


def bundle_of(run: Run) -> Path:
    """Folder of a run's weights. Raises WeightsGone where they were not kept."""
    if not run.has_weights:
        raise WeightsGone(f"{run.folder}: the weights of this run were not kept; train it again to have them")
    return run.bundle


def _listed(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
