"""Lies about chains and their steps: ddpm, ddim, parameterization, schedule."""

from __future__ import annotations

from sympy import Abs, exp, log, sqrt

from theory import ddim, ddpm, parameterization
from theory.proof import up_to
from verify.canaries import Canary, line_is, part_is, rule_is, wider

STUDENT = "students' scripts"

CHAINS = (
    # ---- ddpm
    Canary(
        "ddpm-posterior-swap",
        "ddpm.posterior",
        part_is("mean", lambda e: e.xreplace({ddpm.x_t: ddpm.x_0, ddpm.x_0: ddpm.x_t})),
        "x_t and x_0 change places in the posterior's mean",
        STUDENT,
    ),
    Canary(
        "ddpm-beta-for-beta-tilde",
        "ddpm.posterior",
        part_is("variance", lambda e: ddpm.beta_t),
        "the posterior's variance is beta_t",
        "beta for beta_tilde: Ho et al. 2020 sample with either; only one is the posterior's",
    ),
    Canary(
        "ddpm-variance-squared",
        "ddpm.posterior",
        part_is("variance", lambda e: sqrt(e)),
        "a standard deviation in the place of a variance",
        STUDENT,
    ),
    Canary(
        "ddpm-forward-index",
        "ddpm.chain",
        line_is(1, lambda e: e.xreplace({ddpm.k + 1: ddpm.k + 2})),
        "alpha_bar off by one",
        "denoising-diffusion-pytorch issue 18",
    ),
    Canary("ddpm-chain-start", "ddpm.chain", line_is(4, lambda e: e + 1), "an induction that does not start", STUDENT),
    Canary(
        "ddpm-weight-square",
        "ddpm.loss_eps",
        part_is("weight", lambda e: sqrt(e)),
        "the eps loss's weight without its square",
        STUDENT,
    ),
    Canary(
        "ddpm-prior-loss",
        "ddpm.prior_loss",
        line_is(2, lambda e: e + log(1 - ddpm.alpha_bar_T)),
        "L_T with the logarithm's sign turned",
        STUDENT,
    ),
    Canary(
        "ddpm-optimal-variance-everywhere",
        "ddpm.optimal_variance_upper",
        wider("v", "positive"),
        "beta bounds the optimal reverse variance for data of any variance",
        "Bao et al. 2022 state it for normalised data",
    ),
    Canary(
        "ddpm-learned-variance-raw",
        "ddpm.learned_variance",
        part_is("log_variance", lambda e: exp(e)),
        "the learned variance interpolated raw, not in logarithms",
        "diffusers PR 2090",
    ),
    Canary(
        "ddpm-bits-offset",
        "ddpm.bits_per_dimension",
        line_is(2, lambda e: e + 1),
        "the bits-per-dimension offset of 8-bit data used for all",
        "score_sde_pytorch issue 51",
    ),
    # ---- ddim
    Canary(
        "ddim-eta-without-square",
        "ddim.eta_one",
        line_is(4, lambda e: sqrt(e)),
        "the variance of the eta = 1 step is beta_tilde's root",
        STUDENT,
    ),
    Canary(
        "ddim-euler-order",
        "ddim.euler_probability_flow",
        rule_is(2, up_to(ddim.h, 3, ddim.x_t)),
        "DDIM equals Euler's step up to O(h^3)",
        "an O(h^2) that is claimed to be O(h^3)",
    ),
    Canary(
        "ddim-swap-s-t",
        "ddim.eta_zero",
        line_is(2, lambda e: e.xreplace({ddim.alpha_s: ddim.alpha_t, ddim.alpha_t: ddim.alpha_s})),
        "s and t change places in the deterministic step",
        STUDENT,
    ),
    Canary(
        "ddim-stochastic-point-mass",
        "ddim.point_mass_exact",
        line_is(4, lambda e: e * ddim.alpha_s),
        "the step on a point mass scaled once too often",
        STUDENT,
    ),
    # ---- parameterization
    Canary(
        "parameterization-v-sign",
        "parameterization.table",
        part_is("v", lambda e: -e),
        "v = sigma x0 - alpha eps",
        "the sign of v in several repositories",
    ),
    Canary(
        "parameterization-min-snr-max",
        "parameterization.min_snr",
        line_is(2, lambda e: e.replace(Abs, lambda a: -Abs(a))),
        "min-SNR written as max",
        "denoising-diffusion-pytorch PR 363",
    ),
    Canary(
        "parameterization-min-snr-v",
        "parameterization.min_snr",
        line_is(8, lambda e: e * exp(-2 * parameterization.half_log_snr)),
        "min-SNR's weight for v divided by the SNR as well",
        "diffusers issue 5654",
    ),
    Canary(
        "parameterization-half-log-snr",
        "parameterization.weight_sigmoid",
        line_is(2, lambda e: 2 * e),
        "log-SNR for half log-SNR: a factor of 2",
        "papers write log-SNR",
    ),
    # ---- schedule
    Canary(
        "schedule-diffusion-sign",
        "schedule.diffusion_log_snr",
        line_is(2, lambda e: -e),
        "g^2 = +2 sigma^2 half_log_snr'",
        STUDENT,
    ),
    Canary(
        "schedule-shift-sign",
        "schedule.shift_sd3",
        line_is(2, lambda e: e + 2 * log(e.atoms(log).pop().args[0])),
        "the resolution shift added where it is subtracted",
        "diffusers issue 8568, a false alarm that is a lie the other way round",
    ),
    Canary(
        "schedule-edm-linear",
        "schedule.edm",
        line_is(2, lambda e: e / 2),
        "d sigma^2 = sigma",
        STUDENT,
    ),
)
