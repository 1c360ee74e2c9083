"""The throughput benchmark, end to end on a tiny backbone: who counts and sees what, what the ratios divide."""

import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import tiny_backbone_folder
from support.training import random_split
from transformers import XLMRobertaTokenizerFast

from adapter_stilts.engine.predicting import INFERENCE_TOKENS
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.encode import EncodedSplit
from benchmarks import contenders, measuring, peer_models, peers, random_backbone, report, samples, throughput
from benchmarks.machine import describe_machine, processor_name
from benchmarks.ours import WatchedStep, as_they_come

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
    en: {train: train.conllu, validation: dev.conllu, test: dev.conllu}
    de: {test: test.conllu}
    fr: {validation: dev.conllu}
"""
SENTENCES_A_STEP, STEPS, REPEATS = 4, 3, 2
# As many sentences as three steps take, of 1 to 12 words, so that the benchmark has to choose all of them.
WORDS = ["the", "cat", "is", "on", "it"] * 2 + ["this", "that"]
SENTENCES = [WORDS[:words] for words in (3, 1, 12, 7, 2, 5, 9, 4, 11, 6, 8, 10)]
TOO_LONG = ["that"] * 600
GERMAN = [["das", "ist", "the", "cat"], ["it"]]
ADAPTERS, FULL = ("none", "stack", "fuse", "continue"), "full"
PEERS = {**{name: f"adapter_trainer_{name}" for name in ADAPTERS}, "lora": "peft_trainer_lora", "full": "trainer_full"}
TRAINING = {name: [f"{peer}_{order}_float32" for order in ("default", "grouped")] for name, peer in PEERS.items()}
OURS = {name: f"ours_{name}_eager_float32" for name in PEERS}
SIZES = ["4 sentences a step", "30 tokens a step"]


def conllu(sentences: list[list[str]]) -> str:
    def lines(words: list[str]) -> str:
        return "".join(f"{n}\t{w}\t_\t{'AB'[n % 2]}\t_\t_\t0\t_\t_\t_\n" for n, w in enumerate(words, 1))

    return "\n".join(map(lines, sentences))


def cut(values: list[int], size: int) -> list[list[int]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def write_task(folder: Path, word_piece: str = "first_content") -> Path:
    (folder / "train.conllu").write_text(conllu([SENTENCES[0], TOO_LONG, *SENTENCES[1:]]), encoding="utf-8")
    (folder / "dev.conllu").write_text(conllu(SENTENCES[:3]), encoding="utf-8")
    (folder / "test.conllu").write_text(conllu(GERMAN), encoding="utf-8")
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
        sizes = ["--sentences-a-step", str(SENTENCES_A_STEP), "--tokens-a-step", "30"]
        sizes += ["--steps", str(STEPS), "--repeats", str(REPEATS), "--language-sentences", "2"]
        where = ["--backbone", str(backbone), "--task", str(write_task(folder)), "--out", str(out)]
        assert throughput.main([*where, *sizes, "--variants", *PEERS, "inference", "languages"]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lengths(backbone: Path) -> list[int]:
    """Pieces of each sentence with `<s>` and `</s>`, by the tokenizer itself."""
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(backbone)
    return [len(tokenizer(words, is_split_into_words=True).input_ids) for words in SENTENCES]


def pieces(backbone: Path, sentences: list[list[str]]) -> list[int]:
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(backbone)
    return [len(tokenizer(words, is_split_into_words=True).input_ids) for words in sentences]


@pytest.mark.slow
def test_all_count_the_same_tokens(result: dict[str, Any], lengths: list[int], backbone: Path) -> None:
    assert list(result["results"]) == [*SIZES, "inference", "languages"]
    expected = {SIZES[0]: lengths, "inference": lengths, "languages": pieces(backbone, [*GERMAN, *SENTENCES[:2]])}
    for part, sentence_lengths in expected.items():
        measured = result["results"][part]
        for name, variant in measured["variants"].items():
            if part != "languages":
                assert variant["tokens"] == [sum(sentence_lengths)] * REPEATS, name
            assert variant["tokens"] == [measured["tokens"]] * REPEATS, name
            assert len(variant["seconds"]) == REPEATS
    first = result["results"][SIZES[0]]
    assert (first["sentences"], first["tokens"], first["longest_sentence"]) == (12, sum(lengths), max(lengths))
    assert set(first["variants"]) == {
        *OURS.values(),
        *(contender for names in TRAINING.values() for contender in names),
    }
    orders = [f"trainer_predict_inference_{order}_float32" for order in ("default", "sorted", "default_equal", "equal")]
    ours = ["ours_inference_float32", "ours_inference_default_float32"]
    assert set(result["results"]["inference"]["variants"]) == {*ours, *orders}


def test_sentences_as_they_come_are_cut_where_the_next_does_not_fit() -> None:
    part: Any = SimpleNamespace(train=random_split([9, 5, 20, 50, 3]), train_examples=np.array([3, 0, 1, 2, 4]))
    assert [batch.tolist() for batch in as_they_come(part, 30)] == [[3], [0, 1], [2, 4]]
    assert [batch.tolist() for batch in as_they_come(part, 87)] == [[3, 0, 1, 2, 4]]


@pytest.mark.slow
def test_languages_are_those_that_are_present(result: dict[str, Any], backbone: Path) -> None:
    part = result["results"]["languages"]
    assert part["languages"] == ["en", "de"]
    # Two of the three English sentences, and both German ones.
    english = pieces(backbone, SENTENCES[:3])
    german = sum(pieces(backbone, GERMAN))
    assert part["sentences"] == 4
    assert part["tokens"] in {german + sum(english) - left_out for left_out in english}


@pytest.mark.slow
def test_speeds_and_ratios_follow_from_what_is_stored(result: dict[str, Any]) -> None:
    for part in result["results"].values():
        speeds = {}
        for name, variant in part["variants"].items():
            every = [tokens / seconds for tokens, seconds in zip(variant["tokens"], variant["seconds"], strict=True)]
            stored = variant["tokens_per_second"]
            middle = statistics.median(every)
            assert stored == {"all": every, "best": max(every), "median": middle, "low": min(every), "high": max(every)}
            speeds[name] = every
        for name, ratio in part["ratios"].items():
            ours, peer = name.split(" / ") if " / " in name else (ratio["ours"], ratio["peer"])
            assert part["variants"][ours]["group"] == part["variants"][peer]["group"]
            assert ratio["all"] == [one / other for one, other in zip(speeds[ours], speeds[peer], strict=True)]
            assert (ratio["median"], ratio["low"]) == (statistics.median(ratio["all"]), min(ratio["all"]))
    pairs = [f"{OURS[name]} / {peer}" for name, peers in TRAINING.items() for peer in peers]
    assert set(result["results"][SIZES[0]]["ratios"]) == {*pairs, *(f"best {name}" for name in PEERS)}


@pytest.mark.slow
def test_share_of_the_matrix_rate(result: dict[str, Any]) -> None:
    """Two layers, 32 wide, 128 inside: 4 x 32 x 32 + 2 x 32 x 128 multiply-adds each, two operations each."""
    assert result["multiply_adds_a_token"] == 2 * (4_096 + 8_192)
    rate = result["matrix_operations_per_second"]["float32"]
    passes = {"none": 2, "fuse": 2, "lora": 2, "full": 3, "inference": 1, "languages": 1}
    for part in result["results"].values():
        for variant in part["variants"].values():
            if variant["group"] in passes:
                operations = 2 * 24_576 * passes[variant["group"]]
                assert variant["matrix_share"] == pytest.approx(
                    variant["tokens_per_second"]["median"] * operations / rate
                )
            assert variant["peak_memory_bytes"] is None


@pytest.mark.slow
def test_waiting_is_a_share_of_the_time(result: dict[str, Any]) -> None:
    for name, variant in result["results"][SIZES[0]]["variants"].items():
        assert ("waiting_share" in variant) == variant["ours"], name
        if variant["ours"]:
            assert 0 < variant["waiting_share"]["low"] <= variant["waiting_share"]["high"] < 1


@pytest.mark.slow
def test_padding_of_prediction(result: dict[str, Any], lengths: list[int], backbone: Path) -> None:
    """Batches hold the number of sentences that have 40 pieces on average over the split, the long one included; equal
    ones as many sentences as fit into 40 places."""
    tokenizer = XLMRobertaTokenizerFast.from_pretrained(backbone)
    # The long sentence is two windows of whole words: its pieces, and `<s>` and `</s>` twice.
    long = len(tokenizer(TOO_LONG, is_split_into_words=True, add_special_tokens=False, verbose=False).input_ids)
    windows = -(-long // 510)
    size = max(1, round(40 / ((sum(lengths) + long + 2 * windows) / (len(lengths) + windows))))
    part = result["results"]["inference"]
    assert part["peers"]["training_arguments"]["per_device_eval_batch_size"] == size
    positions = sum(len(batch) * max(batch) for batch in cut(sorted(lengths), size))
    share = part["variants"]["trainer_predict_inference_sorted_float32"]["padding_share"]
    assert share == pytest.approx(1 - sum(lengths) / positions)
    equal: list[list[int]] = [[]]
    for length in sorted(lengths):
        if equal[-1] and (len(equal[-1]) + 1) * length > 40:
            equal.append([])
        equal[-1].append(length)
    positions = sum(len(batch) * max(batch) for batch in equal)
    share = part["variants"]["trainer_predict_inference_equal_float32"]["padding_share"]
    assert share == pytest.approx(1 - sum(lengths) / positions)
    assert "padding_share" not in part["variants"]["ours_inference_float32"]


def test_equal_batches_by_hand() -> None:
    """Twelve places: 4 x 3, then 2 x 5 (3 x 6 are too many), 2 x 6, and what is too long alone."""
    assert peers.equal_batches([2, 3, 3, 3, 4, 5, 6, 6, 13, 14], 12) == [[0, 1, 2, 3], [4, 5], [6, 7], [8], [9]]
    assert peers.equal_batches([], 12) == []
    # As they come: a batch is as wide as its longest row, wherever that stands in it.
    assert peers.equal_batches([5, 2, 2, 6, 2, 2, 13, 1], 12) == [[0, 1], [2, 3], [4, 5], [6], [7]]


@pytest.mark.slow
def test_training_peers_pad_as_they_must(result: dict[str, Any], lengths: list[int]) -> None:
    """Twelve sentences in steps of four: none pads less than in order, or more than with one long each."""
    least = sum(len(batch) * max(batch) for batch in cut(sorted(lengths), SENTENCES_A_STEP))
    most = sum(SENTENCES_A_STEP * length for length in sorted(lengths)[-STEPS:])
    for names in TRAINING.values():
        for name in names:
            share = result["results"][SIZES[0]]["variants"][name]["padding_share"]
            assert 1 - sum(lengths) / least - 1e-9 <= share <= 1 - sum(lengths) / most + 1e-9, name


@pytest.mark.slow
def test_a_size_in_tokens(result: dict[str, Any]) -> None:
    """The peers' rows a step are those that have so many tokens on average: sentences here are longer than 20."""
    part = result["results"][SIZES[1]]
    assert (part["tokens_a_step"], result["results"][SIZES[0]]["tokens_a_step"]) == (30, None)
    rows = part["peers"]["training_arguments"]["per_device_train_batch_size"]
    assert part["sentences_a_step"] == rows == 1
    assert part["sentences"] == rows * STEPS


