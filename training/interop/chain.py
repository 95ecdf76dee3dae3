r"""Which stock scheduler says what a run says, and which chain a stock scheduler speaks of.

A stock model is the network alone; what stands around it must be the scheduler's own arithmetic:

    DDPM, DDIM    alpha^2 + sigma^2 = 1 and a network of eps, x0 or v that takes x_t as it is. Timestep k - 1 is our
                  t = k/1000, so a continuous schedule is exported as its values there, up to the latest time that the
                  network has seen. `unit` preconditioning divides x_t by sqrt(alpha^2 std^2 + sigma^2) and multiplies
                  the output by a scale of its own: constants, hence stock, only where std = 1, and then both are 1.
    EDM           the whole of `edm` preconditioning, at x_t/alpha and the level sigma/alpha: any schedule.

Everything else scales with time, which weights can't, and is refused.

Stock schedulers keep their tables in float32, so 1 - alpha_bar has an absolute error of 2^-25 a step: where a chain
starts with beta_1 = 2.5e-6 (cosine) that is a percent of it. Samples do not care: at those times x_0 is known to 0.2 %.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from diffusion import schedules
from training.recipes.denoising import DenoisingRecipe
from training.times import T, chain_steps

KINDS: dict[str, Literal["eps", "x0", "v"]] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
PREDICTIONS: dict[str, str] = {kind: name for name, kind in KINDS.items()}
CHAINS = ("DDPMScheduler", "DDIMScheduler")
VARIANCE_PRESERVING = ("vp_linear", "cosine", "ddpm_linear", "ddpm_cosine")
NAMED: dict[str, dict[str, Any]] = {
    "ddpm_linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "ddpm_cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
OF_THE_CHAIN = (
    *("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas", "rescale_betas_zero_snr"),
)

Config = dict[str, Any]


# --- out --------------------------------------------------------------------------------------------------------------


def scheduler_of(recipe: DenoisingRecipe, deterministic: bool) -> tuple[str, Config]:
    """(class of diffusers, its config) for a run of this recipe; ValueError for a run that no stock scheduler fits.

    deterministic    DDIM, for pipelines that hand no generator on to the scheduler.
    """
    if recipe.preconditioning == "edm":
        return "EDMEulerScheduler", _edm(recipe)
    _refuse_what_is_no_chain(recipe)
    _, steps = chain_steps(recipe.earliest, recipe.latest)
    if recipe.parameterization == "eps" and not _alpha_bars(recipe.schedule, steps)[-1] > 0:
        raise ValueError(
            f"latest = {recipe.latest}: the chain of {recipe.schedule!r} ends without signal, where a prediction of "
            f"eps says nothing of x_0; train with --parameterization v, or --latest 0.998"
        )
    config = chain_config(recipe.schedule, steps) | {
        "prediction_type": PREDICTIONS[recipe.parameterization],
        "clip_sample": False,
        "thresholding": False,
        "steps_offset": 0,
        "rescale_betas_zero_snr": False,  # the betas are those of the run already
    }
    if deterministic:
        # DDIMScheduler steps down by T // n whatever the next timestep is: right for `trailing` if n divides T only
        return "DDIMScheduler", config | {
            "timestep_spacing": "trailing" if steps == T else "leading",
            "set_alpha_to_one": True,
        }
    return "DDPMScheduler", config | {"timestep_spacing": "trailing", "variance_type": "fixed_small"}


def _refuse_what_is_no_chain(recipe: DenoisingRecipe) -> None:
    if recipe.schedule not in VARIANCE_PRESERVING:
        raise ValueError(
            f"schedule = {recipe.schedule!r}: DDPM's and DDIM's stock schedulers need alpha^2 + sigma^2 = 1; train "
            f"with --schedule cosine, or --preconditioning edm --parameterization x0, which exports from any schedule"
        )
    if recipe.parameterization not in PREDICTIONS:
        raise ValueError(
            f"parameterization = {recipe.parameterization!r}: stock schedulers know {', '.join(PREDICTIONS)}"
        )
    if recipe.preconditioning == "unit" and recipe.std != 1:
        raise ValueError(
            f"preconditioning = 'unit', std = {recipe.std}: it scales x_t by a factor that changes with time unless "
            f"std = 1, and no weights of a stock model can; train with --preconditioning none"
        )


def chain_config(schedule: str, steps: int) -> Config:
    """What a stock scheduler is told of the first `steps` of a schedule's thousand: its name, or its betas."""
    if schedule in NAMED and steps == T:
        return {"num_train_timesteps": T, **NAMED[schedule]}
    return {
        "num_train_timesteps": steps,
        "trained_betas": schedules.betas_from(_alpha_bars(schedule, steps)).tolist(),
    }


