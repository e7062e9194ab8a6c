"""The pixel model: Cosmos' transformer on three pictures, two given and one drawn, told what aircraft do.

The commands go in three times: every aircraft is a token that cross-attention reads, all of them together are
the action of the published action path, and numbers of each lie on a chart beside the latents, around where
it is in the last picture and where its last displacement again leads to. A latent so knows by how much it is
off the aircraft whose data block it may show.

Most latents show the empty map and are zero. The network therefore says what the drawn picture's latents are,
and the velocity follows; a network that says the velocity would have to pass all noise through.

Letters: B windows, h w latent rows and columns, Z numbers of a latent, K slots of aircraft.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from wm.cosmos.networks import dit
from wm.cosmos.networks.config import ActionConfig, DiTConfig
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.sampling.sample import SampleConfig, sample
from wm.cosmos.scope import commands
from wm.cosmos.scope.coder import PATCH
from wm.cosmos.scope.commands import Slots, Statistics, Told
from wm.cosmos.scope.crops import CHARACTER_PX, TEXT_LEFT
from wm.cosmos.scope.hours import Hour
from wm.cosmos.training import flow, shortcut
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.shortcut import ShortcutConfig

GIVEN, FRAMES = 2, 3
LETTER_WIDTH = 16
LEAST_TIME = 0.2  # noise level below which the velocity is no longer exactly that to the said picture
# What the game draws of an aircraft lies so far from its blip at most, in latents: left, top, right, bottom.
AROUND = (-5.0, -7.0, 5.0, 4.0)
WAVELENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # latents, of the waves that say how far off an aircraft is
GLYPH_WIDTH = 8  # numbers of a letter on the chart
GLYPHS_AT = (-0.5, 0.0, 0.5)  # latents from a latent's middle, where letters are looked up,
GLYPH_REACH = 0.35  # with this deviation


@dataclass(frozen=True)
class ScopeConfig:
    """Sizes of the pixel model; the defaults have 34 M parameters.

    `side` is that of the latents, `pooled` the numbers of the action that all aircraft are together, `marks`
    those of each aircraft on the chart.
    """

    width: int = 384
    blocks: int = 12
    heads: int = 6
    adaln_rank: int = 64
    context_width: int = 256
    pooled: int = 64
    marks: int = 64
    side: int = 64
    latent: int = 16
    step_hidden: int = 256

    @property
    def charted(self) -> int:
        """Numbers of the chart."""
        return self.marks + 1 + 4 * len(WAVELENGTHS) + GLYPH_WIDTH * len(GLYPHS_AT)

    @property
    def dit(self) -> DiTConfig:
        """The transformer's part."""
        return DiTConfig(
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            adaln_rank=self.adaln_rank,
            context_width=self.context_width,
            latent_channels=self.latent + self.charted,
            rope_scale=(1.0, 1.0, 1.0),
            step_hidden=self.step_hidden,
        )


class AircraftTokens(nn.Module):
    """`Told` -> tokens (B, K, context_width), the pooled action (B, pooled), and for the chart marks
    (B, K, marks) and the callsign's letters (B, K, 8, GLYPH_WIDTH). Nobody's token is learned.
    """

    config: ScopeConfig

    @nn.compact
    def __call__(self, told: Told) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        config = self.config
        letters = nn.Embed(37, LETTER_WIDTH, name="letters")(told.callsign)
        glyphs = nn.Dense(GLYPH_WIDTH, name="glyphs")(letters)
        letters = letters.reshape(*letters.shape[:2], -1)
        tokens = config.side // 2  # along a side
        apart = told.place[..., None] * tokens - 0.5 - jnp.arange(tokens)
        near = jnp.exp(-0.5 * apart**2).reshape(*told.present.shape, -1)
        phase = waves(jnp.concatenate([told.ahead - told.place, told.ahead], -1) * config.side)
        phase = phase.reshape(*told.present.shape, -1)
        x = jnp.concatenate([told.features, near, letters, phase], -1)
        x = nn.gelu(nn.Dense(2 * config.context_width, name="fc1")(x))
        x = nn.gelu(nn.Dense(config.context_width, name="fc2")(x))
        there = told.present[..., None]
        nobody = self.param("nobody", nn.initializers.zeros, (config.context_width,))
        tokens = jnp.where(there, nn.Dense(config.context_width, name="token")(x), nobody)
        pooled = jnp.where(there, nn.Dense(config.pooled, name="pooled")(x), 0.0).sum(-2) / 8.0
        return tokens, pooled, jnp.where(there, nn.Dense(config.marks, name="marks")(x), 0.0), glyphs


def waves(apart: jax.Array) -> jax.Array:
    """Distances (...) in latents as sines and cosines (..., 2 len(WAVELENGTHS))."""
    turns = 2 * jnp.pi * apart[..., None] / jnp.asarray(WAVELENGTHS)
    return jnp.concatenate([jnp.sin(turns), jnp.cos(turns)], -1)


