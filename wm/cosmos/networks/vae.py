"""The Wan2.1 video VAE, which Cosmos-Predict2 and 2.5 see the world through, as one causal pass.

The released code cuts a clip into the first frame and groups of four and carries features between them. That
comes to the same as one pass over the whole clip with two rules for the first frame, which has no past:

* halving the frame rate keeps frame 0 as it is and convolves all frames with kernel 3, stride 2, no padding;
* doubling it keeps frame 0 as it is and doubles the others by a causal convolution that doesn't see frame 0.

Every other convolution over time sees two earlier frames, zeros before the first. So 1 + 4k frames are k + 1
latent frames, and no latent frame depends on a later pixel frame.

Dimension letters: B batch, F pixel frames, T latent frames, H W height and width, C channels. Channels last.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from wm.cosmos.networks.config import VAEConfig

CHANNELS = 3


class Conv(nn.Module):
    """Convolution within frames of one or more views of a clip, each (B, F, H, W, C), zeros outside.

    A convolution over time is one over its three views (two frames ago, one ago, now) side by side: a 2D
    convolution of three times the channels, which every backend has a fast kernel for.

    Attributes:
      features: output channels.
      window: height and width of the kernel.
      padding: rows and columns of zeros before and after.
      stride: over rows and columns.
      dtype: of the arithmetic; parameters are float32. The kernel is (views, *window, C, features), without
        the first axis for a single view.
    """

    features: int
    window: tuple[int, int] = (3, 3)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *views: jax.Array) -> jax.Array:
        *leading, height, width, channels = views[0].shape
        axis = (len(views),) if len(views) > 1 else ()
        shape = (*axis, *self.window, channels, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        if axis:
            kernel = jnp.moveaxis(kernel, 0, 2).reshape(*self.window, -1, self.features)
        x = jnp.concatenate([view.astype(self.dtype) for view in views], axis=-1)
        y = jax.lax.conv_general_dilated(
            x.reshape(-1, height, width, x.shape[-1]),
            kernel,
            window_strides=(self.stride, self.stride),
            padding=self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (y + bias).reshape(*leading, *y.shape[1:])


def past(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a causal convolution sees of x (B, F, H, W, C): two frames ago, one ago, now; zeros before all."""
    frames = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0)))
    return padded[:, :frames], padded[:, 1 : frames + 1], x


def pointwise(features: int, dtype: jnp.dtype, name: str | None = None) -> nn.Dense:
    """1 x 1 x 1 convolution."""
    return nn.Dense(features, dtype=dtype, name=name)


class ChannelNorm(nn.Module):
    """Scales each position's channels to root mean square `gamma`; statistics in float32."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        length = jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True))
        return (x / jnp.maximum(length, 1e-12) * x.shape[-1] ** 0.5 * gamma).astype(self.dtype)


class ResidualBlock(nn.Module):
    """Two normed, causal convolutions beside a shortcut, (B, F, H, W, C) -> (B, F, H, W, features)."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.silu(ChannelNorm(self.dtype, name="norm1")(x))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(*past(h))
        h = nn.silu(ChannelNorm(self.dtype, name="norm2")(h))
        h = Conv(self.features, dtype=self.dtype, name="conv2")(*past(h))
        if x.shape[-1] != self.features:
            x = pointwise(self.features, self.dtype, "conv_shortcut")(x)
        return x + h


class FrameAttention(nn.Module):
    """Self-attention with one head among the positions of each frame, (B, F, H, W, C) -> the same."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, frames, height, width, channels = x.shape
        h = ChannelNorm(self.dtype, name="norm")(x)
        qkv = pointwise(3 * channels, self.dtype, "to_qkv")(h)
        qkv = qkv.reshape(batch * frames, height * width, 3, 1, channels)
        h = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return x + pointwise(channels, self.dtype, "proj")(h.reshape(x.shape))


class Downsample(nn.Module):
    """Halves height and width, and with `time` the frames after the first."""

    time: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        x = Conv(channels, (3, 3), ((0, 1), (0, 1)), 2, self.dtype, name="resample")(x)
        if not self.time or x.shape[1] == 1:
            return x
        conv = Conv(channels, (1, 1), ((0, 0), (0, 0)), dtype=self.dtype, name="time_conv")
        return jnp.concatenate([x[:, :1], conv(x[:, :-2:2], x[:, 1:-1:2], x[:, 2::2])], axis=1)


class Upsample(nn.Module):
    """With `time` doubles the frames after the first; doubles height and width, halves the channels."""

    time: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        if self.time and x.shape[1] > 1:
            conv = Conv(2 * channels, (1, 1), ((0, 0), (0, 0)), dtype=self.dtype, name="time_conv")
            x = jnp.concatenate([x[:, :1], _interleave(conv(*past(x[:, 1:])))], axis=1)
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        return Conv(channels // 2, dtype=self.dtype, name="resample")(x)


class Middle(nn.Module):
    """Residual block, attention within frames, residual block."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ResidualBlock(x.shape[-1], self.dtype, name="resnets_0")(x)
        x = FrameAttention(self.dtype, name="attentions_0")(x)
        return ResidualBlock(x.shape[-1], self.dtype, name="resnets_1")(x)


