"""Claims in a notebook: what Jupyter asks for is well formed, comes from the claim, and says whether it holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from theory.proof import CLAIMS, Claim, session

TOPIC = "gaussian"
VOID = {"br"}

CELL = """
from sympy import Rational, exp
from theory.proof import E, algebra, by, claim, gaussian_expectation, positive, real, up_to

mu, u = real("mu u")
h, sigma = positive("h sigma")


@claim("cell.moment")
def moment():
    "Means & <variances>."
    yield E((mu + sigma * u) ** 2, u)
    yield gaussian_expectation(u), mu**2 + sigma**2


@claim("cell.small_step")
def small_step():
    "A factor exp(-h) is Euler's 1 - h up to h^2/2."
    yield exp(-h)
    yield up_to(h, 2, Rational(1, 2)), 1 - h
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path))
    known = dict(CLAIMS)
    yield
    CLAIMS.clear()
    CLAIMS.update(known)


def run_cell(text: str, count: int = 1) -> dict[str, Claim]:
    """As a notebook runs a cell: from a file name at which there is no file."""
    names: dict[str, Claim] = {}
    exec(compile(text, f"/nowhere/ipykernel_1/{count}.py", "exec"), names)
    return names


class Page(HTMLParser):
    """Text of the page; fails where tags do not close in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def formulas(self) -> list[str]:
        return re.findall(r"\\\(\\displaystyle (.*?)\\\)", self.text)


def balanced(latex: str) -> bool:
    """Braces close, every \\left has its \\right, every environment ends."""
    depth = 0
    for c in re.sub(r"\\[{}]", "", latex):
        depth += (c == "{") - (c == "}")
        if depth < 0:
            return False
    begun = Counter(re.findall(r"\\begin\{(\w+)\}", latex))
    sized = len(re.findall(r"\\left(?![a-z])", latex)) == len(re.findall(r"\\right(?![a-z])", latex))
    return depth == 0 and sized and begun == Counter(re.findall(r"\\end\{(\w+)\}", latex))


@pytest.fixture(scope="module")
def topic() -> dict[str, session.Outcome]:
    path = next(p for p in session.files() if p.stem == TOPIC)
    return session.verify([path])


def test_every_claim_of_a_topic_is_shown_whole(topic):
    from theory.proof import export

    assert len(topic) > 10
    for id, outcome in topic.items():
        page, exported = Page(outcome._repr_html_()), export(id, outcome)
        assert page.formulas and all(map(balanced, page.formulas)), id
        shown = "\n".join(page.formulas)
        for step in exported.steps:
            assert step.latex in shown
            assert step.words in page.text
        assert all(part.latex in shown for part in exported.parts.values())
        assert all(words in page.text for words in (id, "proved", outcome.title, *outcome.hypotheses))
        latex = outcome._repr_latex_()
        assert latex.startswith("$$") and latex.endswith("$$") and balanced(latex), id
        assert all(step.latex in latex for step in exported.steps)


@pytest.mark.parametrize("broken", [r"\frac{1}{2", r"\left(x", r"\begin{aligned}x", "}{"])
def test_the_balance_sees_what_is_open(broken):
    assert not balanced(broken)


def test_what_is_shown_is_what_the_cell_says_now():
    before = run_cell(CELL)["moment"]
    after = run_cell(
        CELL.replace("yield gaussian_expectation(u), mu**2 + sigma**2", "yield algebra, mu**2 - sigma**2"), 2
    )["moment"]
    assert r"\mu^{2} + \sigma^{2}" in before._repr_html_() and r"\mu^{2} + \sigma^{2}" in before._repr_latex_()
    assert ">proved<" in before._repr_html_() and "refuted" not in before._repr_latex_()
    for shown in (after._repr_html_(), after._repr_latex_()):
        assert r"\mu^{2} - \sigma^{2}" in shown and r"\mu^{2} + \sigma^{2}" not in shown
        assert "refuted" in shown
    assert "right = " in after._repr_html_()  # the counterexample


@pytest.mark.slow
def test_a_claim_of_the_theory_and_its_outcome_are_shown_alike(topic):
    claim = CLAIMS["gaussian.kl"]
    assert claim._repr_html_() == topic["gaussian.kl"]._repr_html_()
    assert claim._repr_latex_() == topic["gaussian.kl"]._repr_latex_()


def test_what_a_line_leaves_out_is_shown_with_it():
    claim = run_cell(CELL)["small_step"]
    for shown in (claim._repr_html_(), claim._repr_latex_()):
        assert r"1 - h + \frac{h^{2}}{2} + O(h^{3})" in shown


def test_words_are_escaped_and_a_mistake_is_shown_and_not_raised():
    cell = run_cell(
        CELL
        + '\n\n@claim("cell.slip")\ndef slip():\n    "Slips."\n    yield mu\n    yield algebra, mu / (1 - 1) + 1 / 0\n'
    )
    assert "Means &amp; &lt;variances&gt;." in cell["moment"]._repr_html_()
    assert "ZeroDivisionError" in cell["slip"]._repr_html_() and "cell.slip: error" in cell[
        "slip"
    ]._repr_latex_().replace(r"}\_\text{", "_")


@pytest.mark.slow
def test_a_chain_of_several_steps_says_first_what_it_proves(topic):
    from theory.proof import export

    long = next(e for e in map(export, topic) if len(e.steps) > 2 and sum(not s.words for s in e.steps) == 1)
    statement = Page(long.html).formulas[0]
    assert statement.startswith(long.steps[0].latex) and statement.endswith(long.steps[-1].latex)
