"""Train the state world model on recordings and judge it on episodes it has not seen.

    python -m launch.train_wm --data runs/recordings/train --test runs/recordings/test --out runs/wm

Writes into --out: config.json, metrics.jsonl (losses), fit/ (checkpoints to resume from), model/
(the world model for gymnax.make), curves.png, overlay.png and results.json (fidelity). The same
command resumes a run that was cut off.
"""

import hashlib
import json
import sys
import time
from functools import partial

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from collect import dataset
from configs import cli
from configs.world_model import WorldModelConfig
from launch import eval_wm
from launch.eval_wm import SHIPPED, load_recordings
from launch.shared import overlay, parallel, runs
from wm.sector.recording import Recording
from wm.state import bundle, fit, labels
from wm.state import network as net
from wm.store import checkpoints


def training_data(tables: list, recorded: list[list[Recording]], members: int, seed: int) -> fit.Data:
    """Rows of all episodes, with a bootstrap of the episodes for every member."""
    parts, episode, spawns = [], [], []
    for airport, recordings in zip(tables, recorded, strict=True):
        for recording in runs.track(recordings, "episode"):
            rows = fit.compact(labels.rows_of(recording, airport))
            episode.append(np.full(len(rows.features), len(parts), np.int32))
            parts.append(rows)
            spawns.append(fit.spawn_rows(recording, airport))
    rng = np.random.default_rng(seed)
    weights = rng.poisson(1.0, (members, len(parts))).astype(np.float32)
    weights[0] = 1.0  # one member has seen everything once
    return fit.Data(
        rows=labels.concatenate(parts),
        episode=np.concatenate(episode),
        bootstrap=weights,
        spawns=jax.tree.map(lambda *xs: np.concatenate(xs), *spawns),
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
        spawns=deal(data.spawns, len(data.spawns.spawned)),
    )
    return parallel.split(dealt)


def fingerprint(data: fit.Data) -> str:
    """Tells training data apart: a SHA-256 of every row in its order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((data.rows, data.episode, data.spawns)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def save_state(config: WorldModelConfig, state: fit.FitState, step: int) -> None:
    """A checkpoint of the run, to go on from."""
    checkpoints.save(config.out / "fit", step, state, run_config(config), keep=2)


def run_config(config: WorldModelConfig) -> dict:
    """The part of the configuration that a resumed run has to share."""
    kept = cli.to_json(config)
    return {k: kept[k] for k in kept if k not in ("out", "data", "test", "backend", "save_every")}


def train(config: WorldModelConfig, data: fit.Data) -> fit.FitState:
    """Run the optimiser to `config.steps`, from the newest checkpoint of --out if there is one."""
    devices = len(parallel.devices())
    optimizer = fit.make_optimizer(config)
    features = data.rows.features.shape[-1]
    state = fit.initial_state(config, features, optimizer, jax.random.key(config.seed))
    done = checkpoints.latest_step(config.out / "fit") or 0
    if done:
        state = checkpoints.restore(config.out / "fit", state, done, run_config(config))
    update = parallel.wrap(
        partial(fit.update, config=config, optimizer=optimizer, axis_name=parallel.AXIS),
        config.backend,
        donate_argnums=(0,),
    )
    state = parallel.replicate(state)
    carry = shard(data, devices, config.seed)
    log = runs.reopen_log(config.out / "metrics.jsonl", lambda line: line["step"] <= done)
    with log, runs.progress(config.steps, "step", done) as line:
        for step in range(done, config.steps, config.inner):
            key = jax.random.fold_in(jax.random.key(config.seed + 1), step)
            state, carry, metrics = update(state, carry, parallel.shard_keys(key), None)
            metrics = {n: float(v) for n, v in metrics.items()}
            if not np.isfinite(metrics["loss"]):
                raise FloatingPointError(
                    f"the loss is {metrics['loss']} at step {step}: lower --learning-rate, or check "
                    "the recordings with python -m launch.validate"
                )
            log.write(json.dumps({"step": step + config.inner, **metrics}) + "\n")
            line.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
            line.update(config.inner)
            if (step + config.inner) % (config.inner * config.save_every) == 0:
                save_state(config, parallel.unreplicate(state), step + config.inner)
    return parallel.unreplicate(state)


def draw(config: WorldModelConfig) -> None:
    """Losses over steps."""
    lines = [json.loads(x) for x in (config.out / "metrics.jsonl").read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name in ("loss", *net.CATEGORICAL, "spawn"):
        axes.semilogy([x["step"] for x in lines], [max(x[name], 1e-6) for x in lines], label=name)
    axes.set(xlabel="optimiser step", ylabel="negative log likelihood", title="world model")
    axes.legend(ncol=3, fontsize=7)
    figure.tight_layout()
    figure.savefig(config.out / "curves.png", dpi=120)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Load, train, judge, save."""
    config = cli.parse(WorldModelConfig, argv)
    errors = (dataset.DataError, checkpoints.CheckpointError, FloatingPointError, ValueError, OSError)
    with runs.one_line_errors(*errors):
        begin = time.perf_counter()
        recorded = load_recordings(config.data or (SHIPPED / "train",), config.airports, "train")
        config.out.mkdir(parents=True, exist_ok=True)
        runs.write_config(config.out / "config.json", config)
        merged = [labels.airport_of(r) for r in recorded.values()]
        tables, recorded = [a for a, _ in merged], [r for _, r in merged]
        data = training_data(tables, recorded, config.members, config.seed)
        print(f"{len(data.episode):,} aircraft-steps of {data.bootstrap.shape[1]} episodes")
        state = train(config, data)
        if checkpoints.latest_step(config.out / "fit") != config.steps:
            save_state(config, state, config.steps)
        params = bundle.build(
            state.weights, state.hazard, tables, recorded, config.rows, config.slots
        )
        seeds = {i: sorted(r.seed for r in rs) for i, rs in zip(config.airports, recorded, strict=True)}
        metadata = {"data_fingerprint": fingerprint(data), "seeds": seeds}
        bundle.save_bundle(config.out / "model", params, run_config(config), metadata)
        draw(config)
        test = load_recordings(config.test or (SHIPPED / "test",), config.airports, "test")
        # The test hours may fly routes that no training hour did: their tables hold both.
        joined = [labels.airport_of([*a, *b]) for a, b in zip(recorded, test.values(), strict=True)]
        unseen = [r[len(a) :] for a, (_, r) in zip(recorded, joined, strict=True)]
        tables = [airport for airport, _ in joined]
        held_out = dict(zip(config.airports, zip(tables, unseen, strict=True), strict=True))
        brief = eval_wm.brief(eval_wm.judge(state.weights, held_out))
        overlay.draw(state.weights, held_out, config.out / "overlay.png")
        runs.write_results(
            config.out, {"fidelity": brief, "seconds": time.perf_counter() - begin, "seeds": seeds}
        )
        eval_wm.show(brief)


if __name__ == "__main__":
    main(sys.argv[1:])
