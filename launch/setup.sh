# Sourced by demo.sh and test.sh. Makes .venv in the repository on the first call, brings it up to date when
# pyproject.toml has changed, and sets $PYTHON to its interpreter. Needs no root. Prints what it does.
#
# Read from the environment:
#   PYTHON            interpreter to build .venv from   (default: the first Python 3.11+ on the PATH)
#   OPENSCOPE_BROWSER Chromium for the real game        (default: the first that starts, see collect/browser.py)
#   OPENSCOPE_EXTRAS  extras of pyproject.toml to install (default: dev, and cuda12 or cuda13 beside a GPU)

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "error: $*" >&2
    exit 1
}

# Python 3.11 or newer with the parts that `python -m venv` needs.
find_python() {
    local candidate found_without_venv=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            echo "$candidate"
            return
        fi
        found_without_venv=$candidate
    done
    if [ -n "$found_without_venv" ]; then
        fail "$found_without_venv cannot make virtual environments; run: sudo apt-get update && sudo apt-get install -y python3-venv"
    fi
    fail "no Python 3.11 or newer found; run: sudo apt-get update && sudo apt-get install -y python3 python3-venv"
}

# The CUDA build of jax goes with the driver: 580 and newer run CUDA 13, 525 and newer CUDA 12.
find_extras() {
    local driver
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 | cut -d. -f1) || true
    case "$driver" in
        "" | *[!0-9]*) echo dev ;;
        *)
            if [ "$driver" -ge 580 ]; then echo dev,cuda13
            elif [ "$driver" -ge 525 ]; then echo dev,cuda12
            else echo dev; fi
            ;;
    esac
}

# A browser for the real game, found and started as the commands that play it do. Only those call this.
require_browser() {
    "$PYTHON" -m collect.browser || exit 1
}

install() {
    local extras wanted base
    extras=${OPENSCOPE_EXTRAS:-$(find_extras)}
    # An environment is tied to its folder, so a moved or copied clone makes its own.
    wanted="$PWD [$extras] $(sha256sum pyproject.toml | cut -d' ' -f1)"
    if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
        base=$(find_python)
        echo "setup: installing openscope-world-model[$extras] into .venv with $("$base" --version); a few minutes, once"
        if [ ! -f .venv/installed ] || [ "$(cut -d' ' -f1 .venv/installed)" != "$PWD" ]; then
            "$base" -m venv --clear .venv
        fi
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 --editable ".[$extras]" \
            || fail "installation failed (see above); nothing outside .venv was changed, so it is safe to run this again"
        printf '%s\n' "$wanted" >.venv/installed
        echo "setup: done"
    fi
    PYTHON=$PWD/.venv/bin/python
}

install