def chart(marks: jax.Array, glyphs: jax.Array, place: jax.Array, present: jax.Array, side: int) -> jax.Array:
    """Marks (B, K, M) and letters (B, K, 8, G) of aircraft at places (B, K, 2), 0 to 1, laid out around them.

    Returns (B, side, side, M + 1 + 4 len(WAVELENGTHS) + G len(GLYPHS_AT)): the marks' sum, how many aircraft
    are near, the waves of how far off they are, and the letters of the columns at and beside the latent.
    """
    middle = jnp.arange(side) + 0.5
    apart = middle[:, None] - place[:, :, None] * side  # [B, K, side, 2]
    corners = jnp.asarray(AROUND)
    inside = (apart >= corners[:2]) & (apart <= corners[2:]) & present[..., None, None]
    column, row = inside[..., 0].astype(jnp.float32), inside[..., 1].astype(jnp.float32)  # [B, K, side]
    own = jnp.concatenate([marks, jnp.ones((*marks.shape[:2], 1))], -1)
    found = [jnp.einsum("bky,bkx,bkm->byxm", row, column, own)]
    across, down = (waves(apart[..., axis]) for axis in (0, 1))
    found.append(jnp.einsum("bky,bkx,bkxm->byxm", row, column, across))
    found.append(jnp.einsum("bky,bkx,bkym->byxm", row, column, down))
    letter_at = (TEXT_LEFT + CHARACTER_PX * (jnp.arange(glyphs.shape[2]) + 0.5)) / PATCH
    beside = apart[..., 0, None, None] + jnp.asarray(GLYPHS_AT) - letter_at[:, None]  # [B, K, side, 8, 3]
    shares = jnp.exp(-0.5 * jnp.square(beside / GLYPH_REACH))
    text = jnp.einsum("bkxcj,bkcg->bkxjg", shares, glyphs)
    text = text.reshape(*text.shape[:3], -1)
    found.append(jnp.einsum("bky,bkx,bkxm->byxm", row, column, text))
    return jnp.concatenate(found, -1)


class ScopeModel(nn.Module):
    """Predicts the flow's velocity of the drawn picture's latents."""

    config: ScopeConfig
    dtype: jnp.dtype = jnp.bfloat16

    @nn.compact
    def __call__(self, latents, times, told: Told, condition_mask, steps=None) -> jax.Array:
        """Latents (B, 3, h, w, Z), times (B,), masks (B, 3) and steps (B,) as `CosmosDiT` takes them."""
        config = self.config
        tokens, pooled, *laid = AircraftTokens(config, name="action_tokens")(told)
        action = ActionConfig(config.pooled, per_latent=1, hidden=2 * config.width)
        network = CosmosDiT(config.dit, action, self.dtype, name="dit")
        actions = jnp.stack([jnp.zeros_like(pooled), pooled], 1)
        charts = [chart(*laid, place, told.present, config.side) for place in (told.place, told.ahead)]
        seen = jnp.concatenate([latents, jnp.stack([jnp.zeros_like(charts[0]), *charts], 1)], -1)
        said = network(seen, times, tokens, condition_mask, actions=actions, steps=steps)
        said = said[..., : config.latent]
        return (latents - said) / jnp.maximum(times, LEAST_TIME)[:, None, None, None, None]


def keeps_float32(name: str) -> bool:
    """Whether a parameter enters float32 arithmetic, see `wm.cosmos.training.train.Trainer`."""
    return name.startswith("action") or dit.keeps_float32(name.removeprefix("dit/"))


def init(config: ScopeConfig, key: jax.Array):
    """Random float32 parameters."""
    told = Told(
        jnp.zeros((1, 1, len(commands.FEATURES))),
        jnp.zeros((1, 1, 2)),
        jnp.zeros((1, 1, 2)),
        jnp.zeros((1, 1, 8), jnp.int32),
        jnp.ones((1, 1), bool),
    )
    latents = jnp.zeros((1, FRAMES, config.side, config.side, config.latent))
    return ScopeModel(config).init(key, latents, jnp.zeros(1), told, mask(1), jnp.zeros(1))["params"]


def mask(batch: int) -> jax.Array:
    """(B, 3) float32: the first two pictures are given."""
    return jnp.broadcast_to(jnp.arange(FRAMES) < GIVEN, (batch, FRAMES)).astype(jnp.float32)


# Training


@struct.dataclass
class Window:
    """What a step learns from."""

    latents: jax.Array  # [B, 3, h, w, Z], normalised
    told: Told  # normalised


@dataclass(frozen=True)
class Learning:
    """How windows are shown to the model.

    Attributes:
      shortcut_share: of the windows learn steps, for drawing in one to four; 0: none.
      shift: pushes noise levels up.
      still: weight of a latent in which neither the last nor the drawn picture shows an aircraft; others 1.
      moved: a normalised latent that is farther from zero shows one.
      given_noise: most that is added to the given pictures, since the model's own err.
    """

    shortcut_share: float = 0.0
    shift: float = 3.0
    still: float = 0.05
    moved: float = 0.25
    given_noise: float = 0.5


