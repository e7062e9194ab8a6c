#!/usr/bin/env bash
# The whole project in a few minutes: ./launch/demo.sh [--short] [other arguments; --help lists them]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

exec "$PYTHON" -m launch.demo "$@"
