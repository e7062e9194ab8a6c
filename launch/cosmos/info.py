"""`info`: parameters, memory, operations, expected speed of a model, and the training plan that fits."""

from pathlib import Path

from configs import cli
from configs.cosmos_use import Info
from launch.shared import runs
from wm.cosmos.networks.config import ModelConfig, resolve
from wm.cosmos.training import cost
from wm.cosmos.weights import models
from wm.cosmos.weights.sources import WeightsError
from wm.store import checkpoints
from wm.store.checkpoints import CheckpointError


def model_of(name: str) -> tuple[ModelConfig, str]:
    """The model that a preset, repository or folder names, and a note for the user."""
    if not Path(name).is_dir():
        return resolve(name)
    described = checkpoints.load_config(name, models.STEP)
    if described.get("kind") != "transformer":
        raise WeightsError(f"{name} isn't a converted transformer")
    return cli.from_json(ModelConfig, described["model"]), ""


def speeds(model: ModelConfig, config: Info) -> dict[str, float]:
    """Operations and expected times: TFLOP per clip, samples per second, seconds per generated frame."""
    clip = (config.frames, config.height, config.width)
    peak = cost.DEVICES[config.device].peak_tflops
    forward = cost.forward_flops(model, *clip) / 1e12
    encode, decode = (flops / 1e12 for flops in cost.autoencoder_flops(model, *clip))
    training = config.devices * peak * config.train_share / (3 * forward)
    drawing = config.steps * forward / (peak * config.forward_share)
    coding = decode / (peak * config.autoencoder_share)
    new = config.frames - 1 or 1
    return {
        "forward_tflop": forward,
        "training_tflop": 3 * forward,
        "encode_tflop": encode,
        "decode_tflop": decode,
        "training_samples_per_s": training,
        "seconds_per_frame": (drawing + coding) / new,
        "seconds_per_frame_without_decoding": drawing / new,
        "frames_per_s": config.devices * new / (drawing + coding),
    }


def describe(model: ModelConfig, config: Info) -> list[str]:
    """The lines that are printed."""
    clip = (config.frames, config.height, config.width)
    device = cost.DEVICES[config.device]
    speed = speeds(model, config)
    counts = cost.parameter_counts(model)
    inference = cost.inference_memory(model, clip, 1)
    found = cost.plans(model, clip, device, config.devices, config.lora_rank)
    plan, reason = cost.choose(found)
    lines = [
        f"{model.name}: {cost.transformer_parameters(model):,} parameters",
        *(f"    {part:28s} {count:>16,}" for part, count in counts.items()),
        f"clip of {config.frames} frames, {config.height} x {config.width}: "
        f"{cost.tokens(model, *clip):,} tokens",
        f"    forward {speed['forward_tflop']:.1f} TFLOP, training {speed['training_tflop']:.1f}, "
        f"encoding {speed['encode_tflop']:.1f}, decoding {speed['decode_tflop']:.1f}",
        f"expected on {config.devices} x {device.name} ({device.peak_tflops:g} TFLOP/s, "
        f"{config.train_share:.0%} of it in training, {config.forward_share:.0%} in sampling, "
        f"{config.autoencoder_share:.0%} in the autoencoder):",
        f"    training {speed['training_samples_per_s']:.2f} samples/s",
        f"    {config.steps} steps: {speed['seconds_per_frame']:.4f} s per generated frame "
        f"({speed['seconds_per_frame_without_decoding']:.4f} without decoding), "
        f"{speed['frames_per_s']:.1f} frames/s on all devices",
        f"memory to generate, one clip: {sum(inference.values()):.1f} GiB"
        f"{'' if sum(inference.values()) <= device.memory_gib else ', more than the device has'}",
        *(f"    {part:32s} {size:8.2f} GiB" for part, size in inference.items()),
        f"training, {device.memory_gib:g} GiB per device:",
    ]
    for option in found:
        verdict = "fits" if option.fits else f"doesn't fit, {option.total_gib:.0f} GiB"
        lines.append(
            f"    {option.name:14s} batch {option.batch:3d}, keeps {option.remat:14s} "
            f"{option.total_gib:7.1f} GiB  {verdict}"
        )
    lines.append(f"plan: {reason}")
    if plan:
        lines += [f"    {part:32s} {size:8.2f} GiB" for part, size in plan.memory.items()]
    return lines


def main(argv: list[str]) -> None:
    """Print what a model costs; computes nothing on a device."""
    config = cli.parse(Info, argv)
    with runs.one_line_errors(ValueError, WeightsError, CheckpointError):
        model, note = model_of(config.model)
        lines = describe(model, config)
    print("\n".join([note, *lines] if note else lines))
