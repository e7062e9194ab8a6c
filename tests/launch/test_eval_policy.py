"""Evaluations: figures from episodes, the cache that resumes, the report, and errors in one line."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cli
from configs.evaluation import EvaluationConfig
from configs.ppo import NetworkConfig
from configs.recording import Wind
from launch import eval_policy
from launch.shared import episodes, in_game, players, radar, scoreboard
from rl.networks import SetNetwork
from rl.policy import describe, init_params
from tests.rl.toys import Sector, SectorParams
from wm.sector import commands
from wm.state import bundle
from wm.store import checkpoints


def episode(total, overflow=0, **changes):
    """An episode's summary as rl.evaluate gives it."""
    steady = {"loss_game": 1.0, "loss_raw": 2.0, "collisions": 0.0, "flight_hours": 4.0}
    counts = {"arrivals_due": 4.0, "landed_due": 3.0, "departures_due": 1.0, "commands": 30, "aircraft": 6}
    whole = {"loss_game": 3.0, "loss_raw": 5.0, "collisions": 1.0, "flight_hours": 6.0}
    measured = {"return": {"total": total}, "overflow": overflow, "steady": steady, "delay_s": 60.0}
    flown = {
        "extra_nm": 5.0, "closest_nm": 2.0, "loss_duration_s": [10.0, 20.0, 30.0],
        "loss_severity": [0.1, 0.2, 0.6], "threshold_spacing_s": [70.0, 80.0], "landed": 3.0,
        "hand_offs": 1.0, "landed_flights": 3, "level_segments": 6, "go_arounds": 1, "busts": 2.0,
        "reversals": 4, "hours": 1.0,
    }  # fmt: skip
    return {**measured, **flown, **whole, **counts, **changes}


BOARD = {
    "noop": {1: episode(-100.0), 2: episode(-300.0), 3: episode(-900.0)},
    "expert": {1: episode(20.0), 2: episode(10.0)},
    "policy": {1: episode(35.0), 2: episode(-25.0), 4: episode(7.0), 5: episode(1e6, overflow=2)},
}


def test_figures_use_shared_seeds_and_leave_overflow_out():
    figures = scoreboard.figures_of(BOARD, "policy")
    assert figures["return"].value == pytest.approx((35 - 25 + 7) / 3)
    assert figures["return"].n == 3
    # Seeds 1 and 2: (5 + 200) / (15 + 200), and flawless is 10 for each of 5 flights.
    assert figures["score"].value == pytest.approx(205 / 215)
    assert figures["score"].n == 2
    assert figures["headroom"].value == pytest.approx((5 - 15) / (50 - 15))
    assert figures["lift_over_expert"].value == pytest.approx(5 - 15)
    assert figures["landed_share"].value == pytest.approx(0.75)
    assert figures["commands_per_aircraft"].value == pytest.approx(5.0)
    assert figures["loss_game_per_h"].value == pytest.approx(3 / 12)
    assert figures["loss_game_whole_per_h"].value == pytest.approx(9 / 18)
    assert figures["collisions_whole_per_h"].value == pytest.approx(3 / 18)
    assert figures["collisions_per_h"].low == 0
    assert figures["collisions_per_h"].high == pytest.approx(-np.log(0.05) / 12)
    assert figures["delay"].value == 60.0


def test_figures_of_the_traffic():
    busy = episode(
        0.0, loss_duration_s=[60.0], loss_severity=[0.9], threshold_spacing_s=[110.0], closest_nm=1.0
    )
    quiet = episode(
        0.0, loss_duration_s=[], loss_severity=[], threshold_spacing_s=[], closest_nm=None, extra_nm=None,
        landed=0.0, landed_flights=0, level_segments=0, go_arounds=0, busts=0.0, hours=0.5,
    )  # fmt: skip
    figures = scoreboard.figures_of({"policy": {1: episode(0.0), 2: busy, 3: quiet}}, "policy")
    expected = {
        "loss_duration_s": 120 / 4, "loss_severity": 1.8 / 4, "closest_approach_nm": 1.5,
        "extra_track_nm": 5.0, "busts_whole_per_h": 4 / 18, "landings_per_h": 6 / 2.5,
        "hand_offs_per_h": 3 / 2.5, "go_arounds_per_h": 2 / 2.5, "threshold_spacing_p5_s": 71.0,
        "threshold_spacing_median_s": 80.0, "level_segments_per_arrival": 2.0, "commands_per_min": 90 / 150,
        "reversals_per_h": 12 / 2.5,
    }  # fmt: skip
    assert {name: figures[name].value for name in expected} == pytest.approx(expected)
    # Whole episodes are drawn again: only the first, or only the second.
    spacing = figures["threshold_spacing_median_s"]
    assert (spacing.low, spacing.high, spacing.n) == (75.0, 110.0, 2)
    assert figures["go_arounds_per_h"].low == pytest.approx(0.2422 / 2.5, rel=1e-3)  # exact Poisson
    assert {name for names in scoreboard.PRECEDENCE.values() for name in names} <= set(figures)
    assert set(figures) <= set(scoreboard.COLUMNS)


