"""Formulas come from proved claims, and curves are what the claims say."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import sympy as sp
from sympy.abc import x

from animations import claims as claims_of
from animations import style
from animations.formula import Said, _coloured, orders, said


@pytest.fixture
def claims(monkeypatch):
    """Claims of our own, by status."""

    def export(claim):
        line = SimpleNamespace(expression=sp.Symbol("x_0"), error=None)
        return SimpleNamespace(status=claim, steps=(line,), parts={})

    claims_of.proved.cache_clear()
    monkeypatch.setattr(claims_of, "export", export)
    yield
    claims_of.proved.cache_clear()


@pytest.mark.parametrize("status", ["refuted", "undecided", "conditional"])
def test_what_is_not_proved_is_refused(claims, status):
    with pytest.raises(ValueError, match=f"{status} is {status}"):
        said(status)


def test_a_part_or_piece_that_is_not_there_is_refused(claims):
    assert said("proved").expression == sp.Symbol("x_0")
    with pytest.raises(ValueError, match="no part 'mean'"):
        said("proved", "mean")
    with pytest.raises(ValueError, match="does not contain y"):
        said("proved").piece("y")
    with pytest.raises(ValueError, match="holds exactly"):
        orders("proved")


def test_posterior_terms_are_its_quadratics():
    """Coefficients of the claim's two squares add up to those that its mean and variance ask for, in numbers."""
    bayes, values = said("ddpm.posterior", line=0), {"alpha_bar_s": 0.6, "beta_t": 0.3, "x_0": 1.4, "x_t": -0.5}

    def number(expression: Said) -> float:
        return float(expression.expression.subs({s: values[s.name] for s in expression.expression.free_symbols}))

    halves = [bayes.terms("x_s", other) for other in ("x_t", "x_0")]
    mean, variance = number(said("ddpm.posterior", "mean")), number(said("ddpm.posterior", "variance"))
    assert sum(number(half.coefficient("x_s", 2)) for half in halves) == pytest.approx(-1 / (2 * variance), rel=1e-12)
    assert sum(number(half.coefficient("x_s", 1)) for half in halves) == pytest.approx(mean / variance, rel=1e-12)


def test_function_is_the_expression():
    step = said("ddim.euler_exact").function()
    value = step(x_t=2.0, alpha_t=0.5, sigma_t=0.8, alpha_s=0.9, sigma_s=0.4, eps=np.array([0.0, 1.0]))
    assert value == pytest.approx([3.6, 0.9 * (2 / 0.5 + (0.4 / 0.9 - 0.8 / 0.5))], rel=1e-12)
    with pytest.raises(ValueError, match="a function of"):
        step(x_t=1.0)


def test_ddim_is_of_first_order():
    assert orders("solver.ddim_error") == (2, 1)


def test_whole_symbols_are_coloured_and_nothing_else():
    coloured = _coloured('x_(0) + x_(01) + "mean" + "kind_mean" + ax_(0)')
    assert coloured.count("#rgb") == 2
    assert coloured.startswith(f'text(fill: #rgb("{style.DATA}"), x_(0)) + x_(01)')


def test_a_coefficient_keeps_its_value_when_signs_move():
    a = sp.Symbol("a")
    term = Said("none", (x - 3) ** 2 / (2 * a - 2))
    for power in range(3):
        shown = term.coefficient("x", power).expression
        assert sp.simplify(shown - sp.expand(term.expression).coeff(x, power)) == 0
    assert dataclasses.is_dataclass(term)
