"""A world model as one thing: weights, airports, spawn tables and reset rows, saved and loaded.

`build` turns fitted weights and training recordings into EnvParams; `save_bundle` and
`load_bundle` keep it with wm.store.checkpoints (flat arrays, shapes in the config, sha256 manifest).
Letters: A airports, B reset rows, J spawn rows of a stream, N aircraft slots, S streams.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization, traverse_util

from wm.sector import airport as ap
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.columns import stack_padded
from wm.sector.recording import Recording
from wm.sector.traffic import Runways, Scene, Traffic, in_play
from wm.state import features
from wm.state import network as net
from wm.state.params import EnvParams, build_rows, widened
from wm.state.spawn import SpawnTable
from wm.store import checkpoints

KIND = "world model"
PACKAGED = Path(__file__).parents[1] / "data" / "default"
SPAWN_ROWS = 48  # J
KNOWN = 0.999  # share of recorded states in which the members agree well enough to go on


def take_slots(traffic: Traffic, slots: int) -> Traffic | None:
    """Aircraft in play of one scene moved to the first of `slots` slots; None if they overflow."""
    chosen = np.flatnonzero(np.asarray(in_play(traffic)))
    if len(chosen) > slots:
        return None
    out = tr.empty(Traffic, (slots,), np)

    def fill(blank, values):
        blank = blank.copy()
        blank[: len(chosen)] = values[chosen]
        return blank

    return jax.tree.map(fill, out, traffic)


def spawn_table(recordings: list[Recording], streams: int, key: int = 0) -> SpawnTable:
    """First sights of every stream, at most SPAWN_ROWS of each, evenly from all recordings."""
    found: list[list[Traffic]] = [[] for _ in range(streams)]
    for recording in recordings:
        t = recording.scene.traffic
        for step in range(1, t.id.shape[0]):
            fresh = t.valid[step] & ~np.isin(t.id[step], t.id[step - 1][t.valid[step - 1]])
            for slot in np.flatnonzero(fresh & (t.stream[step] >= 0)):
                row = jax.tree.map(lambda x, i=step, j=slot: x[i, j], t)
                found[int(row.stream)].append(row)
    rng = np.random.default_rng(key)
    rows = tr.empty(Traffic, (streams, SPAWN_ROWS), np)
    count = np.zeros(streams, np.int32)
    for stream, seen in enumerate(found):
        count[stream] = min(len(seen), SPAWN_ROWS)
        for j, pick in enumerate(rng.permutation(len(seen))[:SPAWN_ROWS]):
            for name in tr.schema(Traffic):
                getattr(rows, name)[stream, j] = getattr(seen[pick], name)
    return SpawnTable(rows=rows, count=count)


def reset_scenes(
    recordings: list[Recording], rows: int, slots: int, key: int = 0
) -> tuple[list[Scene], list[float]]:
    """Scenes to start from, and the traffic rates of their hours.

    They are the first of every recording, then as many others drawn evenly.
    """
    rng = np.random.default_rng(key)
    first = [(r, 0) for r in range(len(recordings))]
    steps = [(r, t) for r, rec in enumerate(recordings) for t in range(1, len(rec.action))]
    others = [steps[i] for i in rng.permutation(len(steps))]
    scenes, rates = [], []
    for r, t in [*first, *others]:
        scene = jax.tree.map(lambda x, i=t: np.asarray(x[i]), recordings[r].scene)
        traffic = take_slots(scene.traffic, slots)
        if traffic is not None:
            scenes.append(scene.replace(traffic=traffic))
            rates.append(recordings[r].traffic_rate)
        if len(scenes) == rows:
            break
    return scenes, rates


def own_wind(recordings: list[Recording]) -> np.ndarray:
    """Speed (kt) and direction (rad) `[2]` of the airport's own wind, from a recording that set none."""
    unset = [r for r in recordings if r.metadata.get("key", {}).get("wind") is None]
    scene = (unset or recordings)[0].scene
    return np.asarray([scene.wind_speed_kt[0], scene.wind_from_rad[0]], np.float32)


