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
    "lift_over_expert": "points over the expert's, same seeds",
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
    "loss_duration_s": "time a loss lasts (s)",
    "loss_severity": "severity of a loss (0 to 1)",
    "closest_approach_nm": "closest approach of an hour (nm)",
    "busts_whole_per_h": "airspace busts/flight h",
    "landings_per_h": "landings/h",
    "hand_offs_per_h": "hand-offs/h",
    "go_arounds_per_h": "go-arounds/h",
    "threshold_spacing_p5_s": "threshold spacing, 5th percentile (s)",
    "threshold_spacing_median_s": "... median (s)",
    "extra_track_nm": "extra track miles (nm)",
    "level_segments_per_arrival": "level segments/arrival",
    "commands_per_min": "commands/min",
    "reversals_per_h": "heading reversals/h",
}
# What matters first stands first: more throughput does not make up for less safety, and so on.
PRECEDENCE = {
    "safety": (
        "loss_game_whole_per_h", "loss_raw_whole_per_h", "loss_severity", "loss_duration_s",
        "closest_approach_nm", "busts_whole_per_h", "collisions_whole_per_h",
    ),
    "throughput": (
        "landed_share", "landings_per_h", "hand_offs_per_h", "go_arounds_per_h", "threshold_spacing_p5_s",
        "threshold_spacing_median_s",
    ),
    "efficiency": ("delay", "extra_track_nm", "level_segments_per_arrival"),
    "workload": ("commands_per_aircraft", "commands_per_min", "reversals_per_h"),
}  # fmt: skip
# Figures that are a sum over a sum: (unit, what an episode adds above, what below).
RATIOS = {
    "landed_share": ("", lambda e: e["landed_due"], lambda e: e["arrivals_due"]),
    "commands_per_aircraft": ("", lambda e: e["commands"], lambda e: e["aircraft"]),
    "loss_duration_s": ("s", lambda e: sum(e["loss_duration_s"]), lambda e: len(e["loss_duration_s"])),
    "loss_severity": ("", lambda e: sum(e["loss_severity"]), lambda e: len(e["loss_severity"])),
    "landings_per_h": ("landings/h", lambda e: e["landed"], lambda e: e["hours"]),
    "hand_offs_per_h": ("hand-offs/h", lambda e: e["hand_offs"], lambda e: e["hours"]),
    "level_segments_per_arrival": ("", lambda e: e["level_segments"], lambda e: e["landed_flights"]),
    "commands_per_min": ("commands/min", lambda e: e["commands"], lambda e: 60.0 * e["hours"]),
    "reversals_per_h": ("reversals/h", lambda e: e["reversals"], lambda e: e["hours"]),
}
MEANS = {
    "delay": ("delay_s", "s"),
    "extra_track_nm": ("extra_nm", "nm"),
    "closest_approach_nm": ("closest_nm", "nm"),
}
SPACINGS = {"threshold_spacing_p5_s": 5, "threshold_spacing_median_s": 50}  # percentiles


def valid(episodes: dict[int, dict]) -> dict[int, dict]:
    """The episodes that the game played to their end and in which every aircraft had a slot."""
    return {seed: e for seed, e in episodes.items() if "fault" not in e and not e["overflow"]}


def figures_of(board: Board, policy: str) -> dict[str, Figure]:
    """One policy's figures by the keys of COLUMNS; those that its episodes can't give are left out."""
    own = valid(board[policy])
    episodes = list(own.values())
    if not episodes:
        return {}
    figures = {
        "return": bootstrap([e["return"]["total"] for e in episodes], "points", seed=0, vectorized=True)
    }
    figures |= _relative(board, policy)
    for name, (unit, top, bottom) in RATIOS.items():
        rows = np.asarray([(top(e), bottom(e)) for e in episodes if bottom(e)])
        if len(rows):
            figures[name] = bootstrap(rows, unit, seed=0, statistic=evaluate.ratio, vectorized=True)
    steady = [e["steady"] for e in episodes if e["steady"]]
    for suffix, counted in (("_whole_per_h", episodes), ("_per_h", steady)):
        figures |= {f"{name}{suffix}": rate for name, rate in _rates(counted).items()}
    if policy != "noop" and (ratio := _loss_ratio(steady, board)):
        figures["loss_ratio"] = ratio
    for name, (measured, unit) in MEANS.items():
        known = [e[measured] for e in episodes if e[measured] is not None]
        if known:
            figures[name] = bootstrap(known, unit, seed=0, vectorized=True)
    return figures | _counted(episodes) | _spacings(episodes)


