"""Figures of evaluated episodes with their intervals, and the table that shows them.

Episodes are those of launch.shared.episodes; one with overflow and one that the game failed in are left out.
All episodes of one world and airport, `{policy: {seed: episode}}`, are a `Board`.
"""

from collections.abc import Callable

import numpy as np

from launch.shared.records import Figure, RecordError, bootstrap, poisson, poisson_ratio
from rl import evaluate

Board = dict[str, dict[int, dict]]
RATES = {"loss_game": "losses/h", "loss_raw": "losses/h", "collisions": "collisions/h"}
COLUMNS = {
    "return": "return (points)",
    "score": "score",
    "headroom": "headroom",
    "landed_share": "landed share",
    "loss_game_whole_per_h": "losses/flight h (game's rule)",
    "loss_raw_whole_per_h": "losses/flight h (3 nm, 1000 ft)",
    "collisions_whole_per_h": "collisions/flight h",
    "loss_game_per_h": "after 25 minutes: losses/flight h (game's rule)",
    "loss_ratio": "... over those without commands",
    "loss_raw_per_h": "... losses/flight h (3 nm, 1000 ft)",
    "collisions_per_h": "... collisions/flight h",
    "commands_per_aircraft": "commands/aircraft",
    "delay": "delay (s)",
}


def valid(episodes: dict[int, dict]) -> dict[int, dict]:
    """The episodes that the game played to their end and in which every aircraft had a slot."""
    return {seed: e for seed, e in episodes.items() if "fault" not in e and not e["overflow"]}


def figures_of(board: Board, policy: str) -> dict[str, Figure]:
    """One policy's figures by the keys of COLUMNS; those that its episodes can't give are left out."""
    own = valid(board[policy])
    episodes = list(own.values())
    if not episodes:
        return {}
    figures = {"return": bootstrap([e["return"]["total"] for e in episodes], "points", seed=0)}
    figures |= _relative(board, policy)
    shares = {
        "landed_share": ("landed_due", "arrivals_due"),
        "commands_per_aircraft": ("commands", "aircraft"),
    }
    for name, (top, bottom) in shares.items():
        rows = np.asarray([(e[top], e[bottom]) for e in episodes if e[bottom]])
        if len(rows):
            figures[name] = bootstrap(rows, "", seed=0, statistic=evaluate.ratio)
    steady = [e["steady"] for e in episodes if e["steady"]]
    for suffix, counted in (("_whole_per_h", episodes), ("_per_h", steady)):
        figures |= {f"{name}{suffix}": rate for name, rate in _rates(counted).items()}
    if policy != "noop" and (ratio := _loss_ratio(steady, board)):
        figures["loss_ratio"] = ratio
    delays = [e["delay_s"] for e in episodes if e["delay_s"] is not None]
    if delays:
        figures["delay"] = bootstrap(delays, "s", seed=0)
    return figures


def _rates(counted: list[dict]) -> dict[str, Figure]:
    """Counts per flight hour of episodes, or of their parts after the first 25 minutes."""
    exposure = sum(e["flight_hours"] for e in counted)
    if not exposure:
        return {}
    counts = {name: round(sum(e[name] for e in counted)) for name in RATES}
    return {n: poisson(counts[n], exposure, unit, len(counted)) for n, unit in RATES.items()}


def _loss_ratio(steady: list[dict], board: Board) -> Figure | None:
    """Losses by the game's rule per flight hour over those of no commands, if these have any."""
    idle = [e["steady"] for e in valid(board.get("noop", {})).values() if e["steady"]]
    counts = tuple(round(sum(e["loss_game"] for e in side)) for side in (steady, idle))
    exposures = tuple(sum(e["flight_hours"] for e in side) for side in (steady, idle))
    try:
        return poisson_ratio(counts, exposures, len(steady))
    except RecordError:
        return None


def _relative(board: Board, policy: str) -> dict[str, Figure]:
    """Score and headroom on the seeds that policy and yardsticks share, where these tell apart."""
    own, noop, expert = (valid(board.get(name, {})) for name in (policy, "noop", "expert"))

    def total(episodes, seed):
        return episodes[seed]["return"]["total"]

    def paired(seeds, statistic: Callable, row: Callable, above: int, below: int):
        rows = np.asarray([row(seed) for seed in sorted(seeds)], float)
        if not len(rows) or rows[:, above].mean() <= rows[:, below].mean():
            return {}
        try:
            return {statistic.__name__: bootstrap(rows, "", seed=0, statistic=statistic)}
        except RecordError:  # so few seeds that some draws of them hold no difference between the yardsticks
            return {}

    def score_row(seed):
        return total(own, seed), total(noop, seed), total(expert, seed)

    def headroom_row(seed):
        return total(own, seed), total(expert, seed), evaluate.flawless(expert[seed])

    with np.errstate(divide="ignore", invalid="ignore"):
        scores = paired(own.keys() & noop.keys() & expert.keys(), evaluate.score, score_row, 2, 1)
        return scores | paired(own.keys() & expert.keys(), evaluate.headroom, headroom_row, 2, 1)


def record_names(figures: dict[str, Figure], world: str, policy: str, place: str) -> dict[str, Figure]:
    """Figures by their names in a record: return_real_expert_kabq, landed_share_expert_kabq_imagined."""
    named = {}
    for name, figure in figures.items():
        if name in ("return", "score", "headroom"):
            named[f"{name}_{world}_{policy}_{place}"] = figure
        else:
            named[f"{name}_{policy}_{place}" + ("_imagined" if world == "imagined" else "")] = figure
    return named


def table(boards: dict[str, Board]) -> str:
    """Markdown: a row per world and policy, each figure with its 95 % interval."""
    rows = [["world", "policy", "episodes", *COLUMNS.values()], ["---"] * (3 + len(COLUMNS))]
    for world, board in boards.items():
        for policy, episodes in board.items():
            figures = figures_of(board, policy)
            failed = sum("fault" in episode for episode in episodes.values())
            overflowed = len(episodes) - failed - len(valid(episodes))
            left_out = ((overflowed, "overflowed"), (failed, "failed"))
            why = ", ".join(f"{number} {what}" for number, what in left_out if number)
            count = f"{len(valid(episodes))}" + (f" ({why})" if why else "")
            cells = [_cell(figures.get(name)) for name in COLUMNS]
            rows.append([world, policy, count, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    digits = 0 if max(abs(figure.low), abs(figure.high)) >= 100 else 2
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
