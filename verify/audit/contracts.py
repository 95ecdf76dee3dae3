r"""What every sampler of a chain owes its users; each contract is held against a closed form.

The world is N(m, s^2), where all is known: E[x_0 | x_k] = m + alpha s^2 (x - alpha m) / v, v = alpha^2 s^2 + sigma^2;
the probability flow keeps quantiles, so that it carries x from level k to x_0 = m + s (x - alpha m) / sqrt(v); and of a
step x' = X x + C D + N z with noise z the next mean and variance follow. On a point mass, D = c, a sampler that is
exact for a constant denoiser ends at c, and what is left besides is the noise that its last step forgot.

| contract         | what must hold                                                                      |
| ---------------- | ----------------------------------------------------------------------------------- |
| chain            | alpha_bar falls strictly within (0, 1) and is the product of 1 - beta                |
| noising          | x_k = alpha_k x_0 + sigma_k eps, at the first and last step too                      |
| grid             | for every n from 1 to T: n steps, strictly decreasing, from 1 to T                   |
| predictions      | eps, x0 and v that say the same give the same samples                                |
| table            | each step of DDPM and DDIM is the verified row, at several n, n not dividing T too   |
| last step        | a point mass is reached exactly, from every n                                        |
| law              | the variance of what is drawn, stochastic samplers: s^2 at n = T                     |
| flow             | deterministic samplers converge to the flow's end, at least at the order they state  |
| numbers          | no sample is NaN or infinite                                                         |
| clipping         | data of any size can be drawn: a warning, as a setting may say so on purpose         |
| start            | what x_T keeps of the data, and sampling starts without: a warning above 1 %         |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffusion import schedules
from verify.audit.target import Denoise, Kind, Target, Unfit

MEAN, STD = 0.1, 0.25  # of the world: 3.6 standard deviations lie within [-1, 1], to which many samplers clip
FEW = (1, 2, 3, 5, 7, 10, 50)  # numbers of steps at which single runs are looked at
REFINED = (10, 14, 20, 28, 40, 57, 80, 113, 160)
FLOAT32 = 1e-4  # what a sampler in float32 may add up to, relative
LEFT = 0.01  # share of the data's scale in x_T that needs no mention
Verdict = Literal["holds", "fails", "warns", "not asked"]


@dataclass(frozen=True)
class Finding:
    """What came of one contract: what was measured and its limit in words, and what a maintainer can do."""

    contract: str
    verdict: Verdict
    measured: str
    why: str = ""


Contract = Callable[[Target], Finding]


def audit(target: Target, told: Callable[[str], object] = lambda _: None) -> Iterator[Finding]:
    """Every contract's finding, in the table's order; a sampler that breaks down fails the contract, not the audit."""
    for name, contract in CONTRACTS.items():
        told(name)
        try:
            yield contract(target)
        except Unfit as unfit:
            yield Finding(name, "not asked", str(unfit))
        except Exception as error:  # the audited code may raise anything at all
            yield Finding(name, "fails", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", "it raises")


# --- the world --------------------------------------------------------------------------------------------------------


def levels(target: Target) -> tuple[list[float], list[float]]:
    """alpha_k and sigma_k for k = 0 .. T, of the betas, in float64."""
    bars = schedules.alpha_bars(target.betas)
    return bars.sqrt().tolist(), (1 - bars).clamp(min=0).sqrt().tolist()


def gaussian(target: Target) -> Denoise:
    """The exact denoiser of N(MEAN, STD^2)."""
    alpha, sigma = levels(target)

    def denoise(x: Tensor, k: int) -> Tensor:
        v = alpha[k] ** 2 * STD**2 + sigma[k] ** 2
        return MEAN + alpha[k] * STD**2 / v * (x - alpha[k] * MEAN)

    return denoise


def quantiles(target: Target, k: int, n: int = 41) -> tuple[Tensor, Tensor]:
    """(z, x): standard normal points within +-2, and x_k at these quantiles of its law."""
    alpha, sigma = levels(target)
    z = torch.linspace(-2, 2, n, dtype=torch.float64)
    return z, alpha[k] * MEAN + math.hypot(alpha[k] * STD, sigma[k]) * z


def rounding(target: Target, k: float) -> float:
    """What a coefficient of a step from k may be off in float32, whose 1 - alpha_bar_k is off by 2^-25 itself."""
    _, sigma = levels(target)
    return 10 * FLOAT32 + 2**-24 / sigma[min(max(round(k), 1), len(sigma) - 1)] ** 2


def first_step(target: Target, n: int) -> int:
    """The step at which n steps begin; Unfit where it lies between two of the chain."""
    k = target.steps(n)[0]
    if k != round(k):
        raise Unfit(f"it calls the network between two steps, at {k:g}")
    return round(k)


def deterministic(target: Target) -> bool:
    """Whether two seeds give one sample."""
    _, x = quantiles(target, first_step(target, 10))
    one, two = (target.sample(gaussian(target), x, 10, generator=seeded(seed)) for seed in (0, 1))
    return torch.equal(one, two)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def finding(name: str, error: float, limit: float, measured: str, why: str) -> Finding:
    """Holds where the error is within its limit; NaN is not."""
    holds = error <= limit
    return Finding(name, "holds" if holds else "fails", measured, "" if holds else why)


def beyond(error: float, worst: float) -> bool:
    """Whether an error is the worst so far: NaN is worse than any number, and no number than NaN."""
    return not (math.isnan(worst) or error <= worst)


# --- the contracts ----------------------------------------------------------------------------------------------------


def chain(target: Target) -> Finding:
    bars, exact = target.alpha_bars.double(), schedules.alpha_bars(target.betas)[1:]
    falls = bool((bars.diff() < 0).all() and bars[0] < 1 and bars[-1] >= 0)
    error = float(((bars - exact).abs() / exact.clamp(min=1e-6)).max()) if len(bars) == len(exact) else math.inf
    told = f"T = {len(bars)}, alpha_bar from {bars[0]:.6g} to {bars[-1]:.3g}, off the product by {error:.1e} at most"
    return finding(
        "chain",
        error if falls else math.inf,
        FLOAT32,
        told,
        "alpha_bar is not the product of 1 - beta, or does not fall",
    )


def noising(target: Target) -> Finding:
    alpha, sigma = levels(target)
    x_0, eps = torch.meshgrid(*[torch.linspace(-3, 3, 7, dtype=torch.float64)] * 2, indexing="ij")
    T = len(target.betas)
    worst, where = 0.0, 1
    for k in sorted({1, min(2, T), T // 2 or 1, T}):
        error = float((target.noised(x_0, eps, k).double() - (alpha[k] * x_0 + sigma[k] * eps)).abs().max())
        if beyond(error, worst):
            worst, where = error, k
    return finding(
        "noising", worst, FLOAT32, f"off by {worst:.1e} at most, at k = {where}",
        "x_k is not alpha_k x_0 + sigma_k eps",
    )  # fmt: skip


def grid(target: Target) -> Finding:
    T = len(target.betas)
    wrong: list[int] = []
    for n in range(1, T + 1):
        steps = target.steps(n)
        falls = all(before > after for before, after in itertools.pairwise(steps))
        if len(steps) != n or not falls or not 1 <= min(steps) <= max(steps) <= T:
            wrong.append(n)
    if not wrong:
        return Finding("grid", "holds", f"every n from 1 to {T}")
    steps = target.steps(wrong[0])
    few = ", ".join(map(str, wrong[:6])) + (", ..." if len(wrong) > 6 else "")
    return Finding(
        "grid", "fails", f"wrong for {len(wrong)} of {T} values of n: {few}",
        f"n = {wrong[0]} gives {len(steps)} steps from {max(steps):g} to {min(steps):g}: expected {wrong[0]} "
        f"different ones, falling, within 1 to {T}",
    )  # fmt: skip


def predictions(target: Target) -> Finding:
    kinds: tuple[Kind, ...] = ("eps", "x0", "v")
    worst, tried = 0.0, dict[Kind, Tensor]()
    for n in (1, 10):
        _, x = quantiles(target, first_step(target, n))
        tried = {}
        for kind in kinds:
            try:
                tried[kind] = target.sample(gaussian(target), x, n, kind, seeded(0)).double()
            except Unfit:
                continue
        first, *others = tried.values()
        for other in others:
            error = float((other - first).abs().max()) / STD
            worst = error if beyond(error, worst) else worst
    if len(tried) < 2:
        raise Unfit(f"it knows {', '.join(tried)} alone")
    return finding(
        "predictions", worst, 100 * FLOAT32, f"{', '.join(tried)} differ by {worst:.1e} standard deviations at most",
        "a prediction is converted to x_0 at another level than the network was called at, or by another formula",
    )  # fmt: skip


def rows(target: Target, n: int) -> list[tuple[float, float, float]]:
    """(X, C, N) of each of n steps, x' = X x + C D + N z: found by asking for the step from (1, 0) and (0, 1)."""
    zero, one = torch.zeros(64, dtype=torch.float64), torch.ones(64, dtype=torch.float64)
    drawn = [torch.randn(64, dtype=dtype, generator=seeded(0)).double() for dtype in (torch.float64, torch.float32)]
    found = []
    for i in range(n):
        noise = target.step(zero, zero, n, i, seeded(0)).double()
        state, denoised = (target.step(*pair, n, i, seeded(0)).double() - noise for pair in ((one, zero), (zero, one)))
        N, left = min(
            ((float(noise @ z / (z @ z)), z) for z in drawn), key=lambda fit: float((noise - fit[0] * fit[1]).norm())
        )
        if float((noise - N * left).abs().max()) > FLOAT32:
            raise Unfit("what it draws is not one standard normal number, scaled")
        found.append((float(state.mean()), float(denoised.mean()), N))
    return found


