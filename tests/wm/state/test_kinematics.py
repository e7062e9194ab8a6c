"""Kinematics: rates by hand, geometry against a sphere in float64, guidance frame by frame."""

import jax
import jax.numpy as jnp
import numpy as np

import tests.wm.scenes as scenes
from tests.wm.recordings import NEVER, decision, rated
from wm.sector import geometry, wind
from wm.sector import traffic as tr
from wm.state import kinematics as kn

PLACE = scenes.airport()
SLOTS = 6  # one size for all tests: one compilation
SECONDS = tr.STEP_S
RUNWAY_X_NM = 1.0  # threshold of 27L, which lies along y = 0


@jax.jit
def advance(scene, guidance, place):
    return kn.advance(scene, guidance, place)


def index(names, *chosen):
    return np.asarray([names.index(c) for c in chosen] + [0] * (SLOTS - len(chosen)))


def fly(columns, wind=(0.0, 0.0), **guides):
    """Advance aircraft with these columns by 5 s; guides are as in `recordings.decision`."""
    t = rated(SLOTS, **columns)
    scene = scenes.scene(t, PLACE, wind_speed_kt=jnp.float32(wind[0]), wind_from_rad=jnp.float32(wind[1]))
    after, sub = advance(*jax.tree.map(np.asarray, (scene, decision(t, **guides).guidance, PLACE)))
    return jax.tree.map(np.asarray, (after.traffic, sub))


def degrees(*values):
    return np.deg2rad(values)


def test_turns_three_degrees_a_second_the_shorter_way_and_stops_at_the_target():
    start = degrees(270, 350, 10, 90, 180, 0)
    target = degrees(300, 10, 350, 94, 180, 200)
    after, sub = fly({"heading_rad": start, "target_heading_rad": target})
    # 0.0523598776 rad/s is the game's constant: 3 degrees to eight digits.
    np.testing.assert_allclose(np.rad2deg(after.heading_rad), [285, 5, 355, 94, 180, 345], atol=1e-3)
    np.testing.assert_allclose(np.rad2deg(sub.heading_rad[0, 0]), 271.5, atol=1e-3)


def test_aircraft_on_the_ground_do_not_turn():
    after, _ = fly({"altitude_ft": [2000.0, 2004.9, 2005.1], "heading_rad": 1.0, "target_heading_rad": 2.0})
    turned = after.heading_rad[:3] != np.float32(1.0)
    np.testing.assert_array_equal(turned, [False, False, True])


def test_descends_at_seven_tenths_of_the_rate_and_at_all_of_it_expedited_or_on_the_approach():
    after, _ = fly(
        {
            "x_nm": [20.0, 20.0, 20.0, 20.0, 20.0],
            "y_nm": [5.0, 5.0, 0.0, 0.09, 0.0],  # the third is on the centreline, the fourth 550 ft off it
            "category": [tr.ARRIVAL, tr.ARRIVAL, tr.ARRIVAL, tr.ARRIVAL, tr.DEPARTURE],
            "expedite": [False, True, False, False, False],
            "target_altitude_ft": 3000.0,
        }
    )
    slow, fast = 2400 * 0.7 / 60 * SECONDS, 2400 / 60 * SECONDS
    np.testing.assert_allclose(10000.0 - after.altitude_ft[:5], [slow, fast, fast, slow, slow], atol=0.02)


def climb_fpm(altitude, rate, ceiling, jet):
    """The game's density correction, in float64."""
    if altitude >= 36152:
        return rate
    kelvin = 518.6 - 0.00356 * altitude
    sea = rate * 420.7 * (1.232 * (kelvin / 518.6) ** 5.256 / kelvin)
    share = altitude / ceiling
    return sea * (1 - share) + share * (500 if jet else 100)


