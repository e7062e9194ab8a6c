"""CV8x8x8, the causal video tokenizer that Cosmos-Predict1 sees the world through.

A clip enters as Haar wavelets: two levels turn 4 x 4 x 4 pixels into 192 channels, with the first frame
repeated so that it fills a group of four. Convolutions are split into one within frames and one over time,
which sees the first frame repeated before the clip. It is a plain autoencoder: latents have no variance.

Dimension letters: B batch, F pixel frames, T latent frames, H W height and width, C channels. Channels last.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from wm.cosmos.networks.config import TokenizerConfig
from wm.cosmos.networks.vae import CHANNELS, Conv, pointwise
from wm.cosmos.networks.wavelets import from_wavelets, to_wavelets

NO_PADDING = ((0, 0), (0, 0))


class FrameNorm(nn.Module):
    """Normalises each frame (over rows, columns and channels) and scales its channels; in float32."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        x = x.astype(jnp.float32)
        x = x - jnp.mean(x, axis=(2, 3, 4), keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=(2, 3, 4), keepdims=True) + 1e-6)
        return (x * scale + bias).astype(self.dtype)


class FactoredConv(nn.Module):
    """3 x 3 within frames, then 3 over time."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(self.features, dtype=self.dtype, name="conv_s")(x)
        return _time_conv("conv_t", self.dtype)(*_past(x))


class ResidualBlock(nn.Module):
    """Two normed, factored convolutions beside a shortcut, (B, F, H, W, C) -> (B, F, H, W, features)."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.silu(FrameNorm(self.dtype, name="norm1")(x))
        h = FactoredConv(self.features, self.dtype, name="conv1")(h)
        h = nn.silu(FrameNorm(self.dtype, name="norm2")(h))
        h = FactoredConv(self.features, self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = pointwise(self.features, self.dtype, "conv_shortcut")(x)
        return x + h


class Attention(nn.Module):
    """Self-attention with one head, (B, F, H, W, C) -> the same.

    `over_time`: each position attends to its own past; otherwise to the positions of its frame.
    """

    over_time: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, frames, height, width, channels = x.shape
        h = FrameNorm(self.dtype, name="norm")(x)

        def tokens(name):
            y = pointwise(channels, self.dtype, name)(h)
            y = jnp.moveaxis(y, 1, 3) if self.over_time else y
            length = frames if self.over_time else height * width
            return y.reshape(-1, length, 1, channels)

        query, key, value = tokens("to_q"), tokens("to_k"), tokens("to_v")
        y = jax.nn.dot_product_attention(query, key, value, is_causal=self.over_time)
        if self.over_time:
            y = jnp.moveaxis(y.reshape(batch, height, width, frames, channels), 3, 1)
        return x + pointwise(channels, self.dtype, "to_out_0")(y.reshape(x.shape))


class Middle(nn.Module):
    """Residual block, both attentions, residual block."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ResidualBlock(x.shape[-1], self.dtype, name="resnets_0")(x)
        x = Attention(False, self.dtype, name="attentions_0")(x)
        x = Attention(True, self.dtype, name="temp_attentions_0")(x)
        return ResidualBlock(x.shape[-1], self.dtype, name="resnets_1")(x)


class Downsample(nn.Module):
    """Halves rows and columns (`space`) and the frames after the first (`time`), each beside a mean."""

    space: bool
    time: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        if self.space:
            batch, frames, height, width, _ = x.shape
            conv = Conv(channels, (3, 3), ((0, 1), (0, 1)), 2, self.dtype, name="conv1")
            pairs = x.reshape(batch, frames, height // 2, 2, width // 2, 2, channels)
            x = conv(x) + pairs.mean(axis=(3, 5))
        if self.time:
            count = (x.shape[1] + 1) // 2
            x = jnp.concatenate([x[:, :1], x[:, :1], x], axis=1)
            conv = _time_conv("conv2", self.dtype)
            views = [x[:, start : start + 2 * count - 1 : 2] for start in range(3)]
            x = conv(*views) + (views[1] + views[2]) / 2
        return pointwise(channels, self.dtype, "conv3")(x)


class Upsample(nn.Module):
    """Doubles the frames after the first (`time`) and rows and columns (`space`), each beside a repeat."""

    space: bool
    time: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        if self.time:
            x = jnp.repeat(x, 2, axis=1)[:, 1:]
            x = x + _time_conv("conv1", self.dtype)(*_past(x))
        if self.space:
            x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
            x = x + Conv(channels, dtype=self.dtype, name="conv2")(x)
        return pointwise(channels, self.dtype, "conv3")(x)


class Level(nn.Module):
    """Residual blocks at one resolution, each with both attentions where `attend`, and what follows them.

    `down` and `up` say whether space and time are halved or doubled.
    """

    features: int
    blocks: int
    attend: bool
    dtype: jnp.dtype
    down: tuple[bool, bool] = (False, False)
    up: tuple[bool, bool] = (False, False)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for block in range(self.blocks):
            x = ResidualBlock(self.features, self.dtype, name=f"resnets_{block}")(x)
            if self.attend:
                x = Attention(False, self.dtype, name=f"attentions_{block}")(x)
                x = Attention(True, self.dtype, name=f"temp_attentions_{block}")(x)
        if any(self.down):
            x = Downsample(*self.down, self.dtype, name="downsamplers_0")(x)
        if any(self.up):
            x = Upsample(*self.up, self.dtype, name="upsamplers_0")(x)
        return x


class Encoder(nn.Module):
    """Video (B, F, H, W, 3) -> features (B, T, H/8, W/8, Z) before `quant_conv`."""

    config: TokenizerConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config, dtype = self.config, self.dtype
        first, *widths = config.encoder_block_out_channels
        x = FactoredConv(first, dtype, name="conv_in")(to_wavelets(x, config.patch_size).astype(dtype))
        space, time = _halvings(config)
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            down = (not last and level < space, not last and level < time)
            attend = _resolution(config, level) in config.attention_resolutions
            name = f"down_blocks_{level}"
            x = Level(width, config.num_layers, attend, dtype, down=down, name=name)(x)
        x = nn.silu(FrameNorm(dtype, name="norm_out")(Middle(dtype, name="mid_block")(x)))
        return FactoredConv(config.latent_channels, dtype, name="conv_out")(x)


class Decoder(nn.Module):
    """Latents (B, T, H/8, W/8, Z) after `post_quant_conv` -> video (B, F, H, W, 3), not clipped."""

    config: TokenizerConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config, dtype = self.config, self.dtype
        first, *widths = reversed(config.decode_block_out_channels)
        x = FactoredConv(first, dtype, name="conv_in")(x)
        x = Middle(dtype, name="mid_block")(x)
        space, time = _halvings(config)
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            in_time = not last and 0 < level <= time
            in_space = in_time or (not last and level < space and space > time)
            attend = _resolution(config, len(widths) - 1 - level) in config.attention_resolutions
            name = f"up_blocks_{level}"
            x = Level(width, config.num_layers + 1, attend, dtype, up=(in_space, in_time), name=name)(x)
        x = nn.silu(FrameNorm(dtype, name="norm_out")(x))
        x = FactoredConv(CHANNELS * config.patch_size**3, dtype, name="conv_out")(x)
        return from_wavelets(x.astype(jnp.float32), config.patch_size)


class CosmosTokenizer(nn.Module):
    """The autoencoder; parameters are float32, arithmetic in `dtype`, what goes in and out float32.

    model = CosmosTokenizer(config, jnp.bfloat16)
    params = initial_params(config, key)
    latents = model.apply({"params": params}, video, method="encode")
    video = model.apply({"params": params}, latents, method="decode")
    """

    config: TokenizerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.encoder = Encoder(self.config, self.dtype)
        self.quant_conv = pointwise(self.config.latent_channels, self.dtype)
        self.post_quant_conv = pointwise(self.config.latent_channels, self.dtype)
        self.decoder = Decoder(self.config, self.dtype)

    def encode(self, video: jax.Array) -> jax.Array:
        """Video (B, F, H, W, 3) in [-1, 1] -> latents (B, T, H/8, W/8, Z), normalised by the statistics."""
        check_video(self.config, video.shape)
        raw = self.quant_conv(self.encoder(video)).astype(jnp.float32)
        mean, std = statistics(self.config, raw.shape[1])
        return (raw - mean) / std

    def decode(self, latents: jax.Array) -> jax.Array:
        """Inverse of `encode`: latents (B, T, H/8, W/8, Z) -> video (B, 8 T - 7, H, W, 3), not clipped."""
        mean, std = statistics(self.config, latents.shape[1])
        return self.decoder(self.post_quant_conv(latents * std + mean))

    def __call__(self, video: jax.Array) -> jax.Array:
        """Encodes and decodes."""
        return self.decode(self.encode(video))


def initial_params(config: TokenizerConfig, key: jax.Array) -> dict:
    """Fresh float32 parameters; `jax.eval_shape` of it costs nothing."""
    side = config.spatial_compression
    return CosmosTokenizer(config).init(key, jnp.zeros((1, 1, side, side, CHANNELS)))["params"]


def check_video(config: TokenizerConfig, shape: tuple[int, ...]) -> None:
    """Raises ValueError for a video shape that the model can't encode.

    Of a clip whose length is not 1 + a multiple of 8, the last frames are lost, as in the original.
    """
    space, time = config.spatial_compression, config.patch_size
    if len(shape) != 5 or shape[-1] != CHANNELS:
        raise ValueError(f"a video is (batch, frames, height, width, {CHANNELS}), this one is {shape}")
    _, frames, height, width, _ = shape
    if (frames - 1) % time or height % space or width % space:
        raise ValueError(
            f"{frames} frames of {height} x {width}: frames must be 1 + a multiple of {time} and sides "
            f"multiples of {space}"
        )


def statistics(config: TokenizerConfig, frames: int) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation (T, 1, 1, Z) of the latents; the published ones differ from frame to frame.

    Raises:
      ValueError: there are statistics, but not for so many latent frames.
    """
    if config.latents_mean is None:
        return jnp.zeros(()), jnp.ones(())
    tables = jnp.array([config.latents_mean, config.latents_std]).reshape(2, config.latent_channels, -1)
    if tables.shape[-1] < frames:
        raise ValueError(f"{frames} latent frames; this tokenizer's statistics are for {tables.shape[-1]}")
    mean, std = jnp.moveaxis(tables[:, :, :frames], 1, 2)[:, :, None, None, :]
    return mean, std


def _past(x: jax.Array) -> list[jax.Array]:
    """Two frames ago, one ago, now; before the clip its first frame."""
    padded = jnp.concatenate([x[:, :1], x[:, :1], x], axis=1)
    return [padded[:, start : start + x.shape[1]] for start in range(3)]


def _time_conv(name: str, dtype: jnp.dtype):
    """Convolution over time that keeps the number of channels, as a function of its views."""

    def apply(*views):
        return Conv(views[0].shape[-1], (1, 1), NO_PADDING, dtype=dtype, name=name)(*views)

    return apply


def _halvings(config: TokenizerConfig) -> tuple[int, int]:
    """How often the network itself halves space and time, beyond the wavelets."""
    patch = _log2(config.patch_size)
    return _log2(config.spatial_compression) - patch, _log2(config.temporal_compression) - patch


def _resolution(config: TokenizerConfig, level: int) -> int:
    """Nominal picture side at a level, which decides where there is attention."""
    return config.resolution // config.patch_size // 2**level


def _log2(number: int) -> int:
    return number.bit_length() - 1
