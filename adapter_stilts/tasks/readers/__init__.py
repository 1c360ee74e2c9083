"""Rows of one data file, a module for each family of formats.

Whatever the format, a reader returns texts: a string a row (`text`, `label`) or a list of strings a row (`tokens`,
`labels`). A ClassLabel is decoded to its name; a number outside it (-1: no label) stays that number as text.
Every reader takes the path and the columns that are wanted, and raises `DataError`, '<file>:<line>: found ...,
accepted ...' ('<file>: row <n>' for Parquet, from 1).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from adapter_stilts.tasks.readers.conll import read_conll, read_conllu
from adapter_stilts.tasks.readers.jsonl import read_jsonl
from adapter_stilts.tasks.readers.parquet import parquet_label_names, read_parquet
from adapter_stilts.tasks.readers.rows import Column, FileLines, RowLocations, Rows
from adapter_stilts.tasks.readers.tsv import read_tsv

__all__ = [
    "READERS",
    "Column",
    "FileLines",
    "RowLocations",
    "Rows",
    "parquet_label_names",
    "read_conll",
    "read_conllu",
    "read_jsonl",
    "read_parquet",
    "read_tsv",
]

READERS: dict[str, Callable[[Path, Sequence[Column]], Rows]] = {
    "parquet": read_parquet,
    "jsonl": read_jsonl,
    "tsv": read_tsv,
    "conllu": read_conllu,
    "conll": read_conll,
}
