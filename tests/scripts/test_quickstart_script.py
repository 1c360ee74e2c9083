"""scripts/quickstart.sh where something is missing: one line on standard error that says what to do."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the scripts and an empty project that needs nothing but a build backend."""
    (tmp_path / "checkout").mkdir()
    shutil.copytree(CHECKOUT / "scripts", tmp_path / "checkout/scripts")
    (tmp_path / "checkout/pyproject.toml").write_text("[project]\nname = 'empty'\nversion = '1'\n")
    return tmp_path / "checkout"


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The script, with programs in `bin` beside the checkout before all others, and this Python as python3.11."""
    bin_folder = checkout.parent / "bin"
    bin_folder.mkdir(exist_ok=True)
    if not (bin_folder / "python3.11").exists():
        (bin_folder / "python3.11").symlink_to(Path(sys.base_prefix) / "bin/python3")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "ADAPTER_", "PYTHON"))}
    path = f"{bin_folder}:/usr/bin:/bin"
    return subprocess.run(
        ["bash", str(checkout / "scripts/quickstart.sh"), *arguments],
        capture_output=True,
        text=True,
        env={**kept, "PATH": path, "PIP_CONFIG_FILE": os.devnull, **environment},
    )


def refused(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.rstrip("\n")


def test_python_that_is_too_old(checkout: Path) -> None:
    for name in ("python3.11", "python3"):
        program(checkout.parent / "bin", name, 'case "$2" in *exit*) exit 1;; *) echo 3.9;; esac')
    assert refused(run(checkout)) == (
        "scripts/quickstart.sh: needs Python 3.11 or newer as python3.11 or python3, found 3.9: install one, "
        "for instance from python.org"
    )


def test_too_little_disk(checkout: Path) -> None:
    df = "echo Filesystem Blocks Used Available Capacity Mounted; echo d 9 9 2097152 9% /"
    program(checkout.parent / "bin", "df", df)
    assert refused(run(checkout)) == (
        f"scripts/quickstart.sh: needs 5 GiB of free disk, found 2048 MiB in {checkout}: make room there"
    )
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_registry_that_does_not_answer(checkout: Path) -> None:
    result = run(checkout, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert refused(result) == (
        "scripts/quickstart.sh: the package registry does not answer: look at the network, or set PIP_INDEX_URL to one "
        "that does (see .venv/install.log)"
    )


def test_what_is_installed_is_not_installed_again(checkout: Path) -> None:
    """Without a network the second time; what is typed behind the script goes to the command."""
    programs = checkout / ".venv/bin"
    programs.parent.mkdir()
    program(programs, "python", "exit 1")
    program(programs, "adapter-stilts", 'echo "ran: $*"')
    (checkout / ".venv/installed-embedded").touch()
    os.utime(checkout / "pyproject.toml", (1, 1))
    result = run(checkout, "--tasks", "my own.yaml")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "ran: quickstart --tasks my own.yaml"
