"""The rules: each turns "this line follows from the one above" into obligations that the judges can decide.

A rule is a small frozen object with its words (for the lecture) and its obligations (for the judges). A rule never
decides anything itself: it says what would have to be true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy import Derivative, Dummy, Expr, Integral, Lambda, S, Symbol
from sympy.core.function import AppliedUndef, UndefinedFunction

from theory.proof.judges import (
    Agree,
    AtLeast,
    Equal,
    Follows,
    Limit,
    Nonnegative,
    Obligation,
    Order,
    Refused,
    Shown,
    Vanishes,
    Within,
)
from theory.proof.symbolic import charted, integrands, jets
from theory.proof.vocabulary import DOMAINS, Expect, Recursion, Suppose, Var, kind_of

if TYPE_CHECKING:
    from theory.proof.claims import Claim

CLASSICAL = {
    "Fubini": "Fubini 1907; Tonelli 1909",
    "dominated convergence": "Lebesgue 1904",
    "Ito's lemma": "Ito 1951",
    "Girsanov": "Girsanov 1960",
    "Picard-Lindeloef": "Lindeloef 1894",
    "convergence from consistency and stability": "Dahlquist 1956; Lax and Richtmyer 1956",
}


@dataclass(frozen=True)
class Rule:
    """Why a line follows from the one above it."""

    relation = "="

    @property
    def key(self) -> str:
        """The rule's name and arguments, as the claim's hash sees them."""
        return repr(self)

    @property
    def words(self) -> str:
        """The rule in words, as a lecture says it."""
        raise TypeError(f"{type(self).__name__} has no words")

    @property
    def cites(self) -> tuple[Any, ...]:
        return ()

    def expressions(self) -> tuple[Expr, ...]:
        """Expressions that the rule itself carries: certificates, leading terms, witnesses (mutants break them)."""
        return ()

    def with_expressions(self, new: tuple[Expr, ...]) -> Rule:
        """The same rule with other certificates."""
        return self

    @property
    def details(self) -> tuple[tuple[str, Expr], ...]:
        """What a reader needs to see of those expressions, each with what it is."""
        return ()

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        raise TypeError(f"{type(self).__name__} states no obligations")


@dataclass(frozen=True)
class Algebra(Rule):
    """The two lines are one expression, rearranged."""

    words = "by algebra"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        return [Equal("the line equals the one above", above, line, suppose)]


algebra = Algebra()


@dataclass(frozen=True)
class CompleteTheSquare(Rule):
    """Both lines are quadratic in x with equal coefficients of x^2, x and 1."""

    x: Symbol

    @property
    def words(self) -> str:
        return f"completing the square in {self.x}"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        owed: list[Obligation] = []
        for e, where in ((above, "the line above"), (line, "the line")):
            owed.append(Shown(f"{where} is quadratic in {self.x}", e.diff(self.x, 3), S.Zero, suppose))
        if not line.has(self.x):
            return [Refused(f"complete_the_square({self.x}): {self.x} does not occur in the line")]
        for k in range(3):
            a, b = (e.diff(self.x, k).subs(self.x, 0) / sp.factorial(k) for e in (above, line))
            owed.append(Equal(f"the coefficients of {self.x}^{k} agree", a, b, suppose))
        return [*owed, Agree("the line equals the one above", above, line, suppose)]


def complete_the_square(x: Symbol) -> Rule:
    """The lines agree as quadratics in x, coefficient by coefficient."""
    return CompleteTheSquare(x)


def _moments(e: Expr, u: Symbol) -> Expr | None:
    """Every E(polynomial in u, u) replaced by its moments E u^(2k) = (2k - 1)!!; None if one is no polynomial."""
    replaced: dict[Expr, Expr] = {}
    for node in e.atoms(Expect):
        if node.args[1] != u:
            continue
        polynomial = sp.expand(charted(jets(node.args[0]))).as_poly(u)
        if polynomial is None or any(c.has(u) for c in polynomial.coeffs()):
            return None
        replaced[node] = sum(
            (c * sp.factorial2(k - 1) for (k,), c in polynomial.terms() if k % 2 == 0),
            S.Zero,
        )
    return charted(jets(e)) if not replaced else _replace(e, replaced)


def _replace(e: Expr, replaced: Mapping[Expr, Expr]) -> Expr:
    # values are charted, so the rest has to be too
    keep = {old: Dummy() for old in replaced}
    return charted(e.xreplace(keep)).xreplace({keep[old]: new for old, new in replaced.items()})


@dataclass(frozen=True)
class GaussianExpectation(Rule):
    """E over u ~ N(0, 1) of a polynomial in u, by its moments (gaussian.moments proves the recursion)."""

    u: Symbol

    @property
    def words(self) -> str:
        return f"by the moments of {self.u} ~ N(0, 1)"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        if not any(node.args[1] == self.u for e in (above, line) for node in e.atoms(Expect)):
            return [Refused(f"gaussian_expectation({self.u}): neither line holds E(..., {self.u})")]
        if suppose:
            above, line = jets(above, suppose), jets(line, suppose)
        a, b = _moments(above, self.u), _moments(line, self.u)
        if a is None or b is None:
            return [Refused(f"gaussian_expectation({self.u}): what stands under E is no polynomial in {self.u}")]
        return [
            Agree("the expectation, by quadrature", above, line, suppose),
            Shown("with the moments put in, the lines agree", a, charted(b), suppose),
        ]


def gaussian_expectation(u: Symbol) -> Rule:
    """Put in the moments of u ~ N(0, 1): 1, 0, 1, 0, 3, 0, 15, ..."""
    return GaussianExpectation(u)


@dataclass(frozen=True)
class Parts(Rule):
    """Integration by parts: the integrands differ by d(certificate)/dx.

    Over the real line the certificate vanishes at both ends; over [a, b] its values there stand outside the integral
    (with nothing else under it, this is the fundamental theorem of calculus).
    """

    x: Symbol
    certificate: Expr

    @property
    def words(self) -> str:
        return f"integrating by parts in {self.x}"

    def expressions(self) -> tuple[Expr, ...]:
        return (self.certificate,)

    @property
    def details(self) -> tuple[tuple[str, Expr], ...]:
        return (("boundary term", self.certificate),)

    def with_expressions(self, new: tuple[Expr, ...]) -> Rule:
        (certificate,) = new
        return Parts(self.x, certificate)

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        rest, groups = integrands(above - line)
        if len(groups) != 1:
            return [Refused(f"parts({self.x}, ...): the lines must differ by integrals over one interval, and do not")]
        (((kind, a, b), (x, integrand)),) = groups.items()
        gained = Derivative(self.certificate, self.x).doit().xreplace({self.x: x})
        whole_line = (a, b) == (-sp.oo, sp.oo)
        if kind != "integral" or not (whole_line or (a.is_finite and b.is_finite)):
            return [Refused(f"parts({self.x}, ...): the integrals run over the real line, or over a finite interval")]
        low, high = (S.Zero, S.Zero) if whole_line else (self.certificate.subs(self.x, end) for end in (a, b))
        owed: list[Obligation] = [
            Equal("the integrands differ by the derivative of the certificate", integrand, gained, suppose),
            Equal("what stands outside is the certificate at the ends", rest + high - low, S.Zero, suppose),
        ]
        if whole_line:
            owed.append(Vanishes("the boundary term vanishes at both ends", self.certificate, self.x))
        return [*owed, Agree("the line equals the one above, by quadrature", above, line, suppose)]


def parts(x: Symbol, certificate: Expr) -> Rule:
    """Integration by parts: above - line = integral of d(certificate)/dx, less the certificate at finite ends."""
    return Parts(x, sp.sympify(certificate))


def pushed(e: Expr) -> Expr:
    """Every derivative carried under the integrals (the interchange that `leibniz` is about)."""
    if not e.args:
        return e
    e = e.func(*(pushed(a) for a in e.args))
    if isinstance(e, Derivative):
        e = e.doit(integrals=False)
        for v, n in e.variable_count if isinstance(e, Derivative) else ():
            inner = e.expr
            if isinstance(inner, Integral) and not any(lim.has(v) for t in inner.limits for lim in t[1:]):
                return Integral(pushed(Derivative(inner.function, (v, n))), *inner.limits)
            if isinstance(inner, Expect):
                return Expect(pushed(Derivative(inner.args[0], (v, n))), inner.args[1])  # type: ignore[arg-type]
            break
    return e


@dataclass(frozen=True)
class Leibniz(Rule):
    """d/dt of an integral is the integral of d/dt (smooth integrands that decay, uniformly in t)."""

    words = "differentiating under the integral"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        if pushed(above) == above and pushed(line) == line:
            return [Refused("leibniz: no derivative of an integral in either line")]
        return [
            Follows("with derivatives under the integral, the lines agree", pushed(above), pushed(line), suppose),
            Agree("the line equals the one above, by quadrature", above, line),
        ]


leibniz = Leibniz()


@dataclass(frozen=True)
class Normalised(Rule):
    """The integral of a density over its first argument is 1."""

    density: Any

    @property
    def words(self) -> str:
        return f"since {self.density} integrates to 1"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        if kind_of(self.density) != "density":
            return [Refused(f"normalised({self.density}): it was declared {kind_of(self.density)}, not a density")]
        known = frozenset({self.density})
        return [
            Shown("with that integral put in, the lines agree", above, line, suppose, normalised=known),
            Agree("the line equals the one above, by quadrature", above, line, suppose),
        ]


def normalised(density: Any, *_: Any) -> Rule:
    """Use that `density` (a function of kind "density") integrates to 1 over its first argument."""
    return Normalised(density)


@dataclass(frozen=True)
class Substitute(Rule):
    """Change of variable x = new(u) in an integral, dx = new'(u) du, with new monotone."""

    x: Symbol
    new: Expr
    u: Symbol

    @property
    def words(self) -> str:
        return f"substituting {self.x} = {self.new}"

    def expressions(self) -> tuple[Expr, ...]:
        return (self.new,)

    def with_expressions(self, new: tuple[Expr, ...]) -> Rule:
        (map_,) = new
        return Substitute(self.x, map_, self.u)

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        from theory.proof.judges import Nonzero

        old = [i for i in above.atoms(Integral) if i.limits[0][0] == self.x]
        limits = {i.limits[0][1:] for i in line.atoms(Integral) if i.limits[0][0] == self.u}
        if not old or len(limits) != 1:
            return [Refused(f"substitute: the line above needs an integral over {self.x}, the line one over {self.u}")]
        (c, d) = limits.pop()
        slope = self.new.diff(self.u)
        moved = {}
        for node in old:
            _, a, b = node.limits[0]
            ends = tuple(self.new.subs(self.u, end) for end in (c, d))
            flip = 1
            if ends == (b, a):
                flip = -1
            elif any(sp.expand(p - q) != 0 if p.is_finite else p != q for p, q in zip(ends, (a, b), strict=True)):
                return [Refused(f"substitute: {self.x} = {self.new} maps ({c}, {d}) to {ends}, not to ({a}, {b})")]
            inner = node.function.subs(self.x, self.new) * slope * flip
            moved[node] = Integral(inner, (self.u, c, d), *node.limits[1:])
        return [
            Nonzero(f"the map {self.x} = {self.new} must be monotone", slope),
            Follows("with the variable changed, the lines agree", above.xreplace(moved), line, suppose),
            Agree("the line equals the one above, by quadrature", above, line, suppose),
        ]