def objective(model: ScopeModel, learning: Learning) -> Callable:
    """A `wm.cosmos.training.train.Objective` of `Window`s."""

    def losses(variables, window: Window, keys: jax.Array, mean: dict):
        noise_keys, keys = flow.split_keys(keys)
        latents = window.latents.astype(jnp.float32)
        weights = weights_of(latents, learning)
        latents = latents + _given_noise(noise_keys, latents.shape[1:], learning.given_noise)
        given = mask(len(latents))

        def network_of(variables):
            def velocity(noisy, times, given, steps=None):
                return model.apply(variables, noisy, times, window.told, given, steps)

            return velocity

        flow_config = FlowConfig(shift=learning.shift)
        if not learning.shortcut_share:
            return flow.losses(network_of(variables), latents, given, keys, flow_config, weights), {}
        config = ShortcutConfig(share=learning.shortcut_share, flow=flow_config)
        pair = (network_of(variables), network_of(mean))
        return shortcut.losses(*pair, latents, given, keys, config, weights), {}

    return losses


def weights_of(latents: jax.Array, learning: Learning) -> jax.Array:
    """By how much each latent (B, 3, h, w, 1) counts; of mean one over the drawn picture."""
    shows = jnp.abs(latents).max(-1, keepdims=True) > learning.moved
    shows = shows | jnp.roll(shows, 1, axis=1)
    weights = jnp.where(shows, 1.0, learning.still)
    return weights / weights[:, -1:].mean((2, 3), keepdims=True)


def _given_noise(keys: jax.Array, shape: tuple[int, ...], most: float) -> jax.Array:
    """Noise (B, *shape) on the given pictures, of a deviation up to `most` that differs between windows."""

    def one(key):
        level_key, key = jax.random.split(key)
        noise = jax.random.normal(key, shape) * most * jax.random.uniform(level_key)
        return noise.at[GIVEN:].set(0.0)

    return jax.vmap(one)(keys)


def draw(model: ScopeModel, variables, known, told: Told, key, config: SampleConfig) -> jax.Array:
    """The next picture's latents (B, h, w, Z) after the given two, known (B, 2, h, w, Z)."""

    def velocity(noisy, times, given, steps=None):
        return model.apply(variables, noisy, times, told, given, steps)

    padded = jnp.pad(known.astype(jnp.float32), ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    return sample(velocity, padded, mask(len(known)), key, config)[:, -1]


# Windows


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of three pictures: an index into latents that are stored once per picture.

    Attributes:
      latents: [N, h, w, Z] of all pictures of all hours, normalised.
      rows: [n] of the last given picture of every window.
      slots: of every window's aircraft, leaves [n, ...].
      reach_nm: [n] from the middle of a picture to its side.
      overlaid: [n, h, w, Z] of the last given picture of every window with its commands drawn on it; None:
        the commands are told by numbers.
    """

    latents: np.ndarray
    rows: np.ndarray
    slots: Slots
    reach_nm: np.ndarray
    overlaid: np.ndarray | None = None

    @classmethod
    def of(cls, hours: list[Hour], latents: np.ndarray, slots: int) -> "Windows":
        """All windows of `hours`, whose pictures follow each other in `latents`."""
        rows, found, reach, first = [], [], [], 0
        for hour in hours:
            for t in range(GIVEN - 1, len(hour.pictures) - 1):
                rows.append(first + t)
                found.append(commands.slots_of(hour, t, slots))
                reach.append(hour.side / 2 / hour.px_per_nm)
            first += len(hour.pictures)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
        return cls(latents, np.asarray(rows), stacked, np.asarray(reach, np.float32))

    def told(self, chosen: np.ndarray, misread: np.random.Generator | None = None) -> Told:
        """What the chosen windows are told, not normalised; as a reader would see it with `misread`."""
        slots = jax.tree.map(lambda x: x[chosen], self.slots)
        track = slots.track if misread is None else commands.misread(slots, misread)
        return commands.told(slots, track, self.reach_nm[chosen][:, None])

    def exchanged(self) -> "Windows":
        """The same windows, every aircraft with another one's panel."""
        count = len(self.rows)
        each = [commands.exchanged(jax.tree.map(lambda x, i=i: x[i], self.slots)) for i in range(count)]
        return replace(self, slots=jax.tree.map(lambda *leaves: np.stack(leaves), *each), overlaid=None)

    def draw(
        self, generator: np.random.Generator, count: int, statistics: Statistics, silent: float
    ) -> Window:
        """A random batch; a share of it, `silent`, without commands."""
        chosen = generator.integers(len(self.rows), size=count)
        told = self.told(chosen, generator)
        heard = generator.random(count) >= silent
        return self.window(chosen, statistics(told.replace(present=told.present & heard[:, None])))

    def window(self, chosen: np.ndarray, told: Told) -> Window:
        """The chosen windows with the commands given; where they are drawn, those as recorded or none."""
        index = self.rows[chosen][:, None] + np.arange(1 - GIVEN, FRAMES - GIVEN + 1)
        latents = self.latents[index]
        if self.overlaid is not None:
            heard = told.present.any(-1)
            latents[heard, GIVEN - 1] = self.overlaid[chosen[heard]]
            told = told.replace(present=np.zeros_like(told.present))
        return Window(latents, told)
