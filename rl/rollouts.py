"""What one other command would bring: the expert's choice beside others, rolled out on the same keys.

Before a policy is trained in a world model, this says how much there is to learn there. In a state of an
imagined hour several commands are given in turn, and the expert goes on after each. All of them meet the same
random keys, so that they differ by what the command does. The best is chosen in some members of the ensemble
and judged in another, with other keys: what luck or one member's error seems to promise is gone there.
Source: Tesauro and Galperin 1996, on-line policy improvement by Monte-Carlo search.
Letters: S states, K commands, R keys, N aircraft, C candidates of the expert, V verbs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.acting import Policy
from rl.arrivals import ExpertParams
from rl.expert import VERBS_C, command_of, no_command, savings
from rl.sequence import Memory
from wm.sector import commands

NO_COMMAND = 0  # the first of the commands that are compared


@struct.dataclass
class Moment:
    """A sector between two decisions of the expert."""

    observation: dict
    state: Any
    memory: Memory


@struct.dataclass
class Choice:
    """The commands that are compared in a state, and whose the expert's own is."""

    action: jax.Array  # int32 [K, 5]
    legal: jax.Array  # bool [K]
    own: jax.Array  # int32 []
    memory: Memory  # of the expert after its look at the state, whatever is commanded


def choices(moment: Moment, count: int) -> Choice:
    """No command, and the `count` - 1 that save most by the expert's prices, of each aircraft one a verb.

    Commands that the expert finds worse than none are among them.
    """
    saving, memory = savings(ExpertParams(), moment.memory, moment.observation)
    verbs = np.arange(len(commands.VERBS))[:, None]
    by_verb = jnp.where(verbs == VERBS_C, saving[:, None, :], -jnp.inf)  # [N, V, C]
    best, candidate = jnp.max(by_verb, -1).reshape(-1), jnp.argmax(by_verb, -1).reshape(-1)
    saved, which = jax.lax.top_k(best, count - 1)
    given = jax.vmap(command_of)(which // len(verbs), candidate[which])
    return Choice(
        action=jnp.concatenate([no_command(saving.shape[0])[None], given]),
        legal=jnp.concatenate([jnp.ones((1,), bool), jnp.isfinite(saved)]),
        own=jnp.where(saved[0] > 0.0, 1, NO_COMMAND).astype(jnp.int32),
        memory=memory,
    )


def outcome(env, policy: Policy, params, moment: Moment, choice: Choice, which, key, decisions: int):
    """Points of one rollout of `decisions`, by reward term, when command `which` is given first.

    "ahead" is how far on their way all aircraft are at its end (wm.sector.reward.potential, points).
    """

    def step(moment, action, key):
        observation, state, _, _, info = env.step_env(key, moment.state, action, params)
        return Moment(observation, state, moment.memory), info["reward_terms"]

    def goes_on(carry, _):
        moment, key = carry
        key, key_act, key_step = jax.random.split(key, 3)
        action, memory = policy.act(ExpertParams(), moment.memory, moment.observation, key_act)
        moment, terms = step(moment.replace(memory=memory), action, key_step)
        return (moment, key), terms

    key_first, key_rest = jax.random.split(key)
    first, before = step(moment.replace(memory=choice.memory), choice.action[which], key_first)
    (last, _), terms = jax.lax.scan(goes_on, (first, key_rest), length=decisions - 1)
    total = jax.tree.map(lambda one, rest: one + rest.sum(0), before, terms)
    return total | {"ahead": last.state.potential}


def improvement(selecting: dict, judging: dict, legal, own) -> dict:
    """What the chosen command gains over the expert's own in each state `[S]`, in points.

    selecting, judging: outcomes `[S, K, R]` by term, in the members that choose and in the one that judges.
    legal `[S, K]`, own `[S]`. "chosen" is the number of the command of the highest mean, "promised" its gain
    where it was chosen, "terms" the gain by term.
    """
    rows = np.arange(len(own))
    mean = np.where(legal, np.mean(sum(selecting.values()), -1), -np.inf)
    chosen = np.where(mean.max(-1) > mean[rows, own], np.argmax(mean, -1), own)
    judged = {name: np.mean(term, -1, dtype=np.float64) for name, term in judging.items()}
    terms = {name: term[rows, chosen] - term[rows, own] for name, term in judged.items()}
    promised = mean[rows, chosen] - mean[rows, own]
    return {"chosen": chosen, "promised": promised, "gain": sum(terms.values()), "terms": terms}
