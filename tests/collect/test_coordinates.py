"""Positions in the plane and on the globe, against the game's own airport file and by hand."""

import numpy as np
import pytest
from globe import to_plane

from collect import coordinates

# KABQ in the game's assets/airports/kabq.json, and where the page of a recorded hour had these fixes (nm).
FIXES = {
    "RECKN": ((34.5854516497493, -103.59088133832199), (150.74672895074607, -4.213760091781383)),
    "CME": ((33.33746976425845, -104.62122344504668), (112.15965003574797, -86.00930551104595)),
    "RSK": ((36.74833333, -108.0988333), (-88.11093930894727, 90.21640045336628)),
    "ZUN": ((34.96576096364239, -109.15452575246168), (-123.02045507779071, -23.489219983692845)),
    "DATME": ((36.66423300880119, -106.11577605744571), (8.998133696802071, 100.1401095850888)),
}


def place(latitude_deg: float, longitude_deg: float, declination_deg: float = 0.0) -> dict:
    return {
        "latitude_rad": np.radians(latitude_deg),
        "longitude_rad": np.radians(longitude_deg),
        "magnetic_north_rad": np.radians(declination_deg),
    }


@pytest.mark.parametrize("name", FIXES)
def test_fixes_of_a_real_airport_lie_where_the_game_has_them(name, static):
    globe, plane = FIXES[name]
    np.testing.assert_allclose(coordinates.to_globe(*plane, static), globe, rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_plane(*globe, static), plane, rtol=0, atol=1e-10)


# A degree of the game's sphere of 6371 km is 111.19493 km or 60.04046 nm.
@pytest.mark.parametrize(
    ("at", "xy_nm", "globe"),
    [
        (place(0, 0), (60.04046, 0.0), (0.0, 1.0)),
        (place(0, 0), (0.0, -30.02023), (-0.5, 0.0)),
        (place(0, 0, 90), (60.04046, 0.0), (-1.0, 0.0)),  # magnetic north is east: its east is south
        (place(0, 0, 90), (0.0, 60.04046), (0.0, 1.0)),
        # 60 degrees along the 60th parallel: 2 asin(sin 30 cos 60) = 28.95502 degrees of a great circle.
        (place(60, 10), (28.95502 * 60.04046, 0.0), (60.0, 70.0)),
        (place(0, 179.5), (60.04046, 0.0), (0.0, -179.5)),  # over the date line
    ],
)
def test_hand_computed_places(at, xy_nm, globe):
    np.testing.assert_allclose(coordinates.to_globe(*xy_nm, at), globe, rtol=0, atol=1e-5)
    np.testing.assert_allclose(to_plane(*globe, at), xy_nm, rtol=0, atol=5e-4)


def test_there_and_back_over_a_whole_sector(static):
    x, y = np.meshgrid(np.linspace(-150, 150, 31), np.linspace(-150, 150, 31))
    back = to_plane(*coordinates.to_globe(x, y, static), static)
    np.testing.assert_allclose(back, (x, y), rtol=0, atol=1e-9)


def test_bearings_are_turned_by_the_declination():
    at = place(0, 0, 8.8)
    np.testing.assert_allclose(coordinates.true_deg(np.radians([0.0, 355.0]), at), [8.8, 3.8], atol=1e-9)


def test_a_runway_ends_at_the_threshold_of_the_opposite_one(static):
    runways = {runway["name"]: runway for runway in static["runways"]}
    for one, other in (("3", "21"), ("8", "26"), ("12", "30")):
        near, far = runways[one], runways[other]
        bearing = float(coordinates.true_deg(near["heading_rad"], static))
        begin = coordinates.to_globe(near["x_nm"], near["y_nm"], static)
        end = coordinates.beyond(*begin, bearing, near["length_nm"])
        np.testing.assert_allclose(end, coordinates.to_globe(far["x_nm"], far["y_nm"], static), atol=1e-7)
