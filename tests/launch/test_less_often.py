"""What acting less often or from pictures alone costs, from hours that were played both ways."""

import dataclasses

import numpy as np
import pytest

from configs.evaluation import EvaluationConfig
from launch import eval_policy
from launch.shared import episodes, players
from wm.cosmos.scope.reader import ReaderConfig
from wm.cosmos.scope.stored import Eyes
from wm.store.provenance import write_json

SEEDS = (600_000, 600_001, 600_002)


def test_hours_are_compared_that_were_played_both_ways(tmp_path):
    rarely = EvaluationConfig(policies=("noop",), every=3, episodes=len(SEEDS), cache=tmp_path)
    world, player = episodes.World("real", "game", None), players.make("noop", 32)
    played = {rarely: (10.0, 20.0, None), dataclasses.replace(rarely, every=1): (12.0, 26.0, 99.0)}
    for config, hours in played.items():
        for seed, points in zip(SEEDS, hours, strict=True):
            path = world.path(config, player, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"fault": "stops"} if points is None else {"return": {"total": points}})
    (figure,) = (found := eval_policy.less_often(rarely, world, [player])).values()
    assert list(found) == ["every_15s_minus_5s_noop_kabq"]
    assert (figure.value, figure.n, figure.unit) == (-4.0, 2, "points")


def test_hours_from_pictures_lie_between_no_commands_and_the_expert(tmp_path):
    Eyes(ReaderConfig(), {"kernel": np.zeros(1, np.float32)}).save(tmp_path / "run" / "reader")
    seeing = EvaluationConfig(policies=("expert",), episodes=2, cache=tmp_path)
    blind = dataclasses.replace(seeing, every=3, eyes=tmp_path / "run")
    world = episodes.World("real", "game", None)
    noop, expert = (players.make(name, 32) for name in ("noop", "expert"))
    played = (
        (blind, expert, (100.0, -500.0)),
        (seeing, noop, (-2_900.0, -3_100.0)),
        (seeing, expert, (200.0, 200.0)),
    )
    for config, player, hours in played:
        for seed, points in zip(SEEDS, hours, strict=False):
            path = world.path(config, player, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"return": {"total": points}})
    figures = eval_policy.from_pictures(blind, world, [expert])
    assert figures["score_from_pictures"].value == pytest.approx((-200.0 + 3_000.0) / 3_200.0)
    assert figures["score_from_pictures"].n == 2
    assert eval_policy.less_often(blind, world, [expert]) == {}
    assert eval_policy.from_pictures(seeing, world, [expert]) == {}


def test_hours_from_pictures_are_played_again_where_the_code_that_sees_has_changed(tmp_path, monkeypatch):
    Eyes(ReaderConfig(), {"kernel": np.zeros(1, np.float32)}).save(tmp_path / "run" / "reader")
    blind = EvaluationConfig(policies=("expert",), every=3, eyes=tmp_path / "run", cache=tmp_path)
    world, player = episodes.World("real", "game", None), players.make("expert", 32)
    before = world.path(blind, player, SEEDS[0])
    assert world.path(blind, player, SEEDS[0]) == before
    monkeypatch.setattr(episodes, "seeing", lambda: "other code")
    assert world.path(blind, player, SEEDS[0]) != before


def test_acting_always_is_compared_with_nothing(tmp_path):
    always = EvaluationConfig(policies=("noop",), cache=tmp_path)
    world = episodes.World("real", "game", None)
    assert eval_policy.less_often(always, world, [players.make("noop", 32)]) == {}
