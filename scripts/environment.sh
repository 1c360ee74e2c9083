# What the scripts have in common: a virtual environment with this package. To be sourced, at the top of the checkout.
# ADAPTER_STILTS_VENV chooses where the environment lies (default: .venv in the checkout).
venv=${ADAPTER_STILTS_VENV:-.venv}

fail() { # MESSAGE: one line that says what to do
    echo "scripts/$(basename "$0"): $1" >&2
    exit 1
}

make_environment() { # EXTRAS [OPTION...]: extras of the package, and options with which pip installs it
    local python found free extras=$1 installed="$venv/installed-$1"
    shift
    python=$(command -v python3.11 || command -v python3 || true)
    found=$("${python:-false}" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
    if [ "$found" = none ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        fail "needs Python 3.11 or newer as python3.11 or python3, found $found: install one, for instance from python.org"
    fi
    if [ ! -x "$venv/bin/python" ]; then
        free=$(df -Pk . | awk 'NR == 2 { print $4 }')
        if [ "$free" -lt $((needed_gib * 1024 * 1024)) ]; then
            fail "needs $needed_gib GiB of free disk, found $((free / 1024)) MiB in $PWD: make room there"
        fi
        "$python" -m venv "$venv" >/dev/null 2>&1 ||
            fail "$python cannot make a virtual environment: install its module venv (on Debian and Ubuntu: python3-venv)"
    fi
    if [ "$installed" -nt pyproject.toml ]; then # no network is needed then
        return
    fi
    # torch first, and pinned: left to itself, pip takes a build for CUDA that is several gigabytes large.
    install torch==2.13.0
    install "$@" --editable ".[$extras]"
    touch "$installed"
}

install() { # what pip is to install: its own words go to a file
    local log="$venv/install.log"
    "$venv/bin/python" -m pip install --disable-pip-version-check "$@" >"$log" 2>&1 && return
    if grep -qi 'no space left' "$log"; then
        fail "the disk is full: make room for $needed_gib GiB in $PWD, and run it again"
    elif grep -qiE 'connection|timed out|resolution|from versions: none' "$log"; then
        fail "the package registry does not answer: look at the network, or set PIP_INDEX_URL to one that does (see $log)"
    fi
    fail "pip could not install ${*: -1}: $(grep -i '^error' "$log" | head -n 1) (see $log)"
}
