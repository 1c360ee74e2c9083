"""A strict YAML loader whose complaints are a line each: file, line, key, found, accepted; all of them at once.

Scalars follow YAML 1.2: `no` and `ON` are strings (a language code, a label), `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from adapter_stilts.errors import Complaint, ConfigError, UsageError
from adapter_stilts.yaml_complaints import Location, complaints_of, dotted, keys_of

ModelType = TypeVar("ModelType", bound=BaseModel)

# A YAML file larger than this, or one whose aliases stand for more values, is no task and no study.
MOST_BYTES = 200_000
MOST_VALUES = 1_000_000
# A number with more digits cannot be told of: Python takes quadratic time for its text.
LARGEST_INTEGER = 10**30
_NO_TEXT = re.compile("[\ud800-\udfff]")


class Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema; whatever has no value is a YAMLError with its line."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"no value of type {kind}", node.start_mark) from None
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise yaml.constructor.ConstructorError(None, None, "a number of too many digits", node.start_mark)
        if isinstance(value, str) and not is_text(value):
            raise yaml.constructor.ConstructorError(None, None, "half a character (\\ud800-\\udfff)", node.start_mark)
        return value


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def load_yaml(path: Path, model: type[ModelType]) -> ModelType:
    """The checked content of the YAML file `path`.

    Raises `ConfigError`, a line '<file>:<line>: <key.path>: found ..., accepted ...' for each duplicate, unknown (with
    the nearest accepted one) or missing key and each wrong type or value; or one for an unreadable file or broken
    syntax, which hides what else there is.
    """
    node = _compose(path)
    if not isinstance(node, yaml.MappingNode):
        given, keys = "no mapping" if node else "an empty file", ", ".join(keys_of(model))
        raise ConfigError([Complaint(str(path), 1, f"found {given}, accepted a mapping with the keys {keys}")])
    try:
        _refuse_endless(path, node)
        twice = list(_duplicates(path, node, (), set()))
        content = Loader("").construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise _syntax_error(path, error) from None
    try:
        checked = model.model_validate(content)
    except ValidationError as error:
        wrong = [complaint(path, location, what) for location, what in complaints_of(error, model, content)]
        raise ConfigError([*twice, *wrong]) from None
    if twice:
        raise ConfigError(twice)
    return checked


def parse_value(text: str) -> Any:
    """A value as it is typed on a command line: what it would be in a YAML file, else the text itself."""
    try:
        return yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, RecursionError):
        return text


def is_text(text: str) -> bool:
    """Whether a text can be written down: bytes that were no UTF-8 become halves of characters in Python."""
    return _NO_TEXT.search(text) is None


def complaint(path: Path, location: Sequence[str | int], what: str) -> Complaint:
    """What is wrong at the deepest part of `location` that the YAML file `path` holds."""
    return Complaint(str(path), line_of(path, location), f"{dotted(location)}: {what}" if location else what)


def location_text(path: Path, location: Sequence[str | int]) -> str:
    """'<file>:<line>: <key.path>' of the deepest part of `location` that the YAML file `path` holds."""
    line = line_of(path, location)
    return f"{path}:{line}: {dotted(location)}" if location else f"{path}:{line}"


def line_of(path: Path, location: Sequence[str | int]) -> int:
    """The line of the deepest part of `location` that the YAML file `path` holds."""
    status = path.stat()
    node, line = _composed(path, status.st_mtime_ns, status.st_size), 1
    for key in location:
        if isinstance(node, yaml.MappingNode):
            item = next(((name, value) for name, value in node.value if str(name.value) == str(key)), None)
            if item is None:
                break
            line, node = item[0].start_mark.line + 1, item[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line


class Complaints:
    """Gathers what several checks refuse, so that all of it is said at once."""

    def __init__(self) -> None:
        self.every: list[Complaint] = []

    def gather(self, check: Callable[..., None], *arguments: Any) -> bool:
        """Make a check; false where it refused something, which is kept."""
        try:
            check(*arguments)
        except ConfigError as error:
            self.every += error.complaints
        except UsageError as error:
            self.every.append(Complaint("", 0, str(error)))
        else:
            return True
        return False

    def refuse(self) -> None:
        """Raise ConfigError where there is anything to complain of."""
        if self.every:
            raise ConfigError(self.every)


@lru_cache(maxsize=16)
def _composed(path: Path, modified: int, size: int) -> yaml.Node | None:
    return _compose(path)


def _compose(path: Path) -> yaml.Node | None:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UsageError(f"{path}: found {size:,} bytes, accepted a YAML file of at most {MOST_BYTES:,}")
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        raise UsageError(f"{path}: found {reason}, accepted a readable YAML file") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _syntax_error(path, error) from None


def _syntax_error(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    deep = "nested too deep" if isinstance(error, RecursionError) else None
    problem = deep or getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    line = mark.line + 1 if mark else 1
    return ConfigError([Complaint(str(path), line, f"found broken YAML ({problem}), accepted YAML")])


def _refuse_endless(path: Path, root: yaml.Node) -> None:
    """Raise ConfigError where aliases (`*x`) make so many values of a file that nobody could read them."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # for an alias inside of what it stands for
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
        if sizes[id(node)] > MOST_VALUES:
            what = f"found aliases (*) that stand for more than {MOST_VALUES:,} values, accepted fewer"
            raise ConfigError([Complaint(str(path), node.start_mark.line + 1, what)])
        return sizes[id(node)]

    size(root)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _duplicates(path: Path, node: yaml.Node, above: Location, seen: set[int]) -> Iterator[Complaint]:
    """Keys that stand twice in a mapping; what several aliases stand for is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(path, item, (*above, index), seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line, location = key.start_mark.line + 1, (*above, str(key.value))
            if isinstance(key, yaml.ScalarNode) and key.value in first and key.value != "<<":
                what = f"{dotted(location)}: found twice (also line {first[key.value]}), accepted once"
                yield Complaint(str(path), line, what)
            first.setdefault(str(key.value), line)
            yield from _duplicates(path, value, location, seen)
