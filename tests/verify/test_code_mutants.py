"""Mutants of bound functions: every operator is tried at every node, and each fate is told apart."""

import pytest
import sympy as sp
import torch

from diffusion.binding import Binding
from theory.proof.vocabulary import nonzero, positive, real, unit
from verify.agreement import cases
from verify.code_mutants import count, fates, mutants, waivers

x_t, x_0 = real("x_t x_0")
alpha, sigma = positive("alpha sigma")
a = unit("a")


def _refuse(*arguments):
    if len(arguments) > 2:
        raise ValueError(arguments)


def weighted(x_t, x_0, alpha, sigma):
    """Not a formula: 1 + 2."""
    if x_t.shape != x_0.shape:
        raise ValueError(f"shapes {x_t.shape} {3 + 4}")
    _refuse(x_t, alpha)
    scale = torch.sqrt(alpha**2 + sigma**2)
    return (alpha * x_t - sigma * x_0) / scale


WEIGHTED = (alpha * x_t - sigma * x_0) / sp.sqrt(alpha**2 + sigma**2)


def _shifted(y, k: int):
    return y + k


def through_helper(a):
    return _shifted(torch.log(a), 2)


def padded(a):
    return torch.where(a < 1, torch.expm1(a), 3.0)


def turned(a):
    return torch.sin(torch.pi / 2 * (1 - a))


def idle(a):
    half = 0 * a
    return torch.exp(a) + half


def outcomes(function, formula, waived=None):
    binding = Binding("topic.claim", function, False)
    return fates(binding, cases(binding, formula), formula, waived or {})


def test_every_mutant_of_a_formula_is_killed():
    found = outcomes(weighted, WEIGHTED)
    assert {o.fate for o in found} == {"killed"}
    changes = {(o.mutant.operator, o.mutant.became) for o in found}
    assert {
        ("sign", "return (alpha * x_t + sigma * x_0) / scale"),
        ("dropped term", "return alpha * x_t / scale"),
        ("dropped term", "return alpha * x_t - sigma * x_0"),
        ("operator", "return (alpha * x_t - sigma * x_0) * scale"),
        ("argument", "return (alpha * x_t - alpha * x_0) / scale"),
        ("function", "scale = alpha ** 2 + sigma ** 2"),
        ("constant", "scale = torch.sqrt(alpha ** 3 + sigma ** 2)"),
        ("operator", "scale = torch.sqrt(alpha * 2 + sigma ** 2)"),
        ("sign", "return -((alpha * x_t - sigma * x_0) / scale)"),
    } <= changes


def test_guards_and_text_are_left_alone():
    told = " ".join(m.was for m in mutants(Binding("topic.claim", weighted, False)))
    assert "shape" not in told
    assert "_refuse" not in told
    assert "3 + 4" not in told


def test_private_helpers_are_part_of_the_function():
    found = outcomes(through_helper, sp.log(a) + 2)
    assert {o.mutant.function.rpartition(".")[2] for o in found} == {"through_helper", "_shifted"}
    assert {o.fate for o in found} == {"killed"}


def test_equivalents_are_proved_and_waivers_are_named():
    found = outcomes(idle, sp.exp(a))
    equivalent = [o.mutant.became for o in found if o.fate == "equivalent"]
    assert "return torch.exp(a) - half" in equivalent
    assert "return torch.exp(a)" in equivalent
    mirrored = [o.fate for o in outcomes(turned, sp.cos(sp.pi / 2 * a)) if "1 + a" in o.mutant.became]
    assert mirrored == ["equivalent"]  # sin(pi/2 + y) = sin(pi/2 - y)
    survivors = [o.mutant.key for o in outcomes(padded, sp.exp(a) - 1) if o.fate == "survived"]
    assert len(survivors) == 2  # the dead branch
    counts = count(outcomes(padded, sp.exp(a) - 1, dict.fromkeys(survivors, "a < 1 always")))
    assert counts["survived"] == 0
    assert counts["equivalent"] == 2


def test_what_no_longer_runs_is_counted_apart():
    def pick(x_t):
        return torch.stack([x_t, 2 * x_t])[1]

    found = outcomes(pick, 2 * x_t)
    assert [o.reason.split(":")[0] for o in found if o.fate == "undecided"] == ["IndexError"]
    assert not any(o.fate == "survived" for o in found)


def test_unstable_mutants_are_killed():
    k = nonzero("h")

    def step(h):
        return torch.expm1(-h)

    found = outcomes(step, sp.exp(-k) - 1)
    assert {o.fate for o in found} == {"killed"}


def test_the_waiver_file_reads_and_needs_reasons(tmp_path):
    assert all(reason.strip() for reason in waivers().values())
    bad = tmp_path / "waivers.toml"
    bad.write_text('[[waiver]]\nmutant = "f: x -> y"\n')
    with pytest.raises(ValueError, match="reason"):
        waivers(bad)
