"""Judge a world model on recorded hours it has not seen.

    python -m launch.eval_wm --checkpoint runs/wm/model --test runs/recordings/test
    python -m launch.eval_wm --checkpoint runs/wm/model --airports kabq klas ksea --hours 30

Replays windows of the recordings with the recorded commands (wm.state.fidelity) and compares the model
with hand-written rules, with constant velocity and with its own network re-initialised. Asks what the model
foresees: landings, hand-offs, losses, commands and spawns (wm.state.foresight). With --hours, the same
policies play whole hours in the real game and in the model, and every term and count is compared
(launch.shared.hours). Writes results.json, errors.png, overlay.png, hours.md, hours.png and
view-AIRPORT.html (launch.view).
"""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from collect import GameError, dataset
from configs import cli
from configs.evaluation import WorldModelEvaluation
from launch.shared import foreseen, overlay, records, runs
from wm.sector import airport as ap
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.traffic import Scene
from wm.state import bundle, fidelity, labels
from wm.state import network as net
from wm.store.checkpoints import CheckpointError

SHIPPED = Path(dataset.__file__).parent / "data" / "shipped"
KINDS = {
    "model": "",
    "rules": "_rules",
    "constant_velocity": "_constant_velocity",
    "reinitialised_model": "_reinitialised",
}


def load_recordings(paths, airports, use: str) -> dict[str, list[Recording]]:
    """Recordings by airport, in the order of `airports`; raises DataError where one has none.

    All have equally many columns.
    """
    found: dict[str, list[Recording]] = {icao: [] for icao in airports}
    for episode in dataset.load(list(paths), use):
        if episode.icao in found:
            found[episode.icao].append(episode)
    for icao, episodes in found.items():
        if not episodes:
            raise dataset.DataError(
                f"no recording of {icao} for {use} under {', '.join(map(str, paths))}: record some "
                "or leave it out of --airports"
            )
    widest = max(episode.slots.shape[1] for episodes in found.values() for episode in episodes)
    return {icao: [dataset.widened(one, widest) for one in episodes] for icao, episodes in found.items()}


def tables_of(recorded: dict[str, list[Recording]]) -> dict[str, tuple[Airport, list[Recording]]]:
    """Each airport's tables and its recordings with the route ids of these, in the same order.

    All tables and scenes have the same shapes, so that what is compiled for one airport serves all.
    """
    merged = [labels.airport_of(recordings) for recordings in recorded.values()]
    stacked = ap.stack([airport for airport, _ in merged])
    runways, streams = stacked.runway_xy_nm.shape[1], stacked.stream_category.shape[1]
    return {
        icao: (
            jax.tree.map(np.asarray, ap.select(stacked, i)),
            [dataclasses.replace(r, scene=_with_places(r.scene, runways, streams)) for r in recordings],
        )
        for i, (icao, (_, recordings)) in enumerate(zip(recorded, merged, strict=True))
    }


def _with_places(scene: Scene, runways: int, streams: int) -> Scene:
    """A recorded scene `[T + 1, ...]` with places for so many runways and streams at least."""
    times, r = scene.runways.last_departure.shape
    more = tr.empty(tr.Runways, (times, max(runways - r, 0)), np)
    clocks = np.full((times, max(streams - scene.since_spawn_s.shape[1], 0)), -1.0, np.float32)
    return scene.replace(
        runways=jax.tree.map(lambda x, y: np.concatenate([x, y], 1), scene.runways, more),
        since_spawn_s=np.concatenate([scene.since_spawn_s, clocks], 1),
    )


def reinitialised(weights, seed: int = 99):
    """Fresh weights of the same shapes, `[M, ...]`."""
    network = net.network_of(weights)
    kernel = weights["params"]["embed"]["kernel"]
    init = jax.vmap(lambda key: network.init(key, jnp.zeros((1, kernel.shape[-2]))))
    return init(jax.random.split(jax.random.key(seed), kernel.shape[0]))


