"""The throughput benchmark, end to end on a tiny backbone: who counts and sees what, what the ratios divide."""

import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_tiny import tiny_backbone_folder
from transformers import XLMRobertaTokenizerFast

from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.training.inference import INFERENCE_TOKENS
from benchmarks import peers, throughput
from benchmarks.machine import describe_machine, processor_name

TASK = """\
name: mine
version: 1
kind: tagging
role: target
knowledge: syntactic
granularity: token
description: words
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: [A, B]
word_piece: WORD_PIECE
data:
  format: conllu
  columns: {tokens: form, labels: upos}
  languages:
    en: {train: train.conllu, validation: dev.conllu}
"""
SENTENCES_A_STEP, STEPS, REPEATS = 4, 3, 2
# As many sentences as three steps take, of 1 to 12 words, so that the benchmark has to choose all of them.
WORDS = ["the", "cat", "is", "on", "it"] * 2 + ["this", "that"]
SENTENCES = [WORDS[:words] for words in (3, 1, 12, 7, 2, 5, 9, 4, 11, 6, 8, 10)]
TOO_LONG = ["that"] * 600
PEERS = ("adapter_trainer_none", "adapter_trainer_stack", "trainer_full")
TRAINING = [f"{peer}_{order}" for peer in PEERS for order in ("default", "grouped")]
OURS = ["ours_none", "ours_stack", "ours_full", "ours_inference"]


def conllu(sentences: list[list[str]]) -> str:
    def lines(words: list[str]) -> str:
        return "".join(f"{n}\t{w}\t_\t{'AB'[n % 2]}\t_\t_\t0\t_\t_\t_\n" for n, w in enumerate(words, 1))

    return "\n".join(map(lines, sentences))


