"""The rows of a task, one language and split at a time, from a mirror folder, the Hub, or local files.

A mirror folder and the Hub are read the same way: the `configs` in the repository's README say which files a config's
split has (https://huggingface.co/docs/hub/datasets-manual-configuration); without them, the layouts that dataset
repositories and `refs/convert/parquet` use. No loading script is run.
"""

import difflib
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.paths import remembered_sha256, resolve_repository
from adapter_stilts.schema import LanguageSource, Task
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.readers import (
    READERS,
    parquet_label_names,
    readme_configs,
    refuse_unknown_labels,
    shorten_labels,
    whole_sentences,
)
from adapter_stilts.trust import matching_files, regular_file

DEVELOPMENT_SEED = 1
SPLITS = ("train", "validation", "test")


class MissingData(StiltsError):
    """This language or split is not in the repository or mirror; the message names what was looked for."""


@dataclass(frozen=True)
class Split:
    """The rows of one language and split.

    columns: tagging `tokens` and `labels` (a list of strings a sentence), classification `text`, `label` and, where the
        task has it, `text_pair`, masked_lm `text` (a string an example). Sentences without tokens are left out.
    label_names: those of the ClassLabel column, in its order; None where the column holds plain strings or there is
        none.
    sha256: of the bytes of the files read, in the order of their names, and of the development share and part, if any.
    source: repository@revision, config and split (no revision for a mirror that records none), or paths.
    """

    language: str
    split: str
    columns: dict[str, list[Any]]
    label_names: tuple[str, ...] | None
    sha256: str
    source: str
    files: tuple[str, ...]
    revision: str | None


@dataclass(frozen=True)
class _Located:
    """The files of a split, sorted by name, before any row is read."""

    source: LanguageSource
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    revision: str | None
    described: str


def load_split(task: Task, language: str, split: str, mirror: Path | None) -> Split:
    """The rows of the task's `split` (train, validation, test) in `language`, labels as names.

    With `development_share`, train and validation are two parts of the repository's train split, drawn with a fixed
    seed. Raises `MissingData` where there is no such language or split, `DataError` for rows that cannot be read as the
    task says, `UsageError` for a repository that neither the mirror nor the Hub can have.
    """
    located = _locate(task, language, split, mirror)
    names = _class_names(task, located)
    if task.labels is None:
        _refuse_other_names(task, located, names, mirror)
    accepted = task.labels if isinstance(task.labels, tuple) else names if task.labels is None else None
    columns: dict[str, list[Any]] = {column: [] for column in located.source.columns or {}}
    for path in located.paths:
        for column, values in _take_rows(task, located.source, path, accepted).items():
            columns[column].extend(values)
    described = located.described
    if _is_part(task, split):
        columns, described = _development_part(task, split, columns, described)
    sha256 = _identity(task, located, split)
    return Split(language, split, columns, names, sha256, described, located.names, located.revision)


def data_identity(task: Task, language: str, split: str, mirror: Path | None) -> str:
    """`Split.sha256` without reading rows; the hash of an unchanged file is remembered."""
    return _identity(task, _locate(task, language, split, mirror), split)


def data_place(task: Task, language: str, split: str, mirror: Path | None) -> tuple[str, str | None]:
    """Where a split's files are (repository, config and split, or paths), and the dataset's revision where known."""
    located = _locate(task, language, split, mirror)
    return located.described, located.revision


# --- which files --------------------------------------------------------------------------------------------------


def _source(task: Task, language: str) -> LanguageSource:
    """What the YAML says of the language, over what it says of all."""
    own = task.data.languages.get(language)
    if own is None:
        accepted = ", ".join(task.data.languages)
        raise UsageError(f"{task.name}: found no language '{language}' in {task.path}, accepted {accepted}")
    shared = {key: getattr(task.data, key) for key in ("format", "splits", "columns", "filter", "exclude")}
    if own.dataset is None:
        shared |= {"dataset": task.data.dataset, "revision": task.data.revision}
    mine = {key: getattr(own, key) for key in own.model_fields_set}
    return LanguageSource.model_construct(**(shared | mine))


