"""Evaluate controllers in the real game, in the model, or both.

    python -m launch.eval_policy --policies noop expert --url http://localhost:3003
    python -m launch.eval_policy --policies noop expert runs/ppo --where both --checkpoint runs/wm/model

All policies play the same seeds; one that the game fails with is left out and counted, and where the game's
own code is not the reason, the next run tries it again. Writes results.json (every episode and all figures),
table.md, radar.png and view.html (launch.view). The table's first half judges the traffic in order of
precedence: safety, throughput, efficiency, workload; rl/flown.py and rl/losses.py define its figures.
Finished episodes are kept in --cache, and the same command goes on after a stop. See configs/evaluation.py.
"""

import dataclasses
import signal
import sys

import numpy as np

from collect.browser import GameError
from collect.dataset import SEEDS
from configs import cli
from configs.evaluation import EvaluationConfig
from launch.shared import episodes, in_game, players, radar, records, runs, scoreboard
from launch.shared.episodes import EvaluationError, World
from launch.shared.players import TRAINED, Player
from launch.shared.viewer import page
from rl.evaluate import score
from wm.sector.traffic import STEP_S
from wm.store.checkpoints import CheckpointError

YARDSTICKS = ("noop", "expert")


def seeds_of(config: EvaluationConfig) -> range:
    """The seeds of a split that an evaluation plays."""
    low, _ = SEEDS[config.split]
    return range(low, low + config.episodes)


def players_of(config: EvaluationConfig) -> list[Player]:
    """Who plays; trained policies are called policy, policy_2, ..."""
    found, trained = [], 0
    for given in dict.fromkeys(config.policies):
        player = players.make(given, config.slots)
        if player.name == TRAINED:
            trained += 1
            player.name = TRAINED if trained == 1 else f"{TRAINED}_{trained}"
        found.append(player)
    return found


def worlds(config: EvaluationConfig) -> list[World]:
    """Where to play."""
    makers = {"real": in_game.real_world, "model": episodes.model_world}
    return [make(config) for name, make in makers.items() if config.where in (name, "both")]


def collect_board(config: EvaluationConfig, world: World, chosen: list[Player]) -> scoreboard.Board:
    """Finished episodes of all players, and of the yardsticks where the cache has them."""
    board = {}
    named = {player.name: player for player in chosen}
    for name in YARDSTICKS:
        named.setdefault(name, players.make(name, config.slots))
    for name, player in named.items():
        found = {seed: episodes.read(world.path(config, player, seed)) for seed in seeds_of(config)}
        board[name] = {seed: episode for seed, episode in found.items() if episode is not None}
    return {name: found for name, found in board.items() if found}


def place_of(config: EvaluationConfig) -> str:
    """The airport and whatever isn't its own traffic and wind, as figures name it."""
    parts = [config.airport]
    if config.traffic != 1:
        parts.append(f"traffic_{config.traffic:g}".replace(".", "_"))
    if config.wind is not None:
        parts.append(f"wind_{config.wind.from_deg}_{config.wind.speed_kt}")
    if config.every > 1:
        parts.append(f"every_{config.every * STEP_S:.0f}_s")
    if config.eyes is not None:
        parts.append("from_pictures")
    return "_".join(parts)


def less_often(config: EvaluationConfig, world: World, chosen: list[Player]) -> dict[str, records.Figure]:
    """Points an hour of each policy that acts once in `every` decisions less those where it acts in all.

    Of the hours that the cache has both of; nothing where it has none.
    """
    figures, often = {}, dataclasses.replace(config, every=1, eyes=None)
    for player in chosen if config.every > 1 and config.eyes is None else ():
        pairs = [
            [episodes.read(world.path(each, player, seed)) for each in (config, often)]
            for seed in seeds_of(config)
        ]
        whole = [pair for pair in pairs if all(episode and "return" in episode for episode in pair)]
        points = [[episode["return"]["total"] for episode in pair] for pair in whole]
        if points:
            rows = np.asarray(points)
            whose = f"{player.name}_{place_of(dataclasses.replace(config, every=1))}"
            name = f"every_{config.every * STEP_S:.0f}s_minus_{STEP_S:.0f}s"
            name += "" if whose == "expert_kabq" else f"_{whose}"
            figures[name] = records.bootstrap(rows[:, 0] - rows[:, 1], "points", seed=0)
    return figures


