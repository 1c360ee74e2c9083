"""`data check`: what it prints, and how it ends."""

import json
import shutil
from pathlib import Path

import pytest
from support.cli import command, failed, succeeded

import adapter_stilts
from adapter_stilts.checking.findings import CODES

SHIPPED = Path(adapter_stilts.__file__).parent / "embedded_data"
CLEAN = """\
# sent_id = 1
# text = Ana left Rome.
1\tAna\t_\tPROPN\t_\t_\t2\tnsubj\t_\tEntity=B-PER
2\tleft\t_\tVERB\t_\t_\t0\troot\t_\tEntity=O
3\tRome\t_\tPROPN\t_\t_\t2\tobj\t_\tEntity=B-LOC|SpaceAfter=No
4\t.\t_\tPUNCT\t_\t_\t2\tpunct\t_\tEntity=O

"""


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "my.conllu"
    path.write_text(CLEAN.replace("PROPN", "NP", 1).replace("B-LOC", "B-GPE"), encoding="utf-8")
    return path


def test_shipped_data_as_their_readme_says() -> None:
    (line,) = [
        line for line in (SHIPPED / "README.md").read_text().splitlines() if line.startswith("adapter-stilts data")
    ]
    arguments = line.split()[1:]
    assert arguments == ["data", "check", "adapter_stilts/embedded_data", "--varied", "--parallel", "--minimum", "50"]
    summary = succeeded(*arguments[:2], SHIPPED, *arguments[3:])
    assert summary == (
        "16 files, 1,219 sentences, 15,275 words, no findings; not checked, for want of it:"
        " HEAD (14 of 16 files), DEPREL (14 of 16 files), Sem (14 of 16 files)\n"
    )


def test_a_line_a_finding_and_a_summary(wrong: Path) -> None:
    result = command("data", "check", wrong)
    tags = "ADJ, ADP, ADV, AUX, CCONJ, DET, INTJ, NOUN, NUM, PART, PRON, PROPN, PUNCT, SCONJ, SYM, VERB, X"
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        f"{wrong}:3: found the UPOS 'NP', accepted {tags} [upos]\n"
        f"{wrong}:5: found the entity type 'GPE', accepted PER, LOC, ORG [entity-type]\n"
        "1 file, 1 sentence, 4 words, 2 findings; not checked, for want of it: Sem (1 of 1 files)\n"
    )


def test_json(wrong: Path) -> None:
    result = command("data", "check", wrong, "--json", "--skip", "upos")
    assert result.exit_code == 1
    message = "found the entity type 'GPE', accepted PER, LOC, ORG"
    assert json.loads(result.stdout) == {
        "files": [{"file": str(wrong), "sentences": 1, "words": 4, "unchecked": ["Sem"]}],
        "findings": [{"file": str(wrong), "line": 5, "code": "entity-type", "message": message}],
        "summary": "1 file, 1 sentence, 4 words, 1 finding; not checked, for want of it: Sem (1 of 1 files)",
    }
    assert json.loads(succeeded("data", "check", wrong, "--json", "--skip", "upos, entity-type"))["findings"] == []


def test_options_ask_for_more(tmp_path: Path) -> None:
    for code in ("de", "fr"):
        shutil.copy(SHIPPED / "test" / f"{code}.conllu", tmp_path)
    text = (tmp_path / "fr.conllu").read_text(encoding="utf-8").partition("\n\n")[2]
    (tmp_path / "fr.conllu").write_text(text, encoding="utf-8")
    assert succeeded("data", "check", tmp_path).startswith("2 files, 103 sentences, ")
    result = command("data", "check", tmp_path, "--parallel", "--minimum", 52)
    locations = [line.partition(": ")[0] for line in result.stdout.splitlines()]
    last = len(text.rstrip("\n").split("\n"))
    assert (result.exit_code, locations[:-1]) == (1, [f"{tmp_path / 'fr.conllu'}:{line}" for line in (1, last)])


def test_wrong_usage(tmp_path: Path, wrong: Path) -> None:
    nothing = tmp_path / "nothing.conllu"
    message = f"{nothing}: found no such file, accepted data files, a task's YAML, and folders of CoNLL-U files"
    assert failed(2, "data", "check", nothing) == message
    assert failed(2, "data", "check", wrong, "--skip", "upso").startswith("--skip: found 'upso', accepted: utf-8, ")
    assert failed(2, "data", "check", wrong, "--parallel").startswith(
        "--parallel: found no such files, accepted files in"
    )
    assert command("data", "check").exit_code == 2


def test_help_names_what_is_checked() -> None:
    shown = " ".join(command("data", "check", "--help").stdout.split())
    assert all(f"- {code}: " in shown for code in CODES)
    assert "Exit code: 0 without findings, 1 with, 2 for wrong usage." in shown
    assert "Example: adapter-stilts data check my.conllu" in shown
