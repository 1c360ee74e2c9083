"""Text of others is text, wherever it is printed."""

import json
from pathlib import Path

import pytest
from rich.table import Table

import adapter_stilts.cli
from adapter_stilts.plain_text import csv_cell, json_text, markdown_cell, printable
from adapter_stilts.progress import say, show, show_lines, show_values


def test_control_characters_are_escapes() -> None:
    assert printable("a\x1b[2J\x9b\u202eb\n") == "a\\x1b[2J\\x9b\\u202eb\\x0a"
    assert printable("ä日 ا") == "ä日 ا"
    document = json.dumps({"a": "\x1b\x9b\u202e"}, ensure_ascii=False, indent=2)
    assert json.loads(json_text(document)) == {"a": "\x1b\x9b\u202e"}
    assert "\x9b" not in json_text(document)


def test_results_are_text_on_a_terminal_and_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_lines("missing: de (\x1b[2Jgone)", "next")
    assert capsys.readouterr().out == "missing: de (\\x1b[2Jgone)\nnext\n"
    for terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        show_values("run", {"licence": "a\x9b[31m"})
        shown = capsys.readouterr().out
        assert "licence" in shown
        assert "a\\x9b[31m" in shown
        assert "\x9b" not in shown


def test_the_command_line_prints_stored_text_in_one_way() -> None:
    """`print` writes nothing but blank lines and what is JSON, Markdown, a graph, a version or an error made text."""
    folder = Path(adapter_stilts.cli.__file__).parent
    lines = [line.strip() for path in sorted(folder.glob("*.py")) for line in path.read_text().splitlines()]
    assert sorted({line for line in lines if line.startswith("print(")} - {"print()"}) == [
        "print(as_dot(made))",
        "print(comparison.markdown())",
        'print(f"adapter-stilts {__version__}")',
        "print(json_text(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)))",
        'print(printable(" ".join(line.split())), file=sys.stderr)',
    ]


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
