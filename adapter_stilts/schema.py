"""Strict models of task YAML, and a loader whose every complaint is one line: file, line, key, found, accepted.

Scalars follow YAML 1.2: `no` and `ON` are strings (a language code, a label), `1e-3` is a number.
"""

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from adapter_stilts.errors import UsageError

Location = tuple[str | int, ...]
ModelType = TypeVar("ModelType", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
Values = Annotated[tuple[str | int | float | bool, ...], BeforeValidator(_as_tuple)]
SplitName = Literal["train", "validation", "test"]
Format = Literal["conllu", "conll", "tsv", "jsonl", "parquet"]
MetricName = Literal["accuracy", "span_f1", "official_tag_f1"]
MethodName = Literal["bottleneck", "full"]
CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


class LanguageSource(Strict):
    """Where one language's rows are; whatever is absent comes from the task's `data`."""

    dataset: str | None = None
    revision: str | None = None
    config: str | None = None
    format: Format | None = None
    columns: dict[str, str | int] | None = None
    splits: dict[SplitName, str] | None = None
    filter: dict[str, Values] | None = None
    exclude: dict[str, Values] | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None


def _config_name(value: object) -> object:
    return {"config": value} if isinstance(value, str) else value


class Data(Strict):
    dataset: str | None = None
    revision: str | None = None
    format: Format | None = None
    splits: dict[SplitName, str] = {"train": "train", "validation": "validation", "test": "test"}
    columns: dict[str, str | int]
    filter: dict[str, Values] = {}
    exclude: dict[str, Values] = {}
    languages: dict[str, Annotated[LanguageSource, BeforeValidator(_config_name)]] = Field(min_length=1)


class Recipe(Strict):
    """How one method trains on one backbone. `warmup` is a share of the steps; `development_examples` English
    development examples are scored after each epoch (None: all); `reduction` and `adapter` (the name of
    an `adapters` config) matter for `bottleneck` alone; `tuning` says how the numbers were chosen."""

    learning_rate: float = Field(default=1e-4, gt=0)
    epochs: int = Field(default=5, ge=1)
    batch_examples: int | None = Field(default=32, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    accumulate: int = Field(default=1, ge=1)
    warmup: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    selection: Literal["last", "best"] = "last"
    development_examples: int | None = Field(default=None, ge=1)
    reduction: float = Field(default=8, gt=0)
    adapter: str = "seq_bn"
    tuning: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_batch_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        tokens = values.get("batch_tokens")
        examples = values.get("batch_examples", None if tokens is not None else 32)
        if (tokens is None) == (examples is None):
            found = "neither" if tokens is None else "both"
            raise PydanticCustomError("batch_size", "exactly one of batch_examples, batch_tokens", {"found": found})
        return {**values, "batch_examples": examples}


class Task(Strict):
    """A task as its YAML says. `path` is the file it was read from (local data paths are relative to it)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: int = Field(ge=1)
    kind: Literal["tagging", "classification"]
    role: Literal["intermediate", "target", "both"]
    knowledge: Literal["syntactic", "semantic"]
    granularity: Literal["token", "sentence"]
    description: str
    licence: str
    citation: str
    metrics: Annotated[tuple[MetricName, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    selection_metric: Literal["accuracy", "f1"]
    train_language: str = "en"
    labels: Names | Literal["open"] | None = None
    label_until: str | None = Field(default=None, min_length=1)
    word_piece: Literal["first_content", "first", "mean"] = "first_content"
    development_share: float | None = Field(default=None, gt=0, lt=1)
    data: Data
    recipes: dict[MethodName, dict[str, Recipe]] = {}
    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        return self._path


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


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
        content = _Loader("").construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _syntax_error(path, error) from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        location, what = _first_complaint(error, model, content)
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
    return f"{path}:{line}: {_dotted(location)}" if location else f"{path}:{line}"


def override(recipe: Recipe, assignments: Mapping[str, str]) -> Recipe:
    """`recipe` with the fields in `assignments` (texts as typed after `--set`) replaced.

    Setting one of batch_examples and batch_tokens clears the other. Raises `UsageError` naming the key.
    """
    values: dict[str, Any] = {}
    for key, text in assignments.items():
        if key not in Recipe.model_fields:
            raise UsageError(f"--set {key}: {_unknown_key(key, Recipe)}")
        try:
            values[key] = text if key in ("adapter", "tuning") else yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            values[key] = text
    kept = {key: value for key, value in recipe.model_dump().items() if key not in values}
    for key, other in (("batch_examples", "batch_tokens"), ("batch_tokens", "batch_examples")):
        if values.get(key) is not None:
            kept.pop(other, None)
    try:
        return Recipe.model_validate({**kept, **values})
    except ValidationError as error:
        location, what = _first_complaint(error, Recipe, values)
        raise UsageError(f"--set {_dotted(location) or ' '.join(assignments)}: {what}") from None


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
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
                raise UsageError(f"{path}:{line}: {_dotted(location)}: found twice (also line {also}), accepted once")
            first[str(key.value)] = line
            _refuse_duplicates(path, value, location)


def _first_complaint(error: ValidationError, model: type[BaseModel], content: Any) -> tuple[Location, str]:
    """The most telling error: an unknown key first (it explains a missing one), then the deepest of a union."""
    complaints = [(_real_location(item, content), item) for item in error.errors()]
    for location, item in complaints:
        if item["type"] == "extra_forbidden":
            return location, _unknown_key(str(location[-1]), _model_at(model, location[:-1]))
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


def _unknown_key(key: str, model: Any) -> str:
    hint = "".join(f" (did you mean '{near}'?)" for near in difflib.get_close_matches(key, model.model_fields, n=1))
    return f"found an unknown key{hint}, accepted {', '.join(model.model_fields)}"


def _shown(value: object) -> str:
    return text if len(text := repr(value)) <= 60 else f"{text[:57]}..."


def _dotted(location: Sequence[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")
