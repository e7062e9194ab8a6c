"""How well the model follows the real game: recorded windows replayed with recorded commands.

A window starts at a recorded state, replays the recorded commands without new spawns, and
compares every aircraft that was inside the airspace at the start with the recording. The
headline counts aircraft with at least one command in the window. An aircraft that leaves play
more than 10 s earlier or later than recorded scores 10 nm; one that leaves in time has no
position to compare and is left out. Letters: W windows, T steps, N aircraft.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from wm.sector import commands
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.traffic import STEP_S, Scene, in_play
from wm.state import features, rules, transition
from wm.state import network as net
from wm.state import spawn as sp

HORIZONS_S = (10, 60, 120, 300)
REMOVAL_TOLERANCE_S = 10.0
REMOVAL_ERROR_NM = 10.0


@dataclasses.dataclass(frozen=True)
class Windows:
    """Recorded windows of one airport."""

    start: Scene  # [W, ...]
    action: np.ndarray  # [W, T, 5]
    x_nm: np.ndarray  # [W, T, N] recorded positions after each step
    y_nm: np.ndarray
    altitude_ft: np.ndarray
    playing: np.ndarray  # [W, T, N] bool, the same aircraft is still in play
    considered: np.ndarray  # [W, N] bool, inside the airspace at the start

    def commanded(self, steps: int) -> np.ndarray:
        """Who had a command in the first `steps`, bool `[W, N]`."""
        slots = np.arange(self.considered.shape[1])
        return np.any(self.action[:, :steps, :1] == slots, axis=1)

    def situations(self) -> dict[str, np.ndarray]:
        """What the aircraft considered are about at the start, bool `[W, N]` each."""
        t = self.start.traffic
        approach = t.heading_mode == tr.HEADING_LOCALIZER
        found = {
            "landing": t.phase == tr.LANDING,
            "take_off": (t.phase == tr.WAITING) | (t.phase == tr.TAKEOFF),
            "climb": t.phase == tr.CLIMB,
            "localizer": approach,
            "vectors": t.heading_mode == tr.MODE_HOLD,
            "route": t.heading_mode == tr.HEADING_LNAV,
        }
        left = self.considered
        for name, chosen in found.items():
            found[name], left = left & chosen, left & ~chosen
        return found


def cut_windows(recordings: list[Recording], steps: int, stride: int) -> Windows:
    """Cut every recording into windows of `steps` decisions, one every `stride` decisions."""
    parts = []
    for recording in recordings:
        t = recording.scene.traffic
        for start in range(0, len(recording.action) - steps + 1, stride):
            span = slice(start + 1, start + steps + 1)
            action = recording.action[start : start + steps]
            scene = jax.tree.map(lambda x, s=start: x[s], recording.scene)
            begin = scene.traffic
            later = jax.tree.map(lambda x, s=span: x[s], t)
            same = np.asarray(in_play(later)) & (later.id == begin.id)
            parts.append(
                Windows(
                    start=scene,
                    action=action,
                    x_nm=later.x_nm,
                    y_nm=later.y_nm,
                    altitude_ft=later.altitude_ft,
                    playing=np.logical_and.accumulate(same, axis=0),
                    considered=np.asarray(in_play(begin)) & begin.controllable,
                )
            )
    fields = [f.name for f in dataclasses.fields(Windows)]
    stacked = {n: jax.tree.map(lambda *xs: np.stack(xs), *[getattr(p, n) for p in parts]) for n in fields}
    return Windows(**stacked)


def model_step(weights, airport: Airport, scene: Scene, action, key=None):
    """One step without spawns, drawn with `key` or else the most likely; returns (scene, events).

    Without weights, the hand-written rules take it.
    """
    scene = scene.replace(traffic=commands.apply(scene.traffic, action, airport))
    if weights is None:
        after, _, events, removed = rules.step(scene, airport)
    else:
        stacked = features.stack_features(features.dynamics_features(scene, airport))
        outputs = net.predict(weights, jnp.zeros((), jnp.int32), stacked)
        decision = transition.decide(outputs, scene.traffic, key)
        after, _, events, removed = transition.transition(scene, decision, airport)
    return after.replace(traffic=sp.free_slots(after.traffic, removed)), events


def in_play_only(scene: Scene) -> Scene:
    """A recorded scene `[..., N]` without aircraft that the model no longer flies: handed off, or falling."""
    t = scene.traffic
    return scene.replace(traffic=sp.free_slots(t, t.valid & ~in_play(t)))


@jax.jit
def imagine(weights, airport: Airport, start: Scene, action):
    """Roll W windows forward; returns (x, y, altitude, in play), `[W, T, N]` each.

    Member m of the ensemble plays the m-th block of windows. Without weights, the hand-written rules do.
    """

    def decision(scenes, actions):
        after, _ = jax.vmap(partial(model_step, weights, airport))(scenes, actions)
        t = after.traffic
        return after, (t.x_nm, t.y_nm, t.altitude_ft, t.valid)

    _, tracks = jax.lax.scan(decision, in_play_only(start), jnp.swapaxes(action, 0, 1))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tracks)


@jax.jit
def replay(weights, airport: Airport, start: Scene, action) -> Scene:
    """Scenes `[T + 1, ...]` of one recorded start and its recorded commands `[T, 5]`, whole ones."""
    first = in_play_only(start)

    def decision(scene, one):
        after, _ = model_step(weights, airport, scene, one)
        return after, after

    _, scenes = jax.lax.scan(decision, first, action)
    return jax.tree.map(lambda a, rest: jnp.concatenate([a[None], rest]), first, scenes)


def constant_velocity(windows: Windows):
    """The yardstick that keeps ground speed, track and level; same returns as `imagine`."""
    t = windows.start.traffic
    seconds = STEP_S * np.arange(1, windows.action.shape[1] + 1)[:, None]
    distance = (t.ground_speed_kt / 3600.0)[:, None] * seconds
    x = t.x_nm[:, None] + distance * np.sin(t.ground_track_rad)[:, None]
    y = t.y_nm[:, None] + distance * np.cos(t.ground_track_rad)[:, None]
    return x, y, np.broadcast_to(t.altitude_ft[:, None], x.shape), np.ones(x.shape, bool)


def errors_nm(windows: Windows, tracks, step: int):
    """Position error `[W, N]` after `step` decisions; NaN where there is nothing to compare."""
    x, y, _, playing = (np.asarray(v) for v in tracks)
    real_s = np.sum(windows.playing[:, :step], axis=1) * STEP_S
    model_s = np.sum(np.logical_and.accumulate(playing, axis=1)[:, :step], axis=1) * STEP_S
    error = np.hypot(x - windows.x_nm, y - windows.y_nm)[:, step - 1]
    both = (real_s == step * STEP_S) & (model_s == step * STEP_S)
    off = np.abs(real_s - model_s) > REMOVAL_TOLERANCE_S
    return np.where(off, REMOVAL_ERROR_NM, np.where(both, error, np.nan))


def summarise(error: np.ndarray) -> dict:
    """Median, 95th percentile, RMSE (nm), share off by more than 1 nm, count and the errors."""
    known = error[np.isfinite(error)]
    if known.size == 0:
        return {"n": 0, "errors_nm": []}
    return {
        "p50": float(np.median(known)),
        "p95": float(np.percentile(known, 95)),
        "rmse": float(np.sqrt(np.mean(known**2))),
        "over_1nm": float(np.mean(known > 1.0)),
        "removals_off": float(np.mean(known == REMOVAL_ERROR_NM)),
        "n": int(known.size),
        "errors_nm": known.tolist(),
    }


def select(windows: Windows, chosen) -> Windows:
    """The windows that a slice or an array of numbers names."""
    names = [f.name for f in dataclasses.fields(Windows)]
    return Windows(**{n: jax.tree.map(lambda x: x[chosen], getattr(windows, n)) for n in names})


def evaluate(weights, airport: Airport, recordings: list[Recording], stride: int = 30) -> dict:
    """Fidelity at every horizon of commanded aircraft, of all, and by situation.

    Of the model, of the hand-written rules, and of aircraft that fly straight on.
    """
    report = {}
    members = jax.tree.leaves(weights)[0].shape[0]
    windows = cut_windows(recordings, round(max(HORIZONS_S) / STEP_S), stride)
    windows = select(windows, slice(len(windows.action) // members * members))
    played = {
        "model": imagine(weights, airport, windows.start, windows.action),
        "rules": imagine(None, airport, windows.start, windows.action),
        "constant_velocity": constant_velocity(windows),
    }
    for name, tracks in played.items():
        for seconds in HORIZONS_S:
            steps = round(seconds / STEP_S)
            error = errors_nm(windows, tracks, steps)
            groups = {"commanded": windows.considered & windows.commanded(steps), "all": windows.considered}
            for group, chosen in (groups | windows.situations()).items():
                report[f"{name}_{group}_{seconds}s"] = summarise(error[chosen])
    return report
