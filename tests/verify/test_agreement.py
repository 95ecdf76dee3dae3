"""Agreement accepts right code and refutes planted errors, each by the question that is meant to see it."""

import pytest
import sympy as sp
import torch

from diffusion.binding import Binding
from theory.proof.vocabulary import natural, nonzero, positive, real, unit
from verify.agreement import DTYPES, agree

x, h = real("x h")
sigma_s, sigma_t = positive("sigma_s sigma_t")
a = unit("a")
n = natural("n")

PULL = x * sigma_s / sp.sqrt(sigma_s**2 + sigma_t**2) + sp.sqrt(1 - a) * (sp.exp(-sigma_t) - 1)


def pull(x, sigma_s, sigma_t, a):
    return x * sigma_s / torch.hypot(sigma_s, sigma_t) + torch.sqrt(1 - a) * torch.expm1(-sigma_t)


def verdicts(function, formula, trained=False, vary=None):
    return agree(Binding("topic.claim", function, trained), formula, vary)


@pytest.mark.parametrize("vary", [None, 1, 2])
def test_right_code_agrees(vary):
    found = verdicts(pull, PULL, trained=True, vary=vary)
    assert [v.dtype for v in found] == ["float64", "float32"]
    for v in found:
        assert v.status == "agrees", v
        assert 0 < v.worst_bound <= 1
        assert 0 < v.worst_condition <= 8
        assert v.gradient is not None
        assert set(v.point) == {"x", "sigma_s", "sigma_t", "a"}


