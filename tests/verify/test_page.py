"""The page: every claim on it, nothing from outside it, and in a browser it opens, filters and follows links."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from theory.proof import CLAIMS, cache, session
from verify import report, trust, work
from verify.page.build import HERE, build

THEORY = [path for path in session.files() if path.stem in ("gaussian", "ddpm")]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes():
    return session.verify(THEORY)


@pytest.fixture(scope="module")
def page(outcomes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    build(report.verify(outcomes, everything=False), path)
    return path


class Tags(HTMLParser):
    """Every opening tag with its attributes, ids, and the text inside <math>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.mathematics, self.depth = [], "", 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.depth += tag == "math"

    def handle_endtag(self, tag):
        self.depth -= tag == "math"

    def handle_data(self, data):
        self.mathematics += data if self.depth else ""


def test_every_claim_is_there_with_its_steps(page, outcomes):
    tags = Tags(page.read_text()).tags
    claims = {a["id"]: a for tag, a in tags if tag == "article"}
    assert claims.keys() == outcomes.keys()
    lines = sum(tag == "li" and "class" not in a for tag, a in tags)
    from theory.proof import export

    assert sum(len(export(id, outcomes[id]).steps) for id in outcomes) <= lines
    assert all("code" in claims[id]["data-has"] for id in ("gaussian.kl", "ddpm.posterior"))
    assert "world" in claims["ddpm.posterior"]["data-has"]


