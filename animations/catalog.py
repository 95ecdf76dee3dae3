"""Which scenes and figures there are: one row each, readable without importing manim or matplotlib.

A scene's name is `week/file`, its module `animations.week.file`; the module defines one Stage, which finds its title
and claims here by its module's name. A figure's name is the id of the claim it is about, `topic.name`; the function
`name` of `animations.figures.topic` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Row:
    """One scene: what it shows in a line, and the claims it shows, all of which must be proved."""

    name: str
    title: str
    claims: tuple[str, ...]

    @property
    def week(self) -> str:
        return self.name.split("/")[0]

    @property
    def module(self) -> str:
        return "animations." + self.name.replace("/", ".")

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics of the claims, each once."""
        return tuple(dict.fromkeys(claim.split(".")[0] for claim in self.claims))


SCENES: tuple[Row, ...] = (
    Row("week3/complete_the_square", "Completing the square", ("ddpm.posterior",)),
    Row("week4/forward_process", "The forward process", ("ddpm.forward", "ddpm.chain")),
    Row("week5/ddim_is_euler", "DDIM is an Euler step", ("ddim.euler_exact", "solver.ddim_error")),
)


@dataclass(frozen=True)
class Drawing:
    """One figure: its name is a claim's id, its title says what is seen, and these other claims are in it too."""

    name: str
    title: str
    others: tuple[str, ...] = ()

    @property
    def claims(self) -> tuple[str, ...]:
        return (self.name, *self.others)

    @property
    def place(self) -> tuple[str, str]:
        """The module that draws it, and the function in it."""
        topic, name = self.name.split(".")
        return f"animations.figures.{topic}", name