@pytest.mark.parametrize(("mean", "rows"), [(10.0, 102), (25.0, 41), (2_000.0, 1)])
def test_rows_of_so_many_tokens(mean: float, rows: int) -> None:
    assert contenders.Size(tokens=1_024).rows(mean) == rows
    assert contenders.Size(sentences=32).rows(mean) == 32
    assert contenders.Size(tokens=1_024).settings == {"batch_tokens": "1024"}


@pytest.mark.slow
def test_both_sides_train_the_same_parameters(result: dict[str, Any]) -> None:
    variants = result["results"][SIZES[0]]["variants"]
    trained = {name: variant["trainable_parameters"] for name, variant in variants.items()}
    # Two layers, 32 wide, reduced by 8 to 4: down and up with biases; a head of 32 x 2 with biases.
    head = 32 * 2 + 2
    adapter = 2 * (32 * 4 + 4 + 4 * 32 + 32)
    for name in ("none", "stack", "continue"):
        for contender in (OURS[name], *TRAINING[name]):
            assert trained[contender] == adapter + head, contender
    # LoRA of rank 16 on query and value: A and B, 32 x 16 each.
    for contender in (OURS["lora"], *TRAINING["lora"]):
        assert trained[contender] == 2 * 2 * 2 * 32 * 16 + head, contender
    # Light fusion: a query of rank 16 with a bias; AdapterFusion: query and key with biases, value without.
    assert trained[OURS["fuse"]] == adapter + head + 2 * (2 * 32 * 16 + 32)
    for contender in TRAINING["fuse"]:
        assert trained[contender] == adapter + head + 2 * (3 * 32 * 32 + 2 * 32), contender
    # 500 pieces, 514 positions, one type, a norm; per layer four 32 x 32, two 32 x 128 and two norms; the head.
    full = (500 + 514 + 1 + 2) * 32 + 2 * (4 * (32 * 32 + 32) + 32 * 128 + 128 + 128 * 32 + 32 + 4 * 32) + head
    for contender in (OURS["full"], *TRAINING["full"]):
        assert trained[contender] == full, contender


