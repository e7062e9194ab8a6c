"""The Cosmos transformers against diffusers', and the action path against a reference in torch.

Small networks of the same classes as the published ones: 2.0, 2.5 with its text projection, and Predict1 with
learned positions; a time per clip and per frame, pictures that aren't square, a padding mask.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tests.wm.cosmos.parity.case import Arrays, Case, random_tree
from wm.cosmos.networks import dit
from wm.cosmos.networks.config import ActionConfig, DiTConfig
from wm.cosmos.networks.dit import CosmosDiT

PREDICT2 = DiTConfig(width=48, blocks=2, heads=2, adaln_rank=8, context_width=32)
PREDICT2_14B = DiTConfig(
    width=60, blocks=2, heads=5, adaln_rank=8, context_width=32, rope_scale=(20 / 24, 2.0, 2.0)
)
PREDICT2_5 = DiTConfig(width=48, blocks=2, heads=2, adaln_rank=8, context_width=32, text_width=80)
WIDE = DiTConfig(width=256, blocks=3, heads=2, adaln_rank=16, context_width=32)  # heads of 128, as published
PREDICT1 = DiTConfig(
    width=48,
    blocks=2,
    heads=2,
    adaln_rank=8,
    context_width=32,
    rope_scale=(2.0, 1.0, 1.0),
    learned_positions=(16, 16, 16),
)
ACTION = ActionConfig(width=3, hidden=64)
SHAPE = (2, 3, 4, 6)  # B, T, H, W: not square
GIVEN = np.array([[1, 0, 0], [1, 1, 0]], np.float32)


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call, in our layout (numpy float32)."""

    latents: np.ndarray
    times: np.ndarray
    context: np.ndarray
    padding: np.ndarray | None
    actions: np.ndarray | None
    fps: float | None


def inputs(
    config: DiTConfig, seed: int, per_frame: bool, padded=False, acting=False, fps: float | None = None
) -> Inputs:
    """Random arguments; times in (0, 1), as rectified flow has them."""
    generator = np.random.default_rng(seed)
    batch, frames, height, width = SHAPE
    normal = partial(generator.standard_normal, dtype=np.float32)
    times = generator.uniform(0.01, 0.99, (batch, frames) if per_frame else (batch,)).astype(np.float32)
    padding = np.zeros((batch, height, width), np.float32)
    padding[:, :, -3:] = 1.0
    return Inputs(
        latents=normal((*SHAPE, config.latent_channels)),
        times=times,
        context=normal((batch, 7, config.text_width or config.context_width)),
        padding=padding if padded else None,
        actions=normal((batch, (frames - 1) * ACTION.per_latent, ACTION.width)) if acting else None,
        fps=fps,
    )


def cases() -> dict[str, Case]:
    """Every row of the table that is about the transformer."""
    rows = {
        "dit_predict2": (PREDICT2, {"per_frame": False}),
        "dit_predict2_per_frame": (PREDICT2, {"per_frame": True, "padded": True}),
        "dit_predict2_14b": (PREDICT2_14B, {"per_frame": True}),
        "dit_predict2_heads_of_128": (WIDE, {"per_frame": True}),
        "dit_predict2_5": (PREDICT2_5, {"per_frame": False}),
        "dit_predict2_5_per_frame": (PREDICT2_5, {"per_frame": True}),
        "dit_predict1": (PREDICT1, {"per_frame": False}),
        "dit_predict1_at_30_fps": (PREDICT1, {"per_frame": True, "padded": True, "fps": 30.0}),
        "action_path": (PREDICT2_5, {"per_frame": False, "acting": True}),
        "action_path_per_frame": (PREDICT2_5, {"per_frame": True, "acting": True}),
    }
    return {
        name: _case(config, inputs(config, seed, **options), seed)
        for seed, (name, (config, options)) in enumerate(rows.items())
    }


def _case(config: DiTConfig, given: Inputs, seed: int) -> Case:
    return Case(partial(_ours, config, given, seed), partial(_theirs, config, given, seed))


def _model(config: DiTConfig, given: Inputs) -> CosmosDiT:
    return CosmosDiT(config, None if given.actions is None else ACTION, dtype=jnp.float32)


def _params(config: DiTConfig, given: Inputs, seed: int):
    shapes = jax.eval_shape(lambda: dit.init(_model(config, given), jax.random.key(0)))
    return random_tree(shapes, seed)


def _ours(config: DiTConfig, given: Inputs, seed: int) -> Arrays:
    apply = jax.jit(_model(config, given).apply, static_argnames="fps")
    output = apply(
        {"params": _params(config, given, seed)},
        given.latents,
        given.times,
        given.context,
        GIVEN,
        given.padding,
        given.actions,
        fps=given.fps,
    )
    return [np.asarray(output)]


def _theirs(config: DiTConfig, given: Inputs, seed: int) -> Arrays:
    import torch

    params = _params(config, given, seed)
    model = _oracle(config)
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in _state(params)}
    model.load_state_dict(state, strict=True)
    model.eval()
    if given.actions is not None:
        model.time_embed = _acting(model.time_embed, params["action"], given)
    batch, frames, height, width = SHAPE
    times = torch.from_numpy(given.times)
    if given.actions is not None and times.ndim == 1:
        times = times[:, None].expand(batch, frames)  # an action of its own makes every frame's time its own
    if times.ndim == 2:
        times = times[:, None, :, None, None]
    padding = np.zeros((1, height, width)) if given.padding is None else given.padding[:1]
    mask = torch.from_numpy(GIVEN)[:, None, :, None, None].expand(batch, 1, frames, height, width)
    with torch.no_grad():
        output = model(
            hidden_states=torch.from_numpy(given.latents).permute(0, 4, 1, 2, 3),
            timestep=times,
            encoder_hidden_states=torch.from_numpy(given.context),
            fps=given.fps,
            condition_mask=mask,
            # The original repeats one mask over the batch, and reduces it from pixels to latents.
            padding_mask=torch.from_numpy(np.kron(padding, np.ones((8, 8)))[:, None].astype(np.float32)),
            return_dict=False,
        )[0]
    return [output.permute(0, 2, 3, 4, 1).numpy()]


