"""A whole world model small enough for tests: untrained, of one airport, from three short recordings."""

import functools

import jax
import jax.numpy as jnp

from tests.wm import recordings as rc
from wm.state import labels
from wm.state import network as net
from wm.state.bundle import build
from wm.state.params import EnvParams

LAST = 30  # steps of an episode; recorded starts lie up to 24 steps in
ROWS = 8


@functools.cache
def small_model() -> EnvParams:
    """Two untrained members; in the recordings the last aircraft appears at step 10."""
    flown = [rc.appearing(r, slot=5, step=10) for r in rc.cruise(3)]
    place, flown = labels.airport_of(flown)
    built = build(rc.untrained(), [place], [flown], rows=ROWS, slots=rc.SLOTS)
    return built.replace(max_steps_in_episode=LAST, disagreement_limit=jnp.float32(2.0))


def each_its_own(weights, **choices):
    """Weights of two members who always choose what `choices` gives each: head=(first, second).

    The other heads of classes choose their first class: nothing is left to chance or to rounding.
    """
    fixed = dict.fromkeys(net.CATEGORICAL, 0) | {"fate": net.STAY, "phase_frame": rc.NEVER}
    members = [
        rc.biased(weights, **(fixed | {name: pair[m] for name, pair in choices.items()})) for m in (0, 1)
    ]
    return jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), *members)
