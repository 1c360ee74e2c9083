"""Progress of long work on standard error, results on standard output: Rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from adapter_stilts.errors import StiltsError
from adapter_stilts.plain_text import printable

# Seconds between two lines where no terminal shows a bar.
LINE_EVERY = 15.0

console = Console(stderr=True, highlight=False)
_LENIENT = "adapter_stilts"  # name of an error handler of the codecs


class Reporter:
    """Shows how far one piece of work has come; `advance` is cheap enough for every step."""

    def __init__(self, name: str, total: int, unit: str, bar: Progress | None) -> None:
        self.name, self.total, self.unit, self.bar = name, total, unit, bar
        self.done = self.tokens = self.before = 0
        self.working: float | None = None
        self.loss: float | None = None
        self.note = ""
        self.started = self.last_line = time.monotonic()
        self.row = bar.add_task(printable(name), total=total, detail="") if bar else None

    def go_on_from(self, done: int) -> None:
        """So much was finished before: it counts as done, and not for the speed."""
        self.done = self.before = done
        if self.bar is not None and self.row is not None:
            self.bar.update(self.row, completed=done)

    def advance(
        self, amount: int = 1, tokens: int = 0, loss: float | None = None, seconds: float | None = None
    ) -> None:
        """Count finished work; `tokens` are real pieces, `loss` is smoothed over about twenty steps. `seconds` are what
        these tokens took, where other work lies between (scoring, waiting): the speed is by them alone."""
        self.done += amount
        self.tokens += tokens
        if seconds is not None:
            self.working = (self.working or 0.0) + seconds
        if loss is not None:
            self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        now = time.monotonic()
        if self.bar is not None and self.row is not None:
            self.bar.update(self.row, completed=self.done, detail=self._detail())
        elif now - self.last_line >= LINE_EVERY:
            self.last_line = now
            left = (self.total - self.done) * (now - self.started) / max(self.done - self.before, 1)
            _line(f"{self.name}: {self.done}/{self.total} {self.unit}  {self._detail()}  {left:,.0f} s left")

    def say(self, note: str) -> None:
        """A note that stays beside the bar (an epoch's development score, say), or a line."""
        self.note = note
        if self.bar is None:
            _line(f"{self.name}: {note}")

    def _detail(self) -> str:
        seconds = time.monotonic() - self.started if self.working is None else self.working
        speed = f"{self.tokens / max(seconds, 1e-9):,.0f} tokens/s"
        loss = f"loss {self.loss:.3f}" if self.loss is not None else ""
        return "  ".join(part for part in (loss, speed, printable(self.note)) if part)


@contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Reporter]:
    """A reporter for `total` units of work under that name, for the time of the block."""
    if not console.is_terminal:
        yield Reporter(name, total, unit, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Bound to this terminal: work done in this process may silence standard error meanwhile.
    with Progress(*columns, console=Console(file=console.file, highlight=False), transient=True) as bar:
        yield Reporter(name, total, unit, bar)


def say(text: str) -> None:
    """One line of what is going on, on standard error."""
    if console.is_terminal:
        console.print(printable(text), markup=False, emoji=False)
    else:
        _line(text)


def _line(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def use_utf8() -> None:
    """Standard output and standard error in UTF-8, whatever the locale and PYTHONIOENCODING say.

    Bytes of a name that the locale could not decode are written as they are where they are UTF-8, else as \\udcNN.
    Where a stream is closed, what is written to it is lost.
    """
    codecs.register_error(_LENIENT, _lenient)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=_LENIENT)


def _lenient(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    try:
        raw = error.object[error.start : error.end].encode("utf-8", "surrogateescape")
        raw.decode("utf-8")
    except UnicodeError:
        return codecs.backslashreplace_errors(error)
    return raw, error.end


def show_bytes(content: bytes) -> None:
    """A result on standard output, byte by byte."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(content.decode("utf-8", "backslashreplace"))
        return
    try:
        buffer.write(content)
        buffer.flush()
    except BrokenPipeError:  # the reader has had enough
        raise
    except OSError as error:
        raise StiltsError(f"standard output: cannot be written ({error.strerror})") from error


def terminal_width() -> int | None:
    """Characters of a line on the terminal; None where standard output is none, and lines are as long as they get."""
    return Console().width if sys.stdout.isatty() else None


def show_lines(*lines: str) -> None:
    """Lines of a result on standard output, as text: no control characters."""
    print("".join(f"{printable(line)}\n" for line in lines), end="")


def show(table: Table) -> None:
    """A result on standard output: as it is on a terminal, elsewhere aligned plain text, however wide. Its cells are
    text: no markup, no control characters."""
    _as_text(table)
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    title, caption = table.title, table.caption
    table.box = table.title = table.caption = None  # Rich would break the titles at the table's width
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None, force_terminal=False).print(table, end="")
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    print("\n".join([*([str(title)] if title else []), *lines, *([str(caption)] if caption else [])]))


def _as_text(table: Table) -> None:
    """Take texts in a table as they are, where Rich would look for markup in them."""

    def plain(value: Any) -> Any:
        return Text(printable(value, keep="\n")) if isinstance(value, str) else value

    for column in table.columns:
        column.header, column.footer = plain(column.header), plain(column.footer)
        column._cells[:] = [plain(cell) for cell in column._cells]
    table.title, table.caption = (plain(text) if text else text for text in (table.title, table.caption))


def show_values(title: str, values: Mapping[str, str]) -> None:
    """Named values on standard output: a small table on a terminal, `key: value` lines elsewhere."""
    if not sys.stdout.isatty():
        show_lines(*(f"{key}: {value}" for key, value in values.items()))
        return
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(key, value)
    show(table)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps back bars and warnings of the libraries underneath; what they print goes to standard error, so that
    standard output holds results alone. Put their first import into the block."""
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in ("adapters", "datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield
