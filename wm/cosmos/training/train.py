"""One training step of a Cosmos model, whole or by adapters, on one device of many.

`Trainer.update` has the signature of `launch.shared.parallel`: it averages gradients over `axis`, or, where
the arrays lie in parts on the devices, over the batch alone (`axis=None`). Every sample brings its own random
key, so a step computes the same on one device, on eight, and in several accumulated parts.

Per step the parameters are cast once to the dtype that the model multiplies in; gradients are taken with
respect to that copy and so have its dtype, half the memory and half the traffic between devices of float32.
The parameters themselves, and what the optimiser keeps, have dtypes of their own (`OptimizerConfig`).

Letters: B samples of this device, T latent frames, H W latent height and width, C channels, n actions of A
numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from configs.cosmos import LoRAConfig, OptimizerConfig
from wm.cosmos.networks import lora
from wm.cosmos.training import adamw

Objective = Callable[[Any, Any, jax.Array, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""(variables, batch, keys [B], running mean of variables) -> (loss of every sample [B], further metrics)."""


@struct.dataclass
class Batch:
    """What a device trains on in one step."""

    latents: jax.Array  # [B, T, H, W, C], normalised
    actions: jax.Array | None  # [B, n, A], normalised; n is 4 (T - 1); None for a model without


@struct.dataclass
class TrainState:
    """What a step changes."""

    step: jax.Array  # [] int32, updates done
    trained: Any  # variables that are learned, see wm.cosmos.networks.lora
    moments: adamw.Moments
    ema: Any  # running mean of `trained`; None without


@dataclass(frozen=True)
class Trainer:
    """What stays the same.

    Attributes:
      objective: what is minimised.
      optimizer: learning rate, dtypes, accumulation.
      lora: the adapters' scale; None where every parameter is learned.
      axis: name of the devices' axis; None averages over the batch alone.
      keeps_float32: whether the parameter of that name, such as "time_1/kernel", is never cast to the compute
        dtype.
    """

    objective: Objective
    optimizer: OptimizerConfig
    lora: LoRAConfig | None = None
    axis: str | None = None
    keeps_float32: Callable[[str], bool] = lambda name: False

    def init(self, trained: Any) -> TrainState:
        """The state before the first step; `trained` in any float dtype."""
        config = self.optimizer
        trained = jax.tree.map(lambda p: p.astype(config.master), trained)
        ema = None
        if config.ema_decay is not None:
            ema = jax.tree.map(lambda p: jnp.array(p, config.ema, copy=True), trained)
        return TrainState(jnp.zeros((), jnp.int32), trained, adamw.init(trained, config), ema)

    def update(self, state: TrainState, batch: Any, keys: jax.Array, frozen: Any):
        """(state, {}, metrics) after one step.

        Args:
          batch: leaves [B, ...].
          keys: [B] random keys.
          frozen: variables that aren't learned, in the compute dtype; {} where all are.
        """
        copy = self.compute_copy(state.trained)
        mean = copy if state.ema is None else self.compute_copy(state.ema)
        gradients, metrics = self._gradients(copy, mean, batch, keys, frozen)
        if self.axis is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), self.axis)
        config = self.optimizer
        trained, moments = adamw.update(
            gradients, state.moments, state.trained, state.step, config, self._rate_scale
        )
        metrics = metrics | {
            "grad_norm": adamw.global_norm(gradients),
            "grad_norm_action": adamw.global_norm(_of_actions(gradients)),
            "learning_rate": adamw.learning_rate(config, state.step),
        }
        ema = None if state.ema is None else self._averaged(state.ema, trained, state.step)
        return TrainState(state.step + 1, trained, moments, ema), {}, metrics

    def compute_copy(self, variables: Any) -> Any:
        """`variables` in the compute dtype, but for the parameters that the model wants in float32."""

        def cast(path, leaf):
            float32 = self.keeps_float32("/".join(adamw.names(path)[1:]))
            return leaf.astype(jnp.float32 if float32 else self.optimizer.compute)

        return jax.tree_util.tree_map_with_path(cast, variables)

    def variables(self, trained: Any, frozen: Any) -> dict:
        """What the model is applied with, in the compute dtype; `trained` may be `state.ema`."""
        return lora.join(self.compute_copy(trained), frozen, self.lora)

    def _gradients(self, copy: Any, mean: Any, batch: Any, keys: jax.Array, frozen: Any) -> tuple[Any, dict]:
        """Of the mean loss over the batch, taken in `accumulate` parts one after the other."""
        mean = lora.join(mean, frozen, self.lora)

        def loss(trained, batch, keys):
            losses, metrics = self.objective(lora.join(trained, frozen, self.lora), batch, keys, mean)
            return jnp.mean(losses), jax.tree.map(jnp.mean, {"loss": losses, **metrics})

        gradient = jax.grad(loss, has_aux=True)
        parts = self.optimizer.accumulate
        if parts == 1:
            return gradient(copy, batch, keys)

        def add(total, part):
            here = gradient(copy, *part)
            return jax.tree.map(lambda t, x: t + x.astype(jnp.float32) / parts, total, here), None

        rows = jax.tree.map(lambda x: _divided(x, parts), (batch, keys))
        shapes = jax.eval_shape(lambda rows: gradient(copy, *jax.tree.map(lambda x: x[0], rows)), rows)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)
        return jax.lax.scan(add, zeros, rows)[0]

    def _rate_scale(self, path: adamw.Path) -> float:
        return self.optimizer.action_learning_rate_scale if _is_action(path) else 1.0

    def _averaged(self, ema: Any, trained: Any, step: jax.Array) -> Any:
        """The running mean; while few steps are behind it, over about all of them."""
        done = step.astype(jnp.float32)
        decay = jnp.minimum(self.optimizer.ema_decay, (1.0 + done) / (10.0 + done))
        leaves, treedef = jax.tree.flatten(ema)
        new = [
            adamw.rounded(
                decay * mean.astype(jnp.float32) + (1.0 - decay) * value.astype(jnp.float32),
                mean.dtype,
                adamw.seed(step, 4 * number + 3),
            )
            for number, (mean, value) in enumerate(zip(leaves, jax.tree.leaves(trained), strict=True))
        ]
        return treedef.unflatten(new)


def _divided(x: jax.Array, parts: int) -> jax.Array:
    if x.shape[0] % parts:
        raise ValueError(f"accumulate is {parts}, must divide the {x.shape[0]} samples of a device")
    return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])


def _is_action(path: adamw.Path) -> bool:
    return any("action" in name for name in path)


def _of_actions(tree: Any) -> list[jax.Array]:
    """The leaves of the nets that read actions; one zero where there are none."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [leaf for path, leaf in leaves if _is_action(adamw.names(path))] or [jnp.zeros(())]
