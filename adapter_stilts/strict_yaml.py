"""A strict YAML loader whose every complaint is one line: file, line, key, found, accepted.

Scalars follow YAML 1.2: `no` and `ON` are strings (a language code, a label), `1e-3` is a number.
"""

import difflib
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from adapter_stilts.errors import UsageError

Location = tuple[str | int, ...]
ModelType = TypeVar("ModelType", bound=BaseModel)


class Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


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

    Raises `UsageError` with one line, '<file>:<line>: <key.path>: found ..., accepted ...', for an unreadable file,
    broken syntax, a duplicate, unknown (with the nearest accepted one) or missing key, and a wrong type or value.
    """
    node = _compose(path)
    if not isinstance(node, yaml.MappingNode):
        found, keys = "no mapping" if node else "an empty file", ", ".join(model.model_fields)
        raise UsageError(f"{path}:1: found {found}, accepted a mapping with the keys {keys}")
    try:
        _refuse_duplicates(path, node)
        content = Loader("").construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _syntax_error(path, error) from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        location, what = first_complaint(error, model, content)
        raise UsageError(f"{place(path, location)}: {what}") from None


def place(path: Path, location: Sequence[str | int]) -> str:
    """'<file>:<line>: <key.path>' of the deepest part of `location` that the YAML file `path` holds."""
    node, line = _compose(path), 1
    for key in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if str(name.value) == str(key)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return f"{path}:{line}: {dotted(location)}" if location else f"{path}:{line}"


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        raise UsageError(f"{path}: found {reason}, accepted a readable YAML file") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _syntax_error(path, error) from None


def _syntax_error(path: Path, error: Exception) -> UsageError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    return UsageError(f"{path}:{mark.line + 1 if mark else 1}: found broken YAML ({problem}), accepted YAML")


def _refuse_duplicates(path: Path, node: yaml.Node, above: Location = ()) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _refuse_duplicates(path, item, (*above, index))
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line, location = key.start_mark.line + 1, (*above, str(key.value))
            if isinstance(key, yaml.ScalarNode) and key.value in first and key.value != "<<":
                also = first[key.value]
                raise UsageError(f"{path}:{line}: {dotted(location)}: found twice (also line {also}), accepted once")
            first[str(key.value)] = line
            _refuse_duplicates(path, value, location)


def first_complaint(error: ValidationError, model: type[BaseModel], content: Any) -> tuple[Location, str]:
    """The most telling error: an unknown key first (it explains a missing one), then the deepest of a union."""
    complaints = [(_real_location(item, content), item) for item in error.errors()]
    for location, item in complaints:
        if item["type"] == "extra_forbidden":
            return location, unknown_key(str(location[-1]), _model_at(model, location[:-1]))
    location, item = complaints[0]
    for other, other_item in complaints[1:]:
        if len(other) > len(location) and other[: len(location)] == location:
            location, item = other, other_item
    accepted = dict.fromkeys(_accepted(other_item) for other, other_item in complaints if other == location)
    if item["type"] == "missing":
        return location, "found nothing, accepted a value (this key is required)"
    found = item.get("ctx", {}).get("found") or _shown(item["input"])
    if "[key]" in item["loc"]:
        found = _shown(location[-1])
    return location, f"found {found}, accepted {' or '.join(accepted)}"


def _accepted(item: Any) -> str:
    if item["type"] == "literal_error":
        return str(item["ctx"]["expected"])
    return str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")


def _real_location(item: Any, content: Any) -> Location:
    """The error's location without the parts that name a union's branch, which pydantic adds."""
    real: list[str | int] = []
    for key in item["loc"]:
        if key in content if isinstance(content, dict) else isinstance(content, list) and isinstance(key, int):
            content = content[key]
            real.append(key)
    return (*real, item["loc"][-1]) if item["type"] == "missing" else tuple(real)


def _model_at(model: Any, location: Location) -> Any:
    """The model that holds the keys at `location`."""
    for key in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(key)].annotation
        elif get_origin(model) in (dict, tuple):
            model = get_args(model)[1 if get_origin(model) is dict else 0]
        while get_origin(model) in (Annotated, Union, types.UnionType):
            model = next(choice for choice in get_args(model) if choice is not type(None))
    return model


def unknown_key(key: str, model: Any) -> str:
    hint = "".join(f" (did you mean '{near}'?)" for near in difflib.get_close_matches(key, model.model_fields, n=1))
    return f"found an unknown key{hint}, accepted {', '.join(model.model_fields)}"


def _shown(value: object) -> str:
    return text if len(text := repr(value)) <= 60 else f"{text[:57]}..."


def dotted(location: Sequence[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")
