"""Lies in continuous time: score, sde, vdm, edm, solver."""

from __future__ import annotations

from theory import score, solver
from theory.proof import up_to
from verify.canaries import Canary, line_is, part_is, rule_is

STUDENT = "students' scripts"

CONTINUOUS = (
    # ---- score
    Canary(
        "score-tweedie-sign",
        "score.tweedie",
        line_is(2, lambda e: -e),
        "E[x_0 | x_t] = (x_t - sigma^2 score)/alpha, up to sign",
        STUDENT,
    ),
    Canary(
        "score-tweedie-std",
        "score.tweedie",
        line_is(2, lambda e: e.subs(score.sigma_t**2, score.sigma_t)),
        "Tweedie with sigma in the place of sigma^2",
        "DDIM re-implementations",
    ),
    Canary(
        "score-noise-without-sigma",
        "score.expected_noise",
        line_is(2, lambda e: e * score.sigma_t),
        "score = -E[eps | x_t], without 1/sigma",
        "score without 1/sigma: several repositories",
    ),
    Canary("score-sliced", "score.sliced", line_is(2, lambda e: 2 * e), "Hutchinson's estimate counted twice", STUDENT),
    # ---- sde
    Canary(
        "sde-lambda-half",
        "sde.probability_flow",
        line_is(2, lambda e: 2 * e),
        "the probability-flow ODE with g^2 for g^2/2",
        STUDENT,
    ),
    Canary(
        "sde-instantaneous-sign",
        "sde.instantaneous_change",
        line_is(2, lambda e: -e),
        "d log p/dt = + div v",
        "time direction slips in likelihood code",
    ),
    Canary(
        "sde-ncsn-exact",
        "sde.ncsn_euler",
        line_is(2, lambda e: 2 * e),
        "the chain's increment taken twice",
        STUDENT,
    ),
    # ---- solver
    Canary(
        "solver-2m-without-half",
        "solver.dpmpp_2m_row",
        line_is(1, lambda e: e + (solver.D_0 - solver.D_1) / (2 * solver.r)),
        "DPM-Solver++(2M) with 1/r for 1/(2 r)",
        "a Taylor factor left out, as in 3M: k-diffusion, diffusers",
    ),
    Canary(
        "solver-2m-order",
        "solver.variable_steps",
        rule_is(2, up_to(solver.h, 3, solver.x_t)),
        "second order whatever the extrapolation's coefficient",
        "k-diffusion",
    ),
    Canary(
        "solver-exponential-sign",
        "solver.ddim_row",
        part_is("denoised", lambda e: -e),
        "the denoised prediction subtracted",
        STUDENT,
    ),
)
