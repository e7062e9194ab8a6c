"""One update function on many devices.

Training code writes one function for one device, which averages its gradients and metrics over `AXIS`:

    def update(train_state, carry, key, params):
        ...
        gradients = jax.lax.pmean(gradients, AXIS)
        return train_state, carry, jax.lax.pmean(metrics, AXIS)

`wrap` runs it on D devices through `jax.pmap` or `jax.jit(jax.shard_map)`, with the same shapes in and out:

    argument      host shape          what the function sees
    train_state   [...]               [...], the same on every device
    carry         [D, ...]            [...], this device's own
    key           [D] (`shard_keys`)  [], this device's own
    params        [...]               [...], the same on every device
    metrics       [...]               must already be equal on all devices

so `replicate`, `split`, `merge`, `shard_keys` and `unreplicate` serve either back-end.

A model too large to be whole on every device is trained with `wrap_sharded` instead: the same call, but every
array of `train_state` and `params` lies in parts on the devices (`shard`), and XLA fetches what a computation
needs when it needs it. The function then sees the rows of all devices as one batch and uses no collective.

D counts the devices of this process. On several hosts (`jax.distributed.initialize`) each process passes its
own D rows and the same `train_state` and `params`; collectives then run over the devices of all of them.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
Backend = Literal["pmap", "shard_map"]
UpdateFunction = Callable[[Any, Any, jax.Array, Any], tuple[Any, Any, Any]]

REPLICATED = PartitionSpec()
PER_DEVICE = PartitionSpec(AXIS)
IN_SPECS = (REPLICATED, PER_DEVICE, PER_DEVICE, REPLICATED)
OUT_SPECS = (REPLICATED, PER_DEVICE, REPLICATED)


def wrap(
    update: UpdateFunction,
    backend: Backend = "pmap",
    n_devices: int | None = None,
    donate_argnums: tuple[int, ...] = (0, 1),
) -> UpdateFunction:
    """Compiles `update(train_state, carry, key, params) -> (train_state, carry, metrics)` for D devices.

    Args:
      update: the function of one device; it may use collectives over `AXIS`.
      backend: "pmap" or "shard_map"; same arguments, same results.
      n_devices: how many devices of a single host; None takes all of them, on every host.
      donate_argnums: arguments whose memory the results reuse. A donated array must not be used again.

    Raises:
      ValueError: unknown back-end, more devices than there are, or `n_devices` on several hosts.
    """
    if n_devices is not None and jax.process_count() > 1:
        raise ValueError("n_devices can be chosen on one host only; on several hosts all devices take part")
    if backend == "pmap":
        return jax.pmap(
            update,
            axis_name=AXIS,
            in_axes=(None, 0, 0, None),
            out_axes=(None, 0, None),
            devices=None if n_devices is None else devices(n_devices),
            donate_argnums=donate_argnums,
        )
    if backend == "shard_map":
        return _wrap_shard_map(update, n_devices, donate_argnums)
    raise ValueError(f"unknown back-end {backend!r}: choose one of {', '.join(get_args(Backend))}")


def _wrap_shard_map(
    update: UpdateFunction, n_devices: int | None, donate_argnums: tuple[int, ...]
) -> UpdateFunction:
    def on_shard(train_state, carry, key, params):
        # shard_map keeps the split axis as a leading 1 where pmap drops it.
        own_carry = jax.tree.map(lambda x: x[0], carry)
        train_state, own_carry, metrics = update(train_state, own_carry, key[0], params)
        return train_state, jax.tree.map(lambda x: x[None], own_carry), metrics

    world = _mesh(jax.devices() if n_devices is None else devices(n_devices))
    mapped = jax.shard_map(
        on_shard,
        mesh=world,
        in_specs=IN_SPECS,
        out_specs=OUT_SPECS,
        # With the check on, differentiating by a replicated value already sums over the devices and the pmean
        # that follows does nothing: the gradient is silently D times too large.
        check_vma=False,
    )
    compiled = jax.jit(mapped, donate_argnums=donate_argnums)
    if jax.process_count() == 1:
        return compiled

    def on_hosts(train_state, carry, key, params):
        # pmap converts between one host's rows and the global array by itself; here it is ours to do.
        arguments = (train_state, carry, jax.random.key_data(key), params)
        train_state, carry, key_data, params = multihost_utils.host_local_array_to_global_array(
            arguments, world, IN_SPECS
        )
        key = jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(key))
        results = compiled(train_state, carry, key, params)
        return multihost_utils.global_array_to_host_local_array(results, world, OUT_SPECS)

    return on_hosts


def wrap_sharded(
    update: UpdateFunction, n_devices: int | None = None, donate_argnums: tuple[int, ...] = (0,)
) -> UpdateFunction:
    """Compiles `update` with its `train_state` in parts on D devices of one host (ZeRO stage 3, or FSDP).

    Host shapes are those of `wrap`; the function sees `carry` and `key` as [D*B, ...] for their [D, B, ...],
    and averages over that leading dimension where it would otherwise average over `AXIS`. What it returns as
    carry is not looked at.
    """
    mesh = _mesh(devices(n_devices))

    def on_all(train_state, carry, key, params):
        rows = jax.lax.with_sharding_constraint(merge((carry, key)), NamedSharding(mesh, PER_DEVICE))
        train_state, _, metrics = update(train_state, *rows, params)
        # Said once more for the result: XLA is free to leave a part of it whole on every device.
        train_state = jax.lax.with_sharding_constraint(train_state, _parts(train_state, mesh))
        return train_state, {}, metrics

    return jax.jit(on_all, donate_argnums=donate_argnums)


def shard(tree: Any, n_devices: int | None = None) -> Any:
    """Places every array in parts on the devices, for `wrap_sharded`.

    `jax.device_get` makes it whole again.
    """
    return jax.device_put(tree, _parts(tree, _mesh(devices(n_devices))))


def _parts(tree: Any, mesh: Mesh) -> Any:
    """How each array is divided: along its longest axis that D divides, never along the first of several.

    The first axis is that of stacked blocks, which are computed one after the other. An array that no such
    axis divides stays whole on every device.
    """

    def parts(x: Any) -> NamedSharding:
        axes = [axis for axis in range(int(x.ndim > 1), x.ndim) if x.shape[axis] % mesh.size == 0]
        if x.ndim == 0 or not axes:
            return NamedSharding(mesh, REPLICATED)
        longest = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, AXIS))

    return jax.tree.map(parts, tree)


def devices(n_devices: int | None = None) -> list[jax.Device]:
    """The first `n_devices` devices of this process, or all of them.

    Raises:
      ValueError: there are not that many.
    """
    available = jax.local_devices()
    if n_devices is None:
        return available
    if not 1 <= n_devices <= len(available):
        raise ValueError(f"{n_devices} devices asked for; this machine has {len(available)}")
    return available[:n_devices]


def replicate(tree: Any, n_devices: int | None = None) -> Any:
    """Places a tree on every device; shapes stay as they are. For the train state and the parameters."""
    return jax.device_put(tree, NamedSharding(_mesh(devices(n_devices)), REPLICATED))


def unreplicate(tree: Any) -> Any:
    """One device's copy of a replicated tree. Reads that device's memory; nothing is gathered."""
    return jax.tree.map(lambda x: x.addressable_shards[0].data if isinstance(x, jax.Array) else x, tree)


def split(tree: Any, n_devices: int | None = None) -> Any:
    """`[D*B, ...]` leaves to `[D, B, ...]`, placed on the devices in contiguous blocks.

    Raises:
      ValueError: a leading dimension is not divisible by the number of devices.
    """
    chosen = devices(n_devices)
    n = len(chosen)

    def split_leaf(x: jax.Array) -> jax.Array:
        if x.ndim == 0 or x.shape[0] % n:
            raise ValueError(f"leading dimension of shape {x.shape} is not divisible by {n} devices")
        return x.reshape((n, x.shape[0] // n, *x.shape[1:]))

    return jax.device_put(jax.tree.map(split_leaf, tree), NamedSharding(_mesh(chosen), PER_DEVICE))


def merge(tree: Any) -> Any:
    """Inverse of `split`: `[D, B, ...]` leaves to `[D*B, ...]`."""
    return jax.tree.map(lambda x: x.reshape((x.shape[0] * x.shape[1], *x.shape[2:])), tree)


def shard_keys(key: jax.Array, n_devices: int | None = None) -> jax.Array:
    """Splits one random key into `[D]` independent keys, one on each device.

    On several hosts, which all pass the same key, each gets its own rows of one split over all devices.
    """
    chosen = devices(n_devices)
    return jax.device_put(host_keys(key, len(chosen)), NamedSharding(_mesh(chosen), PER_DEVICE))


def host_keys(key: jax.Array, count: int) -> jax.Array:
    """`[count]` keys of this host's own: its rows of one split of `key`, which all hosts pass alike.

    Two hosts with n keys each hold those that one host with 2 n would.
    """
    return host_rows(jax.random.split(key, jax.process_count() * count))


def host_rows(tree: Any) -> Any:
    """This host's part of leaves that lead with all hosts' rows, in their order; inverse of `gather`."""

    def part(x):
        rows = x.shape[0] // jax.process_count()
        return x[jax.process_index() * rows : (jax.process_index() + 1) * rows]

    return jax.tree.map(part, tree)


def gather(tree: Any) -> Any:
    """Leaves `[B, ...]` of every host joined to `[hosts * B, ...]`, on every host. For checkpoints."""
    if jax.process_count() == 1:
        return tree

    def joined(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(joined(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(joined, tree)


def _mesh(chosen: list[jax.Device]) -> Mesh:
    # Explicit axes, jax.make_mesh's default, make shard_map refuse arrays that were not placed beforehand.
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)
