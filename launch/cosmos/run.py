"""What a fine-tuning run of a Cosmos model is made of: model, clips, trainer, and where its arrays lie."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import cli
from configs.cosmos import Finetune
from launch.cosmos.latents import Coder, Latents, part_of, prepare
from launch.shared import parallel, training
from wm.cosmos.networks import dit, lora
from wm.cosmos.networks.config import ActionConfig, ModelConfig, resolve
from wm.cosmos.training import cost
from wm.cosmos.training.clips import Normaliser
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.objective import Clips
from wm.cosmos.training.shortcut import ShortcutConfig
from wm.cosmos.training.train import Batch, Trainer, TrainState
from wm.cosmos.weights import models, text_embedding
from wm.store import checkpoints

# Parameters that a checkpoint may lack or have for another number of actions; they are then made anew.
NEW = ("action/", "step_")


class FinetuneError(training.TrainingError):
    """The run can't start or go on; one line with cause and remedy."""


@dataclass(frozen=True, eq=False)
class Run:
    """What stays the same throughout.

    `config` has the sizes of the devices that there are; `asked` those that were asked for.
    """

    config: Finetune
    asked: Finetune
    model: ModelConfig
    clips: Clips
    trainer: Trainer
    data: Latents
    normaliser: Normaliser
    coder: Coder
    devices: int  # of this host

    @property
    def training(self) -> int:
        """How many clips are trained on; those after them are held out."""
        return len(self.data) - self.config.holdout

    @property
    def batch(self) -> int:
        """Clips of a step, over all devices of all hosts."""
        return self.config.batch * self.devices * jax.process_count()

    @property
    def steps_per_epoch(self) -> int:
        return self.training // self.batch

    @property
    def flops(self) -> float:
        """Model FLOPs of one step on one device: three forward passes of what is trained on."""
        size = self.config.frames, self.config.height, self.config.width
        return 3 * cost.forward_flops(self.model, *size, self.config.batch)

    def record(self) -> dict:
        """What every start of the run has to share: the configuration, its inputs by their content."""
        asked = cli.to_json(self.asked)
        for name in ("out", "latents", "save_every", "minutes", "devices", "backend", "wandb"):
            del asked[name]
        inputs = {"data": self.data.fingerprint, "vae": checkpoints.fingerprint(self.asked.vae)}
        if self.asked.init is not None:
            inputs["init"] = checkpoints.fingerprint(self.asked.init)
        if self.asked.context is not None:
            inputs["context"] = hashlib.sha256(self.asked.context.read_bytes()).hexdigest()
        made = {"model": cli.to_json(self.model), "normaliser": asdict(self.normaliser)}
        return {**asked, **inputs, **made}

    def place(self, tree: Any) -> Any:
        """Whole on every device, or in parts."""
        put = parallel.shard if self.config.backend == "fsdp" else parallel.replicate
        return put(tree, self.devices)

    def compiled(self) -> Callable:
        """The update on all devices, with the shapes of `launch.shared.parallel`."""
        on = self.devices if jax.process_count() == 1 else None
        if self.config.backend == "fsdp":
            return parallel.wrap_sharded(self.trainer.update, on)
        return parallel.wrap(self.trainer.update, self.config.backend, on, (0,))

    def actions(self, rows: np.ndarray) -> np.ndarray | None:
        """Normalised actions of clips."""
        return self.normaliser(self.data.actions[rows]) if self.model.action else None

    def batches(self, epoch: int, first: int = 0):
        """(batch, keys) of every step of an epoch, on the devices; they depend on seed and step alone."""
        order = np.random.default_rng((self.config.seed, epoch)).permutation(self.training)
        for index in range(first, self.steps_per_epoch):
            rows = np.sort(order[index * self.batch : (index + 1) * self.batch])
            step = epoch * self.steps_per_epoch + index
            keys = jax.random.split(jax.random.fold_in(jax.random.key(self.config.seed), step), self.batch)
            own = parallel.host_rows(rows)
            batch = Batch(np.asarray(self.data.latents[own]), self.actions(own))
            yield tuple(parallel.split(x, self.devices) for x in (batch, parallel.host_rows(keys)))


def make(asked: Finetune) -> tuple[Run, Callable[[], tuple[TrainState, Any]]]:
    """The run, and what makes its first train state and frozen variables, on the devices.

    Raises:
      FinetuneError, ClipError, ValueError: what can't be trained, and why.
    """
    devices = len(parallel.devices(asked.devices))
    config = replace(asked, batch=_batch(asked, devices))
    if jax.process_count() > 1 and (config.backend == "fsdp" or config.devices is not None):
        raise FinetuneError("on several hosts leave out --devices and take --backend pmap or shard_map")
    coder, start = models.load(config.vae), _start(config)
    model = replace(start.config, vae=coder.config)
    data = prepare(config, model, coder.params)
    model = _with_actions(model, data.actions.shape[-1], config.shortcut_share > 0)
    clips = Clips(_network(model, config), _context(config, start), config.given, model.parametrisation)
    run = Run(
        config=config,
        asked=asked,
        model=model,
        clips=clips,
        trainer=_trainer(config, clips, len(data), devices),
        data=data,
        normaliser=Normaliser.fit(data.actions[: max(1, len(data) - config.holdout)]),
        coder=Coder(model, coder.params, part_of(config.frames, config.height, config.width)),
        devices=devices,
    )
    if run.steps_per_epoch < 1:
        raise FinetuneError(
            f"{config.data} has {len(data)} clips; {config.holdout} are held out and a step takes "
            f"{run.batch}: "
            "lower --batch or --holdout"
        )
    return run, lambda: first_state(run, start.params)