def table(target: Target) -> Finding:
    if target.table is None:
        raise Unfit("its steps are none of DDPM's or DDIM's")
    T, schedule = len(target.betas), schedules.discrete(target.betas)
    worst, where = 0.0, ""
    for n in sorted({1, 2, 3, 7, min(10, T), min(50, T)}):
        if n > T:
            continue
        steps = target.steps(n)
        times = torch.tensor([*steps, 0.0], dtype=torch.float64) / T
        if not bool((times.diff() < 0).all()):
            continue  # the grid's contract says so
        wanted = target.table(schedule, times)
        exact = torch.stack((wanted.state, wanted.denoised[:, 0], wanted.noise), -1)
        errors = (torch.tensor(rows(target, n), dtype=torch.float64) - exact).abs().amax(-1)
        shares = errors / torch.tensor([rounding(target, k) for k in steps], dtype=torch.float64)
        if beyond(float(shares.max()), worst):
            worst, i = float(shares.max()), int(shares.argmax())
            where = f"{float(errors[i]):.1e} at step {i + 1} of n = {n}, from k = {steps[i]:g}"
    return finding(
        "table", worst, 1, f"coefficients off by {where}" if where else "coefficients equal",
        "it does not go where its next step begins, or by other coefficients than the posterior's or DDIM's",
    )  # fmt: skip


