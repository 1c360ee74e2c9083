"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before PyTorch is imported: processes that share the cores do not each start as many threads as there are.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from support.training import Workspace

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What asks the Hub is skipped, unless it is asked for."""
    if "network" not in config.getoption("markexpr"):
        skip = pytest.mark.skip(reason="asks the Hub; run with -m network")
        for item in items:
            if item.get_closest_marker("network") is not None:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def hub_mirror() -> Path:
    """Folder with real data laid out like Hub repositories; tests that need it skip where there is none."""
    folder = Path(os.environ.get("ADAPTER_STILTS_HUB_MIRROR", CHECKOUT.parent / "shared" / "hub"))
    if not folder.is_dir():
        pytest.skip(f"no Hub mirror at {folder}; set ADAPTER_STILTS_HUB_MIRROR")
    return folder


@pytest.fixture
def isolated_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache in the test's own folder."""
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A tiny backbone and an empty store of runs in the test's own folder. A module whose tests share runs defines its
    own `workspace`."""
    from support.training import make_workspace  # PyTorch, which most tests of tables do not need

    return make_workspace(tmp_path, monkeypatch)
