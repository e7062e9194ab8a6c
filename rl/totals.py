"""Statistics of many environment steps as a handful of numbers.

The numbers of a step are added up over environments at once, and the sums then over steps, devices and
updates. So no array with an axis of environments or of time outlives a rollout.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.normalize import Moments


@struct.dataclass
class Totals:
    """Sums over steps, and extremes over finished episodes; leaves are scalars, but for the Moments' (F,)."""

    moments: dict[str, Moments]  # of observations and discounted returns
    counts: dict[str, jax.Array]  # steps, episodes, and those of them that a time limit ended
    step: dict[str, jax.Array]  # summed over all steps
    episode: dict[str, jax.Array]  # summed over finished episodes
    low: dict[str, jax.Array]
    high: dict[str, jax.Array]

    @classmethod
    def of(
        cls, moments: dict, step: dict, episode: dict, terminated: jax.Array, truncated: jax.Array
    ) -> "Totals":
        """Of a step of E environments; `step` holds its numbers (E,), `episode` their sums so far (E,)."""
        done = terminated | truncated
        counts = {
            "steps": jnp.asarray(done.size, jnp.float32),
            "episodes": done.sum(dtype=jnp.float32),
            "truncations": (truncated & ~terminated).sum(dtype=jnp.float32),
        }
        return cls(
            moments=moments,
            counts=counts,
            step={name: value.sum() for name, value in step.items()},
            episode={name: jnp.where(done, value, 0.0).sum() for name, value in episode.items()},
            low={name: jnp.where(done, value, jnp.inf).min() for name, value in episode.items()},
            high={name: jnp.where(done, value, -jnp.inf).max() for name, value in episode.items()},
        )

    def over_axis(self) -> "Totals":
        """Reduces stacked totals over their leading axis."""
        return self._reduce(lambda x: x.sum(0), lambda x: x.min(0), lambda x: x.max(0))

    def over_devices(self, axis: str | None) -> "Totals":
        if axis is None:
            return self
        return self._reduce(*[lambda x, f=f: f(x, axis) for f in (jax.lax.psum, jax.lax.pmin, jax.lax.pmax)])

    def _reduce(self, add, low, high) -> "Totals":
        added = {
            name: jax.tree.map(add, getattr(self, name)) for name in ("moments", "counts", "step", "episode")
        }
        return Totals(**added, low=jax.tree.map(low, self.low), high=jax.tree.map(high, self.high))


def report(metrics: dict) -> dict[str, float]:
    """A chunk's metrics on the host, as flat names and floats; episode figures only where episodes ended."""
    totals = jax.tree.map(np.asarray, metrics["totals"])
    flat = {f"train/{name}": float(value) for name, value in metrics["train"].items()}
    flat |= {name: float(value) for name, value in totals.counts.items()}
    flat |= {f"step/{name}": float(value / totals.counts["steps"]) for name, value in totals.step.items()}
    if totals.counts["episodes"]:
        for name, value in totals.episode.items():
            flat[f"episode/{name}/mean"] = float(value / totals.counts["episodes"])
            flat[f"episode/{name}/min"] = float(totals.low[name])
            flat[f"episode/{name}/max"] = float(totals.high[name])
    return flat
