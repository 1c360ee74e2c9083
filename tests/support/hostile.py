"""Runs, bundles, mirrors and checkpoints as somebody else may hand them on: changed in one place, sealed anew."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from adapter_stilts.paths import sha256_file
from adapter_stilts.runs.stored import content_seal

Mutation = Callable[[Path, random.Random], None]

TEXTS = ["../../outside/x", "/etc/passwd", "a/../../b", ".hidden", "", "x" * 300, "a\x1b[2Jb", "CON\x00", "..", "a\nb"]
VALUES: list[Any] = [*TEXTS, -5, 999, 1e400, float("nan"), True, None, [], {}, [[[]]], 10**30, -1.5, {"x": "../y"}]


def truncate(path: Path) -> None:
    """Cut off the last bytes of a file."""
    path.write_bytes(path.read_bytes()[:-7])


def alter(path: Path) -> None:
    """Turn one bit of a file, near its end."""
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def seal(path: Path, content: dict[str, Any]) -> None:
    """Write a sealed file as one who knows how."""
    content["seal"] = None
    text = (
        json.dumps({**content, "seal": content_seal(json.loads(json.dumps(content, default=str)))})
        if _finite(content)
        else json.dumps(content)
    )
    path.write_text(text, encoding="utf-8")


def _finite(content: Any) -> bool:
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        return False
    return True


def reseal_bundle(bundle: Path) -> None:
    """Let the manifest say what lies there now."""
    path = bundle / "manifest.json"
    content = json.loads(path.read_text())
    content["files"] = {
        file.relative_to(bundle).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(bundle.rglob("*"))
        if file.is_file() and file != path
    }
    seal(path, content)


def paths_of(content: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value stands in JSON."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path for key, value in pairs for path in [(*above, key), *paths_of(value, (*above, key))]]


def set_value(path: Path, drawn: random.Random, sealed: bool) -> None:
    """Another value somewhere in a JSON file, or a value that is gone."""
    content = json.loads(path.read_text())
    json_path = drawn.choice(paths_of(content))
    at = content
    for key in json_path[:-1]:
        at = at[key]
    if drawn.random() < 0.15:
        del at[json_path[-1]]
    else:
        at[json_path[-1]] = drawn.choice(VALUES)
    if sealed:
        seal(path, content)
    else:
        path.write_text(json.dumps(content), encoding="utf-8")


def any_json(run: Path, drawn: random.Random) -> None:
    path = drawn.choice(sorted(run.rglob("*.json")))
    set_value(path, drawn, sealed=path.name in ("record.json", "manifest.json"))
    if path.parent != run and path.name != "manifest.json":
        reseal_bundle(run / "bundle")


def any_tensor(run: Path, drawn: random.Random) -> None:
    """A tensor is gone, foreign, of another shape or type, or not finite."""
    path = drawn.choice(sorted((run / "bundle").rglob("*.safetensors")))
    tensors = load_file(path)
    name = drawn.choice(sorted(tensors))
    match drawn.choice(["gone", "foreign", "shape", "type", "nan", "inf"]):
        case "gone":
            del tensors[name]
        case "foreign":
            tensors["roberta.embeddings.word_embeddings.weight"] = torch.zeros(500, 32)
        case "shape":
            tensors[name] = torch.zeros(*tensors[name].shape, 2)
        case "type":
            tensors[name] = tensors[name].long()
        case "nan":
            tensors[name].view(-1)[0] = float("nan")
        case "inf":
            tensors[name].view(-1)[-1] = float("inf")
    save_file(tensors, path)
    reseal_bundle(run / "bundle")


def any_bytes(run: Path, drawn: random.Random) -> None:
    """A file is cut, empty, or has a header of a size that it cannot have."""
    path = drawn.choice(sorted(file for file in run.rglob("*") if file.is_file()))
    content = path.read_bytes()
    other = [content[: len(content) // 2], b"", b"\xff" * 8 + content[8:], b"[" * 200_000, b"\x80\x04K\x01."]
    path.write_bytes(drawn.choice(other))
    if "bundle" in path.parts and path.name != "manifest.json":
        reseal_bundle(run / "bundle")


def any_link(run: Path, drawn: random.Random) -> None:
    """A file or folder is a link to what is outside, or a pipe."""
    outside = run.parent.parent / "outside"
    path = drawn.choice(sorted(run.rglob("*")))
    whole = path.is_dir()
    if whole:
        shutil.rmtree(path)
    else:
        path.unlink()
    if drawn.random() < 0.2:
        os.mkfifo(path)
    else:
        path.symlink_to(outside if whole else outside / "canary.json")


def any_file(run: Path, drawn: random.Random) -> None:
    """A file too many, or one too few."""
    folders = sorted(folder for folder in (run / "bundle").rglob("*") if folder.is_dir())
    if drawn.random() < 0.5:
        path = drawn.choice([run / "bundle", *folders])
        (path / drawn.choice(["pytorch_adapter.bin", "x.py", "pytorch_model_head.bin"])).write_bytes(b"\x80\x04K\x01.")
    else:
        drawn.choice(sorted((run / "bundle").rglob("*.*"))).unlink()
    if (run / "bundle" / "manifest.json").exists() and drawn.random() < 0.8:
        reseal_bundle(run / "bundle")


RUN_MUTATIONS: tuple[Mutation, ...] = (
    any_json,
    any_json,
    any_json,
    any_tensor,
    any_tensor,
    any_bytes,
    any_link,
    any_file,
)


def checkpoint_mutation(folder: Path, drawn: random.Random) -> None:
    """A checkpoint (config, tokenizer, weights) that is another in one place."""
    kind = drawn.choice(["json", "json", "bytes", "link", "index", "peft"])
    config = folder / "config.json"
    if kind == "json":
        set_value(config, drawn, sealed=False)
    elif kind == "bytes":
        path = drawn.choice(sorted(folder.glob("*.*")))
        path.write_bytes(drawn.choice([b"", path.read_bytes()[:100], b"\xff" * 64, b"{" * 100_000]))
    elif kind == "link":
        path = drawn.choice([config, folder / "model.safetensors", folder / "tokenizer.json"])
        path.unlink()
        path.symlink_to(folder.parent / "outside" / "canary.json")
    elif kind == "index":
        (folder / "model.safetensors").unlink()
        name = drawn.choice(["../outside/canary.safetensors", "/etc/passwd", "x.bin", 3])
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    else:
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../outside"}))


README_TEXTS = [
    "data_files: ../../outside/*",
    "data_files: /etc/passwd",
    "data_files: [{split: train, path: '**/../../outside/*.parquet'}]",
    "data_files: [{split: train, path: 3}, {split: [], path: {}}]",
    "data_files: &a [*a, *a]",
    "data_files: 2000-99-99",
    "data_files: !!python/object/apply:os.system [ls]",
    "data_files: " + "[" * 3000,
    "data_files: '\x1b[2Jx'",
    "config_name: {one: two}",
]


def mirror_mutation(folder: Path, drawn: random.Random) -> None:
    """A repository of a mirror (README and Parquet) that is another in one place."""
    readme, outside = folder / "README.md", folder.parent.parent / "outside"
    path = drawn.choice(sorted(folder.rglob("*.parquet")))
    match drawn.choice(["readme", "readme", "text", "bytes", "flip", "link", "metadata", "columns"]):
        case "readme":
            line = drawn.choice(README_TEXTS)
            readme.write_text(f"---\nconfigs:\n- config_name: one\n  {line}\n---\n", encoding="utf-8")
        case "text":
            readme.write_bytes(drawn.choice([b"\xff\xfe", b"---\n\x00\n---\n", b"---\n" + b"- " * 20_000 + b"\n---\n"]))
        case "bytes":
            path.write_bytes(drawn.choice([b"", path.read_bytes()[:100], b"PAR1" + b"\xff" * 64, b"{" * 100_000]))
        case "flip":
            content = bytearray(path.read_bytes())
            content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
            path.write_bytes(content)
        case "link":
            path = drawn.choice([path, readme])
            path.unlink()
            if drawn.random() < 0.2:
                os.mkfifo(path)
            else:
                path.symlink_to(outside / drawn.choice(["canary.parquet", "canary.json", "."]))
        case "metadata":
            table = pq.read_table(path)
            features = drawn.choice([b"{", b"[]", b"null", b"[" * 100_000, b'{"info": {"features": {"words": 3}}}'])
            pq.write_table(table.replace_schema_metadata({b"huggingface": features}), path)
        case "columns":
            odd = drawn.choice([[1, 2], [b"\xff", b"a"], [{"a": 1}, None], [[["a"]], [["b"]]], [1e400, float("nan")]])
            pq.write_table(pa.table({drawn.choice(["words", "tags"]): pa.array(odd)}), path)


def training_checkpoint_mutation(folder: Path, drawn: random.Random) -> bool:
    """A run's checkpoints, of which the newest is another in one place; whether its checksums say so."""
    newest = sorted(folder.iterdir())[-1]
    state, tensors = newest / "state.json", newest / "state.safetensors"
    kind = drawn.choice(["json", "sealed", "bytes", "flip", "tensor", "link", "gone"])
    if kind in ("json", "sealed"):
        set_value(state, drawn, sealed=False)
    elif kind == "bytes":
        path = drawn.choice([state, tensors])
        path.write_bytes(drawn.choice([b"", path.read_bytes()[:100], b"\xff" * 64, b"[" * 200_000, b"\x80\x04K\x01."]))
    elif kind == "flip":
        path = drawn.choice([state, tensors])
        content = bytearray(path.read_bytes())
        content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
        path.write_bytes(content)
    elif kind == "tensor":
        loaded = load_file(tensors)
        name = drawn.choice(sorted(loaded))
        loaded[name] = drawn.choice([torch.zeros(3, 5), torch.zeros(0), loaded[name].double()])
        if drawn.random() < 0.3:
            del loaded[name]
        save_file(loaded, tensors)
    elif kind == "link":
        path = drawn.choice([state, tensors, newest])
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        path.symlink_to(folder.parents[2] / "outside" / ("canary.json" if path != newest else "."))
    else:
        drawn.choice([state, tensors]).unlink()
    if kind not in ("sealed", "tensor"):
        return True
    content = json.loads(state.read_text())
    content.pop("sha256", None)
    content["tensors"] = sha256_file(tensors)
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    state.write_text(json.dumps(content))
    return False


def snapshot(folder: Path, *but: Path) -> dict[str, tuple[int, bytes]]:
    """Every file under a folder with its content, links as they are, but for what lies in some folders."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        if not any(path.is_relative_to(excluded) for excluded in but):
            whole = path.is_file() and not path.is_symlink()
            contents[str(path)] = (path.lstat().st_mode, path.read_bytes() if whole else b"")
    return contents
