"""Encoded splits: piece ids, spans and label ids as flat arrays, kept as Arrow files by content.

An Arrow file holds one row a sequence. It is named by the hash of everything that decides its content (data files, how
they are read, tokenizer, word piece, labels), so two runs that read the same data read the same file, and a changed
label or tokenizer makes another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from adapter_stilts.paths import cache_dir
from adapter_stilts.schema import Task
from adapter_stilts.tasks.data import Split, data_identity, data_source, load_split
from adapter_stilts.tasks.inventory import refuse_strange_labels
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import LABEL, Inventory
from adapter_stilts.tasks.table_cache import cached_table, write_table
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.tasks.tokenizing import tokenizer_hash

# Raise it when the encoding changes what a model sees: cached files and run names change with it.
ENCODING_VERSION = 1
# Raise it where that is so for files that were read or encoded wrongly: cached files are made anew, runs keep names.
CACHE_VERSION = 4
# What the columns of targets begin with in an Arrow file.
TARGET = "target."
SOURCES_NAMED = 3  # of more, concatenated splits name the first and how many there are besides


@dataclass(frozen=True)
class EncodedSplit:
    """One split of one language, encoded.

    Sequence `s` has pieces `ids[id_offsets[s]:id_offsets[s+1]]`, and its units are `unit_offsets[s]:unit_offsets[s+1]`
    of `starts`, `ends` (positions within the sequence, end excluded) and of each of `targets`, which the kind names; of
    labels they are ids into `label_names`, of which the first `trained` have a row in the head; later ones are gold
    labels that English training never showed. `example[s]` is the example that the sequence belongs to, in order;
    `examples` their number. `text_starts` are indices of `ids` at which another text begins, where no special token
    says so.
    """

    language: str
    split: str
    sha256: str
    source: str
    revision: str | None
    examples: int
    label_names: tuple[str, ...]
    trained: int
    example: np.ndarray
    ids: np.ndarray
    id_offsets: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    targets: Mapping[str, np.ndarray]
    unit_offsets: np.ndarray
    text_starts: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """Pieces of each sequence, special tokens included."""
        return np.diff(self.id_offsets)

    def sequences_of(self, examples: np.ndarray) -> np.ndarray:
        """Indices of all sequences of the given examples."""
        return np.flatnonzero(np.isin(self.example, examples))

    def sample(self, limit: int | None, seed: int) -> np.ndarray:
        """Sorted indices of `limit` examples drawn with the seed; all where there are no more than that."""
        if limit is None or limit >= self.examples:
            return np.arange(self.examples)
        return np.sort(np.random.default_rng(seed).permutation(self.examples)[:limit])

    def units_of(self, sequences: np.ndarray) -> np.ndarray:
        """Indices of the units of the given sequences, in order."""
        return ranges(self.unit_offsets[sequences], np.diff(self.unit_offsets)[sequences])


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`starts[0], starts[0]+1, ... (lengths[0] of them), starts[1], ...`"""
    begin = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - begin, lengths)


def encode_split(
    task: Task, language: str, split: str, tokenizer: Tokenizer, labels: Sequence[str], mirror: Path | None = None
) -> EncodedSplit:
    """The encoded split, from the cache where it has been encoded before.

    Raises what `load_split` raises, and DataError for a label outside a closed inventory, another spelling of a
    trained one (`Pos` beside `pos`), and a split in which no label is a trained one: its score would mean nothing.
    """
    identity = data_identity(task, language, split, mirror)
    path = cache_dir() / "encoded" / f"{_encoding_key(task, language, split, identity, tokenizer, labels)}.arrow"
    table = cached_table(path)
    if table is None:
        loaded = load_split(task, language, split, mirror)
        refuse_strange_labels(task, loaded, labels, mirror)
        table = write_table(path, encode_columns(task, loaded, tokenizer, labels))
    # Equal files have one cache entry, wherever they are: this task's source and revision may be others.
    source, revision = data_source(task, language, split, mirror)
    return replace(_split_of(table), source=source, revision=revision)


