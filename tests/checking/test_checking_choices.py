"""Checks of a kind that has columns of its own: each finding with file and line."""

from __future__ import annotations

from support.choices import write_choice_task, write_rows
from support.training import Workspace

from adapter_stilts.checking.check import check_files


def test_a_question_twice_and_a_malformed_row_have_their_file_and_line(workspace: Workspace) -> None:
    folder = workspace.folder / "c"
    row = {"question": "which of these dogs is it ?", "choices": ["the house", "cats run"], "answer": 0}
    others = [{**row, "question": f"what is it in {word} and on {word} ?"} for word in ("that", "this", "he")]
    task = write_choice_task(folder, "c")
    write_rows(folder / "en-train.jsonl", [row, others[0], row])
    write_rows(folder / "en-test.jsonl", [others[1], others[2], {**row, "answer": 5}])
    findings = [str(finding) for finding in check_files([task.path]).findings]
    assert findings[:2] == [
        f"{folder / 'en-train.jsonl'}:3: found the question of {folder / 'en-train.jsonl'}:1, accepted each once "
        "[duplicate]",
        f"{folder / 'en-test.jsonl'}:3: answer: found '5', accepted the number of a choice, 0 to 1 [read]",
    ]
