"""Arguments of the Python API: what the command line takes as text is taken here as what it is, and as text, too.

Every function raises UsageError, one line with the argument's name, for what it cannot take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

from adapter_stilts.errors import UsageError
from adapter_stilts.paths import user_path
from adapter_stilts.schema import setting_text
from adapter_stilts.yaml_complaints import shown_value

LARGEST_SEED = 2**32 - 1
LARGEST_NUMBER = 10**15


def settings_of(name: str, settings: object) -> dict[str, str]:
    """Fields of a recipe as they would be typed after --set: numbers, truth values, None and lists become text."""
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise _refused(name, settings, "a mapping such as {'epochs': 2}")
    for key, value in settings.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        if not isinstance(key, str) or not all(item is None or isinstance(item, (str, Number, Path)) for item in items):
            raise _refused(
                f"{name}[{shown_value(key)}]", value, "text, a number, True or False, None or a list of them"
            )
    return {key: setting_text(value) for key, value in settings.items()}


def language_codes(name: str, languages: object) -> list[str] | None:
    """Codes of languages: a list of them, or a text with commas between."""
    if languages is None:
        return None
    accepted = "codes with commas between, such as de,ar"
    if isinstance(languages, str):
        codes = [code.strip() for code in languages.split(",") if code.strip()]
        if not codes:
            raise _refused(name, languages, accepted)
        return codes
    if not isinstance(languages, Iterable) or isinstance(languages, Mapping):
        raise _refused(name, languages, accepted)
    listed = list(languages)
    if not all(isinstance(code, str) and code for code in listed):
        raise _refused(name, listed, accepted)
    return listed


def listed(name: str, value: object, kinds: tuple[type, ...], accepted: str) -> list[Any]:
    """One value of these kinds, or several, as a list."""
    if isinstance(value, kinds):
        return [value]
    if not isinstance(value, Iterable) or isinstance(value, (Mapping, bytes)):
        raise _refused(name, value, accepted)
    every = list(value)
    for item in every:
        if not isinstance(item, kinds):
            raise _refused(name, item, accepted)
    return every


def whole_number(name: str, value: object, least: int = 0, most: int | None = None) -> int | None:
    """A whole number, or None."""
    if value is None:
        return None
    high = "" if most is None else f" to {most}"
    accepted = f"a whole number from {least}{high}" if most is not None else f"a whole number of at least {least}"
    try:
        number = value.__index__() if not isinstance(value, bool) else None  # type: ignore[attr-defined]
    except AttributeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        raise _refused(name, value, accepted)
    if number > LARGEST_NUMBER:
        raise _refused(name, value, f"a whole number from {least} to {LARGEST_NUMBER}")
    return int(number)


def seed_of(name: str, value: object) -> int:
    """A seed of random numbers."""
    number = whole_number(name, value, 0, LARGEST_SEED)
    if number is None:
        raise _refused(name, value, f"a whole number from 0 to {LARGEST_SEED}")
    return number


def path_of(name: str, value: object) -> Path | None:
    """A path, with ~ as the home folder, or None."""
    if value is None:
        return None
    if not isinstance(value, (str, Path)):
        raise _refused(name, value, "a path")
    return user_path(value)


def choice(name: str, value: object, accepted: Sequence[str]) -> None:
    """Refuse what is not one of the choices; None is one of them."""
    if value is not None and value not in accepted:
        raise UsageError(f"{name}: found {shown_value(value)}, accepted: {', '.join(accepted)}")


def kind(name: str, value: object, kinds: tuple[type, ...], accepted: str) -> None:
    """Refuse what is not of these kinds; None is left to the default."""
    if value is not None and not isinstance(value, kinds):
        raise _refused(name, value, accepted)


def _refused(name: str, value: object, accepted: str) -> UsageError:
    return UsageError(f"{name}: found {shown_value(value)}, accepted {accepted}")
