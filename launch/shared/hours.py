"""The same policies in real and in imagined hours: every term and count side by side, and the difference.

Differences of returns are in units of what the expert gains over no commands in the real game. Everything
counts from the first second of an hour. The episodes are those of launch.shared.episodes. Letter: n episodes.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from configs.evaluation import WorldModelEvaluation
from launch import eval_policy
from launch.shared import episodes, in_game, records, scoreboard
from launch.shared.records import Figure
from launch.shared.scoreboard import Board
from launch.shared.viewer import page
from rl import evaluate

TERMS = ("total", "score", "loss", "stranded")
COUNTS = (
    "landed", "hand_offs", "busts", "off_route", "collisions", "loss_game", "loss_raw", "go_arounds",
    "reversals",
)  # fmt: skip
RATIOS = (
    "landed_share", "commands_per_aircraft", "loss_duration_s", "loss_severity", "level_segments_per_arrival",
    "commands_per_min",
)  # fmt: skip
WORLDS = ("real", "imagined")
RESAMPLES = 4000


def play(config: WorldModelEvaluation) -> dict[str, dict[str, Board]]:
    """The boards {airport: {world: Board}} of all policies' hours; plays what is missing where it may."""
    asked = [config.of_airport(icao, "real") for icao in config.airports]
    players = {one.slots: eval_policy.players_of(one) for one in asked}
    makers = {"real": in_game.real_world, "model": episodes.model_world}
    boards = {}
    for icao in config.airports:
        boards[icao] = {}
        for where, make in makers.items():
            one = config.of_airport(icao, where)
            world, seeds, chosen = make(one), eval_policy.seeds_of(one), players[one.slots]
            if config.where in (where, "both"):
                episodes.play_all(one, {world.name: world}, chosen, seeds)
            found = {p.name: {s: episodes.read(world.path(one, p, s)) for s in seeds} for p in chosen}
            boards[icao][world.name] = {
                name: {seed: e for seed, e in played.items() if e is not None}
                for name, played in found.items()
            }
    return boards


def judge(config: WorldModelEvaluation) -> dict[str, Figure]:
    """Play the hours and return the record's figures; writes hours.md, hours.png and pages of the expert.

    Raises GameError, CheckpointError or, in one line, ValueError.
    """
    try:
        boards = play(config)
    except episodes.EvaluationError as error:
        raise ValueError(str(error)) from error
    if config.where not in ("both", "neither"):
        return {}
    compared = report(boards)
    text = table(compared)
    (config.out / "hours.md").write_text(text, encoding="utf-8")
    draw(boards, config.out / "hours.png")
    for icao, board in boards.items():
        experts = {world: {"expert": played["expert"]} for world, played in board.items()}
        seed = eval_policy.seeds_of(config.of_airport(icao, "real"))[0]
        page.compare(experts, seed, config.out / f"view-{icao}.html")
    print(text)
    suffix = "" if config.dynamics == "learned" else f"_{config.dynamics}"
    return {name + suffix: figure for name, figure in figures(boards, compared).items()}


def column(played: list[dict], name: str) -> np.ndarray:
    """What an episode came to `[n]`: points of a term of the return, or a count per hour."""
    if name in TERMS:
        return np.asarray([e["return"][name] for e in played])
    return np.asarray([e[name] / e["hours"] for e in played])


def difference(
    real: np.ndarray, imagined: np.ndarray, unit: str, statistic: Callable = np.mean, scale: float = 1.0
) -> Figure:
    """statistic(imagined) - statistic(real), divided by `scale`, of two independent samples `[n, ...]`.

    `statistic` takes numpy's `axis`. The interval is a bootstrap in which both are drawn again.
    """
    rng = np.random.default_rng(0)
    sides = imagined, real
    picked = [[rng.integers(0, len(side), len(side)) for side in sides] for _ in range(RESAMPLES)]
    draws = [np.stack(rows) for rows in zip(*picked, strict=True)]
    value = (statistic(imagined, axis=0) - statistic(real, axis=0)) / scale
    of_imagined, of_real = (statistic(side[rows], axis=1) for side, rows in zip(sides, draws, strict=True))
    low, high = np.percentile((of_imagined - of_real) / scale, [2.5, 97.5])
    return Figure(float(value), min(low, value), max(high, value), unit, min(len(real), len(imagined)))


