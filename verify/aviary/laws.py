"""Lies about laws: gaussian, probability, generative, vae."""

from __future__ import annotations

from sympy import Derivative, Integer, Mul, exp, log, sqrt

from theory import gaussian, generative, probability, vae
from theory.proof import at_most, minimum, normal, parts
from verify.canaries import Canary, exchanged, in_line, line_is, looser, named, part_is, raised, rule_is, wider

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
    # ---- probability
    Canary(
        "probability-jensen-turned",
        "probability.jensen",
        exchanged(1, 2),
        "log E g <= E log g",
        "perplexities averaged in the place of log-likelihoods",
    ),
    Canary(
        "probability-evidence-prior",
        "probability.bayes",
        line_is(1, lambda e: e.subs(probability.likelihood(probability.y), 1)),
        "the posterior is prior times likelihood, whatever the evidence",
        STUDENT,
    ),
    Canary(
        "probability-total-variance",
        "probability.total_variance",
        line_is(2, lambda e: e.subs(probability.A, 1)),
        "the variance of a mixture is the mean variance of its parts",
        STUDENT,
    ),
    Canary(
        "probability-bias-without-square",
        "probability.mse_minimiser",
        line_is(2, lambda e: e + (probability.f(probability.x) - probability.mean(probability.x)) ** 2),
        "the distance to the conditional mean counts twice in the squared error",
        STUDENT,
    ),
    Canary(
        "probability-jacobian-scale",
        "probability.denoiser_jacobian",
        line_is(2, lambda e: e / probability.alpha_t),
        "the denoiser's Jacobian is Cov/sigma^2, without alpha",
        "papers that set alpha = 1 (VE), applied under VP",
    ),
    Canary(
        "probability-langevin-temperature",
        "probability.langevin",
        line_is(1, lambda e: e + Derivative(probability.p(probability.x), probability.x) / 2),
        "Langevin dynamics with noise sqrt(h) for sqrt(2 h) leaves p as it is",
        "Langevin samplers in several score-matching repositories",
    ),
    Canary(
        "probability-second-moment-variance",
        "probability.linear_second_moment",
        line_is(4, lambda e: e / 2),
        "d/dt E x^2 = f E x^2 + g^2/2: Ito's term and the factor 2 both halved",
        STUDENT,
    ),
    # ---- vae
    Canary(
        "vae-elbo-kl-sign",
        "vae.elbo_forms",
        line_is(3, lambda e: e.args[0] - e.args[1]),
        "the KL added to the reconstruction in the bound that is maximised",
        STUDENT,
    ),
    Canary(
        "vae-kl-log-std",
        "vae.kl_standard_normal",
        line_is(2, lambda e: e + log(vae.s) / 2),
        "log s for log s^2 in the KL to the prior",
        "VAE code whose encoder's `log_var` is taken for the logarithm of a standard deviation",
    ),
    Canary(
        "vae-posterior-variance",
        "vae.gap_linear_gaussian",
        part_is("variance", lambda e: 1 / e),
        "the posterior's precision in the place of its variance",
        STUDENT,
    ),
    Canary(
        "vae-reparameterization-score",
        "vae.reparameterized_gradient",
        line_is(3, lambda e: e / vae.s),
        "the gradient in mu divided by s once too often",
        STUDENT,
    ),
    Canary(
        "vae-sixth-moment",
        "vae.gradient_variances",
        line_is(4, lambda e: e - 12 * vae.s**2),
        "E u^6 = 3, as E u^4 is",
        STUDENT,
    ),
    Canary(
        "vae-collapse-everywhere",
        "vae.posterior_collapse",
        wider("B", "real"),
        "a latent direction collapses whatever its eigenvalue",
        "the threshold left out of the statement",
    ),
    Canary(
        "probability-density-without-slope",
        "probability.change_of_variables_2d",
        line_is(6, lambda e: Mul(*(a for a in e.args if not a.has(Derivative)))),
        "in the plane the density is carried along as it is, without the Jacobian",
        "normalizing-flow code that forgets a layer's log-determinant",
    ),
    Canary(
        "probability-mean-of-means",
        "probability.monte_carlo_error",
        line_is(6, lambda e: e * (named(e, "n") + 1)),
        "averaging leaves the variance as it is",
        STUDENT,
    ),
    Canary(
        "probability-fid-unbiased",
        "probability.fid_bias",
        part_is("leading", lambda e: e / 3),
        "FID's bias is that of the means alone",
        STUDENT,
    ),
    # ---- generative
    Canary(
        "generative-kl-symmetric",
        "generative.reverse_kl",
        line_is(2, Integer(0)),
        "KL(p || q) = KL(q || p)",
        STUDENT,
    ),
    Canary(
        "generative-pinsker-four",
        "generative.pinsker",
        line_is(3, lambda e: 2 * e),
        "KL >= 4 (p - q)^2",
        "Pinsker's constant misremembered",
    ),
    Canary(
        "generative-js-one",
        "generative.js",
        line_is(7, lambda e: e / 2),
        "JS is at most log(2)/2",
        STUDENT,
    ),
    Canary(
        "generative-chain-rule-first",
        "generative.chain_rule",
        line_is(2, lambda e: e.subs(named(e, "n"), named(e, "n") + 1)),
        "the chain rule with one factor too many",
        STUDENT,
    ),
    Canary(
        "generative-flow-inverse",
        "generative.flow_density",
        line_is(2, lambda e: e.replace(lambda n: isinstance(n, Derivative), lambda n: 1 / n)),
        "the density divided by the slope of the inverse map, not multiplied",
        "normalizing-flow code: log-determinant of the wrong direction",
    ),
    Canary(
        "generative-discriminator-turned",
        "generative.optimal_discriminator",
        part_is("discriminator", lambda e: 1 - e),
        "D* = q/(p + q)",
        STUDENT,
    ),
    Canary(
        "generative-gan-value",
        "generative.gan_value",
        line_is(3, lambda e: e + log(2)),
        "the GAN's value at D* is 2 JS - log 2",
        STUDENT,
    ),
    Canary(
        "generative-gan-converges",
        "generative.bilinear_simultaneous",
        line_is(4, lambda e: e.subs(generative.h, 0)),
        "simultaneous gradient steps on x y turn in circles",
        "the continuous-time picture, drawn for finite steps",
    ),
    Canary(
        "generative-penalty-square",
        "generative.gradient_penalty",
        part_is("discriminator", lambda e: e.subs(generative.weight, 2 * generative.weight)),
        "the penalty's gradient with its factor 2 left in",
        "R1 regularisation with and without the half",
    ),
    # ---- vae
    Canary(
        "vae-beta-threshold",
        "vae.posterior_collapse_beta",
        wider("B", "real"),
        "the beta-VAE's direction collapses whatever its eigenvalue",
        "the threshold left out of the statement",
    ),
    Canary(
        "vae-diagonal-gap-sign",
        "vae.diagonal_encoder",
        part_is("gap", lambda e: -e),
        "a diagonal encoder gains nats on correlated posteriors",
        STUDENT,
    ),
    Canary(
        "vae-iwae-turned",
        "vae.iwae_bound",
        line_is(5, lambda e: e - 1),
        "the importance-weighted bound lies below the evidence by a nat or more",
        STUDENT,
    ),
    Canary(
        "vae-leave-one-out",
        "vae.leave_one_out",
        line_is(4, lambda e: e * 2),
        "the mean of leave-one-out means is not the mean",
        STUDENT,
    ),
    # ---- latent
    Canary(
        "latent-scale-inverse",
        "latent.scale_factor",
        part_is("factor", lambda e: 1 / e),
        "the latent multiplied by its standard deviation",
        "latent-diffusion's 0.18215, divided by where it multiplies",
    ),
    Canary(
        "latent-bins-density",
        "latent.pixel_latent_discrete",
        raised(4),
        "a bin's mass is density times width up to the third order",
        "discretised likelihoods taken for densities",
    ),
    Canary(
        "latent-commitment-one-side",
        "latent.commitment",
        line_is(2, lambda e: -e),
        "the commitment loss pushes encoder and codebook apart",
        STUDENT,
    ),
)