def test_nothing_comes_from_outside(page):
    text = page.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", text)
    assert not re.search(r"url\((?!data:)", text)
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|<script[^>]+src", text)
    ids = [a["id"] for _, a in Tags(text).tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, a in Tags(text).tags:
        if a.get("href", "").startswith("#"):
            assert a["href"][1:] in ids


def test_links_to_the_code_lead_there(outcomes):
    path = HERE.parents[1] / "out" / "test-page.html"
    path.parent.mkdir(exist_ok=True)
    try:
        build(report.verify(outcomes, everything=False), path)
        links = {a["href"] for tag, a in Tags(path.read_text()).tags if tag == "a" and a["href"].endswith(".py")}
    finally:
        path.unlink(missing_ok=True)
    assert len(links) >= 2
    assert all((path.parent / link).is_file() for link in links)


def test_a_page_outside_the_checkout_names_files_without_linking_to_them(page):
    text = page.read_text()
    assert not any(a.get("href", "").endswith(".py") for tag, a in Tags(text).tags if tag == "a")
    assert re.search(r"<code>diffusion/ddpm\.py:\d+</code>", text)
    assert str(HERE.parents[1]) not in text


def test_world_figures_stand_beside_their_limits(page, outcomes):
    (entry,) = report.verify({"ddpm.posterior": outcomes["ddpm.posterior"]}, everything=False).entries
    text = page.read_text()
    for row in entry.worlds:
        assert f'<td class="n">{row["limit"]:.3g}</td><td>{row["detectable_effect"]:.3g} ({row["unit"]})</td>' in text


def test_an_accent_stands_over_its_letter(page):
    accents = set(re.findall(r'<mover accent="true">.*?<mo>(.)</mo>', page.read_text()))
    assert accents and not accents & set(map(chr, range(0x300, 0x370)))  # a combining one is drawn to the left


def test_mutants_that_are_kept_are_on_the_page_and_none_are_run(outcomes, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path))
    few = {id: outcomes[id] for id in ("gaussian.kl", "gaussian.stein")}
    (unit,) = trust._of_claims({"gaussian.kl": few["gaussian.kl"]})
    counts = {"killed": 741, "equivalent": 3, "undecided": 2, "survived": 0}
    record = {"ok": True, "layers": {"expressions": counts}, "survivors": [], "unclear": [], "untested": []}
    cache.store(unit.kind, work._keys([unit])[unit], record)
    monkeypatch.setattr(work, "_run", lambda unit: pytest.fail(f"{unit.name} is run"))
    whole = report.Report([report.Entry(o) for o in few.values()], [], {}, 0.0, 0.0)
    report.recall_mutants(whole)
    build(whole, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "1 of the 2 claims" in text
    row = "<td>expressions</td>" + "".join(f'<td class="n">{n}</td>' for n in counts.values())
    assert text.count(row) == 2  # in the sum, and with its claim
    assert whole.sound


def unjudged(id: str, path: Path) -> session.Outcome:
    """A claim that nobody has looked at: the page has to set its formulas all the same."""
    return session.Outcome(
        id=id, topic=id.split(".")[0], title="", week=None, source="", covers=(), file=str(path), line=1,
        status="undecided", hash="", hypotheses=(), assumes=(), cites=(), steps=0, seconds=0.0, message="", parts=(),
    )  # fmt: skip


def test_the_font_has_every_character_of_every_formula_and_the_page_stays_small(tmp_path):
    outcomes = [unjudged(id, path) for path in session.files() for id in session.ids_in(path)]
    path = tmp_path / "all.html"
    build(report.Report([report.Entry(o) for o in outcomes], [], {}, 0.0, 0.0), path)
    text = path.read_text()
    missing = set(Tags(text).mathematics) - set(map(chr, TTFont(HERE / "math.woff2").getBestCmap()))
    assert {character for character in missing if not character.isspace()} == set()
    assert len(outcomes) > 300
    assert len(text.encode()) < 2_500_000  # 3 MB with the figures of code, worlds and mutants


def test_a_claim_that_cannot_be_read_is_on_the_page_with_the_reason(tmp_path):
    notes = tmp_path / "notes_unreadable.py"
    notes.write_text(
        'from theory.proof import algebra, claim, real\n\nx = real("x")\n\n\n@claim("notes.unreadable")\n'
        'def unreadable():\n    "Names what is not there."\n    yield x + nothing\n    yield algebra, x\n'
    )
    session.load(notes)
    outcomes = session.verify([notes], use_cache=False)
    build(report.verify(outcomes, everything=False), tmp_path / "page.html")
    CLAIMS.pop("notes.unreadable")
    text = (tmp_path / "page.html").read_text()
    assert "nothing" in text and "NameError" in text and "Names what is not there." in text


def in_browser(page: Path, address: str) -> tuple[str, str]:
    """The page's DOM after its script has run, and what the browser's console says."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=390,844",
        "--virtual-time-budget=3000", "--dump-dom", f"file://{page}{address}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def shown(dom: str) -> set[str]:
    return {a["id"] for tag, a in Tags(dom).tags if tag == "article" and "hidden" not in a}


@browser
def test_it_opens_where_the_address_says(page, outcomes):
    dom, console = in_browser(page, "#ddpm.posterior")
    assert console == ""
    assert shown(dom) == outcomes.keys()
    opened = re.findall(r'<article[^>]*id="([^"]+)"[^>]*>\s*<details open', dom)
    assert opened == ["ddpm.posterior"]


@browser
@pytest.mark.parametrize(
    "address, some, none",
    [
        ("?search=stein", {"gaussian.stein"}, {"ddpm.posterior"}),
        ("?search=posterior+square", {"ddpm.posterior"}, {"gaussian.stein"}),
        ("?topic=ddpm", {"ddpm.posterior"}, {"gaussian.kl"}),
        ("?only=world&topic=gaussian", {"gaussian.density"}, {"gaussian.stein"}),
        ("?only=unsound", set(), {"gaussian.kl", "ddpm.posterior"}),
        ("?search=stein#ddpm.posterior", {"ddpm.posterior"}, set()),
    ],
)
def test_it_filters(page, outcomes, address, some, none):
    dom, console = in_browser(page, address)
    assert console == ""
    assert some <= shown(dom)
    assert not none & shown(dom)
    assert f"{len(shown(dom))} of {len(outcomes)} claims" in dom