def compare(real: dict[int, dict], imagined: dict[int, dict], scale: float) -> dict:
    """One policy's hours: {name: {"real", "imagined", "difference"}}, the gap, and the counts of both."""
    sides = [list(scoreboard.valid(side).values()) for side in (real, imagined)]
    rows = {}
    for name in (*TERMS, *COUNTS):
        columns = [column(side, name) for side in sides]
        unit = "points/h" if name in TERMS else "1/h"
        rows[name] = _row(columns, unit, np.mean)
    for name in RATIOS:
        unit, top, bottom = scoreboard.RATIOS[name]
        columns = [np.asarray([(top(e), bottom(e)) for e in side if bottom(e)]) for side in sides]
        if all(len(c) for c in columns):
            rows[name] = _row(columns, unit, evaluate.ratio)
    for name, (measured, unit) in scoreboard.MEANS.items():
        columns = [np.asarray([e[measured] for e in side if e[measured] is not None]) for side in sides]
        if all(len(c) for c in columns):
            rows[name] = _row(columns, unit, np.mean)
    totals = [column(side, "total") for side in sides]
    rows["gap"] = {"difference": difference(*totals, "", scale=scale)}
    return rows


def _row(columns: list[np.ndarray], unit: str, statistic: Callable) -> dict[str, Figure]:
    each = {
        world: records.bootstrap(
            rows, unit, seed=0, statistic=statistic, resamples=RESAMPLES, vectorized=True
        )
        for world, rows in zip(WORLDS, columns, strict=True)
    }
    return each | {"difference": difference(*columns, unit, statistic)}


def scale_of(board: Board) -> float:
    """What the expert gains over no commands in the real game, points an hour."""
    expert, noop = (column(list(scoreboard.valid(board[n]).values()), "total") for n in ("expert", "noop"))
    return float(np.mean(expert) - np.mean(noop))


def _in_both(worlds: dict[str, Board]) -> list[str]:
    """Policies with hours that count in the real game and in the model."""
    return [p for p in worlds["real"] if all(scoreboard.valid(worlds[w].get(p, {})) for w in WORLDS)]


def report(boards: dict[str, dict[str, Board]]) -> dict[str, dict[str, dict]]:
    """{place: {policy: rows of `compare`}} of boards {place: {"real": Board, "imagined": Board}}."""
    found = {}
    for place, worlds in boards.items():
        real, imagined = (worlds[world] for world in WORLDS)
        scale = scale_of(real)
        both = _in_both(worlds)
        found[place] = {policy: compare(real[policy], imagined[policy], scale) for policy in both}
    return found


def figures(boards: dict[str, dict[str, Board]], compared: dict) -> dict[str, Figure]:
    """What the record holds of the hours: gaps, landed shares, phantom events, losses, the ranking."""
    out = {}
    for place, policies in compared.items():
        gaps = {policy: rows["gap"]["difference"] for policy, rows in policies.items()}
        out |= {f"hour_gap_{place}_{policy}": gap for policy, gap in gaps.items()}
        out[f"hour_gap_{place}"] = worst(gaps.values())
        out |= member_gap(place, boards[place])
    every = [(policy, rows) for policies in compared.values() for policy, rows in policies.items()]
    shares = [rows["landed_share"]["difference"] for _, rows in every if "landed_share" in rows]
    out["hour_landed_difference"] = worst(shares)
    experts = [rows for policy, rows in every if policy == "expert"]
    for name in ("busts", "collisions"):
        out[f"phantom_{name}_per_h"] = worst(rows[name]["difference"] for rows in experts)
    out["hour_losses_ratio"] = losses_ratio(boards)
    return out | ranking(boards)


def member_gap(place: str, worlds: dict[str, Board]) -> dict[str, Figure]:
    """The gap of the expert's hours in the ensemble's worst member, where the hours tell their member.

    The mean over members hides one that is wrong by itself, and a policy trained in the model meets each.
    """
    real, imagined = (list(scoreboard.valid(worlds[world]["expert"]).values()) for world in WORLDS)
    apart: dict[int, list[dict]] = {}
    for episode in imagined:
        if "member" in episode:
            apart.setdefault(episode["member"], []).append(episode)
    totals = [column(played, "total") for played in apart.values()]
    gaps = [difference(column(real, "total"), own, "", scale=scale_of(worlds["real"])) for own in totals]
    return {f"hour_gap_worst_member_{place}": worst(gaps)} if gaps else {}


def worst(differences) -> Figure:
    """The figure farthest from zero, as a distance."""
    chosen = max(differences, key=lambda figure: abs(figure.value))
    low, high = sorted((abs(chosen.low), abs(chosen.high)))
    low = 0.0 if chosen.low < 0 < chosen.high else low
    return Figure(abs(chosen.value), low, high, chosen.unit, chosen.n)


