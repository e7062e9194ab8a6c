"""Schedules, solvers and the EDM interfaces against diffusers' schedulers and pipelines.

The network is replaced by a smooth function of its arguments, the same formula in torch and JAX: a solver's
arithmetic is checked apart from any weights. The first frame is given.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tests.wm.cosmos.parity.case import Arrays, Case
from wm.cosmos.sampling import solvers
from wm.cosmos.training import edm, flow
from wm.cosmos.training.flow import FlowConfig

SHAPE = (2, 3, 2, 4, 5)  # B, T, H, W, C
GIVEN = np.array([[1, 0, 0], [1, 0, 0]], np.float32)
SHIFT = 5.0


def cases() -> dict[str, Case]:
    """Every row of the table that is about sampling."""
    rows = {}
    for steps in (1, 2, 3, 10, 35):
        rows[f"unipc_shifted_{steps}_steps"] = Case(
            partial(_flow_ours, "unipc", "shifted", steps), partial(_unipc_theirs, "shifted", steps)
        )
    rows["unipc_karras_10_steps"] = Case(
        partial(_flow_ours, "unipc", "karras", 10), partial(_unipc_theirs, "karras", 10)
    )
    rows["euler_shifted_10_steps"] = Case(
        partial(_flow_ours, "euler", "shifted", 10), partial(_euler_theirs, 10)
    )
    rows["predict2_euler_10_steps"] = Case(
        partial(_edm_ours, edm.PREDICT2, 10), partial(_predict2_theirs, 10)
    )
    rows["predict1_euler_10_steps"] = Case(
        partial(_edm_ours, edm.PREDICT1, 10), partial(_predict1_theirs, 10)
    )
    return rows


def _clips() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(noise, known latents, noise of given frames), each of SHAPE."""
    generator = np.random.default_rng(7)
    return tuple(generator.standard_normal(SHAPE, dtype=np.float32) for _ in range(3))


def _answer(library, x, times, mask):
    """What stands for the network's answer: nonlinear in the clip, and different for every time and mask."""
    return library.tanh(0.7 * x) * (1.3 - times) + 0.4 * library.sin(3 * x + 2 * times) + 0.2 * mask


def _wide(times):
    return times[(...,) + (None,) * (5 - times.ndim)]


def _network(x, times, condition_mask):
    return _answer(jnp, x, _wide(times), condition_mask[:, :, None, None, None])


def _flow_levels(schedule, steps):
    if schedule == "shifted":
        return solvers.shifted_levels(steps, SHIFT)
    return solvers.to_flow(solvers.karras_levels(steps, 0.01, 200.0))


def _flow_ours(solver, schedule, steps) -> Arrays:
    noise, known, _ = _clips()
    denoise = flow.denoiser(_network, known, GIVEN, FlowConfig(condition_time=1e-4))
    levels = _flow_levels(schedule, steps)
    return _compared(schedule, np.asarray(solvers.solve(denoise, noise, levels, jax.random.key(0), solver)))


def _compared(schedule, clip) -> Arrays:
    # The Karras schedule begins below 1, and the original leaves that much of the noise in given frames.
    return [clip[:, 1:] if schedule == "karras" else clip]


def _velocity_theirs(torch, latents, noise, known, sigma):
    """As the 2.5 pipeline calls its network: given frames clean, with a time and velocity of their own."""
    mask = _wide(torch.from_numpy(GIVEN))
    times = mask * 1e-4 + (1 - mask) * sigma
    answer = _answer(torch, mask * known + (1 - mask) * latents, times, mask)
    return (noise - known) * mask + answer * (1 - mask)


def _flow_theirs(scheduler, torch) -> np.ndarray:
    noise, known, _ = (torch.from_numpy(clip) for clip in _clips())
    latents = noise
    for index, time in enumerate(scheduler.timesteps):
        velocity = _velocity_theirs(torch, latents, noise, known, scheduler.sigmas[index])
        latents = scheduler.step(velocity, time, latents, return_dict=False)[0]
    return latents.numpy()


def _unipc_theirs(schedule, steps) -> Arrays:
    import torch
    from diffusers import UniPCMultistepScheduler

    options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    if schedule == "shifted":
        scheduler = UniPCMultistepScheduler(flow_shift=SHIFT, **options)
    else:
        scheduler = UniPCMultistepScheduler(
            use_karras_sigmas=True, sigma_min=0.01, sigma_max=200.0, **options
        )
    scheduler.set_timesteps(steps)
    return _compared(schedule, _flow_theirs(scheduler, torch))


def _euler_theirs(steps) -> Arrays:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    scheduler.set_timesteps(sigmas=list(np.linspace(1.0, 1e-3, steps + 1)[:-1]))
    return [_flow_theirs(scheduler, torch)]


def _edm_ours(config, steps) -> Arrays:
    noise, known, given_noise = _clips()
    levels = solvers.karras_levels(steps)

    def denoise(x, level, fall, key):
        sigma = jnp.full(x.shape[:1], level)
        return edm.clean(_network, x, sigma, known, GIVEN, given_noise, config)

    start = noise * levels[0].astype(np.float32)
    return [np.asarray(solvers.solve(denoise, start, levels, jax.random.key(0), "euler", rectified=False))]


def _predict2_theirs(steps) -> Arrays:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.register_to_config(sigma_min=0.002, sigma_max=80.0)  # no arguments of its own for these
    scheduler.set_timesteps(sigmas=torch.linspace(0, 1, steps, dtype=torch.float64))
    noise, known, _ = (torch.from_numpy(clip) for clip in _clips())
    mask = _wide(torch.from_numpy(GIVEN))
    latents = noise * 80.0
    for index, step_time in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index]
        time = sigma / (sigma + 1)
        shown = mask * known + (1 - mask) * latents * (1 - time)
        times = mask * (1e-4 / (1 + 1e-4)) + (1 - mask) * time
        clean = (1 - time) * latents - time * _answer(torch, shown, times, mask)
        clean = mask * known + (1 - mask) * clean
        latents = scheduler.step((latents - clean) / sigma, step_time, latents, return_dict=False)[0]
    return [latents.numpy()]


def _predict1_theirs(steps) -> Arrays:
    import torch
    from diffusers import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(steps)
    noise, known, given_noise = (torch.from_numpy(clip) for clip in _clips())
    mask = _wide(torch.from_numpy(GIVEN))
    augment = torch.tensor(1e-3)
    latents = noise * 80.0
    for index, time in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index]
        own = mask * 0 if augment >= sigma else mask
        ratio = scheduler._get_conditioning_c_in(augment) / scheduler._get_conditioning_c_in(sigma)
        shown = own * (known + given_noise * augment) * ratio + (1 - own) * latents
        shown = scheduler.scale_model_input(shown, time)
        answer = _answer(torch, shown, time, mask)
        clean = scheduler.step(answer, time, latents, return_dict=False)[1]
        scheduler._step_index -= 1
        clean = own * known + (1 - own) * clean
        latents = scheduler.step(clean, time, latents, return_dict=False, pred_original_sample=clean)[0]
    return [latents.numpy()]