def judge(weights, held_out: dict) -> dict:
    """Fidelity by airport; `held_out` maps an ICAO code to (Airport, recordings)."""
    # Both on the host: trained weights may be spread over devices, and one program serves what lies alike.
    weights, fresh = jax.device_get((weights, reinitialised(weights)))
    report = {}
    for icao, (airport, recordings) in held_out.items():
        lost = fidelity.evaluate(fresh, airport, recordings)
        report[icao] = fidelity.evaluate(weights, airport, recordings) | {
            f"reinitialised_{k}": v for k, v in lost.items() if k.startswith("model_")
        }
    return report


def brief(report: dict) -> dict:
    """A report without its single errors."""
    return {
        icao: {k: {n: v for n, v in e.items() if n != "errors_nm"} for k, e in rows.items()}
        for icao, rows in report.items()
    }


def show(short: dict) -> None:
    """Print a report, a line per row."""
    for icao, rows in short.items():
        for name, row in rows.items():
            print(icao, f"{name:40s}", "  ".join(f"{n} {v:.4g}" for n, v in row.items()))


def errors_of(report: dict, kind: str, seconds: int) -> np.ndarray:
    """Errors (nm) of commanded aircraft, all airports together."""
    key = f"{kind}_commanded_{seconds}s"
    return np.concatenate([np.asarray(rows[key]["errors_nm"]) for rows in report.values()])


def figures(report: dict) -> dict[str, records.Figure]:
    """Headline figures of the record: commanded aircraft, all airports together."""
    out = {}
    for seconds in fidelity.HORIZONS_S:
        for kind, suffix in KINDS.items():
            errors = errors_of(report, kind, seconds)
            for q in (50, 95):
                out[f"position_p{q}_nm_{seconds}s{suffix}"] = records.bootstrap(
                    errors, "nm", seed=0, statistic=lambda e, q=q: np.percentile(e, q), resamples=2000
                )
    far = errors_of(report, "model", max(fidelity.HORIZONS_S)) > 1.0
    out[f"off_1nm_{max(fidelity.HORIZONS_S)}s"] = records.bootstrap(far, "", seed=0, resamples=2000)
    return out


def draw(report: dict, path: Path) -> None:
    """Cumulative distributions of the position error, model beside the yardsticks."""
    figure, axes = plt.subplots(1, len(fidelity.HORIZONS_S), figsize=(10, 4), sharey=True)
    for seconds, axis in zip(fidelity.HORIZONS_S, axes, strict=True):
        for kind in KINDS:
            errors = np.sort(np.maximum(errors_of(report, kind, seconds), 1e-4))
            axis.semilogx(errors, np.linspace(0, 1, len(errors)), label=kind.replace("_", " "))
        axis.set(xlabel=f"position error after {seconds} s (nm)", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of commanded aircraft")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Load, replay, report."""
    config = cli.parse(WorldModelEvaluation, argv)
    errors = (GameError, dataset.DataError, CheckpointError, ValueError, OSError)
    with runs.one_line_errors(*errors):
        model = bundle.load_bundle(config.checkpoint)
        weights = model.weights
        test = load_recordings(config.test or (SHIPPED / "test",), config.airports, "test")
        held_out = tables_of(test)
        report = judge(weights, held_out)
        config.out.mkdir(parents=True, exist_ok=True)
        draw(report, config.out / "errors.png")
        overlay.draw(weights, held_out, config.out / "overlay.png")
        show(brief(report))
        found = figures(report) | foreseen.figures(foreseen.ask(weights, held_out))
        if config.hours:
            from launch.shared import hours  # brings the real game's browser with it

            found |= hours.judge(config)
        results = {"fidelity": brief(report), "figures": {n: dataclasses.asdict(f) for n, f in found.items()}}
        runs.write_results(config.out, results)
        if config.record:
            records.write(config.record, found)


if __name__ == "__main__":
    main(sys.argv[1:])
