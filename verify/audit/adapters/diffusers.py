"""Schedulers of diffusers, by a config: a checkpoint's own class, or another, as its users swap them.

Nothing in a checkpoint is run: its scheduler is JSON, and its class one of SCHEDULERS. The loop is that of the stock
pipelines. Some schedulers move x_k / alpha_k; `scale_model_input` says how to come back, and states are told and given
as x_k.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from diffusion import solvers
from diffusion.schedules import Schedule
from diffusion.solvers import Table
from verify.audit.target import Denoise, Kind, Unfit

LONGEST = 2**24  # bytes of a config
PREDICTIONS: dict[str, Kind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
CUTS = ("clip_sample", "clip_sample_range", "thresholding")


SCHEDULERS: dict[str, int | None] = {  # the order that its authors state; None: `solver_order` of its config
    "DDPMScheduler": 1,
    "DDIMScheduler": 1,
    "DEISMultistepScheduler": None,
    "DPMSolverMultistepScheduler": None,
    "EulerAncestralDiscreteScheduler": 1,
    "EulerDiscreteScheduler": 1,
    "HeunDiscreteScheduler": 2,
    "UniPCMultistepScheduler": None,
}
TABLES: dict[tuple[str, str | None], Callable[[Schedule, Tensor], Table]] = {  # by class and variance
    ("DDIMScheduler", None): solvers.ddim,
    ("DDPMScheduler", "fixed_small"): solvers.ddpm,
    ("DDPMScheduler", "fixed_small_log"): solvers.ddpm,
    ("DDPMScheduler", "fixed_large"): functools.partial(solvers.ddpm, variance="beta"),
}


@dataclass(frozen=True)
class Scheduler:
    """A class of diffusers with a config."""

    name: str
    config: dict[str, Any]

    @functools.cached_property
    def stock(self) -> Any:
        return self._made()

    @property
    def betas(self) -> Tensor:
        betas: Tensor = self.stock.betas.double()
        return betas

    @property
    def alpha_bars(self) -> Tensor:
        bars: Tensor = self.stock.alphas_cumprod
        return bars

    @property
    def table(self) -> Callable[[Schedule, Tensor], Table] | None:
        return TABLES.get((self.name, self.stock.config.get("variance_type")))

    @property
    def order(self) -> int:
        order = SCHEDULERS[self.name]
        return self.stock.config.solver_order if order is None else order

    def clipped(self) -> Sequence[str]:
        settings = {name: self.stock.config.get(name) for name in CUTS}
        return [f"{name} = {value}" for name, value in settings.items() if value]

    def steps(self, n: int) -> list[float]:
        self._asked.set_timesteps(n)
        return list(dict.fromkeys(t + 1.0 for t in self._asked.timesteps.tolist()))  # Heun names each step twice

    def noised(self, x_0: Tensor, eps: Tensor, k: int) -> Tensor:
        timesteps = torch.full((len(x_0),), k - 1)
        noised: Tensor = self.stock.add_noise(x_0, eps, timesteps)
        return noised * self._scale(self.stock, k - 1)

    def sample(
        self, denoise: Denoise, x: Tensor, n: int, kind: Kind | None = None, generator: Generator | None = None
    ) -> Tensor:
        scheduler = self._begun(n, kind)
        state = _image(x) / self._scale(scheduler, scheduler.timesteps[0])
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(state, t)
            answer = self._answer(scheduler, seen, denoise(seen, _whole(t)), _whole(t))
            state = self._moved(scheduler, answer, t, state, generator, asked=kind)
        return state.flatten()

    def step(self, x: Tensor, denoised: Tensor, n: int, i: int, generator: Generator) -> Tensor:
        if self.table is None:
            raise Unfit("its steps stand on earlier ones, or on states of another scale")
        scheduler = self._asked
        if scheduler.num_inference_steps != n:
            scheduler.set_timesteps(n)
        t = scheduler.timesteps[i]
        answer = self._answer(scheduler, _image(x), _image(denoised), _whole(t))
        return self._moved(scheduler, answer, t, _image(x), generator).flatten()

    # --- diffusers' own -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _asked(self) -> Any:
        """One for questions that leave nothing behind: making one takes longer than most of them."""
        return self._made()

    def _made(self, **changes: Any) -> Any:
        import diffusers

        return getattr(diffusers, self.name).from_config(self.config | changes)

    def _begun(self, n: int, kind: Kind | None = None) -> Any:
        names = {kind: name for name, kind in PREDICTIONS.items()}
        scheduler = self._made(**({"prediction_type": names[kind]} if kind else {}))
        scheduler.set_timesteps(n)
        return scheduler

    def _scale(self, scheduler: Any, t: Any) -> float:
        """What takes its state at timestep t to x_k."""
        one = torch.ones((), dtype=torch.float64)
        scale = float(scheduler.scale_model_input(one, t))
        scheduler._step_index = None  # asking for it counts as a step's beginning
        return scale

    def _answer(self, scheduler: Any, x: Tensor, denoised: Tensor, k: int) -> Tensor:
        """What a network says that knows x_0, in the scheduler's kind, at alpha and sigma of the betas."""
        alpha, sigma = self._levels[k]
        kind = PREDICTIONS[scheduler.config.prediction_type]
        eps = (x - alpha * denoised) / sigma
        return {"x0": denoised, "eps": eps, "v": alpha * eps - sigma * denoised}[kind]

    @functools.cached_property
    def _levels(self) -> list[tuple[float, float]]:
        bars = [1.0, *torch.cumprod(1 - self.betas, 0).tolist()]
        return [(math.sqrt(bar), math.sqrt(1 - bar)) for bar in bars]

    def _moved(
        self,
        scheduler: Any,
        answer: Tensor,
        t: Any,
        state: Tensor,
        generator: Generator | None,
        asked: Kind | None = None,
    ) -> Tensor:
        noisy = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
        try:
            moved: Tensor = scheduler.step(answer, t, state, **noisy).prev_sample
        except (NotImplementedError, ValueError) as error:
            if asked:
                raise Unfit(f"it does not know {asked}") from error
            raise
        return moved


