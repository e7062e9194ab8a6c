"""The test before the training: what a single other command than the expert's would bring in the world model.

    python -m launch.rollouts --airport ksea --out runs/rollouts-ksea

In states of imagined hours several commands are rolled out on the same keys. The best is chosen in all
members of the ensemble but the last, and judged in that one (rl/rollouts.py). The run folder receives

    states.jsonl        a line per state: the choice, what it promised, and what it gained by reward term
    results.json        the mean gain, over all states and by situation
    gains.png           the same as a picture

Where the gain is above nothing, training has something to learn, and the table says where and by which kind
of command. Where it is not, none of the commands that were compared is better for certain.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.evaluation import SLOTS, EvaluationConfig
from configs.rollouts import Rollouts
from launch.shared import episodes, records, runs
from launch.shared.episodes import CHUNK
from rl import rollouts
from rl.acting import Policy
from rl.arrivals import ExpertParams
from rl.expert import expert
from rl.rollouts import Choice, Moment
from wm.sector import commands
from wm.sector import traffic as tr
from wm.state.env import OpenScopeWorldModel
from wm.store import checkpoints

STATES = "states.jsonl"


@dataclasses.dataclass(frozen=True)
class Player:
    """The expert in the world model: what takes it to states, and rolls commands out from there."""

    env: OpenScopeWorldModel
    policy: Policy
    env_params: object

    @classmethod
    def of(cls, config: Rollouts) -> "Player":
        """Raises EvaluationError or CheckpointError where the world model has no such hours.

        ValueError where it has one member alone.
        """
        slots = SLOTS.get(config.airport, 32)
        asked = EvaluationConfig(
            where="model", airport=config.airport, slots=slots, split="train", traffic=config.traffic,
            checkpoint=config.checkpoint, dynamics=config.dynamics,
        )  # fmt: skip
        params = episodes.model_params(asked)
        if jax.tree.leaves(params.weights)[0].shape[0] < 2:
            raise ValueError("the world model has one member: another one has to judge what it chooses")
        return cls(OpenScopeWorldModel(None, dynamics=config.dynamics), expert(slots), params)

    @property
    def members(self) -> int:
        return jax.tree.leaves(self.env_params.weights)[0].shape[0]

    def of_members(self, chosen: slice):
        """EnvParams with these members of the ensemble alone."""
        weights = jax.tree.map(lambda leaf: leaf[chosen], self.env_params.weights)
        return self.env_params.replace(weights=weights)

    def start(self, keys) -> Moment:
        """The first moment of an hour for each key `[S]`."""
        return _start(self.env, self.policy, self.env_params, keys)

    def advance(self, moments: Moment, keys, minutes: int) -> Moment:
        """The moments of hours `[S]` so many minutes later."""
        for minute in range(minutes):
            now = jax.vmap(jax.random.fold_in, (0, None))(keys, minute)
            moments = _advance(self.env, self.policy, self.env_params, moments, now)
        return moments

    def values(self, members: slice, moments: Moment, given: Choice, keys, decisions: int):
        """Outcomes `[S, K, R]` by term of every command in states `[S]`, rolled out on keys `[S, R]`.

        S divides by the number of members: a state has one member, whoever is commanded.
        """
        own = _values(
            self.env, self.policy, self.of_members(members), moments, given, keys, decisions=decisions
        )
        return jax.tree.map(np.asarray, own)


@partial(jax.jit, static_argnums=(0, 1))
def _start(env, policy, params, keys) -> Moment:
    def one(key):
        key_reset, key_memory = jax.random.split(key)
        return Moment(*env.reset_env(key_reset, params), policy.init(key_memory))

    # What has a weak type at the start would be compiled again at the second call.
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), jax.vmap(one)(keys))


@partial(jax.jit, static_argnums=(0, 1))
def _advance(env, policy, params, moments, keys) -> Moment:
    def one(moment, key):
        key_act, key_step = jax.random.split(key)
        action, memory = policy.act(ExpertParams(), moment.memory, moment.observation, key_act)
        observation, state, *_ = env.step_env(key_step, moment.state, action, params)
        return Moment(observation, state, memory)

    def step(moments, number):
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return jax.vmap(one)(moments, now), None

    return jax.lax.scan(step, moments, jnp.arange(CHUNK))[0]


@partial(jax.jit, static_argnums=1)
def _choices(moments, count: int) -> Choice:
    return jax.vmap(rollouts.choices, (0, None))(moments, count)


@partial(jax.jit, static_argnums=(0, 1), static_argnames="decisions")
def _values(env, policy, params, moments, given, keys, decisions):
    states, compared, count = *given.legal.shape, keys.shape[1]

    def rows(leaf):  # one axis: a sector's place on it decides its member
        return jnp.repeat(leaf, compared * count, 0)

    which = jnp.tile(jnp.repeat(jnp.arange(compared), count), states)
    # All commands get the keys of their state, again on purpose: as their data.
    data = jnp.repeat(jax.random.key_data(keys)[:, None], compared, 1)
    again = jax.random.wrap_key_data(data.reshape(-1, data.shape[-1]))
    one = partial(rollouts.outcome, env, policy, params, decisions=decisions)
    total = jax.vmap(one)(*jax.tree.map(rows, (moments, given)), which, again)
    return jax.tree.map(lambda leaf: leaf.reshape(states, compared, count), total)


def groups(config: Rollouts, members: int) -> int:
    """How many states are rolled out together: all members that choose have as many."""
    shares = members - 1
    return max(config.sectors // (config.commands * config.keys) // shares, 1) * shares


def play(config: Rollouts, player: Player, minute: int, on_step) -> Iterator[dict]:
    """Lines of all states of one minute, group by group."""
    decisions = config.minutes * CHUNK
    key_hours, key_rollouts = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), minute))
    together = groups(config, player.members)
    each = jax.vmap(jax.random.fold_in, (None, 0))
    for first in range(0, config.states, together):
        numbers = np.arange(first, first + together)
        hours = jax.vmap(jax.random.split)(each(key_hours, numbers))
        moments = player.advance(player.start(hours[:, 0]), hours[:, 1], minute)
        given = _choices(moments, config.commands)
        halves = jax.vmap(partial(jax.random.split, num=(2, config.keys)))(each(key_rollouts, numbers))
        told = []
        for half, chosen in enumerate((slice(0, -1), slice(-1, None))):
            told.append(player.values(chosen, moments, given, halves[:, half], decisions))
            on_step(together * config.commands * config.keys * decisions)
        yield from lines_of(minute, moments, given, *told)


def lines_of(minute: int, moments: Moment, given: Choice, selecting: dict, judging: dict) -> Iterator[dict]:
    """What is kept of each state of a group."""
    legal, own, action = (np.asarray(leaf) for leaf in (given.legal, given.own, given.action))
    found = rollouts.improvement(selecting, judging, legal, own)
    traffic = moments.state.scene.traffic
    there = np.asarray(traffic.valid & traffic.controllable)
    arrivals = np.asarray(there & (traffic.category == tr.ARRIVAL))
    slots = there.shape[-1]
    for s in range(len(own)):
        verbs = [None if slot >= slots else commands.VERBS[verb] for slot, verb in action[s, :, :2]]
        yield {
            "minute": minute,
            "aircraft": int(there[s].sum()),
            "arrivals": int(arrivals[s].sum()),
            "own": verbs[own[s]],
            "chosen": verbs[found["chosen"][s]],
            "changed": bool(found["chosen"][s] != own[s]),
            "promised": float(found["promised"][s]),
            "gain": float(found["gain"][s]),
            "terms": {name: float(term[s]) for name, term in found["terms"].items()},
        }


def summary(told: list[dict]) -> dict:
    """Mean gain with its interval, over all states and by situation; what the choice promised beside it."""
    busy = np.median([line["arrivals"] for line in told])
    named = lambda verb: verb or "no command"  # noqa: E731
    situations = {"all": told}
    for line in told:
        of = [f"minute {line['minute']}", f"own: {named(line['own'])}"]
        of.append(f"more than {busy:g} arrivals" if line["arrivals"] > busy else f"at most {busy:g} arrivals")
        if line["changed"]:
            of.append(f"changed to: {named(line['chosen'])}")
        for name in of:
            situations.setdefault(name, []).append(line)
    rows = {}
    for name, chosen in sorted(situations.items()):
        gain = records.bootstrap([line["gain"] for line in chosen], "points", seed=0, vectorized=True)
        rows[name] = {
            **dataclasses.asdict(gain),
            "terms": {n: float(np.mean([line["terms"][n] for line in chosen])) for n in chosen[0]["terms"]},
            "promised": float(np.mean([line["promised"] for line in chosen])),
            "changed": float(np.mean([line["changed"] for line in chosen])),
        }
    return rows


def draw(rows: dict, path: Path) -> None:
    """Gains by situation with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(rows)[::-1]
    value = np.asarray([[rows[n][k] for k in ("value", "low", "high")] for n in names]).T
    figure, axis = pyplot.subplots(figsize=(8, 0.3 * len(names) + 1.5))
    axis.errorbar(value[0], names, xerr=[value[0] - value[1], value[2] - value[0]], fmt="o")
    axis.axvline(0.0, color="0.7")
    axis.set(xlabel="points that the chosen command gains over the expert's, judged in another member")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def kept(config: Rollouts) -> list[dict]:
    """The lines of all minutes that earlier starts finished, after one that says what they were asked for.

    A minute's states are the same, whichever others are asked. Raises ValueError for other options or another
    model.
    """
    path, head = config.out / STATES, {"asked": episodes.asked_of(config, "out", "record", "at_minutes")}
    if not path.exists():
        return [head]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if lines[0] != head:
        raise ValueError(f"{path} is of a run with other options or another model: choose another --out")
    return lines