def _oracle(config: DiTConfig):
    """Diffusers' network of the same sizes."""
    import torch
    from diffusers.models.transformers import transformer_cosmos

    if not hasattr(transformer_cosmos, "transforms"):
        transformer_cosmos.transforms = _Transforms(torch)
    learned = config.learned_positions
    sizes = (learned[0], *(config.patch * side for side in learned[1:])) if learned else (16, 32, 32)
    return transformer_cosmos.CosmosTransformer3DModel(
        in_channels=config.latent_channels + 1,
        out_channels=config.latent_channels,
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        num_layers=config.blocks,
        mlp_ratio=config.mlp_ratio,
        text_embed_dim=config.context_width,
        adaln_lora_dim=config.adaln_rank,
        max_size=sizes,
        patch_size=(1, config.patch, config.patch),
        rope_scale=config.rope_scale,
        concat_padding_mask=True,
        extra_pos_embed_type="learnable" if learned else None,
        use_crossattn_projection=bool(config.text_width),
        crossattn_proj_in_channels=config.text_width or 1,
        encoder_hidden_states_channels=config.context_width,
    )


class _Transforms:
    """The two names of torchvision that diffusers' network uses, so that torchvision isn't needed."""

    class InterpolationMode:
        NEAREST = "nearest"

    def __init__(self, torch):
        self.functional = self
        self.torch = torch

    def resize(self, image, size, interpolation):
        return self.torch.nn.functional.interpolate(image, size=size, mode=interpolation)


def _acting(time_embed, params, given: Inputs):
    """A time embedding that adds each frame's embedded actions before the norm, as NVIDIA's network."""
    import torch
    from torch import nn

    def network(weights):
        layers = [nn.Linear(*weights[name]["kernel"].shape) for name in ("fc1", "fc2")]
        for layer, name in zip(layers, ("fc1", "fc2"), strict=True):
            layer.weight.data = torch.from_numpy(weights[name]["kernel"].T.copy())
            layer.bias.data = torch.from_numpy(weights[name]["bias"])
        return nn.Sequential(layers[0], nn.GELU(approximate="tanh"), layers[1])

    actions = torch.from_numpy(given.actions)
    grouped = actions.reshape(actions.shape[0], -1, ACTION.per_latent * ACTION.width)
    moving = 1 - torch.from_numpy(GIVEN)[..., None]

    def embedded(name):
        values = network(params[name])(grouped)
        return (torch.cat([torch.zeros_like(values[:, :1]), values], 1) * moving).flatten(0, 1)

    class Acting(nn.Module):
        def forward(self, hidden_states, timestep):
            wave = time_embed.time_proj(timestep).type_as(hidden_states)
            shared = time_embed.t_embedder(wave)
            return shared + embedded("to_3d"), time_embed.norm(wave + embedded("to_d"))

    return Acting()


# Names of the original's tensors, written out apart from the converter's so that each checks the other.

_OUTSIDE = {
    "patch_embed.proj.weight": "patch/kernel",
    "time_embed.t_embedder.linear_1.weight": "time_1/kernel",
    "time_embed.t_embedder.linear_2.weight": "time_2/kernel",
    "time_embed.norm.weight": "time_norm/scale",
    "norm_out.linear_1.weight": "out_mod/a/kernel",
    "norm_out.linear_2.weight": "out_mod/b/kernel",
    "proj_out.weight": "out/kernel",
    "crossattn_proj.0.weight": "text_proj/kernel",
    "crossattn_proj.0.bias": "text_proj/bias",
    "learnable_pos_embed.pos_emb_t": "pos_t",
    "learnable_pos_embed.pos_emb_h": "pos_h",
    "learnable_pos_embed.pos_emb_w": "pos_w",
}
_INSIDE = {
    **{f"attn1.to_{name}.weight": f"self/{name}/kernel" for name in "qkv"},
    **{f"attn2.to_{name}.weight": f"cross/{name}/kernel" for name in "qkv"},
    "attn1.to_out.0.weight": "self/out/kernel",
    "attn2.to_out.0.weight": "cross/out/kernel",
    **{f"attn1.norm_{name}.weight": f"self/{name}_norm/scale" for name in "qk"},
    **{f"attn2.norm_{name}.weight": f"cross/{name}_norm/scale" for name in "qk"},
    **{
        f"norm{index}.linear_{layer}.weight": f"mod/{name}/{part}/kernel"
        for index, name in enumerate(("self", "cross", "mlp"), 1)
        for layer, part in ((1, "a"), (2, "b"))
    },
    "ff.net.0.proj.weight": "mlp/up/kernel",
    "ff.net.2.weight": "mlp/down/kernel",
}


def _state(params) -> Iterator[tuple[str, np.ndarray]]:
    """(diffusers name, tensor) of all parameters but the action path's."""
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    turned: Callable = lambda path, leaf: leaf.T if path.endswith("kernel") else leaf  # noqa: E731
    for name, path in _OUTSIDE.items():
        if path in flat:
            yield name, turned(path, flat[path])
    for name, path in _INSIDE.items():
        for index, leaf in enumerate(flat[f"blocks/{path}"]):
            yield f"transformer_blocks.{index}.{name}", turned(path, leaf)
