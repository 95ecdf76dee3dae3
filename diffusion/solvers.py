r"""Samplers as tables of coefficients.

Every Gaussian sampler with state-independent coefficients is a list of rows. A row calls the denoiser once and then
makes one linear combination:

    D_0 = denoiser(x, t)                               (D_1, D_2, ...: the previous predictions, newest first)
    x   = state * x_start + sum_k denoised[k] * D_k + noise * z,      z ~ N(0, I)

`x_start` is the state at the start of the current step. A row marked `inner` is a Runge-Kutta stage: it moves x, and
leaves x_start where it is. One-step, multistep, Runge-Kutta, stochastic and predictor-corrector methods are all of this
form: a corrected state differs from the predicted one by predictions only, so a corrector expands into a plain row.

A builder turns a schedule and decreasing times t_0 > t_1 > ... > t_n into a table, in float64, whatever the dtype of
the states to be moved. Notation for a step from t to s < t, with x_t = alpha_t x_0 + sigma_t eps:

    kappa = (alpha_t / sigma_t) / (alpha_s / sigma_s) = exp(-h),      h = half_log_snr(s) - half_log_snr(t) > 0.

Coefficients are written in kappa rather than h, because both ends of a schedule are then ordinary numbers: alpha_t = 0
(pure noise) and sigma_s = 0 (clean data) are kappa = 0. A subset of a chain's times needs no special case: s is always
the actual next time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from diffusion.binding import formula, unproved
from diffusion.ddim import kept, std
from diffusion.schedules import Schedule


class Row(NamedTuple):
    """One row as Python numbers, zeros left out: what the sampling loop runs."""

    state: float
    denoised: tuple[tuple[int, float], ...]  # (k, coefficient of D_k)
    noise: float
    inner: bool


@dataclass(frozen=True, eq=False)
class Table:
    """A sampler on a given grid: for each row what to multiply the start state, the last predictions and noise with.

    times     [rows + 1]         where each row calls the denoiser, and at the end the time of the last state
    state     [rows]             coefficient of the state at the start of the step
    denoised  [rows, history]    coefficients of the last predictions, newest first
    noise     [rows]             coefficient of fresh standard normal noise, 0: none is drawn
    inner     rows booleans      True for a Runge-Kutta stage, which does not end a step
    order     the order of convergence (of the marginals, if stochastic) as steps are refined

    All tensors are float64 on the CPU.
    """

    name: str
    order: int
    times: Float64[Tensor, " rows+1"]
    state: Float64[Tensor, " rows"]
    denoised: Float64[Tensor, " rows history"]
    noise: Float64[Tensor, " rows"]
    inner: tuple[bool, ...]
    rows: tuple[Row, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = len(self.inner)
        shapes = [tuple(c.shape) for c in (self.times, self.state, self.denoised[:, 0], self.noise)]
        if rows == 0 or shapes != [(rows + 1,), (rows,), (rows,), (rows,)]:
            raise ValueError(f"table {self.name!r}: {rows} rows, but shapes of times, state, denoised, noise: {shapes}")
        for label in ("times", "state", "denoised", "noise"):
            column = getattr(self, label)
            if column.dtype != torch.float64 or not column.isfinite().all():
                raise ValueError(f"table {self.name!r}: column {label} must be finite float64, got {column}")
        if self.inner[-1]:
            raise ValueError(f"table {self.name!r}: the last row is marked inner, so the last step never ends")
        unborn = torch.ones_like(self.denoised).triu(1).bool()  # D_k does not exist before row k
        if (self.denoised[unborn] != 0).any():
            raise ValueError(f"table {self.name!r}: a row uses a prediction from before the first row")
        columns = zip(self.state.tolist(), self.denoised.tolist(), self.noise.tolist(), self.inner, strict=True)
        lines = (Row(x, tuple((k, c) for k, c in enumerate(d) if c), z, inner) for x, d, z, inner in columns)
        object.__setattr__(self, "rows", tuple(lines))

    def __len__(self) -> int:
        """Number of rows, which is the number of calls of the denoiser."""
        return len(self.inner)

    @property
    def grid(self) -> Float64[Tensor, " steps+1"]:
        """Times at which steps start and end, without the inner stages."""
        ends = torch.tensor([True, *(not inner for inner in self.inner)])
        return self.times[ends]


# -- coefficients ------------------------------------------------------------------------------------------------------


@formula("solver.kappa")
def kappa(alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Tensor:
    """Ratio of alpha/sigma over a step, exp(-h): 0 from pure noise (alpha_t = 0) and to clean data (sigma_s = 0)."""
    return alpha_t * sigma_s / (alpha_s * sigma_t)


@formula("solver.ddim_row.state")
def ddim_state(sigma_t: Tensor, sigma_s: Tensor, kappa: Tensor, eta: Tensor) -> Tensor:
    """What a DDIM step keeps of x_t: kept / sigma_t (Song et al. 2021, eq. 12)."""
    return kept(sigma_s, kappa, eta) / sigma_t


@formula("solver.ddim_row.denoised")
def ddim_denoised(
    alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor, kappa: Tensor, eta: Tensor
) -> Tensor:
    """What a DDIM step takes of the prediction: alpha_s - alpha_t kept / sigma_t (Song et al. 2021, eq. 12)."""
    return alpha_s - alpha_t * ddim_state(sigma_t, sigma_s, kappa, eta)


@formula("solver.ddpm_beta_noise")
def ddpm_beta_noise(sigma_t: Tensor, kappa: Tensor) -> Tensor:
    """Standard deviation of q(x_t | x_s), sigma_t sqrt(1 - kappa^2); sqrt(beta) under VP (Ho et al. 2020, sec. 3.2)."""
    return sigma_t * torch.sqrt((1 - kappa) * (1 + kappa))


@formula("sde.pf_ode_denoised.state")
def velocity_state(sigma: Tensor, sigma_dot: Tensor) -> Tensor:
    """a in dx/dt = a x + b D, the probability-flow ODE with the denoised prediction D."""
    return sigma_dot / sigma


@formula("sde.pf_ode_denoised.denoised")
def velocity_denoised(alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor) -> Tensor:
    """b in dx/dt = a x + b D."""
    return alpha_dot - alpha * sigma_dot / sigma


@formula("solver.euler_row.state")
def euler_state(h: Tensor, a_t: Tensor) -> Tensor:
    """Euler back in time by h > 0 on dx/dt = a x + b D: the state's coefficient."""
    return 1 - h * a_t


