"""Proximal policy optimisation, whole and on device.

Rollout, advantages, epochs and statistics are one function of arrays, `PPO.update`; `PPO.chunk` repeats it
and returns a few scalars. Nothing calls back to the host, and the only thing known about devices is the axis
name over which gradients and statistics are averaged: `launch/shared/parallel.py` maps the function with
pmap or shard_map.

Shapes: T time (rollout length), E environments of one device, B = T * E samples.
Source: Schulman et al. 2017, arXiv 1707.06347; choices after Andrychowicz et al. 2021, arXiv 2006.05990.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from gymnax.environments.environment import Environment

from configs.ppo import PPOConfig
from rl.gae import final_values, gae, next_values
from rl.normalize import Moments, Stats, merge, normalise
from rl.policy import PolicyParams, distribution_and_value, init_params
from rl.totals import Totals


@struct.dataclass
class TrainState:
    """What is learned; the same on every device."""

    policy: PolicyParams
    optimizer: optax.OptState
    returns: Stats  # of discounted returns, (1,); rewards are divided by their deviation
    updates: jax.Array  # int32 ()


@struct.dataclass
class Carry:
    """What goes on from update to update in each environment; every leaf leads with E."""

    env_state: Any
    observation: Any
    keys: jax.Array  # (E,) each environment has a random stream of its own, whatever device it is on
    actor: Any  # the actor's memory; empty for the policy itself
    discounted: jax.Array  # (E,) discounted sum of the rewards so far
    episode: dict[str, jax.Array]  # (E,) sums of the running episode


@struct.dataclass
class Transition:
    """One step, leaves (T, E, ...).

    `observation` is normalised and in the trunk's dtype (bf16 halves the largest array of a run). That loses
    nothing: casting is the first thing the network does, so acting and learning see the same bits. Masks are
    bool.
    """

    observation: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    final_value: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


@struct.dataclass
class Sample:
    """What the loss needs of one transition, leaves (B, ...)."""

    observation: Any
    action: Any
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array


class Actor(NamedTuple):
    """Who plays. init(key) -> memory; act(distribution, observation, memory, key) -> (played, learned,
    memory).

    Both are for one environment. `learned` is the action that is kept: the one played, or an expert's label.
    """

    init: Callable
    act: Callable


def _play_own_sample(distribution, observation, memory, key):
    action = distribution.sample(key)
    return action, action, memory


STUDENT = Actor(init=lambda key: (), act=_play_own_sample)


@dataclass(frozen=True)
class PPO:
    """An environment, a network and a configuration; `axis` names the device axis, None for one device."""

    env: Environment
    network: nn.Module
    config: PPOConfig
    updates: int  # in the whole run: where the learning rate reaches zero
    axis: str | None = None

    def optimizer(self) -> optax.GradientTransformation:
        config = self.config
        steps = self.updates * config.epochs * config.minibatches
        rate = (
            optax.linear_schedule(config.learning_rate, 0.0, steps) if config.anneal else config.learning_rate
        )
        return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate, eps=1e-5))

    def init(self, key: jax.Array, env_params) -> TrainState:
        """A fresh train state. The observation's shapes come from the environment."""
        policy = init_params(self.network, key, jax.eval_shape(self.env.reset, key, env_params)[0])
        optimizer = self.optimizer().init(policy.network)
        return TrainState(policy, optimizer, Stats.init((1,)), updates=jnp.zeros((), jnp.int32))

    def reset(self, keys: jax.Array, env_params, actor: Actor = STUDENT) -> Carry:
        """Starts one environment per key, (E,)."""
        keys, reset_keys, actor_keys = _split(keys, 3)
        started = jax.vmap(self.env.reset, (0, None))(reset_keys, env_params)
        # A Python number in an environment's state has a weak type, and the second chunk would compile again.
        observation, env_state = jax.tree.map(
            lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), started
        )
        zeros = jnp.zeros(keys.shape)
        return Carry(
            env_state=env_state,
            observation=observation,
            keys=keys,
            actor=jax.vmap(actor.init)(actor_keys),
            discounted=zeros,
            episode=dict.fromkeys(self._statistics(env_params), zeros),
        )

    def update(self, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """One rollout and its epochs: (state, carry, metrics), metrics being `train` means and `totals`."""
        carry, transitions, totals = self.rollout(state, carry, env_params)
        samples, metrics = self.samples(state, carry, transitions)
        params, optimizer, losses = optimise(
            self.loss,
            self.optimizer(),
            state.policy.network,
            state.optimizer,
            samples,
            key,
            self.config,
            self.axis,
        )
        state = self.learn_statistics(state, totals).replace(optimizer=optimizer)
        state = state.replace(policy=state.policy.replace(network=params))
        return state, carry, {"train": {**metrics, **losses}, "totals": totals}

    def chunk(self, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """`config.chunk` updates: (state, carry, metrics reduced over them)."""
        return repeat(self.update, self.config.chunk)(state, carry, key, env_params)

    def rollout(self, state: TrainState, carry: Carry, env_params, actor: Actor = STUDENT):
        """T steps of every environment: (carry, Transition (T, E, ...), Totals over all devices)."""

        def step(carry, _):
            carry, transition, totals = self._step(state, carry, env_params, actor)
            return carry, (transition, totals)

        carry, (transitions, totals) = jax.lax.scan(step, carry, length=self.config.rollout_length)
        return carry, transitions, totals.over_axis().over_devices(self.axis)

    def _step(self, state: TrainState, carry: Carry, env_params, actor: Actor):
        keys, act_keys, env_keys, actor_keys = _split(carry.keys, 4)
        observation, moments = normalise(
            state.policy.normalizer, carry.observation, self.config.network.dtype
        )
        distribution, value = self.network.apply(state.policy.network, observation)
        played, learned, memory = jax.vmap(actor.act)(distribution, carry.observation, carry.actor, act_keys)
        following, env_state, raw, terminated, truncated, info = jax.vmap(self.env.step, (0, 0, 0, None))(
            env_keys, carry.env_state, played, env_params
        )
        done = terminated | truncated
        # Only a time limit needs the last observation's value: after a termination nothing is to come.
        capacity = max(1, done.shape[0] // 16)
        value_of = lambda final: distribution_and_value(self.network, state.policy, final)[1]  # noqa: E731
        final_value = final_values(value_of, info["final_observation"], truncated & ~terminated, capacity)
        reward = raw + self._shaping(info, terminated)
        discounted = self.config.gamma * carry.discounted + reward
        moments["returns"] = Moments.of(state.returns.apply(discounted[:, None]))

        seen = {"return": raw, "length": jnp.ones_like(raw), **info.get("reward_terms", {})}
        episode = {name: carry.episode[name] + value for name, value in seen.items()}
        totals = Totals.of(moments, seen, episode, terminated, truncated)
        fresh = jax.vmap(actor.init)(actor_keys)
        carry = Carry(
            env_state=env_state,
            observation=following,
            keys=keys,
            actor=jax.tree.map(lambda new, old: jax.vmap(jnp.where)(done, new, old), fresh, memory),
            discounted=jnp.where(done, 0.0, discounted),
            episode={name: jnp.where(done, 0.0, value) for name, value in episode.items()},
        )
        scaled = reward * self._reward_scale(state)
        log_prob = distribution.log_prob(learned)
        transition = Transition(
            observation, learned, log_prob, value, final_value, scaled, terminated, truncated & ~terminated
        )
        return carry, transition, totals

    def samples(self, state: TrainState, carry: Carry, transitions: Transition):
        """Advantages, normalised over the batch of all devices: (Sample (B, ...), metrics)."""
        config, t = self.config, transitions
        last_value = distribution_and_value(self.network, state.policy, carry.observation)[1]
        following = next_values(t.value, last_value, t.final_value, t.truncated)
        advantage = gae(
            t.reward, t.value, following, t.terminated, t.truncated, config.gamma, config.gae_lambda
        )
        target = advantage + t.value
        mean, deviation = _mean_and_deviation(advantage, self.axis)
        unexplained = jnp.square(deviation) / jnp.maximum(
            jnp.square(_mean_and_deviation(target, self.axis)[1]), 1e-8
        )
        sample = Sample(t.observation, t.action, t.log_prob, (advantage - mean) / (deviation + 1e-8), target)
        metrics = {"explained_variance": 1 - unexplained, "advantage_deviation": deviation}
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), sample), metrics

    def loss(self, params, batch: Sample):
        """Clipped surrogate, value error and entropy bonus of a batch: (loss, metrics), float32 scalars."""
        config = self.config
        distribution, value = self.network.apply(params, batch.observation)
        log_ratio = distribution.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy_loss = -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
        value_loss = 0.5 * jnp.square(value - batch.target).mean()
        entropy = distribution.entropy().mean()
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
        return loss, {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": (
                ratio - 1 - log_ratio
            ).mean(),  # never negative, little variance: joschu.net/blog/kl-approx.html
            "clip_fraction": (jnp.abs(ratio - 1) > config.clip).mean(),
        }

    def learn_statistics(self, state: TrainState, totals: Totals) -> TrainState:
        """Counts the update and merges what it saw into the normalisers, which the next update will use."""
        normalizer = state.policy.normalizer
        if self.config.normalise_observations:
            normalizer = {name: merge(stats, totals.moments[name]) for name, stats in normalizer.items()}
        return state.replace(
            policy=state.policy.replace(normalizer=normalizer),
            returns=merge(state.returns, totals.moments["returns"]),
            updates=state.updates + 1,
        )

    def _shaping(self, info: dict, terminated: jax.Array) -> jax.Array | float:
        """w (gamma Phi(s') - Phi(s)), Phi = 0 after a termination: keeps the optimal policy (Ng 1999)."""
        if "potential" not in info:
            return 0.0
        before, after = info["potential"][:, 0], info["potential"][:, 1]
        return self.config.shaping_weight * (self.config.gamma * jnp.where(terminated, 0.0, after) - before)

    def _reward_scale(self, state: TrainState) -> jax.Array | float:
        """Never above one when estimated: before the first rare event the deviation says nothing."""
        if self.config.reward_scale is not None:
            return self.config.reward_scale
        return 1.0 / jnp.maximum(jnp.sqrt(state.returns.var[0]), 1.0)

    def _statistics(self, env_params) -> list[str]:
        """Names of the sums kept per episode: return, length and the environment's reward terms."""

        def reward_terms(key):
            key_reset, key_action, key_step = jax.random.split(key, 3)
            _, env_state = self.env.reset(key_reset, env_params)
            action = self.env.action_space(env_params).sample(key_action)
            return self.env.step(key_step, env_state, action, env_params)[5].get("reward_terms", {})

        return ["return", "length", *jax.eval_shape(reward_terms, jax.random.key(0))]


