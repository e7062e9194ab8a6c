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
from configs.world_model import WorldModelConfig
from launch import eval_policy, train_ppo, train_wm, view
from launch.eval_wm import SHIPPED, load_recordings
from launch.shared import runs
from launch.shared.scoreboard import record_names
from wm.state import bundle, labels

MARK = "demo.json"  # tells a demonstration's folder from others
PLACES = {"shipped": "the shipped model", "new": "the new model", "real": "the real game"}
PICTURES = {
    "recorded.html": "a recorded hour of the real game, to play in a browser",
    "wm/curves.png": "how the new model learned",
    "wm/overlay.png": "five recorded minutes and what the new model makes of them",
    "wm/overlay_shipped.png": "the same minutes in the shipped model",
    "ppo/curves.png": "how the controller learned",
    "compare_shipped/radar.png": "an hour of each controller in the shipped model",
    "compare_real/radar.png": "an hour of each controller in the real game",
}
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


def recorded(config: DemoConfig) -> list[str]:
    """Arguments of launch.view: something to look at within a minute."""
    return ["--data", str(SHIPPED / "test"), "--out", str(config.out / "recorded.html")]


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


def judge_shipped(config: DemoConfig, sizes: Sizes) -> dict:
    """Fidelity of the shipped model on the hour that the new one is judged on, and a picture of it."""
    print("\n== Judge the shipped simulator on the same hour", flush=True)
    options = cli.parse(WorldModelConfig, world_model(config, sizes))
    trained_on = load_recordings((SHIPPED / "train",), options.airports, "train")
    recorded = [labels.airport_of(recordings)[1] for recordings in trained_on.values()]
    weights = bundle.load_bundle().weights
    return train_wm.judge(options, weights, recorded, config.out / "wm" / "overlay_shipped.png")


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


def comparison(config: DemoConfig, sizes: Sizes, place: str) -> list[str]:
    """Arguments of launch.eval_policy: the controllers in one of PLACES."""
    where = {
        "shipped": ("--where", "model"),
        "new": ("--where", "model", "--checkpoint", str(config.out / "wm" / "model")),
        "real": ("--where", "real", "--url", str(config.url)),
    }
    others = ("noop",) if place == "new" else sizes.others
    return [
        *where[place],
        *("--airport", sizes.airports[0]),
        *("--policies", *others, str(config.out / "ppo")),
        *("--episodes", str(sizes.real_episodes if place == "real" else sizes.episodes)),
        *("--minutes", str(sizes.minutes)),
        *("--cache", str(config.out / "episodes")),
        *("--out", str(config.out / f"compare_{place}")),
    ]


def summary(results: dict, airport: str) -> str:
    """What came out, in a few lines: errors of both models, and who lands how much."""
    lines = ["", "Position error a minute ahead, unseen hour (nm): median and worst twentieth"]
    for words, name in (("the new model", "fidelity"), ("the shipped model", "shipped_fidelity")):
        row = results[name][airport]["model_commanded_60s"]
        lines.append(f"    {words:30s} {row['p50']:9.4f} {row['p95']:9.4f}")
    lines += ["", "Share of arrivals with time to land that landed, and points per hour, with 95 % intervals"]
    for place, words in PLACES.items():
        if place not in results:
            continue
        lines.append(f"  in {words}")
        figures, world = results[place]["figures"], "real" if place == "real" else "imagined"
        for who, policy in PLAYERS.items():
            names = record_names({"landed_share": 2, "return": 0}, world, policy, airport)
            cells = [_cell(figures.get(name), digits) for name, digits in names.items()]
            if any(cells):
                lines.append(f"    {who:30s} {cells[0]:22s} {cells[1]}")
    return "\n".join(lines)


def _cell(figure: dict | None, digits: int) -> str:
    if figure is None:
        return ""
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
        "recorded": stage("Show a recorded hour", view.main, recorded(config)),
        "world_model": stage(
            "Learn the simulator from the shipped recording", train_wm.main, world_model(config, sizes)
        ),
    }
    shipped_fidelity = judge_shipped(config, sizes)
    stages["controller"] = stage(
        "Train the shipped controller further in the new simulator", train_ppo.main, controller(config, sizes)
    )
    places = [*sizes.models, *(["real"] if config.url else [])]
    for place in places:
        stages[place] = stage(
            f"Compare controllers in {PLACES[place]}", eval_policy.main, comparison(config, sizes, place)
        )
    results = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "stages": stages,
        "fidelity": read(config.out / "wm" / "results.json")["fidelity"],
        "shipped_fidelity": shipped_fidelity,
        **{place: read(config.out / f"compare_{place}" / "results.json") for place in places},
    }
    runs.write_results(config.out, results)
    print(summary(results, sizes.airports[0]))
    print(f"\nDone in {results['seconds'] / 60:.1f} minutes; results.json and pictures are in {config.out}/:")
    for name, words in PICTURES.items():
        if (config.out / name).is_file():
            print(f"    {name:28s} {words}")
    if not config.url:
        print(
            "Not done: the real game. Serve openScope (or use its public site) and run\n"
            "   ./launch/demo.sh --url http://localhost:3003"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
