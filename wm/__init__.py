"""World models of openScope: the sector's definitions, the fast simulator, the pixel models, their store.

    env, params = wm.load()                    # the shipped simulator, or the folder of a training run

Importing this registers the simulator, `OpenScopeWM-v0`, with gymnax and with gymnasium. It imports neither
of them, nor JAX: each is told when a program imports it.
"""

from wrapt import when_imported

NAME = "OpenScopeWM-v0"


def load(name_or_folder=None, **options):
    """A simulator as gymnax.make gives it: the environment and its EnvParams.

    Args:
      name_or_folder: a training run or its model folder; None or "shipped" is the simulator that comes with
        the project.
      options: as wm.state.make.make takes them (airport, sample, fields of EnvParams).

    Raises CheckpointError, in one line, where there is none that this version can run.
    """
    from wm.state.make import folder_of

    shipped = name_or_folder in (None, "shipped")
    env = _make(checkpoint=None if shipped else folder_of(name_or_folder), **options)
    return env, env.default_params


def _make(**options):
    from wm.state.make import make

    return make(**options)


@when_imported("gymnax")
def _register_with_gymnax(gymnax) -> None:
    gymnax.register(NAME, _make)


@when_imported("gymnasium")
def _register_with_gymnasium(gymnasium) -> None:
    entry_points = {
        "entry_point": "wm.state.gym:WorldModelEnv",
        "vector_entry_point": "wm.state.gym:WorldModelVectorEnv",
    }
    gymnasium.register(NAME, **entry_points)
