"""What a seminar sets as exercises, solved with the tutorial alone: short proofs stand, and a mistake is shown."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import theory.gaussian  # noqa: F401  (cited, so not to be forgotten)
from seminar.main import main
from theory.proof import CLAIMS

HEADER = """from sympy import exp, sqrt

from theory import gaussian
from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    complete_the_square,
    function,
    gaussian_expectation,
    integral,
    let,
    log_normal,
    positive,
    real,
    substitute,
)

x, y, z, m, n, mu = real("x y z m n mu")
a, b, u, w = real("a b u w")
v, s, t, alpha, sigma = positive("v s t alpha sigma")
f = function("f", kind="smooth")
normal = exp(log_normal(u, 0, 1))


def kl(mean, other, variance):
    point = mean + sqrt(variance) * u
    return E(log_normal(point, mean, variance) - log_normal(point, other, variance), u)
"""

TRUE = {
    "two_looks": """
@claim("exercise.two_looks")
def two_looks():
    "Two looks y = a x + s noise, z = b x + t noise at x ~ N(0, v): the precisions add."
    once = yield let("once", 1 / (1 / v + a**2 / s**2))
    twice = yield let("twice", 1 / (1 / v + a**2 / s**2 + b**2 / t**2))
    mean = yield let("mean", twice * (a * y / s**2 + b * z / t**2))
    evidence = log_normal(y, 0, a**2 * v + s**2) + log_normal(z, b * once * a * y / s**2, b**2 * once + t**2)
    yield log_normal(x, 0, v) + log_normal(y, a * x, s**2) + log_normal(z, b * x, t**2)
    yield complete_the_square(x), log_normal(x, mean, twice) + evidence
""",
    "antithetic": """
@claim("exercise.antithetic")
def antithetic():
    "The mean of f(u) and f(-u) has at most the second moment of f(u): the variance, if f is taken less its mean."
    odd, squares = (f(u) - f(-u)) / 2, f(u) ** 2 / 2 + f(-u) ** 2 / 2
    yield integral(((f(u) + f(-u)) / 2) ** 2 * normal, u)
    yield at_most(integral(odd**2 * normal, u)), integral(squares * normal, u)
    mirrored = f(-w) ** 2 * normal.subs(u, w)
    yield algebra, integral(f(u) ** 2 * normal, u) / 2 + integral(mirrored, w) / 2
    yield substitute(w, -u, u), integral(f(u) ** 2 * normal, u)
""",
    "contraction": """
@claim("exercise.contraction")
def contraction():
    "Noised by (alpha, sigma), N(m, 1) and N(n, 1) are no farther apart than they were."
    total = alpha**2 + sigma**2
    yield kl(alpha * m, alpha * n, total)
    yield gaussian_expectation(u), alpha**2 * (m - n) ** 2 / (2 * total)
    yield at_most(sigma**2 * (m - n) ** 2 / (2 * total)), (m - n) ** 2 / 2
    yield gaussian_expectation(u), kl(m, n, 1)
""",
    "importance": """
@claim("exercise.importance")
def importance():
    "Draws of N(0, 1) weighted to stand for N(m, 1): the weights' second moment is exp(m^2)."
    yield integral(exp(2 * log_normal(x, m, 1) - log_normal(x, 0, 1)), x)
    yield algebra, exp(m**2) * integral(exp(log_normal(x, 2 * m, 1)), x)
    yield by("gaussian.normalised", {mu: 2 * m, v: 1}), exp(m**2)
""",
}


def log_normal(x: float, mean: float, variance: float) -> float:
    return -((x - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2


def looks(v, s, t, a, b, y, z):
    """Both lines at x = 0, the square of t forgotten in the second one's variance."""
    once, twice = 1 / (1 / v + a**2 / s**2), 1 / (1 / v + a**2 / s**2 + b**2 / t)
    mean = twice * (a * y / s**2 + b * z / t**2)
    evidence = log_normal(y, 0, a**2 * v + s**2) + log_normal(z, b * once * a * y / s**2, b**2 * once + t**2)
    above = log_normal(0, 0, v) + log_normal(y, 0, s**2) + log_normal(z, 0, t**2)
    return above, log_normal(0, mean, twice) + evidence


def noised(alpha, sigma, m, n):
    return alpha**2 * (m - n) ** 2 / (2 * (alpha**2 + sigma**2))


# mistake: the exercise, what is right, what is written, the line refused, what was asked of it, both lines by hand
MISTAKES = {
    "forgotten square": (
        "two_looks",
        "b**2 / t**2))\n",
        "b**2 / t))\n",
        "line 2 is refuted (completing the square in x)",
        "the coefficients of x^0 agree",
        looks,
    ),
    "dropped half": (
        "contraction",
        "alpha**2 * (m - n) ** 2 / (2 * total)",
        "alpha**2 * (m - n) ** 2 / total",
        "line 2 is refuted (by the moments of u ~ N(0, 1))",
        "the expectation, by quadrature",
        lambda **p: (noised(**p), 2 * noised(**p)),
    ),
    "inequality reversed": (
        "contraction",
        "at_most",
        "at_least",
        "line 3 is refuted (the difference is a sum of nonnegative terms)",
        "the line above is >= the line",
        lambda m, n, **p: (noised(m=m, n=n, **p), (m - n) ** 2 / 2),
    ),
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Verdicts kept apart, claims forgotten afterwards."""
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    known = dict(CLAIMS)
    yield
    CLAIMS.clear()
    CLAIMS.update(known)


def verify(name: str, text: str) -> int:
    Path(f"{name}.py").write_text(HEADER + "\n" + text)
    return main(["verify", f"{name}.py", "--jobs", "1"])


@pytest.mark.slow
def test_the_exercises_are_proved_in_under_fifteen_lines(capsys):
    assert verify("exercises", "\n".join(TRUE.values())) == 0
    out = capsys.readouterr().out
    for name, text in TRUE.items():
        assert re.search(rf"^exercise\.{name} +proved", out, re.M), out
        assert len(text.strip().splitlines()[3:]) < 15, name  # without decorator, def and docstring


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_with_its_line_both_values_and_the_point(mistake, capsys):
    name, right, written, where, asked, by_hand = MISTAKES[mistake]
    assert TRUE[name].count(right) == 1
    assert verify(f"exercise_{mistake.replace(' ', '_')}", TRUE[name].replace(right, written)) == 1
    out = capsys.readouterr().out
    _, told = out.split(f"exercise.{name}, {where}\n")
    pattern = (
        r"  above:  \S.*\n  line:   \S.*\n  numeric judge: (.*)\n  at (.*):\n    left  = (\S+)\n    right = (\S+)\n"
    )
    shown = re.match(pattern, told)
    assert shown, told
    point = {symbol: float(value) for symbol, value in (pair.split(" = ") for pair in shown[2].split(", "))}
    assert shown[1] == asked
    assert [float(shown[3]), float(shown[4])] == pytest.approx(by_hand(**point), rel=1e-3)
