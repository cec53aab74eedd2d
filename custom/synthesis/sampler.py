"""From noise to an image in few steps: one sampler, told at each step where it comes from and where it goes.

MONAI's `DDIMScheduler.step` goes to ``t - T // steps`` and `DDPMScheduler.step` to ``t - 1``, whatever time comes next
in the list, so few steps do not end at a clean image. MONAI's noise schedule is used as it is; only the step is
written here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.schedulers import RFlowScheduler, Scheduler
from tqdm import tqdm

from custom.common.errors import BadInput

# model(x_t, timesteps) -> prediction: x_t is (B, C, ...), timesteps (B,)
Model = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def to_signed(image: torch.Tensor) -> torch.Tensor:
    """Map intensities in [0, 1] to the [-1, 1] in which diffusion runs."""
    return 2 * image - 1


def to_unit(image: torch.Tensor) -> torch.Tensor:
    """Map [-1, 1] back to intensities in [0, 1]."""
    return (image + 1) / 2


def starting_image(start: str, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return what sampling starts from, and what training mixes the real image with.

    Args:
        start: "noise", or "mean" for the mean of the conditioning images, which is nearer to the goal than noise is
            (conditional Wavelet Flow Matching starts there); only a rectified flow can.
        condition: (B, C, ...), in [-1, 1].
        noise: standard normal noise, (B, 1, ...).

    Raises:
        BadInput: for another ``start``.
    """
    if start == "noise":
        return noise
    if start == "mean":
        return condition.mean(dim=1, keepdim=True)
    raise BadInput(f"start: found {start!r}, expected 'noise' or 'mean'.")


def trailing_timesteps(steps: int, num_train_timesteps: int) -> list[int]:
    """Return ``steps`` times, evenly spaced, from the last training time downwards.

    Starting at the last time matters: only there is the image the pure noise that sampling starts from (Lin et al.,
    "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891, "trailing").

    Raises:
        BadInput: when ``steps`` is not a whole number between 1 and ``num_train_timesteps``.
    """
    if not isinstance(steps, int) or not 1 <= steps <= num_train_timesteps:
        raise BadInput(f"The sampler has {steps} steps, expected a whole number from 1 to {num_train_timesteps}.")
    return [round(num_train_timesteps * (steps - i) / steps) - 1 for i in range(steps)]


def predict_x0(
    prediction: torch.Tensor, x_t: torch.Tensor, alpha_bar: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Turn what the network predicts into the clean image that it implies.

    Args:
        prediction: output of the network, (B, C, ...).
        x_t: the noisy image that the network saw, same shape.
        alpha_bar: cumulative signal share of ``x_t`` (Ho et al., arXiv 2006.11239), broadcastable to ``x_t``.
        prediction_type: "sample" (the clean image itself), "epsilon" (the noise) or "v_prediction" (Salimans & Ho,
            arXiv 2202.00512).

    Raises:
        ValueError: for another ``prediction_type``.
    """
    if prediction_type == "sample":
        return prediction
    if prediction_type == "epsilon":
        return (x_t - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()
    if prediction_type == "v_prediction":
        return alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * prediction
    raise ValueError(f"prediction_type: found {prediction_type!r}, expected 'sample', 'epsilon' or 'v_prediction'.")


@torch.no_grad()
def sample(
    model: Model,
    noise: torch.Tensor,
    schedule: Scheduler,
    steps: int = 2,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Denoise ``noise`` to a clean image with DDIM (Song et al., arXiv 2010.02502, equation 12).

    Args:
        model: the network, already given its condition: ``model(x_t, timesteps)``.
        noise: standard normal noise, (B, C, ...).
        schedule: MONAI scheduler that the network was trained with; its ``prediction_type`` says what it predicts.
        steps: evaluations of the network, 1 to ``schedule.num_train_timesteps``.
        eta: 0 for the deterministic DDIM, 1 for the noise that ancestral (DDPM) sampling adds.
        generator: source of the noise that ``eta`` adds, on the CPU so that every device gives the same image.

    Returns:
        The clean image in the range [-1, 1], same shape as ``noise``.
    """
    x = noise
    times = trailing_timesteps(steps, schedule.num_train_timesteps)
    # numbers, not images: they stay on the CPU, so that no device is waited for; 1.0 is the clean image, all signal
    levels = [*schedule.alphas_cumprod.to("cpu", torch.float32)[times], torch.tensor(1.0)]
    # disable=None: no bar where there is no terminal; delay: none for what is over in two seconds
    bar = tqdm(times, desc="Synthesizing T1ce", unit="step", leave=False, delay=2, disable=None)
    for time, alpha_bar, next_alpha_bar in zip(bar, levels, levels[1:], strict=False):
        prediction = model(x, torch.full((x.shape[0],), time, device=x.device))
        x0 = predict_x0(prediction, x, alpha_bar, str(schedule.prediction_type)).clamp(-1, 1)
        epsilon = (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        sigma = eta * ((1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar)).sqrt()
        x = next_alpha_bar.sqrt() * x0 + (1 - next_alpha_bar - sigma**2).sqrt() * epsilon
        if eta > 0 and sigma > 0:
            x = x + sigma * torch.randn(x.shape, generator=generator).to(x)
    return x


@torch.no_grad()
def sample_flow(
    model: Model,
    start: torch.Tensor,
    schedule: RFlowScheduler,
    steps: int = 2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Follow a rectified flow (Liu et al., arXiv 2209.03003) from ``start`` to a clean image, in Euler steps.

    MONAI's `RFlowScheduler` is told the next time, so its own step is right however few there are.

    Args:
        model: the network, already given its condition: ``model(x_t, timesteps)``.
        start: what `starting_image` gave, (B, C, ...).
        schedule: the scheduler that the network was trained with.
        steps: evaluations of the network.
        generator: not used, since the flow is deterministic; every sampler is given one.

    Returns:
        The clean image in the range [-1, 1], same shape as ``start``.
    """
    x = start
    schedule.set_timesteps(steps)
    times = schedule.timesteps.tolist()
    bar = tqdm(times, desc="Synthesizing T1ce", unit="step", leave=False, delay=2, disable=None)
    for time, next_time in zip(bar, [*times[1:], 0], strict=True):
        velocity = model(x, torch.full((x.shape[0],), time, device=x.device))
        x, _ = schedule.step(velocity, time, x, next_time)
    return x.clamp(-1, 1)
