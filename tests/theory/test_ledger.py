"""The ledger is data that claims point into: every pointer lands, and the topics said to be complete are."""

import re
import tomllib
from pathlib import Path

import pytest

from theory.proof import CLAIMS
from theory.proof.session import files, load

TOPICS = [
    *("gaussian", "probability", "generative", "vae", "ddpm", "ddim", "parameterization", "schedule", "score", "sde"),
    *("vdm", "edm", "flow", "guidance", "solver", "distillation", "discrete", "language", "latent"),
]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    return tomllib.loads((Path(__file__).parents[2] / "theory" / "ledger.toml").read_text())


@pytest.fixture(scope="module")
def covered() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in files():
        load(path)
    for claim in CLAIMS.values():
        for key in claim.covers:
            found.setdefault(key, []).append(claim.id)
    return found


def test_rows_are_complete_sentences_with_hypotheses_and_a_source(rows: dict[str, dict]) -> None:
    for key, row in rows.items():
        assert re.fullmatch(r"[a-z]+\.[a-z][a-z0-9_]*", key), key
        assert row.keys() <= {"statement", "hypotheses", "source", "week"}, key
        assert row["statement"].endswith("."), key
        assert row["source"], key
        assert all(isinstance(h, str) and h for h in row["hypotheses"]), key
        assert row.get("week", 1) in range(1, 7), key


def test_topics_come_in_lecture_order(rows: dict[str, dict]) -> None:
    assert list(dict.fromkeys(key.split(".")[0] for key in rows)) == TOPICS


def test_no_statement_is_entered_twice(rows: dict[str, dict]) -> None:
    said = [row["statement"] for row in rows.values()]
    assert len(set(said)) == len(said)


def test_every_claim_covers_a_row_that_exists(rows: dict[str, dict], covered: dict[str, list[str]]) -> None:
    assert not {key: ids for key, ids in covered.items() if key not in rows}


@pytest.mark.parametrize("topic", ["gaussian"])
def test_a_complete_topic_has_a_claim_for_every_row(
    topic: str, rows: dict[str, dict], covered: dict[str, list[str]]
) -> None:
    assert [key for key in rows if key.startswith(f"{topic}.") and key not in covered] == []