PLANTED = {
    "sign": lambda x, sigma_s, sigma_t, a: (
        x * sigma_s / torch.hypot(sigma_s, sigma_t) - (1 - a).sqrt() * (-sigma_t).expm1()
    ),
    "index": lambda x, sigma_s, sigma_t, a: (
        x * sigma_s / torch.hypot(sigma_s, sigma_t) + (1 - a).sqrt() * (-sigma_s).expm1()
    ),
    "root": lambda x, sigma_s, sigma_t, a: x * sigma_s / torch.hypot(sigma_s, sigma_t) + (1 - a) * (-sigma_t).expm1(),
    "a last digit": lambda x, sigma_s, sigma_t, a: pull(x, sigma_s, sigma_t, a) * (1 + 40 * torch.finfo(x.dtype).eps),
    "not a number at one end": lambda x, sigma_s, sigma_t, a: torch.where(
        sigma_s < 1e-4, torch.nan, pull(x, sigma_s, sigma_t, a)
    ),
    "wrong far out only": lambda x, sigma_s, sigma_t, a: (
        torch.where(sigma_t > 1e4, 2.0, 1.0) * pull(x, sigma_s, sigma_t, a)
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_error_disagrees(name):
    for v in verdicts(PLANTED[name], PULL):
        assert v.refuted, (name, v)
        assert "the claim says" in v.reason


def test_stability_tells_expm1_from_exp_minus_1():
    stable = verdicts(lambda h: torch.expm1(-h), sp.exp(-h) - 1)
    naive = verdicts(lambda h: torch.exp(-h) - 1, sp.exp(-h) - 1)
    assert {v.status for v in stable} == {"agrees"}
    assert {v.status for v in naive} == {"unstable"}
    for v in naive:
        assert v.worst_bound <= 1  # its bound is as bad as its error
        assert v.worst_condition > 1e3
        assert abs(v.point["h"]) < 1e-4


def test_gradient_is_asked_for_trained_functions_only():
    def detached(x, a):
        return x * (1 - a.detach()) ** 2

    formula = x * (1 - a) ** 2
    assert {v.status for v in verdicts(detached, formula)} == {"agrees"}
    assert {v.status for v in verdicts(detached, formula, trained=True)} == {"wrong gradient"}


def test_gradient_through_an_unused_branch():
    """The value of where(x = 0, 0, x^3/x) is right, and its gradient at 0 is 0/0 unless the branch is fed safely."""

    def trap(x):
        return torch.where(x == 0, 0.0, x**3 / x)

    assert {v.status for v in verdicts(trap, x**2)} == {"agrees"}
    found = verdicts(trap, x**2, trained=True)
    assert {v.status for v in found} == {"wrong gradient"}
    assert {v.point["x"] for v in found} == {0.0}


def test_singular_ends_are_listed():
    (v, _) = verdicts(lambda x: 1 / x, 1 / x)
    assert v.status == "agrees"
    assert {"x": 0.0} in v.singular
    (_, single) = verdicts(lambda h: torch.exp(h), sp.exp(h))
    assert any(p["h"] > 88 for p in single.singular)


def test_points_where_the_formula_is_not_real_are_outside():
    formula = sp.sqrt(1 - sigma_s**2)
    for v in verdicts(lambda sigma_s: torch.sqrt((1 - sigma_s) * (1 + sigma_s)), formula):
        assert v.status == "agrees"
        assert not v.singular
    for v in verdicts(lambda sigma_s: sigma_s, sp.sqrt(-1 - sigma_s**2)):
        assert v.status == "untested"
        assert not v.refuted


def test_cancelling_reference_is_carried_to_enough_digits():
    """(e^h - 1 - h - h^2/2)/h^3 near 0 loses 50 digits in 50-digit arithmetic; a wrong 1/6 must still be seen."""
    k = nonzero("h")
    formula = (sp.exp(k) - 1 - k - k**2 / 2) / k**3

    def series(h, sixth=1 / 6):
        small = h.abs() < 0.25
        z = torch.where(small, h, 0.0)
        total = sum(z**j / sp.factorial(j + 3).__int__() for j in range(1, 12)) + sixth
        big = torch.where(small, 1.0, h)
        return torch.where(small, total, (torch.expm1(big) - big - big**2 / 2) / big**3)

    (double, _) = verdicts(series, formula)
    assert double.worst_bound <= 1
    (double, _) = verdicts(lambda h: series(h, 1 / 6 + 1e-13), formula)
    assert double.status == "disagrees"


def test_whole_numbers_reach_their_ends_and_python_ints_are_passed_as_such():
    def geometric(a, n: int):
        assert isinstance(n, int)
        return a**n

    def off_at_the_end(a, n: int):
        return a**n if n < 1000 else a ** (n - 1)

    assert {v.status for v in verdicts(geometric, a**n)} == {"agrees"}
    assert verdicts(off_at_the_end, a**n)[0].status == "disagrees"  # 24 bits do not see it


def test_names_must_match():
    with pytest.raises(
        ValueError, match=r"the formula's a, sigma_s, sigma_t is no parameter of it and its parameter y"
    ):
        verdicts(lambda x, y: x * y, PULL)


def test_a_wrong_shape_or_dtype_disagrees():
    for wrong in (lambda x: x.sum(), lambda x: x[:, None], lambda x: 1.0, lambda x: x.half()):
        found = verdicts(wrong, x)
        assert {v.status for v in found} == {"disagrees"}
        assert {v.row()["worst_bound"] for v in found} == {None}
    double, single = verdicts(lambda x: x.double(), x)
    assert (double.status, single.status) == ("agrees", "disagrees")
    assert "expected a torch.float32 tensor" in single.reason


def test_a_formula_that_is_not_elementary_is_refused():
    with pytest.raises(ValueError, match="elementary functions"):
        verdicts(lambda x: x, sp.Integral(sp.exp(-(h**2)), (h, 0, x)))


def test_runs_are_the_same_unless_varied():
    first, again, other = (verdicts(pull, PULL, vary=v)[0] for v in (None, None, 5))
    assert first == again
    assert first.point != other.point
    assert len(DTYPES) == 2


def test_a_reference_through_cancelling_balls_is_no_counterexample():
    """max(a, b) = (a + b + |a - b|)/2 in balls: exact code must not be blamed for their last digits."""

    def floored(x, sigma_s):
        return torch.maximum(torch.exp(x), sigma_s)

    assert {v.status for v in verdicts(floored, sp.Max(sp.exp(x), sigma_s))} == {"agrees"}
    wrong = lambda x, sigma_s: torch.minimum(torch.exp(x), sigma_s)  # noqa: E731
    assert {v.status for v in verdicts(wrong, sp.Max(sp.exp(x), sigma_s))} == {"disagrees"}