def build(
    weights, airports: list[Airport], recordings: list[list[Recording]], rows: int, slots: int
) -> EnvParams:
    """EnvParams from fitted weights and each airport's training recordings (same order)."""
    stacked = ap.stack(airports)
    streams = stacked.stream_category.shape[1]
    spawns = stack_padded([spawn_table(r, streams) for r in recordings])
    share = max(1, rows // len(airports))
    scenes, rates, ids = [], [], []
    for i, recorded in enumerate(recordings):
        chosen, own = reset_scenes(recorded, share, slots)
        scenes += chosen
        rates += own
        ids += [i] * len(chosen)
    arrays = {
        "weights": weights,
        "airports": stacked,
        "spawns": spawns,
        "scenes": stack_padded(scenes),
        "airport_id": np.asarray(ids, np.int32),
        "traffic_rate": np.asarray(rates, np.float32),
        "disagreement_limit": np.float32(2.0),
        "own_wind": np.stack([own_wind(recorded) for recorded in recordings]),
    }
    params = assemble(arrays)
    return params.replace(disagreement_limit=disagreement_quantile(params))


@jax.jit
def disagreement_quantile(params: EnvParams):
    """The ensemble's disagreement `[]` that KNOWN of the recorded states stay below."""

    def one(scene, i):
        airport = ap.select(params.airports, i)
        columns = features.dynamics_features(scene, airport)
        stacked = features.stack_features(columns)
        outputs = [
            net.network_of(params.weights).apply(
                jax.tree.map(lambda w, m=m: w[m], params.weights), stacked
            )
            for m in range(2 if members > 1 else 1)
        ]
        return net.disagreement(outputs[0], outputs[-1], scene.traffic.valid)

    members = jax.tree.leaves(params.weights)[0].shape[0]
    rows = params.rows
    return jnp.quantile(jax.vmap(one)(rows.scene, rows.airport_id), KNOWN)


def assemble(arrays: dict) -> EnvParams:
    """EnvParams from the arrays of a bundle; look-up tables and observations are recomputed."""
    arrays = jax.tree.map(jnp.asarray, arrays)
    airports = arrays["airports"]
    return EnvParams(
        weights=arrays["weights"],
        airports=airports,
        spawns=arrays["spawns"],
        rows=build_rows(arrays["scenes"], arrays["airport_id"], airports, arrays["traffic_rate"]),
        disagreement_limit=arrays["disagreement_limit"],
        own_wind=arrays["own_wind"],
    )


def _arrays(params: EnvParams) -> dict:
    return {
        "weights": params.weights,
        "airports": ap.own_columns(params.airports),
        "spawns": params.spawns,
        "scenes": params.rows.scene,
        "airport_id": params.rows.airport_id,
        "traffic_rate": params.rows.traffic_rate,
        "disagreement_limit": params.disagreement_limit,
        "own_wind": params.own_wind,
    }


def save_bundle(directory: Path | str, params: EnvParams, config: dict, metadata: dict) -> Path:
    """Save a world model; `config` says how it was trained, `metadata` what on."""
    nested = serialization.to_state_dict(_arrays(params))
    flat = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(nested, sep="/").items()}
    leaves = {k: [list(v.shape), str(v.dtype)] for k, v in flat.items()}
    names = names_of(params.rows.scene, params.airports)
    config = {"kind": KIND, "training": config, "names": names, "leaves": leaves}
    return checkpoints.save(directory, 0, flat, config, metadata)


def names_of(scenes: Scene, airports: Airport) -> dict[str, list[str]]:
    """The network's inputs and outputs by name, in their order; `heads` have their sizes behind a colon."""
    scene, airport = jax.tree.map(lambda x: x[0], (scenes, airports))
    columns = jax.eval_shape(features.dynamics_features, scene, airport)
    sizes = net.CATEGORICAL | net.BINARY | net.SCALAR
    return {"features": sorted(columns), "heads": [f"{name}:{size}" for name, size in sizes.items()]}


def _check_names(directory: Path, saved: dict | None, arrays: dict) -> None:
    """Refuse weights of other inputs or outputs; a model saved without names is older than they are."""
    if saved is None:
        return
    for kind, names in names_of(arrays["scenes"], arrays["airports"]).items():
        if saved[kind] != names:
            gone, new = (sorted(set(a) - set(b)) for a, b in ((saved[kind], names), (names, saved[kind])))
            raise checkpoints.CheckpointError(
                f"the world model in {directory} was trained with other {kind} ({', '.join(gone) or 'none'} "
                f"for {', '.join(new) or 'none'}, or in another order): train it again"
            )


