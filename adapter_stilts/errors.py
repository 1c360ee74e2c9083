"""Errors with one clear line each.

A message names the place (file and line, or the YAML key), what was found, and what would be accepted. The command
line prints the message alone, without a traceback, and leaves with the error's exit code. What a message quotes from a
file stays text: control characters in it are shown as escapes.
"""

from adapter_stilts.plain_text import printable


class StiltsError(Exception):
    """Work that failed: unreadable or malformed data, a loss that is not finite, a damaged run."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class DataError(StiltsError):
    """A data file that cannot be read as its task says: malformed line, unknown label, truncated file."""


class UsageError(StiltsError):
    """A request that cannot be carried out as it stands: bad option, bad config, unknown name."""

    exit_code = 2
