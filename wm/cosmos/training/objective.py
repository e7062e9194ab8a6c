"""What a Cosmos model is trained on: clips of which the first latent frames are given, with their actions."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from wm.cosmos.networks import lora
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.training import edm, flow, shortcut
from wm.cosmos.training.train import Batch, Objective


@dataclass(frozen=True, eq=False)
class Clips:
    """A network and how clips are shown to it.

    Attributes:
      model: the network.
      context: (1, K, width) text embedding that all clips share.
      given: how many latent frames, from the first, the model is told.
      parametrisation: of the model; "edm" trains with EDM's own noise levels and weights.
    """

    model: CosmosDiT
    context: jax.Array
    given: int = 1
    parametrisation: str = "flow"

    def mask(self, batch: int, frames: int) -> jax.Array:
        """(batch, frames) float32, 1 for the latent frames that are given.

        Raises:
          ValueError: nothing is given, or nothing would be left to predict.
        """
        if not 0 < self.given < frames:
            raise ValueError(
                f"given is {self.given}, must be 1 to {frames - 1}: clips have {frames} latent frames"
            )
        return jnp.broadcast_to(jnp.arange(frames) < self.given, (batch, frames)).astype(jnp.float32)

    def network(self, variables: dict, actions: jax.Array | None) -> shortcut.StepNetwork:
        """(noisy, times, condition_mask, steps=None) -> velocity; see `wm.cosmos.training.flow` and
        `.shortcut`.
        """

        def velocity(noisy, times, mask, steps=None):
            with lora.applying():
                return self.model.apply(
                    variables, noisy, times, self.context, mask, actions=actions, steps=steps
                )

        return velocity

    def flow_objective(self, config: flow.FlowConfig) -> Objective:
        """Rectified flow; of an EDM model its own loss, to which `config` says nothing."""

        def losses(variables, batch: Batch, keys: jax.Array, mean: dict):
            del mean
            mask = self.mask(*batch.latents.shape[:2])
            network = self.network(variables, batch.actions)
            if self.parametrisation == "edm":
                return edm.losses(network, batch.latents, mask, keys, edm.PREDICT1), {}
            return flow.losses(network, batch.latents, mask, keys, config), {}

        return losses

    def shortcut_objective(self, config: shortcut.ShortcutConfig) -> Objective:
        """Rectified flow, and for a share of the samples steps of many sizes: sampling in one to four.

        Raises:
          ValueError: the model isn't one of rectified flow.
        """
        if self.parametrisation == "edm":
            raise ValueError("shortcut_share is for models of rectified flow; this one is EDM: leave it at 0")

        def losses(variables, batch: Batch, keys: jax.Array, mean: dict):
            mask = self.mask(*batch.latents.shape[:2])
            network, target = (self.network(each, batch.actions) for each in (variables, mean))
            return shortcut.losses(network, target, batch.latents, mask, keys, config), {}

        return losses
