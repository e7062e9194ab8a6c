"""The benchmark's record and its picture, from the rows that were measured."""

from pathlib import Path

from launch.shared.records import Figure
from launch.shared.speed import Row

Rows = dict[str, Row]


def sectors(rows: Rows) -> dict[int, Row]:
    """Rows of the environment alone by number of sectors."""
    found = {name.removeprefix("env_"): row for name, row in rows.items() if name.startswith("env_")}
    return {int(number): found[number] for number in sorted(found, key=len) if number.isdigit()}


def _figure(row: Row, scale: float = 1.0) -> Figure:
    unit, repeats = str(row["unit"]), int(row["repeats"])
    return Figure(row["median"] * scale, row["low"] * scale, row["high"] * scale, unit, repeats)


def _ratio(above: Row, below: Row, unit: str = "x", scale: float = 1.0) -> Figure:
    """How many times `above` is as much as `below`, from the least to the most that the repeats allow."""
    values = [above["median"] / below["median"], above["low"] / below["high"], above["high"] / below["low"]]
    return Figure(*(value * scale for value in values), unit, int(min(above["repeats"], below["repeats"])))


def figures(rows: Rows) -> dict[str, Figure]:
    """The figures that the rows allow, by name."""
    found = {}
    by_sectors = sectors(rows)
    if by_sectors:
        best = max(by_sectors.values(), key=lambda row: row["median"])
        found["env_steps_per_s"] = _figure(best)
        if "bound_s" in rows:
            least = rows["bound_s"]["median"]  # of one step of one sector
            found["roofline_share"] = Figure(*(best[k] * least for k in ("median", "low", "high")), "",
                                             int(best["repeats"]))  # fmt: skip
    names = {
        "slots_20": "env_steps_per_s_20", "slots_64": "env_steps_per_s_64",
        "env_all_airports": "env_steps_per_s_all_airports",
        "rollout": "env_policy_steps_per_s", "ppo": "env_ppo_steps_per_s",
        "ppo_1_epoch_4_minibatches": "env_ppo_steps_per_s_1_epoch",
        "ppo_shipped_network": "env_ppo_steps_per_s_shipped_network",
        "first_step_cold": "first_step_cold_s", "first_step_cached": "first_step_cached_s",
        "ppo_10m": "ppo_10m_s",
    }  # fmt: skip
    found |= {figure: _figure(rows[row]) for row, figure in names.items() if row in rows}
    if {8192, 131072} <= by_sectors.keys():
        found["cost_ratio_sectors"] = _ratio(by_sectors[8192], by_sectors[131072])
    if {"slots_32", "slots_64"} <= rows.keys():
        found["cost_ratio_slots"] = _ratio(rows["slots_32"], rows["slots_64"])
    for devices in (2, 4):
        if {"ppo_d1", f"ppo_d{devices}"} <= rows.keys():
            found[f"scaling_{devices}_gpus"] = _ratio(rows[f"ppo_d{devices}"], rows["ppo_d1"])
        if {"ppo_d1", f"ppo_strong_d{devices}"} <= rows.keys():
            found[f"scaling_{devices}_gpus_strong"] = _ratio(rows[f"ppo_strong_d{devices}"], rows["ppo_d1"])
    return found


def draw(rows: Rows, path: Path) -> None:
    """Steps per second over the number of sectors, with what the hardware allows; and the parts of a step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    by_sectors = sectors(rows)
    parts = {name.removeprefix("step_"): row for name, row in rows.items() if name.startswith("step_")}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    if by_sectors:
        left.plot(list(by_sectors), [row["median"] for row in by_sectors.values()], "o-", label="environment")
    for name, label in (("rollout", "with a policy"), ("ppo", "with PPO")):
        if name in rows:
            left.axhline(rows[name]["median"], ls=":", label=label)
    if "bound_s" in rows:
        left.axhline(1 / rows["bound_s"]["median"], color="k", lw=1, label="roofline")
    left.set(xscale="log", yscale="log", xlabel="sectors", ylabel="steps a second")
    left.legend()
    right.barh(list(parts), [row["median"] for row in parts.values()])
    right.invert_yaxis()
    right.set_xlabel("ms a step")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
