"""The proof engine: a derivation reads like lecture notes, and cannot be wrong without somebody noticing.

    from theory.proof import E, claim, gaussian_expectation, positive, real

    mu, u = real("mu u"); sigma = positive("sigma")

    @claim("notes.second_moment", source="my notebook")
    def second_moment():
        "The second moment is the mean squared plus the variance."
        yield E((mu + sigma * u) ** 2, u)
        yield gaussian_expectation(u), mu**2 + sigma**2

Each `yield (rule, expression)` says that the expression follows from the line above by that rule; a bare expression
starts a new chain; `part = yield let("part", expression)` names a formula. A chain goes one way: >= or <=, a limit or
an error term, among equalities. Two judges that share nothing but the expression tree check every step (judges.py), and
that something obeys what is supposed (hypotheses.py); the kernel alone makes theorems (kernel.py).

| rule                          | the line follows because                                                        |
| ----------------------------- | ------------------------------------------------------------------------------- |
| algebra                       | it is the same expression (derivatives carried out, integrals by linearity)      |
| complete_the_square(x)        | both are quadratics in x with the same coefficients                              |
| gaussian_expectation(u)       | E(polynomial in u, u) has the moments of N(0, 1)                                 |
| parts(x, certificate)         | integrands differ by d certificate/dx, which vanishes at both ends               |
| leibniz                       | derivative and integral are swapped                                              |
| normalised(p)                 | the density p integrates to 1                                                    |
| substitute(x, new, u)         | x = new(u), dx = new'(u) du                                                      |
| by(claim, {...})              | a proved claim, instantiated, rewrites the line above                            |
| up_to(h, n, leading)          | above = line + leading h^n + O(h^(n+1)), leading != 0                            |
| limit(h)                      | it is the limit h -> 0                                                           |
| induction(n)                  | it is the closed form of the recursion above                                     |
| at_least(w), at_most(w)       | the difference is w, manifestly >= 0 (or has its minimum 0: `minimum(u, at)`)    |
| assume("...")                 | a named classical theorem; anything else makes the claim conditional             |
"""

from theory.proof.claims import CLAIMS, Claim, Derivation, DerivationError, Let, Line, claim, find, let
from theory.proof.export import Exported, export
from theory.proof.judges import WEAKENED, Checker, Verdict
from theory.proof.kernel import Kernel, NotProved, Report, Theorem, check, explain, statement_hash
from theory.proof.rules import (
    CLASSICAL,
    algebra,
    assume,
    at_least,
    at_most,
    by,
    complete_the_square,
    gaussian_expectation,
    induction,
    leibniz,
    limit,
    minimum,
    normalised,
    parts,
    substitute,
    up_to,
)
from theory.proof.vocabulary import (
    E,
    above_one,
    counting,
    function,
    integral,
    log_normal,
    natural,
    nonnegative,
    nonzero,
    normal,
    positive,
    real,
    recursion,
    sequence,
    suppose,
    unit,
)

__all__ = [
    "CLAIMS",
    "CLASSICAL",
    "WEAKENED",
    "Checker",
    "Claim",
    "Derivation",
    "DerivationError",
    "E",
    "Exported",
    "Kernel",
    "Let",
    "Line",
    "NotProved",
    "Report",
    "Theorem",
    "Verdict",
    "above_one",
    "algebra",
    "assume",
    "at_least",
    "at_most",
    "by",
    "check",
    "claim",
    "complete_the_square",
    "counting",
    "explain",
    "export",
    "find",
    "function",
    "gaussian_expectation",
    "induction",
    "integral",
    "leibniz",
    "let",
    "limit",
    "log_normal",
    "minimum",
    "natural",
    "nonnegative",
    "nonzero",
    "normal",
    "normalised",
    "parts",
    "positive",
    "real",
    "recursion",
    "sequence",
    "statement_hash",
    "substitute",
    "suppose",
    "unit",
    "up_to",
]
