#!/usr/bin/env bash
# Checks and tests the package in its own virtual environment; needs nothing but Python 3.11 or newer and a package
# registry. ADAPTER_STILTS_VENV chooses where the environment lies (default: .venv in the checkout).
set -euo pipefail
cd "$(dirname "$0")/.."
needed_gib=3
. scripts/environment.sh
# An isolated build: the tests' seqeval comes as source, and torch's setuptools cannot fetch what it builds with.
make_environment embedded,dev --use-pep517
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
# The slow ones too, which plain pytest leaves out. Tests neither ask the Hub nor share a cache with real work.
export HF_HUB_OFFLINE=1 ADAPTER_STILTS_CACHE=${ADAPTER_STILTS_TEST_CACHE:-$PWD/.cache/tests}
exec "$venv/bin/python" -m pytest -m "" "$@"
