"""Tracks have the columns and units of the library traffic, in both formats."""

import csv

import flown
import numpy as np
import pyarrow as pa
import pytest
from globe import to_plane
from pyarrow import parquet

from collect import tracks

COLUMNS = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "icao24": pa.string(),
    "callsign": pa.string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "altitude": pa.float64(),
    "groundspeed": pa.float64(),
    "track": pa.float64(),
    "vertical_rate": pa.float64(),
    "onground": pa.bool_(),
}


@pytest.fixture
def columns(static):
    return tracks.columns(flown.scene(), static, flown.CALLSIGNS)


def of(columns, callsign: str) -> dict[str, np.ndarray]:
    return {name: values[columns["callsign"] == callsign] for name, values in columns.items()}


def test_aircraft_follow_each_other_even_where_they_shared_a_slot(columns):
    assert columns["callsign"].tolist() == ["SWA12"] * 4 + ["SIM0005"] + ["N3164"] * 2 + ["SIM0009"] * 5
    assert columns["icao24"].tolist() == ["f00004"] * 4 + ["f00005"] + ["f00007"] * 2 + ["f00009"] * 5
    seconds = (columns["timestamp"] - np.datetime64("2000-01-01")) / np.timedelta64(1, "s")
    assert seconds.tolist() == [0, 5, 10, 15, 0, 15, 20, 0, 5, 10, 15, 20]


def test_hand_computed_values(columns, static):
    one = of(columns, "SWA12")
    # 100 ft in 5 s are 1,200 ft a minute; the first row has the rate of the second.
    assert one["vertical_rate"].tolist() == [-1200.0, -1200.0, -2400.0, 0.0]
    assert of(columns, "SIM0005")["vertical_rate"].tolist() == [0.0]
    assert one["altitude"].tolist() == [10000.0, 9900.0, 9700.0, 9700.0]
    assert one["groundspeed"].tolist() == [360.0] * 4
    # KABQ's declination is 8.8 degrees.
    np.testing.assert_allclose(one["track"], 278.8, atol=1e-4)
    np.testing.assert_allclose(of(columns, "N3164")["track"], 3.8, atol=1e-4)
    # 20 nm magnetic east: 20 cos 8.8 = 19.7646 nm east and 20 sin 8.8 = 3.0597 nm south of 35.038917 N,
    # 106.608307 W, where a degree east is 60.04046 cos 35.038917 = 49.1590 nm.
    assert one["latitude"][0] == pytest.approx(35.038917 - 3.0597 / 60.04046, abs=1e-5)
    assert one["longitude"][0] == pytest.approx(-106.608307 + 19.7646 / 49.1590, abs=1e-5)
    x, y = to_plane(one["latitude"], one["longitude"], static)
    np.testing.assert_allclose([x, y], [[20.0, 19.5, 19.0, 18.5], [0.0] * 4], atol=1e-9)


def test_on_the_ground_within_five_feet_and_no_overflight(columns):
    assert of(columns, "SIM0009")["onground"].tolist() == [True, True, True, False, False]
    assert not of(columns, "SWA12")["onground"].any()
    assert not of(columns, "N3164")["onground"].any()


def test_an_overflight_below_the_airport_still_flies(static):
    scene = flown.scene()
    scene.traffic.altitude_ft[:, 2] = 1000.0
    assert not of(tracks.columns(scene, static, flown.CALLSIGNS), "N3164")["onground"].any()


def test_parquet_has_the_types_of_the_library(columns, tmp_path):
    tracks.write_parquet(columns, tmp_path / "tracks.parquet")
    table = parquet.read_table(tmp_path / "tracks.parquet")
    assert {field.name: field.type for field in table.schema} == COLUMNS
    for name in set(COLUMNS) - {"timestamp"}:
        np.testing.assert_array_equal(table[name].to_numpy(), columns[name])
    assert table["timestamp"][1].as_py().isoformat() == "2000-01-01T00:00:05+00:00"


def test_csv_says_the_same(columns, tmp_path):
    tracks.write_csv(columns, tmp_path / "tracks.csv")
    with open(tmp_path / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[1]["timestamp"] == "2000-01-01T00:00:05.000Z"
    assert [row["onground"] for row in rows[-3:]] == ["True", "False", "False"]
    for name, digits in tracks.DECIMALS.items():
        written = np.asarray([float(row[name]) for row in rows])
        np.testing.assert_allclose(written, columns[name], rtol=0, atol=0.51 * 10.0**-digits)


def test_an_episode_without_aircraft_has_columns_and_no_rows(static, tmp_path):
    scene = flown.scene()
    scene.traffic.valid[:] = False
    columns = tracks.columns(scene, static)
    for suffix, write in tracks.WRITERS.items():
        write(columns, tmp_path / f"tracks.{suffix}")
    table = parquet.read_table(tmp_path / "tracks.parquet")
    assert {field.name: field.type for field in table.schema} == COLUMNS
    assert (tmp_path / "tracks.csv").read_text().splitlines() == [",".join(COLUMNS)]