def _scene(d: dict) -> Scene:
    return Scene(**{**d, "traffic": Traffic(**d["traffic"]), "runways": Runways(**d["runways"])})


def read_arrays(directory: Path) -> tuple[dict, dict]:
    """The arrays of a world model, as `assemble` takes them, and its config.

    Raises checkpoints.CheckpointError as `load_bundle` does.
    """
    config = checkpoints.load_config(directory)
    if config.get("kind") != KIND:
        raise checkpoints.CheckpointError(
            f"{directory} holds {config.get('kind', 'another kind of checkpoint')!r}, not a world "
            "model: give the directory that launch.train_wm wrote"
        )
    try:
        shapes = {
            k: checkpoints.abstract_leaf({"shape": s, "dtype": d}) for k, (s, d) in config["leaves"].items()
        }
        airports = config["training"].get("airports", [])
        if not all(isinstance(icao, str) for icao in airports):
            raise ValueError("an airport without a name")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise checkpoints.CheckpointError(
            f"the world model in {directory} does not say what it holds ({error}): train it again"
        ) from error
    flat = checkpoints.restore(directory, shapes)
    try:
        nested = traverse_util.unflatten_dict(flat, sep="/")
        spawns = nested["spawns"]
        arrays = nested | {
            "airports": ap.with_legs_ahead(nested["airports"]),
            "spawns": SpawnTable(rows=Traffic(**spawns["rows"]), count=spawns["count"]),
            "scenes": _scene(nested["scenes"]),
        }
        _check_names(directory, config.get("names"), arrays)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise checkpoints.CheckpointError(
            f"the world model in {directory} was saved with other columns ({error}): train it again"
        ) from error
    return arrays, config


def load_bundle(
    directory: Path | str | None = None, airport: str | Sequence[str] | None = None, slots: int | None = None
) -> EnvParams:
    """Load a world model; None loads the packaged one. `airport` keeps one airport, or some, in that order.

    `slots` adds empty slots for more aircraft than the model was saved with.

    Raises checkpoints.CheckpointError where the directory holds none, its bytes have changed, or
    it does not know an airport; ValueError for fewer slots than the model has.
    """
    arrays, config = read_arrays(PACKAGED if directory is None else Path(directory))
    if airport is not None:
        known = config["training"].get("airports", [])
        asked = [airport] if isinstance(airport, str) else list(airport)
        for icao in asked:
            if icao not in known:
                raise checkpoints.CheckpointError(
                    f"the world model in {directory} knows {', '.join(known) or 'no airport by name'}, "
                    f"not {icao!r}: choose one of them or train it on that one"
                )
        arrays = _only(arrays, np.asarray([known.index(icao) for icao in asked]))
    if slots is not None:
        arrays = arrays | {"scenes": _widened(arrays["scenes"], slots)}
    return assemble(arrays)


def _widened(scenes: Scene, slots: int) -> Scene:
    """Scenes `[B, N]` with empty slots added up to `slots`."""
    has = scenes.traffic.valid.shape[-1]
    if slots < has:
        raise ValueError(f"slots is {slots}, but the world model has {has}: ask for as many at least")
    return scenes.replace(traffic=widened(jax.tree.map(np.asarray, scenes.traffic), slots))


def _only(arrays: dict, airport_ids: np.ndarray) -> dict:
    """The arrays of some airports of a bundle, which are numbered anew from 0 on."""
    was = np.asarray(arrays["airport_id"])
    rows = np.flatnonzero(np.isin(was, airport_ids))
    number = {old: new for new, old in enumerate(airport_ids.tolist())}
    return arrays | {
        "airports": ap.trimmed(jax.tree.map(lambda x: x[airport_ids], arrays["airports"])),
        "spawns": jax.tree.map(lambda x: x[airport_ids], arrays["spawns"]),
        "scenes": jax.tree.map(lambda x: x[rows], arrays["scenes"]),
        "airport_id": np.asarray([number[old] for old in was[rows].tolist()], np.int32),
        "traffic_rate": arrays["traffic_rate"][rows],
        "own_wind": arrays["own_wind"][airport_ids],
    }
