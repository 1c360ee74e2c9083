"""A small task of multiple choice whose right choice is the one that a word of the question names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from support.training import ENGLISH, GERMAN

COLUMNS = "{question: question, choices: choices, answer: answer}"


def draw_questions(words: list[str], count: int, seed: int, choices: int = 3) -> list[dict[str, Any]]:
    """Questions that begin with the right choice; `choices` of them, or one more."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        drawn = [str(word) for word in rng.permutation(words)[: choices + int(rng.integers(2))]]
        answer = int(rng.integers(len(drawn)))
        rows.append({"question": f"{drawn[answer]} ?", "choices": drawn, "answer": answer})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_choice_task(folder: Path, name: str, columns: str = COLUMNS, further: str = "", seed: int = 0) -> Task:
    """A task with its JSON lines in English and German."""
    folder.mkdir(parents=True, exist_ok=True)
    languages = []
    for number, (language, words) in enumerate((("en", ENGLISH), ("de", GERMAN))):
        paths = []
        for offset, (split, count) in enumerate((("train", 48), ("validation", 24), ("test", 24))):
            path = folder / f"{language}-{split}.jsonl"
            if not path.exists():
                write_rows(path, draw_questions(words, count, 100 * seed + 10 * number + offset))
            paths.append(f"{split}: {path.name}")
        languages.append(f"    {language}: {{{', '.join(paths)}}}")
    text = f"""\
name: {name}
version: 1
kind: multiple_choice
role: both
knowledge: semantic
granularity: sentence
description: which word was asked for
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
{further}data:
  format: jsonl
  columns: {columns}
  languages:
{chr(10).join(languages)}
recipes:
  bottleneck: {{default: {{learning_rate: 1e-2, epochs: 3, batch_examples: 8, dropout: 0.0}}}}
  full: {{default: {{learning_rate: 1e-3, epochs: 3, batch_examples: 8, dropout: 0.0}}}}
"""
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return find_task(str(folder / f"{name}.yaml"))
