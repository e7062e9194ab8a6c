"""Making the environment from a checkpoint, by name or by hand."""

from pathlib import Path

import jax
import numpy as np

from wm.sector import traffic as tr
from wm.state.bundle import load_bundle
from wm.state.env import Dynamics, OpenScopeWorldModel
from wm.state.params import EnvParams


def make(
    checkpoint=None,
    airport=None,
    sample: bool = True,
    dynamics: Dynamics = "learned",
    slots=None,
    **overrides,
) -> OpenScopeWorldModel:
    """Build the environment from a world-model checkpoint; None loads the packaged one.

    `airport` (an ICAO code, or some) keeps those airports alone; None starts at all it knows. `dynamics`
    "rules" moves aircraft by hand-written rules instead of the network. `slots` (aircraft) is at least the
    checkpoint's own. `overrides` replace fields of EnvParams by name. Raises CheckpointError for a bad
    checkpoint, ValueError for other dynamics, too few slots and where no recorded state lies before the time
    limit.
    """
    params = load_bundle(checkpoint, airport, slots).replace(**overrides)
    return OpenScopeWorldModel(_before_the_limit(params), sample, dynamics)


def folder_of(run: Path | str) -> Path:
    """The model folder of a training run; a folder without one is taken to be it."""
    model = Path(run) / "model"
    return model if model.is_dir() else Path(run)


def _before_the_limit(params: EnvParams) -> EnvParams:
    """Without the reset rows that the time limit would truncate at once."""
    started = np.asarray(params.rows.scene.time_s) < params.max_steps_in_episode * tr.STEP_S
    if not started.any():
        raise ValueError(
            f"max_steps_in_episode is {params.max_steps_in_episode}, before every recorded state: raise it"
        )
    if started.all():
        return params
    return params.replace(rows=jax.tree.map(lambda leaf: leaf[np.flatnonzero(started)], params.rows))