@formula("solver.euler_row.denoised")
def euler_denoised(h: Tensor, b_t: Tensor) -> Tensor:
    """Euler back in time by h > 0 on dx/dt = a x + b D: the prediction's coefficient."""
    return -h * b_t


@formula("solver.heun_row.state")
def heun_state(h: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
    """Heun's second stage (the trapezium rule with Euler's end point): coefficient of the step's start state."""
    return 1 - h / 2 * (a_t + a_s * (1 - h * a_t))


@formula("solver.heun_row.first")
def heun_first(h: Tensor, a_s: Tensor, b_t: Tensor) -> Tensor:
    """Heun's second stage: coefficient of the prediction made at t."""
    return -h / 2 * b_t * (1 - h * a_s)


@formula("solver.heun_row.second")
def heun_second(h: Tensor, b_s: Tensor) -> Tensor:
    """Heun's second stage: coefficient of the prediction made at Euler's end point, at time s."""
    return -h / 2 * b_s


@formula("solver.dpmpp_2m_row.before")
def extrapolate_before(r: Tensor) -> Tensor:
    """DPM-Solver++(2M): weight of the previous prediction, r = h_before / h (Lu et al. 2022b, algorithm 2)."""
    return -1 / (2 * r)


@formula("solver.dpmpp_2m_row.newest")
def extrapolate_newest(r: Tensor) -> Tensor:
    """DPM-Solver++(2M): weight of the newest prediction, r = h_before / h."""
    return 1 + 1 / (2 * r)


# -- the grid a builder works on ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Steps:
    """Schedule values at both ends of each step, [n] float64; checked."""

    times: Tensor
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor

    @property
    def kappa(self) -> Tensor:
        return kappa(self.alpha_t, self.sigma_t, self.alpha_s, self.sigma_s)

    def ddim(self, eta: float) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of the state, the prediction and the noise of a DDIM step."""
        k, e = self.kappa, torch.tensor(eta, dtype=torch.float64)
        state = ddim_state(self.sigma_t, self.sigma_s, k, e)
        denoised = ddim_denoised(self.alpha_t, self.sigma_t, self.alpha_s, self.sigma_s, k, e)
        return state, denoised, std(self.sigma_s, k, e)

    @property
    def h(self) -> Tensor:
        return self.times[:-1] - self.times[1:]


def _steps(schedule: Schedule, times: Tensor) -> _Steps:
    times = torch.as_tensor(times, device="cpu")
    if times.dtype != torch.float64:
        raise TypeError(f"times: got dtype {times.dtype}, expected float64 (tables are exact to the last digit)")
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times: got shape {tuple(times.shape)}, expected [n + 1] with n >= 1 steps")
    if not (times[:-1] > times[1:]).all() or times[0] > 1 or times[-1] < 0:
        raise ValueError(f"times: expected strictly decreasing values within [0, 1], got {times.tolist()}")
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    steps = _Steps(times, alpha[:-1], sigma[:-1], alpha[1:], sigma[1:])
    if not (steps.alpha_t * steps.sigma_s < steps.alpha_s * steps.sigma_t).all():
        raise ValueError(f"times: alpha/sigma of {schedule.name!r} must rise strictly from {times[0]} to {times[-1]}")
    return steps


def _table(name: str, order: int, steps: _Steps, state: Tensor, denoised: Tensor, noise: Tensor | None = None) -> Table:
    """A table with one row a step; no noise unless given."""
    noise = torch.zeros_like(state) if noise is None else noise
    return Table(name, order, steps.times, state, denoised, noise, (False,) * len(state))


# -- builders ----------------------------------------------------------------------------------------------------------


def ddim(schedule: Schedule, times: Float64[Tensor, " n+1"], eta: float = 0.0) -> Table:
    """DDIM: from deterministic (eta = 0) to ancestral (eta = 1); exact for a point mass at any step size.

    x_s = alpha_s D + sqrt(sigma_s^2 - noise^2) eps_hat + noise z,  eps_hat = (x_t - alpha_t D) / sigma_t,
    noise = eta sigma_s sqrt(1 - kappa^2). Source: Song et al. 2021 (DDIM), eq. 12 and 16. ValueError unless
    0 <= eta <= 1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: got {eta}, expected 0 (deterministic) <= eta <= 1 (ancestral)")
    steps = _steps(schedule, times)
    state, denoised, noise = steps.ddim(eta)
    return _table("ddim", 1, steps, state, denoised[:, None], noise)


def ddpm(
    schedule: Schedule, times: Float64[Tensor, " n+1"], variance: Literal["beta_tilde", "beta"] = "beta_tilde"
) -> Table:
    """Ancestral sampling: the posterior q(x_s | x_t, x_0) with x_0 = D, and its variance or the forward step's.

    `beta_tilde` is the posterior's variance, sigma_s^2 (1 - kappa^2), and `beta` that of q(x_t | x_s),
    sigma_t^2 (1 - kappa^2). No noise is added on arrival at clean data (sigma_s = 0). Source: Ho et al. 2020, eq. 6-7
    and algorithm 2.
    """
    if variance not in ("beta_tilde", "beta"):
        raise ValueError(f"variance: got {variance!r}, expected 'beta_tilde' or 'beta'")
    steps = _steps(schedule, times)
    state, denoised, noise = steps.ddim(eta=1.0)
    if variance == "beta":
        noise = torch.where(steps.sigma_s > 0, ddpm_beta_noise(steps.sigma_t, steps.kappa), 0.0)
    return _table("ddpm", 1, steps, state, denoised[:, None], noise)


@unproved("velocity_state and velocity_denoised, evaluated on a schedule")
def velocity(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """(a, b) of the probability-flow ODE dx/dt = a x + b D at times t with sigma(t) > 0."""
    alpha, sigma, alpha_dot, sigma_dot = schedule.kernel(t)
    return velocity_state(sigma, sigma_dot), velocity_denoised(alpha, sigma, alpha_dot, sigma_dot)


def euler(schedule: Schedule, times: Float64[Tensor, " n+1"]) -> Table:
    """Explicit Euler on the probability-flow ODE in t: x_s = x_t - (t - s) (a_t x_t + b_t D).

    Not exact on a point mass unless alpha and sigma are linear in t, as the flow schedule's are; DDIM is. Source: Song
    et al. 2021 (score SDE), eq. 13.
    """
    steps = _steps(schedule, times)
    a_t, b_t = velocity(schedule, steps.times[:-1])
    return _table("euler", 1, steps, euler_state(steps.h, a_t), euler_denoised(steps.h, b_t)[:, None])


def heun(schedule: Schedule, times: Float64[Tensor, " n+1"]) -> Table:
    """Heun's method on the probability-flow ODE in t: Euler, then the mean of the velocities at both ends.

    Two calls of the denoiser a step; one for a last step to clean data, which is plain Euler, as the velocity's
    coefficients have a pole at sigma = 0. Source: Karras et al. 2022, algorithm 1.
    """
    steps, predictor = _steps(schedule, times), euler(schedule, times)
    corrected = len(steps.h) - int(steps.sigma_s[-1] == 0)
    calls = len(steps.h) + corrected
    a, b = velocity(schedule, steps.times[: corrected + 1])
    h, a_t, a_s, b_t, b_s = steps.h[:corrected], a[:-1], a[1:], b[:-1], b[1:]
    state, denoised = torch.zeros(calls, dtype=torch.float64), torch.zeros(calls, 2, dtype=torch.float64)
    state[::2], denoised[::2, :1] = predictor.state, predictor.denoised
    state[1::2] = heun_state(h, a_t, a_s)
    denoised[1::2] = torch.stack([heun_second(h, b_s), heun_first(h, a_s, b_t)], dim=1)
    visited = steps.times.repeat_interleave(2)[1 : calls + 2]
    inner = tuple(row % 2 == 0 and row < 2 * corrected for row in range(calls))
    return Table("heun", 2, visited, state, denoised, torch.zeros_like(state), inner)


def dpmpp_2m(schedule: Schedule, times: Float64[Tensor, " n+1"]) -> Table:
    """DPM-Solver++(2M): a DDIM step on the prediction extrapolated to the middle of the step, in half_log_snr.

    D = (1 + 1/(2r)) D_0 - 1/(2r) D_1, r = h_before / h. First order where the extrapolation has no length to go by:
    on the first step, after a start at pure noise (h_before infinite), and on a last step to clean data (h infinite).
    Source: Lu et al. 2022b, algorithm 2.
    """
    steps = _steps(schedule, times)
    state, denoised, _ = steps.ddim(eta=0.0)
    weights = torch.stack([torch.ones_like(state), torch.zeros_like(state)], dim=1)
    h = -steps.kappa.log()
    second = (steps.sigma_s > 0) & (torch.arange(len(h)) > 0)
    r = (h.roll(1) / h)[second]
    weights[second] = torch.stack([extrapolate_newest(r), extrapolate_before(r)], dim=1)
    return _table("dpmpp_2m", 2, steps, state, denoised[:, None] * weights)


def consistency(schedule: Schedule, times: Float64[Tensor, " n+1"]) -> Table:
    """Multistep consistency sampling: jump to the last time, noise back to the next one, jump again.

    For predictions f = x_e/alpha_e of the state at the last time e, which a consistency function makes: the next state
    is alpha_s f + noise z with q(x_s | x_e)'s noise, sigma_s sqrt(1 - kappa^2) over the step from e to s, and none on
    arrival. With an exact f every state has its exact law, at any number of steps: there is no order to speak of. No
    sampler for a posterior mean. Source: Song et al. 2023, algorithm 1.
    """
    steps = _steps(schedule, times)
    alpha_e, sigma_e = steps.alpha_s[-1], steps.sigma_s[-1]
    noise = ddpm_beta_noise(steps.sigma_s[:-1], kappa(steps.alpha_s[:-1], steps.sigma_s[:-1], alpha_e, sigma_e))
    state = torch.zeros_like(steps.alpha_s)
    return _table("consistency", 0, steps, state, steps.alpha_s[:, None], torch.cat([noise, state[:1]]))


SOLVERS: dict[str, Callable[..., Table]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}
