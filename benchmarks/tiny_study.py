"""A study of twelve short runs on a tiny random backbone, made from nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import XLMRobertaTokenizerFast

from benchmarks.random_backbone import LARGE, write_random

WORDS = [f"{first}{rest}" for first in "bdfgk" for rest in ("a", "eli", "onu", "irat", "ulemo", "ovanita")]
LABELS = ("A", "B", "C")
SIZES = {**LARGE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
SIZES["initializer_range"] = 0.1
TASKS = {"target": 0, "first": 1, "second": 2}
TASK = """\
name: {name}
version: 1
kind: tagging
role: both
knowledge: {knowledge}
granularity: token
description: words of no language, labelled by their length
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: [A, B, C]
data:
  format: conllu
  columns: {{tokens: form, labels: upos}}
  languages:
    en: {{train: {name}-train.conllu, validation: {name}-dev.conllu, test: {name}-test.conllu}}
    de: {{test: {name}-test.conllu}}
recipes:
  bottleneck: {{default: {{learning_rate: 1e-2, epochs: {epochs}, batch_examples: 8, selection: best}}}}
  full: {{default: {{learning_rate: 1e-3, epochs: {epochs}, batch_examples: 8}}}}
"""
STUDY = """\
# Twelve runs: two intermediates under bottleneck and full, and what stands on them.
targets: [target.yaml]
intermediates: [first.yaml, second.yaml]
methods: [bottleneck, full]
compositions: [none, stack, fuse, continue]
keep: all
exclude:
  - {method: bottleneck, composition: continue, intermediate: second.yaml}
"""


def write_study(folder: Path, examples: int, epochs: int) -> Path:
    """Tasks with so many training sentences, and the study's file, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, shift in TASKS.items():
        for part, count in (("train", examples), ("dev", 16), ("test", 24)):
            _write_sentences(folder / f"{name}-{part}.conllu", count, shift)
        knowledge = "syntactic" if name == "first" else "semantic"
        (folder / f"{name}.yaml").write_text(
            TASK.format(name=name, knowledge=knowledge, epochs=epochs), encoding="utf-8"
        )
    (folder / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    return folder / "tiny.yaml"


def _write_sentences(path: Path, count: int, shift: int) -> None:
    rng = np.random.default_rng([shift, count, len(path.name)])
    blocks = []
    for _ in range(count):
        words = [str(word) for word in rng.choice(WORDS, rng.integers(2, 10))]
        rows = ((row, word, LABELS[(len(word) + shift) % len(LABELS)]) for row, word in enumerate(words, 1))
        blocks.append("".join(f"{row}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n" for row, word, tag in rows))
    path.write_text("\n".join(blocks) + "\n", encoding="utf-8")


def write_tiny_backbone(folder: Path) -> Path:
    """A random XLM-R of 2 layers x 32: always the same weights."""
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [*(f"▁{letter}" for letter in letters), *letters, "▁"]
    scored = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    scored += [(piece, -4.0 - 0.01 * rank) for rank, piece in enumerate(pieces)] + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=512).save_pretrained(folder / "tokenizer")
    write_random(folder, {**SIZES, "vocab_size": len(scored)}, folder / "tokenizer")
    return folder
