#!/usr/bin/env bash
# The whole project in about ten minutes on two cores, small:
#   ./launch/demo.sh [--short] [other arguments; --help lists them]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# On a CPU the demonstration spends most of its time in the compiler: optimised less, it ends earlier.
if ! command -v nvidia-smi >/dev/null; then
    export XLA_FLAGS="${XLA_FLAGS:---xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true}"
fi
exec "$PYTHON" -m launch.demo "$@"
