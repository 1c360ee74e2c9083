#!/usr/bin/env bash
# A small study from its plan to its report, in a virtual environment of its own; needs nothing but Python 3.11 or newer
# and a package registry. What is typed behind it goes to `adapter-stilts quickstart`.
set -euo pipefail
cd "$(dirname "$0")/.."
needed_gib=5
. scripts/environment.sh
if [ ! -x "$venv/bin/adapter-stilts" ]; then
    echo "installing into $venv: minutes, and up to 2 GB to fetch"
fi
make_environment embedded
echo "the command itself: $venv/bin/adapter-stilts quickstart $*"
exec "$venv/bin/adapter-stilts" quickstart "$@"
