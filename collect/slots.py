"""Snapshots of the game, which list the aircraft present, as structs with a fixed slot for each aircraft.

An episode has two tables. Its C columns hold every aircraft from spawn to removal, for recording and
reward. The environment's N slots hold the aircraft in play, for observation and action.
Letters: C columns, K sub-steps, N slots, m aircraft seen during a step.
"""

import jax
import numpy as np

from collect.snapshot import Snapshot
from wm.sector import airport as ap
from wm.sector import pairs, reward, separation
from wm.sector import traffic as tr
from wm.sector.traffic import Scene

WIDTHS = (64, 128)  # numbers of columns: an episode has the smallest that holds all its aircraft
COLUMNS = WIDTHS[-1]
ROUTES, LEGS = 64, 48  # sizes at the start, so that array shapes stay when new routes come
FREE = -1


def assign(slots: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, int]:
    """Give the aircraft `present` (ids, in the order of their spawns) their slots.

    `slots [N]` are the ids before, FREE where unused. An aircraft keeps its slot; new ones take the
    lowest that was free before, so that no slot changes hands within a step. Returns the new slots
    and how many aircraft found none.
    """
    was_free = np.flatnonzero(slots == FREE)
    slots = np.where(np.isin(slots, present), slots, FREE)
    fresh = present[~np.isin(present, slots)]
    placed = min(len(fresh), len(was_free))
    slots[was_free[:placed]] = fresh[:placed]
    return slots, len(fresh) - placed


def slots_of(columns: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The slot `[C]` int32 of the aircraft in each column, -1 for none; `columns` and `slots` hold ids."""
    where = {int(i): slot for slot, i in enumerate(slots) if i != FREE}
    return np.asarray([where.get(int(i), -1) for i in columns], np.int32)


def width_for(aircraft: int) -> int:
    """The smallest table of columns that holds so many aircraft; the largest where none does."""
    return next((width for width in WIDTHS if width >= aircraft), WIDTHS[-1])


def widen(ledger: reward.Ledger, columns: int) -> reward.Ledger:
    """The same counts for a table of more `columns`; the new ones are unused."""
    wide = jax.tree.map(np.array, reward.empty_ledger(columns))
    count = len(ledger.id)
    for name in ("id", "scored", "unimpeded_s", "due"):
        getattr(wide, name)[:count] = getattr(ledger, name)
    timers = jax.tree.map(
        lambda apart: pairs.widen(np.asarray(apart), columns, separation.SEPARATED_FRAMES), ledger.timers
    )
    return wide.replace(timers=timers)


def place(struct_class, table: np.ndarray, ids: np.ndarray, slots: np.ndarray):
    """Put rows `table [..., n, F]` of aircraft `ids [n]` into `slots [N]`: a struct `[..., N]`."""
    defaults = np.asarray([s["default"] for s in tr.schema(struct_class).values()], np.float32)
    out = np.broadcast_to(defaults, (*table.shape[:-2], len(slots), len(defaults))).copy()
    where = {int(i): row for row, i in enumerate(ids)}
    used = [(slot, where[int(i)]) for slot, i in enumerate(slots) if int(i) in where]
    if used:
        at, rows = map(list, zip(*used, strict=True))
        out[..., at, :] = table[..., rows, :]
    return tr.from_table(struct_class, out)


def scene_of(snapshot: Snapshot, slots: np.ndarray) -> Scene:
    """The snapshot as a Scene (numpy) with the aircraft of `slots [N]`."""
    return Scene(
        traffic=place(tr.Traffic, snapshot.aircraft, aircraft_ids(snapshot), slots),
        runways=tr.from_table(tr.Runways, snapshot.runways),
        since_spawn_s=snapshot.since_spawn_s,
        wind_speed_kt=np.float32(snapshot.wind_speed_kt),
        wind_from_rad=np.float32(snapshot.wind_from_rad),
        time_s=np.float32(snapshot.time_s),
    )


def substeps_of(snapshot: Snapshot, slots: np.ndarray) -> tr.SubSteps:
    """The step's sub-steps `[K, N]` with the aircraft of `slots [N]`.

    Where the game ran shorter frames than lock-step's, those at lock-step's times are taken.
    """
    stride = max(1, len(snapshot.substeps) // tr.FRAMES_PER_STEP)
    substeps = snapshot.substeps[stride - 1 :: stride]
    ids = substeps[0, :, 0] if len(substeps) else np.zeros(0)
    return place(tr.SubSteps, substeps[..., 1:], ids, slots)


def aircraft_ids(snapshot: Snapshot) -> np.ndarray:
    """Ids `[n]` of the aircraft present, in the order of the snapshot's table."""
    return snapshot.aircraft[:, list(tr.schema(tr.Traffic)).index("id")].astype(np.int64)


def events_of(snapshot: Snapshot, before: np.ndarray, after: np.ndarray):
    """The step's events `[C, E]` bool by column, and those of no column as (id, code) pairs.

    `before`, `after [C]`: columns around the step; an event belongs to the aircraft's column at
    the step's start or, for an aircraft new in the step, to the one it got.
    """
    flags = np.zeros((len(before), len(tr.EVENT_NAMES)), bool)
    stray = []
    for aircraft, code, _ in snapshot.events.tolist():
        found = np.flatnonzero(before == aircraft) if aircraft >= 0 else []
        if not len(found) and aircraft >= 0:
            found = np.flatnonzero((after == aircraft) & (before == FREE))
        if len(found):
            flags[found[0], code] = True
        else:
            stray.append((aircraft, code))
    return flags, stray


def padded_airport(static: dict, routes) -> ap.Airport:
    """The airport's tables with room for routes not met yet."""
    count = max(ROUTES, 2 * len(routes)) if len(routes) >= ROUTES else ROUTES
    length = max([LEGS] + [len(route["waypoints"]) for route in routes])
    nowhere = {
        "name": "", "x_nm": 0.0, "y_nm": 0.0, "vector_rad": None, "fly_over": False, "on_sid": False,
        **dict.fromkeys(("altitude_min_ft", "altitude_max_ft", "speed_min_kt", "speed_max_kt"), -1),
    }  # fmt: skip
    longest = {"waypoints": [nowhere] * length}
    unused = [{"waypoints": [nowhere]}] * (count - len(routes) - 1)
    return ap.from_static(static, [*routes, *unused, longest])
