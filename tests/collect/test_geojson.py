"""The map of an airport is GeoJSON as RFC 7946 wants it."""

import json
from itertools import pairwise

import flown
import numpy as np
import pytest

from collect import geojson


@pytest.fixture
def features(static):
    text = json.dumps(geojson.airport_map(static, flown.ROUTES), allow_nan=False)
    collection = json.loads(text)
    assert collection["type"] == "FeatureCollection"
    assert set(collection) == {"type", "features"}  # no crs, which RFC 7946 has removed
    return collection["features"]


def of(features: list[dict], kind: str) -> list[dict]:
    return [feature for feature in features if feature["properties"]["kind"] == kind]


def turns_left(ring: list[list[float]]) -> bool:
    """Whether a ring runs counterclockwise: the sum over its edges of (x2 - x1)(y2 + y1) is negative."""
    return sum((b[0] - a[0]) * (b[1] + a[1]) for a, b in pairwise(ring)) < 0


def test_every_feature_has_geometry_and_properties(features):
    shapes = {"airport": "Point", "airspace": "Polygon", "runway": "LineString", "route": "LineString",
              "fix": "Point"}  # fmt: skip
    assert {feature["properties"]["kind"] for feature in features} == set(shapes)
    for feature in features:
        assert set(feature) == {"type", "geometry", "properties"}
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == shapes[feature["properties"]["kind"]]


def test_coordinates_are_longitude_before_latitude(features):
    for feature in features:
        pairs = np.asarray(feature["geometry"]["coordinates"]).reshape(-1, 2)
        assert np.all(np.abs(pairs - (-106.6, 35.04)) < 1.0), feature


def test_rings_are_closed_and_turn_left(features):
    for feature in of(features, "airspace"):
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 11
        assert ring[0] == ring[-1]
        assert turns_left(ring)


@pytest.mark.parametrize("direction", [1, -1])
def test_areas_given_either_way_round_turn_left(static, direction):
    square = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]][::direction]
    area = {"height_ft": 9000, "polygon_nm": square}
    collection = geojson.airport_map(static | {"restricted": [area]}, [])
    (feature,) = of(collection["features"], "restricted")
    assert feature["properties"]["ceiling_ft"] == 9000
    assert turns_left(feature["geometry"]["coordinates"][0])


def test_the_airspace_of_the_game_comes_back(features):
    (airspace,) = of(features, "airspace")
    # N35d26m17.000 W106d38m58.000, the first corner in the game's file
    corner = [-(106 + 38 / 60 + 58 / 3600), 35 + 26 / 60 + 17 / 3600]
    apart = np.abs(np.asarray(airspace["geometry"]["coordinates"][0]) - corner).max(1)
    assert apart.min() < 1e-6
    assert airspace["properties"] == {"kind": "airspace", "floor_ft": 0, "ceiling_ft": 20000}


def test_runways_end_where_the_opposite_one_begins(features):
    ends = {f["properties"]["name"]: f["geometry"]["coordinates"] for f in of(features, "runway")}
    assert set(ends) == {"3", "21", "8", "26", "12", "30"}
    for one, other in (("3", "21"), ("8", "26"), ("12", "30")):
        np.testing.assert_allclose(ends[one], ends[other][::-1], rtol=0, atol=2e-7)


def test_routes_and_fixes_leave_out_headings(features):
    (route,) = of(features, "route")
    assert route["properties"]["fixes"] == ["EAST", "MIDDL", "WEST"]
    assert [fix["properties"]["name"] for fix in of(features, "fix")] == ["EAST", "MIDDL", "WEST"]
    assert route["geometry"]["coordinates"][0] == of(features, "fix")[0]["geometry"]["coordinates"]


def test_routes_that_differ_in_restrictions_only_are_one_line(static):
    again = [flown.ROUTES[0], flown.ROUTES[0] | {"waypoints": list(flown.ROUTES[0]["waypoints"])}]
    assert len(of(geojson.airport_map(static, again)["features"], "route")) == 1