def _alpha_bars(schedule: str, steps: int) -> Tensor:
    """alpha^2 at k/1000, k = 0 .. steps, float64."""
    return schedules.SCHEDULES[schedule]().alpha(torch.arange(steps + 1, dtype=torch.float64) / T) ** 2


def _edm(recipe: DenoisingRecipe) -> Config:
    """The levels sigma/alpha at which the network was trained, and the data's standard deviation."""
    if recipe.network == "dit":
        raise ValueError(
            "preconditioning = 'edm', network = 'dit': the stock pipeline of a dit starts from noise of unit variance; "
            "train with --preconditioning none"
        )
    ends = torch.tensor([recipe.earliest, recipe.latest], dtype=torch.float64)
    sigma_min, sigma_max = torch.exp(-schedules.SCHEDULES[recipe.schedule]().half_log_snr(ends)).tolist()
    return {
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
        "sigma_data": recipe.std,
        "sigma_schedule": "karras",
        "prediction_type": "epsilon",
        "final_sigmas_type": "zero",
    }


# --- in ---------------------------------------------------------------------------------------------------------------


def betas_of(config: Mapping[str, Any]) -> Tensor:
    """beta_1 .. beta_T, float64, of a stock scheduler's config; ValueError for one that is not understood.

    The formulas that the stock schedulers evaluate in float32; where a config is silent, DDPM's linear betas.
    """
    config = NAMED["ddpm_linear"] | {key: value for key, value in config.items() if value is not None}
    name, steps = config["beta_schedule"], config.get("num_train_timesteps", T)
    if type(steps) is not int or steps < 1:
        raise ValueError(f"num_train_timesteps = {steps!r}: expected an integer >= 1")
    betas = config.get("trained_betas")
    if betas is None:
        first, last = config["beta_start"], config["beta_end"]
        if not all(type(end) is float and 0 < end < 1 for end in (first, last)):
            raise ValueError(f"beta_start, beta_end = {first}, {last}: expected numbers between 0 and 1")
        if name == "linear":
            betas = torch.linspace(first, last, steps, dtype=torch.float64)
        elif name == "scaled_linear":
            betas = torch.linspace(math.sqrt(first), math.sqrt(last), steps, dtype=torch.float64) ** 2
        elif name == "squaredcos_cap_v2":
            betas = schedules.cosine_betas(steps)
        else:
            raise ValueError(f"beta_schedule = {name!r}: expected linear, scaled_linear or squaredcos_cap_v2")
    try:
        betas = torch.as_tensor(betas, dtype=torch.float64)
        schedules.alpha_bars(betas)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"trained_betas: {error}") from None
    if len(betas) != steps:
        raise ValueError(f"trained_betas: {len(betas)} of them, num_train_timesteps = {steps}")
    return schedules.zero_terminal_snr(betas) if config.get("rescale_betas_zero_snr") else betas


def told_chain(config: Mapping[str, Any]) -> str:
    """What a stock config says of its chain, as JSON."""
    return json.dumps({key: config[key] for key in OF_THE_CHAIN if config.get(key) is not None})


def refuse_other_samplers(config: Mapping[str, Any]) -> None:
    """ValueError for a stock scheduler whose samples no denoiser under a chain has."""
    name = config.get("_class_name")
    if name not in CHAINS:
        raise ValueError(f"scheduler {name!r}: expected {' or '.join(CHAINS)}, which say what chain it was trained on")
    if (kind := config.get("prediction_type", "epsilon")) not in KINDS:
        raise ValueError(f"prediction_type = {kind!r}: expected {', '.join(KINDS)}")
    if config.get("thresholding"):
        raise ValueError("thresholding = true: a prediction that is scaled by its own quantiles is no denoiser's")
    if str(config.get("variance_type", "")).startswith("learned"):
        raise ValueError(f"variance_type = {config['variance_type']!r}: expected one that is not learned")
