"""Scripted policies acting on small scenes built by hand."""

import jax
import numpy as np

import tests.wm.scenes as scenes
from rl import expert, scripted
from wm.sector import observe

SLOTS = 6
PLACE = scenes.airport()
observed = jax.jit(lambda traffic: observe.observe(scenes.scene(traffic, PLACE), PLACE))
POLICIES = {
    "noop": (scripted.noop(), None),
    "random": (scripted.random_legal(), scripted.RandomParams()),
    "busy": (scripted.random_legal(), scripted.RandomParams(noop_share=0.0)),
    "expert": (expert.expert(SLOTS), expert.ExpertParams()),
    "perturbed": (
        scripted.perturbed(expert.expert(SLOTS)),
        scripted.PerturbedParams(expert.ExpertParams(), epsilon=0.5),
    ),
}
ACT = {name: jax.jit(policy.act) for name, (policy, _) in POLICIES.items()}


def play(name: str, obs: dict, seed: int = 0, carry=None):
    """Action of a policy on one observation, from its first carry unless one is given."""
    policy, params = POLICIES[name]
    start, key = jax.random.split(jax.random.key(seed))
    carry = policy.init(start) if carry is None else carry
    return ACT[name](params, carry, obs, key)


def one(**columns) -> dict:
    """Observation of the aircraft of `flown`."""
    return observed(flown(**columns))


def flown(**columns):
    """Traffic of a single aircraft, or of as many as the columns' lists are long; steady flight."""
    filled = {name: value if np.ndim(value) else [value] for name, value in columns.items()}
    steady = {
        "target_altitude_ft": "altitude_ft",
        "target_heading_rad": "heading_rad",
        "target_speed_kt": "speed_kt",
        "assigned_heading_rad": "heading_rad",
        "ground_track_rad": "heading_rad",
        "ground_speed_kt": "speed_kt",
    }
    common = {"x_nm": [0.0], "climb_fpm": 2500.0, "descent_fpm": 3000.0, "decelerate_kt_s": 1.5}
    filled = common | filled
    filled |= {into: filled[of] for into, of in steady.items() if of in filled and into not in filled}
    return scenes.traffic(SLOTS, **filled)


def verb_of(action) -> int:
    """The verb, or -1 for a no-op."""
    return -1 if int(action[0]) == SLOTS else int(action[1])
