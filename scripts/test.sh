#!/usr/bin/env bash
# Checks and tests the package in its own virtual environment; needs nothing but Python 3.11 or newer and a package
# registry. ADAPTER_STILTS_VENV chooses where the environment lies (default: .venv in the checkout).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${ADAPTER_STILTS_VENV:-.venv}
python=$(command -v python3.11 || command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "scripts/test.sh: needs Python 3.11 or newer as python3.11 or python3" >&2
    exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
fi
# torch first, and pinned: left to itself, pip takes a build for CUDA that is several gigabytes large.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
# Tests neither ask the Hub nor share a cache with real work.
export HF_HUB_OFFLINE=1 ADAPTER_STILTS_CACHE=${ADAPTER_STILTS_TEST_CACHE:-$PWD/.cache/tests}
exec "$venv/bin/python" -m pytest "$@"
