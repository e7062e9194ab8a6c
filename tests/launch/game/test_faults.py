"""The soak tells growth from noise, the drill tells what was lost, and a relay that is cut refuses."""

import http.server
import json
import subprocess
import sys
import threading
import urllib.request

import pytest

from configs.game_checks import Faults, Plan, Soak
from launch import check_game
from launch.game import faults as game_faults
from launch.game import plan as game_plan
from launch.game import soak as game_soak
from launch.game.faults import FAULTS, Forwarder


def sample(s: float, mb: float) -> dict:
    return {"s": s, "episodes": 1, "mb": mb, "by_kind": {"page": mb / 2, "python": mb / 4, "browser": mb / 4}}


def test_growth_is_what_the_last_fifth_has_more_than_the_second():
    flat = [sample(60.0 * t, 800.0 + (400.0 if t < 15 else 0.0) + t % 3) for t in range(1, 101)]
    growing = [sample(60.0 * t, 800.0 + 2.0 * t) for t in range(1, 101)]
    level, rise = (game_soak.figures(rows, Soak())["soak_growth_mb"] for rows in (flat, growing))
    assert level.low < 0 < level.high
    assert abs(level.value) < 1
    assert rise.value == pytest.approx(120.0, abs=1.0)  # from the 30th to the 90th
    assert rise.low > 100
    assert rise.n == 41


def test_a_soak_says_what_is_wrong():
    rows = [sample(60.0 * t, 800.0) for t in range(1, 11)]
    good = {"validate": [], "status": 1, "episodes": 10}
    assert game_soak.faults(good, rows, Soak()) == []
    assert "status None" in game_soak.faults(good | {"status": None}, rows, Soak())[0]
    assert "torn" in game_soak.faults(good | {"validate": ["torn"]}, rows, Soak())[0]
    assert "too few" in game_soak.faults(good | {"episodes": 3}, rows[:3], Soak())[-1]
    assert game_soak.figures(rows[:3], Soak()) == {}
    with pytest.raises(ValueError, match="two hours or more"):
        Soak(record="recorder", hours=0.1)


ROW = {
    **{"fault": "page_hung", "mended": True, "status": 0, "said": "", "status_again": None, "lost": []},
    **{"faults": [], "episodes": 6, "wanted": 6},
}
ENDED = ROW | {"fault": "sigterm", "mended": False, "status": 1, "status_again": 0}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (ROW | {"status": 1, "said": "error: gone", "status_again": 0}, "status 1: error: gone"),
        (ENDED | {"status": 0}, "ended with status 0"),
        (ENDED | {"status_again": 1, "episodes": 4}, "4 of 6 episodes in the end"),
        (ROW | {"lost": ["a"]}, "a was acknowledged and is lost"),
        (ROW | {"faults": ["a: torn"]}, "a: torn"),
    ],
)
def test_what_a_fault_must_not_do_is_named_and_counted(row, text):
    assert game_faults.problems([ROW, ENDED]) == []
    assert text in game_faults.problems([ROW, row])[0]
    figures = game_faults.figures([ROW, ENDED, row])
    counts = [figures[f"faults_{name}"].value for name in ("tried", "failed", "lost")]
    assert counts == [3, 1, len(row["lost"])]


def test_a_relay_passes_on_until_it_is_cut(tmp_path):
    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        relay = Forwarder(f"http://127.0.0.1:{server.server_port}")
        with urllib.request.urlopen(relay.url) as answer:
            assert answer.read() == b"here"
        relay.cut()
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(relay.url)
        server.shutdown()
    with pytest.raises(ValueError, match="of a game of your own"):
        Forwarder("https://www.openscope.co")


def test_a_signal_reaches_only_its_kind():
    """Two children: one whose command line looks like a page of the browser's, and one that does not."""
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', {}])"
    page = child.format("'--type=' + 'renderer'")  # in two parts, for this text is on a command line as well
    start = f"import subprocess, sys; page = {page}; other = {child.format(repr('other'))}"
    start += "; print(1, flush=True); page.wait(); print(other.poll(), flush=True); other.kill()"
    with subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        FAULTS["page_crashed"].inject(process, None)
        assert process.stdout.readline() == "None\n"  # the page's end was seen, the other lives
        assert process.wait() == 0


def test_a_plan_is_whole_or_says_what_is_missing(tmp_path):
    found = {"status": 0, "episodes": 100, "decisions": 72_000, "bytes": 4e9, "seconds": 3600, "validate": []}
    figures = game_plan.figures(found, Plan())
    assert [figures[f"plan_seed_{name}"].value for name in ("game_hours", "minutes", "mb")] == [100, 60, 4000]
    assert game_plan.faults(found, Plan()) == []
    assert "99 of 100 episodes" in game_plan.faults(found | {"episodes": 99}, Plan())[0]
    assert "torn" in game_plan.faults(found | {"validate": ["a: torn"]}, Plan())[0]
    with pytest.raises(ValueError, match="plan 'sead' must be one of"):
        game_plan.run(Plan(plan="sead"), tmp_path)


def test_unknown_faults_and_wrong_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fault 'flood' must be one of"):
        game_faults.run(Faults(faults=("flood",)), tmp_path)
    with pytest.raises(ValueError, match="faults is empty"):
        Faults(faults=())
    assert Faults(record="recorder").minutes == 2


@pytest.mark.openscope
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["page_crashed", "server_gone", "disk_full"])
def test_a_broken_recording_loses_nothing(tmp_path, fault):
    out = tmp_path / "out"
    arguments = ["--faults", fault, "--episodes", "3", "--minutes", "1", "--out", str(out)]
    check_game.main(["faults", *arguments])
    results = json.loads((out / "results.json").read_text())
    assert results["faults"] == []
    assert results["figures"]["faults_tried"]["value"] == 1
    assert results["figures"]["faults_lost"]["value"] == 0
