"""The network in a step: every aircraft's choices, and where the ensemble disagrees.

One environment, or a batch without GPU, takes wm.state.network's functions one after the other. A batch on a
GPU takes the kernels of wm.state.play_kernel, which do the same and store nothing between.
"""

import jax
import jax.numpy as jnp

from wm.sector import kernels
from wm.state import network as net
from wm.state import play_kernel


def _plain(weights, member, features, valid, tick, uniform):
    outputs = net.predict(weights, member, features)
    apart = net.probe_disagreement(weights, member, features, outputs, valid, tick)
    drawn = net.draw(outputs, None) if uniform is None else net.draw_by(outputs, uniform)
    return drawn, apart


@jax.custom_batching.custom_vmap
def play(weights, member, features, valid, tick, uniform):
    """(drawn heads `[N, .]`, disagreement) of one environment's features `[N, F]`.

    valid `[N]`, tick: as in net.probe_disagreement. uniform: of net.uniforms, None for the most likely.
    """
    return _plain(weights, member, features, valid, tick, uniform)


@play.def_vmap
def _play_batch(axis_size, in_batched, weights, *per_environment):
    if any(jax.tree.leaves(in_batched[0])):
        raise ValueError("play batches over environments only: weights unbatched")
    arguments = kernels.on_all(axis_size, tuple(in_batched[1:]), per_environment)

    def plain(weights, *arguments):
        return jax.vmap(_plain, (None, 0, 0, 0, 0, 0))(weights, *arguments)

    features, uniform = arguments[1], arguments[-1]
    members = jax.tree.leaves(weights)[0].shape[0]
    block = members * net.PROBE_PERIOD
    rows = axis_size // block * features.shape[1]
    if uniform is None or axis_size % block or not play_kernel.fits(weights, rows):
        out = plain(weights, *arguments)
    else:
        out = kernels.where_it_runs(in_kernels, plain, weights, *arguments)
    return out, jax.tree.map(lambda _: True, out)


def in_kernels(weights, member, features, valid, tick, uniform, interpret: bool = False):
    """`play` of a batch `[E, ...]` by the kernels; member m serves the m-th contiguous block."""
    del member
    members = jax.tree.leaves(weights)[0].shape[0]
    environments, slots = valid.shape
    more = play_kernel.padded(features.shape[-1]) - features.shape[-1]
    features = jnp.pad(features, ((0, 0), (0, 0), (0, more)))

    def rows(x):
        return x.reshape(members, -1, x.shape[-1])

    drawn = play_kernel.play(weights, rows(features), rows(uniform), interpret)
    drawn = jax.tree.map(lambda x: x.reshape(environments, slots, *x.shape[2:]), drawn)
    quarter = tick[0] % net.PROBE_PERIOD

    def probed(x):
        parts = x.reshape(members, net.PROBE_PERIOD, -1, *x.shape[1:])
        return jax.lax.dynamic_index_in_dim(parts, quarter, 1, keepdims=False)

    apart = play_kernel.compare(weights, rows(probed(features)), interpret)
    apart = jnp.where(probed(valid), apart.reshape(members, -1, slots), 0.0)
    now = jnp.arange(net.PROBE_PERIOD)[:, None] == quarter
    return drawn, jnp.where(now, jnp.max(apart, -1)[:, None], 0.0).reshape(environments)