def _locate(task: Task, language: str, split: str, mirror: Path | None) -> _Located:
    if split not in SPLITS:
        raise UsageError(f"{task.name}: found no split '{split}', accepted {', '.join(SPLITS)}")
    source = _source(task, language)
    wanted = "train" if _is_part(task, split) else split
    if source.format is not None:
        return _locate_local(task, source, language, wanted)
    name = (source.splits or {}).get(wanted)  # type: ignore[call-overload]
    if name is None:
        raise MissingData(f"{task.name}: {language}: found no {wanted} split in {task.path}")
    dataset, config = str(source.dataset), str(source.config)
    found = resolve_repository(dataset, mirror)
    if isinstance(found, Path):
        folder, commit, at = found, None, ""
        patterns = _patterns(found, config, name, f"{task.name}: {language}")
    else:
        readme = _download(dataset, source.revision, mirror, ("README.md",))
        patterns = _patterns(readme, config, name, f"{task.name}: {language}")
        folder = _download(dataset, source.revision, mirror, patterns)
        commit, at = folder.name, f"@{folder.name}"
    readme = folder / "README.md"
    paths = sorted({path for pattern in patterns for path in matching_files(folder, pattern.lstrip("/"), readme)})
    if not paths:
        promised = commit is not None and (folder / "README.md").is_file()
        error = DataError if promised else MissingData  # offline, the Hub's cache may lack what the README lists
        raise error(f"{task.name}: {language}: found no file {' or '.join(patterns)} in {folder}, accepted one or more")
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return _Located(source, names, tuple(paths), commit, f"{dataset}{at} {config} {name}")


def _locate_local(task: Task, source: LanguageSource, language: str, split: str) -> _Located:
    name = getattr(source, split)
    if name is None:
        raise MissingData(f"{task.name}: {language}: found no path for the {split} split in {task.path}")
    path = task.file(name)
    if not path.exists():
        raise MissingData(f"{task.name}: {language}: found no file {path}")
    return _Located(source, (name,), (regular_file(path),), None, name)


def _patterns(folder: Path, config: str, split: str, who: str) -> tuple[str, ...]:
    """Which files of the repository are the config's split."""
    readme = folder / "README.md"
    configs = readme_configs(readme, readme.stat().st_mtime_ns) if readme.is_file() else {}
    if not configs:
        plain = (f"{config}/{split}-*.parquet", f"{config}/{split}/*.parquet")
        return (*plain, f"data/{split}-*.parquet", f"{split}-*.parquet") if config == "default" else plain
    if config not in configs:
        near = difflib.get_close_matches(config, configs, n=1)
        hint = f"the nearest is '{near[0]}'" if near else f"it has {', '.join(configs)}"
        raise MissingData(f"{who}: found no config '{config}' in {folder} ({hint})")
    if split not in configs[config]:
        has = ", ".join(configs[config])
        raise MissingData(f"{who}: found no split '{split}' of config '{config}' in {folder} (it has {has})")
    return tuple(configs[config][split])


