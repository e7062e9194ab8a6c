"""The benchmark: what its figures are made of, by hand, and rows of small environments."""

import json

import pytest

import launch.bench as bench
from launch.shared import bench_figures, records, speed


def row(median, unit="env-steps/s"):
    return {"median": median, "low": 0.9 * median, "high": 1.2 * median, "unit": unit, "repeats": 4}


def test_figures_are_rates_and_ratios_of_rows():
    rows = {
        **{"env_8192": row(2e6), "env_131072": row(4e6), "env_pmap": row(9e6)},  # by sectors, not by back-end
        **{"slots_32": row(3e6), "slots_64": row(1.5e6), "bound_s": row(1e-7, "s")},
        **{"ppo": row(1e6), "ppo_d1": row(1e6), "ppo_d2": row(1.9e6), "first_step_cold": row(20.0, "s")},
    }
    found = bench_figures.figures(rows)
    values = {name: figure.value for name, figure in found.items()}
    assert values == pytest.approx({
        "env_steps_per_s": 4e6,
        "roofline_share": 0.4,  # 4e6 steps a second of 1e-7 s each
        "env_steps_per_s_64": 1.5e6,
        "env_ppo_steps_per_s": 1e6,
        "first_step_cold_s": 20.0,
        "cost_ratio_sectors": 0.5,
        "cost_ratio_slots": 2.0,
        "scaling_2_gpus": 1.9,
    })  # fmt: skip
    assert (found["scaling_2_gpus"].low, found["scaling_2_gpus"].high) == pytest.approx(
        (0.9 * 1.9 / 1.2, 1.2 * 1.9 / 0.9)
    )


def test_peers_are_measured_and_rows_of_earlier_parts_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "PEERS", ("CartPole-v1",))
    (tmp_path / "results.json").write_text(json.dumps({"rows": {"env_8192": row(2e6)}}))
    monkeypatch.setattr(records.write, "__defaults__", (tmp_path / "records",))
    small = ["--at", "16", "--steps", "2", "--rollout-length", "4", "--repeats", "3", "--record", "tiny"]
    bench.main([*small, "--parts", "peers", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert rows.keys() == {"env_8192", "peer_CartPole-v1", "peer_CartPole-v1_ppo"}
    assert 0 < rows["peer_CartPole-v1_ppo"]["low"] <= rows["peer_CartPole-v1_ppo"]["median"]
    assert rows["peer_CartPole-v1"]["compile_s"] > 0
    assert (tmp_path / "speed.png").exists()
    assert records.read("tiny", tmp_path / "records")["figures"]["env_steps_per_s"]["value"] == 2e6


def test_ceilings_are_positive_rates():
    rows = speed.ceilings(side=64, floats=1 << 12)
    assert rows.keys() == {"matmul_bfloat16", "matmul_float32", "copy"}
    assert all(0 < r["low"] <= r["median"] <= r["high"] for r in rows.values())
