"""What every test shares: eight fake CPU devices, a store of compiled programs, strict keys, what to skip.

The environment is set before anything imports jax; tests therefore run on the CPU wherever they are run, and
`launch/shared/parallel.py` and the training code can be tested on eight devices in the test process itself.
"""

import atexit
import ctypes
import gc
import importlib.util
import os
import platform
import resource
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_cpu_multi_thread_eigen=false",  # several test processes share the machine: one thread each
    # Tests compile much and compute little.
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",  # there is no second thread to compile another part
]
if metadata.version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # jaxlib 0.11 ends the process over this name
if platform.machine() == "x86_64":
    # Without the multiply-and-add of AVX2, one device and eight round sums alike at level 0.
    FLAGS.append("--xla_cpu_max_isa=AVX")
given = [f for f in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in f and f not in FLAGS]
os.environ["XLA_FLAGS"] = " ".join([*given, *FLAGS])
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A run compiles each program once: its first process makes a folder of compiled programs, which the workers
# and the programs that tests start inherit. A folder given from outside outlives the run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    programs = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="openscope-tests-")
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # lines of code beside operations, which no test reads

import jax
import pytest

jax.config.update("jax_debug_key_reuse", True)

FREED_ABOVE_MB = 900


def resident_mb() -> float:
    """Memory that this process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def give_back() -> None:
    """Return free memory to the system."""
    ctypes.CDLL(None).malloc_trim(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what cannot run here. Files with slow tests come first: no worker ends long after the other.

    Cannot run: tests of the real game, and comparisons with the originals of Cosmos, where these are missing.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    reasons = {}
    if not os.environ.get("OPENSCOPE_URL"):
        reasons["openscope"] = "needs the real game: set OPENSCOPE_URL to the address of a running openScope"
    if any(importlib.util.find_spec(name) is None for name in ("torch", "diffusers")):
        reasons["parity"] = "needs torch and diffusers: install the extra parity"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Bounds a worker's memory: glibc keeps what compiling a program needed until it is told to give it back.

    Where that isn't enough, the programs themselves are forgotten at the end of their file.
    """
    if resident_mb() > FREED_ABOVE_MB:
        give_back()
        if resident_mb() > FREED_ABOVE_MB and (nextitem is None or nextitem.path != item.path):
            jax.clear_caches()
            gc.collect()
            give_back()


@pytest.fixture(scope="session")
def openscope_url() -> str:
    """Address of the running game; only for tests marked `openscope`."""
    return os.environ["OPENSCOPE_URL"]