def keep(config: Rollouts, lines: list[dict]) -> None:
    """Write the lines whole: a minute's states are all there, or none."""
    whole = config.out / f".{STATES}"
    whole.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    whole.replace(config.out / STATES)


def compare(config: Rollouts) -> dict:
    """The whole run; returns and writes its results."""
    config.out.mkdir(parents=True, exist_ok=True)
    lines, player = kept(config), Player.of(config)
    played = {line["minute"] for line in lines[1:]}
    left = [minute for minute in config.at_minutes if minute not in played]
    together = groups(config, player.members)
    states = -(-config.states // together) * together
    size = 2 * states * config.commands * config.keys * config.minutes * CHUNK
    minutes = len(config.at_minutes)
    with runs.progress(size * minutes, "decision", size * (minutes - len(left))) as bar:
        for minute in left:
            lines += play(config, player, minute, bar.update)
            keep(config, lines)
    told = [line for line in lines[1:] if line["minute"] in config.at_minutes]
    rows = summary(told)
    draw(rows, config.out / "gains.png")
    results = {"states": len(told), "gains": rows}
    runs.write_results(config.out, results)
    if config.record:
        records.write(config.record, figures(config.airport, told))
    return results


def figures(airport: str, told: list[dict]) -> dict[str, records.Figure]:
    """What a record keeps: the mean gain of a state, what was promised, and the gain by term.

    Nobody is stranded before an hour's end, so that term is left out.
    """
    columns = {"gain": [line["gain"] for line in told], "promised": [line["promised"] for line in told]}
    terms = set(told[0]["terms"]) - {"stranded"}
    columns |= {f"gain_{name}": [line["terms"][name] for line in told] for name in sorted(terms)}
    return {
        f"one_command_{name}_{airport}": records.bootstrap(column, "points", seed=0, vectorized=True)
        for name, column in columns.items()
    }


def main(argv: list[str] | None = None) -> None:
    """Compare, and print the table."""
    config = cli.parse(Rollouts, argv)
    with runs.one_line_errors(checkpoints.CheckpointError, episodes.EvaluationError, ValueError, OSError):
        results = compare(config)
    print(f"{'situation':28s} {'gain':>8s} {'95 % interval':>18s} {'promised':>9s} {'changed':>8s} {'n':>5s}")
    for name, row in results["gains"].items():
        interval = f"{row['low']:.1f} to {row['high']:.1f}"
        print(
            f"{name:28s} {row['value']:8.1f} {interval:>18s} {row['promised']:9.1f} {row['changed']:8.2f}"
            f" {row['n']:5d}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