def last_step(target: Target, c: float = 0.5) -> Finding:
    worst, where, off = 0.0, 0, 0.0
    for n in FEW:
        if n > len(target.betas):
            continue
        _, x = quantiles(target, first_step(target, n))
        end = target.sample(lambda x, _: torch.full_like(x, c), x, n, generator=seeded(0)).double()
        error = float((end - c).abs().max())
        if beyond(error / (limit := rounding(target, target.steps(n)[-1])), worst):
            worst, where, off = error / limit, n, error
    return finding(
        "last step", worst, 1, f"a point mass is missed by {off:.1e} at most",
        f"n = {where}: it ends before the data, at a level with noise",
    )  # fmt: skip


def law(target: Target) -> Finding:
    if deterministic(target):
        raise Unfit("it draws no noise")
    T = len(target.betas)
    alpha, sigma = levels(target)
    errors = {}
    for n in (min(50, T), T):
        steps = [round(k) for k in target.steps(n)]
        mean, variance = alpha[steps[0]] * MEAN, (alpha[steps[0]] * STD) ** 2 + sigma[steps[0]] ** 2
        for k, (X, C, N) in zip(steps, rows(target, n), strict=True):
            a, v = alpha[k], (alpha[k] * STD) ** 2 + sigma[k] ** 2
            gain = a * STD**2 / v
            mean, variance = X * mean + C * (MEAN + gain * (mean - a * MEAN)), (X + C * gain) ** 2 * variance + N**2
        errors[n] = max(abs(math.sqrt(variance) / STD - 1), abs(mean - MEAN) / STD)
    told = ", ".join(f"{error:.2g} at n = {n}" for n, error in errors.items())
    return finding(
        "law", errors[T], 0.1, f"mean or standard deviation off by {told} (relative to the data's)",
        "with all steps of the chain the law drawn is not the data's",
    )  # fmt: skip


