"""The export command writes tracks, scenarios and maps, and the programs they are meant for take them."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import collect
from collect import dataset, scenario
from collect import export as packing
from launch import export

SHIPPED = Path(collect.__file__).parent / "data" / "shipped" / "test"
# traffic 2.13 cannot be imported beside pandas 3.
NO_TRAFFIC = "needs the library traffic and a pandas that it knows: pip install traffic 'pandas<3'"
NO_BLUESKY = "needs the simulator BlueSky: pip install bluesky-simulator"


@pytest.fixture(scope="module")
def hour(tmp_path_factory) -> Path:
    """The shipped test hour of KABQ, packed by itself."""
    folder = tmp_path_factory.mktemp("hour")
    name, example = next(export.examples(SHIPPED))
    packing.write(example, folder / f"{name}{packing.SUFFIX}")
    return folder


def exported(verb: str, data: Path, out: Path, *options: str) -> list[Path]:
    export.main([verb, "--data", str(data), "--out", str(out), *options])
    return sorted(out.iterdir())


def test_tracks_of_a_recorded_hour(hour, tmp_path, capsys):
    (path,) = exported("tracks", hour, tmp_path)
    assert path.name == "kabq-600500-expert-46352b7eb5ff7140-3600s.parquet"
    assert "tracks of 1 episodes" in capsys.readouterr().out
    recorded = next(dataset.load(SHIPPED, "test"))
    table = parquet.read_table(path)
    assert table.num_rows == recorded.scene.traffic.valid.sum()
    assert set(table["callsign"].to_pylist()) <= set(recorded.callsigns.values())
    ground, altitude = table["onground"].to_numpy(), table["altitude"].to_numpy()
    assert altitude[ground].max() < 5360.0 <= altitude[~ground].min()  # KABQ lies at 5,355 ft
    (again, _) = exported("tracks", hour, tmp_path, "--format", "csv")
    assert again.suffix == ".csv"
    assert again.read_text().count("\n") == table.num_rows + 1


def test_what_is_there_is_left_alone(hour, tmp_path):
    (path,) = exported("scenario", hour, tmp_path)
    path.write_text("mine")
    assert exported("scenario", hour, tmp_path) == [path]
    assert path.read_text() == "mine"


def test_a_recording_gives_a_map_of_each_airport(tmp_path):
    kabq, klas = exported("map", SHIPPED, tmp_path)
    assert (kabq.name, klas.name) == ("kabq.geojson", "klas.geojson")
    kinds = [feature["properties"]["kind"] for feature in json.loads(klas.read_text())["features"]]
    assert kinds.count("runway") == 8
    assert kinds.count("route") >= 8


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["map", "--data", "nowhere"], "nowhere holds no recordings: record some with"),
        (["tracks", "--data", str(SHIPPED), "--imagine", "nobody"], "policy 'nobody' must be one of noop"),
        (
            ["tracks", "--data", str(SHIPPED), "--checkpoint", "x"],
            "checkpoint is used by imagined hours alone",
        ),
    ],
)
def test_mistakes_are_said_in_one_line(argv, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        export.main([*argv, "--out", str(tmp_path / "out")])
    assert stopped.value.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in last


@pytest.mark.slow
def test_an_imagined_hour_is_exported_as_a_recorded_one_is(hour, tmp_path):
    """A minute in place of the hour, so that the model compiles once and plays little."""
    short = tmp_path / "short"
    short.mkdir()
    (packed,) = hour.iterdir()
    example = packing.read(packed)
    key = json.loads(example["episode_metadata"]["key"]) | {"episode_s": 60.0}
    example["episode_metadata"]["key"] = json.dumps(key).encode()
    packing.write(example, short / packed.name)
    (path,) = exported("tracks", short, tmp_path / "out", "--imagine", "noop")
    assert path.name == "kabq-600500-expert-46352b7eb5ff7140-60s-imagined-noop.parquet"
    table = parquet.read_table(path)
    times = np.unique(table["timestamp"].to_numpy())
    assert (len(times), (times[-1] - times[0]) / np.timedelta64(1, "s")) == (13, 60.0)
    assert all(callsign.startswith("SIM") for callsign in table["callsign"].to_pylist())
    # Nobody flies faster over the ground than 700 kt: a mile in 5 s.
    for callsign in set(table["callsign"].to_pylist()):
        rows = table.filter(np.asarray(table["callsign"]) == callsign)
        moved = np.diff(rows["latitude"].to_numpy()) * 60.0
        assert np.all(np.abs(moved) < 1.0)
    assert np.abs(table["latitude"].to_numpy() - 35.04).max() < 4.0
    (path,) = exported("scenario", short, tmp_path / "scenarios", "--imagine", "noop")
    lines = path.read_text().splitlines()
    created = {line.split(",")[0].split()[1] for line in lines if ">CRE " in line}
    airborne = table.filter(~np.asarray(table["onground"]))
    assert created == set(airborne["callsign"].to_pylist())
    assert any(">ADDWPT " in line for line in lines)


@pytest.mark.exports
@pytest.mark.filterwarnings("ignore")  # of the library and of what it imports
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_library_traffic_reads_tracks(hour, tmp_path, suffix):
    core = pytest.importorskip("traffic.core", reason=NO_TRAFFIC, exc_type=ImportError)
    (path,) = exported("tracks", hour, tmp_path, "--format", suffix)
    parsing = {"parse_dates": ["timestamp"]} if suffix == "csv" else {}
    read = core.Traffic.from_file(path, **parsing)
    recorded = next(dataset.load(SHIPPED, "test"))
    t = recorded.scene.traffic
    numbers = np.unique(t.id[t.valid])
    assert set(read.callsigns) == {recorded.callsigns[int(number)] for number in numbers}
    flight = read[recorded.callsigns[0]]
    rows = t.valid[:, 0] & (t.id[:, 0] == 0)
    assert flight.duration.total_seconds() == (rows.sum() - 1) * 5
    # Speeds that the library computes from positions and times are those that the game shows.
    flight = flight.airborne().cumulative_distance()
    speeds = flight.data[["groundspeed", "compute_gs"]].to_numpy(float)[2:-2]
    assert np.median(np.abs(speeds[:, 0] - speeds[:, 1])) < 3.0
    tracks = flight.data[["track", "compute_track"]].to_numpy(float)[2:-2]
    assert np.median(np.abs((tracks[:, 0] - tracks[:, 1] + 180.0) % 360.0 - 180.0)) < 1.0


@pytest.mark.exports
@pytest.mark.filterwarnings("ignore")
def test_bluesky_flies_a_recorded_hour(hour, tmp_path):
    bs = pytest.importorskip("bluesky", reason=NO_BLUESKY, exc_type=ImportError)
    (path,) = exported("scenario", hour, tmp_path / "scenarios")
    recorded = next(dataset.load(SHIPPED, "test"))
    (tmp_path / "work").mkdir()
    bs.init(mode="sim", detached=True, workdir=str(tmp_path / "work"))
    said = []
    bs.net.send = lambda topic, data=None, *rest, **named: said.append(data) if topic == "ECHO" else None
    bs.stack.stack(f"IC {path}")
    bs.sim.step()
    bs.stack.stack("DT 1.0")
    bs.stack.stack("OP")
    in_the_air = flying_at(recorded)
    while bs.sim.simt < 3595.0:
        bs.sim.step()
        if bs.sim.simt % 60.0 == 2.5:
            assert set(bs.traf.id) == in_the_air[int(bs.sim.simt // 5)]
    assert said
    refused = [one["text"] for one in said if one["flags"]]  # BS_ARGERR and its like
    assert refused == []


def flying_at(recorded) -> list[set[str]]:
    """The callsigns of those between their first and last time in the air, by decision."""
    names = [set() for _ in recorded.scene.time_s]
    for steps, slots in scenario.flights(recorded.scene, recorded.static):
        callsign = recorded.callsigns[int(recorded.scene.traffic.id[steps[0], slots[0]])]
        for step in steps:
            names[step].add(callsign)
    return names
