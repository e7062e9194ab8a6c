"""Check the real game: it repeats, it is fast, its recorder loses nothing, lock-step changes little.

    python -m launch.check_game replay --record spine
    python -m launch.check_game speed --record recorder
    python -m launch.check_game kill --record spine
    python -m launch.check_game timing --record spine
    python -m launch.check_game faults --record recorder
    python -m launch.check_game soak --record recorder
    python -m launch.check_game plan --record recorder

Writes results.json; ends with status 1 where a check fails. See configs/game_checks.py.
"""

import dataclasses
import signal
import sys

from collect import GameError
from configs import cli
from configs.game_checks import Faults, Kill, Plan, Replay, Soak, Speed, Timing
from launch.game import faults as game_faults
from launch.game import kill as game_kill
from launch.game import plan as game_plan
from launch.game import replay as game_replay
from launch.game import soak as game_soak
from launch.game import speed as game_speed
from launch.game import timing as game_timing
from launch.shared import records, runs
from launch.shared.episodes import EvaluationError
from wm.store.checkpoints import CheckpointError

CHECKS = {
    Replay: game_replay,
    Speed: game_speed,
    Kill: game_kill,
    Timing: game_timing,
    Soak: game_soak,
    Faults: game_faults,
    Plan: game_plan,
}


def _terminate(signum, frame):
    """SIGTERM (a batch system's time limit) ends like Ctrl-C."""
    raise KeyboardInterrupt


def check(config: Replay | Speed | Kill | Timing | Soak | Faults | Plan) -> list[str]:
    """Run one check and write what it found; returns what it found wrong, one line each."""
    runs.commit()  # of the code that runs, whatever is edited meanwhile
    folder = config.out or runs.create(f"check-{type(config).__name__.lower()}")
    folder.mkdir(parents=True, exist_ok=True)
    results, figures, faults = CHECKS[type(config)].run(config, folder)
    shown = {name: dataclasses.asdict(figure) for name, figure in figures.items()}
    runs.write_results(folder, {"config": cli.to_json(config), "figures": shown, "faults": faults, **results})
    if config.record:
        records.write(config.record, figures)
    for name, f in figures.items():
        print(f"{name}: {f.value:.4g} ({f.low:.4g} to {f.high:.4g}) {f.unit}, n = {f.n}")
    print(f"{folder}/results.json")
    return faults


def main(argv: list[str] | None = None) -> None:
    """Check, or say in one line why not."""
    config = cli.parse(Replay | Speed | Kill | Timing | Soak | Faults | Plan, argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with runs.one_line_errors(GameError, CheckpointError, EvaluationError, ValueError, OSError):
            faults = check(config)
    except KeyboardInterrupt:
        runs.fail("interrupted before the check was done", 130)
    if faults:
        runs.fail("; ".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