def test_climbs_by_the_density_formula_and_at_the_full_rate_at_takeoff_or_expedited():
    altitude = [5000.0, 20000.0, 20000.0, 37000.0, 5000.0, 5000.0]
    jet = [True, True, False, True, True, True]
    after, _ = fly(
        {
            "altitude_ft": altitude,
            "jet": jet,
            "target_altitude_ft": 40000.0,
            "category": tr.DEPARTURE,
            "phase": [tr.CLIMB] * 4 + [tr.TAKEOFF, tr.CLIMB],
            "expedite": [False] * 5 + [True],
        }
    )
    expected = np.asarray(altitude)
    for _ in range(tr.FRAMES_PER_STEP):
        rates = [0.7 * climb_fpm(h, 3000.0, 41000.0, j) for h, j in zip(expected, jet, strict=True)]
        rates[4:] = [3000.0, 3000.0]
        expected = expected + np.asarray(rates) / 60 * tr.FRAME_S
    np.testing.assert_allclose(after.altitude_ft, expected, atol=0.05)
    assert np.all(np.diff(after.altitude_ft[:3] - altitude[:3]) < 0)  # thinner, and weaker, climbs slower


def test_levels_off_exactly_and_ends_an_expedited_change():
    after, _ = fly(
        {
            "altitude_ft": [10000.0, 10000.0],
            "target_altitude_ft": [9900.0, 9000.0],
            "expedite": True,
        }
    )
    np.testing.assert_array_equal(after.altitude_ft[:1], [9900.0])
    np.testing.assert_array_equal(after.expedite[:2], [False, True])


def test_speeds_change_by_the_rates_and_faster_below_minimum_speed():
    after, _ = fly(
        {
            "altitude_ft": 12000.0,
            "speed_kt": [250.0, 250.0, 250.0, 65.0],
            "target_speed_kt": [300.0, 200.0, 253.0, 250.0],
            "minimum_speed_kt": 130.0,
        }
    )
    slow = 65.0
    for _ in range(tr.FRAMES_PER_STEP):  # the game gives up to twice the acceleration below minimum speed
        slow += 2.0 * tr.FRAME_S * (2.0 - slow / 130.0)
    np.testing.assert_allclose(after.speed_kt[:4], [250 + 2.0 * 5, 250 - 1.5 * 5, 253, slow], atol=1e-3)


def test_brakes_three_and_a_half_times_as_hard_on_the_ground():
    # Past the threshold: one has landed, the other is still 100 ft up and slows to its landing speed.
    after, _ = fly(
        {
            "x_nm": RUNWAY_X_NM - 0.2, "y_nm": 0.0, "speed_kt": 145.0, "phase": tr.LANDING,
            "altitude_ft": [2000.0, 2100.0], "target_altitude_ft": [2000.0, 2100.0],
        },
        speed=kn.SPEED_GUIDES.index("landing"),
    )  # fmt: skip
    np.testing.assert_allclose(after.speed_kt[:2], [145 - 1.5 * 3.5 * 5, 145 - 1.5 * 5], atol=1e-3)


def test_the_speed_of_a_landing_falls_from_five_miles_to_a_minute_before_the_threshold():
    # The type lands at 135 kt: 2.25 nm in a minute. In the middle between 5 and 2.25 nm half is left.
    after, _ = fly(
        {
            "x_nm": RUNWAY_X_NM + np.asarray([6.0, 3.625, 1.0, 3.625]), "y_nm": 0.0, "altitude_ft": 3000.0,
            "heading_rad": scenes.WEST, "phase": tr.LANDING, "speed_kt": 165.0, "ground_speed_kt": 0.0,
            "assigned_speed_kt": 185.0, "decelerate_kt_s": 0.0, "accelerate_kt_s": 0.0,
            "speed_mode": [tr.MODE_HOLD, tr.MODE_HOLD, tr.MODE_HOLD, tr.SPEED_N1],
        },
        speed=kn.SPEED_GUIDES.index("landing"),
    )  # fmt: skip
    moved = 9 / 10 * 165.0 * (1 + 3000 * 0.000016) * SECONDS / 3600  # before the last frame
    share = np.clip((np.asarray([6.0, 3.625, 1.0, 3.625]) - moved - 2.25) / 2.75, 0, 1)
    begin = np.asarray([185.0, 185.0, 185.0, 165.0])
    np.testing.assert_allclose(after.target_speed_kt[:4], 135 + share * (begin - 135), atol=0.05)