@pytest.mark.slow
def test_peers_have_the_settings_that_the_file_claims(result: dict[str, Any]) -> None:
    peers = result["results"][SIZES[0]]["peers"]
    given = peers["training_arguments"]
    assert (given["per_device_train_batch_size"], given["num_train_epochs"]) == (4, 1)
    assert (peers["attention_probs_dropout_prob"], peers["hidden_dropout_prob"]) == (0.0, 0.1)
    assert peers["grouped_window_batches"] == 1
    assert result["ours"]["reduction"] == 8


def jobs(backbone: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    task, base = find_task(str(write_task(folder))), load_backbone(str(backbone))
    runs = contenders.train_intermediates(task, base, contenders.FUSED, "cpu", None, str(folder))
    size = contenders.Size(sentences=4)
    return {name: contenders.job_of(name, task, base, runs, size, "float32", None) for name in names}


@pytest.mark.slow
def test_peer_models_have_our_dropout(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    made = jobs(backbone, tmp_path, ["stack", "fuse", "lora", "full"])
    for name, job in made.items():
        model = peer_models.peer_model(job, ["A", "B"])
        encoder = (model.base_model.model if name == "lora" else model).roberta.encoder
        assert [layer.attention.self.dropout_prob for layer in encoder.layer] == [0.0, 0.0]
        rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.p}
        assert rates == {0.1}, name
    model = peer_models.peer_model(made["fuse"], ["A", "B"])
    assert str(model.active_adapters) == "Stack[Fuse[mine_2, mine_3, mine_4], mine]"
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".mine." in name or "adapter_fusion_layer" in name or "heads.mine" in name for name in trained)
    assert made["stack"].backbone.config.attention_probs_dropout_prob == 0.1  # the shared configuration is not touched


