"""The training command: run folder, going on, policies from it, and errors."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import gymnax
import jax
import numpy as np
import pytest

from configs.ppo import CARTPOLE, PPOTraining
from launch import train_ppo
from launch.shared import parallel, training
from launch.shared.training import TrainingError
from launch.train_ppo import prepare, restore, train
from rl.policy import load_policy
from tests.launch.shared import event_files
from wm.state import bundle
from wm.store import checkpoints, lock

# Four chunks of 2 updates on two devices; checkpoints after the second and the last.
TINY = dataclasses.replace(
    CARTPOLE, num_envs=4, rollout_length=16, epochs=1, minibatches=2, chunk=2, total_steps=2 * 4 * 16 * 2 * 4
)


def arguments(out, **changes):
    given = {"env": "CartPole-v1", "devices": 2, "save_every": 2, "ppo": TINY, **changes}
    return PPOTraining(out=out, **given)


def end_of(out, **changes):
    """State and environments of a run's newest checkpoint."""
    run = prepare(arguments(out, **changes))
    with training.hold(out, run.record(), run.chunks, "chunk") as folder:
        return restore(run, folder)


def assert_equal_bits(one, other):
    for a, b in zip(*(jax.tree.leaves(x) for x in (one, other)), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ppo") / "run"
    return directory, train(prepare(arguments(directory)))


def test_a_run_leaves_its_records(finished):
    directory, results = finished
    names = {path.name for path in directory.iterdir()}
    assert {"config.json", "metrics.jsonl", "curves.png", "results.json", "policy", "resume"} <= names
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["chunk"] for line in lines] == [0, 1, 2, 3]
    assert lines[-1]["total_steps"] == TINY.total_steps == results["total_steps"]
    assert json.loads((directory / "results.json").read_text()) == results
    assert results["figures"]["episode/return/mean"] > 5
    assert results["device"].startswith("2 x ")
    assert {"command", "commit", "date", "versions"} < set(results)
    assert json.loads((directory / "config.json").read_text())["ppo"]["num_envs"] == 4