def from_pictures(config: EvaluationConfig, world: World, chosen: list[Player]) -> dict[str, records.Figure]:
    """The score of each policy that sees pictures alone, between no commands and the expert who sees all.

    Of the hours that the cache has of all three; nothing where it has none.
    """
    figures, seeing = {}, dataclasses.replace(config, every=1, eyes=None)
    idle, expert = (players.make(name, config.slots) for name in YARDSTICKS)
    for player in chosen if config.eyes is not None else ():
        who = ((config, player), (seeing, idle), (seeing, expert))
        hours = [[episodes.read(world.path(how, one, seed)) for how, one in who] for seed in seeds_of(config)]
        whole = [hour for hour in hours if all(episode and "return" in episode for episode in hour)]
        if whole:
            rows = np.asarray([[episode["return"]["total"] for episode in hour] for hour in whole])
            whose = f"{player.name}_{config.airport}"
            name = "score_from_pictures" + ("" if whose == "expert_kabq" else f"_{whose}")
            figures[name] = records.bootstrap(rows, "", seed=0, statistic=score)
    return figures


def evaluate(config: EvaluationConfig) -> dict:
    """Play what is missing and write the report; returns what results.json holds.

    Raises GameError, CheckpointError, EvaluationError or ValueError, in one line.
    """
    config = dataclasses.replace(config, airport=config.airport.lower())
    chosen, places = players_of(config), worlds(config)
    seeds = seeds_of(config)
    episodes.play_all(config, {world.name: world for world in places}, chosen, seeds)
    boards = {world.name: collect_board(config, world, chosen) for world in places}
    for board in boards.values():
        for name, found in board.items():
            if all("fault" in episode for episode in found.values()):
                seed, episode = next(iter(found.items()))
                raise EvaluationError(f"the game fails with every seed of {name}; {seed}: {episode['fault']}")
    further = less_often(config, places[0], chosen) | from_pictures(config, places[0], chosen)
    return report(config, boards, further)


def report(
    config: EvaluationConfig, boards: dict[str, scoreboard.Board], further: dict[str, records.Figure]
) -> dict:
    """Figures, those given among them, table, picture and record of finished episodes."""
    figures, found = dict(further), scoreboard.all_figures(boards)
    for world, policies in found.items():
        for policy, own in policies.items():
            figures |= scoreboard.record_names(own, world, policy, place_of(config))
    folder = config.out or runs.create(f"eval-{config.airport}")
    folder.mkdir(parents=True, exist_ok=True)
    text = scoreboard.table(boards, found)
    (folder / "table.md").write_text(text, encoding="utf-8")
    first, panels, shown = seeds_of(config)[0], {}, {}
    for world, board in boards.items():
        shown[world] = {}
        for policy, played in board.items():
            if "picture" in played.get(first, ()):
                panels[f"{policy}, {world}, seed {first}"] = played[first]["picture"]
            shown[world][policy] = [
                {name: value for name, value in episode.items() if name not in ("picture", "view")}
                for episode in played.values()
            ]
    radar.draw(panels, folder / "radar.png")
    written = ["results.json", "table.md", "radar.png"]
    written += ["view.html"] if page.compare(boards, first, folder / "view.html") else []
    results = {
        "config": cli.to_json(config),
        "figures": {name: dataclasses.asdict(figure) for name, figure in figures.items()},
        "episodes": shown,
    }
    runs.write_results(folder, results)
    if config.record:
        records.write(config.record, figures)
    print(f"\n{text}\n{folder}/: {', '.join(written)}")
    return results


def _terminate(signum, frame):
    """SIGTERM (a batch system's time limit) ends like Ctrl-C."""
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> None:
    """Evaluate, or say in one line why not."""
    config = cli.parse(EvaluationConfig, argv)
    signal.signal(signal.SIGTERM, _terminate)
    errors = (GameError, CheckpointError, EvaluationError, records.RecordError, ValueError, OSError)
    try:
        with runs.one_line_errors(*errors):
            evaluate(config)
    except KeyboardInterrupt:
        runs.fail(f"interrupted; finished episodes are in {config.cache}, the same command goes on", 130)


if __name__ == "__main__":
    main(sys.argv[1:])