class Encoder(nn.Module):
    """Video (B, F, H, W, 3) -> features (B, T, H/8, W/8, 2 Z): mean and log variance before `quant_conv`."""

    config: VAEConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        x = Conv(config.base_dim, dtype=self.dtype, name="conv_in")(*past(x))
        number = 0
        for level, multiplier in enumerate(config.dim_mult):
            for _ in range(config.num_res_blocks):
                name = f"down_blocks_{number}"
                x = ResidualBlock(config.base_dim * multiplier, self.dtype, name=name)(x)
                number += 1
            if level < len(config.dim_mult) - 1:
                time = config.temporal_downsample[level]
                x = Downsample(time, self.dtype, name=f"down_blocks_{number}")(x)
                number += 1
        x = Middle(self.dtype, name="mid_block")(x)
        x = nn.silu(ChannelNorm(self.dtype, name="norm_out")(x))
        return Conv(2 * config.z_dim, dtype=self.dtype, name="conv_out")(*past(x))


class UpBlock(nn.Module):
    """Residual blocks at one resolution, then an `Upsample` unless it is the last."""

    features: int
    blocks: int
    upsample: str  # "none", "space" or "time and space"
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for block in range(self.blocks):
            x = ResidualBlock(self.features, self.dtype, name=f"resnets_{block}")(x)
        if self.upsample == "none":
            return x
        return Upsample(self.upsample == "time and space", self.dtype, name="upsamplers_0")(x)


class Decoder(nn.Module):
    """Latents (B, T, H/8, W/8, Z) after `post_quant_conv` -> video (B, F, H, W, 3), not clipped."""

    config: VAEConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        widths = [config.base_dim * multiplier for multiplier in reversed(config.dim_mult)]
        doublings = ["time and space" if time else "space" for time in reversed(config.temporal_downsample)]
        x = Conv(widths[0], dtype=self.dtype, name="conv_in")(*past(x))
        x = Middle(self.dtype, name="mid_block")(x)
        for level, (width, upsample) in enumerate(zip(widths, [*doublings, "none"], strict=True)):
            name = f"up_blocks_{level}"
            x = UpBlock(width, config.num_res_blocks + 1, upsample, self.dtype, name=name)(x)
        x = nn.silu(ChannelNorm(self.dtype, name="norm_out")(x))
        return Conv(CHANNELS, dtype=self.dtype, name="conv_out")(*past(x))


class WanVAE(nn.Module):
    """The autoencoder; parameters are float32, arithmetic in `dtype`, what goes in and out float32.

    model = WanVAE(config, jnp.bfloat16)
    params = initial_params(config, key)
    latents = model.apply({"params": params}, video, method="encode")
    video = model.apply({"params": params}, latents, method="decode")
    """

    config: VAEConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.encoder = Encoder(self.config, self.dtype)
        self.quant_conv = pointwise(2 * self.config.z_dim, self.dtype)
        self.post_quant_conv = pointwise(self.config.z_dim, self.dtype)
        self.decoder = Decoder(self.config, self.dtype)

    def encode(self, video: jax.Array) -> jax.Array:
        """Video (B, F, H, W, 3) in [-1, 1] -> mean latents (B, T, H/8, W/8, Z), of about unit variance."""
        mean, _ = self.moments(video)
        return (mean - jnp.array(self.config.latents_mean)) / jnp.array(self.config.latents_std)

    def decode(self, latents: jax.Array) -> jax.Array:
        """Inverse of `encode`: latents (B, T, H/8, W/8, Z) -> video (B, F, H, W, 3) in [-1, 1]."""
        raw = latents * jnp.array(self.config.latents_std) + jnp.array(self.config.latents_mean)
        return jnp.clip(self.reconstruct(raw), -1.0, 1.0)

    def moments(self, video: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance (B, T, H/8, W/8, Z) of the latents as trained, not normalised."""
        check_video(self.config, video.shape)
        mean, log_variance = jnp.split(self.quant_conv(self.encoder(video)).astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(log_variance, -30.0, 20.0)

    def reconstruct(self, raw: jax.Array) -> jax.Array:
        """Latents as `moments` gives them -> video, not limited to [-1, 1]: what a training loss compares."""
        return self.decoder(self.post_quant_conv(raw)).astype(jnp.float32)

    def __call__(self, video: jax.Array) -> jax.Array:
        """Encodes and decodes; uses every parameter if there are 1 + `temporal_compression` frames."""
        return self.decode(self.encode(video))


def initial_params(config: VAEConfig, key: jax.Array) -> dict:
    """Fresh float32 parameters; `jax.eval_shape` of it costs nothing."""
    size = config.spatial_compression
    video = jnp.zeros((1, 1 + config.temporal_compression, size, size, CHANNELS))
    return WanVAE(config).init(key, video)["params"]


def check_video(config: VAEConfig, shape: tuple[int, ...]) -> None:
    """Raises ValueError for a video shape that the model can't encode, naming the nearest that it can."""
    space, time = config.spatial_compression, config.temporal_compression
    if len(shape) != 5 or shape[-1] != CHANNELS:
        raise ValueError(f"a video is (batch, frames, height, width, {CHANNELS}), this one is {shape}")
    _, frames, height, width, _ = shape
    if (frames - 1) % time or height % space or width % space:
        frames_fit = max(0, frames - 1) // time * time + 1
        height_fit, width_fit = (max(1, round(side / space)) * space for side in (height, width))
        raise ValueError(
            f"{frames} frames of {height} x {width}: frames must be 1 + a multiple of {time} and sides "
            f"multiples of {space}, such as {frames_fit} frames of {height_fit} x {width_fit}"
        )


def _interleave(x: jax.Array) -> jax.Array:
    """Two frames out of the two halves of each frame's channels, (B, F, H, W, 2 C) -> (B, 2 F, H, W, C)."""
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height, width, 2, channels // 2)
    return jnp.moveaxis(x, -2, 2).reshape(batch, 2 * frames, height, width, channels // 2)
