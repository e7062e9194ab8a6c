"""The main job, small: learn the simulator from the shipped recording, train a controller in it.

    ./launch/demo.sh

Runs the project's own commands one after another, on KABQ: train a world model, report its error
on seeds it has not seen, train PPO inside it, compare with no-op, random and the expert in the
model. With --url the same controllers then play the real game. Everything lands in --out.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from configs import cli
from configs.demo import FULL, SHORT, DemoConfig, Sizes
from launch import eval_policy, train_ppo, train_wm
from launch.shared import runs

MARK = "demo.json"  # tells a demonstration's folder from others


def stage(name: str, module: Callable[[list[str]], object], arguments: list[str]) -> dict:
    """Run one command as the user would, say which, and time it."""
    print(f"\n== {name}\n   python -m {module.__module__} {shlex.join(arguments)}", flush=True)
    begin = time.perf_counter()
    module(arguments)
    seconds = time.perf_counter() - begin
    print(f"   {seconds:.0f} s", flush=True)
    return {"command": f"python -m {module.__module__} {shlex.join(arguments)}", "seconds": seconds}


def world_model(config: DemoConfig, sizes: Sizes) -> list[str]:
    """Arguments of launch.train_wm."""
    return [
        *("--out", str(config.out / "wm")),
        *("--airports", *sizes.airports),
        *("--steps", str(sizes.wm_steps)),
        *("--batch", str(sizes.wm_batch)),
        *("--members", str(sizes.wm_members)),
        *("--width", str(sizes.wm_width)),
        *("--seed", str(config.seed)),
    ]


def controller(config: DemoConfig, sizes: Sizes) -> list[str]:
    """Arguments of launch.train_ppo: from scratch, in the model."""
    return [
        *("--out", str(config.out / "ppo")),
        *("--checkpoint", str(config.out / "wm" / "model")),
        *("--airport", sizes.airports[0]),
        *("--ppo.total-steps", str(sizes.ppo_steps)),
        *("--ppo.num-envs", str(sizes.ppo_envs)),
        *("--ppo.rollout-length", str(sizes.rollout)),
        *("--ppo.minibatches", "4"),
        *("--ppo.chunk", "1"),
        *("--ppo.seed", str(config.seed)),
    ]


def comparison(config: DemoConfig, sizes: Sizes, where: str) -> list[str]:
    """Arguments of launch.eval_policy for the four controllers."""
    episodes = sizes.episodes if where == "model" else sizes.real_episodes
    url = ["--url", config.url] if where == "real" else []
    return [
        *("--where", where),
        *("--airport", sizes.airports[0]),
        *("--policies", "noop", "random", "expert", str(config.out / "ppo" / "policy")),
        *("--checkpoint", str(config.out / "wm" / "model")),
        *("--episodes", str(episodes)),
        *("--cache", str(config.out / "episodes")),
        *("--out", str(config.out / f"compare_{where}")),
        *url,
    ]


def clear(out: Path) -> None:
    """Make an empty folder, in place of an earlier demonstration. Raises ValueError where other files are."""
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ValueError(f"{out} holds files that no demonstration wrote: choose another --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def read(path: Path) -> dict:
    """A results file of a stage."""
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> None:
    """Run every stage, in place of an earlier demonstration's files but of nobody else's."""
    config = cli.parse(DemoConfig, argv)
    sizes = SHORT if config.short else FULL
    with runs.one_line_errors(ValueError, OSError):
        clear(config.out)
    runs.write_config(config.out / MARK, config)
    begin = time.perf_counter()
    stages = {
        "world_model": stage(
            "Learn the simulator from the shipped recording", train_wm.main, world_model(config, sizes)
        ),
        "controller": stage("Train a controller in it", train_ppo.main, controller(config, sizes)),
        "comparison": stage(
            "Compare controllers in the model", eval_policy.main, comparison(config, sizes, "model")
        ),
    }
    if config.url:
        stages["real"] = stage(
            "Compare controllers in the real game", eval_policy.main, comparison(config, sizes, "real")
        )
    results = {
        "seconds": time.perf_counter() - begin,
        "stages": stages,
        "fidelity": read(config.out / "wm" / "results.json")["fidelity"],
        "imagined": read(config.out / "compare_model" / "results.json"),
    }
    runs.write_results(config.out, results)
    print(f"\nDone in {results['seconds'] / 60:.1f} minutes. Pictures and results.json: {config.out}/")
    if not config.url:
        print(
            "Not done: the real game. Serve openScope (or use its public site) and run\n"
            "   ./launch/demo.sh --url http://localhost:3003"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
