"""What many jobs have in common, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

_PLAIN = (str, int, float, bool, type(None))


class Remembered:
    """Calls functions, each once for the same arguments.

    A plan of thousands of runs holds one for as long as it is made: data files are taken not to change meanwhile.
    Texts and numbers, and lists of them, are the same where they are equal, anything else where it is the same object.
    """

    def __init__(self) -> None:
        self._results: dict[Hashable, Any] = {}
        self._objects: dict[int, object] = {}

    def __call__(self, function: Callable[..., Any], *arguments: Any, by_content: bool = True) -> Any:
        """The function's result; with `by_content` False a mapping is known by which object it is, not by its items."""
        key = (function, *[value if type(value) in _PLAIN else self._key(value, by_content) for value in arguments])
        if key not in self._results:
            self._results[key] = function(*arguments)
        return self._results[key]

    def _key(self, value: object, by_content: bool) -> Hashable:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, (list, tuple)):
            return tuple(self._key(item, by_content) for item in value)
        if by_content and isinstance(value, Mapping):
            return tuple(sorted(value.items()))
        # Kept alive, so that no other object gets its number.
        self._objects[id(value)] = value
        return id(value)