def optimise(loss, optimizer, params, opt_state, samples, key, config, axis):
    """`config.epochs` passes over shuffled minibatches: (params, opt_state, metrics averaged over all of
    them).

    loss(params, batch) -> (scalar, metrics). Gradients are averaged over devices before they are clipped.
    """

    def minibatch(learner, rows):
        params, opt_state = learner
        batch = jax.tree.map(lambda leaf: leaf[rows], samples)
        gradient, metrics = jax.grad(loss, has_aux=True)(params, batch)
        gradient, metrics = _pmean((gradient, metrics), axis)
        step, opt_state = optimizer.update(gradient, opt_state, params)
        metrics = {**metrics, "gradient_norm": optax.tree.norm(gradient)}
        return (optax.apply_updates(params, step), opt_state), metrics

    def epoch(learner, key):
        rows = jax.random.permutation(key, jax.tree.leaves(samples)[0].shape[0])
        return jax.lax.scan(minibatch, learner, rows.reshape(config.minibatches, -1))

    (params, opt_state), metrics = jax.lax.scan(
        epoch, (params, opt_state), jax.random.split(key, config.epochs)
    )
    return params, opt_state, jax.tree.map(jnp.mean, metrics)


def repeat(update, times: int):
    """An update function that runs `update` `times` times and reduces its metrics to one set of scalars."""

    def repeated(state, carry, key, env_params):
        def body(loop, key):
            state, carry = loop
            state, carry, metrics = update(state, carry, key, env_params)
            return (state, carry), metrics

        (state, carry), metrics = jax.lax.scan(body, (state, carry), jax.random.split(key, times))
        train = jax.tree.map(jnp.mean, metrics["train"])
        return state, carry, {"train": train, "totals": metrics["totals"].over_axis()}

    return repeated


def _split(keys: jax.Array, parts: int):
    """One stream per environment (E,) into `parts` arrays of keys (E,)."""
    return jax.vmap(lambda key: tuple(jax.random.split(key, parts)))(keys)


def _pmean(tree, axis: str | None):
    return tree if axis is None else jax.lax.pmean(tree, axis)


def _mean_and_deviation(x: jax.Array, axis: str | None):
    """Over all samples of all devices."""
    mean = _pmean(x.mean(), axis)
    return mean, jnp.sqrt(_pmean(jnp.square(x - mean).mean(), axis))
