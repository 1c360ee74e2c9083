"""What pydantic finds wrong, in the words of whoever writes YAML: what was found, and what YAML takes there."""

from __future__ import annotations

import difflib
import re
import reprlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

MISSING = "found nothing, accepted a value (this key is required)"
# By pydantic's type of error; a value in braces is of the error's context.
_ACCEPTED = {
    "string_type": "text",
    "string_sub_type": "text",
    "string_unicode": "text",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list such as [a, b]",
    "list_type": "a list such as [a, b]",
    "too_short": "a list of {min_length} or more",
    "dict_type": "a mapping such as {{key: value}}",
    "invalid_key": "text as a key (in quotes where it looks like a number)",
    "none_required": "null",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "greater than or equal to {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "less than or equal to {le}",
    "literal_error": "{expected}",
}
# The patterns of names, in words.
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": "a name of letters, digits, _ . and -, of which the first is a letter or digit"
}
_TYPED = {"tuple_type": "a list such as a,b", "list_type": "a list such as a,b"}


def complaints_of(
    error: ValidationError, model: type[BaseModel], content: Any, typed: bool = False
) -> list[tuple[Location, str]]:
    """Every complaint, (location, 'found ..., accepted ...'), of what YAML or, `typed`, a command line gave.

    Of the branches of a union the one that got furthest is told of; a missing key that an unknown one is near to is
    that one, misspelt.
    """
    items: dict[Location, list[ErrorDetails]] = {}
    for item in error.errors():
        items.setdefault(_real_location(item, content), []).append(item)
    above = {location[:length] for location in items for length in range(len(location))}
    deepest = {location: group for location, group in items.items() if location not in above}
    keys = keys_of(model, content)
    misspelt = _misspelt(deepest, model, keys)
    return [
        (location, _message(location, group, model, typed, keys))
        for location, group in deepest.items()
        if group[0]["type"] != "missing" or location not in misspelt
    ]


def _misspelt(
    items: Mapping[Location, Sequence[ErrorDetails]], model: type[BaseModel], keys: Sequence[str]
) -> set[Location]:
    """Locations of the keys that unknown ones were probably meant to be; `keys` are those at the top."""
    unknown = [location for location, group in items.items() if group[0]["type"] == "extra_forbidden"]
    return {
        (*location[:-1], near)
        for location in unknown
        for near in _nearest(str(location[-1]), keys_of(_model_at(model, location[:-1])) if location[:-1] else keys)
    }


def _message(
    location: Location, items: Sequence[ErrorDetails], model: type[BaseModel], typed: bool, keys: Sequence[str]
) -> str:
    item = items[0]
    if item["type"] == "extra_forbidden" and len(location) == 1:
        return _unknown(str(location[0]), keys)
    if item["type"] == "extra_forbidden":
        return unknown_key(str(location[-1]), _model_at(model, location[:-1]))
    if item["type"] == "missing":
        return MISSING
    value = location[-1] if "[key]" in item["loc"] else item["input"]
    shown = item.get("ctx", {}).get("found") or shown_value(value)
    choices = [choice for error in items if error["type"] == "literal_error" for choice in _choices(error)]
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    accepted = dict.fromkeys(_accepted(error, location, model, typed) for error in items)
    return f"found {shown}{hint}, accepted {' or '.join(accepted)}"


def _accepted(item: ErrorDetails, location: Location, model: type[BaseModel], typed: bool) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("model_type", "model_attributes_type"):
        return f"a mapping with the keys {', '.join(keys_of(_model_at(model, location)))}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text of the form {context['pattern']}")
    if kind == "string_type" and isinstance(item["input"], (int, float)) and not typed:
        return f'text, in quotes: "{shown_value(item["input"])}"'
    if typed and kind in _TYPED:
        return _TYPED[kind]
    if kind in _ACCEPTED:
        numbers = {
            key: int(value) if isinstance(value, float) and value.is_integer() else value
            for key, value in context.items()
        }
        return _ACCEPTED[kind].format(**numbers)
    return str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")


def _choices(item: ErrorDetails) -> list[str]:
    return re.findall("'([^']*)'", str(item["ctx"]["expected"]))


def _real_location(item: ErrorDetails, content: Any) -> Location:
    """The error's location without the parts that name a union's branch, which pydantic adds."""
    real: list[str | int] = []
    for key in item["loc"]:
        if isinstance(content, dict):
            inside = key in content
        else:
            inside = isinstance(content, (list, tuple)) and isinstance(key, int) and key < len(content)
        if inside:
            content = content[key]
            real.append(key)
    return (*real, item["loc"][-1]) if item["type"] == "missing" else tuple(real)


def _model_at(model: Any, location: Location) -> Any:
    """The model that holds the keys at `location`."""
    model = _plain(model)
    for key in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(key)].annotation
        elif get_origin(model) in (dict, tuple):
            model = get_args(model)[1 if get_origin(model) is dict else 0]
        model = _plain(model)
    return model


def _plain(annotation: Any) -> Any:
    """An annotation without what is added to it; of a union the first type that is not None."""
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        annotation = next(choice for choice in get_args(annotation) if choice is not type(None))
    return annotation


def unknown_key(key: str, model: Any) -> str:
    """What is said of a key that a model does not have."""
    return _unknown(key, keys_of(model))


def _unknown(key: str, keys: Sequence[str]) -> str:
    return f"found an unknown key{did_you_mean(key, keys)}, accepted {', '.join(keys)}"


def keys_of(model: Any, content: Any = None) -> list[str]:
    """The keys that YAML of a model has, by its content; some fields are no key, but what other keys become."""
    return model.accepted_keys(content) if hasattr(model, "accepted_keys") else list(model.model_fields)


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """' (did you mean '...'?)' with the nearest of the names; empty where none is near."""
    return "".join(f" (did you mean '{near}'?)" for near in _nearest(text, names))


def _nearest(text: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(text, list(names), n=1) if len(text) <= 100 else []


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def shown_value(value: object) -> str:
    """A value as YAML has it, on at most 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = " ".join(_REPR.repr(list(value) if isinstance(value, tuple) else value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted(location: Sequence[str | int]) -> str:
    """A location as one reads it: `data.languages.en`, `labels[0]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")