def test_what_episodes_cannot_give_is_left_out():
    assert "score" not in scoreboard.figures_of({"policy": BOARD["policy"]}, "policy")
    same = {"noop": {1: episode(5.0)}, "expert": {1: episode(5.0)}}
    assert "score" not in scoreboard.figures_of(same, "noop")
    undecided = {"noop": {1: episode(0.0), 2: episode(0.0)}, "expert": {1: episode(0.0), 2: episode(9.0)}}
    assert "score" not in scoreboard.figures_of(undecided, "noop")
    perfect = {"expert": {1: episode(50.0)}}
    assert "headroom" not in scoreboard.figures_of(perfect, "expert")
    nothing = dict.fromkeys(("delay_s", "extra_nm", "closest_nm"))
    nothing |= {name: [] for name in ("loss_duration_s", "loss_severity", "threshold_spacing_s")}
    short = episode(0.0, steady=None, arrivals_due=0.0, landed_flights=0, **nothing)
    whole = {f"{name}_whole_per_h" for name in ("loss_game", "loss_raw", "collisions", "busts")}
    always = {f"{name}_per_h" for name in ("landings", "hand_offs", "go_arounds", "reversals")}
    always |= {"return", "commands_per_aircraft", "commands_per_min"}
    assert set(scoreboard.figures_of({"noop": {1: short}}, "noop")) == whole | always
    assert scoreboard.figures_of({"expert": {1: episode(0.0, overflow=1)}}, "expert") == {}


def table(boards):
    return scoreboard.table(boards, scoreboard.all_figures(boards))


def test_names_in_records_and_the_table():
    figures = scoreboard.figures_of(BOARD, "policy")
    real = scoreboard.record_names(figures, "real", "policy", "kabq")
    assert {"return_real_policy_kabq", "score_real_policy_kabq", "loss_game_per_h_policy_kabq"} <= set(real)
    imagined = scoreboard.record_names(figures, "imagined", "policy", "kabq")
    assert {"return_imagined_policy_kabq", "landed_share_policy_kabq_imagined"} <= set(imagined)
    traffic, points = (half.splitlines() for half in table({"real": BOARD}).split("\n\n"))
    for lines in (traffic, points):
        assert len(lines) == 2 + 3
        assert "| 3 (1 overflowed) |" in lines[4]
        assert len({line.count("|") for line in lines}) == 1
    groups = [
        traffic[0].index(f"| {group}: ") for group in ("safety", "throughput", "efficiency", "workload")
    ]
    assert groups == sorted(groups)
    assert traffic[0].count("|") + points[0].count("|") == 2 * 4 + len(scoreboard.COLUMNS)
    failed = BOARD["policy"] | {6: {"fault": "no such fleet"}}
    assert scoreboard.figures_of({**BOARD, "policy": failed}, "policy") == figures
    assert "| 3 (1 overflowed, 1 failed) |" in table({"real": {**BOARD, "policy": failed}})
    busy = EvaluationConfig(traffic=1.5, wind=Wind(180, 20))
    assert eval_policy.place_of(busy) == "kabq_traffic_1_5_wind_180_20"


