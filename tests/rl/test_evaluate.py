"""Counts of an episode, scores and the rollout, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl import evaluate, flown
from rl.acting import Policy
from rl.evaluate import Trace
from tests.rl.toys import SECTOR_EXPERT, Sector, SectorParams
from tests.wm import scenes
from wm.sector import traffic as tr

PLACE = scenes.airport()
STEPS = 400  # 33 minutes and 20 seconds; 300 of them are the warm-up


def tracks(slots=3):
    """Nobody anywhere, `[T + 1, N]`."""
    empty = tr.empty(tr.Traffic, (STEPS + 1, slots), np)
    columns = {name: np.array(getattr(empty, name)) for name in evaluate.TRACK_FIELDS}
    blank = {name: np.zeros((STEPS + 1, slots), np.float32) for name in ("unimpeded_s", "along_nm")}
    return columns | blank


def fly(columns, slot, number, begin, end, contact, **values):
    """Put an aircraft into a slot from step `begin` up to before `end`, controllable from `contact`."""
    columns["valid"][begin:end, slot] = True
    columns["id"][begin:end, slot] = number
    columns["controllable"][contact:end, slot] = True
    for name, value in values.items():
        columns[name][begin:end, slot] = value


def trace(columns=None, **metrics):
    """An episode in which only `metrics` (name -> {step: count}) happened."""
    names = [n.lower() for n in tr.EVENT_NAMES] + [*evaluate.COUNTS, "overflow"]
    counted = {name: np.zeros(STEPS) for name in names}
    for name, happened in metrics.items():
        for step, count in happened.items():
            counted[name][step] = count
    terms = {"score": counted["arrival"] * 10.0, "loss": counted["loss_game"] * -200.0}
    terms["stranded"] = np.zeros(STEPS)
    nothing, noops = np.zeros(STEPS, bool), np.tile([3, 0, 0, 0, 0], (STEPS, 1))
    return Trace(terms, counted, noops, nothing, nothing, tracks() if columns is None else columns)


def summarise(trace):
    return evaluate.summarise(trace, PLACE)


def test_an_episode_is_summed_by_term_and_event():
    episode = summarise(
        trace(
            arrival={10: 1, 350: 2},
            departure={20: 1},
            loss_game={5: 1, 299: 1, 300: 1},
            airspace_bust={7: 1},
            arrivals_due={0: 4},
            departures_due={0: 2},
            landed_due={350: 2},
            flight_hours={100: 0.25, 300: 0.5},
        )
    )
    assert episode["return"] == {"total": -570.0, "score": 30.0, "loss": -600.0, "stranded": 0.0}
    assert (episode["landed"], episode["hand_offs"], episode["busts"]) == (3, 1, 1)
    assert (episode["arrivals_due"], episode["landed_due"], episode["flight_hours"]) == (4, 2, 0.75)
    assert episode["events"]["ARRIVAL"] == 3
    # The first 300 decisions are 25 minutes: two of the three losses fall into them.
    assert episode["steady"] == {"loss_game": 1, "loss_raw": 0, "collisions": 0, "flight_hours": 0.5}
    assert evaluate.flawless(episode) == 60.0
    assert episode["hours"] == pytest.approx(400 * 5 / 3600)


def test_a_short_episode_has_no_rates():
    whole = trace()
    short = jax.tree.map(lambda leaf: leaf[:300], whole)
    assert summarise(short)["steady"] is None


def test_commands_and_aircraft():
    columns = tracks()
    fly(columns, 0, 7, 0, 100, contact=0)
    fly(columns, 0, 8, 100, 200, contact=150)  # the slot changes hands without a gap
    fly(columns, 1, 9, 0, STEPS + 1, contact=STEPS + 1)  # never reachable
    played = trace(columns)
    command, illegal = np.zeros((2, STEPS), bool)
    command[:5], illegal[4] = True, True
    episode = summarise(played._replace(command=command, illegal=illegal))
    assert (episode["commands"], episode["illegal"], episode["aircraft"]) == (4, 1, 2)


def test_overflow_is_the_worst_decision():
    assert summarise(trace(overflow={3: 2, 9: 1}))["overflow"] == 2


def test_figures_of_the_traffic_are_there_and_none_where_nobody_landed():
    columns = tracks()
    arrival = {"category": tr.ARRIVAL, "phase": tr.LANDING}
    fly(columns, 0, 1, 10, 110, contact=20, **arrival, unimpeded_s=400.0)  # 90 steps under control
    fly(columns, 1, 2, 10, 100, contact=10, **arrival, unimpeded_s=400.0, y_nm=9.0)
    episode = summarise(trace(columns))
    assert (episode["delay_s"], episode["landed_flights"]) == (50.0, 2)
    assert episode["extra_nm"] == pytest.approx(-400 * 210 / 3600)
    nobody = summarise(trace())
    assert nobody["delay_s"] is nobody["extra_nm"] is nobody["closest_nm"] is None
    assert nobody["loss_duration_s"] == nobody["loss_severity"] == nobody["threshold_spacing_s"] == []
    assert nobody["level_segments"] == nobody["go_arounds"] == nobody["reversals"] == 0


def test_flights_keep_their_own_times_in_order():
    columns = tracks()
    fly(columns, 2, 5, 3, 6, contact=3, x_nm=1.5)
    fly(columns, 0, 4, 1, 3, contact=1)
    first, second = flown.flights(columns)
    assert first["step"].tolist() == [1, 2]
    assert second["step"].tolist() == [3, 4, 5]
    assert second["x_nm"].tolist() == [1.5, 1.5, 1.5]
    assert flown.flights(tracks()) == []


def test_scores_are_ratios_of_means_over_seeds():
    # J 50 and 150, no-op -100 and -300, expert 100 and 300: (100 + 200) / (200 + 200).
    assert evaluate.score(np.array([[50, -100, 100], [150, -300, 300]])) == pytest.approx(0.75)
    # J 150 and 350, expert 100 and 300, flawless 200 and 400: 50 of the 100 that were left.
    assert evaluate.headroom(np.array([[150, 100, 200], [350, 300, 400]])) == pytest.approx(0.5)
    assert evaluate.ratio(np.array([[1, 2], [3, 6]])) == pytest.approx(0.5)


class CountedSector(Sector):
    """A Sector whose steps also give metrics."""

    def step_env(self, key, state, action, params):
        obs, new, points, ended, info = super().step_env(key, state, action, params)
        return obs, new, points, ended, info | {"metrics": {"points": points}}


def look(params, state):
    return {"valid": state.mask, "x_nm": state.aircraft[:, 0]}


NOOP = Policy(lambda key: jnp.zeros(()), lambda p, c, obs, key: (jnp.array([3, 0, 0, 0, 0]), c + 1))
WRONG = Policy(lambda key: (), lambda p, c, obs, key: (jnp.array([0, 1, 0, 0, 0]), c))


def play(policy, seeds, chunks=2, steps=4):
    """Traces of the toy sector, whose time limit of 4 decisions must not reset the rollout."""
    game = evaluate.rollout(CountedSector(), policy, look, steps)
    params = SectorParams()
    carry, first = game.start(params, jax.vmap(jax.random.key)(jnp.asarray(seeds)))
    first, parts = jax.tree.map(np.asarray, first), []
    for _ in range(chunks):
        carry, part = game.advance(params, (), carry)
        parts.append(jax.tree.map(np.asarray, part))
    return evaluate.episodes_of(first, parts), carry


def test_rollout_pairs_seeds_and_follows_the_policy():
    (expert, other), _ = play(SECTOR_EXPERT, [5, 6])
    (idle, _), carry = play(NOOP, [5, 6])
    assert expert.tracks["valid"].shape == (9, 3)
    np.testing.assert_array_equal(expert.tracks["x_nm"], idle.tracks["x_nm"])
    assert (expert.tracks["x_nm"] != other.tracks["x_nm"]).any()
    # The expert earns a point wherever somebody is flagged, and commands nowhere else.
    flagged = (expert.tracks["x_nm"][:-1] > 0.5).any(-1)
    np.testing.assert_array_equal(expert.metrics["points"], flagged)
    np.testing.assert_array_equal(expert.command, flagged)
    assert not expert.illegal.any()
    assert not idle.command.any()
    assert not idle.metrics["points"].any()
    np.testing.assert_array_equal(carry[2], [8, 8])  # the policy's memory went along


def test_rollout_marks_what_the_mask_forbids():
    (wrong,), _ = play(WRONG, [1])
    assert wrong.illegal.all()
    assert wrong.command.all()


def test_an_episode_does_not_depend_on_its_neighbours_or_the_chunks():
    (alone,), _ = play(SECTOR_EXPERT, [6])
    (_, beside), _ = play(SECTOR_EXPERT, [5, 6], chunks=4, steps=2)
    jax.tree.map(np.testing.assert_array_equal, alone, beside)