def test_aircraft_on_the_ground_move_along_their_target_track_whatever_the_wind():
    still = {"x_nm": 0.5, "y_nm": 0.0, "altitude_ft": 2000.0, "speed_kt": 100.0, "heading_rad": scenes.WEST}
    still |= {"target_altitude_ft": 2000.0, "target_speed_kt": 100.0, "target_heading_rad": scenes.WEST}
    after, _ = fly(
        still | {"phase": [tr.LANDING, tr.TAKEOFF]}, wind=(20.0, 0.0),
        heading=index(kn.HEADING_GUIDES, "landing", "straight"),
    )  # fmt: skip
    speed, drift = ground(scenes.WEST, 100.0, 2000.0, 20.0, 0.0)
    np.testing.assert_allclose(after.ground_track_rad[:2], [scenes.WEST, drift], atol=1e-3)
    flown = 0.5 - after.x_nm[:2], after.y_nm[:2]
    np.testing.assert_allclose(np.hypot(*flown), speed * SECONDS / 3600, rtol=2e-3)
    np.testing.assert_allclose(after.y_nm[0], 0.0, atol=1e-3)


def test_a_second_guide_takes_over_on_exactly_its_frame():
    frames = np.asarray([0, 4, 9, 1, 7, 2])
    after, sub = fly(
        {"heading_rad": 1.0, "target_heading_rad": 1.0, "assigned_heading_rad": 2.0},
        heading=kn.HEADING_GUIDES.index("assigned"), heading_frame=frames,
    )  # fmt: skip
    turned = np.abs(sub.heading_rad - 1.0) > 0.01
    np.testing.assert_array_equal(turned, np.arange(tr.FRAMES_PER_STEP)[:, None] >= frames)
    np.testing.assert_allclose(after.target_heading_rad, 2.0, atol=1e-6)


def test_the_restrictions_are_those_of_the_leg_that_is_flown():
    place = scenes.airport()
    leg = int(np.flatnonzero(np.asarray(place.route_altitude_ft)[scenes.ARRIVAL_ROUTE, :, 1] > 0)[0])
    highest = float(place.route_altitude_ft[scenes.ARRIVAL_ROUTE, leg, 1])
    t = rated(SLOTS, route=scenes.ARRIVAL_ROUTE, leg=leg)
    around = kn.surroundings(t, place)
    after = around.at(jnp.asarray([False, True] + [False] * 4)).leg.maximum_ft
    later = np.asarray(kn.surroundings(t.replace(leg=t.leg + 1), place).leg.maximum_ft)
    np.testing.assert_array_equal(np.asarray(after), [highest, later[1], *[highest] * 4])
    assert later[1] != highest


def test_legal_and_type_limits_of_the_speed():
    after, _ = fly(
        {
            "altitude_ft": [9000.0, 11000.0, 9999.0, 11000.0],
            "target_altitude_ft": [9000.0, 11000.0, 9999.0, 11000.0],
            "speed_kt": [249.0, 299.0, 260.0, 131.0],
            "assigned_speed_kt": [300.0, 300.0, 260.0, 100.0],
            "maximum_speed_kt": 460.0,
        },
        speed=kn.SPEED_GUIDES.index("assigned"),
    )
    # 250 kt below 10,000 ft; 260 kt there is too fast and slows by 1.5 kt/s; the type cannot fly 100 kt.
    np.testing.assert_allclose(after.speed_kt[:4], [250, 300, 252.5, 130], atol=1e-3)
    np.testing.assert_allclose(after.target_speed_kt[:4], [250, 300, 250, 130], atol=1e-3)


