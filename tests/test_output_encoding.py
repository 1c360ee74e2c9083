"""Output is UTF-8 whatever the locale: in processes of their own, with streams as the system makes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from adapter_stilts.cli import main; main()"]
ENVIRONMENTS = (
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)
COLUMNS = "мама B-ЛИЦО\nмыла O\n"


def ran(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    unset = {"PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL"}
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    return subprocess.run(
        [*COMMAND, *(os.fspath(argument) if isinstance(argument, Path) else argument for argument in arguments)],  # type: ignore[misc]
        capture_output=True,
        env=kept | environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_results_and_errors_in_other_scripts(tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "мама.txt"
    path.write_text(COLUMNS, encoding="utf-8")
    done = ran("data", "check", path, **environment)
    assert done.stderr == b""
    assert done.stdout.decode() == (
        f"{path}: conll, tokens 0, labels 1; 2 labels: B-ЛИЦО 1, O 1; IOB2\n1 file, 1 sentence, 2 words, no findings\n"
    )
    done = ran("data", "check", tmp_path / "нет.txt", **environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"{tmp_path}/нет.txt: found no such file, accepted ")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    done = ran("data", "check", raw)
    assert done.stderr.decode().startswith(f"{tmp_path}/caf\\udce9.txt: found no such file, accepted ")
    Path(os.fsdecode(raw)).write_text(COLUMNS, encoding="utf-8")
    assert ran("data", "check", raw).stdout.decode().startswith(f"{tmp_path}/caf\\udce9.txt: conll, tokens 0")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a disk without space")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "tasks"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode() == "[Errno 28] No space left on device\n"


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_stream_is_no_crash(closed: str) -> None:
    shell = f'exec "$@" {closed}>&-'
    done = subprocess.run(["sh", "-c", shell, "sh", *COMMAND, "tasks", "--role", "target"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"udpos" in done.stdout) == (closed == "2")
