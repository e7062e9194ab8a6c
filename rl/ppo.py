"""Proximal policy optimisation, whole and on device.

Rollout, advantages, epochs and statistics are one function of arrays, `PPO.update`; `PPO.chunk` repeats it
and returns a few scalars. Nothing calls back to the host, and the only thing known about devices is the axis
name over which gradients and statistics are averaged: `launch/shared/parallel.py` maps the function with
pmap or shard_map.

Shapes: T time (rollout length), E environments of one device, B = T * E samples.
Source: Schulman et al. 2017, arXiv 1707.06347; choices after Andrychowicz et al. 2021, arXiv 2006.05990.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from gymnax.environments.environment import Environment

from configs.ppo import PPOConfig
from rl.gae import final_values, gae, next_values
from rl.normalize import Moments, Stats, merge, normalise
from rl.policy import distribution_and_value, init_params
from rl.totals import Totals
from rl.training import OWN_SAMPLE, Behaviour, Carry, Lesson, Sample, TrainState, Transition


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
        state = TrainState(policy, optimizer, Stats.init((1,)), updates=jnp.zeros((), jnp.int32))
        return self.start_from(state)

    def start_from(self, state: TrainState) -> TrainState:
        """The state whose policy is the one that PPO starts from, and stays near where that has a price."""
        return state.replace(start=state.policy.network) if self.config.kl_coef else state

    def reset(self, keys: jax.Array, env_params, behaviour: Behaviour = OWN_SAMPLE) -> Carry:
        """Starts one environment per key, (E,)."""
        keys, reset_keys, memory_keys = _split(keys, 3)
        started = jax.vmap(self.env.reset, (0, None))(reset_keys, env_params)
        # A Python number in an environment's state has a weak type, and the second chunk would compile again.
        observation, env_state = jax.tree.map(
            lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), started
        )
        zeros = jnp.zeros(keys.shape, jnp.float32)
        return Carry(
            env_state=env_state,
            observation=observation,
            keys=keys,
            memory=jax.vmap(behaviour.init)(memory_keys),
            discounted=zeros,
            episode=dict.fromkeys(self._statistics(env_params), zeros),
        )

    def update(self, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """One rollout and its epochs of PPO, see `learn`."""
        acts = (state.updates >= self.config.critic_updates).astype(jnp.float32)
        loss = partial(self.loss, start=state.start, acts=acts)
        lesson = Lesson(OWN_SAMPLE, loss, self.optimizer(), self.config.epochs)
        return self.learn(lesson, state, carry, key, env_params)

    def learn(self, lesson: Lesson, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """One rollout and its epochs: (state, carry, metrics), metrics being `train` means and `totals`."""
        carry, transitions, totals = self.rollout(state, carry, env_params, lesson.behaviour)
        samples, metrics = self.samples(state, carry, transitions)
        learner, losses = self._optimise(lesson, (state.policy.network, state.optimizer), samples, key)
        state = self.learn_statistics(state, totals).replace(optimizer=learner[1])
        state = state.replace(policy=state.policy.replace(network=learner[0]))
        return state, carry, {"train": {**metrics, **losses}, "totals": totals}

    def chunk(self, state: TrainState, carry: Carry, key: jax.Array, env_params):
        """`config.chunk` updates: (state, carry, metrics reduced over them)."""
        return repeat(self.update, self.config.chunk)(state, carry, key, env_params)

    def rollout(self, state: TrainState, carry: Carry, env_params, behaviour: Behaviour = OWN_SAMPLE):
        """T steps of every environment: (carry, Transition (T, E, ...), Totals over all devices)."""

        def step(carry, _):
            carry, transition, totals = self._step(state, carry, env_params, behaviour)
            return carry, (transition, totals)

        carry, (transitions, totals) = jax.lax.scan(step, carry, length=self.config.rollout_length)
        return carry, transitions, totals.over_axis().over_devices(self.axis)

    def _step(self, state: TrainState, carry: Carry, env_params, behaviour: Behaviour):
        keys, act_keys, env_keys, memory_keys = _split(carry.keys, 4)
        observation, moments = normalise(
            state.policy.normalizer, carry.observation, self.config.network.dtype
        )
        distribution, value = self.network.apply(state.policy.network, observation)
        played, learned, memory = jax.vmap(behaviour.act)(
            distribution, carry.observation, carry.memory, act_keys
        )
        following, env_state, raw, terminated, truncated, info = jax.vmap(self.env.step, (0, 0, 0, None))(
            env_keys, carry.env_state, played, env_params
        )
        raw, terms = _single((raw, info.get("reward_terms", {})))
        done = terminated | truncated
        # Only a time limit needs the last observation's value: after a termination nothing is to come.
        capacity = max(1, done.shape[0] // 16)
        value_of = lambda final: distribution_and_value(self.network, state.policy, final)[1]  # noqa: E731
        final_value = final_values(value_of, info["final_observation"], truncated & ~terminated, capacity)
        reward = raw + self._shaping(info, terminated)
        discounted = self.config.gamma * carry.discounted + reward
        moments["returns"] = Moments.of(state.returns.apply(discounted[:, None]))

        seen = {"return": raw, "length": jnp.ones_like(raw), **terms}
        episode = {name: carry.episode[name] + value for name, value in seen.items()}
        totals = Totals.of(moments, seen, episode, terminated, truncated)
        fresh = jax.vmap(behaviour.init)(memory_keys)
        carry = Carry(
            env_state=env_state,
            observation=following,
            keys=keys,
            memory=jax.tree.map(lambda new, old: jax.vmap(jnp.where)(done, new, old), fresh, memory),
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

    def loss(self, params, batch: Sample, start=None, acts: jax.Array | float = 1.0):
        """Clipped surrogate, value error and entropy bonus of a batch: (loss, metrics), float32 scalars.

        With `start`, the parameters that PPO started from, the divergence from their policy has a price.
        `acts` weighs all but the value error: 0 teaches the critic alone.
        """
        config = self.config
        distribution, value = self.network.apply(params, batch.observation)
        log_ratio = distribution.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy_loss = -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
        value_loss = 0.5 * jnp.square(value - batch.target).mean()
        entropy = distribution.entropy().mean()
        loss = config.value_coef * value_loss + acts * (policy_loss - config.entropy_coef * entropy)
        away = {}
        if start is not None:
            away = {"kl_start": distribution.kl(self.network.apply(start, batch.observation)[0]).mean()}
            loss += acts * config.kl_coef * away["kl_start"]
        return loss, away | {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            # Never negative and of little variance: joschu.net/blog/kl-approx.html.
            "kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > config.clip).mean(dtype=jnp.float32),
        }

    def _optimise(self, lesson: Lesson, learner: tuple, samples: Sample, key: jax.Array):
        """The lesson's epochs over shuffled minibatches: (learner, metrics averaged over all of them).

        learner: the network's parameters and the optimiser's state. Gradients are averaged over devices
        before they are clipped.
        """

        def minibatch(learner, rows):
            params, opt_state = learner
            batch = jax.tree.map(lambda leaf: leaf[rows], samples)
            gradient, metrics = jax.grad(lesson.loss, has_aux=True)(params, batch)
            gradient, metrics = _pmean((gradient, metrics), self.axis)
            step, opt_state = lesson.optimizer.update(gradient, opt_state, params)
            metrics = {**metrics, "gradient_norm": optax.tree.norm(gradient)}
            return (optax.apply_updates(params, step), opt_state), metrics

        def epoch(learner, key):
            rows = jax.random.permutation(key, samples.advantage.shape[0])
            return jax.lax.scan(minibatch, learner, rows.reshape(self.config.minibatches, -1))

        learner, metrics = jax.lax.scan(epoch, learner, jax.random.split(key, lesson.epochs))
        return learner, jax.tree.map(jnp.mean, metrics)

    def learn_statistics(self, state: TrainState, totals: Totals) -> TrainState:
        """Counts the update and merges what it saw into the normalisers, which the next update will use."""
        normalizer = state.policy.normalizer
        if self.config.normalise_observations and state.start is None:
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
        before, after = jnp.moveaxis(_single(info["potential"]), 1, 0)
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


def _single(tree):
    """In single precision, whatever the environment computes in."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def _pmean(tree, axis: str | None):
    return tree if axis is None else jax.lax.pmean(tree, axis)


def _mean_and_deviation(x: jax.Array, axis: str | None):
    """Over all samples of all devices."""
    mean = _pmean(x.mean(), axis)
    return mean, jnp.sqrt(_pmean(jnp.square(x - mean).mean(), axis))