def concatenate(splits: Sequence[EncodedSplit]) -> EncodedSplit:
    """One split of all the given ones, in order: the same split of one task in several languages (`de+fr`).

    Examples are renumbered, gold labels that were never trained merged by name. The hash is that of the parts' hashes,
    the revision None where they differ. Raises ValueError for splits of another name or with other trained labels.
    """
    first = splits[0]
    if len(splits) == 1:
        return first
    trained = first.label_names[: first.trained]
    if any((split.split, split.label_names[: split.trained]) != (first.split, trained) for split in splits):
        raise ValueError("accepted splits of one name with the same trained labels")
    names = tuple(dict.fromkeys([*trained, *(name for split in splits for name in split.label_names[split.trained :])]))
    sources = [split.source for split in splits]
    shown = sources if len(sources) <= SOURCES_NAMED else [f"{first.source} and {len(sources) - 1} more"]
    before = np.cumsum([0, *(split.examples for split in splits)])

    pieces_before = np.cumsum([0, *(len(each.ids) for each in splits)])

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(split, name) for split in splits])

    def offsets(name: str) -> np.ndarray:
        return np.cumsum(np.concatenate([[0], *(np.diff(getattr(split, name)) for split in splits)])).astype(np.int64)

    arrays: dict[str, Any] = {name: joined(name) for name in ("ids", "starts", "ends")}
    return replace(
        first,
        language="+".join(split.language for split in splits),
        sha256=hashlib.sha256("".join(split.sha256 for split in splits).encode()).hexdigest(),
        source="; ".join(shown),
        revision=first.revision if len({split.revision for split in splits}) == 1 else None,
        examples=int(before[-1]),
        label_names=names,
        example=np.concatenate([split.example + shift for split, shift in zip(splits, before, strict=False)]),
        targets={name: np.concatenate([_renamed(split, name, names) for split in splits]) for name in first.targets},
        text_starts=np.concatenate(
            [each.text_starts + shift for each, shift in zip(splits, pieces_before, strict=False)]
        ),
        id_offsets=offsets("id_offsets"),
        unit_offsets=offsets("unit_offsets"),
        **arrays,
    )


def _renamed(split: EncodedSplit, target: str, names: Sequence[str]) -> np.ndarray:
    """The split's targets; those that are ids of label names as indices of these in `names`."""
    values = split.targets[target]
    if target != LABEL or split.label_names == tuple(names):
        return values
    return np.array([names.index(name) for name in split.label_names], dtype=values.dtype)[values]


def encode_columns(task: Task, loaded: Split, tokenizer: Tokenizer, labels: Sequence[str]) -> pa.Table:
    """Arrow table of a loaded split, one row a sequence, with what decides its meaning in the schema's metadata."""
    kind = find_kind(task.kind)
    inventory = Inventory(labels, task.labels == "open", loaded.locations.of)
    targets = [f"{TARGET}{name}" for name in kind.targets] if kind.has_answers else []
    lists = ("input_ids", "starts", "ends", "text_starts")
    rows: dict[str, list[Any]] = {name: [] for name in ("example", *lists, *targets)}
    for sequence in kind.encode(loaded.columns, tokenizer, task.options, inventory):
        rows["example"].append(sequence.example)
        for name in lists:
            rows[name].append(getattr(sequence, name))
        for name in targets:
            rows[name].append(sequence.targets[name.removeprefix(TARGET)])
    types = {"example": pa.int32(), **dict.fromkeys((*lists, *targets), pa.list_(pa.int32()))}
    about = {
        "language": loaded.language,
        "split": loaded.split,
        "sha256": loaded.sha256,
        "source": loaded.source,
        "revision": loaded.revision,
        "examples": len(next(iter(loaded.columns.values()))),
        "label_names": inventory.names,
        "trained": len(labels),
    }
    schema = pa.schema(list(types.items()), metadata={"adapter_stilts": json.dumps(about)})
    return pa.table(rows, schema=schema)


def _encoding_key(
    task: Task, language: str, split: str, identity: str, tokenizer: Tokenizer, labels: Sequence[str]
) -> str:
    parts = {
        "encoding": ENCODING_VERSION,
        "cache": CACHE_VERSION,
        "language": language,
        "split": split,
        "data": identity,
        "reading": reading_of(task, language),
        "tokenizer": tokenizer_hash(tokenizer),
        **task.options.identity(),
        "labels": list(labels),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def reading_of(task: Task, language: str) -> dict[str, Any]:
    """What in a task's YAML decides which rows and columns of its files are read, and as what.

    Where the files lie (repository, revision, path) is left out: their content decides.
    """
    sources = {"dataset", "revision", "config", "splits", "languages", "train", "validation", "test"}
    return {
        "kind": task.kind,
        "labels": list(task.labels) if isinstance(task.labels, tuple) else task.labels,
        "label_until": task.label_until,
        "development_share": task.development_share,
        "data": task.data.model_dump(mode="json", exclude=sources),
        "language": task.data.languages[language].model_dump(mode="json", exclude=sources, exclude_none=True),
    }


def _split_of(table: pa.Table) -> EncodedSplit:
    about = json.loads(table.schema.metadata[b"adapter_stilts"])

    def flat(name: str) -> np.ndarray:
        return table[name].combine_chunks().flatten().to_numpy()

    def offsets(name: str) -> np.ndarray:
        lengths = pa.compute.list_value_length(table[name]).to_numpy()
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    return EncodedSplit(
        **{**about, "label_names": tuple(about["label_names"])},
        example=table["example"].to_numpy(),
        ids=flat("input_ids"),
        id_offsets=offsets("input_ids"),
        starts=flat("starts"),
        ends=flat("ends"),
        targets={name.removeprefix(TARGET): flat(name) for name in table.column_names if name.startswith(TARGET)},
        unit_offsets=offsets("starts"),
        text_starts=flat("text_starts") + np.repeat(offsets("input_ids")[:-1], np.diff(offsets("text_starts"))),
    )
