"""One lie for each strictness of the judges: the checker without it believes this one."""

from __future__ import annotations

from sympy import Rational, sqrt

from theory import vae
from theory.proof import real
from verify.canaries import Canary, certificate_is, line_is, looser, part_is, throughout, turned, wider

STUDENT = "students' scripts"

JUDGES = (
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
