"""The canaries: lies that were believed somewhere, each one edit away from a claim that is proved.

Grouped by topic; each says the lie in a sentence and where it comes from. `verify.canaries` explains the edits.
"""

from __future__ import annotations

from sympy import Abs, Rational, exp, log, sqrt

from theory import ddim, ddpm, gaussian, parameterization, probability, score, solver, vae
from theory.proof import at_most, minimum, normal, parts, real, up_to
from verify.canaries import (
    Canary,
    certificate_is,
    in_line,
    line_is,
    looser,
    part_is,
    rule_is,
    throughout,
    turned,
    wider,
)

STUDENT = "students' scripts"


_TABLE = (
    # ---- gaussian
    Canary(
        "gaussian-variance-for-std",
        "gaussian.standardised",
        in_line(2, sqrt(gaussian.v), gaussian.v),
        "x = mu + v u, with the variance in the place of the standard deviation",
        "iap-diffusion-labs issue 17",
    ),
    Canary(
        "gaussian-missing-jacobian",
        "gaussian.affine",
        line_is(2, lambda e: e * gaussian.c),
        "the density of c x + b is that of x, without 1/c",
        f"change of variables without its Jacobian: {STUDENT}",
    ),
    Canary(
        "gaussian-score-sign",
        "gaussian.score",
        line_is(2, lambda e: -e),
        "the score points away from the mean",
        STUDENT,
    ),
    Canary(
        "gaussian-score-without-variance",
        "gaussian.score",
        line_is(2, lambda e: e * gaussian.v),
        "the score is mu - x, without 1/v",
        f"score without 1/sigma^2: {STUDENT}",
    ),
    Canary(
        "gaussian-entropy-half",
        "gaussian.entropy",
        line_is(2, lambda e: e - log(2)),
        "a wrong normaliser, pi for 2 pi",
        STUDENT,
    ),
    Canary(
        "gaussian-kl-reversed",
        "gaussian.kl",
        line_is(2, lambda e: e.subs({gaussian.v: gaussian.w, gaussian.w: gaussian.v}, simultaneous=True)),
        "KL(q || p) for KL(p || q)",
        STUDENT,
    ),
    Canary(
        "gaussian-kl-log-sign",
        "gaussian.kl",
        line_is(2, lambda e: e + log(gaussian.v / gaussian.w)),
        "+ log(v/w)/2 in the KL of two Gaussians",
        "VAE tutorials' errata",
    ),
    Canary("gaussian-stein-sign", "gaussian.stein", line_is(2, lambda e: -e), "E[(x - mu) h] = -v E[h']", STUDENT),
    Canary(
        "gaussian-stein-boundary",
        "gaussian.stein",
        rule_is(
            2,
            parts(
                gaussian.x,
                -gaussian.v * normal(gaussian.x, gaussian.mu, gaussian.v) * gaussian.h(gaussian.x)
                - exp(gaussian.x) / (1 + exp(gaussian.x)),
            ),
        ),
        "integration by parts with a certificate that does not vanish at the ends",
        STUDENT,
    ),
    Canary(
        "gaussian-product-precision",
        "gaussian.product",
        part_is("variance", lambda e: gaussian.v + gaussian.w),
        "the product of two Gaussian densities has the sum of their variances",
        f"product of densities taken for sum of variables: {STUDENT}",
    ),
    Canary(
        "gaussian-mixture-weights",
        "gaussian.mixture",
        part_is("responsibility", lambda e: gaussian.q),
        "the score of a mixture is the mean of scores with the prior weights",
        STUDENT,
    ),
    Canary(
        "gaussian-conditioning-mean",
        "gaussian.conditioning",
        part_is("mean", lambda e: e + gaussian.b),
        "the offset b forgotten in the gain's innovation",
        STUDENT,
    ),
    # ---- probability
    Canary("probability-log-bound", "probability.log_bound", line_is(2, lambda e: e - 1), "log r <= r - 2", STUDENT),
    Canary(
        "probability-log-bound-witness",
        "probability.log_bound",
        rule_is(2, at_most(minimum(probability.r, 2))),
        "r - 1 - log r has its minimum at r = 2",
        STUDENT,
    ),
    Canary(
        "probability-gibbs-sign",
        "probability.gibbs",
        line_is(4, lambda e: e + 1),
        "KL >= 1",
        STUDENT,
    ),
    Canary(
        "probability-decay",
        "probability.gibbs",
        looser("p", "positive"),
        "KL >= 0 for functions that are no densities",
        "the hypothesis that papers leave out",
    ),
    Canary(
        "probability-linear-variance",
        "probability.linear_variance",
        line_is(2, lambda e: e.subs(probability.G(probability.t) ** 2, probability.G(probability.t))),
        "d/dt Var = 2 f Var + g: the diffusion coefficient not squared",
        "diffusers PR 590: a schedule missing a square",
    ),
    # ---- vae, score
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
    # ---- parameterization, schedule
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
    # ---- sde, solver
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
    # ---- one for each strictness of the judges
    Canary(
        "gaussian-score-fortieth-digit",
        "gaussian.score",
        line_is(2, lambda e: e + Rational(1, 10**40)),
        "a score that is right to forty digits",
        "equality by evaluation alone",
    ),
    Canary(
        "gaussian-score-a-percent",
        "gaussian.score",
        line_is(2, lambda e: e * Rational(101, 100)),
        "a score that is right to a percent",
        "assert_close with its tolerance raised until it passed",
    ),
    Canary(
        "score-implicit-without-decay",
        "score.implicit",
        looser("p", "positive"),
        "implicit score matching for a p that need not decay",
        "Hyvarinen 2005 states the decay; most who cite it do not",
    ),
    Canary(
        "ddpm-posterior-mean-positive",
        "ddpm.posterior",
        part_is("mean", lambda e: sqrt(e**2)),
        "sqrt(mean^2) for the mean, equal while x_t and x_0 are positive",
        "a property test that draws from (0, 1)",
    ),
    Canary(
        "sde-ncsn-leading-term",
        "sde.ncsn_euler",
        certificate_is(2, lambda e: 2 * e),
        "a local error term twice the true one",
        "an order measured, its constant guessed",
    ),
    Canary(
        "solver-stability-turned",
        "solver.stability",
        turned(2),
        "Euler's method grows for h k < 2",
        STUDENT,
    ),
    Canary(
        "gaussian-schur-singular",
        "gaussian.schur",
        wider("S_22", "real"),
        "the Schur complement of a variance that may be 0",
        "the hypothesis that papers leave out",
    ),
    Canary(
        "vae-kl-any-variance",
        "vae.kl_standard_normal",
        throughout(vae.s, sqrt(real("variance"))),
        "the KL formula for any real number that an encoder puts out as its variance",
        "VAE code whose encoder puts out the variance, not its logarithm",
    ),
    Canary(
        "sde-ncsn-chain-start",
        "sde.ncsn_chain_exact",
        line_is(2, lambda e: e + 1),
        "the chain's variance has a constant on top, which every step keeps",
        "the step of an induction without its start",
    ),
)

CANARIES = {canary.name: canary for canary in _TABLE}
