"""A machine that only trains needs no Playwright."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAINING = (
    "collect.dataset", "collect.validate", "wm.state.env", "wm.state.fit", "wm.state.fidelity", "rl.ppo",
    "rl.policy", "launch.train_wm", "launch.train_ppo", "launch.eval_wm", "launch.bench", "launch.validate",
)  # fmt: skip


def run(modules, blocked: str) -> subprocess.CompletedProcess:
    """Import `modules` in a process of its own in which `blocked` cannot be imported."""
    script = f"import sys\nsys.modules[{blocked!r}] = None\nimport {', '.join(modules)}"
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)


def test_training_imports_no_playwright():
    process = run(TRAINING, "playwright")
    assert process.returncode == 0, process.stderr


def test_playing_does():
    process = run(["collect.game"], "playwright")
    assert "playwright" in process.stderr
    assert process.returncode == 1
