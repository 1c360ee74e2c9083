"""Which files hold a task's rows in a language and split: local ones, or those of a dataset repository.

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

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.paths import remembered_sha256, resolve_repository
from adapter_stilts.schema import LanguageSource, Task
from adapter_stilts.tasks.dataset_card import readme_configs
from adapter_stilts.trust import matching_files, regular_file

DEVELOPMENT_SHARE_SEED = 1
SPLITS = ("train", "validation", "test")


class MissingData(StiltsError):
    """This language or split is not in the repository or mirror; the message names what was looked for."""


@dataclass(frozen=True)
class Located:
    """The files of a split, sorted by name, before any row is read."""

    source: LanguageSource
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    revision: str | None
    described: str


def _source(task: Task, language: str) -> LanguageSource:
    """What the YAML says of the language, over what it says of all."""
    given = task.data.languages.get(language)
    if given is None:
        accepted = ", ".join(task.data.languages)
        raise UsageError(f"{task.name}: found no language '{language}' in {task.path}, accepted {accepted}")
    shared = {key: getattr(task.data, key) for key in ("format", "splits", "columns", "filter", "exclude")}
    if given.dataset is None:
        shared |= {"dataset": task.data.dataset, "revision": task.data.revision}
    stated = {key: getattr(given, key) for key in given.model_fields_set}
    return LanguageSource.model_construct(**(shared | stated))


def locate(task: Task, language: str, split: str, mirror: Path | None) -> Located:
    if split not in SPLITS:
        raise UsageError(f"{task.name}: found no split '{split}', accepted {', '.join(SPLITS)}")
    source = _source(task, language)
    wanted = "train" if is_part(task, split) else split
    if source.format is not None:
        return _locate_local(task, source, language, wanted)
    name = (source.splits or {}).get(wanted)  # type: ignore[call-overload]
    if name is None:
        raise MissingData(f"{task.name}: {language}: found no {wanted} split in {task.path}")
    dataset, config = str(source.dataset), str(source.config)
    repository = resolve_repository(dataset, mirror)
    if isinstance(repository, Path):
        folder, commit, at = repository, None, ""
        patterns = _patterns(repository, config, name, f"{task.name}: {language}")
    else:
        card = _download(dataset, source.revision, mirror, ("README.md",))
        patterns = _patterns(card, config, name, f"{task.name}: {language}")
        folder = _download(dataset, source.revision, mirror, patterns)
        commit, at = folder.name, f"@{folder.name}"
    readme = folder / "README.md"
    paths = sorted({path for pattern in patterns for path in matching_files(folder, pattern.lstrip("/"), readme)})
    if not paths:
        promised = commit is not None and readme.is_file()
        error = DataError if promised else MissingData  # offline, the Hub's cache may lack what the README lists
        raise error(f"{task.name}: {language}: found no file {' or '.join(patterns)} in {folder}, accepted one or more")
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return Located(source, names, tuple(paths), commit, f"{dataset}{at} {config} {name}")


def _locate_local(task: Task, source: LanguageSource, language: str, split: str) -> Located:
    name = getattr(source, split)
    if name is None:
        raise MissingData(f"{task.name}: {language}: found no path for the {split} split in {task.path}")
    path = task.file(name)
    if not path.exists():
        raise MissingData(f"{task.name}: {language}: found no file {path}")
    return Located(source, (name,), (regular_file(path),), None, name)


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


def identity_of(task: Task, located: Located, split: str) -> str:
    """A hash of the files' bytes, in the order of their names, and of the development share where it cuts them."""
    part = [task.development_share, DEVELOPMENT_SHARE_SEED, split] if is_part(task, split) else None
    digest = hashlib.sha256(json.dumps(part).encode())
    for path in located.paths:
        digest.update(bytes.fromhex(remembered_sha256(path)))
    return digest.hexdigest()


def file_format(source: LanguageSource, path: Path) -> str:
    if source.format is not None:
        return source.format
    suffix = path.suffix.removeprefix(".")
    if suffix not in ("parquet", "jsonl", "tsv"):
        raise DataError(f"{path}: found a .{suffix} file in a repository, accepted .parquet, .jsonl, .tsv")
    return suffix


def is_part(task: Task, split: str) -> bool:
    return task.development_share is not None and split in ("train", "validation")
