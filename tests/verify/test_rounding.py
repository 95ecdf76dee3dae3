"""The running bound holds against exact arithmetic, is as sharp as the work done, and refuses the unknown."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch

from verify.rounding import THROUGH, RunningBound, unit_roundoff

DTYPES = [torch.float64, torch.float32]

# Each function on torch tensors and on mpmath numbers: (torch, mpmath, interval it is tried on).
FUNCTIONS = {
    "sqrt": (torch.sqrt, mpmath.sqrt, (0.01, 9)),
    "rsqrt": (torch.rsqrt, lambda x: 1 / mpmath.sqrt(x), (0.01, 9)),
    "reciprocal": (torch.reciprocal, lambda x: 1 / x, (0.01, 9)),
    "exp": (torch.exp, mpmath.exp, (-20, 20)),
    "exp2": (torch.exp2, lambda x: mpmath.mpf(2) ** x, (-20, 20)),
    "expm1": (torch.expm1, mpmath.expm1, (-3, 3)),
    "log": (torch.log, mpmath.log, (0.1, 9)),
    "log2": (torch.log2, lambda x: mpmath.log(x, 2), (0.1, 9)),
    "log10": (torch.log10, mpmath.log10, (0.1, 9)),
    "log1p": (torch.log1p, mpmath.log1p, (-0.9, 9)),
    "sin": (torch.sin, mpmath.sin, (-9, 9)),
    "cos": (torch.cos, mpmath.cos, (-9, 9)),
    "tan": (torch.tan, mpmath.tan, (-1.4, 1.4)),
    "atan": (torch.atan, mpmath.atan, (-9, 9)),
    "asinh": (torch.asinh, mpmath.asinh, (-9, 9)),
    "sinh": (torch.sinh, mpmath.sinh, (-9, 9)),
    "cosh": (torch.cosh, mpmath.cosh, (-9, 9)),
    "tanh": (torch.tanh, mpmath.tanh, (-4, 4)),
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), (-30, 30)),
    "log_sigmoid_forward": (torch.nn.functional.logsigmoid, lambda x: -mpmath.log1p(mpmath.exp(-x)), (-30, 30)),
    "softplus": (torch.nn.functional.softplus, lambda x: mpmath.log1p(mpmath.exp(x)), (-15, 15)),
    "erf": (torch.erf, mpmath.erf, (-3, 3)),
    "special_erfcx": (torch.special.erfcx, lambda x: mpmath.exp(x**2) * mpmath.erfc(x), (-4, 40)),
    "special_log_ndtr": (torch.special.log_ndtr, lambda x: mpmath.log(mpmath.ncdf(x)), (-20, 3)),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "rsub": lambda a, b: 0.25 - a * b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "hypot": lambda a, b: (torch if isinstance(a, torch.Tensor) else mpmath).hypot(a, b),
    "maximum": lambda a, b: torch.maximum(a, b) if isinstance(a, torch.Tensor) else max(a, b),
    "minimum": lambda a, b: torch.minimum(a, b) if isinstance(a, torch.Tensor) else min(a, b),
    "special_xlog1py": lambda a, b: torch.special.xlog1py(a, b) if isinstance(a, torch.Tensor) else a * mpmath.log1p(b),
}


def worst(y, bound, exact):
    """Largest |y - exact| in units of the bound."""
    with mpmath.workdps(50):
        ratios = [
            abs(mpmath.mpf(a) - b) / mpmath.mpf(e) if e else (0 if a == b else math.inf)
            for a, b, e in zip(y.double().tolist(), exact, bound.tolist(), strict=True)
        ]
        return float(max(ratios))


def test_every_rule_is_tried():
    backward = {"sigmoid_backward", "tanh_backward"}  # tried through the gradients below
    assert set(THROUGH) == set(FUNCTIONS) | set(BINARY) | backward


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bound_holds_for_exact_and_for_uncertain_arguments(name, dtype):
    function, reference, (low, high) = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(0)
    x = (low + (high - low) * torch.rand(300, generator=generator, dtype=torch.float64)).to(dtype)
    with RunningBound() as running:
        y = function(x)
    with mpmath.workdps(50):
        assert worst(y, running.of(y), [reference(mpmath.mpf(v)) for v in x.tolist()]) <= 1
        for size in (1e-6, 1e-3):  # an argument known to `size` relative: the extremes stay within the bound
            spread = size * x.double().abs().clamp(max=1)
            with RunningBound() as running:
                running.given(x, spread)
                y = function(x)
            bound = running.of(y)
            for side in (1, -1):
                moved = [mpmath.mpf(v) + side * mpmath.mpf(d) for v, d in zip(x.tolist(), spread.tolist(), strict=True)]
                assert worst(y, bound, [reference(v) for v in moved]) <= 1, (size, side)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_bound_holds_for_two_uncertain_arguments(name, dtype):
    function = BINARY[name]
    generator = torch.Generator().manual_seed(1)
    a, b = ((0.05 + 4 * torch.rand(200, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(2))
    for size in (0.0, 1e-3):
        e_a, e_b = size * a.double(), size * b.double() / 2
        with RunningBound() as running:
            running.given(a, e_a)
            running.given(b, e_b)
            y = function(a, b)
        with mpmath.workdps(50):
            for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                moved = [
                    function(*(mpmath.mpf(v) + sign * mpmath.mpf(d) for v, d, sign in ((p, d, s), (q, f, t))))
                    for p, q, d, f in zip(a.tolist(), b.tolist(), e_a.tolist(), e_b.tolist(), strict=True)
                ]
                assert worst(y, running.of(y), moved) <= 1, (size, s, t)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "mean", "cumsum", "cumprod"])
def test_bound_of_reductions(name, dtype):
    x = torch.rand(1000, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype) + 0.5
    with RunningBound() as running:
        y = getattr(torch, name)(x, dim=0).reshape(-1)
    exact = [Fraction(v) for v in x.tolist()]
    total = {"sum": sum(exact), "mean": sum(exact) / 1000}.get(name)
    if total is None:
        out, total = [], Fraction(int(name == "cumprod"))
        for v in exact:
            total = total * v if name == "cumprod" else total + v
            out.append(total)
    else:
        out = [total]
    with mpmath.workdps(60):
        want = [mpmath.mpf(v.numerator) / v.denominator for v in out]
    assert worst(y, running.of(y), want) <= 1
    assert float((running.of(y) / y.double().abs()).max()) < 3000 * unit_roundoff(dtype)


def test_bound_is_as_sharp_as_the_work():
    x = torch.tensor([0.3, 0.7], dtype=torch.float64)
    with RunningBound() as running:
        y = x * x + x
    relative = running.of(y) / y.abs() / unit_roundoff(torch.float64)
    assert float(relative.max()) < 2.01  # two roundings


def test_cancellation_is_seen():
    h = torch.tensor([1e-8], dtype=torch.float64)
    with RunningBound() as running:
        bad, good = torch.exp(-h) - 1, torch.expm1(-h)
    assert float(running.of(bad) / bad.abs()) > 1e7 * float(running.of(good) / good.abs())


def test_constants_and_casts_count():
    x = torch.ones(1, dtype=torch.float32)
    with RunningBound() as running:
        exact, rounded, narrowed = x * 0.5, x * 0.1, torch.full((1,), 0.1, dtype=torch.float64).float()
    u = unit_roundoff(torch.float32)
    assert float(running.of(exact)) <= 1.01 * u * 0.5
    assert float(running.of(rounded)) >= 2 * u * 0.1
    assert 0.1 * u <= float(running.of(narrowed)) <= 0.11 * u


def test_scaled_addition_and_selection():
    a, b = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([3.0, 0.3], dtype=torch.float64)
    with RunningBound() as running:
        third = b / 3
        chosen = torch.where(a > 1.5, third, a)
        scaled = torch.add(a, third, alpha=0.1)
    assert running.of(chosen)[0] == 0
    assert running.of(chosen)[1] == running.of(third)[1]
    assert (running.of(scaled) >= 0.1 * running.of(third)).all()


def test_gradients_carry_bounds():
    x = torch.linspace(-2, 2, 50, dtype=torch.float64, requires_grad=True)
    with RunningBound() as running:
        y = torch.tanh(x) * torch.sigmoid(2 * x)
        (g,) = torch.autograd.grad(y.sum(), x)
    with mpmath.workdps(50):

        def slope(v):
            s = 1 / (1 + mpmath.exp(-2 * v))
            return (1 - mpmath.tanh(v) ** 2) * s + mpmath.tanh(v) * 2 * s * (1 - s)

        assert worst(g, running.of(g), [slope(mpmath.mpf(v)) for v in x.tolist()]) <= 1
    assert float((running.of(g) / g.abs()).median()) < 100 * unit_roundoff(torch.float64)


def test_in_place_keeps_the_old_value_for_the_rule():
    x = torch.tensor([3.0], dtype=torch.float64)
    with RunningBound() as running:
        y = x / 7
        before = float(running.of(y))
        y.mul_(10)
    assert float(running.of(y)) >= 10 * before


def test_unknown_operation_is_named():
    with pytest.raises(NotImplementedError, match=r"aten\.lgamma has no rounding rule"), RunningBound():
        torch.lgamma(torch.ones(2, dtype=torch.float64))
