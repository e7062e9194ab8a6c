"""Train the state world model on recordings and judge it on episodes it has not seen.

    python -m launch.train_wm --data runs/recordings/train --test runs/recordings/test --out runs/wm

    python -m launch.train_wm shipped --out runs/wm-shipped

The same command goes on where it stopped. The run folder receives

    config.json     what was asked for
    metrics.jsonl   losses, a line per call of the compiled update
    tensorboard/    the same numbers, for TensorBoard
    curves.png      the same, drawn
    model/          the world model, for gymnax.make and --checkpoint
    overlay.png     unseen hours, recorded and imagined
    results.json    fidelity on unseen hours, versions
    resume/         everything needed to go on as if nothing had happened
"""

import dataclasses
import hashlib
import sys
import time
from functools import partial
from pathlib import Path

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from collect import dataset
from configs import cli
from configs.world_model import PRESETS, WorldModelConfig
from launch import eval_wm
from launch.eval_wm import SHIPPED, load_recordings
from launch.shared import overlay, parallel, runs, training
from launch.shared.training import Folder, TrainingError
from wm.sector import airport as ap
from wm.sector.recording import Recording
from wm.state import bundle, fit, labels, support
from wm.state import network as net

NOT_FINITE = (
    "lower --learning-rate, or check the recordings with python -m launch.validate, and choose another --out"
)


def training_data(tables: list, recorded: list[list[Recording]], members: int, seed: int) -> fit.Data:
    """Rows of all episodes, with a bootstrap of the episodes for every member."""
    parts, episode = [], []
    for airport, recordings in zip(tables, recorded, strict=True):
        for recording in runs.track(recordings, "episode"):
            rows = fit.compact(labels.rows_of(recording, airport))
            episode.append(np.full(len(rows.features), len(parts), np.int32))
            parts.append(rows)
    rng = np.random.default_rng(seed)
    weights = rng.poisson(1.0, (members, len(parts))).astype(np.float32)
    weights[0] = 1.0  # one member has seen everything once
    return fit.Data(
        rows=labels.concatenate(parts),
        episode=np.concatenate(episode),
        bootstrap=weights,
    )