def ground(heading, speed, altitude, wind_kt, wind_from):
    """Ground speed (kt) and track (rad) by the wind triangle, in float64."""
    tas = np.float64(speed) * (1 + np.float64(altitude) * 0.000016)
    wind = wind_kt * (1 + (np.float64(altitude) - 2000.0) * 0.00002)
    east = tas * np.sin(np.float64(heading)) - wind * np.sin(wind_from)
    north = tas * np.cos(np.float64(heading)) - wind * np.cos(wind_from)
    return np.hypot(east, north), np.mod(np.arctan2(east, north), 2 * np.pi)


def test_ground_speed_and_track_are_the_wind_triangle():
    rng = np.random.default_rng(0)
    heading, speed = rng.uniform(0, 2 * np.pi, SLOTS), rng.uniform(140, 300, SLOTS)
    columns = {
        "heading_rad": heading,
        "target_heading_rad": heading,
        "speed_kt": speed,
        "altitude_ft": rng.uniform(11000, 30000, SLOTS),
    }
    after, _ = fly(columns, wind=(22.0, 1.1))
    speeds, tracks = ground(after.heading_rad, after.speed_kt, after.altitude_ft, 22.0, np.float32(1.1))
    np.testing.assert_allclose(after.ground_speed_kt, speeds, rtol=2e-6)
    np.testing.assert_allclose(after.ground_track_rad, tracks, atol=2e-6)


def test_crab_heading_is_the_games_formula_and_holds_the_track():
    rng = np.random.default_rng(1)
    track, tas = rng.uniform(0, 2 * np.pi, 64), rng.uniform(120, 400, 64)
    east, north = rng.uniform(-30, 30, (2, 64))
    heading = np.asarray(wind.crab_heading(*map(jnp.float32, (track, tas, east, north))))
    angle = np.arctan2(east, north)
    game = track + np.arcsin(np.hypot(east, north) * np.sin(track - angle) / tas)
    off = np.mod(heading - game + np.pi, 2 * np.pi) - np.pi
    np.testing.assert_allclose(off, 0.0, atol=3e-6)
    flown = geometry.bearing(*wind.ground_vector(*map(jnp.float32, (heading, tas, east, north))))
    np.testing.assert_allclose(np.mod(flown - track + np.pi, 2 * np.pi) - np.pi, 0.0, atol=5e-6)


def on_sphere(x, y, track, distances_nm, latitude=0.63, declination=0.2):
    """Great-circle legs along a constant magnetic bearing, in the game's projection and float64."""
    radius = 6371.0 / 1.852
    for distance in distances_nm:
        east = x * np.cos(declination) + y * np.sin(declination)
        north = y * np.cos(declination) - x * np.sin(declination)
        lat, lon = latitude + north / radius, east / (radius * np.cos(latitude))
        bearing, arc = track + declination, distance / radius
        lat2 = np.arcsin(np.sin(lat) * np.cos(arc) + np.cos(lat) * np.sin(arc) * np.cos(bearing))
        lon2 = lon + np.arctan2(
            np.sin(bearing) * np.sin(arc) * np.cos(lat), np.cos(arc) - np.sin(lat) * np.sin(lat2)
        )
        east, north = lon2 * radius * np.cos(latitude), (lat2 - latitude) * radius
        x = east * np.cos(declination) - north * np.sin(declination)
        y = north * np.cos(declination) + east * np.sin(declination)
    return x, y


def test_straight_flight_ends_where_the_sphere_says():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-60, 60, (2, SLOTS))
    heading = rng.uniform(0, 2 * np.pi, SLOTS)
    after, sub = fly({"x_nm": x, "y_nm": y, "heading_rad": heading, "target_heading_rad": heading})
    step = 250 * (1 + 10000 * 0.000016) * tr.FRAME_S / 3600
    for i in range(SLOTS):
        far = on_sphere(x[i], y[i], heading[i], [step] * tr.FRAMES_PER_STEP)
        np.testing.assert_allclose((after.x_nm[i], after.y_nm[i]), far, atol=5e-5)
        near = on_sphere(x[i], y[i], heading[i], [step] * 3)
        np.testing.assert_allclose((sub.x_nm[2, i], sub.y_nm[2, i]), near, atol=5e-5)