def test_an_episode_s_file_names_all_that_decides_it():
    world = in_game.real_world(EvaluationConfig())
    noop, random = (players.make(name, 32) for name in ("noop", "random"))
    configs = [
        EvaluationConfig(), EvaluationConfig(airport="klas"), EvaluationConfig(traffic=1.5),
        EvaluationConfig(wind=Wind(180, 20)), EvaluationConfig(minutes=5), EvaluationConfig(slots=48),
    ]  # fmt: skip
    paths = [world.path(c, noop, 7) for c in configs]
    paths += [world.path(configs[0], noop, 8), world.path(configs[0], random, 7)]
    assert len(set(paths)) == len(paths)
    assert world.path(EvaluationConfig(episodes=3, pages=1), noop, 7) == paths[0]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["eval_policy"])
    eval_policy.main([str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "nobody"], "policy 'nobody' must be one of noop, random, expert, perturbed"),
        (["--policies", "noop", "--where", "model", "--airport", "zzzz"], "knows kabq, not 'zzzz'"),
        (["--where", "model", "--checkpoint", "nothing_here"], "no checkpoint in"),
        (["--split", "exam"], "split"),
        (["--record", "verdict", "--split", "select"], "record takes only full hours of test seeds"),
        (["--traffic", "0.7"], "traffic is 0.7"),
        (["--url", "http://127.0.0.1:9", "--policies", "noop"], "openScope is not reachable"),
    ],
)
def test_errors_are_one_line(monkeypatch, tmp_path, capsys, arguments, message):
    if "--checkpoint" not in arguments:
        model = {"kind": "world model", "training": {"airports": ["kabq"]}, "leaves": {}}
        checkpoints.save(tmp_path / "model", 0, {"nothing": jnp.zeros(1)}, model)
        arguments = [*arguments, "--checkpoint", tmp_path / "model"]
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments, "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    assert stopped.value.code not in (0, None)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]


def save_policy(folder, seed):
    """An untrained network where a PPO run would have left its policy."""
    network = SetNetwork(NetworkConfig(width=8, heads=2))
    seen, _ = Sector().reset(jax.random.key(0), SectorParams())
    params = init_params(network, jax.random.key(seed), seen)
    checkpoints.save(folder / "policy", 1, params, describe(network, seen))
    return folder


def test_a_trained_policy_is_known_by_its_parameters(tmp_path):
    one, other = (save_policy(tmp_path / name, seed) for seed, name in enumerate(("one", "other")))
    run_folder, policy_folder = (players.make(str(path), 3) for path in (one, one / "policy"))
    assert run_folder.name == policy_folder.name == "policy"
    assert run_folder.digest == policy_folder.digest != players.make(str(other), 3).digest
    config = EvaluationConfig(policies=(str(one), "noop", str(other), "noop"))
    names = [player.name for player in eval_policy.players_of(config)]
    assert names == ["policy", "noop", "policy_2"]
    seen, _ = Sector().reset(jax.random.key(3), SectorParams())
    action, _ = run_folder.policy.act(run_folder.params, (), seen, jax.random.key(4))
    assert commands.is_legal(action, seen["action_mask"])


