#!/usr/bin/env bash
# Runs the tests: ./launch/test.sh [pytest arguments]
#   OPENSCOPE_URL=http://localhost:3003 ./launch/test.sh   also plays the real game (needs Chromium)
#   ./launch/test.sh -m "not slow"                         leaves out what takes more than ten seconds
#   OPENSCOPE_EXTRAS=dev,parity ./launch/test.sh -m parity  compares Cosmos with torch and diffusers
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if [ -n "${OPENSCOPE_URL:-}" ]; then require_browser; fi
# Tests of a file share what they have compiled; files start in the order of tests/conftest.py.
exec "$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
