"""Intervals against published values and against coverage; records that merge and refuse."""

import json
import sys

import numpy as np
import pytest

from launch.shared import records
from launch.shared.records import Figure, RecordError

FIGURE = Figure(1.0, 0.5, 2.0, "nm", 10)


def run_as(monkeypatch, command):
    monkeypatch.setattr(sys, "argv", [str(records.DIRECTORY.parent / f"{command}.py")])


# Intervals


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Garwood (1936), 95 %, as in the tables of Ulm (1990); zero events: the one-sided limit -ln(0.05).
    [(0, 0.0, 2.996), (1, 0.0253, 5.572), (5, 1.623, 11.668), (10, 4.795, 18.390), (100, 81.364, 121.627)],
)
def test_poisson_interval_equals_the_published_tables(count, low, high):
    figure = records.poisson(count, 1.0, "losses/h", 30)
    assert (figure.value, figure.low, figure.high) == pytest.approx((count, low, high), abs=6e-4)


def test_poisson_rate_is_per_exposure():
    """No loss in thirty hours means fewer than 0.1 an hour."""
    figure = records.poisson(0, 30.0, "losses/h", 30)
    assert figure.value == 0
    assert figure.high == pytest.approx(0.1, abs=2e-4)
    assert records.poisson(10, 20.0, "losses/h", 20).low == pytest.approx(4.795 / 20, abs=1e-4)


def test_ratio_of_rates_has_the_binomial_interval():
    # Clopper and Pearson's 95 % interval of 5 in 10 is 0.1871 to 0.8129.
    figure = records.poisson_ratio((5, 5), (10.0, 20.0), 10)
    assert figure.value == pytest.approx(2.0)
    assert figure.low == pytest.approx(2 * 0.1871 / 0.8129, rel=1e-3)
    assert figure.high == pytest.approx(2 * 0.8129 / 0.1871, rel=1e-3)


def test_ratio_of_rates_without_events_ends_where_one_would_have_been_seen():
    figure = records.poisson_ratio((0, 9), (30.0, 30.0), 10)
    assert (figure.value, figure.low) == (0.0, 0.0)
    share = figure.high / (1 + figure.high)
    assert (1 - share) ** 9 == pytest.approx(0.05)


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    figure = records.bootstrap(samples, "points", seed=1, resamples=4000)
    half = 1.96 * samples.std() / 20
    assert figure.value == pytest.approx(samples.mean())
    assert (figure.low, figure.high) == pytest.approx(
        (samples.mean() - half, samples.mean() + half), abs=0.02
    )
    assert (figure.unit, figure.n) == ("points", 400)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        figure = records.bootstrap(generator.exponential(1.0, size=60), "", seed=trial, resamples=300)
        covered += figure.low <= 1.0 <= figure.high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_draws_rows_together():
    """Landings over landings and losses: the ratio of sums stays exactly a half if the columns are equal."""
    pairs = np.repeat(np.random.default_rng(2).integers(1, 9, size=(30, 1)), 2, axis=1)
    figure = records.bootstrap(
        pairs, "", seed=0, statistic=lambda rows: rows[:, 0].sum() / rows.sum(), resamples=200
    )
    assert (figure.low, figure.value, figure.high) == (0.5, 0.5, 0.5)


def test_bootstrap_is_repeatable():
    samples = np.arange(20.0)
    first, again, other = (records.bootstrap(samples, "", seed, resamples=100) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "call",
    [
        lambda: records.bootstrap([], "", 0),
        lambda: records.bootstrap([1.0, float("nan")], "", 0),
        lambda: records.poisson(-1, 1.0, "", 1),
        lambda: records.poisson(1, 0.0, "", 1),
        lambda: records.poisson_ratio((1, 0), (1.0, 1.0), 1),
        lambda: Figure(1.0, 1.5, 2.0, "", 1),
        lambda: Figure(float("inf"), 0.0, float("inf"), "", 1),
        lambda: Figure(1.0, 0.0, 2.0, "", 0),
    ],
)
def test_figures_without_sense_are_refused(call):
    with pytest.raises(RecordError):
        call()


