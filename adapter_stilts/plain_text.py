"""Text of others (names, labels, questions, messages) as text: for a terminal, JSON, Markdown and CSV.

Control characters and changes of direction are shown as escapes, so that no file can move the cursor, hide what stands
there, or look like another.
"""

from __future__ import annotations

import re
from typing import Any

# C0 and DEL, C1, line and paragraph separators, marks and overrides of direction, the mark of byte order.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# Where Markdown would begin a tag, a comment or an address.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# What a spreadsheet takes for a formula at the beginning of a cell.
# Some drop blanks and invisible marks before they look.
_SKIPPED = " \u00a0\u200b\u2060\ufeff"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "﹢", "﹣", "﹦", "﹫")


def printable(text: str, keep: str = "") -> str:
    """Text with every control character as an escape, but for those to `keep`."""
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def json_text(text: str) -> str:
    """A JSON document in which control characters inside strings stand as JSON's own escapes."""
    return _CONTROL.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def markdown_text(text: str) -> str:
    """Text in a line of Markdown: no raw HTML, no line of its own."""
    return _TAG.sub("&lt;", printable(" ".join(text.splitlines()) if "\n" in text else text))


def markdown_cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    # Backslashes before a pipe are doubled: an even number of them would leave it a border.
    return re.sub(r"(\\*)\|", r"\1\1\\|", markdown_text(text))


def csv_cell(value: Any) -> Any:
    """A value for CSV: text that a spreadsheet would run begins with an apostrophe; numbers stay numbers."""
    if not isinstance(value, str) or not value.lstrip(_SKIPPED).startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