def cut(values: list[int], size: int) -> list[list[int]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def write_task(folder: Path, word_piece: str = "first_content") -> Path:
    (folder / "train.conllu").write_text(conllu([SENTENCES[0], TOO_LONG, *SENTENCES[1:]]), encoding="utf-8")
    (folder / "dev.conllu").write_text(conllu(SENTENCES[:3]), encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(TASK.replace("WORD_PIECE", word_piece), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def result(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command line writes."""
    folder = tmp_path_factory.mktemp("throughput")
    out = folder / "results" / "throughput.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTER_STILTS_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setitem(INFERENCE_TOKENS, "cpu", 40)
        sizes = ["--sentences-a-step", str(SENTENCES_A_STEP), "--steps", str(STEPS), "--repeats", str(REPEATS)]
        where = ["--backbone", str(backbone), "--task", str(write_task(folder)), "--out", str(out)]
        assert throughput.main([*where, *sizes]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lengths(backbone: Path) -> list[int]:
    """Pieces of each sentence with `<s>` and `</s>`, by the tokenizer itself."""
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(backbone)
    return [len(tokenizer(words, is_split_into_words=True).input_ids) for words in SENTENCES]


def test_all_count_the_same_tokens(result: dict[str, Any], lengths: list[int]) -> None:
    assert set(result["variants"]) == {*OURS, *TRAINING, "trainer_predict_default", "trainer_predict_sorted"}
    for name, own in result["variants"].items():
        assert own["tokens"] == [sum(lengths)] * REPEATS, name
        assert len(own["seconds"]) == REPEATS
    assert (result["sentences"], result["tokens"], result["longest_sentence"]) == (12, sum(lengths), max(lengths))


def test_speeds_and_ratios_follow_from_what_is_stored(result: dict[str, Any]) -> None:
    median = {}
    for name, own in result["variants"].items():
        speeds = [tokens / seconds for tokens, seconds in zip(own["tokens"], own["seconds"], strict=True)]
        stored = own["tokens_per_second"]
        assert stored == {"all": speeds, "best": max(speeds), "median": statistics.median(speeds)}
        median[name] = stored["median"]
    expected = {
        "ratio_training_default": median["ours_none"] / median["adapter_trainer_none_default"],
        "ratio_training_grouped": median["ours_none"] / median["adapter_trainer_none_grouped"],
        "ratio_stack_default": median["ours_stack"] / median["adapter_trainer_stack_default"],
        "ratio_stack_grouped": median["ours_stack"] / median["adapter_trainer_stack_grouped"],
        "ratio_full_default": median["ours_full"] / median["trainer_full_default"],
        "ratio_full_grouped": median["ours_full"] / median["trainer_full_grouped"],
        "ratio_inference_default": median["ours_inference"] / median["trainer_predict_default"],
        "ratio_inference_sorted": median["ours_inference"] / median["trainer_predict_sorted"],
    }
    assert {key: value for key, value in result.items() if key.startswith("ratio_")} == expected


def test_padding_of_sorted_prediction(result: dict[str, Any], lengths: list[int], backbone: Path) -> None:
    """Batches hold the number of sentences that have 40 pieces on average over the split, the long one included."""
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(backbone)
    # The long sentence is two windows of whole words: its pieces, and `<s>` and `</s>` twice.
    long = len(tokenizer(TOO_LONG, is_split_into_words=True, add_special_tokens=False, verbose=False).input_ids)
    windows = -(-long // 510)
    size = max(1, round(40 / ((sum(lengths) + long + 2 * windows) / (len(lengths) + windows))))
    assert result["peers"]["training_arguments"]["per_device_eval_batch_size"] == size
    places = sum(len(own) * max(own) for own in cut(sorted(lengths), size))
    assert result["variants"]["trainer_predict_sorted"]["padding_share"] == pytest.approx(1 - sum(lengths) / places)
    assert "padding_share" not in result["variants"]["ours_none"]


def test_training_peers_pad_as_they_must(result: dict[str, Any], lengths: list[int]) -> None:
    """Twelve sentences in steps of four: none pads less than in order, or more than with one long each."""
    least = sum(len(own) * max(own) for own in cut(sorted(lengths), SENTENCES_A_STEP))
    most = sum(SENTENCES_A_STEP * length for length in sorted(lengths)[-STEPS:])
    for name in TRAINING:
        share = result["variants"][name]["padding_share"]
        assert 1 - sum(lengths) / least - 1e-9 <= share <= 1 - sum(lengths) / most + 1e-9, name


def test_both_sides_train_the_same_parameters(result: dict[str, Any]) -> None:
    trained = {name: own["trainable_parameters"] for name, own in result["variants"].items()}
    # Two layers, 32 wide, reduced by 8 to 4: down and up with biases; a head of 32 x 2 with biases.
    adapters = 2 * (32 * 4 + 4 + 4 * 32 + 32) + 32 * 2 + 2
    for name in ("ours_none", "ours_stack", *TRAINING[:4]):
        assert trained[name] == adapters, name
    # 500 pieces, 514 positions, one type, a norm; per layer four 32 x 32, two 32 x 128 and two norms; the head.
    full = (500 + 514 + 1 + 2) * 32 + 2 * (4 * (32 * 32 + 32) + 32 * 128 + 128 + 128 * 32 + 32 + 4 * 32) + 32 * 2 + 2
    for name in ("ours_full", *TRAINING[4:]):
        assert trained[name] == full, name


def test_peers_have_the_settings_that_the_file_claims(result: dict[str, Any], backbone: Path) -> None:
    peers, given = result["peers"], result["peers"]["training_arguments"]
    assert (given["per_device_train_batch_size"], given["num_train_epochs"], given["bf16"]) == (4, 1, False)
    assert (peers["attention_probs_dropout_prob"], peers["hidden_dropout_prob"]) == (0.0, 0.1)
    assert peers["grouped_window_batches"] == 1
    assert result["ours"]["reduction"] == 8


@pytest.mark.parametrize("kind", ["adapters", "full"])
def test_peer_models_have_our_dropout(kind: str, backbone: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    options = throughput.parse(
        ["--backbone", str(backbone), "--task", str(write_task(tmp_path)), "--out", str(tmp_path / "out.json")]
    )
    jobs = throughput.make_jobs(options, None, str(tmp_path))
    if kind == "adapters":
        model = peers.peer_adapter_model(jobs["stack"], ["A", "B"])
        assert list(model.active_adapters) == list(jobs["stack"].arrangement.adapters)
    else:
        model = peers.peer_full_model(jobs["full"], ["A", "B"])
    attention = [layer.attention.self for layer in model.roberta.encoder.layer]
    assert [own.dropout_prob for own in attention] == [0.0, 0.0]
    found = {module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout) and module.p}
    assert found == {0.1}
    assert jobs["none"].backbone.config.attention_probs_dropout_prob == 0.1  # the shared configuration is not touched


def test_command_repeats_the_run_without_places_of_this_machine(result: dict[str, Any], backbone: Path) -> None:
    assert result["command"] == (
        f"OMP_NUM_THREADS=1 python -m benchmarks.throughput --device cpu --backbone {backbone.name} --task mine.yaml "
        f"--sentences-a-step 4 --steps 3 --repeats 2 --variants none stack full "
        f"--out throughput.json"
    )
    assert not re.search(r'"/|/tmp', json.dumps(result))
    assert result["machine"] == describe_machine()


def test_mirror_is_shown_as_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = throughput.parse(["--hub-mirror", str(tmp_path), "--out", "results/a b.json"])
    assert throughput.command(options) == (
        "python -m benchmarks.throughput --device cpu --backbone embedded --task udpos --hub-mirror hub "
        "--sentences-a-step 32 --steps 200 --repeats 3 --variants none stack full --out 'results/a b.json'"
    )


def test_collator_counts_by_hand(backbone: Path) -> None:
    collator = peers.CountingCollator(XLMRobertaTokenizerFast.from_pretrained(backbone))

    def rows(*lengths: int) -> list[dict[str, Any]]:
        return [{"input_ids": [5] * n, "attention_mask": [1] * n, "labels": [0] * n} for n in lengths]

    batch = collator(rows(3, 5, 4))
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[0, 0, 0, -100, -100], [0] * 5, [0, 0, 0, 0, -100]]
    collator(rows(2, 7))
    assert (collator.tokens, collator.places) == (12 + 9, 15 + 14)
    measured = [peers.Measured(collator.tokens, collator.places, 2.0)]
    own = throughput.summary(peers.Variant(lambda sample, repeat: measured[0], 0, pads=True), measured)
    assert own["padding_share"] == pytest.approx(8 / 29)
    assert own["tokens_per_second"] == {"median": 10.5, "best": 10.5, "all": [10.5]}


SPLIT = EncodedSplit(
    language="en", split="train", sha256="", source="", revision=None, examples=2, label_names=("A", "B"), trained=2,
    example=np.array([0, 1, 1]),
    ids=np.array([0, 11, 12, 13, 2, 0, 21, 2, 0, 22, 2]),
    id_offsets=np.array([0, 5, 8, 11]),
    starts=np.array([1, 3, 1, 1]), ends=np.array([2, 4, 2, 2]), labels=np.array([1, 0, 1, 0]),
    unit_offsets=np.array([0, 2, 3, 4]),
)  # fmt: skip


def test_peers_label_the_pieces_that_we_read() -> None:
    rows = peers.peer_rows(SPLIT, np.array([1, 0]))
    assert rows["input_ids"][:] == [[0, 21, 2], [0, 11, 12, 13, 2]]
    assert rows["labels"][:] == [[-100, 1, -100], [-100, 1, -100, 0, -100]]
    assert rows["attention_mask"][:] == [[1, 1, 1], [1, 1, 1, 1, 1]]


def test_sentences_of_several_windows_are_left_out() -> None:
    assert throughput.draw_examples(SPLIT, 1, 1).tolist() == [0]
    three = replace(SPLIT, examples=3, example=np.array([0, 1, 2]))
    assert sorted(throughput.draw_examples(three, 1, 3).tolist()) == [0, 1, 2]
    with pytest.raises(throughput.UsageError, match=r"--steps: found 2, accepted: at most 1 \(3 sentences"):
        throughput.draw_examples(three, 2, 2)


def test_bad_usage_is_one_line_and_writes_nothing(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out.json"
    task = write_task(tmp_path, word_piece="mean")
    assert throughput.main(["--backbone", str(backbone), "--task", str(task), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.err == (
        f"error: {task}: found kind tagging, word_piece mean, accepted: tagging, word_piece first or first_content\n"
    )
    assert said.out == ""
    assert not out.exists()


def test_processor_by_name(tmp_path: Path) -> None:
    information = tmp_path / "cpuinfo"
    information.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nmodel\t: 1\n", encoding="utf-8")
    assert processor_name(information) == "Some CPU @ 2.0GHz"
    assert processor_name(tmp_path / "none") != ""