def losses_ratio(boards: dict[str, dict[str, Board]]) -> Figure:
    """Losses of separation an hour, imagined over real, all policies and places together.

    Each policy and place weighs as its real hours do. The interval draws whole hours of both worlds again.
    """
    rng = np.random.default_rng(0)
    cells = []
    for worlds in boards.values():
        for policy in worlds["real"]:
            sides = [list(scoreboard.valid(worlds[world].get(policy, {})).values()) for world in WORLDS]
            if all(sides):
                cells.append([column(side, "loss_game") for side in sides])

    def ratio(draw):
        real = sum(np.sum(draw(r)) for r, _ in cells)
        return sum(len(r) * np.mean(draw(i)) for r, i in cells) / max(real, 1e-9)

    drawn = [ratio(lambda x: x[rng.integers(0, len(x), len(x))]) for _ in range(RESAMPLES)]
    value = ratio(lambda x: x)
    low, high = np.percentile(drawn, [2.5, 97.5])
    n = round(sum(np.sum(r) for r, _ in cells))
    return Figure(float(value), min(low, value), max(high, value), "", max(n, 1))


def ranking(boards: dict[str, dict[str, Board]]) -> dict[str, Figure]:
    """How well imagined returns rank policies: Pearson's r and the mean maximal rank violation, all places.

    Returns are scaled per place: 0 for no commands and 1 for the expert, of the real game. MMRV: for every
    policy the largest real difference to another that the imagined hours put in the wrong order, averaged
    (arXiv 2405.05941).
    """
    real, imagined = [], []
    for worlds in boards.values():
        scale, floor = scale_of(worlds["real"]), np.mean(_totals(worlds["real"]["noop"]))
        names = _in_both(worlds)
        for board, side in ((worlds["real"], real), (worlds["imagined"], imagined)):
            side.append([(_totals(board[p]) - floor) / scale for p in names])
    rng = np.random.default_rng(0)

    def draw(x):
        return x[rng.integers(0, len(x), len(x))]

    def measures(pick):
        def means(side):
            return [np.asarray([np.mean(pick(x)) for x in place]) for place in side]

        sides = means(real), means(imagined)
        r = np.corrcoef(np.concatenate(sides[0]), np.concatenate(sides[1]))[0, 1]
        return r, np.mean(np.concatenate([mmrv(a, b) for a, b in zip(*sides, strict=True)]))

    value = measures(lambda x: x)
    drawn = np.asarray([measures(draw) for _ in range(RESAMPLES // 4)])
    n = sum(len(place) for place in real)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    named = {}
    for i, name in enumerate(("ranking_pearson", "ranking_mmrv")):
        named[name] = Figure(float(value[i]), min(low[i], value[i]), max(high[i], value[i]), "", n)
    return named


def _totals(played: dict[int, dict]) -> np.ndarray:
    return column(list(scoreboard.valid(played).values()), "total")


def mmrv(real: np.ndarray, imagined: np.ndarray) -> np.ndarray:
    """The largest rank violation of each policy `[n]`, given the scores of both worlds `[n]`."""
    apart = np.abs(real[:, None] - real[None, :])
    wrong = (real[:, None] < real[None, :]) != (imagined[:, None] < imagined[None, :])
    return np.max(np.where(wrong, apart, 0.0), axis=1)


def table(compared: dict) -> str:
    """Markdown: a row per place, policy and quantity."""
    lines = ["| place | policy | quantity | real | imagined | difference |", "|---|---|---|---|---|---|"]
    for place, policies in compared.items():
        for policy, rows in policies.items():
            for name, row in rows.items():
                cells = [_cell(row.get(side)) for side in (*WORLDS, "difference")]
                lines.append(f"| {place} | {policy} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"


def draw(boards: dict[str, dict[str, Board]], path: Path) -> None:
    """Returns of single hours, real beside imagined, a panel per place."""
    panels, axes = plt.subplots(1, len(boards), figsize=(5 * len(boards), 4.5), squeeze=False)
    for (place, worlds), axis in zip(boards.items(), axes[0], strict=True):
        names = list(worlds["real"])
        for shift, world, colour in zip((-0.15, 0.15), WORLDS, ("C0", "C1"), strict=True):
            totals = [_totals(worlds[world].get(policy, {})) for policy in names]
            for i, values in enumerate(totals):
                axis.plot(np.full(len(values), i + shift), values, ".", color=colour, alpha=0.4)
            means = [np.mean(values) if len(values) else np.nan for values in totals]
            axis.plot(np.arange(len(names)) + shift, means, "_", ms=14, color=colour, label=world)
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set(title=place, ylabel="return (points/h)")
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    panels.tight_layout()
    panels.savefig(path, dpi=120)
    plt.close(panels)
