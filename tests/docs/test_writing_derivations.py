"""The tutorial's blocks, run: what it calls proved is proved, what it calls refused is refused, in its words."""

import re
from pathlib import Path

import pytest

from theory.proof import session

PAGE = Path(__file__).parents[2] / "docs" / "writing-derivations.md"
BLOCK = re.compile(r"```(python refused|python|)\n(.*?)```", re.S)
BLOCKS = [(kind, text) for kind, text in BLOCK.findall(PAGE.read_text())]
TRUE = "\n\n".join(text for kind, text in BLOCKS if kind == "python")
REFUSED = [
    (text, told.strip())
    for (kind, text), (_, told) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True)
    if kind == "python refused"
]

# The exercises' solutions, not on the page.
SOLUTIONS = """
@claim("notes.fourth_moment")
def fourth_moment():
    "Three variances squared."
    variance = yield let("variance", sigma**2)
    yield E((mu + sigma * u - mu) ** 4, u)
    yield gaussian_expectation(u), 3 * variance**2


x_1, x_2 = real("x_1 x_2")


@claim("notes.two_measurements")
def two_measurements():
    "Two measurements of one thing are one of half the variance, at their mean."
    yield log_normal(x_1, z, v) + log_normal(x_2, z, v)
    yield complete_the_square(z), log_normal(z, (x_1 + x_2) / 2, v / 2) + log_normal(x_1, x_2, 2 * v)


@claim("notes.virial")
def virial():
    "E x score = -1."
    yield integral(x * p(x) * Derivative(log(p(x)), x), x)
    yield parts(x, x * p(x)), -integral(p(x), x)
    yield normalised(p), Integer(-1)
"""


def verified(tmp_path: Path, text: str):
    path = tmp_path / f"notes_{abs(hash(text))}.py"
    path.write_text(text)
    session.load(path)
    return session.verify([path], use_cache=False)


@pytest.fixture
def forget(monkeypatch):
    """Claims of the test are forgotten after it, since another may use the same ids; the ledger's are not."""
    import theory.gaussian  # noqa: F401
    from theory.proof.claims import CLAIMS

    known = dict(CLAIMS)
    yield
    CLAIMS.clear()
    CLAIMS.update(known)


@pytest.mark.slow
def test_what_the_tutorial_proves_is_proved(tmp_path, forget):
    outcomes = verified(tmp_path, TRUE + SOLUTIONS)
    assert len(outcomes) >= 13
    assert {id: o.message for id, o in outcomes.items() if o.status != "proved"} == {}


@pytest.mark.slow
@pytest.mark.parametrize("text, told", REFUSED)
def test_what_the_tutorial_refuses_is_refused(text, told, tmp_path, forget):
    outcomes = verified(tmp_path, TRUE + "\n\n" + text)
    (wrong,) = [o for o in outcomes.values() if o.status != "proved"]
    assert told.splitlines()[0] in wrong.message
