"""The batch script of training: what it starts, and that a run out of time is queued again."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "slurm" / "train_ppo.sbatch"


def submitted(tmp_path, status: int, *arguments: str) -> tuple[int, str, str]:
    """The script in job 7, with programs in SLURM's place: (status, arguments of srun and of scontrol)."""
    for name, after in (("srun", f"exit {status}"), ("scontrol", "")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.said\n{after}\n')
        program.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path)}
    slurm["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    ended = subprocess.run(["bash", str(SCRIPT), *arguments], env=os.environ | slurm)
    said = [tmp_path / f"{name}.said" for name in ("srun", "scontrol")]
    return (ended.returncode, *(path.read_text().strip() if path.exists() else "" for path in said))


@pytest.mark.parametrize(
    ("given", "started"),
    [
        (("shipped",), "shipped --out runs/ppo-7"),
        (("--out", "runs/mine", "--airport", "kabq"), "--out runs/mine --airport kabq"),
        (("--out=runs/mine",), "--out=runs/mine"),
    ],
)
def test_a_requeued_job_has_the_same_run_folder(tmp_path, given, started):
    _, srun, scontrol = submitted(tmp_path, 0, *given)
    assert srun == f".venv/bin/python -m launch.on_hosts launch.train_ppo {started}"
    assert scontrol == ""


@pytest.mark.parametrize(("status", "requeued"), [(143, "requeue 7"), (1, ""), (0, "")])
def test_only_a_run_that_was_stopped_is_queued_again(tmp_path, status, requeued):
    ended, _, scontrol = submitted(tmp_path, status)
    assert (ended, scontrol) == (status, requeued)
