"""What TFDS alone makes of a recording: a reader that has never heard of this repository."""

import subprocess
import sys
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "collect" / "data" / "shipped"

READ = """
import sys
import tensorflow_datasets as tfds

ours = [name for name in ("collect", "wm", "rl", "launch", "configs") if name in sys.modules]
builder = tfds.builder_from_directories(sys.argv[1:])
source = builder.as_data_source("train")
steps = [step for step in source[0]["steps"]]
first = steps[0]["observation"]
assert first["traffic"]["altitude_ft"].shape == (64,)
assert first["picture"].shape == (256, 256, 3)
assert [bool(step["is_first"]) for step in steps] == [True] + [False] * (len(steps) - 1)
assert bool(steps[-1]["is_last"])
for name in ("collect", "wm"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported here, so this shows nothing")
print(len(source), len(steps), "tensorflow" in sys.modules, ours)
"""


def test_tfds_reads_recordings_where_this_repository_is_not_installed(tmp_path):
    """An interpreter without this environment's .pth files, in an empty folder, with only its packages."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    start = f"import sys; sys.path[1:1] = {packages!r}"
    (tmp_path / "read.py").write_text(f"{start}\n{READ}")
    directory = str(SHIPPED / "clips" / "worker-000")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "read.py"), directory],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=3) == ["2", "19", "False", "[]\n"]