def shard(data: fit.Data, devices: int, seed: int) -> fit.Data:
    """Shuffle the rows and deal them to devices, `[D, n, ...]`; what does not divide is dropped."""
    rng = np.random.default_rng(seed)

    def deal(tree, total):
        order = rng.permutation(total)[: total // devices * devices]
        return jax.tree.map(lambda x: x[order], tree)

    total = len(data.episode)
    rows, episode = deal((data.rows, data.episode), total)
    dealt = fit.Data(
        rows=rows,
        episode=episode,
        bootstrap=np.tile(data.bootstrap, (devices, 1)),
    )
    return parallel.split(dealt, devices)


def fingerprint(data: fit.Data) -> str:
    """Tells training data apart: a SHA-256 of every row in its order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((data.rows, data.episode)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def model_config(config: WorldModelConfig) -> dict:
    """What decides the world model, besides the recordings."""
    kept = cli.to_json(config)
    elsewhere = ("out", "data", "test", "backend", "devices", "save_every", "wandb")
    return {name: kept[name] for name in kept if name not in elsewhere}


def train(config: WorldModelConfig, data: fit.Data, folder: Folder) -> fit.FitState:
    """Run the optimiser to the end, from the newest checkpoint if there is one."""
    devices = len(parallel.devices(config.devices))
    size = training.per_device(config.out, config.batch, devices, "rows of a step")
    sized = dataclasses.replace(config, batch=size)
    optimizer = fit.make_optimizer(sized)
    features = data.rows.features.shape[-1]
    state = fit.initial_state(sized, features, optimizer, jax.random.key(config.seed))
    state = parallel.replicate(folder.restore(state) if folder.begun else state, devices)
    update = parallel.wrap(
        partial(fit.update, config=sized, optimizer=optimizer, axis_name=parallel.AXIS),
        config.backend,
        devices,
        donate_argnums=(0,),
    )
    carry = shard(data, devices, config.seed)
    metadata = {training.ALL_DEVICES: size * devices}
    save = lambda step: folder.save(step, parallel.unreplicate(state), metadata)  # noqa: E731
    keep = lambda line: line["step"] <= folder.done  # noqa: E731
    progress = runs.progress(config.steps, "step", folder.done)
    with folder.log(keep, NOT_FINITE, config.wandb) as log, progress as line:
        for step in range(folder.done + config.inner, config.steps + 1, config.inner):
            key = jax.random.fold_in(jax.random.key(config.seed + 1), step - config.inner)
            state, carry, metrics = update(state, carry, parallel.shard_keys(key, devices), None)
            metrics = {n: float(v) for n, v in metrics.items()}
            log.write({"step": step, **metrics})
            line.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
            line.update(config.inner)
            folder.checkpoint(step, step % (config.inner * config.save_every) == 0, partial(save, step))
    return parallel.unreplicate(state)


def draw(folder: Folder) -> None:
    """Losses over steps."""
    lines = folder.lines()
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name in ("loss", *net.CATEGORICAL):
        axes.semilogy([x["step"] for x in lines], [max(x[name], 1e-6) for x in lines], label=name)
    axes.set(xlabel="optimiser step", ylabel="negative log likelihood", title="world model")
    axes.legend(ncol=3, fontsize=7)
    figure.tight_layout()
    figure.savefig(folder.path / "curves.png", dpi=120)
    plt.close(figure)


def judge(config: WorldModelConfig, weights: dict, recorded: list[list[Recording]], picture: Path) -> dict:
    """Fidelity on hours it has not seen, at the airports that have any, with a picture of them."""
    paths = config.test or (SHIPPED / "test",)
    there = {episode.icao for episode in dataset.load(list(paths), "test")}
    test = load_recordings(paths, [i for i in config.airports if i in there] or config.airports, "test")
    # The test hours may fly routes that no training hour did: their tables hold both.
    seen = {icao: recorded[config.airports.index(icao)] for icao in test}
    widest = max(one.slots.shape[1] for group in (*seen.values(), *test.values()) for one in group)
    both = {i: [dataset.widened(one, widest) for one in (*seen[i], *test[i])] for i in test}
    held_out = {i: (table, r[len(seen[i]) :]) for i, (table, r) in eval_wm.tables_of(both).items()}
    brief = eval_wm.brief(eval_wm.judge(weights, held_out))
    overlay.draw(weights, held_out, picture)
    return brief


def run(config: WorldModelConfig) -> dict:
    """Load, train, save, judge; returns fidelity by airport."""
    begin = time.perf_counter()
    if (config.out / "fit").exists():
        raise TrainingError(f"{config.out} holds a run of an earlier version: choose another --out")
    recorded = load_recordings(config.data or (SHIPPED / "train",), config.airports, "train")
    known = eval_wm.tables_of(recorded)
    tables, recorded = [a for a, _ in known.values()], [r for _, r in known.values()]
    data = training_data(tables, recorded, config.members, config.seed)
    print(f"{len(data.episode):,} aircraft-steps of {data.bootstrap.shape[1]} episodes")
    known_by = fingerprint(data)
    with training.hold(config.out, model_config(config) | {"data": known_by}, config.steps, "step") as folder:
        folder.write_config(config)
        state = train(config, data, folder)
        names = bundle.names_of(recorded[0][0].scene, ap.stack(tables))["features"]
        weights = support.with_support(state.weights, data.rows, names)
        params = bundle.build(weights, tables, recorded, config.rows, config.slots)
        seeds = {i: sorted(r.seed for r in rs) for i, rs in zip(config.airports, recorded, strict=True)}
        metadata = {"data_fingerprint": known_by, "seeds": seeds}
        asked = model_config(config)
        folder.product("model", lambda path: bundle.save_bundle(path, params, asked, metadata))
        draw(folder)
        brief = judge(config, weights, recorded, folder.path / "overlay.png")
        seconds = time.perf_counter() - begin
        folder.write_results({"fidelity": brief, "seconds": seconds, "seeds": seeds})
    return brief


def main(argv: list[str] | None = None) -> None:
    """Train, and print the fidelity."""
    config = cli.parse_preset(WorldModelConfig, PRESETS, argv)
    with training.ends(dataset.DataError):
        brief = run(config)
    eval_wm.show(brief)


if __name__ == "__main__":
    main(sys.argv[1:])
