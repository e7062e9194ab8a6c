"""Behaviour cloning: a warm start for PPO from an expert that plays the same environment.

The expert is a pure policy, so it labels the states of thousands of environments while they run, and nothing
is stored. A growing share of the actions played is the student's own. So the expert also labels the states to
which the student's mistakes lead, and which a recording of the expert would never visit.
Source: DAgger, Ross et al. 2011, arXiv 1011.0686.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from configs.ppo import CloneConfig
from rl.acting import Policy
from rl.ppo import PPO, repeat
from rl.training import Behaviour, Carry, Lesson, Sample, TrainState

IMPOSSIBLE = -1e9  # a log-probability below this is a masked action


def label_by(expert: Policy, params: Any, student_share: jax.Array | float) -> Behaviour:
    """Play the student's sample with probability `student_share`; always learn the expert's action."""

    def act(distribution, observation, memory, key):
        key_expert, key_student, key_choice = jax.random.split(key, 3)
        label, memory = expert.act(params, memory, observation, key_expert)
        label = label.astype(jnp.int32)
        own = jax.random.uniform(key_choice) < student_share
        return jnp.where(own, distribution.sample(key_student), label), label, memory

    return Behaviour(init=expert.init, act=act)


@dataclass(frozen=True)
class Cloning:
    """Imitation with PPO's environment, network, rollout and critic targets."""

    ppo: PPO
    expert: Policy
    expert_params: Any = None

    @property
    def config(self) -> CloneConfig:
        return self.ppo.config.clone

    def optimizer(self) -> optax.GradientTransformation:
        limit = optax.clip_by_global_norm(self.ppo.config.max_grad_norm)
        return optax.chain(limit, optax.adam(self.config.learning_rate, eps=1e-5))

    def init(self, key: jax.Array, env_params) -> TrainState:
        """As `PPO.init`, with the optimiser's state of cloning."""
        return self.restarted(self.ppo.init(key, env_params))

    def restarted(self, state: TrainState) -> TrainState:
        """A state of PPO with the optimiser of cloning, and nothing to stay near."""
        return state.replace(optimizer=self.optimizer().init(state.policy.network), start=None)

    def reset(self, keys: jax.Array, env_params) -> Carry:
        """As `PPO.reset`, with the expert's memory."""
        return self.ppo.reset(keys, env_params, label_by(self.expert, self.expert_params, 0.0))

    def update(self, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """One rollout and its epochs of imitation, see `PPO.learn`."""
        progress = state.updates / max(self.config.updates - 1, 1)
        behaviour = label_by(self.expert, self.expert_params, self.config.student_share * progress)
        lesson = Lesson(behaviour, self.loss, self.optimizer(), self.config.epochs)
        return self.ppo.learn(lesson, state, carry, key, env_params)

    def chunk(self, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """The updates of a dispatch, not more than the run has, as `PPO.chunk`."""
        return repeat(self.update, min(self.ppo.config.chunk, self.config.updates))(
            state, carry, key, env_params
        )

    def loss(self, params, batch: Sample):
        """Cross-entropy of the expert's action plus the critic's error: (loss, metrics), float32 scalars.

        An action that the mask forbids cannot be learned. Such samples are left out, and their share is
        reported.
        """
        distribution, value = self.ppo.network.apply(params, batch.observation)
        log_prob = distribution.log_prob(batch.action)
        legal = log_prob > IMPOSSIBLE
        cross_entropy = -jnp.where(legal, log_prob, 0.0).sum() / jnp.maximum(legal.sum(dtype=jnp.float32), 1)
        value_loss = 0.5 * jnp.square(value - batch.target).mean()
        loss = cross_entropy + self.ppo.config.value_coef * value_loss
        agreement = (distribution.mode() == batch.action).reshape(legal.shape[0], -1).all(-1)
        return loss, {
            "loss": loss,
            "cross_entropy": cross_entropy,
            "value_loss": value_loss,
            "agreement": agreement.mean(dtype=jnp.float32),
            "illegal_labels": 1 - legal.mean(dtype=jnp.float32),
        }

    def warm_start(self, state: TrainState) -> TrainState:
        """The train state from which PPO goes on: the clone, a fresh optimiser and a count of zero."""
        optimizer = self.ppo.optimizer().init(state.policy.network)
        state = state.replace(optimizer=optimizer, updates=jnp.zeros_like(state.updates))
        return self.ppo.start_from(state)
