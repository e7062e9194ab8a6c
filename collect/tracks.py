"""Where aircraft flew, as the columns that the Python library `traffic` reads, in Parquet or CSV.

    columns = tracks.columns(episode.scene, episode.static, episode.callsigns)
    tracks.WRITERS["parquet"](columns, path)        # traffic.core.Traffic.from_file(path)

A row is an aircraft at the start of a decision, every 5 s. Recordings hold neither dates nor transponder
addresses: time counts from START, and the address is the aircraft's number in its episode, in the block
F00000 that no state gives out. Letters: T decisions, N aircraft, R rows.
"""

import csv
from pathlib import Path

import numpy as np

from collect import coordinates
from wm.sector import traffic as tr
from wm.sector.traffic import Scene

START = np.datetime64("2000-01-01T00:00:00", "us")  # UTC
FIRST_ADDRESS = 0xF00000
ON_GROUND_FT = 5.0  # above its runway or airport, see AircraftModel.isOnGround of the game
# Digits that a CSV file keeps: 1 cm of position, and more than a recording resolves of the rest.
DECIMALS = {"latitude": 7, "longitude": 7, "altitude": 1, "groundspeed": 2, "track": 3, "vertical_rate": 0}


def callsign_of(number: int, callsigns: dict[int, str] | None) -> str:
    """The callsign of an aircraft; of an imagined one, which has none, one made of its number."""
    return (callsigns or {}).get(int(number), f"SIM{number:04d}")


def on_ground(t: tr.Traffic, static: dict) -> np.ndarray:
    """Whether the game calls an aircraft `[..., N]` on the ground."""
    runways = np.asarray([r["elevation_ft"] for r in static["runways"]])
    own = np.where(t.runway >= 0, runways[np.maximum(t.runway, 0)], static["elevation_ft"])
    field = np.maximum(own, static["elevation_ft"])
    return (t.altitude_ft - field < ON_GROUND_FT) & (t.category != tr.OVERFLIGHT)


def columns(scene: Scene, static: dict, callsigns: dict[int, str] | None = None) -> dict[str, np.ndarray]:
    """The columns `[R]` of an episode's scene (numpy leaves `[T + 1, N]`), aircraft by aircraft.

    timestamp (UTC), icao24, callsign, latitude, longitude (degrees), altitude (ft), groundspeed (kt), track
    (true, degrees), vertical_rate (ft/min, over the last decision; of an aircraft's first row over its
    first one), onground.
    """
    t = scene.traffic
    step, slot = np.nonzero(t.valid)
    order = np.lexsort((step, t.id[step, slot]))
    step, slot = step[order], slot[order]

    def of(column):
        return np.asarray(column)[step, slot]

    number, seconds = of(t.id), np.asarray(scene.time_s, np.float64)[step]
    altitude = of(t.altitude_ft).astype(np.float64)
    latitude, longitude = coordinates.to_globe(of(t.x_nm), of(t.y_nm), static)
    return {
        "timestamp": START + np.round(seconds * 1e6).astype("timedelta64[us]"),
        "icao24": np.asarray([f"{FIRST_ADDRESS + n:06x}" for n in number], object),
        "callsign": np.asarray([callsign_of(n, callsigns) for n in number], object),
        "latitude": latitude,
        "longitude": longitude,
        "altitude": altitude,
        "groundspeed": of(t.ground_speed_kt).astype(np.float64),
        "track": coordinates.true_deg(of(t.ground_track_rad), static),
        "vertical_rate": vertical_rate_fpm(number, seconds, altitude),
        "onground": of(on_ground(t, static)),
    }


def vertical_rate_fpm(number: np.ndarray, seconds: np.ndarray, altitude_ft: np.ndarray) -> np.ndarray:
    """Climb `[R]` since the row before, of rows sorted by aircraft and time; 0 of a single row."""
    rate = np.zeros(len(number))
    same = number[1:] == number[:-1]
    rate[1:][same] = 60.0 * np.diff(altitude_ft)[same] / np.diff(seconds)[same]
    first = np.append(True, ~same)[: len(number)]
    begins = np.flatnonzero(first[:-1] & ~first[1:])
    rate[begins] = rate[begins + 1]
    return rate


def write_parquet(columns: dict[str, np.ndarray], path: Path) -> None:
    """A Parquet file of `columns`, times in UTC."""
    import pyarrow  # not needed by anything else that reads recordings
    from pyarrow import parquet

    arrays = {name: pyarrow.array(values) for name, values in columns.items()}
    arrays["timestamp"] = arrays["timestamp"].cast(pyarrow.timestamp("us", tz="UTC"))
    for name in ("icao24", "callsign"):
        arrays[name] = arrays[name].cast(pyarrow.string())  # also where there is no row
    parquet.write_table(pyarrow.table(arrays), path)


def write_csv(columns: dict[str, np.ndarray], path: Path) -> None:
    """A CSV file of `columns`, times as 2000-01-01T00:00:05.000Z."""
    times = np.datetime_as_string(columns["timestamp"], unit="ms")
    shown = {
        name: np.round(values, DECIMALS[name]).tolist() if name in DECIMALS else values.tolist()
        for name, values in columns.items()
    } | {"timestamp": [f"{time}Z" for time in times]}
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(shown)
        writer.writerows(zip(*shown.values(), strict=True))


WRITERS = {"parquet": write_parquet, "csv": write_csv}
