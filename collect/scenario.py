"""An episode as a scenario of the air-traffic simulator BlueSky: what every aircraft was steered for.

    path.write_text(scenario.text(episode.scene, episode.static, episode.routes, episode.callsigns))
    # bluesky --headless --scenfile PATH

BlueSky flies the aircraft itself. It is told what the game's autopilot aimed for, whenever that changes. An
aircraft appears where it is first in the air, and is deleted where it lands or leaves. Along its route it
gets the fixes ahead (ADDWPT), otherwise headings (HDG); altitudes (ALT, with the rate) and speeds (SPD) are
the ones that it steered for. Headings are true. Recordings do not name types of aircraft: JET and PROPELLER
stand for them.

The syntax is that of bluesky/stack in TUDelft-CNS-ATM/bluesky: `HH:MM:SS.hh>COMMAND arguments`.
"""

from collections.abc import Iterator

import numpy as np

from collect import coordinates
from collect.tracks import callsign_of, on_ground
from wm.sector import traffic as tr
from wm.sector.traffic import Scene

JET, PROPELLER = "A320", "C550"  # of the types that BlueSky's own performance model knows
ALTITUDE_STEP_FT = 100.0  # smaller changes of an altitude that is steered for are not told
# The game's wind grows by 2 % per 1,000 ft above the airport (AirportModel.js), BlueSky's between two levels.
WIND_PER_FT, WIND_TOP_FT = 0.00002, 45_000.0


def text(scene: Scene, static: dict, routes: list[dict], callsigns: dict[int, str] | None = None) -> str:
    """The scenario of an episode's scene (numpy leaves `[T + 1, N]`); `routes` in the order of their ids."""
    told = [(float(scene.time_s[0]), _wind(scene, static))]
    for steps, slots in flights(scene, static):
        told += _flight(scene, steps, slots, static, routes, callsigns)
    lines = [
        f"# {static['name']} ({static['icao'].upper()}), from openScope {static['version']}",
        "# HH:MM:SS.hh>COMMAND; headings true, altitudes in ft, speeds in kt",
        *(f"{clock(seconds)}>{line}" for seconds, line in sorted(told, key=lambda one: one[0])),
    ]
    return "\n".join(lines) + "\n"


def clock(seconds: float) -> str:
    """Seconds as HH:MM:SS.hh."""
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{hundredths // 100:02d}.{hundredths % 100:02d}"


def flights(scene: Scene, static: dict) -> list[tuple[np.ndarray, np.ndarray]]:
    """Steps and slots of every aircraft's rows in the air, in the order of their numbers."""
    t = scene.traffic
    step, slot = np.nonzero(t.valid & ~on_ground(t, static) & (t.phase >= tr.TAKEOFF))
    number = t.id[step, slot]
    return [(step[number == one], slot[number == one]) for one in np.unique(number)]


def _flight(scene: Scene, steps, slots, static, routes, callsigns) -> Iterator[tuple[float, str]]:
    """(seconds, command) of one aircraft, in order."""
    traffic, told = vars(scene.traffic), {}
    for t, slot in zip(steps, slots, strict=True):
        row = {name: column[t, slot] for name, column in traffic.items()}
        acid, seconds = callsign_of(row["id"], callsigns), float(scene.time_s[t])
        if t == steps[0]:
            yield seconds, _create(acid, row, static)
        for command, *arguments in (*_lateral(row, told, static, routes), *_vertical(row, told)):
            yield seconds, f"{command} {','.join((acid, *arguments))}"
    if steps[-1] + 1 < len(scene.time_s):
        yield float(scene.time_s[steps[-1] + 1]), f"DEL {acid}"


def _create(acid: str, row: dict, static: dict) -> str:
    kind, place = (JET if row["jet"] else PROPELLER), ",".join(_place(row, static))
    heading = coordinates.true_deg(row["heading_rad"], static)
    return f"CRE {acid},{kind},{place},{heading:.1f},{row['altitude_ft']:.0f},{row['speed_kt']:.0f}"


def _lateral(row: dict, told: dict, static: dict, routes: list[dict]) -> Iterator[tuple[str, ...]]:
    """Commands (name, arguments after the callsign) that turn the aircraft; `told` is what it knows."""
    fixes = _ahead(row, routes)
    if not fixes:
        told.pop("route", None)
        heading = f"{round(float(coordinates.true_deg(row['target_heading_rad'], static))) % 360:03d}"
        if _news(told, "HDG", heading):
            yield "HDG", heading
        return
    route, leg = told.get("route", (None, 0))
    # BlueSky passes the fixes of a route by itself; another route or a leg left out is news to it.
    if route != row["route"] or row["leg"] - leg not in (0, 1):
        if "has route" in told:
            yield ("DELRTE",)
        for fix in fixes:
            yield "ADDWPT", *_place(fix, static)
    told.pop("HDG", None)
    told |= {"route": (row["route"], row["leg"]), "has route": True}


def _ahead(row: dict, routes: list[dict]) -> list[dict]:
    """The fixes from the current leg on, up to a leg that is a heading; none where no route is followed."""
    if row["heading_mode"] != tr.HEADING_LNAV or row["route"] < 0:
        return []
    ahead = routes[row["route"]]["waypoints"][row["leg"] :]
    count = next((i for i, fix in enumerate(ahead) if fix["x_nm"] is None), len(ahead))
    return ahead[:count]


def _vertical(row: dict, told: dict) -> Iterator[tuple[str, ...]]:
    """Commands that climb, descend and change speed."""
    altitude = f"{round(row['target_altitude_ft'] / ALTITUDE_STEP_FT) * ALTITUDE_STEP_FT:.0f}"
    if _news(told, "ALT", altitude):
        fastest = row["climb_fpm" if row["target_altitude_ft"] > row["altitude_ft"] else "descent_fpm"]
        rate = fastest if row["expedite"] else tr.TYPICAL_RATE * fastest
        yield "ALT", altitude, f"{rate:.0f}"
    speed = f"{row['target_speed_kt']:.0f}"
    if _news(told, "SPD", speed):
        yield "SPD", speed


def _news(told: dict, name: str, value: str) -> bool:
    """Whether `value` differs from what was told last; it counts as told from now on."""
    before, told[name] = told.get(name), value
    return before != value


def _place(at: dict, static: dict) -> tuple[str, str]:
    latitude, longitude = coordinates.to_globe(at["x_nm"], at["y_nm"], static)
    return f"{latitude:.6f}", f"{longitude:.6f}"


def _wind(scene: Scene, static: dict) -> str:
    """The episode's wind at its start, from the airport's elevation up."""
    comes_from = coordinates.true_deg(scene.wind_from_rad[0], static)
    speed, ground = float(scene.wind_speed_kt[0]), static["elevation_ft"]
    top = speed * (1.0 + (WIND_TOP_FT - ground) * WIND_PER_FT)
    place = ",".join(_place({"x_nm": 0.0, "y_nm": 0.0}, static))
    levels = ((ground, speed), (WIND_TOP_FT, top))
    return f"WIND {place}" + "".join(f",{level:.0f},{comes_from:.0f},{wind:.1f}" for level, wind in levels)