def flow(target: Target) -> Finding:
    """The order is that of the errors' envelope: an error may pass through 0 at some n, and says nothing there.

    A last step that jumps to E[x_0 | x_k] shrinks the law by alpha s / sqrt(v) on any grid: nobody's fault.
    """
    if not deterministic(target):
        raise Unfit("it draws noise")
    T, (alpha, sigma) = len(target.betas), levels(target)
    tried = [n for n in REFINED if 4 * n <= T]
    if len(tried) < 5:
        raise Unfit(f"T = {T} is too short to see an order")
    errors, jumps = [], []
    for n in tried:
        z, x = quantiles(target, first_step(target, n))
        end = target.sample(gaussian(target), x, n, generator=seeded(0)).double()
        errors.append(float((end - (MEAN + STD * z)).square().mean().sqrt()) / STD)
        k = round(target.steps(n)[-1])
        jumps.append(1 - alpha[k] * STD / math.hypot(alpha[k] * STD, sigma[k]))
    order = math.log(max(errors) / errors[-1]) / math.log(tried[-1] / tried[0])
    told = f"error {max(errors):.2g} at n = {tried[0]}, {errors[-1]:.2g} at n = {tried[-1]} (data's unit)"
    if errors[-1] <= 1.5 * jumps[-1]:
        return Finding("flow", "holds", f"{told}: no more than its last jump")
    return finding(
        "flow", target.order - 0.5, order, f"{told}: order {order:.2f}, stated {target.order}",
        "its samples do not converge to the probability flow's at the order stated",
    )  # fmt: skip


def numbers(target: Target) -> Finding:
    wrong = []
    for n in (*FEW, 100):
        if n > len(target.betas):
            continue
        _, x = quantiles(target, first_step(target, n))
        if not bool(target.sample(gaussian(target), x, n, generator=seeded(0)).isfinite().all()):
            wrong.append(str(n))
    return finding(
        "numbers", len(wrong), 0.5, f"not finite at n = {', '.join(wrong)}" if wrong else "all finite",
        "NaN or infinity from an exact, finite network",
    )  # fmt: skip


def clipping(target: Target, far: float = 3.0) -> Finding:
    _, x = quantiles(target, first_step(target, 10))
    end = target.sample(lambda x, _: torch.full_like(x, far), x, 10, generator=seeded(0)).double()
    reached = float(end.mean())
    if abs(reached - far) <= 0.01:
        return Finding("clipping", "holds", f"a point mass at {far:g} is reached")
    why = f"data outside are never drawn: {', '.join(target.clipped()) or 'no setting says so'}"
    return Finding("clipping", "warns", f"a point mass at {far:g} ends at {reached:.3g}", why)


def start(target: Target) -> Finding:
    k = first_step(target, min(50, len(target.betas)))
    left = levels(target)[0][k]
    told = f"at its first step, k = {k} of {len(target.betas)}, x_k keeps {left:.2%} of x_0"
    if left <= LEFT:
        return Finding("start", "holds", told)
    return Finding("start", "warns", told, "sampling starts from pure noise, which the network was never shown there")


CONTRACTS: dict[str, Contract] = {
    "chain": chain,
    "noising": noising,
    "grid": grid,
    "predictions": predictions,
    "table": table,
    "last step": last_step,
    "law": law,
    "flow": flow,
    "numbers": numbers,
    "clipping": clipping,
    "start": start,
}
