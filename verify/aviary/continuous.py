"""Lies in continuous time: score, sde, vdm, edm, solver."""

from __future__ import annotations

from sympy import Add, Derivative, Integral, Rational, sqrt

from theory import likelihood, score, sde, solver
from theory.proof import up_to
from verify.canaries import Canary, certificate_is, line_is, named, part_is, raised, rule_is, unsupposed, wider

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
    # ---- score
    Canary(
        "score-implicit-trace-twice",
        "score.implicit",
        line_is(2, lambda e: e.subs(Rational(1, 2), 1)),
        "implicit score matching with s^2 for s^2/2",
        "sliced score matching code: the factor on the wrong term",
    ),
    Canary(
        "score-denoising-sign",
        "score.denoising",
        line_is(2, lambda e: -e),
        "the constant between explicit and denoising score matching has the other sign",
        STUDENT,
    ),
    Canary(
        "score-second-order",
        "score.tweedie_second",
        line_is(2, lambda e: e - score.sigma_t**2 / score.alpha_t**2),
        "the posterior's covariance is sigma^4/alpha^2 times the score's Jacobian, without the identity",
        "second-order samplers that leave the 1 out",
    ),
    Canary(
        "score-ula-unbiased",
        "score.ula",
        part_is("variance", lambda e: named(e, "v")),
        "unadjusted Langevin steps leave a Gaussian as it is",
        "correctors without a Metropolis step, called exact",
    ),
    Canary(
        "score-ncsn-weight",
        "score.ncsn_weighting",
        line_is(2, lambda e: e / score.sigma_t**2),
        "with weight sigma^2 the loss is the score's own squared error",
        STUDENT,
    ),
    # ---- sde
    Canary(
        "sde-anderson-half",
        "sde.anderson",
        line_is(2, lambda e: e + Derivative(sde.g(sde.t) ** 2 / 2 * Derivative(sde.p(sde.x, sde.t), sde.x), sde.x)),
        "the reverse SDE with the probability-flow ODE's g^2/2, and its own noise",
        STUDENT,
    ),
    Canary(
        "sde-reverse-without-fokker-planck",
        "sde.lambda_family",
        unsupposed,
        "every drift reverses every density",
        "the hypothesis that papers leave out",
    ),
    Canary(
        "sde-ve-rate",
        "sde.fokker_planck_ve",
        line_is(
            2, lambda e: e.subs(Derivative(sde.sigma(sde.t) ** 2, sde.t), Derivative(sde.sigma(sde.t), sde.t) ** 2)
        ),
        "g = sigma' for g^2 = (sigma^2)'",
        "iap-diffusion-labs issue 17: sigma for a diffusion coefficient",
    ),
    Canary(
        "sde-flow-drift",
        "sde.fokker_planck_flow",
        line_is(2, lambda e: e.subs(2 * sde.tau, sde.tau)),
        "flow matching's path as an SDE with half its noise",
        STUDENT,
    ),
    Canary(
        "sde-chain-order",
        "sde.ddpm_to_vp",
        certificate_is(2, lambda e: 0 * e),
        "DDPM's chain is the VP-SDE's, without an error",
        STUDENT,
    ),
    Canary(
        "sde-denoised-form",
        "sde.pf_ode_denoised",
        part_is("denoised", lambda e: 2 * e),
        "the ODE's pull to the prediction counted twice",
        STUDENT,
    ),
    # ---- solver
    Canary(
        "solver-3m-without-factorial",
        "solver.dpmpp_3m",
        raised(4),
        "DPM-Solver++(3M) without its Taylor factor 2 is of third order",
        "k-diffusion, diffusers and the authors' repository",
    ),
    Canary(
        "solver-heun-order",
        "solver.heun_error",
        raised(2),
        "Heun's step has a local error of O(h^4)",
        "an order read off a plot",
    ),
    Canary(
        "solver-deis-order",
        "solver.deis",
        raised(4),
        "the two-point Adams-Bashforth step is of third order",
        STUDENT,
    ),
    Canary(
        "solver-phi-factorial",
        "solver.phi_2",
        line_is(2, lambda e: 2 * e),
        "phi_2(0) = 1",
        "exponential integrators whose phi functions lack the factorial",
    ),
    Canary(
        "solver-final-jump",
        "solver.final_jump",
        raised(2),
        "jumping from sigma_min to 0 costs O(sigma_min^3)",
        "the last denoising step called free",
    ),
    Canary(
        "solver-ddpm-noise",
        "solver.ddpm_beta_noise",
        line_is(2, lambda e: e**2 / solver.sigma_t),
        "a variance where the table wants a standard deviation",
        STUDENT,
    ),
    Canary(
        "solver-ancestral-prefactor",
        "solver.kappa",
        line_is(2, lambda e: e.subs(solver.sigma_s, solver.sigma_t)),
        "sigma_t where sigma_s belongs",
        "azula 0.11.1, REABSampler: order 1 for order 2 and 3",
    ),
    Canary(
        "solver-stiff-stable",
        "solver.euler_row",
        part_is("state", lambda e: 2 - e),
        "Euler's step away from the data",
        "time direction slips",
    ),
    Canary(
        "sde-hutchinson-diagonal",
        "sde.hutchinson_variance_rademacher",
        line_is(2, lambda e: e + 2 * likelihood.A_ii**2),
        "random signs cost the diagonal as Gaussian probes do",
        "Hutchinson's variance quoted for the other probe",
    ),
    Canary(
        "sde-likelihood-direction",
        "sde.flow_likelihood",
        line_is(3, lambda e: e - 2 * Add(*(a for a in e.args if a.has(Integral)))),
        "log p_0 = log p_1 - int div v",
        "the time direction slips in likelihood code",
    ),
    Canary(
        "sde-kl-contraction-half",
        "sde.kl_derivative",
        line_is(3, lambda e: 2 * e),
        "KL falls at the rate g^2 times the scores' squared distance",
        STUDENT,
    ),
    Canary(
        "sde-girsanov-half",
        "sde.girsanov",
        part_is("step", lambda e: 2 * e),
        "the KL of two diffusions is E int (a - b)^2/g^2",
        "Girsanov's weight and its mean confused",
    ),
    Canary(
        "sde-ode-bounded",
        "sde.likelihood_weighting",
        unsupposed,
        "the weighted loss bounds the likelihood of any sampler",
        "likelihood weighting quoted for the ODE",
    ),
    Canary(
        "sde-corrector-unbiased",
        "sde.corrector_bias",
        part_is("stationary", lambda e: named(e, "v")),
        "corrector steps settle at the law's own variance",
        "predictor-corrector samplers called exact in the corrector",
    ),
    Canary(
        "sde-reverse-gaussian",
        "sde.reverse_kernel_gaussian",
        raised(4),
        "the reverse kernel's skewness is an order smaller than it is",
        STUDENT,
    ),
    Canary(
        "sde-quantiles-anyhow",
        "sde.flow_quantile",
        unsupposed,
        "every flow keeps the mass to its left",
        "the hypothesis that papers leave out",
    ),
    Canary(
        "sde-speciation-noise",
        "sde.speciation",
        part_is("margin", lambda e: e + 2 * named(e, "sigma") ** 2),
        "modes part where alpha^2 (m^2 - v) = -sigma^2",
        STUDENT,
    ),
    Canary(
        "sde-spectrum-fine-first",
        "sde.spectrum",
        part_is("crossing", lambda e: 1 / e),
        "fine frequencies appear before coarse ones",
        STUDENT,
    ),
    # ---- vdm
    Canary(
        "vdm-weight-half",
        "vdm.step",
        part_is("weight", lambda e: 2 * e),
        "a step costs the whole gain in SNR, not half of it",
        "VDM code: the factor 1/2 taken twice, or not at all",
    ),
    Canary(
        "vdm-eps-weight",
        "vdm.nelbo_eps",
        line_is(2, lambda e: -e * named(e, "eps")),
        "an error of x0 is eps times one of eps",
        STUDENT,
    ),
    Canary(
        "vdm-refinement-free",
        "vdm.refinement",
        wider("drop", "real"),
        "refining the grid never raises the bound, whatever the denoiser",
        "the hypothesis that papers leave out",
    ),
    Canary(
        "vdm-any-schedule",
        "vdm.schedule_invariance",
        line_is(2, lambda e: 2 * e),
        "in time the bound is int -SNR' m dt",
        STUDENT,
    ),
    Canary(
        "vdm-i-mmse-nats",
        "vdm.i_mmse_gaussian",
        line_is(6, lambda e: 2 * e),
        "dI/dsnr = mmse",
        "I-MMSE in the complex case, used for the real one",
    ),
    # ---- edm
    Canary(
        "edm-c-out-without-data",
        "edm.c_out",
        part_is("c_out", lambda e: e / named(e, "sigma_data")),
        "c_out without its sigma_data",
        "preconditioning copied for data of unit variance",
    ),
    Canary(
        "edm-c-skip-square",
        "edm.c_skip",
        part_is("c_skip", lambda e: sqrt(e)),
        "c_skip = sigma_data/sqrt(sigma^2 + sigma_data^2)",
        STUDENT,
    ),
    Canary(
        "edm-churn-noise",
        "edm.churn",
        part_is("noise", lambda e: e * sqrt(named(e, "gamma"))),
        "churn's noise is sigma_hat - sigma",
        "standard deviations subtracted in the place of variances",
    ),
    Canary(
        "edm-heun-order",
        "edm.heun_order",
        raised(2),
        "Heun's step has a local error of O(h^4)",
        "an order read off a plot",
    ),
    Canary(
        "edm-ema-exponent",
        "edm.power_function_ema",
        part_is("decay", lambda e: e ** (named(e, "gamma") / (named(e, "gamma") + 1))),
        "the power profile's decay is (1 - 1/t)^gamma",
        STUDENT,
    ),
)