def test_watched_step_counts_the_time_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by hand: 2 seconds of packing, 5 in the step, 1 asking for losses, 3 of packing, 7 in the step."""
    clock = [0.0]
    monkeypatch.setattr("benchmarks.ours.time.perf_counter", lambda: clock[0])

    class Slow:
        batches_on = torch.device("cpu")

        def __init__(self) -> None:
            self.seconds = [5.0, 7.0]

        def __call__(self, batches: Any) -> None:
            clock[0] += self.seconds.pop(0)

        def losses(self) -> list[float]:
            clock[0] += 1.0
            return [0.5]

    step = WatchedStep(Slow(), "cpu")  # type: ignore[arg-type]
    clock[0] = 100.0
    step.start()
    clock[0] += 2.0
    step([])
    assert step.losses() == [0.5]
    clock[0] += 3.0
    step([])
    assert step.waiting == 2.0 + 3.0


def test_what_fails_is_left_out_and_said() -> None:
    """One fails in the warm-up, one in the second round; the third goes on, and no ratio names the others."""
    closed = []

    def variant(name: str, fails_at: int | None) -> measuring.Variant:
        def run(sample: Any, repeat: int) -> measuring.Measured:
            if repeat == fails_at:
                raise torch.OutOfMemoryError if name == "b" else RuntimeError("no\nkernel")
            return measuring.Measured(30, 40, 2.0)

        return measuring.Variant(run, 7, pads=True)

    def contender(name: str, ours: bool, fails_at: int | None) -> measuring.Contender:
        def build(stack: Any) -> measuring.Variant:
            stack.callback(closed.append, name)
            return variant(name, fails_at)

        return measuring.Contender(name, "none", ours, "float32", build)

    three = [contender("a", True, 0), contender("b", False, 2), contender("c", True, None)]
    measured = measuring.measure_group(three, None, None, 3, "cpu")  # type: ignore[arg-type]
    stored = {name: report.summary(measurement, 10, 1_000.0) for name, measurement in measured.items()}
    assert stored["a"] == {"group": "none", "ours": True, "precision": "float32", "failure": "RuntimeError: no kernel"}
    assert stored["b"]["failure"] == "out of memory"
    assert stored["c"]["tokens_per_second"]["all"] == [15.0] * 3
    assert stored["c"]["padding_share"] == 0.25
    assert stored["c"]["matrix_share"] == 15.0 * 10 / 1_000
    assert report.ratios(stored) == {}
    assert sorted(closed) == ["a", "b", "c"]
    with pytest.raises(samples.UsageError):
        measuring.failure(samples.UsageError("--steps: found none"))


@pytest.mark.slow
def test_random_backbone_is_read_as_any_other(backbone: Path, tmp_path: Path) -> None:
    """Sizes as they were asked for, the same weights twice."""
    sizes = {**random_backbone.LARGE, "vocab_size": 500, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 24}
    sums = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        random_backbone.write_random(tmp_path / name, sizes, backbone)
        base = load_backbone(str(tmp_path / name))
        assert {key: getattr(base.config, key) for key in sizes} == sizes
        assert len(base.tokenizer) == 500
        sums.append([parameter.sum().item() for parameter in load_model(base).parameters()])
    assert sums[0] == sums[1]


def test_large_has_the_shapes_of_xlm_r_large() -> None:
    """24 x (4 x 1024 x 1024 + 2 x 1024 x 4096) multiply-adds: the 303 million of the encoder, less biases and norms."""
    config = type("Config", (), random_backbone.LARGE)
    from benchmarks.hardware import multiply_adds, operations, product_operations

    assert multiply_adds(config) == 301_989_888
    assert [operations(config, passes) for passes in ("inference", "frozen", "full")] == [
        603_979_776, 1_207_959_552, 1_811_939_328
    ]  # fmt: skip
    assert product_operations(10, config) == 2 * 10 * (1_048_576 + 2 * 4_194_304)


@pytest.mark.slow
def test_command_repeats_the_run_without_places_of_this_machine(result: dict[str, Any], backbone: Path) -> None:
    assert result["command"] == (
        f"OMP_NUM_THREADS=1 python -m benchmarks.throughput --device cpu --backbone {backbone.name} --task mine.yaml "
        f"--sentences-a-step 4 --tokens-a-step 30 --steps 3 --repeats 2 "
        f"--variants none stack fuse continue lora full inference languages --precisions float32 "
        "--peer-orders default grouped --executions eager "
        f"--inference-sentences 6400 --language-sentences 2 --out throughput.json"
    )
    assert not re.search(r'"/|/tmp', json.dumps(result))
    assert result["machine"] == describe_machine()


def test_mirror_is_shown_as_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = throughput.parse(["--hub-mirror", str(tmp_path), "--out", "results/a b.json"])
    assert throughput.command(options) == (
        "python -m benchmarks.throughput --device cpu --backbone embedded --task udpos --hub-mirror hub "
        "--steps 200 --repeats 3 --variants none stack fuse continue lora full inference --precisions float32 "
        "--peer-orders default grouped --executions eager --inference-sentences 6400 --out 'results/a b.json'"
    )
    assert list(map(str, throughput.sizes(options))) == ["32 sentences"]


def test_cuda_has_more_by_default() -> None:
    options = throughput.parse(["--device", "cuda", "--tokens-a-step", "1024", "4096", "--out", "a.json"])
    assert options.precisions == ["float32", "bf16"]
    assert options.executions == ["eager", "captured", "compiled"]
    assert list(map(str, throughput.sizes(options))) == ["1024 tokens", "4096 tokens"]


def test_captured_needs_cuda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["--executions", "captured", "--out", str(tmp_path / "out.json")]) == 2
    assert capsys.readouterr().err == "error: --executions: found captured on cpu, accepted: eager\n"


@pytest.mark.slow
def test_collator_counts_by_hand(backbone: Path) -> None:
    collator = peers.CountingCollator(XLMRobertaTokenizerFast.from_pretrained(backbone))

    def rows(*lengths: int) -> list[dict[str, Any]]:
        return [{"input_ids": [5] * n, "attention_mask": [1] * n, "labels": [0] * n} for n in lengths]

    batch = collator(rows(3, 5, 4))
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[0, 0, 0, -100, -100], [0] * 5, [0, 0, 0, 0, -100]]
    collator(rows(2, 7))
    assert (collator.tokens, collator.positions) == (12 + 9, 15 + 14)


SPLIT = EncodedSplit(
    language="en", split="train", sha256="", source="", revision=None, examples=2, label_names=("A", "B"), trained=2,
    example=np.array([0, 1, 1]),
    ids=np.array([0, 11, 12, 13, 2, 0, 21, 2, 0, 22, 2]),
    id_offsets=np.array([0, 5, 8, 11]),
    starts=np.array([1, 3, 1, 1]), ends=np.array([2, 4, 2, 2]), targets={"label": np.array([1, 0, 1, 0])},
    unit_offsets=np.array([0, 2, 3, 4]),
)  # fmt: skip


def test_peers_label_the_pieces_that_we_read() -> None:
    rows = peers.peer_rows(SPLIT, np.array([1, 0]))
    assert rows["input_ids"][:] == [[0, 21, 2], [0, 11, 12, 13, 2]]
    assert rows["labels"][:] == [[-100, 1, -100], [-100, 1, -100, 0, -100]]
    assert rows["attention_mask"][:] == [[1, 1, 1], [1, 1, 1, 1, 1]]


def test_sentences_of_several_windows_are_left_out() -> None:
    assert samples.draw_examples(SPLIT, 1, 1).tolist() == [0]
    three = replace(SPLIT, examples=3, example=np.array([0, 1, 2]))
    assert sorted(samples.draw_examples(three, 1, 3).tolist()) == [0, 1, 2]
    with pytest.raises(samples.UsageError, match=r"--steps: found 2, accepted: at most 1 \(3 sentences"):
        samples.draw_examples(three, 2, 2)


@pytest.mark.slow
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
