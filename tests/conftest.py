"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def hub_mirror() -> Path:
    """Folder with real data laid out like Hub repositories; tests that need it skip where there is none."""
    folder = Path(os.environ.get("ADAPTER_STILTS_HUB_MIRROR", CHECKOUT.parent / "shared" / "hub"))
    if not folder.is_dir():
        pytest.skip(f"no Hub mirror at {folder}; set ADAPTER_STILTS_HUB_MIRROR")
    return folder
