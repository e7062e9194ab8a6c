"""A picture of imagination beside what happened: five recorded minutes, replayed in the model.

Letters: W windows, T steps, N aircraft.
"""

from pathlib import Path

import jax
import numpy as np

from launch.shared import radar
from launch.shared.radar import pyplot
from wm.sector.airport import Airport
from wm.sector.traffic import STEP_S
from wm.state import fidelity

SECONDS = max(fidelity.HORIZONS_S)


def busiest(windows: fidelity.Windows, count: int) -> fidelity.Windows:
    """The `count` windows in which most aircraft inside the airspace were commanded."""
    commanded = np.sum(windows.commanded(round(SECONDS / STEP_S)) & windows.considered, -1)
    chosen = np.argsort(-commanded, kind="stable")[:count]
    return fidelity.select(windows, chosen)


def draw(weights, held_out: dict[str, tuple[Airport, list]], path: Path) -> None:
    """One panel per airport: recorded tracks wide and grey, imagined ones thin and coloured.

    `held_out` maps an ICAO code to (Airport, recordings). Aircraft are those inside the airspace when the
    window begins; each flies until it leaves play.
    """
    members = jax.tree.leaves(weights)[0].shape[0]
    figure, axes = pyplot.subplots(
        1, len(held_out), figsize=(6.0 * len(held_out), 6.0), squeeze=False, layout="constrained"
    )
    for (icao, (airport, recordings)), axis in zip(held_out.items(), axes[0], strict=True):
        steps = round(SECONDS / STEP_S)
        windows = busiest(fidelity.cut_windows(recordings, steps, steps), members)
        x, y, _, playing = map(np.asarray, fidelity.imagine(weights, airport, windows.start, windows.action))
        start = windows.start.traffic
        radar.draw_map(axis, radar.map_of(airport, np.unique(start.route[0][windows.considered[0]])))
        for n in np.flatnonzero(windows.considered[0]):
            recorded, imagined = windows.playing[0, :, n], np.logical_and.accumulate(playing[0, :, n])
            happened = _track(start, n, windows.x_nm[0][recorded], windows.y_nm[0][recorded])
            axis.plot(*happened, color="0.75", linewidth=4.0, solid_capstyle="round")
            dreamt = _track(start, n, x[0][imagined], y[0][imagined])
            axis.plot(*dreamt, linewidth=1.0, marker=".", markersize=2.5)
        axis.set(title=f"{icao}: {SECONDS} s, recorded (grey) and imagined")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _track(start, n: int, x_nm, y_nm):
    """(x, y) of aircraft `n` of the first window from its start over the rows `[T, N]`."""
    return np.append(start.x_nm[0, n], x_nm[:, n]), np.append(start.y_nm[0, n], y_nm[:, n])
