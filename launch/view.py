"""Make one HTML file of a recorded or evaluated episode: a radar scope to play, with timeline and profiles.

    python -m launch.view --data collect/data/shipped/test --episode 1
    python -m launch.view --data collect/data/shipped/test --episode 1 --imagine 30

Any browser opens the file, without a server and without a network. Two episodes play beside each other in
step. See configs/viewer.py.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from collect import GameError, dataset
from configs import cli
from configs.viewer import ViewerConfig
from launch.shared import episodes, records, runs
from launch.shared.records import Figure, RecordError
from launch.shared.viewer import flown, page
from launch.shared.viewer.flown import Flown
from launch.shared.viewer.pack import pack
from wm.sector.recording import Recording
from wm.sector.traffic import STEP_S
from wm.state import bundle, fidelity, labels
from wm.store.checkpoints import CheckpointError

AIRCRAFT = 30  # in the mean, of the hour whose page's size is on record


def packed(data: Path, episode: int) -> dict[str, Any]:
    """The packed episode of a directory of recordings, or of a file of an evaluation's cache.

    Raises DataError or EvaluationError where there is none.
    """
    if not data.is_file():
        return pack(flown.of_recording(dataset.one(data, episode)))
    found = episodes.read(data)
    if "view" not in found:
        raise episodes.EvaluationError(
            f"{data} holds no tracks: evaluations keep those of a split's first seed, such as 600000.json"
        )
    return found["view"]


def imagined(config: ViewerConfig, recording: Recording) -> list[Flown]:
    """Minutes of a recording, and what the world model makes of their start and the recorded commands."""
    first, steps = (round(60.0 * minutes / STEP_S) for minutes in (config.imagine, config.minutes))
    if first >= len(recording.action):
        length = len(recording.action) * STEP_S / 60.0
        raise ValueError(f"imagine is {config.imagine:g}, must be less than the episode's {length:g} minutes")
    params = bundle.load_bundle(config.checkpoint)
    airport, (numbered,) = labels.airport_of([recording])
    start = jax.tree.map(lambda leaf: leaf[first], numbered.scene)
    real = flown.of_recording(recording, first, steps)
    actions = to_known(numbered.action[first : first + steps], np.asarray(real.traffic.id))
    scenes = fidelity.replay(params.weights, airport, start, actions)
    present = [set(ids[ids >= 0].tolist()) for ids in np.asarray(scenes.traffic.id)]
    model = Flown(
        title=f"{recording.icao.upper()} world model, same start and commands, no new aircraft",
        icao=recording.icao,
        airport=airport,
        traffic=jax.tree.map(np.asarray, scenes.traffic),
        callsigns=real.callsigns,
        commands=[(t, who, text) for t, who, text in real.commands if who in present[t]],
        disagreement=np.asarray(flown.disagreement(params, 0, airport, scenes)),
        static=recording.static,
        routes=tuple(numbered.routes),
        begin_s=real.begin_s,
    )
    return [real, model]


def to_known(action: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Recorded actions `[T, 5]` with a no-op for aircraft that came later: their columns may be others' here.

    ids: the recording's aircraft by column `[T + 1, C]`, -1 for none.
    """
    columns = ids.shape[1]
    named = np.minimum(action[:, 0], columns - 1)
    known = ids[np.arange(len(action)), named] == ids[0, named]
    return np.where(known[:, None], action, np.asarray([columns, 0, 0, 0, 0], action.dtype))


def shown(config: ViewerConfig) -> list[dict[str, Any]]:
    """The packed episodes of the page."""
    if config.imagine is not None:
        return [pack(one) for one in imagined(config, dataset.one(config.data, config.episode))]
    found = [packed(config.data, config.episode)]
    if config.beside is not None:
        found.append(packed(config.beside, config.beside_episode))
    return found


def figures(packed_episode: dict[str, Any], size: int) -> dict[str, Figure]:
    """The figure on record: the size in bytes of the page of one hour with many aircraft.

    Raises RecordError for an episode of another length or with fewer.
    """
    minutes = packed_episode["steps"] * packed_episode["step_s"] / 60.0
    aircraft = packed_episode["rows"] / (packed_episode["steps"] + 1)
    if minutes < 60.0 or aircraft < AIRCRAFT:
        raise RecordError(
            f"the size on record is of an hour with {AIRCRAFT} aircraft in the mean; this episode has "
            f"{minutes:.0f} minutes and {aircraft:.1f} aircraft: choose another or leave out --record"
        )
    return {"viewer_mb_hour_30_aircraft": Figure(size / 1e6, size / 1e6, size / 1e6, "MB", 1)}


def main(argv: list[str] | None = None) -> None:
    """Write the page, and a picture where one is asked for; or say in one line why not."""
    config = cli.parse(ViewerConfig, argv)
    errors = (GameError, dataset.DataError, episodes.EvaluationError, CheckpointError, ValueError, OSError)
    with runs.one_line_errors(*errors):
        packed_episodes = shown(config)
        page.write(packed_episodes, config.out)
        size = config.out.stat().st_size
        print(f"{config.out}: {size / 1e6:.2f} MB")
        if config.record:
            records.write(config.record, figures(packed_episodes[0], size))
        if config.picture:
            about = {"pick": config.pick, "zoom": config.zoom}
            if config.seconds is None:
                page.picture(config.out, config.picture, t=config.at, **about)
            else:
                page.moving_picture(config.out, config.picture, config.at, config.seconds, **about)
            print(config.picture)


if __name__ == "__main__":
    main(sys.argv[1:])