def test_tensorboard_shows_the_figures_of_the_results(finished):
    directory, results = finished
    events = event_files.read(directory)
    assert [step for step, _ in events] == [(n + 1) * TINY.total_steps // 4 for n in range(4)]
    last = events[-1][1]  # a tenth of four chunks
    assert {name: last[name] for name in results["figures"]} == pytest.approx(results["figures"], rel=1e-6)


def train_until_killed(out, monkeypatch, chunk=2):
    """A run that is killed when it writes the line of a chunk; the third comes after a checkpoint."""
    original = training.Log.write

    def killed(log, line):
        if line["chunk"] == chunk:
            raise KeyboardInterrupt
        original(log, line)

    monkeypatch.setattr(training.Log, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        train(prepare(arguments(out)))
    monkeypatch.undo()


@pytest.mark.parametrize("where", ["in the third chunk", "between policy and checkpoint"])
def test_the_same_command_goes_on_to_the_same_end_bit_for_bit(finished, tmp_path, monkeypatch, where):
    whole, out = finished[0], tmp_path / "run"
    if where == "in the third chunk":
        train_until_killed(out, monkeypatch)
    else:
        monkeypatch.setattr(training.Folder, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(prepare(arguments(out)))
        assert checkpoints.latest_step(out / "policy") == 2
        monkeypatch.undo()
    train(prepare(arguments(out)))
    assert (out / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert event_files.read(out) == event_files.read(whole)
    assert [checkpoints.latest_step(folder / "resume") for folder in (whole, out)] == [4, 4]
    assert_equal_bits(end_of(whole), end_of(out))


def test_a_finished_run_says_so_and_writes_its_results_again(finished, capsys):
    out, results = finished
    (out / "curves.png").unlink()
    again = train(prepare(arguments(out)))
    assert f"{out} is finished, 4 of 4 chunks" in capsys.readouterr().err
    assert (out / "curves.png").exists()
    for name in ("figures", "total_steps", "steps_per_second"):
        assert again[name] == results[name]


def test_a_run_stops_where_it_is_told_and_goes_on_without_that(finished, tmp_path):
    """The learning rate falls as in the whole run, so that what follows equals it."""
    whole, out = finished[0], tmp_path / "run"
    steps = TINY.total_steps // 4 + 1
    assert train(prepare(arguments(out, stop_after_steps=steps)))["total_steps"] == TINY.total_steps // 2
    assert checkpoints.latest_step(out / "policy") == 2
    train(prepare(arguments(out)))
    assert (out / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def stopped_half_way(finished, tmp_path):
    out = tmp_path / "run"
    train(prepare(arguments(out, stop_after_steps=TINY.total_steps // 2)))
    return out


def test_a_run_goes_on_with_the_devices_that_there_are(finished, tmp_path, capsys):
    out = tmp_path / "run"
    train(prepare(arguments(out, stop_after_steps=TINY.total_steps // 2)))
    fault = r"shares 8 environments .* which 3 can't: use 2 or 4 \(--devices\)"
    with pytest.raises(TrainingError, match=fault):
        prepare(arguments(out, devices=3))
    results = train(prepare(arguments(out, devices=1)))
    assert "has 8 environments; each of the 1 devices here takes 8 of them" in capsys.readouterr().err
    assert results["total_steps"] == TINY.total_steps
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["total_steps"] for line in lines] == [(n + 1) * TINY.total_steps // 4 for n in range(4)]
    _, carry = end_of(out)  # which the two devices of before take again
    assert carry.discounted.shape == (2, 4)


def test_the_policy_of_a_run_plays_as_it_did_in_training(finished):
    directory, _ = finished
    state, _ = end_of(directory)
    policy, params = load_policy(directory / "policy")
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(state.policy), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    env, env_params = gymnax.make("CartPole-v1")
    observation, _ = env.reset(jax.random.key(0), env_params)
    action, carry = policy.act(params, policy.init(jax.random.key(1)), observation, jax.random.key(2))
    assert action.shape == ()
    assert int(action) in (0, 1)
    assert carry == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "NoSuchEnvironment-v9"}, "no environment called 'NoSuchEnvironment-v9'"),
        ({"devices": 99}, "99 devices asked for"),
    ],
)
def test_what_cannot_start_says_why(tmp_path, changes, message):
    with pytest.raises((TrainingError, ValueError), match=message):
        train(prepare(arguments(tmp_path / "run", **changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ppo": dataclasses.replace(TINY, gamma=0.9, clip=0.1)}, r"with ppo.gamma = 0.99, .* has 0.9: use"),
        ({"env": "Acrobot-v1"}, "with env = CartPole-v1, this command has Acrobot-v1: use the same, or"),
    ],
)
def test_a_run_of_another_configuration_is_refused_by_its_first_difference(finished, changes, message):
    with pytest.raises(TrainingError, match=message):
        train(prepare(arguments(finished[0], **changes)))


def test_a_world_model_is_known_by_its_content(tmp_path, monkeypatch):
    shutil.copytree(bundle.PACKAGED, tmp_path / "copy")
    checkpoints.save(tmp_path / "other", 0, {"x": np.float32(1.0)}, {"kind": "world model"})
    monkeypatch.chdir(tmp_path)

    def known(checkpoint):
        asked = PPOTraining(out=tmp_path / "run", checkpoint=checkpoint)
        return train_ppo.Run(asked, None, None, 1).record()

    assert known(None) == known(bundle.PACKAGED) == known(tmp_path / "copy") == known(Path("copy"))
    assert known(None) != known(Path("other"))
    shutil.rmtree(tmp_path / "copy")
    shutil.copytree(tmp_path / "other", tmp_path / "copy")
    assert known(Path("copy")) == known(Path("other"))


def test_two_processes_cannot_train_in_one_folder(finished):
    with (
        lock.hold(finished[0]),
        pytest.raises(TrainingError, match=f"another process trains in {finished[0]}: wait"),
    ):
        train(prepare(arguments(finished[0])))


def test_a_file_system_without_locks_is_noted(finished, monkeypatch, capsys):
    def no_locks(folder):
        raise lock.NoLocks(f"the file system of {folder} does not lock files")

    monkeypatch.setattr(lock, "hold", no_locks)
    train(prepare(arguments(finished[0])))
    assert "does not lock files; going on without" in capsys.readouterr().err


def test_a_run_that_ended_before_its_first_checkpoint_gives_way(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"phase": "ppo", "chunk": 0}\n{"phase": "p')
    train(prepare(arguments(tmp_path / "run")))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "train/loss" in lines[0]


def test_not_a_number_stops_the_run_with_one_line(tmp_path, monkeypatch, capsys):
    """A learning rate of 1e38 overflows float32 in the first update."""
    command = ["train_ppo", "--out", str(tmp_path / "run"), "--env", "CartPole-v1", "--devices", "1"]
    sizes = ["num-envs", "4", "rollout-length", "8", "minibatches", "1", "epochs", "3", "chunk", "2"]
    for name, value in zip(sizes[::2], sizes[1::2], strict=True):
        command += [f"--ppo.{name}", value]
    command += ["--ppo.total-steps", "64", "--ppo.learning-rate", "1e38", "--ppo.network.dtype", "float32"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="1"):
        train_ppo.main()
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert "is nan in chunk 0" in error[0] or "is inf in chunk 0" in error[0]
    assert "--ppo.learning-rate" in error[0]


def test_a_mistyped_option_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_ppo.main(["--out", str(tmp_path / "run"), "--ppo.num-env", "4"])
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "did you mean --ppo.num-envs?" in error
    assert not (tmp_path / "run").exists()


def go_on_with_two_hosts(directory):
    """Resume a run on two hosts of one device each, started as SLURM does; their (status, errors)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slurm = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0",
    }
    fake = {"JAX_COORDINATOR_PORT": str(port), "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    one_device = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"}
    command = [
        sys.executable,
        "-m",
        "launch.on_hosts",
        "launch.train_ppo",
        "--env",
        "CartPole-v1",
    ]
    command += ["--out", str(directory), "--ppo.network.dtype", TINY.network.dtype]
    for name in ("total_steps", "num_envs", "rollout_length", "epochs", "minibatches", "chunk"):
        command += [f"--ppo.{name.replace('_', '-')}", str(getattr(TINY, name))]
    for name in ("learning_rate", "gamma", "entropy_coef"):
        command += [f"--ppo.{name.replace('_', '-')}", str(getattr(TINY, name))]
    hosts = [
        subprocess.Popen(
            command,
            env=os.environ | slurm | fake | one_device | {"SLURM_PROCID": str(host)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in (0, 1)
    ]
    try:
        answers = [host.communicate(timeout=300) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    return [(host.returncode, *answer) for host, answer in zip(hosts, answers, strict=True)]


@pytest.mark.slow
def test_two_hosts_go_on_as_one_host_with_their_devices(finished, tmp_path, monkeypatch):
    """Each takes its own half of the environments out of the checkpoint, and the first writes all of them."""
    whole, _ = finished
    directory = tmp_path / "run"
    train_until_killed(directory, monkeypatch)
    first, second = go_on_with_two_hosts(directory)
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "episode/return/mean" in first[1]
    assert "episode/return/mean" not in second[1]
    one, two = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, directory)
    )
    for wanted, found in zip(one, two, strict=True):
        assert wanted.pop("phase") == found.pop("phase")
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert json.loads((directory / "results.json").read_text())["device"].startswith("2 x ")
    ends = [end_of(folder) for folder in (whole, directory)]
    keys = [jax.random.key_data(carry.keys) for _, carry in ends]
    np.testing.assert_array_equal(*keys)
    assert len(np.unique(keys[0].reshape(-1, 2), axis=0)) == 2 * TINY.num_envs
    for a, b in zip(
        *(jax.tree.leaves((state.policy, carry.observation)) for state, carry in ends), strict=True
    ):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-4)


def test_a_run_starts_from_the_policy_of_another(finished, tmp_path):
    directory, _ = finished
    other_size = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, width=24))
    run = prepare(arguments(tmp_path / "run", init=str(directory), ppo=other_size))
    assert run.learner.network.config.width == TINY.network.width
    state, _ = train_ppo.start(run)
    _, learned = load_policy(directory / "policy")
    begun = parallel.unreplicate(state).policy
    for ours, theirs in zip(jax.tree.leaves(begun), jax.tree.leaves(learned), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    with pytest.raises(ValueError, match="policy 'nobody' must be one of"):
        prepare(arguments(tmp_path / "run", init="nobody"))