FIGURES: tuple[Drawing, ...] = (
    Drawing(
        "ddpm.analytic_dpm",
        "The best reverse variance, and which of its bounds need a hypothesis",
        ("ddpm.optimal_variance_lower", "ddpm.optimal_variance_upper", "ddpm.optimal_variance_always"),
    ),
    Drawing(
        "generative.reverse_kl",
        "Which way round: one KL covers the data, the other picks a mode",
        ("generative.max_likelihood", "generative.kl_two_points"),
    ),
    Drawing(
        "generative.bilinear_alternating",
        "Two players who step at once run away; taking turns they circle; a penalty brings them home",
        (
            "generative.bilinear_simultaneous",
            "generative.alternating_orbits",
            "generative.alternating_at_two",
            "generative.gradient_penalty",
        ),
    ),
    Drawing(
        "generative.wasserstein_shift",
        "Laws that do not overlap: JS says log 2, $W_1$ how far",
        ("generative.js_disjoint", "generative.js"),
    ),
    Drawing(
        "generative.non_saturating_gradient",
        "Hold the discriminator still: whose gradient a GAN's generator follows",
        ("generative.saturating_gradient", "generative.discriminator_followed"),
    ),
    Drawing(
        "score.memorisation",
        "The perfect denoiser of a training set gives the training set back",
        ("score.memorisation_share", "score.memorisation_flow"),
    ),
    Drawing(
        "probability.change_of_variables_1d",
        "The density of y = g(x), and what is lost where g is not monotone",
        ("probability.square",),
    ),
    Drawing("probability.fid_bias", "FID of too few samples is too large", ("probability.fid_positive",)),
    Drawing(
        "vae.posterior_collapse_beta",
        "Posterior collapse: which latents live, and which die",
        ("vae.beta_ppca", "vae.latent_rate"),
    ),
    Drawing(
        "vae.diagonal_encoder",
        "What an encoder with independent coordinates misses",
        ("vae.posterior_precision", "vae.diagonal_gap"),
    ),
    Drawing(
        "vae.iwae_monotone",
        "More draws, a tighter bound",
        ("vae.leave_one_out", "vae.iwae_bound"),
    ),
    Drawing(
        "vdm.schedule_invariance",
        "Every schedule pays the same number of nats, each at its own time",
        ("vdm.signed_integral", "vdm.i_mmse_gaussian"),
    ),
    Drawing(
        "vdm.refinement",
        "More steps, a lower bound: if the error falls as SNR rises",
        ("vdm.refinement_limit", "vdm.step"),
    ),
    Drawing(
        "vdm.time_density",
        "Which times to draw: in proportion to the root mean square of the loss",
        ("vdm.time_density_level",),
    ),
    Drawing(
        "edm.post_hoc_ema",
        "An average of any length, chosen after training",
        ("edm.post_hoc_error", "edm.power_function_ema", "edm.profile_product"),
    ),
    Drawing(
        "edm.churn",
        "Churn adds noise: to the next level exactly, if S_noise = 1",
    ),
    Drawing(
        "sde.lambda_family",
        "One family of backward equations, one set of laws",
        ("sde.probability_flow", "sde.anderson"),
    ),
    Drawing(
        "sde.not_optimal_transport",
        "The probability flow is the cheapest map on a line and for a Gaussian, not in general",
        (
            "sde.optimal_is_curl_free",
            "sde.flow_twist",
            "sde.centre_hessian",
            "sde.optimal_transport_1d",
            "sde.optimal_transport_commuting",
        ),
    ),
    Drawing(
        "sde.corrector_bias",
        "Corrector steps settle too wide, at every noise level by the same factor",
        ("sde.corrector_snr", "sde.corrector_own_length"),
    ),
    Drawing(
        "sde.reverse_kernel_gaussian",
        "Backward steps are Gaussian only if they are short",
        ("sde.reverse_kernel_mixture", "sde.mixture_cumulants"),
    ),
    Drawing(
        "sde.speciation",
        "When two modes part: in the density, and in each backward drift",
        ("sde.speciation_drift",),
    ),
    Drawing("sde.spectrum", "Images rise above the noise from coarse to fine"),
    Drawing("sde.kl_derivative", "One noise makes two laws alike, as fast as their scores differ", ("sde.kl_flow",)),
    Drawing(
        "sde.likelihood_weighting",
        "A loss that bounds the SDE's law, and not the ODE's",
        ("sde.kl_model", "sde.ode_exceeds"),
    ),
    Drawing(
        "sde.hutchinson_variance_rademacher",
        "Two probes of a trace: random signs pay for what is off the diagonal",
        ("sde.hutchinson_variance_gaussian", "sde.hutchinson_likelihood"),
    ),
    Drawing(
        "sde.sampler_error",
        "What a sampler errs by, and what bounds it",
        ("sde.kl_drifts", "sde.frozen_score"),
    ),
    Drawing("flow.velocity_score_dependent", "Pair data with noise, and eps is not the score any more"),
    Drawing("flow.reflow_cost", "Reflow: paths straighter, and never at a higher cost", ("flow.convex_tangent",)),
    Drawing("latent.scale_factor", "Latents at the scale that the schedule was made for"),
    Drawing("latent.pixel_latent_discrete", "What a bin costs, and a density"),
    Drawing(
        "distillation.consistency_training",
        "Training without a teacher has the teacher's gradient, to first order",
        ("distillation.consistency_without_stop",),
    ),
    Drawing(
        "distillation.consistency_boundary",
        "Self-consistency alone says nothing about where paths end",
        ("distillation.collapse", "distillation.consistency_gaussian"),
    ),
    Drawing(
        "guidance.cfg_discrepancy",
        "Classifier-free guidance does not draw from the tilted law",
        ("guidance.cfg_flow", "guidance.cfg_not_diffusion"),
    ),
    Drawing(
        "guidance.inpainting_bias",
        "Inpainting by replacement: too near the middle, too wide",
        ("guidance.inpainting_mean", "guidance.inpainting_score"),
    ),
    Drawing(
        "guidance.dps",
        "DPS trusts a measurement too much",
        ("guidance.dps_mean", "guidance.dps_variance"),
    ),
)


def figure(name: str) -> Drawing:
    """The figure of that name."""
    (row,) = figures([name])
    return row


def figures(names: Sequence[str] = ()) -> tuple[Drawing, ...]:
    """Figures by name or by topic, all of them when no name is given; ValueError for a name nobody knows."""
    for name in names:
        if not any(name in (row.name, row.name.split(".")[0]) for row in FIGURES):
            near = get_close_matches(name, [row.name for row in FIGURES], n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see seminar figure --list"
            raise ValueError(f"no figure {name!r}; {hint}")
    return tuple(row for row in FIGURES if not names or {row.name, row.name.split(".")[0]} & set(names))


def select(week: str | None = None, scene: str | None = None) -> tuple[Row, ...]:
    """Rows of a week ("week5" or "5"), of one scene ("week5/ddim_is_euler" or its last part), or all of them."""
    rows = SCENES
    if week is not None:
        rows = tuple(row for row in rows if row.week in (week, f"week{week}"))
        if not rows:
            raise ValueError(
                f"no scenes for week {week!r}; there are {', '.join(sorted({row.week for row in SCENES}))}"
            )
    if scene is not None:
        found = tuple(row for row in rows if scene in (row.name, row.name.split("/")[1]))
        if not found:
            raise ValueError(f"no scene {scene!r}; there are {', '.join(row.name for row in rows)}")
        rows = found
    return rows


def of(module: str) -> Row:
    """The row of the scene that lives in the module."""
    for row in SCENES:
        if row.module == module:
            return row
    raise ValueError(f"{module} has no row in animations/catalog.py")
