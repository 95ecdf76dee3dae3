"""The judges refuse every false claim of the aviary, and each of their strictnesses is needed for one of them."""

import pytest

from theory.proof import WEAKENED, check, session
from verify.aviary import CANARIES
from verify.canaries import Canary, line_is, refused

# weakening -> a false claim that it lets through (and the strict judges do not)
ESCAPES = {
    "no symbolic judge": "gaussian-score-fortieth-digit",
    "no numeric judge": "score-implicit-without-decay",
    "no antithetic points, no symbolic judge": "ddpm-posterior-mean-positive",
    "tolerance 0.03, no symbolic judge": "gaussian-score-a-percent",
    "leading term not checked": "sde-ncsn-leading-term",
    "boundary term not checked": "score-implicit-without-decay",
    "witness sign not checked": "solver-stability-turned",
    "division by zero not checked": "gaussian-schur-singular",
    "instances not checked": "vae-kl-any-variance",
    "induction without a start": "sde-ncsn-chain-start",
}


def test_every_weakening_has_an_escape():
    assert ESCAPES.keys() == WEAKENED.keys()
    assert not any(checker.strict for checker in WEAKENED.values())


@pytest.mark.parametrize("weakening", WEAKENED)
def test_a_weakened_judge_lets_a_false_claim_through(weakening):
    canary = CANARIES[ESCAPES[weakening]]
    assert refused(canary), "the strict judges believe it"
    assert not refused(canary, WEAKENED[weakening]), "the weakened ones refuse it too: nothing is shown"


@pytest.mark.parametrize("name", sorted(set(ESCAPES.values())))
def test_the_claim_a_canary_is_near_to_is_true(name):
    report = check(CANARIES[name].true_claim)
    assert report.status == "proved", report


@pytest.mark.parametrize("name", CANARIES)
def test_an_edit_changes_the_claim(name):
    true, false = CANARIES[name].true_claim, CANARIES[name].false_claim()
    assert (false.derivation(), false.suppose) != (true.derivation(), true.suppose)


def test_every_topic_has_its_lies():
    told = {canary.claim.split(".")[0] for canary in CANARIES.values()}
    assert told >= {id.split(".")[0] for path in session.files() for id in session.ids_in(path)}
    assert len(CANARIES) >= 150


def test_an_edit_that_changes_nothing_is_no_canary():
    same = Canary("same", "gaussian.score", line_is(2, lambda e: e), "nothing", "nobody")
    with pytest.raises(ValueError, match="changes nothing"):
        same.false_claim()


# refused without a counterexample: an integral without a value, and a difference that no number shows
NO_COUNTEREXAMPLE = {"probability-decay", "gaussian-score-fortieth-digit"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CANARIES)
def test_the_strict_judges_refuse_every_canary(name):
    report = check(CANARIES[name].false_claim())
    assert report.status == ("undecided" if name in NO_COUNTEREXAMPLE else "refuted")