def _download(dataset: str, revision: str | None, mirror: Path | None, patterns: tuple[str, ...]) -> Path:
    """The snapshot folder of the repository in the Hub's cache, with the files that match."""
    tried = f"no folder {mirror / dataset}" if mirror is not None else "no mirror folder"
    if dataset.startswith("offline/"):
        raise UsageError(
            f"{dataset}: found {tried}, accepted --hub-mirror DIR with DIR/{dataset}: it is not on the Hub"
        )
    try:
        return _snapshot(dataset, revision, patterns)
    except (OSError, HFValidationError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise DataError(
            f"{dataset}: found {tried}, and the Hub gave {type(error).__name__} ({reason}); "
            f"accepted --hub-mirror DIR with DIR/{dataset}, or the Hub's {dataset} at revision {revision or 'main'}"
        ) from None


@lru_cache(maxsize=1024)
def _snapshot(dataset: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    return Path(
        snapshot_download(dataset, repo_type="dataset", revision=revision, allow_patterns=list(patterns), max_workers=4)
    )


# --- what they say ------------------------------------------------------------------------------------------------


def _identity(task: Task, located: _Located, split: str) -> str:
    """A hash of the files' bytes, in the order of their names, and of the development share where it cuts them."""
    part = [task.development_share, DEVELOPMENT_SEED, split] if _is_part(task, split) else None
    digest = hashlib.sha256(json.dumps(part).encode())
    for path in located.paths:
        digest.update(bytes.fromhex(remembered_sha256(path)))
    return digest.hexdigest()


def _take_rows(
    task: Task, source: LanguageSource, path: Path, accepted: tuple[str, ...] | None
) -> dict[str, list[Any]]:
    """The file's rows under our column names, filtered, labels shortened and checked."""
    columns, keep, drop = source.columns or {}, source.filter or {}, source.exclude or {}
    rows = READERS[_format(source, path)](path, list(dict.fromkeys([*columns.values(), *keep, *drop])))
    rules = [(rows.columns[name], {str(value) for value in values}, True) for name, values in keep.items()]
    rules += [(rows.columns[name], {str(value) for value in values}, False) for name, values in drop.items()]
    chosen = [row for row in range(len(rows)) if all((column[row] in values) == want for column, values, want in rules)]
    if find_kind(task.kind).per_word:
        chosen = whole_sentences(rows, columns["tokens"], columns["labels"], chosen)
    taken = {ours: [rows.columns[name][row] for row in chosen] for ours, name in columns.items()}
    key = find_kind(task.kind).labels_column
    if key is not None:
        taken[key] = shorten_labels(taken[key], task.label_until)
        if accepted is not None:
            refuse_unknown_labels(rows, chosen, taken[key], accepted)
    return taken


def _format(source: LanguageSource, path: Path) -> str:
    if source.format is not None:
        return source.format
    suffix = path.suffix.removeprefix(".")
    if suffix not in ("parquet", "jsonl", "tsv"):
        raise DataError(f"{path}: found a .{suffix} file in a repository, accepted .parquet, .jsonl, .tsv")
    return suffix


def _class_names(task: Task, located: _Located) -> tuple[str, ...] | None:
    """The names of the ClassLabel column, the same in all files of the split; None for a kind without labels."""
    key = find_kind(task.kind).labels_column
    if key is None:
        return None
    source, path = located.source, located.paths[0]
    column = str((source.columns or {})[key])
    parquet = [file for file in located.paths if _format(source, file) == "parquet"]
    names = {parquet_label_names(file, column) for file in parquet} or {None}
    if len(names) > 1:
        raise DataError(f"{path.parent}: {column}: found files with different label names, accepted the same in all")
    found = names.pop()
    if found is None and task.labels is None:
        raise DataError(f"{path}: {column}: found no ClassLabel, accepted one, or `labels` in {task.path}")
    return found


def _refuse_other_names(task: Task, located: _Located, names: tuple[str, ...] | None, mirror: Path | None) -> None:
    """Without a list in the YAML, every split must declare the names of the train split (a label's number is not its
    meaning where they differ)."""
    try:
        train = _locate(task, task.train_language, "train", mirror)
    except MissingData:
        return
    expected = _class_names(task, train)
    if names != expected:
        found, accepted = ", ".join(names or ()), ", ".join(expected or ())
        raise DataError(f"{located.paths[0]}: found the label names {found}, accepted those of train: {accepted}")


def _is_part(task: Task, split: str) -> bool:
    return task.development_share is not None and split in ("train", "validation")


def _development_part(
    task: Task, split: str, columns: dict[str, list[Any]], described: str
) -> tuple[dict[str, list[Any]], str]:
    """The part of the train rows that is ours: a fixed draw, the rows in their order."""
    total = len(next(iter(columns.values())))
    share = task.development_share or 0.0
    count = max(1, round(total * share))
    if count >= total:
        raise DataError(f"{described}: found {total} rows, accepted enough for a development_share of {share}")
    drawn = np.random.default_rng(DEVELOPMENT_SEED).permutation(total)
    rows = sorted(drawn[:count] if split == "validation" else drawn[count:])
    part = {column: [values[row] for row in rows] for column, values in columns.items()}
    what = "the development share" if split == "validation" else "all but the development share"
    return part, f"{described} ({what}: {len(rows)} of {total} rows, share {share}, seed {DEVELOPMENT_SEED})"
