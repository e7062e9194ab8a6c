"""The main job, small: learn the simulator from the shipped recording, train a controller in it, compare.

    ./launch/demo.sh

Runs the project's own commands one after another, on KABQ, and says which; see configs/demo.py. With --url
the same controllers then play the real game. Everything lands in --out.
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
from launch import eval_policy, eval_wm, train_ppo, train_wm
from launch.shared import runs

MARK = "demo.json"  # tells a demonstration's folder from others
PLAYERS = {
    "no commands": "noop",
    "random commands": "random",
    "before: the shipped controller": "shipped",
    "after: the new controller": "policy",
}


def stage(name: str, module: Callable[[list[str]], object], arguments: list[str]) -> dict:
    """Run one command as the user would, say which, and time it."""
    print(f"\n== {name}\n   python -m {module.__module__} {shlex.join(arguments)}", flush=True)
    begin, cpu = time.perf_counter(), time.process_time()
    module(arguments)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(f"   {seconds:.0f} s, {cpu:.0f} s of processor time", flush=True)
    command = f"python -m {module.__module__} {shlex.join(arguments)}"
    return {"command": command, "seconds": seconds, "cpu_seconds": cpu}


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


def fidelity(config: DemoConfig, sizes: Sizes) -> list[str]:
    """Arguments of launch.eval_wm: the shipped model on the hour that the new one is judged on."""
    return ["--airports", *sizes.airports, "--out", str(config.out / "shipped_wm")]


def controller(config: DemoConfig, sizes: Sizes) -> list[str]:
    """Arguments of launch.train_ppo: from the shipped controller, in the new model, in small steps."""
    return [
        *("--out", str(config.out / "ppo")),
        *("--checkpoint", str(config.out / "wm" / "model")),
        *("--airport", sizes.airports[0]),
        *("--init", "shipped"),
        *("--ppo.network.dtype", "float32"),  # a processor is slow at bfloat16
        *("--ppo.total-steps", str(sizes.ppo_steps)),
        *("--ppo.num-envs", str(sizes.ppo_envs)),
        *("--ppo.rollout-length", str(sizes.rollout)),
        *("--ppo.minibatches", "4"),
        *("--ppo.learning-rate", "2e-5"),
        *("--ppo.entropy-coef", "0"),
        *("--ppo.chunk", "1"),
        *("--ppo.seed", str(config.seed)),
    ]


def comparison(config: DemoConfig, sizes: Sizes, where: str) -> list[str]:
    """Arguments of launch.eval_policy: the controllers in the shipped model, or in the real game."""
    episodes = sizes.episodes if where == "model" else sizes.real_episodes
    url = ["--url", config.url] if where == "real" else []
    return [
        *("--where", where),
        *("--airport", sizes.airports[0]),
        *("--policies", "noop", "random", "shipped", str(config.out / "ppo")),
        *("--episodes", str(episodes)),
        *("--minutes", str(sizes.minutes)),
        *("--cache", str(config.out / "episodes")),
        *("--out", str(config.out / f"compare_{where}")),
        *url,
    ]


def summary(results: dict, airport: str) -> str:
    """What came out, in a few lines: errors of both models, and who lands how much."""
    lines = ["", "Position error a minute ahead, unseen hour (nm): median and worst twentieth"]
    for words, name in (("the new model", "fidelity"), ("the shipped model", "shipped_fidelity")):
        row = results[name][airport]["model_commanded_60s"]
        lines.append(f"    {words:30s} {row['p50']:9.4f} {row['p95']:9.4f}")
    lines += ["", "Share of arrivals with time to land that landed, and points per hour, with 95 % intervals"]
    for where in [name for name in ("imagined", "real") if results.get(name)]:
        figures, suffix = results[where]["figures"], "_imagined" if where == "imagined" else ""
        place = "the shipped model" if where == "imagined" else "the real game"
        for words, policy in PLAYERS.items():
            landed = figures.get(f"landed_share_{policy}_{airport}{suffix}")
            points = figures[f"return_{where}_{policy}_{airport}"]
            share = "  no arrival had time" if landed is None else _interval(landed, 2)
            lines.append(f"    {words:30s} {share:22s} {_interval(points, 0)}   {place}")
    return "\n".join(lines)


def _interval(figure: dict, digits: int) -> str:
    value, low, high = (f"{figure[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


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
    begin, cpu = time.perf_counter(), time.process_time()
    stages = {
        "world_model": stage(
            "Learn the simulator from the shipped recording", train_wm.main, world_model(config, sizes)
        ),
        "fidelity": stage("Judge the shipped simulator alike", eval_wm.main, fidelity(config, sizes)),
        "controller": stage(
            "Train the shipped controller further in it", train_ppo.main, controller(config, sizes)
        ),
        "comparison": stage(
            "Compare in the shipped simulator", eval_policy.main, comparison(config, sizes, "model")
        ),
    }
    if config.url:
        stages["real"] = stage(
            "Compare controllers in the real game", eval_policy.main, comparison(config, sizes, "real")
        )
    results = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "stages": stages,
        "fidelity": read(config.out / "wm" / "results.json")["fidelity"],
        "shipped_fidelity": read(config.out / "shipped_wm" / "results.json")["fidelity"],
        "imagined": read(config.out / "compare_model" / "results.json"),
    }
    if config.url:
        results["real"] = read(config.out / "compare_real" / "results.json")
    runs.write_results(config.out, results)
    print(summary(results, sizes.airports[0]))
    print(f"\nDone in {results['seconds'] / 60:.1f} minutes. Pictures and results.json: {config.out}/")
    if not config.url:
        print(
            "Not done: the real game. Serve openScope (or use its public site) and run\n"
            "   ./launch/demo.sh --url http://localhost:3003"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
