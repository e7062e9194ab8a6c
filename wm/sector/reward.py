"""Reward: named terms in the game's points, computed alike in the real game and the model.

`score`: the game's own events, each once per aircraft. `loss`: -200 for each loss of separation by the game's
rule (wm.sector.separation); the game defines this penalty and never awards it. `stranded`: -200 at the end
for each arrival still in the airspace that had time to land.
A `Ledger` carries what has already been counted. Letters: K sub-steps, N slots, E kinds of events.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector import approach, counting, separation
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.route import route_left_nm
from wm.sector.traffic import EVENT_NAMES, EVENT_POINTS, SubSteps, Traffic

LOSS_POINTS = -200.0
STRANDED_POINTS = -200.0
UNIMPEDED_KT = 210.0
VECTORING_NM = 15.0  # added to an arrival's route for its way from the last fix to the runway
GATE_NM = 12.0  # where the shaping potential wants arrivals on the final
TIME_TO_FINISH = 1.5  # a flight had time if this multiple of its unimpeded time was left


@struct.dataclass
class Ledger:
    """What has been counted, per slot `[N]`, and the timers of pairs."""

    id: jax.Array  # int32, the aircraft the slot's entries are about
    scored: jax.Array  # int32 bit mask of events already paid
    unimpeded_s: jax.Array  # float32, at first contact; 0 before
    due: jax.Array  # bool, had time to finish when it was first controllable
    timers: separation.PairTimers


def empty_ledger(slots: int) -> Ledger:
    """A ledger that has counted nothing."""
    return Ledger(
        id=jnp.full((slots,), -1, jnp.int32),
        scored=jnp.zeros((slots,), jnp.int32),
        unimpeded_s=jnp.zeros((slots,), jnp.float32),
        due=jnp.zeros((slots,), bool),
        timers=separation.separated(slots),
    )


def unimpeded_s(traffic: Traffic, airport: Airport):
    """Unimpeded time to finish `[N]` (s): arrivals their route and 15 nm, others the radius."""
    arrival = route_left_nm(traffic, airport) + VECTORING_NM
    nautical = jnp.where(traffic.category == tr.ARRIVAL, arrival, airport.radius_nm)
    return nautical / UNIMPEDED_KT * 3600.0


def _contact(ledger: Ledger, after: Traffic, remaining_s, airport: Airport):
    """Open entries for new aircraft and note each flight's first contact and whether it is due."""
    same = ledger.id == after.id

    def kept(value, default):
        return jnp.where(same, value, default)

    known = kept(ledger.unimpeded_s, 0.0)
    departed = (after.category != tr.DEPARTURE) | (after.phase > tr.WAITING)
    contact = after.valid & after.controllable & departed & (known == 0.0)
    needed = unimpeded_s(after, airport)
    due = contact & (remaining_s >= TIME_TO_FINISH * needed)
    ledger = Ledger(
        id=after.id,
        scored=kept(ledger.scored, 0),
        unimpeded_s=jnp.where(contact, needed, known),
        due=kept(ledger.due, False) | due,
        timers=separation.forget_changed(ledger.timers, same),
    )
    return ledger, due


def _pay(ledger: Ledger, events):
    """Return (events paid now `[N, E]` bool, ledger): each event once per aircraft."""
    bits = 1 << jnp.arange(len(EVENT_NAMES), dtype=jnp.int32)
    already = (ledger.scored[:, None] & bits) > 0
    now = events & ~already
    return now, ledger.replace(scored=ledger.scored | jnp.sum(jnp.where(now, bits, 0), -1, dtype=jnp.int32))


def step_reward(
    ledger: Ledger,
    before: Traffic,
    after: Traffic,
    sub: SubSteps,
    events,
    unassigned_points,
    remaining_s,
    airport: Airport,
):
    """Account for one decision; return (terms, metrics, ledger).

    before, after: traffic `[N]` around the step, same slots; a slot is not reused within a step.
    events `[N, E]` bool by slot of `before` or, for aircraft new in the step, of `after`.
    unassigned_points: points of events of no slot (already paid once per aircraft).
    remaining_s: time left in the episode after this step; <= 0 on the last one.
    terms: score, loss, stranded (points, unweighted). metrics: counts for reports.
    """
    during = jax.tree.map(lambda b, a: jnp.where(before.valid, b, a), before, after)
    ledger, opened = _contact(ledger, during, remaining_s, airport)
    loss_game, loss_raw, timers = counting.count_step(ledger.timers, before, during, sub, airport)
    paid, ledger = _pay(ledger.replace(timers=timers), events)
    arrival = during.category == tr.ARRIVAL
    landed = paid[:, EVENT_NAMES.index("ARRIVAL")]
    # An arrival that left the airspace was charged for that. The game still shows it, the model does not.
    inside = after.valid & after.controllable
    stranded = jnp.sum(inside & arrival & ledger.due & ~landed & (remaining_s <= 0))
    terms = {
        "score": jnp.sum(paid @ EVENT_POINTS) + unassigned_points,
        "loss": LOSS_POINTS * loss_game,
        "stranded": STRANDED_POINTS * stranded.astype(jnp.float32),
    }

    def total(where):
        return jnp.sum(where).astype(jnp.float32)

    metrics = {name.lower(): total(paid[:, i]) for i, name in enumerate(EVENT_NAMES)}
    metrics |= {
        "loss_game": loss_game,
        "loss_raw": loss_raw,
        "arrivals_due": total(opened & arrival),
        "departures_due": total(opened & ~arrival),
        "landed_due": total(landed & ledger.due),
        "stranded": stranded.astype(jnp.float32),
        "flight_hours": total(after.valid & after.controllable & (after.phase > tr.WAITING))
        * tr.STEP_S / 3600.0,
    }
    return terms, metrics, ledger


def potential(traffic: Traffic, airport: Airport):
    """Shaping potential `[...]` in points: how far each controllable aircraft is on its way.

    Arrivals gain as they near a gate 12 nm out on the final at the intercept altitude, more
    when cleared, established and landing; departures as they climb on their route. Used only as a
    potential difference, so it cannot change which policy is best, and never in a reported figure.
    """
    way = approach.approach_of(traffic, airport)
    gate = jnp.hypot(way.cross_nm, way.along_nm - GATE_NM)
    high = jnp.maximum(traffic.altitude_ft - way.intercept_ft, 0.0) / 1000.0
    arrival = 10.0 * jnp.exp(-(gate + 2.0 * high) / 20.0)
    course = approach.course(traffic, airport)
    on_course = approach.on_course(traffic.x_nm, traffic.y_nm, traffic.ground_track_rad, course)
    below = traffic.altitude_ft <= way.glideslope_ft + 100.0
    arrival = jnp.where(traffic.approach_clearance, arrival + 3.0, arrival)
    arrival = jnp.where(traffic.approach_clearance & on_course & below, 16.0, arrival)
    arrival = jnp.where(traffic.phase == tr.LANDING, 19.0, arrival)
    climbed = jnp.clip(traffic.altitude_ft / airport.ceiling_ft, 0.0, 1.0)
    on_route = traffic.heading_mode == tr.HEADING_LNAV
    departure = 3.0 * climbed + 2.0 * on_route
    inside = traffic.valid & traffic.controllable
    value = jnp.where(traffic.category == tr.ARRIVAL, arrival, departure)
    # The barrier gives the sum a kernel of its own: fused, the columns above would be slow.
    return jnp.sum(jax.lax.optimization_barrier(jnp.where(inside, value, 0.0)), -1)
