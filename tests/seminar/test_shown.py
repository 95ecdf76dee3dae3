"""What the lists and tables of the command say, and that it fits the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from seminar import listing, show
from seminar.main import main
from theory.proof import CLAIMS, session

WORLDS = [
    {
        "world": world, "check": check, "value": value, "limit": 9.0, "unit": "nats", "false_fail": 1e-9,
        "detectable_effect": 0.08, "status": "holds" if value <= 9.0 else "fails",
    }
    for check, values in {"mean": (1.0, 3.25, 2.0), "variance": (0.5, 9.75, 1.5)}.items()
    for world, value in zip(("gaussian", "ring", "a_world_of_a_long_name"), values, strict=True)
]  # fmt: skip


def drawn(shown: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 160])
def test_each_check_is_told_where_it_came_nearest_to_its_limit(width):
    lines = drawn(show._worlds(WORLDS, every=False), width)
    text = " ".join(" ".join(lines).split())
    assert all(len(line) <= width for line in lines)
    assert "3.25 of 9" in text and "9.75 of 9" in text and "1 of 9" not in text
    assert "ring, 3/3 hold" in text and "ring, 2/3 hold" in text
    assert text.count("0.08 (nats)") == 2
    assert "at rate 6e-09 at most" in text


def test_every_world_is_told_on_request():
    text = "\n".join(drawn(show._worlds(WORLDS, every=True), 160))
    assert text.count(" of 9") == len(WORLDS)


@pytest.mark.parametrize("width", [80, 160])
def test_no_name_is_cut_and_no_line_too_long(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["show", "ddpm.posterior"]) == 0
    said = capsys.readouterr().out
    assert "…" not in said and "ddpm.posterior_variance" in said
    assert all(len(line) <= width for line in said.splitlines())


def test_titles_are_those_of_the_claims():
    path = next(p for p in session.files() if p.stem == "gaussian")
    session.load(path)
    rows = dict(listing.claimed(path))
    assert set(rows) == set(session.ids_in(path))
    assert all(rows[id] == CLAIMS[id].title for id in rows)


def test_claims_of_one_topic(capsys):
    assert main(["list", "claims", "ddim"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    ids = {id for path in session.files() for id in session.ids_in(path) if id.startswith("ddim.")}
    assert {row.split()[0] for row in rows} == ids
    assert all(len(row.split()) > 3 for row in rows)
    assert main(["list", "claims", "ddmi"]) == 2
    assert "did you mean ddpm or ddim?" in capsys.readouterr().err
    assert main(["list", "worlds", "ddim"]) == 2
    assert "only claims have a topic" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 160])
def test_a_list_wraps_beside_its_names(width, monkeypatch):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, highlight=False)
    listing._print(console, [("topic.name", "word " * 60), ("topic.other", "[bold] is no mark-up")])
    lines = console.file.getvalue().splitlines()
    assert "[bold] is no mark-up" in lines[-1]
    assert sum("topic." in line for line in lines) == 2
    assert all(line.startswith("  topic.") or "word" in line[13:] for line in lines)
