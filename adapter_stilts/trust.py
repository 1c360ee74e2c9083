"""What comes from other people (runs, bundles, mirrors, checkpoints) is looked at here before it is used.

Names and paths stay inside their folder, links do not lead out of it, a file is a regular file of a size that its kind
can have, and JSON is an object without twins. Every complaint is a `StiltsError` of one line: file, found, accepted.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, Field

from adapter_stilts.errors import StiltsError
from adapter_stilts.files import kind_of, read_regular
from adapter_stilts.languages import LANGUAGES

# Larger than any of their kind: a record is some ten KB, XLM-R's tokenizer 17 MB, a checkpoint's header 100 KB.
LARGEST_JSON = 32 * 2**20
LARGEST_TOKENIZER = 256 * 2**20
LARGEST_HEADER = 32 * 2**20
LONGEST_NAME = 255
_NAME = re.compile(r"[^\W][^/\\\ud800-\udfff\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*")
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,254}")
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(\+[A-Za-z0-9][A-Za-z0-9_.-]*)*")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LANGUAGE = re.compile(r"[A-Za-z0-9]{2,8}([_-][A-Za-z0-9]{1,8})*")


# --- names --------------------------------------------------------------------------------------------------------


def is_name(text: str) -> bool:
    """Whether a text can be the name of one file or folder: it begins with a letter, digit or _, and has no separator,
    control character or change of direction."""
    return _NAME.fullmatch(text) is not None and len(text.encode("utf-8", "replace")) <= LONGEST_NAME


def is_language_code(text: str) -> bool:
    """Whether a text has the form of a language's code, such as en, zh-Hant or pt_BR."""
    return _LANGUAGE.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether a text can be the id of a repository on the Hub: NAME or OWNER/NAME."""
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text


def _checked(accepts: Callable[[str], object], accepted: str) -> AfterValidator:
    def check(value: str) -> str:
        if not accepts(value):
            raise ValueError(f"found {value[:80]!r}, accepted {accepted}")
        return value

    return AfterValidator(check)


def _is_relative(text: str) -> bool:
    return text == PurePosixPath(text).as_posix() and all(map(is_name, text.split("/")))


# Types of pydantic for what is stored: texts that become parts of paths, checksums, counts and scores.
Name = Annotated[str, _checked(is_name, "a name without separators that begins with a letter or digit")]
TaskName = Annotated[str, _checked(_TASK.fullmatch, "names of letters, digits and _.- with + between")]
ModuleName = Annotated[str, _checked(_MODULE.fullmatch, "a name of letters, digits, _ and -")]
LanguageCode = Annotated[str, _checked(LANGUAGES.__contains__, "the code of a language, such as en")]
# Texts without labels may be in a language of which no table tells.
TextLanguage = Annotated[str, _checked(_LANGUAGE.fullmatch, "the code of a language, such as en")]
RelativePath = Annotated[str, _checked(_is_relative, "a path inside the folder, parts with / between")]
Sha256 = Annotated[str, _checked(_SHA256.fullmatch, "64 hexadecimal digits")]
Count = Annotated[int, Field(ge=0, le=2**62)]
Amount = Annotated[float, Field(ge=0, le=1e18)]
Percent = Annotated[float, Field(ge=0, le=100)]


# --- paths --------------------------------------------------------------------------------------------------------


def inside(folder: Path, path: Path) -> bool:
    """Whether a path, after all links, lies in the folder. Links of the Hub's cache from a snapshot to its blobs do."""
    real, root = path.resolve(), folder.resolve()
    roots = [root, *([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])]
    return any(real.is_relative_to(allowed) for allowed in roots)


def matching_files(folder: Path, pattern: str, said_by: Path) -> list[Path]:
    """The regular files under a folder that match a pattern which a file in it gives.

    Raises StiltsError for a pattern or link that leaves the folder, and for what is no regular file.
    """
    try:
        parts = PurePosixPath(pattern).parts
        if ".." in parts:
            raise ValueError("it leads out of the repository")
        if parts.count("**") > 1:  # each of several would look through all folders for each of the others
            raise ValueError("it has ** twice")
        paths = sorted(path for path in folder.glob(pattern) if not path.is_dir())
    except (ValueError, NotImplementedError, OSError, RecursionError) as error:
        refuse(said_by, f"the pattern '{pattern[:80]}' ({error})", "files of the repository")
    return [regular_file(path, folder) for path in paths]


