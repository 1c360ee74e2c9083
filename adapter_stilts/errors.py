"""Errors with one clear line each.

A message names the place (file and line, or the YAML key), what was found, and what would be accepted. The command
line prints the message alone, without a traceback, and leaves with the error's exit code. What a message quotes from a
file stays text: control characters in it are shown as escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adapter_stilts.plain_text import printable

MOST_COMPLAINTS = 50


class StiltsError(Exception):
    """Work that failed: unreadable or malformed data, a loss that is not finite, a damaged run."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # What it quotes of files, libraries and of what was typed is text, whatever bytes it has.
        super().__init__(printable(" ".join(message.splitlines())))

    @property
    def lines(self) -> tuple[str, ...]:
        """The message as it is printed: one line."""
        return (" ".join(str(self).split()),)


class DataError(StiltsError):
    """A data file that cannot be read as its task says: malformed line, unknown label, truncated file."""


class FailedTraining(StiltsError):
    """A training that would fail again where it goes on from its last checkpoint: a loss that is not finite, a frozen
    weight that has changed."""


class UsageError(StiltsError):
    """A request that cannot be carried out as it stands: bad option, bad config, unknown name."""

    exit_code = 2


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong in a YAML file; without a line, in what was typed."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return " ".join((f"{self.path}:{self.line}: {self.text}" if self.line else self.text).split())


class ConfigError(UsageError):
    """Everything that is wrong in a config: a line each, in the order of the files and of their lines."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        every = list(dict.fromkeys(complaints))
        files = list(dict.fromkeys(complaint.path for complaint in every))
        self.complaints = tuple(sorted(every, key=lambda complaint: (files.index(complaint.path), complaint.line)))
        Exception.__init__(self, printable("\n".join(self.lines), keep="\n"))

    @property
    def lines(self) -> tuple[str, ...]:
        shown = [str(complaint) for complaint in self.complaints[:MOST_COMPLAINTS]]
        more = len(self.complaints) - len(shown)
        return (*shown, f"and {more} more") if more else tuple(shown)
