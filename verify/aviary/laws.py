"""Lies about laws: gaussian, probability, generative, vae."""

from __future__ import annotations

from sympy import exp, log, sqrt

from theory import gaussian, probability
from theory.proof import at_most, minimum, normal, parts
from verify.canaries import Canary, in_line, line_is, looser, part_is, rule_is

STUDENT = "students' scripts"

LAWS = (
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
)