def regular_file(path: Path, folder: Path | None = None) -> Path:
    """The path, of a regular file; in `folder`, where that is given, after all links.

    Raises StiltsError for everything else: reading a pipe or a device would wait, or never end.
    """
    if folder is not None and not inside(folder, path):
        refuse(path, f"a link to what is outside {folder}", "the file itself")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise StiltsError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        refuse(path, kind_of(mode), "a regular file")
    return path


def check_tree(folder: Path) -> list[Path]:
    """The regular files under a folder of a run. Raises StiltsError for a link in it, the folder's own included, and
    for what is neither a regular file nor a folder."""
    files: list[Path] = []
    waiting = [folder]
    if folder.is_symlink():
        refuse(folder, "a symbolic link", "a folder")
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except FileNotFoundError:  # another process has just dropped it
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                refuse(path, "a symbolic link", "files and folders alone")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_file(follow_symlinks=False):
                files.append(path)
            elif path.exists():
                refuse(path, kind_of(path.stat().st_mode), "a regular file")
    return files


def refuse_links(folder: Path, below: Path) -> None:
    """Raise StiltsError where a folder under `below` is reached through a link."""
    path = folder
    while path not in (below, path.parent):
        if path.is_symlink():
            refuse(path, "a symbolic link", "a folder")
        path = path.parent


def copy_tree(source: Path, target: Path, ignore: Callable[[Any, list[str]], Iterable[str]] | None = None) -> None:
    """Copy a folder that `check_tree` accepts into another; a link that appears meanwhile is never followed."""
    check_tree(source)
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignore)


def refuse(path: Path, given: str, accepted: str) -> NoReturn:
    """A StiltsError of one line."""
    raise StiltsError(f"{path}: found {given}, accepted {accepted}")


# --- files --------------------------------------------------------------------------------------------------------


def read_text(path: Path, most: int = LARGEST_JSON) -> str:
    """The text of a regular file in UTF-8. Raises StiltsError where it is missing, too large or something else."""
    try:
        return read_regular(path, most).decode("utf-8")
    except OSError as error:
        raise StiltsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise StiltsError(f"{path}: cannot be read (not UTF-8)") from None


def read_json(path: Path, most: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file. Raises StiltsError for other JSON, a key that stands twice, and numbers that are
    none (NaN)."""
    return parse_json(path, read_text(path, most))


def parse_json(path: Path, text: str) -> dict[str, Any]:
    """As `read_json`, of the file's text."""
    try:
        content = json.loads(
            text, object_pairs_hook=_without_twins, parse_constant=_no_number, parse_float=_finite_number
        )
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise StiltsError(f"{path}: JSON: {reason}") from None
    if not isinstance(content, dict):
        refuse(path, f"JSON of a {type(content).__name__}", "an object")
    return content


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"found the key {first_twin(pairs)[:80]!r} twice")
    return content


def first_twin(pairs: Iterable[tuple[str, Any]]) -> str:
    """The first key that stands in pairs of a JSON object a second time."""
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"found {text}, accepted numbers")


def _finite_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"found {text[:80]}, accepted numbers that a float can hold")
    return number


@dataclass(frozen=True)
class TensorShape:
    """What a safetensors header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def tensor_shapes(path: Path) -> dict[str, TensorShape]:
    """The tensors of a safetensors file by name, from its header alone; that the data fit it, safetensors checks.

    Raises StiltsError for a file or header that is damaged, or larger than a header can be.
    """
    regular_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, LARGEST_HEADER):
            refuse(path, f"{size:,} bytes that begin with no header", "safetensors")
        header = file.read(length)
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError:
        refuse(path, "a header that is not UTF-8", "safetensors")
    content = parse_json(path, text)
    try:
        return {name: _tensor_shape(entry) for name, entry in content.items() if name != "__metadata__"}
    except (KeyError, TypeError, ValueError):
        refuse(path, "a header without types and shapes", "safetensors")


def _tensor_shape(entry: Mapping[str, Any]) -> TensorShape:
    shape = tuple(entry["shape"])
    if not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise ValueError(shape)
    return TensorShape(str(entry["dtype"]), shape)


def names_in(content: Iterable[object], path: Path) -> Iterator[str]:
    """Names of files that an index lists. Raises StiltsError for one that is no name of a file beside it."""
    for name in sorted({str(item) for item in content}):
        if not is_name(name) or not name.endswith(".safetensors"):
            refuse(path, f"the file {name[:80]!r}", "names of .safetensors files beside it")
        yield name
