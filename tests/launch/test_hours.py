"""Hours compared: gaps in units of the expert's gain, phantom events, the ranking, worked out by hand."""

import copy

import numpy as np
import pytest

from launch.shared import hours, scoreboard


def episode(total: float, **changes) -> dict:
    """An hour that came to `total` points, all of them scored."""
    counts = dict.fromkeys((*hours.COUNTS, "landed_due", "commands"), 0.0)
    rest = {"arrivals_due": 10.0, "aircraft": 20, "hours": 1.0, "overflow": 0}
    rest |= {"loss_duration_s": [], "loss_severity": [], "level_segments": 3, "landed_flights": 2}
    rest |= {"delay_s": 60.0, "extra_nm": 4.0, "closest_nm": None}
    terms = {"total": total, "score": total, "loss": 0.0, "stranded": 0.0}
    return {"return": terms, **counts, **rest} | changes


def board(**policies) -> dict:
    return {name: dict(enumerate(played)) for name, played in policies.items()}


REAL = board(
    noop=[episode(-1000.0, loss_game=4.0), episode(-1000.0, loss_game=6.0)],
    expert=[episode(190.0, landed_due=10.0), episode(210.0, landed_due=10.0)],
    random=[episode(-1500.0), episode(-1500.0)],
)
IMAGINED = board(
    noop=[episode(-1060.0, loss_game=5.0), episode(-1060.0, loss_game=5.0)],
    expert=[episode(140.0, landed_due=9.0, busts=0.5), episode(140.0, landed_due=9.0, busts=0.5)],
    random=[episode(-1440.0), episode(-1440.0)],
)
BOARDS = {"kabq": {"real": REAL, "imagined": IMAGINED}}


@pytest.fixture(scope="module")
def figures():
    return hours.figures(BOARDS, hours.report(BOARDS))


def test_gaps_are_in_units_of_what_the_expert_gains_over_no_commands(figures):
    assert hours.scale_of(REAL) == 1200.0
    assert figures["hour_gap_kabq_expert"].value == pytest.approx(-60 / 1200)
    assert figures["hour_gap_kabq_random"].value == pytest.approx(60 / 1200)
    assert figures["hour_gap_kabq"].value == pytest.approx(0.05)
    # Only the real expert varies: its mean of two is 190, 200 or 210 in the bootstrap.
    gap = figures["hour_gap_kabq_expert"]
    assert (gap.low, gap.high) == pytest.approx((-70 / 1200, -50 / 1200))


def test_a_member_that_is_wrong_by_itself_is_told(figures):
    assert not any("member" in name for name in figures)  # these hours do not tell theirs
    several = copy.deepcopy(BOARDS)
    totals = (230.0, 250.0, -160.0, -160.0, 320.0, 320.0)  # in the mean 133: nearly as before
    played = [episode(total, member=i // 2) for i, total in enumerate(totals)]
    several["kabq"]["imagined"]["expert"] = dict(enumerate(played))
    gap = hours.figures(several, hours.report(several))["hour_gap_worst_member_kabq"]
    assert (gap.value, gap.n) == (pytest.approx(360 / 1200), 2)


def test_landings_and_phantom_events_are_differences_of_the_worst(figures):
    assert figures["hour_landed_difference"].value == pytest.approx(0.1)
    assert figures["phantom_busts_per_h"].value == pytest.approx(0.5)
    assert figures["phantom_collisions_per_h"].value == 0.0


def test_losses_are_weighed_as_the_real_hours_are():
    more = copy.deepcopy(BOARDS)
    more["kabq"]["imagined"]["noop"] = {seed: episode(-1060.0, loss_game=7.0) for seed in range(50)}
    ratio = hours.losses_ratio(more)
    assert ratio.value == pytest.approx(7 / 5)
    assert ratio.n == 10  # losses seen in the real game


def test_the_ranking_counts_pairs_in_the_wrong_order():
    real, imagined = np.asarray([0.0, 1.0, 0.4]), np.asarray([0.5, 1.0, 0.4])
    np.testing.assert_allclose(hours.mmrv(real, imagined), [0.4, 0.0, 0.4])
    np.testing.assert_array_equal(hours.mmrv(real, real), 0.0)


def test_equal_worlds_have_no_gap_and_rank_alike():
    same = {"kabq": {"real": REAL, "imagined": copy.deepcopy(REAL)}}
    found = hours.figures(same, hours.report(same))
    assert found["hour_gap_kabq"].value == 0.0
    assert found["hour_losses_ratio"].value == 1.0
    assert found["ranking_pearson"].value == pytest.approx(1.0)
    assert found["ranking_mmrv"].value == 0.0


def test_hours_that_overflowed_do_not_count():
    spoilt = copy.deepcopy(BOARDS)
    spoilt["kabq"]["imagined"]["expert"][7] = episode(-9999.0, overflow=3)
    assert hours.report(spoilt)["kabq"]["expert"]["gap"]["difference"].value == pytest.approx(-60 / 1200)


def test_a_policy_without_hours_of_one_world_is_left_out():
    unplayed = copy.deepcopy(BOARDS)
    unplayed["kabq"]["real"]["random"] = {}
    found = hours.figures(unplayed, hours.report(unplayed))
    assert "hour_gap_kabq_random" not in found
    assert found["ranking_pearson"].n == 2


def test_the_table_has_a_row_for_every_quantity(tmp_path):
    text = hours.table(hours.report(BOARDS))
    # No hour has a loss of separation whose time or severity could be told, nor a closest approach.
    ratios, means = len(hours.RATIOS) - 2, len(scoreboard.MEANS) - 1
    assert text.count("\n") == 2 + 3 * (len(hours.TERMS) + len(hours.COUNTS) + ratios + means + 1)
    assert "| kabq | expert | level_segments_per_arrival | 1.5 (1.5 to 1.5) | 1.5 (1.5 to 1.5) |" in text
    assert "| kabq | expert | busts | 0 (0 to 0) | 0.5 (0.5 to 0.5) | 0.5 (0.5 to 0.5) |" in text
    hours.draw(BOARDS, tmp_path / "hours.png")
    assert (tmp_path / "hours.png").stat().st_size > 1000
