"""Text of others is text, wherever it is printed."""

import json

import pytest
from rich.table import Table

from adapter_stilts.plain_text import csv_cell, json_text, markdown_cell, printable
from adapter_stilts.progress import say, show


def test_control_characters_are_escapes() -> None:
    assert printable("a\x1b[2J\x9b\u202eb\n") == "a\\x1b[2J\\x9b\\u202eb\\x0a"
    assert printable("ä日 ا") == "ä日 ا"
    document = json.dumps({"a": "\x1b\x9b\u202e"}, ensure_ascii=False, indent=2)
    assert json.loads(json_text(document)) == {"a": "\x1b\x9b\u202e"}
    assert "\x9b" not in json_text(document)


def test_markdown() -> None:
    assert markdown_cell("<img src=x onerror=y>|a\nb") == "&lt;img src=x onerror=y>\\|a b"
    assert markdown_cell("p < 0.05") == "p < 0.05"


@pytest.mark.parametrize(
    ("value", "cell"), [("=1+1", "'=1+1"), ("@x", "'@x"), ("-0.5", "-0.5"), (-0.5, -0.5), ("+1e3", "+1e3"), ("a", "a")]
)
def test_csv(value: object, cell: object) -> None:
    assert csv_cell(value) == cell


def test_rows_that_differ_by_a_bracketed_value(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("", "x", title="[bold]t[/bold]")
    table.add_row("target [red]", "[/] :smile: \x1b[2J")
    table.add_row("target [blue]", "b")
    show(table)
    out = capsys.readouterr().out
    for text in ("[bold]t[/bold]", "target [red]", "target [blue]", "[/] :smile: \\x1b[2J"):
        assert text in out
    say("a\x1b]0;title\x07")
    assert capsys.readouterr().err == "a\\x1b]0;title\\x07\n"
