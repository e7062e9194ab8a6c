"""Outcomes that were never recorded: which ones, and that the network can't choose them."""

import jax
import jax.numpy as jnp
import numpy as np

import tests.wm.recordings as rc
from wm.state import features, labels, support
from wm.state import network as net

NAMES = sorted(["phase_CLIMB", "phase_TAKEOFF", "since_phase_10", "autopilot"])
CLIMB, TAKEOFF, AUTOPILOT = (NAMES.index(n) for n in ("phase_CLIMB", "phase_TAKEOFF", "autopilot"))
LANDED = net.FATES.index("landed")


def rows(per_code: int) -> labels.Rows:
    """As many rows of each of two phases; only those in CLIMB land, and only they have an event, a third."""
    n = 2 * per_code
    columns = np.zeros((n, len(NAMES)), np.float16)
    columns[:per_code, CLIMB] = columns[per_code:, TAKEOFF] = 1
    columns[:, NAMES.index("since_phase_10")] = 0.3
    climbs = columns[:, CLIMB] > 0
    known = {name: np.zeros(n, np.int8) for name in net.CATEGORICAL}
    known["fate"] = np.where(climbs & (np.arange(n) % 3 == 0), LANDED, net.STAY).astype(np.int8)
    known["heading"] = np.full(n, -1, np.int8)  # says nothing
    events = np.zeros((n, net.BINARY["events"]), bool)
    events[:, 2] = known["fate"] == LANDED
    binary = {"autopilot": np.ones(n, bool), "approach_clearance": np.arange(n) % 2 == 0, "events": events}
    return labels.Rows(features=columns, labels=known, binary=binary, scalars={})


def masked(per_code: int, *codes: int) -> dict[str, np.ndarray]:
    """What the mask adds to each head's outputs of an aircraft with these codes."""
    sizes = net.CATEGORICAL | net.BINARY | net.SCALAR
    made = support.mask(rows(per_code), NAMES)
    added = made["kernel"][list(codes)].sum(0) + made["bias"]
    return dict(zip(sizes, np.split(added, np.cumsum(list(sizes.values()))[:-1]), strict=True))


def test_only_what_a_code_never_led_to_is_ruled_out():
    rolling, climbing = masked(support.MANY, TAKEOFF), masked(support.MANY, CLIMB)
    assert rolling["fate"][LANDED] < net.IMPOSSIBLE / 2
    assert climbing["fate"][LANDED] == rolling["fate"][net.STAY] == 0
    assert np.all(climbing["fate"][[net.CONTACT, net.BUST]] < 0)  # nobody ever did
    assert rolling["events"][2] < 0
    assert climbing["events"][2] == 0
    assert rolling["autopilot"] > -net.IMPOSSIBLE / 2  # always on: "off" is ruled out
    assert rolling["approach_clearance"] == climbing["approach_clearance"] == 0
    for name in ("heading", "heading_frame", "leg_frame", "free_speed"):
        assert not climbing[name].any(), name  # without labels, too fine, or no choice


def test_few_rows_rule_nothing_out():
    few = masked(support.MANY // 2 - 1, TAKEOFF)
    assert not any(added.any() for added in few.values())


def test_a_networks_choice_obeys_the_mask_and_is_its_own_elsewhere():
    names = sorted(jax.eval_shape(features.dynamics_features, *_scene()))
    weights = rc.untrained()
    seen = support.with_support(weights, _many_rows(names), names)
    x = jnp.asarray(_many_rows(names).features[:8], jnp.float32)
    before, after = (net.predict(w, jnp.zeros((), jnp.int32), x) for w in (weights, seen))
    assert np.all(np.asarray(after["phase"])[:, 3] < -1e4)
    for name in net.SCALAR:
        np.testing.assert_array_equal(before[name], after[name])
    np.testing.assert_allclose(before["phase"][:, 0], after["phase"][:, 0], atol=1e-5)


def _scene():
    flown = rc.cruise(1)[0]
    return jax.tree.map(lambda x: jnp.asarray(x[0]), flown.scene), rc.airport()


def _many_rows(names) -> labels.Rows:
    """Rows in which everybody is in the first phase, and stays there."""
    n = support.MANY
    columns = np.zeros((n, len(names)), np.float16)
    columns[:, names.index(features.code_names()[3])] = 1
    known = {name: np.zeros(n, np.int8) for name in net.CATEGORICAL}
    binary = {name: np.arange(n * size).reshape(n, size) % 2 == 0 for name, size in net.BINARY.items()}
    return labels.Rows(features=columns, labels=known, binary=binary, scalars={})