def test_waiting_aircraft_and_empty_slots_stay_as_they_are():
    columns = {"phase": [tr.WAITING, tr.TAXI, tr.APRON, tr.TAKEOFF], "altitude_ft": [2000.0] * 4}
    columns |= {"speed_kt": [0.0] * 4, "target_speed_kt": [250.0] * 4}
    before = rated(SLOTS, **columns)
    after, _ = fly(columns, speed=kn.SPEED_GUIDES.index("highest"))
    still = [i for i in range(SLOTS) if i != 3]
    jax.tree.map(lambda b, a: np.testing.assert_array_equal(b[still,], a[still,]), before, after)
    assert after.speed_kt[3] > 0
    assert after.x_nm[3] != before.x_nm[3]


def test_a_phase_begins_on_exactly_its_frame():
    frames = np.asarray([0, 4, 9, NEVER, 7, NEVER])
    after, sub = fly({"phase": tr.DESCENT}, phase=tr.APPROACH, phase_frame=frames)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(sub.phase[:, i] == tr.APPROACH, np.arange(tr.FRAMES_PER_STEP) >= frame)
    np.testing.assert_array_equal(after.phase == tr.APPROACH, frames < NEVER)


def test_a_leg_begins_on_exactly_its_frame():
    # Eastbound to the fix at (30, 0); the next one lies 10 nm behind, so the turn shows the frame.
    east = np.pi / 2
    frames = np.asarray([0, 4, 9, NEVER, 7, NEVER])
    after, sub = fly(
        {"x_nm": 25.0, "y_nm": 0.0, "leg": 0, "heading_rad": east, "ground_track_rad": east},
        heading=kn.HEADING_GUIDES.index("fix"),
        leg_frame=frames,
    )
    for i, frame in enumerate(frames):
        turning = np.abs(np.rad2deg(sub.heading_rad[:, i]) - 90.0) > 1.0
        np.testing.assert_array_equal(turning, np.arange(tr.FRAMES_PER_STEP) >= frame)
    np.testing.assert_array_equal(after.leg, (frames < NEVER).astype(int))


def test_guides_of_the_approach():
    after, sub = fly(
        {
            "x_nm": 11.0, "y_nm": [0.05, 0.5, 0.5, 0.05, 3.0],
            "altitude_ft": 6000.0, "assigned_altitude_ft": [4000.0, 9000.0, 9000.0, 9000.0, 9000.0],
            "assigned_heading_rad": scenes.WEST - 0.3,
            "heading_rad": scenes.WEST, "phase": tr.APPROACH,
        },
        heading=index(kn.HEADING_GUIDES, "localizer", "landing", "track", "straight", "intercept"),
        altitude=index(kn.ALTITUDE_GUIDES, "glideslope", "glideslope", "level", "ceiling"),
    )  # fmt: skip
    # The last frame's targets come from the position before it.
    x, y = sub.x_nm[-2], sub.y_nm[-2]
    glide = 2000 + np.tan(np.deg2rad(3.0)) * 6076.12 * (x[1] - RUNWAY_X_NM)
    np.testing.assert_allclose(after.target_altitude_ft[:4], [4000, glide, 6000, 41000], rtol=1e-5)
    to_threshold = [course_on_sphere(x[i], y[i], RUNWAY_X_NM, 0.0) for i in range(5)]
    off = scenes.WEST - np.asarray(to_threshold)
    wanted = [scenes.WEST - 20.0 * off[0], to_threshold[1], scenes.WEST - 0.3, sub.heading_rad[-2, 3]]
    np.testing.assert_allclose(after.target_heading_rad[:4], wanted, atol=2e-4)
    # The localizer lies far to the left: the assigned heading, which leads to it less steeply, is flown.
    assert scenes.WEST - 20.0 * off[4] < scenes.WEST - 0.3
    np.testing.assert_allclose(after.target_heading_rad[4], scenes.WEST - 0.3, atol=1e-5)


