"""Tunes the expert's prices to an airport by evolution strategies in the world model.

    python -m launch.tune_expert --airport ksea --out runs/tuned-ksea

What an hour returns under other prices is only known by playing it. Here thousands of hours are played side
by side, which the real game could not. The run folder receives

    generations.jsonl   the centre's prices, slope and returns, a line per generation
    prices.json         the prices of the best centre, for launch.eval_policy
    results.json        what every centre returned in other imagined hours
    prices.png          the centre's prices over the generations

With --tries the prices given there take the place of the generations' centres; nothing is searched.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.evaluation import SLOTS, EvaluationConfig
from configs.tuning import ExpertTuning
from launch.shared import episodes, parallel, runs
from launch.shared.episodes import CHUNK
from launch.shared.players import PRICES
from rl import evolution
from rl.arrivals import ExpertParams
from rl.expert import expert
from wm.state.env import OpenScopeWorldModel
from wm.store import checkpoints
from wm.store.provenance import write_json

NAMES = tuple(ExpertParams.__dataclass_fields__)
OWN = np.asarray([getattr(ExpertParams(), name) for name in NAMES])
GENERATIONS = "generations.jsonl"


def prices(changes) -> ExpertParams:
    """Prices from changes `[..., P]` of the expert's own: natural logarithms of factors.

    A price of nothing is changed by points, and never falls below nothing.
    """
    own, changes = jnp.asarray(OWN, jnp.float32), jnp.asarray(changes, jnp.float32)
    values = jnp.where(own > 0.0, own * jnp.exp(changes), jnp.maximum(changes, 0.0))
    return ExpertParams(**{name: values[..., i] for i, name in enumerate(NAMES)})


@dataclass(frozen=True)
class Hours:
    """Imagined hours of one airport from cold starts, played on all devices."""

    env_params: object
    start: Callable
    advance: Callable
    devices: int
    members: int
    minutes: int
    sectors: int  # of a device at once

    @property
    def shares(self) -> int:
        """Every device and every member of the ensemble plays as many hours: their number divides by this."""
        return self.devices * self.members

    @property
    def decisions(self) -> int:
        return self.minutes * CHUNK

    @classmethod
    def of(cls, config: ExpertTuning) -> "Hours":
        """Raises EvaluationError or CheckpointError where the world model has no such hours."""
        slots = SLOTS.get(config.airport, 32)
        asked = EvaluationConfig(
            where="model", airport=config.airport, slots=slots, split="train",
            checkpoint=config.checkpoint, dynamics=config.dynamics, minutes=config.minutes,
        )  # fmt: skip
        env, policy = OpenScopeWorldModel(None, dynamics=config.dynamics), expert(slots)
        devices = parallel.devices(config.devices)

        def start(env_params, keys):
            key_reset, key_memory, key_steps = jax.vmap(lambda key: tuple(jax.random.split(key, 3)))(keys)
            observation, state = jax.vmap(env.reset_env, (0, None))(key_reset, env_params)
            carry = (observation, state, jax.vmap(policy.init)(key_memory))
            # What has a weak type at the start would be compiled again at the second call.
            strong = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), carry)
            return *strong, key_steps

        def one(env_params, asked, carry):
            observation, state, memory, key = carry
            key, key_act, key_step = jax.random.split(key, 3)
            action, memory = policy.act(asked, memory, observation, key_act)
            observation, state, _, _, info = env.step_env(key_step, state, action, env_params)
            terms = info["reward_terms"] | {"overflow": info["metrics"]["overflow"]}
            return (observation, state, memory, key), terms

        def advance(env_params, asked, carry):
            step = lambda carry, _: jax.vmap(one, (None, 0, 0))(env_params, asked, carry)  # noqa: E731
            carry, terms = jax.lax.scan(step, carry, length=CHUNK)
            return carry, jax.tree.map(lambda term: term.sum(0), terms)

        env_params = episodes.model_params(asked)
        return cls(
            env_params,
            jax.jit(start),
            jax.pmap(advance, in_axes=(None, 0, 0), devices=devices, donate_argnums=2),
            len(devices),
            jax.tree.leaves(env_params.weights)[0].shape[0],
            config.minutes,
            config.sectors,
        )

    def play(self, candidates, keys, on_step: Callable) -> dict[str, np.ndarray]:
        """Points by reward term `[C, H]` of candidates `[C, P]` (see prices) in the hours of keys `[H]`.

        H is a multiple of `shares`. Of more hours than fit at once, some are played after the others.
        """
        together = max(self.sectors * self.devices // len(candidates) // self.shares, 1) * self.shares
        parts = [
            self._play(candidates, keys[at : at + together], on_step) for at in range(0, len(keys), together)
        ]
        return jax.tree.map(lambda *terms: np.concatenate(terms, 1), *parts)

    def _play(self, candidates, keys, on_step: Callable) -> dict[str, np.ndarray]:
        shape = len(keys), len(candidates)
        again, asked = side_by_side(keys, np.asarray(candidates))
        asked = parallel.split(prices(asked), self.devices)
        carry = parallel.split(self.start(self.env_params, again), self.devices)
        total = None
        for _ in range(self.minutes):
            carry, terms = self.advance(self.env_params, asked, carry)
            terms = jax.tree.map(lambda term: np.asarray(term, np.float64).reshape(shape).T, terms)
            total = terms if total is None else jax.tree.map(np.add, total, terms)
            on_step(CHUNK * shape[0] * shape[1])
        return total


def side_by_side(keys, candidates) -> tuple[jax.Array, np.ndarray]:
    """Keys `[H C]` and candidates `[H C, P]` of the sectors in which every candidate plays the hours of keys.

    All candidates of an hour follow each other, because a sector's place in the batch decides which member of
    the ensemble moves it (wm.state.network.predict): an hour has one member, whoever plays it.
    """
    # Keys are used again on purpose, as their data.
    again = np.repeat(jax.random.key_data(keys), len(candidates), 0)
    return jax.random.wrap_key_data(again), np.tile(candidates, (len(keys), 1))


def tried(text: str) -> np.ndarray:
    """The changes `[P]` that make prices of a text like again=1,low_share=0.1, none of an empty one.

    Raises ValueError.
    """
    changes = np.zeros(len(NAMES))
    for part in text.split(",") if text else ():
        name, _, value = part.partition("=")
        try:
            at, price = NAMES.index(name), float(value)
        except ValueError:
            price = -1.0
        if not 0.0 < price < np.inf:
            raise ValueError(f"prices hold {part!r}, must be NAME=VALUE with a price of: {', '.join(NAMES)}")
        changes[at] = np.log(price / OWN[at]) if OWN[at] > 0.0 else price
    return changes


def fitting(count: int, shares: int) -> int:
    """The least number of at least `count` that divides by `shares`."""
    return -(-count // shares) * shares


def returns(points: dict[str, np.ndarray]) -> np.ndarray:
    """Return of every candidate in every hour `[C, H]`, all terms."""
    return sum(value for name, value in points.items() if name != "overflow")


def record_of(config: ExpertTuning) -> dict:
    """What every start of a run has to share."""
    return episodes.asked_of(config, "out", "devices", "sectors") | {"own": OWN.tolist()}


def done(config: ExpertTuning, asked: dict) -> list[dict]:
    """The generations that an earlier start finished; raises ValueError where it was asked for others."""
    path = config.out / GENERATIONS
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if lines and lines[0]["asked"] != asked:
        raise ValueError(f"{path} is of a run with other options or another model: choose another --out")
    return lines


def centres_of(lines: list[dict], start: str = "") -> np.ndarray:
    """The centres (see prices) before each generation and after the last, `[G + 1, P]`."""
    return np.asarray([tried(start), *[line["next"] for line in lines]])


def search(config: ExpertTuning, asked: dict, hours: Hours, lines: list[dict]) -> list[dict]:
    """All generations; each is written as soon as it is played."""
    root = jax.random.key(config.seed)
    size = 2 * config.pairs * fitting(config.hours, hours.shares)
    total = config.generations * size * hours.decisions
    with runs.progress(total, "decision", len(lines) * size * hours.decisions) as bar:
        for generation in range(len(lines), config.generations):
            key_noise, key_hours = jax.random.split(jax.random.fold_in(root, generation))
            directions = np.asarray(evolution.mirrored(key_noise, config.pairs, len(NAMES)))
            centre = centres_of(lines, config.start)[-1]
            keys = jax.random.split(key_hours, fitting(config.hours, hours.shares))
            points = hours.play(centre + config.spread * directions, keys, bar.update)
            means = returns(points).mean(1)
            slope = evolution.gradient(directions, means, config.spread)
            line = {
                "generation": generation, "return": means.mean(), "best": means.max(),
                "overflow": points["overflow"].max(), "slope": slope.tolist(),
                "next": evolution.ascended(centre, slope, config.step).tolist(), "asked": asked,
            }  # fmt: skip
            with (config.out / GENERATIONS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            lines = [*lines, line]
            bar.set_postfix({"return": f"{line['return']:.1f}"}, refresh=False)
    return lines


def judge(config: ExpertTuning, hours: Hours, centres: np.ndarray) -> dict:
    """What each centre returns in hours that no generation played, and the gain over the first, paired.

    The first is the expert.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), config.generations)
    keys = jax.random.split(key, fitting(config.judged_hours, hours.shares))
    with runs.progress(len(centres) * len(keys) * hours.decisions, "decision") as bar:
        points = hours.play(centres, keys, bar.update)
    own = returns(points)
    gain = own - own[:1]
    error = gain.std(1, ddof=1) / np.sqrt(len(keys))
    return {
        "hours": len(keys),
        "return": own.mean(1).tolist(),
        "gain": gain.mean(1).tolist(),
        "gain_standard_error": error.tolist(),
        "terms": {name: value.mean(1).tolist() for name, value in points.items()},
    }