def test_a_folder_without_a_policy_is_refused(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint in"):
        players.make(str(tmp_path), 32)


def test_a_broken_file_of_the_cache_is_named(tmp_path):
    (tmp_path / "1.json").write_text("{")
    with pytest.raises(episodes.EvaluationError, match=r"1\.json isn't JSON .* delete it"):
        episodes.read(tmp_path / "1.json")
    assert episodes.read(tmp_path / "2.json") is None


def test_picture_of_a_flight(tmp_path):
    flight = {"arrival": True, "step": [0, 3], "xy_nm": [[0, 0], [5, 5]], "altitude_ft": [9000, 8000]}
    shown = {
        "airspace": [[[-30, -30], [30, -30], [0, 40]]], "routes": [[[0, 0], [20, 20]]], "ceiling_ft": 10000.0,
        "runways": [[0, 0, 1.0]], "flights": [flight],
    }  # fmt: skip
    radar.draw({"one": shown, "two": {**shown, "flights": []}}, tmp_path / "radar.png")
    from matplotlib import image

    pixels = image.imread(tmp_path / "radar.png")
    left, _ = np.array_split(pixels[..., :3], [round(pixels.shape[1] * 0.42)], axis=1)
    colour = lambda half: (np.ptp(half, axis=-1) > 0.2).sum()  # noqa: E731
    assert colour(left) > 50  # the flight; the scale's colours are in the right part
    radar.draw({"one": {**shown, "flights": []}, "two": {**shown, "flights": []}}, tmp_path / "empty.png")
    assert colour(image.imread(tmp_path / "empty.png")[:, : left.shape[1], :3]) == 0


def test_the_shipped_controller_is_a_policy_by_name():
    shipped, by_folder = (players.make(given, 32) for given in ("shipped", str(players.SHIPPED)))
    assert (shipped.name, by_folder.name) == ("shipped", "policy")
    assert shipped.digest == by_folder.digest


def test_a_share_after_the_name_sets_how_often_a_policy_errs():
    often, usual = (players.make(given, 8) for given in ("perturbed:0.4", "perturbed"))
    assert often.params.epsilon == 0.4
    assert (often.name, usual.name) == ("perturbed_0_4", "perturbed")
    assert often.digest != usual.digest
    assert players.make("dangerous:0.5", 8).params.epsilon == 0.5
    assert players.make("random:0.9", 8).params.noop_share == 0.9


@pytest.mark.parametrize("given", ["perturbed:", "perturbed:1.5", "random:-1", "perturbed:much", "noop:0.5"])
def test_a_share_that_makes_no_sense_is_refused_in_one_line(given):
    with pytest.raises(ValueError, match="0 to 1, can follow the colon after random, perturbed, dangerous"):
        players.make(given, 8)


def test_asking_about_the_slots_in_use_changes_no_action():
    rows = bundle.load_bundle().rows.observation
    there = np.asarray(rows["aircraft_mask"])
    used = there.shape[1] - np.argmax(there[:, ::-1], 1)
    chosen = np.concatenate([np.flatnonzero(used <= 8)[:15], np.flatnonzero((used > 8) & (used <= 16))[:15]])
    made = players.SCRIPTED["expert"]
    whole = players.Player("expert", *made.make(32), made.modules)
    part = players.make("expert", 32)
    for player in (whole, part):
        player.reset(0)
    actions = []
    for row in chosen:
        seen = jax.tree.map(lambda leaf, row=row: np.asarray(leaf[row]), rows)
        actions.append(part(seen))
        np.testing.assert_array_equal(actions[-1], whole(seen))
    slots = [action[0] for action in actions]
    assert len(chosen) == 30
    assert 32 in slots  # no command is the same number for both
    assert min(slots) < 32


SHORT = ["--minutes", "2", "--episodes", "2", "--pages", "1", "--airport", "kabq"]


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory):
    """A cache in which an evaluation was killed in its second episode."""
    cache = tmp_path_factory.mktemp("cache")
    config = cli.parse(EvaluationConfig, [*SHORT, "--policies", "noop", "--cache", str(cache)])
    world, player = in_game.real_world(config), players.make("noop", 32)
    done = 0

    def killed_in_the_second(decisions):
        nonlocal done
        done += decisions
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(episodes.play_missing(config, world, player, eval_policy.seeds_of(config), killed_in_the_second))
    return cache


@pytest.mark.openscope
def test_the_real_game_two_policies_and_resuming(monkeypatch, cut_short, tmp_path, capsys):
    kept = list(cut_short.rglob("*.json"))
    assert [path.name for path in kept] == ["600000.json"]
    before = kept[0].stat().st_mtime_ns
    arguments = [*SHORT, "--policies", "noop", "random", "--cache", cut_short, "--out", tmp_path]
    run(monkeypatch, *arguments)
    assert kept[0].stat().st_mtime_ns == before
    assert len(list(cut_short.rglob("*.json"))) == 4
    results = json.loads((tmp_path / "results.json").read_text())
    noop, random = results["episodes"]["real"]["noop"], results["episodes"]["real"]["random"]
    assert [e["seed"] for e in noop] == [e["seed"] for e in random] == [600000, 600001]
    assert not any(e["commands"] for e in noop)
    assert all(e["commands"] > 3 and not e["illegal"] and not e["refusals"] for e in random)
    assert results["figures"]["return_real_random_kabq"]["n"] == 2
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    shown = (tmp_path / "view.html").read_text()
    assert all(f"KABQ real game, {name}, seed 600000" in shown for name in ("noop", "random"))
    # Equal seeds start with equal traffic; commands make it differ later.
    first = [json.loads(p.read_text())["picture"] for p in sorted(cut_short.rglob("600000.json"))]
    starts, ends = (
        [[(f["xy_nm"][i], f["altitude_ft"][i]) for f in shown["flights"] if f["step"]] for shown in first]
        for i in (0, -1)
    )
    assert len(starts[0]) > 2
    assert starts[0] == starts[1]
    assert ends[0] != ends[1]
    # Everything is there: the same command plays nothing and says the same.
    monkeypatch.setenv("OPENSCOPE_URL", "http://127.0.0.1:9")
    run(monkeypatch, *arguments[:-1], tmp_path / "again")
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["figures"] == results["figures"]