def course_on_sphere(x, y, to_x, to_y, latitude=0.63, declination=0.2):
    """Magnetic bearing at which the great circle between two plane positions begins, in float64."""
    radius = 6371.0 / 1.852

    def place(x, y):
        east, north = x * np.cos(declination) + y * np.sin(declination), y * np.cos(declination) - x * np.sin(
            declination
        )
        return latitude + north / radius, east / (radius * np.cos(latitude))

    (lat, lon), (lat2, lon2) = place(x, y), place(to_x, to_y)
    across = np.sin(lon2 - lon) * np.cos(lat2)
    along = np.cos(lat) * np.sin(lat2) - np.sin(lat) * np.cos(lat2) * np.cos(lon2 - lon)
    return np.mod(np.arctan2(across, along) - declination, 2 * np.pi)


def test_follows_a_fix_over_the_ground_in_wind():
    t = rated(SLOTS, x_nm=[45.0], y_nm=[4.0], route=scenes.ARRIVAL_ROUTE, leg=0)
    scene = scenes.scene(t, PLACE, wind_speed_kt=jnp.float32(25.0), wind_from_rad=jnp.float32(0.0))
    guide = decision(t, heading=kn.HEADING_GUIDES.index("fix")).guidance
    nearest = np.inf
    for _ in range(60):
        scene, sub = advance(scene, guide, PLACE)
        nearest = min(nearest, float(np.min(np.hypot(sub.x_nm[:, 0] - 30.0, sub.y_nm[:, 0]))))
    assert nearest < 0.03


def test_slots_can_be_permuted():
    t = scenes.random_traffic(np.random.default_rng(3), SLOTS)
    rng = np.random.default_rng(4)
    guides = {
        "heading": rng.integers(0, len(kn.HEADING_GUIDES), SLOTS),
        "altitude": rng.integers(0, len(kn.ALTITUDE_GUIDES), SLOTS),
        "speed": rng.integers(0, len(kn.SPEED_GUIDES), SLOTS),
        "leg_frame": rng.integers(0, 11, SLOTS),
        "phase_frame": rng.integers(0, 11, SLOTS),
        "heading_first": rng.integers(0, len(kn.HEADING_GUIDES), SLOTS),
        "heading_frame": rng.integers(0, 10, SLOTS),
    }
    order = rng.permutation(SLOTS)
    shuffled = jax.tree.map(lambda v: v[order], t)
    wind = {"wind_speed_kt": jnp.float32(15.0), "wind_from_rad": jnp.float32(2.0)}
    scene, guide = scenes.scene(t, PLACE, **wind), decision(t, **guides).guidance
    one = advance(scene, guide, PLACE)
    other = advance(scenes.scene(shuffled, PLACE, **wind), jax.tree.map(lambda v: v[order], guide), PLACE)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[order], b, rtol=1e-6, atol=1e-6),
        one[0].traffic,
        other[0].traffic,
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[:, order], b, rtol=1e-6, atol=1e-6), one[1], other[1]
    )


def test_compiled_and_uncompiled_agree():
    t = scenes.random_traffic(np.random.default_rng(5), SLOTS)
    scene = scenes.scene(t, PLACE, wind_speed_kt=jnp.float32(15.0))
    guide = decision(t, heading=kn.HEADING_GUIDES.index("assigned"), leg_frame=3).guidance
    compiled, _ = advance(scene, guide, PLACE)
    with jax.disable_jit():
        plain, _ = kn.advance(scene, guide, PLACE)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
        compiled.traffic,
        plain.traffic,
    )