def draw(centres: np.ndarray, path: Path) -> None:
    """Factors on the expert's prices over the generations, but for prices of nothing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 5))
    for name, own, changes in zip(NAMES, OWN, centres.T, strict=True):
        if own > 0.0:
            axis.semilogy(np.exp(changes), label=name)
    axis.set(xlabel="generation", ylabel="price over the expert's own")
    axis.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def tune(config: ExpertTuning) -> dict:
    """The whole run; returns and writes its results.

    Raises ValueError for fewer pairs than prices, and for tries that are none.
    """
    own, trials = [tried("")], [tried(text) for text in config.tries]
    tried(config.start)  # refused before anything is played
    if not trials and config.pairs < len(NAMES):
        raise ValueError(f"pairs is {config.pairs}, must be at least {len(NAMES)}: one for each price")
    config.out.mkdir(parents=True, exist_ok=True)
    asked = record_of(config)
    if trials:
        hours, centres = Hours.of(config), np.stack([*own, *trials])
    else:
        lines, hours = done(config, asked), Hours.of(config)
        centres = centres_of(search(config, asked, hours, lines), config.start)
        centres = np.stack([*own, *centres]) if config.start else centres
    judged = judge(config, hours, centres)
    best = int(np.argmax(judged["return"]))
    chosen = {name: float(value) for name, value in vars(prices(centres[best])).items()}
    write_json(config.out / PRICES, {"airport": config.airport, "prices": chosen, "asked": asked})
    draw(centres, config.out / "prices.png")
    results = {"chosen": best, "prices": chosen, "judged": judged}
    runs.write_results(config.out, results)
    return results


def main(argv: list[str] | None = None) -> None:
    """Tune, and print the gain."""
    config = cli.parse(ExpertTuning, argv)
    with runs.one_line_errors(checkpoints.CheckpointError, episodes.EvaluationError, ValueError, OSError):
        results = tune(config)
    best, judged = results["chosen"], results["judged"]
    print(json.dumps(results["prices"], indent=2))
    print(
        f"return of an imagined hour {judged['return'][0]:.1f} with the expert's prices, "
        f"{judged['return'][best]:.1f} with {'trial' if config.tries else 'centre'} {best}'s: "
        f"{judged['gain'][best]:+.1f} (standard error {judged['gain_standard_error'][best]:.1f})"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