@pytest.mark.openscope
def test_an_airport_the_game_does_not_have(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *SHORT[:-1], "zzzz", "--policies", "noop", "--cache", tmp_path, "--out", tmp_path)
    assert 'airport "zzzz" is unknown in this game' in capsys.readouterr().err


@pytest.mark.openscope
def test_pages_play_as_one_page_does(cut_short):
    config = cli.parse(EvaluationConfig, [*SHORT[:4], "--pages", "2", "--cache", str(cut_short)])
    world, player = in_game.real_world(config), players.make("noop", 32)
    found = dict(world.play(player, [600000, 600001], lambda decisions: None))
    kept = episodes.read(world.path(config, player, 600000))  # played by one page
    for name in ("return", "events", "aircraft", "flight_hours", "picture"):
        assert found[600000][name] == kept[name]
    assert found[600001]["aircraft"] > 2


@pytest.fixture
def broken(monkeypatch):
    """A game that fails with the seeds given to it: with `starting` while it starts, with `playing` later.

    With `hanging` its browser hangs.
    """
    from collect import game, page

    original, seeds = game.bridge_script, {"starting": (), "playing": (), "hanging": ()}

    def script(config):
        throws = "Math.random = () => { if (window.prop) throw new Error('no such fleet'); return 0.5; };"
        return original(config) + (throws if config["seed"] in seeds["starting"] else "")

    def step(self, *given, **options):
        if self._settings["seed"] in seeds["hanging"] and self.snapshot.time_s > 30.0:
            raise self._browser.give_up("the browser did not answer")
        if self._settings["seed"] in seeds["playing"] and self.snapshot.time_s > 30.0:
            self._browser.run(self.page.evaluate("() => { throw new Error('GameFault: no route') }"), 10.0)
        return play_on(self, *given, **options)

    play_on = game.Game.step
    monkeypatch.setattr(game, "bridge_script", script)
    monkeypatch.setattr(page, "FAILED_S", 1.0)
    monkeypatch.setattr(game.Game, "step", step)
    return seeds


@pytest.mark.openscope
def test_a_seed_that_the_game_fails_with_is_left_out_and_named(monkeypatch, tmp_path, capsys, broken):
    broken["starting"], broken["playing"] = (600001,), (600002,)
    arguments = ["--minutes", "1", "--episodes", "4", "--policies", "noop", "--cache", tmp_path / "cache"]
    run(monkeypatch, *arguments, "--out", tmp_path / "out")
    notes = [line for line in capsys.readouterr().err.splitlines() if "is left out" in line]
    assert len(notes) == 2
    assert any("seed 600001 of noop is left out" in note and "no such fleet" in note for note in notes)
    assert any("seed 600002 of noop is left out" in note and "no route" in note for note in notes)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["figures"]["return_real_noop_kabq"]["n"] == 2
    assert [e["seed"] for e in results["episodes"]["real"]["noop"] if "fault" in e] == [600001, 600002]
    assert "| 2 (2 failed) |" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.openscope
def test_a_seed_whose_browser_hangs_each_time_is_left_out_until_the_next_run(
    monkeypatch, tmp_path, capsys, broken
):
    broken["hanging"] = (600001,)
    arguments = ["--minutes", "1", "--episodes", "3", "--policies", "noop", "--cache", tmp_path / "cache"]
    run(monkeypatch, *arguments, "--out", tmp_path / "out")
    assert "seed 600001 of noop is left out: the browser did not answer" in capsys.readouterr().err
    assert "| 2 (1 failed) |" in (tmp_path / "out" / "table.md").read_text()
    broken["hanging"] = ()
    run(monkeypatch, *arguments, "--out", tmp_path / "again")
    assert "| noop | 3 |" in (tmp_path / "again" / "table.md").read_text()


@pytest.mark.openscope
def test_a_game_that_fails_with_every_seed_is_an_error(monkeypatch, tmp_path, capsys, broken):
    broken["starting"] = (600000,)
    arguments = ["--minutes", "1", "--episodes", "1", "--policies", "noop", "--cache", tmp_path / "cache"]
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments, "--out", tmp_path / "out")
    assert "the game fails with every seed of noop; 600000: the game fails" in capsys.readouterr().err
