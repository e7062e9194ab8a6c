"""The Cosmos diffusion transformer of Predict1, Predict2 and Predict2.5, with the action path of the latter.

    model = CosmosDiT(config.dit, config.action)
    params = init(model, key)
    output = model.apply({"params": params}, latents, times, context, condition_mask, actions=actions)

Dimension letters: B batch, T latent frames, H W latent rows and columns, N = (H / 2) (W / 2) tokens of a
frame, D width, L blocks, K context tokens, A numbers of an action.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from wm.cosmos.networks.actions import ActionPath, Embedding
from wm.cosmos.networks.config import TEXT_TOKENS, ActionConfig, DiTConfig
from wm.cosmos.networks.layers import (
    HIGHEST,
    Attention,
    AttentionName,
    Dense,
    RMSNorm,
    modulated_norm,
    rotary_angles,
    sinusoid,
)

Remat = Literal["none", "full", "dots", "dots+attention"]
SUBLAYERS = ("self", "cross", "mlp")


def _saves_attention(primitive, *_, **__) -> bool:
    # The fused kernel reaches the policy as a custom call; what it returns is all that its gradient needs.
    return primitive.name.startswith(("dot_product_attention_fwd", "custom_partitioning"))


POLICIES: dict[Remat, Callable | None] = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "dots+attention": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _saves_attention
    ),
}


class Modulation(nn.Module):
    """Parameters of one adaptive norm: the low-rank map from the time embedding to `chunks` vectors of D."""

    rank: int
    chunks: int

    @nn.compact
    def __call__(self, embedding: jax.Array, shared: jax.Array) -> jax.Array:
        width = embedding.shape[-1]
        low = Dense(self.rank, jnp.float32, precise=True, name="a")(nn.silu(embedding))
        full = Dense(
            self.chunks * width, jnp.float32, precise=True, name="b", kernel_init=nn.initializers.zeros
        )
        return full(low) + shared[..., : self.chunks * width]


class MLP(nn.Module):
    """Two layers with exact GELU between."""

    hidden: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.gelu(Dense(self.hidden, self.dtype, name="up")(x), approximate=False)
        return Dense(x.shape[-1], self.dtype, name="down")(hidden)


class Block(nn.Module):
    """Self-attention, cross-attention and MLP on x (B, T, N, D), each between a modulated norm and a gate.

    `modulation` holds shift, scale and gate of each of the three, (3, B, T or 1, 3 D) float32; the block
    doesn't compute it, so that the small float32 products of all blocks run as one.
    """

    config: DiTConfig
    dtype: jnp.dtype
    attention: AttentionName

    @nn.compact
    def __call__(self, x, modulation, context, angles, positions):
        config = self.config
        tokens = (x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        if positions is not None:
            x = x + positions.astype(x.dtype)
        attend = lambda name: Attention(config.heads, self.dtype, self.attention, name=name)  # noqa: E731
        layers = {
            "self": lambda y: attend("self")(y.reshape(tokens), angles=angles),
            "cross": lambda y: attend("cross")(y.reshape(tokens), context),
            "mlp": MLP(config.mlp_ratio * config.width, self.dtype, name="mlp"),
        }
        for name, vectors in zip(SUBLAYERS, modulation, strict=True):
            shift, scale, gate = jnp.split(vectors, 3, -1)
            y = layers[name](modulated_norm(x, shift, scale)).reshape(x.shape)
            x = (x.astype(jnp.float32) + gate[:, :, None] * y.astype(jnp.float32)).astype(x.dtype)
        return x


class CosmosDiT(nn.Module):
    """Predicts a velocity (or EDM output) for every latent.

    Attributes:
      config: sizes. action: the action path's, or None.
      dtype: of matrix products and of the residual stream.
      remat: what a block keeps for its backward pass: everything ("none"), matrix products ("dots"), these
        and cuDNN's attention ("dots+attention"), its input alone ("full").
      attention: kernel; "auto" takes cuDNN's on a GPU.
    """

    config: DiTConfig
    action: ActionConfig | None = None
    dtype: jnp.dtype = jnp.bfloat16
    remat: Remat = "none"
    attention: AttentionName = "auto"

    @nn.compact
    def __call__(
        self,
        latents: jax.Array,
        times: jax.Array,
        context: jax.Array,
        condition_mask: jax.Array | None = None,
        padding_mask: jax.Array | None = None,
        actions: jax.Array | None = None,
        fps: float | None = None,
        steps: jax.Array | None = None,
    ) -> jax.Array:
        """Applies the network.

        Args:
          latents: (B, T, H, W, 16).
          times: (B,) or (B, T), what the parametrisation says.
          context: (B or 1, K, context_width), or (B or 1, K, text_width) to be projected first.
          condition_mask: (B, T), 1 where a frame is given; None: nowhere.
          padding_mask: (B, H, W), 1 outside the picture; None: nowhere.
          actions: (B, n, A); None: the action path is left out.
          fps: frames per second that temporal positions depend on, for models that do.
          steps: (B,), by how much of the time the solver will move with this velocity; None: infinitely
            little.

        Returns:
          (B, T, H, W, 16) float32.

        Raises:
          ValueError: a shape that the model doesn't take.
        """
        config = self.config
        batch, frames, height, width = latents.shape[:4]
        if condition_mask is None:
            condition_mask = jnp.zeros((batch, frames), jnp.float32)
        _check_shapes(config, latents, times, context, condition_mask)
        context = self._projected(context)
        embedding, shared = self._time(times, actions, condition_mask, steps)
        x = Dense(config.width, self.dtype, name="patch")(
            patchify(config.patch, latents, condition_mask, padding_mask)
        )
        rows, columns = height // config.patch, width // config.patch
        angles = rotary_angles(frames, rows, columns, config.head_width, config.rope_scale, fps)
        positions = self._learned_positions(frames, rows, columns)
        x = self._blocks(x, embedding, shared, context, angles, positions)
        return unpatchify(config.patch, self._patches(x, embedding, shared), rows, columns)

    def _patches(self, x, embedding, shared):
        """What the network says of each patch, (B, T, N, patch^2 C) float32."""
        vectors = Modulation(self.config.adaln_rank, 2, name="out_mod")(embedding, shared)
        x = modulated_norm(x, *jnp.split(vectors, 2, -1))
        numbers = self.config.patch**2 * self.config.latent_channels
        layer = Dense(numbers, self.dtype, name="out", kernel_init=nn.initializers.zeros)
        return layer(x).astype(jnp.float32)

    def _projected(self, context):
        """Context as cross-attention reads it."""
        config = self.config
        if config.text_width and context.shape[-1] == config.text_width:
            layer = Dense(config.context_width, self.dtype, use_bias=True, name="text_proj")
            context = nn.gelu(layer(context), approximate=False)
        return context.astype(self.dtype)

    def _time(self, times, actions, condition_mask, steps):
        """Normed time embedding (B, T or 1, D) and shared modulation (B, T or 1, 3 D), actions included."""
        width = self.config.width
        wave = sinusoid(times if times.ndim == 2 else times[:, None], width)
        hidden = nn.silu(Dense(width, jnp.float32, precise=True, name="time_1")(wave))
        shared = Dense(3 * width, jnp.float32, precise=True, name="time_2")(hidden)
        if self.action is not None and actions is not None:
            to_embedding, to_shared = ActionPath(self.action, width, name="action")(actions, condition_mask)
            wave, shared = wave + to_embedding, shared + to_shared
        if self.config.step_hidden:  # a step of size 0 is embedded too, and its embedding isn't zero
            size = sinusoid(1000.0 * (jnp.zeros(1) if steps is None else steps)[:, None], width)
            wave = wave + Embedding(self.config.step_hidden, width, name="step_to_d")(size)
            shared = shared + Embedding(self.config.step_hidden, 3 * width, name="step_to_3d")(size)
        return RMSNorm(name="time_norm")(wave), shared

    def _learned_positions(self, frames, rows, columns):
        """(1, T, N, D) float32 of unit mean square, or None."""
        if self.config.learned_positions is None:
            return None
        used = (frames, rows, columns)
        total = jnp.zeros((1, 1, 1, 1), jnp.float32)
        for axis, name in enumerate(("pos_t", "pos_h", "pos_w")):
            size = self.config.learned_positions[axis]
            if used[axis] > size:
                raise ValueError(f"{used[axis]} positions along {name[-1]}; the model knows {size}")
            table = self.param(name, nn.initializers.normal(0.02), (size, self.config.width))
            shape = [1, 1, 1, self.config.width]
            shape[axis] = used[axis]
            total = total + table[: used[axis]].astype(jnp.float32).reshape(shape)
        rms = jnp.sqrt(jnp.mean(total * total, -1, keepdims=True))
        return (total / (rms + 1e-6)).reshape(1, frames, rows * columns, self.config.width)

    def _blocks(self, x, embedding, shared, context, angles, positions):
        """All blocks; their parameters are stacked on axis 0 under "blocks"."""
        block = Block(self.config, self.dtype, self.attention, parent=None)
        if self.has_variable("params", "blocks"):  # which may hold more than initialised, as low-rank updates
            params = self.get_variable("params", "blocks")
        else:
            params = self.param("blocks", _stacked_init(block, self.config))
        # Modulation of all blocks in one product: (3, L, B, T or 1, 3 D), then block by block.
        modulation = jnp.stack(
            [_stacked_modulation(params["mod"][name], embedding, shared) for name in SUBLAYERS], 1
        )
        params = {name: value for name, value in params.items() if name != "mod"}

        def body(x, layer):
            own, vectors = layer
            return block.apply({"params": own}, x, vectors, context, angles, positions), None

        if self.remat != "none":
            body = jax.checkpoint(body, policy=POLICIES[self.remat], prevent_cse=False)
        return jax.lax.scan(body, x, (params, modulation))[0]


def _stacked_modulation(params, embedding, shared):
    low = jnp.einsum("btd,ldr->lbtr", nn.silu(embedding), _f32(params["a"]["kernel"]), precision=HIGHEST)
    return jnp.einsum("lbtr,lro->lbto", low, _f32(params["b"]["kernel"]), precision=HIGHEST) + shared


def _f32(x):
    return x.astype(jnp.float32)


def _stacked_init(block: Block, config: DiTConfig) -> Callable[[jax.Array], Any]:
    """Initialiser of the parameters of all blocks, each from its own key."""

    def one(key):
        key, *mod_keys = jax.random.split(key, 1 + len(SUBLAYERS))
        x = jnp.zeros((1, 1, 1, config.width), block.dtype)
        vectors = jnp.zeros((1, 1, 3 * config.width), jnp.float32)
        context = jnp.zeros((1, 1, config.context_width), block.dtype)
        own = block.init(key, x, jnp.stack([vectors] * 3), context, None, None)["params"]
        mod = {
            name: Modulation(config.adaln_rank, 3).init(mod_key, vectors[..., : config.width], vectors)
            for name, mod_key in zip(SUBLAYERS, mod_keys, strict=True)
        }
        return {**own, "mod": {name: value["params"] for name, value in mod.items()}}

    return lambda key: jax.vmap(one)(jax.random.split(key, config.blocks))


def patchify(
    patch: int, latents: jax.Array, condition_mask: jax.Array, padding_mask: jax.Array | None
) -> jax.Array:
    """Latents and masks -> (B, T, N, 18 patch^2): in a patch channels are slowest, then rows."""
    batch, frames, height, width, _ = latents.shape
    condition = jnp.broadcast_to(condition_mask[:, :, None, None, None], (batch, frames, height, width, 1))
    if padding_mask is None:
        padding_mask = jnp.zeros((batch, height, width))
    padding = jnp.broadcast_to(padding_mask[:, None, :, :, None], (batch, frames, height, width, 1))
    x = jnp.concatenate([latents, condition.astype(latents.dtype), padding.astype(latents.dtype)], -1)
    rows, columns = height // patch, width // patch
    x = x.reshape(batch, frames, rows, patch, columns, patch, -1)
    return x.transpose(0, 1, 2, 4, 6, 3, 5).reshape(batch, frames, rows * columns, -1)


def unpatchify(patch: int, patches: jax.Array, rows: int, columns: int) -> jax.Array:
    """(B, T, N, patch^2 C) -> (B, T, H, W, C). Here channels are fastest: not the inverse of `patchify`."""
    batch, frames = patches.shape[:2]
    x = patches.reshape(batch, frames, rows, columns, patch, patch, -1)
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(batch, frames, rows * patch, columns * patch, -1)


def init(model: CosmosDiT, key: jax.Array) -> Any:
    """Random float32 parameters; their shapes don't depend on a clip's size."""
    config, side = model.config, model.config.patch
    actions = None
    if model.action is not None:
        actions = jnp.zeros((1, model.action.per_latent, model.action.width))
    variables = model.init(
        key,
        jnp.zeros((1, 2, side, side, config.latent_channels)),
        jnp.zeros((1,)),
        jnp.zeros((1, 1, config.text_width or config.context_width)),
        actions=actions,
        steps=jnp.zeros((1,)),
    )
    return variables["params"]


def keeps_float32(path: str) -> bool:
    """Whether a leaf, such as "blocks/mod/self/a/kernel", enters float32 arithmetic; others may be bf16."""
    parts = path.split("/")
    outside = parts[0].startswith(("time_", "out_mod", "action", "pos_", "step_"))
    return outside or parts[-1] == "scale" or "mod" in parts


def empty_context(config: DiTConfig) -> jax.Array:
    """(1, K, context_width) of zeros: the context of a model that was never trained with text."""
    return jnp.zeros((1, TEXT_TOKENS, config.context_width), jnp.float32)


def _check_shapes(config, latents, times, context, condition_mask):
    batch, frames, height, width, channels = latents.shape
    if channels != config.latent_channels:
        raise ValueError(f"latents have {channels} channels; the model takes {config.latent_channels}")
    if height % config.patch or width % config.patch:
        raise ValueError(f"latents are {height}x{width}, must be multiples of {config.patch}")
    if times.shape not in ((batch,), (batch, frames)):
        raise ValueError(f"times are {times.shape}, must be ({batch},) or ({batch}, {frames})")
    if condition_mask.shape != (batch, frames):
        raise ValueError(f"condition_mask is {condition_mask.shape}, must be ({batch}, {frames})")
    widths = {config.context_width, config.text_width} - {0}
    if context.ndim != 3 or context.shape[0] not in (1, batch) or context.shape[-1] not in widths:
        wanted = " or ".join(str(value) for value in sorted(widths))
        raise ValueError(f"context is {context.shape}, must be ({batch} or 1, tokens, {wanted})")
