"""A fixture that most tests of models share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.tiny import tiny_backbone_folder

if TYPE_CHECKING:
    from adapter_stilts.model.backbone import Backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """The tiny backbone, in a folder of the module's own."""
    from adapter_stilts.model.backbone import load_backbone

    return load_backbone(str(tiny_backbone_folder(tmp_path_factory.mktemp("tiny"))))
