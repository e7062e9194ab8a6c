"""What acting less often costs, from hours that were played both ways."""

import dataclasses

from configs.evaluation import EvaluationConfig
from launch import eval_policy
from launch.shared import episodes, players
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


def test_acting_always_is_compared_with_nothing(tmp_path):
    always = EvaluationConfig(policies=("noop",), cache=tmp_path)
    world = episodes.World("real", "game", None)
    assert eval_policy.less_often(always, world, [players.make("noop", 32)]) == {}
