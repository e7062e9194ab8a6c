"""World models of openScope: the sector's definitions, the fast simulator, the pixel models, their store.

Importing this registers the simulator, `OpenScopeWM-v0`, with gymnax and with gymnasium. It imports neither
of them, nor JAX: each is told when a program imports it.
"""

from wrapt import when_imported

NAME = "OpenScopeWM-v0"


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
