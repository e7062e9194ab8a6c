"""Episodes to store, made of a stored answer of the real page; no game needed."""

import dataclasses
import json

import numpy as np

from collect import record, store
from collect.slots import COLUMNS, FREE, aircraft_ids, assign, scene_of
from collect.snapshot import parse
from wm.sector import traffic as tr


@dataclasses.dataclass
class Sector:
    """The recorder's view of an environment: a state that stands still while its clock runs."""

    snapshot: object
    scene: tr.Scene
    columns: np.ndarray
    slots: np.ndarray


def example(answer: str, static: dict, seed: int = 7, steps: int = 6, slots: int = 32) -> dict:
    """An episode of `steps` decisions in which the aircraft of column 2 departs in step 3."""
    snapshot = parse(answer)
    ids = aircraft_ids(snapshot)
    columns, _ = assign(np.full(COLUMNS, FREE), ids)
    in_play, _ = assign(np.full(slots, FREE), ids[::-1])  # another order than the columns'
    departure = tr.EVENT_NAMES.index("DEPARTURE")
    rows = []
    for t in range(steps + 1):
        score = tr.EVENTS["DEPARTURE"] if t > 3 else 0
        now = dataclasses.replace(snapshot, time_s=t * tr.STEP_S, score=score)
        sector = Sector(now, scene_of(now, columns), columns, in_play)
        events = [(int(ids[2]), departure, 4)] if t == 3 else []
        terms = {"score": float(tr.EVENTS["DEPARTURE"])} if t == 3 else {}
        action = [t if t < steps else slots, 1, 0, 2, 0]
        outcome = record._outcome(action, f"step {t}", events, terms, t == 0, t == steps)
        rows.append({"observation": record._row(sector, 0), **outcome})
    job = record.Job("kabq", seed, "random", episode_s=steps * tr.STEP_S, slots=slots)
    sizes = [slots + 1, 5, 9, 7, 4]
    metadata = {
        "airport": "kabq",
        "seed": seed,
        "schema_version": tr.SCHEMA_VERSION,
        "key": job.key,
        "about": json.dumps({"policy": "random", "action_sizes": sizes}),
        "static": json.dumps(static),
        "routes": json.dumps(snapshot.routes),
        "callsigns": json.dumps(snapshot.callsigns),
    }
    return {"steps": rows, "episode_metadata": metadata}


def narrow(example: dict, columns: int = 64) -> dict:
    """The same episode as a recorder of fewer columns left it."""
    steps = [{**step, "observation": dict(step["observation"])} for step in example["steps"]]
    for step in steps:
        seen = step["observation"]
        seen["traffic"] = {name: column[:columns] for name, column in seen["traffic"].items()}
        seen["slots"] = seen["slots"][:columns]
    return {**example, "steps": steps}


def write(directory, examples, **layout) -> None:
    """Store episodes in a new directory."""
    with store.EpisodeWriter(directory, **layout) as writer:
        for one in examples:
            writer.write(one)