def _counted(episodes: list[dict]) -> dict[str, Figure]:
    """Busts per flight hour and go-arounds per hour, from the first second on."""
    figures = {}
    for name, event, exposure, unit in (
        ("busts_whole_per_h", "busts", "flight_hours", "busts/h"),
        ("go_arounds_per_h", "go_arounds", "hours", "go-arounds/h"),
    ):
        exposed = sum(e[exposure] for e in episodes)
        if exposed:
            figures[name] = poisson(round(sum(e[event] for e in episodes)), exposed, unit, len(episodes))
    return figures


def _spacings(episodes: list[dict]) -> dict[str, Figure]:
    """Percentiles of the times between landings of all episodes together; whole episodes are drawn again."""
    spacings = [e["threshold_spacing_s"] for e in episodes if e["threshold_spacing_s"]]
    if not spacings:
        return {}

    def percentile(q: float) -> Callable:
        return lambda chosen: float(np.percentile(np.concatenate([spacings[int(i)] for i in chosen]), q))

    chosen = np.arange(len(spacings))
    return {
        name: bootstrap(chosen, "s", seed=0, statistic=percentile(q), resamples=2000)
        for name, q in SPACINGS.items()
    }


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
    """Score and headroom on the seeds that policy and yardsticks share, where these tell apart; the lift."""
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

    shared = sorted(own.keys() & expert.keys())
    gained = [total(own, seed) - total(expert, seed) for seed in shared] if policy != "expert" else []
    lift = {"lift_over_expert": bootstrap(gained, "points", seed=0, vectorized=True)} if gained else {}
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = lift | paired(own.keys() & noop.keys() & expert.keys(), evaluate.score, score_row, 2, 1)
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


def all_figures(boards: dict[str, Board]) -> dict[str, dict[str, dict[str, Figure]]]:
    """The figures {world: {policy: {name: figure}}} of all boards."""
    return {world: {policy: figures_of(board, policy) for policy in board} for world, board in boards.items()}


def table(boards: dict[str, Board], figures: dict) -> str:
    """Markdown: a row per world and policy, each of `all_figures` with its 95 % interval.

    First the traffic, in the order of PRECEDENCE from safety to workload; then points and what else there is.
    """
    titles = {
        name: f"{group}: {COLUMNS[name]}" if name == names[0] else COLUMNS[name]
        for group, names in PRECEDENCE.items() for name in names
    }  # fmt: skip
    rest = {name: title for name, title in COLUMNS.items() if name not in titles}
    return "\n".join(_table(boards, figures, columns) for columns in (titles, rest))


def _table(boards: dict[str, Board], figures: dict, columns: dict[str, str]) -> str:
    rows = [["world", "policy", "episodes", *columns.values()], ["---"] * (3 + len(columns))]
    for world, board in boards.items():
        for policy, episodes in board.items():
            failed = sum("fault" in episode for episode in episodes.values())
            overflowed = len(episodes) - failed - len(valid(episodes))
            left_out = ((overflowed, "overflowed"), (failed, "failed"))
            why = ", ".join(f"{number} {what}" for number, what in left_out if number)
            count = f"{len(valid(episodes))}" + (f" ({why})" if why else "")
            cells = [_cell(figures[world][policy].get(name)) for name in columns]
            rows.append([world, policy, count, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    digits = 0 if max(abs(figure.low), abs(figure.high)) >= 100 else 2
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
