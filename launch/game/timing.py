"""What lock-step changes: the same seeds are played in lock-step and in frames as short as a browser's."""

from pathlib import Path

import numpy as np

from collect.dataset import SEEDS
from configs.evaluation import EvaluationConfig
from configs.game_checks import Timing
from launch.shared import episodes, in_game, players, scoreboard
from launch.shared.records import Figure, bootstrap

MEASURES = {
    "return": ("points", lambda episode: episode["return"]["total"]),
    "game_score": ("points", lambda episode: episode["page_score"]),
    "landings": ("landings", lambda episode: episode["landed"]),
    "loss_game": ("losses", lambda episode: episode["loss_game"]),
    "commands": ("commands", lambda episode: episode["commands"]),
    "delay": ("s", lambda episode: episode["delay_s"]),
}


def run(config: Timing, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Play what is missing; returns (results, figures, faults)."""
    evaluation = EvaluationConfig(
        policies=config.policies,
        airport=config.airport.lower(),
        episodes=config.episodes,
        minutes=config.minutes,
        pages=config.pages,
        url=config.url,
        insecure=config.insecure,
        wait_s=config.wait_s,
        cache=config.cache,
    )
    low, _ = SEEDS["test"]
    seeds = range(low, low + config.episodes)
    worlds = {
        "lock_step": in_game.real_world(evaluation),
        "browser_timing": in_game.real_world(evaluation, 1.0 / config.frames_per_s),
    }
    played = play(evaluation, worlds, seeds)
    pairs = {policy: compare(found) for policy, found in played.items()}
    figures, faults = {}, []
    for policy, rows in pairs.items():
        if not rows:
            faults.append(f"{policy} has no pair of episodes in which every aircraft had a slot")
        else:
            figures |= differences(rows, f"{policy}_{evaluation.airport}")
    return {"pairs": pairs}, figures, faults


def play(evaluation: EvaluationConfig, worlds: dict, seeds: range) -> dict:
    """Play the missing episodes and read all: {policy: {timing: {seed: episode}}}."""
    chosen = [players.make(name, evaluation.slots) for name in evaluation.policies]
    episodes.play_all(evaluation, worlds, chosen, seeds)
    return {
        player.name: {
            timing: {seed: episodes.read(world.path(evaluation, player, seed)) for seed in seeds}
            for timing, world in worlds.items()
        }
        for player in chosen
    }


def compare(found: dict[str, dict[int, dict]]) -> list[dict]:
    """A row per seed valid in both timings: each measure in both, and the wall time."""
    lock_step, browser = (scoreboard.valid(found[timing]) for timing in ("lock_step", "browser_timing"))
    rows = []
    for seed in sorted(lock_step.keys() & browser.keys()):
        row = {"seed": seed, "wall_s": [lock_step[seed]["wall_s"], browser[seed]["wall_s"]]}
        for name, (_, value) in MEASURES.items():
            row[name] = [value(lock_step[seed]), value(browser[seed])]
        rows.append(row)
    return rows


def differences(rows: list[dict], suffix: str) -> dict[str, Figure]:
    """Browser timing minus lock-step on the same seeds, the mean with its interval, per measure."""
    figures = {}
    for name, (unit, _) in MEASURES.items():
        known = [row[name] for row in rows if None not in row[name]]  # no landing, no delay
        if known:
            change = np.diff(known)[:, 0]
            figures[f"{name}_browser_timing_minus_lock_step_{suffix}"] = bootstrap(change, unit, seed=0)
    return figures