def read(place: Path | str, scheduler: str | None = None) -> Scheduler:
    """The scheduler of a checkpoint's folder, or of a config; `scheduler` names another class. ValueError, one line."""
    place = Path(place)
    files = (place / "scheduler" / "scheduler_config.json", place / "scheduler_config.json", place)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ValueError(f"{place} has no scheduler_config.json: expected the folder of a checkpoint of diffusers")
    try:
        if file.stat().st_size > LONGEST:
            raise ValueError(f"of {file.stat().st_size} bytes")
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no config: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no config: expected a table, got {type(config).__name__}")
    name = config.get("_class_name") if scheduler is None else scheduler
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler {name!r}: expected {', '.join(SCHEDULERS)}")
    found = Scheduler(name, config)
    try:
        assert found.betas.ndim == 1 and found.order >= 1
    except Exception as error:  # whatever diffusers makes of a config that does not fit
        raise ValueError(f"{file} does not fit {name}: {' '.join(str(error).split())[:160]}") from None
    if (kind := found.stock.config.prediction_type) not in PREDICTIONS:
        raise ValueError(f"{file}: prediction_type = {kind!r}: expected {', '.join(PREDICTIONS)}")
    return found


def _image(x: Tensor) -> Tensor:
    """Numbers as images of one pixel: some settings look at whole images."""
    return x.reshape(-1, 1, 1, 1)


def _whole(t: Any) -> int:
    """The step k of a timestep; Unfit between two."""
    if float(t) != round(float(t)):
        raise Unfit(f"it calls the network between two steps, at timestep {float(t):g}")
    return round(float(t)) + 1