def _batch(asked: Finetune, devices: int) -> int:
    """Clips of each device and step: as asked for, or its share of what an earlier start had."""
    fits = lambda size: size % asked.optimizer.accumulate == 0  # noqa: E731
    return training.per_device(asked.out, asked.batch, devices * jax.process_count(), "clips of a step", fits)


def first_state(run: Run, params: dict) -> tuple[TrainState, Any]:
    """Train state and frozen variables before the first step; without `params` of random weights."""
    key_init, key_lora = jax.random.split(jax.random.key(run.config.seed))
    params = complete(run.clips.model, params, key_init)
    trained, frozen = lora.divide(params, run.trainer.lora, key_lora)
    frozen = run.trainer.compute_copy(run.place(frozen))
    return run.place(run.trainer.init(run.place(trained))), frozen


def complete(model: dit.CosmosDiT, params: dict, key: jax.Array) -> dict:
    """`params` with new weights for what a checkpoint may lack; all new if there are none.

    Raises:
      FinetuneError: another parameter is missing, superfluous or of another shape.
    """
    shapes = flatten_dict(jax.eval_shape(lambda: dit.init(model, key)), sep="/")
    have = flatten_dict(params, sep="/")
    fitting = {name: x for name, x in have.items() if name in shapes and shapes[name].shape == x.shape}
    missing = [name for name in shapes if name not in fitting]
    if fitting:
        wrong = [name for name in missing if not name.startswith(NEW)]
        wrong += [name for name in have if name not in shapes]
        if wrong:
            raise FinetuneError(
                f"the weights to start from don't fit the model: {wrong[0]}; convert them again"
            )

    @jax.jit
    def make_new(key):
        every = flatten_dict(dit.init(model, key), sep="/")
        return {name: every[name] for name in missing}

    return unflatten_dict({**fitting, **make_new(key)} if missing else fitting, sep="/")


def _start(config: Finetune) -> models.Model:
    """What training begins with, without the part that projects text; {} for random weights."""
    if config.init is None:
        model, said = resolve(config.model)
        if said:
            print(said)
        return models.Model(model.without_text(), {}, None, {})
    model = models.load(config.init)
    if not isinstance(model.config, ModelConfig):
        raise FinetuneError(f"{config.init} holds an autoencoder; name a transformer's folder")
    params = {name: part for name, part in model.params.items() if name != "text_proj"}
    return replace(model, config=model.config.without_text(), params=params)


def _with_actions(model: ModelConfig, width: int, steps: bool) -> ModelConfig:
    """The model for actions of that width, which may be none, and with nets for step sizes if asked for."""
    action = replace(model.action or ActionConfig(), width=width) if width else None
    hidden = (model.dit.step_hidden or model.dit.width) if steps else model.dit.step_hidden
    return replace(model, action=action, dit=replace(model.dit, step_hidden=hidden))


def _short(model: ModelConfig, config: Finetune) -> bool:
    """Whether clips have so few tokens that a fused attention kernel has nothing to win."""
    return cost.tokens(model, config.frames, config.height, config.width) < 512


def _network(model: ModelConfig, config: Finetune) -> dit.CosmosDiT:
    dtype = jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32
    attention = "xla" if _short(model, config) else "auto"
    return dit.CosmosDiT(model.dit, model.action, dtype, remat=config.remat, attention=attention)


def _context(config: Finetune, start: models.Model) -> jax.Array:
    """(1, K, width) that all clips share: as asked for, or that of the weights, or zeros."""
    width, path = start.config.dit.context_width, config.context
    if path is None and start.context is not None:
        return jnp.asarray(start.context)
    if path is None:
        # Without text one token of zeros does what 512 do, but fused kernels want more than one.
        zeros = dit.empty_context(start.config.dit)
        return zeros[:, :1] if _short(start.config, config) else zeros
    context = text_embedding.read(path)
    if context.shape[-1] != width:
        raise FinetuneError(f"{path}: the text embedding is {context.shape[-1]} wide, must be {width}")
    return jnp.asarray(context)


def _trainer(config: Finetune, clips: Clips, count: int, devices: int) -> Trainer:
    flow = FlowConfig(shift=config.shift)
    if config.shortcut_share:
        objective = clips.shortcut_objective(ShortcutConfig(config.shortcut_share, flow=flow))
    else:
        objective = clips.flow_objective(flow)
    optimizer = config.optimizer
    if optimizer.steps is None:
        steps = (count - config.holdout) // (config.batch * devices * jax.process_count()) * config.epochs
        optimizer = replace(optimizer, steps=max(1, steps))
    axis = None if config.backend == "fsdp" else parallel.AXIS
    adapters = config.lora if config.mode == "lora" else None
    return Trainer(objective, optimizer, adapters, axis, dit.keeps_float32)
