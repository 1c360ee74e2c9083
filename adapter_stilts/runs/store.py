"""Where runs live: one folder a run, named by the content of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.paths import atomic_folder
from adapter_stilts.runs.bundle import MANIFEST, Manifest, check_bundle
from adapter_stilts.runs.record import RECORD, Record, read_record, write_record
from adapter_stilts.trust import copy_tree, is_name

BUNDLE = "bundle"
EVALUATIONS = "evaluations"
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
        self.folder = Path(folder or os.environ.get("ADAPTER_STILTS_RUNS") or "runs")

    def get(self, name: str) -> Run | None:
        """The finished run of exactly that name, or None. Raises StiltsError where its record is that of another."""
        run = self._named(name)
        if run is not None and run.name != name:
            raise StiltsError(f"{run.folder / RECORD}: name: found {run.name}, accepted {name}, as its folder")
        return run

    def _named(self, name: str) -> Run | None:
        folder = self.folder / name
        return Run(folder, read_record(folder)) if is_name(name) and (folder / RECORD).is_file() else None

    def find(self, run: str) -> Run:
        """The run of that name, of that unique beginning of a name, or in that folder.

        Raises UsageError where there is none or more than one, listing what there is.
        """
        folder = Path(run)
        if (folder / RECORD).is_file():
            return Run(folder, read_record(folder))
        exact = self._named(run)
        if exact is not None:
            return exact
        names = [name for name in self.names() if run and name.startswith(run)]
        if len(names) == 1:
            return Run(self.folder / names[0], read_record(self.folder / names[0]))
        if names:
            raise UsageError(f"run {run!r}: found {len(names)} that begin so, accepted: one of {_listed(names)}")
        there = _listed(self.names()) or "it has none yet"
        raise UsageError(f"run {run!r}: not a folder with a {RECORD}, nor a run in {self.folder} ({there})")

    def names(self) -> list[str]:
        """Names of all finished runs, sorted."""
        if not self.folder.is_dir():
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

        A run of that name whose weights were not kept gives way, and its evaluations stay. Raises FileExistsError where
        a whole run has that name by then.
        """
        target = self.folder / name
        with ExitStack() as stack:
            old = self.get(name)
            bare = old is not None and not old.has_weights
            beside = stack.enter_context(_replacing(target) if bare else atomic_folder(target))
            yield beside
            if bare and (old := self.get(name)) is not None:
                _keep_evaluations(old, beside)

    def copy(self, run: Run, target: Path) -> Path:
        """Copy a run's folder to `target`, which must not hold anything but a run, which is replaced."""
        if target.exists() and not (target / RECORD).is_file() and any(target.iterdir()):
            raise UsageError(f"--out {target}: the folder is not empty and holds no run")
        if target.resolve() == run.folder.resolve():
            return target
        with _replacing(target) as beside:
            copy_tree(run.folder, beside)
        return target


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """`atomic_folder`, but what `target` holds gives way once the block has ended well."""
    aside = target.with_name(f".{target.name}-replaced")
    with atomic_folder(target) as beside:
        yield beside
        shutil.rmtree(aside, ignore_errors=True)
        if target.exists():
            target.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _keep_evaluations(old: Run, folder: Path) -> None:
    """Put a run's evaluations, and the scores in its record, into the folder of the same run trained again."""
    if (old.folder / EVALUATIONS).is_dir():
        copy_tree(old.folder / EVALUATIONS, folder / EVALUATIONS)
    write_record(folder, read_record(folder).model_copy(update={"scores": old.record.scores}))


def keep_of(run: Run, keep: Keep) -> None:
    """Drop what the policy does not keep: `scores` drops every run's weights, `adapters` those of `full` runs.

    Records, scores and predictions always stay.
    """
    if run.has_weights and (keep == "scores" or (keep == "adapters" and run.record.method == "full")):
        # Renamed first, so that a reader never sees half a bundle.
        doomed = run.folder / f".{BUNDLE}-dropped"
        shutil.rmtree(doomed, ignore_errors=True)
        run.bundle.rename(doomed)
        shutil.rmtree(doomed)


def checked_bundle(run: Run) -> Path:
    """`bundle_of` after a look at every file. Raises StiltsError for a bundle that is damaged, or of another run than
    the one in whose folder it lies."""
    manifest = check_bundle(bundle_of(run))
    check_manifest(run, manifest)
    return run.bundle


def check_manifest(run: Run, manifest: Manifest) -> None:
    """Raise StiltsError where a bundle is not of the run whose folder it lies in."""
    record = run.record
    theirs = (record.task.name, record.task.kind, record.method, record.composition, record.labels, record.word_piece)
    found = (manifest.task, manifest.kind, manifest.method, manifest.composition, manifest.labels, manifest.word_piece)
    if found != theirs or manifest.backbone.sha256 != record.backbone.sha256:
        raise StiltsError(f"{run.bundle / MANIFEST}: found the weights of another run, accepted those of {run.name}")


def bundle_of(run: Run) -> Path:
    """Folder of a run's weights. Raises StiltsError where they were not kept."""
    if not run.has_weights:
        raise StiltsError(f"{run.folder}: the weights of this run were not kept; train it again to have them")
    return run.bundle


def _listed(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