# Files


def test_a_record_comes_back(tmp_path, monkeypatch):
    run_as(monkeypatch, "measure")
    records.write("fidelity", {"median": FIGURE}, tmp_path)
    record = records.read("fidelity", tmp_path)
    assert list(record) == ["command", "commit", "date", "device", "versions", "figures"]
    assert record["command"] == "python -m launch.measure"
    assert record["figures"] == {"median": {"value": 1.0, "low": 0.5, "high": 2.0, "unit": "nm", "n": 10}}
    assert records.figure_of(record, "median", "fidelity") == FIGURE


def test_figures_of_another_command_stay_with_their_origin(tmp_path, monkeypatch):
    run_as(monkeypatch, "first")
    records.write("spine", {"a": FIGURE, "b": FIGURE}, tmp_path)
    run_as(monkeypatch, "second")
    newer = Figure(3.0, 3.0, 3.0, "h", 1)
    records.write("spine", {"b": newer, "c": newer}, tmp_path)
    run_as(monkeypatch, "third")
    records.write("spine", {"d": FIGURE}, tmp_path)
    record = records.read("spine", tmp_path)
    owners = {name: entry.get("command", record["command"])[-6:] for name, entry in record["figures"].items()}
    assert owners == {"a": ".first", "b": "second", "c": "second", "d": ".third"}
    assert set(record["figures"]["a"]) == {*records.PROVENANCE, "value", "low", "high", "unit", "n"}
    assert records.figure_of(record, "b", "spine") == newer
    assert records.figure_of(record, "a", "spine") == FIGURE


def test_a_figure_leaves_the_record_it_was_in(tmp_path, monkeypatch):
    run_as(monkeypatch, "first")
    records.write("spine", {"a": FIGURE, "speed": FIGURE}, tmp_path)
    records.write("old", {"speed_frames": FIGURE}, tmp_path)
    before = records.read("spine", tmp_path)
    run_as(monkeypatch, "second")
    records.write("recorder", {"speed": FIGURE, "speed_frames": FIGURE}, tmp_path)
    after = records.read("spine", tmp_path)
    assert after == before | {"figures": {"a": before["figures"]["a"]}}
    assert set(records.read("recorder", tmp_path)["figures"]) == {"speed", "speed_frames"}
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["recorder", "spine"]


def test_each_figure_has_one_record():
    owners = {}
    for path in records.DIRECTORY.glob("*.json"):
        for figure in records.read(path.stem)["figures"]:
            assert owners.setdefault(figure, path.stem) == path.stem


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda record: record.pop("device"), "has no 'device'"),
        (lambda record: record["figures"]["median"].pop("low"), "figure fidelity.median"),
        (lambda record: record["figures"]["median"].update(low=9.0), "figure fidelity.median: 1.0 isn't"),
        (lambda record: record["figures"]["median"].update(mean=9.0), "figure fidelity.median"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, change, cause):
    path = records.write("fidelity", {"median": FIGURE}, tmp_path)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match=cause):
        records.read("fidelity", tmp_path)


def test_an_unknown_record_names_the_known_ones(tmp_path):
    records.write("fidelity", {"median": FIGURE}, tmp_path)
    with pytest.raises(RecordError, match="no record 'speed'; there are: fidelity"):
        records.read("speed", tmp_path)


def test_a_vectorized_bootstrap_is_the_same_bootstrap():
    rows = np.abs(np.random.default_rng(3).normal(size=(20, 2)))

    def ratio(rows, axis=0):
        above, below = np.moveaxis(np.sum(rows, axis=axis), -1, 0)
        return above / below

    for samples, statistic in ((rows[:, 0], np.mean), (rows, ratio)):
        one, other = (
            records.bootstrap(samples, "", 0, statistic, resamples=500, vectorized=v) for v in (False, True)
        )
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
        assert one.low < one.value < one.high