def substitute(x: Symbol, new: Expr, u: Symbol) -> Rule:
    """Change of variable x = new(u) in the integrals over x."""
    return Substitute(x, sp.sympify(new), u)


@dataclass(frozen=True)
class By(Rule):
    """Cite a proved claim: an instance of its first line is rewritten into its last (or back)."""

    claim: Claim
    mapping: tuple[tuple[Any, Any], ...]
    reverse: bool
    chain: int
    times: Expr

    @property
    def key(self) -> str:
        return f"By({self.claim.id}, {self.mapping}, {self.reverse}, {self.chain}, {self.times})"

    @property
    def words(self) -> str:
        return f"by {self.claim.id}"

    @property
    def cites(self) -> tuple[Any, ...]:
        return (self.claim,)

    def expressions(self) -> tuple[Expr, ...]:
        return tuple(v.expr if isinstance(v, Lambda) else v for _, v in self.mapping if isinstance(v, Expr))

    @property
    def details(self) -> tuple[tuple[str, Expr], ...]:
        put_in = ((old, new.expr if isinstance(new, Lambda) else new) for old, new in self.mapping)
        return tuple((f"with {old} =", new) for old, new in put_in if isinstance(new, Expr))

    def with_expressions(self, new: tuple[Expr, ...]) -> Rule:
        fresh = iter(new)

        def renewed(v: Any) -> Any:
            return Lambda(v.variables, next(fresh)) if isinstance(v, Lambda) else next(fresh)

        mapping = tuple((k, renewed(v) if isinstance(v, Expr) else v) for k, v in self.mapping)
        return By(self.claim, mapping, self.reverse, self.chain, self.times)

    def instance(self) -> tuple[Expr, Expr]:
        """The cited statement with the mapping put in: (first line, last line)."""
        first, relations, last = self.claim.derivation().statement(self.chain)
        if set(relations) != {"="}:
            raise ValueError(f"{self.claim.id} states {first} {relations[-1]} {last}: only equalities are rewritten")
        sides = [instantiate(e, dict(self.mapping)) for e in (first, last)]
        return (sides[1], sides[0]) if self.reverse else (sides[0], sides[1])

    def conditions(self, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        """The cited claim's hypotheses, for what is put in."""
        owed: list[Obligation] = []
        for old, new in self.mapping:
            if isinstance(old, Var):
                owed.append(Within(f"{self.claim.id} asks for {old.domain.words.format(old)}", new, old.domain))
            elif isinstance(old, UndefinedFunction):
                owed += _kind_obligations(self.claim.id, old, new)
        for known in self.claim.suppose:
            sides = [instantiate(e, dict(self.mapping)) for e in (known.left, known.right)]
            owed.append(Equal(f"{self.claim.id} supposes {known.words()}", sides[0], sides[1], suppose))
        return owed

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        known = self.claim.derivation().symbols()
        strangers = [str(k) for k, _ in self.mapping if k not in known]
        if strangers:
            return [Refused(f"by({self.claim.id}): it has no {', '.join(strangers)}; it has {_names(known)}")]
        try:
            left, right = self.instance()
        except ValueError as error:
            return [Refused(f"by({self.claim.id}): {error}")]
        rewritten = above.xreplace({left: right})
        if rewritten == above:
            rewritten = above + self.times * (right - left)
        return [
            *self.conditions(suppose),
            Follows(f"with {self.claim.id} put in, the lines agree", rewritten, line, suppose),
            Agree("the line equals the one above", above, line, suppose, optional=bool(suppose)),
        ]


def _names(known: set[Any]) -> str:
    return ", ".join(sorted(str(k) for k in known)) or "no symbols"


def _kind_obligations(claim: str, old: Any, new: Any) -> list[Obligation]:
    kind = kind_of(old)
    if isinstance(new, UndefinedFunction):
        if kind_of(new) == kind or kind == "smooth" or (kind == "positive" and new(Symbol("x")).is_positive):
            return []
        return [Refused(f"by({claim}): {old} is declared {kind}, {new} is {kind_of(new)}")]
    if not isinstance(new, Lambda):
        return [Refused(f"by({claim}): put in a function or a Lambda for {old}, not {new!r}")]
    body, (x, *_) = new.expr, new.variables
    if kind == "smooth":
        return []
    if kind not in ("positive", "density"):
        return [Refused(f"by({claim}): an expression cannot be put in for {old}, declared {kind}")]
    inner = x if isinstance(x, Var) else Var(x.name, DOMAINS["real"])
    body = body.xreplace({x: inner})
    owed: list[Obligation] = [Within(f"{claim} asks for {old} > 0", body, DOMAINS["positive"])]
    if kind == "density":
        whole = Integral(body, (inner, -sp.oo, sp.oo))
        owed.append(Agree(f"{claim} asks for a density {old}", whole, S.One))
    return owed


def instantiate(e: Expr, mapping: Mapping[Any, Any]) -> Expr:
    """Put expressions in for symbols and functions (a Lambda) for unspecified functions, all at once."""
    symbols = {k: v for k, v in mapping.items() if isinstance(k, Symbol)}
    functions = {k: v for k, v in mapping.items() if not isinstance(k, Symbol)}
    bound = {v for i in e.atoms(Integral) for v in i.variables} | {x.args[1] for x in e.atoms(Expect)}
    clash = {b for b in bound if any(b in getattr(v, "free_symbols", ()) for v in mapping.values())}
    e = e.xreplace({b: Dummy(b.name, real=True) for b in clash})
    if functions:  # in one pass: {p: q, q: r} must not send p to r
        e = e.replace(
            lambda n: isinstance(n, AppliedUndef) and n.func in functions, lambda n: functions[n.func](*n.args)
        )
    fresh = {k: Dummy(str(k), **k.assumptions0) for k in symbols}
    bound = {v for i in e.atoms(Integral) for v in i.variables} | {x.args[1] for x in e.atoms(Expect)}
    e = e.xreplace({k: d for k, d in fresh.items() if k not in bound})
    return e.subs({fresh[k]: v for k, v in symbols.items()}, simultaneous=True)


def by(
    claim: Any, mapping: Mapping[Any, Any] | None = None, *, reverse: bool = False, chain: int = 0, times: Any = 1
) -> Rule:
    """Cite a proved claim with `mapping` put in for its symbols and functions.

    If its first line occurs in the line above, it is rewritten into its last; else the lines have to differ by
    `times` the difference of the two. `reverse` swaps first and last; `chain` picks one of several statements.
    """
    from theory.proof.claims import find

    pairs = []
    for old, new in (mapping or {}).items():
        pairs.append((old, new if isinstance(new, Lambda | UndefinedFunction) else sp.sympify(new)))
    return By(find(claim), tuple(pairs), reverse, chain, sp.sympify(times))


@dataclass(frozen=True)
class UpTo(Rule):
    """line above = line + leading h^n + O(h^(n+1)), leading != 0."""

    h: Symbol
    n: int
    leading: Expr

    @property
    def relation(self) -> str:  # type: ignore[override]
        return f"= ... + O({self.h}^{self.n}),"

    @property
    def words(self) -> str:
        return f"up to O({self.h}^{self.n}), sharp: the error begins with the term stated"

    def expressions(self) -> tuple[Expr, ...]:
        return (self.leading,)

    def with_expressions(self, new: tuple[Expr, ...]) -> Rule:
        (leading,) = new
        return UpTo(self.h, self.n, leading)

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        if self.leading.has(self.h):
            return [Refused(f"up_to: the leading coefficient {self.leading} must not depend on {self.h}")]
        return [Order(f"sharp to O({self.h}^{self.n})", above, line, self.h, self.n, self.leading, suppose)]


def up_to(h: Symbol, n: int, leading: Any) -> Rule:
    """The line above is this line + leading h^n + O(h^(n+1)), and leading is not zero."""
    if not (isinstance(n, int) and n >= 0):
        raise ValueError(f"up_to(h, n, leading): n is a whole number from 0, got {n!r}")
    return UpTo(h, n, sp.sympify(leading))


@dataclass(frozen=True)
class TendsTo(Rule):
    """The line is the limit of the one above as h -> 0."""

    h: Symbol

    @property
    def relation(self) -> str:  # type: ignore[override]
        return "->"

    @property
    def words(self) -> str:
        return f"in the limit {self.h} -> 0"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        if line.has(self.h) or not above.has(self.h):
            return [Refused(f"limit({self.h}): the line above depends on {self.h}, the limit does not")]
        return [Limit(f"the limit as {self.h} -> 0", above, line, self.h, suppose)]


def limit(h: Symbol) -> Rule:
    """The line is the limit of the one above as h -> 0 (from above)."""
    return TendsTo(h)


@dataclass(frozen=True)
class Induction(Rule):
    """A closed form of a recursion: it starts right, and one step of the recursion leads from k to k + 1."""

    n: Symbol

    @property
    def words(self) -> str:
        return f"by induction on {self.n}"

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        if not isinstance(above, Recursion):
            return [Refused("induction: the line above must be a recursion(step, y, k, start, n)")]
        step, y, k, start, n = above.args
        if n != self.n:
            return [Refused(f"induction({self.n}): the recursion runs to {n}")]
        if line.free_symbols & {y, k} or start.free_symbols & {y, k}:
            return [Refused(f"induction({self.n}): {y} and {k} are the recursion's own, and stand in no closed form")]
        place = Var(f"{k}", DOMAINS["counting"])
        hypothesis = line.subs(self.n, place)
        after = step.xreplace({k: place}).xreplace({y: hypothesis})
        return [
            _Base(f"the closed form at {self.n} = 0 is the start", line.subs(self.n, 0), start, suppose),
            Equal(f"the step leads from {k} to {k} + 1", line.subs(self.n, place + 1), after, suppose),
            Agree("the recursion, run", above, line, suppose),
        ]


@dataclass(frozen=True)
class _Base(Equal):
    """The base case of an induction."""

    def symbolic(self, checker: Any) -> Any:
        return super().symbolic(checker) if checker.base_case else None


def induction(n: Symbol) -> Rule:
    """The line is the closed form of the recursion above, by induction on n."""
    return Induction(n)


@dataclass(frozen=True)
class Minimum:
    """A function of u that is 0 at u = `at`, falls before and rises after: its slope is (u - at) times >= 0."""

    u: Symbol
    at: Expr


def minimum(u: Symbol, at: Any) -> Minimum:
    """Witness for at_least: the difference has its minimum, 0, at u = at (one-variable convex cases)."""
    return Minimum(u, sp.sympify(at))


@dataclass(frozen=True)
class Inequality(Rule):
    """The lines differ by a witness that is manifestly >= 0."""

    witness: Any
    given: tuple[By, ...]
    up: bool  # line above >= line

    @property
    def key(self) -> str:
        told = self.resolved(True)[0] if callable(self.witness) else self.witness
        return f"Inequality({told}, {[g.key for g in self.given]}, {self.up})"

    @property
    def relation(self) -> str:  # type: ignore[override]
        return ">=" if self.up else "<="

    @property
    def words(self) -> str:
        if isinstance(self.witness, Minimum):
            return f"the difference is smallest, and 0, at {self.witness.u} = {self.witness.at}"
        cited = f", given {', '.join(g.claim.id for g in self.given)}" if self.given else ""
        return f"the difference is a sum of nonnegative terms{cited}"

    @property
    def cites(self) -> tuple[Any, ...]:
        return tuple(g.claim for g in self.given)

    def expressions(self) -> tuple[Expr, ...]:
        return (self.witness,) if isinstance(self.witness, Expr) else ()

    @property
    def details(self) -> tuple[tuple[str, Expr], ...]:
        if isinstance(self.witness, Minimum):
            return ()
        try:
            return (("difference", self.resolved(True)[0]),)
        except ValueError:  # what it cites states no inequality: the judges will say so
            return ()

    def with_expressions(self, new: tuple[Expr, ...]) -> Rule:
        return Inequality(new[0], self.given, self.up) if new else self

    def resolved(self, actual: bool) -> tuple[Expr, list[Obligation]]:
        """The witness with the cited gaps put in (`actual`), or with nonnegative symbols for them."""
        if not callable(self.witness):
            return self.witness, []
        gaps = {}
        for g in self.given:
            first, relations, last = g.claim.derivation().statement(g.chain)
            signs = set(relations) - {"="}
            if signs not in ({">="}, {"<="}):
                raise ValueError(f"{g.claim.id} states no inequality")
            a, b = (instantiate(e, dict(g.mapping)) for e in (first, last))
            gaps[Dummy("gap", nonnegative=True)] = a - b if signs == {">="} else b - a
        form = sp.sympify(self.witness(*gaps))
        return form.xreplace(gaps) if actual else form, [c for g in self.given for c in g.conditions(())]

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        big, small = (above, line) if self.up else (line, above)
        holds = AtLeast(f"the line above is {self.relation} the line", big, small, suppose)
        if isinstance(self.witness, Minimum):
            u, at = self.witness.u, self.witness.at
            gap = big - small
            if not _smooth_on_an_interval(gap, u):
                return [Refused(f"minimum({u}, {at}): the difference has to be smooth in {u}, on an interval")]
            slope = sp.factor(sp.together(gap.diff(u) / (u - at)))
            return [
                holds,
                Within(f"the minimum is at a point of {u}'s domain", at, u.domain),
                Equal(f"the difference is 0 at {u} = {at}", gap.subs(u, at), S.Zero, suppose),
                Nonnegative(f"the slope over ({u} - {at}) is nonnegative", slope),
            ]
        try:
            (exact, conditions), (form, _) = self.resolved(True), self.resolved(False)
        except ValueError as error:
            return [Refused(f"{'at_least' if self.up else 'at_most'}: {error}")]
        return [
            holds,
            *conditions,
            Follows("the lines differ by the witness", big - small, exact, suppose),
            Nonnegative("the witness is nonnegative", form),
        ]


def _smooth_on_an_interval(e: Expr, u: Symbol) -> bool:
    """Whether no jump of e can hide between a slope's signs: no steps, no branches, and a domain in one piece."""
    smooth = (sp.exp, sp.log, sp.sin, sp.cos, sp.sinh, sp.cosh, sp.tanh, AppliedUndef)
    steps = [f for f in e.atoms(sp.Function) if f.has(u) and not isinstance(f, smooth)]
    in_one_piece = isinstance(u, Var) and u.domain.name not in ("nonzero", "natural", "counting")
    return in_one_piece and not steps and not e.has(sp.Piecewise)


def _inequality(witness: Any, given: tuple[Rule, ...], up: bool) -> Rule:
    if callable(witness) and not given:
        raise ValueError("a witness that is a function of gaps needs the claims they come from: at_least(f, by(...))")
    if not (isinstance(witness, Minimum) or callable(witness)):
        witness = sp.sympify(witness)
    return Inequality(witness, given, up)  # type: ignore[arg-type]


def at_least(witness: Any | Callable[..., Expr] | Minimum, *given: Rule) -> Rule:
    """line above >= line, because above - line = witness and the witness is manifestly nonnegative.

    With cited inequalities the witness is a function of their gaps:
    `at_least(lambda gap: integral(p(x) * gap, x), by(log_bound, {u: q(x) / p(x)}))`.
    """
    return _inequality(witness, given, True)


def at_most(witness: Any | Callable[..., Expr] | Minimum, *given: Rule) -> Rule:
    """line above <= line, because line - above = witness and the witness is manifestly nonnegative."""
    return _inequality(witness, given, False)


@dataclass(frozen=True)
class Assume(Rule):
    """A named classical theorem, or (marked as conditional wherever it is used) a fact not yet proved."""

    fact: str

    @property
    def words(self) -> str:
        source = CLASSICAL.get(self.fact)
        return f"by {self.fact} ({source})" if source else f"ASSUMING {self.fact}"

    @property
    def classical(self) -> bool:
        return self.fact in CLASSICAL

    def obligations(self, above: Expr, line: Expr, suppose: tuple[Suppose, ...]) -> list[Obligation]:
        return [Agree("the line equals the one above", above, line, suppose, optional=True)]


def assume(fact: str) -> Rule:
    """Take the line on trust: a theorem named in `CLASSICAL`; anything else makes the claim conditional."""
    return Assume(fact)


RULES = (
    "algebra",
    "complete_the_square",
    "gaussian_expectation",
    "parts",
    "leibniz",
    "normalised",
    "substitute",
    "by",
    "up_to",
    "limit",
    "induction",
    "at_least",
    "at_most",
    "assume",
    "let",
)
