"""Claims: a generator that reads like lecture notes, and the derivation (data) that it yields.

    @claim("gaussian.second_moment", week=3, source="any textbook")
    def second_moment():
        "The second moment is mean squared plus variance."
        yield E((mu + sigma * u) ** 2, u)                      # a bare expression starts a chain
        yield gaussian_expectation(u), mu**2 + sigma**2        # (rule, expression): follows from the line above

`mean = yield let("mean", expression)` names a part: `topic.name.mean` is a formula of its own, to which code is bound.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import sympy as sp
from sympy import Expr, Float
from sympy.core.function import AppliedUndef

from theory.proof.rules import RULES, Rule
from theory.proof.vocabulary import DOMAINS, Suppose, Var, fingerprint, hypotheses_of


class DerivationError(ValueError):
    """A derivation that is not well formed: it was not put to the judges."""

    line: int | None = None  # of the `yield` that was refused, in the author's file


@dataclass(frozen=True)
class Let:
    label: str
    expression: Expr


def let(label: str, expression: Any) -> Let:
    """Name a part of the claim: `mean = yield let("mean", expression)` gives a symbol to write lines with."""
    return Let(label, sp.sympify(expression))


@dataclass(frozen=True)
class Line:
    """One line: its rule (None starts a chain) and its expression, in which lets stand as symbols."""

    rule: Rule | None
    expression: Expr


@dataclass(frozen=True)
class Derivation:
    """What a claim's author wrote, as data: lines, and the definitions of the parts named by `let`."""

    lines: tuple[Line, ...]
    lets: tuple[tuple[Var, Expr], ...]

    def expand(self, e: Expr) -> Expr:
        """The expression with every let written out."""
        table = dict(self.lets)
        while hit := [s for s in e.free_symbols if s in table]:
            e = e.subs({s: table[s] for s in hit}, simultaneous=True)
        return e

    def chains(self) -> list[list[Line]]:
        """The lines, chain by chain."""
        out: list[list[Line]] = []
        for line in self.lines:
            if line.rule is None:
                out.append([line])
            else:
                out[-1].append(line)
        return out

    def steps(self) -> list[tuple[int, Rule, Expr, Expr]]:
        """(line number, rule, line above, line), lets written out in lines and in the rules' certificates."""
        found = []
        for i, line in enumerate(self.lines):
            if line.rule is not None:
                rule = line.rule.with_expressions(tuple(self.expand(e) for e in line.rule.expressions()))
                found.append((i, rule, self.expand(self.lines[i - 1].expression), self.expand(line.expression)))
        return found

    def statement(self, chain: int = 0) -> tuple[Expr, tuple[str, ...], Expr]:
        """First line, relations met on the way, last line: what the chain proves."""
        chains = self.chains()
        if not -len(chains) <= chain < len(chains):
            raise ValueError(f"chain {chain} was asked for; the claim has {len(chains)}")
        lines = chains[chain]
        relations = tuple(line.rule.relation for line in lines if line.rule)
        return self.expand(lines[0].expression), relations, self.expand(lines[-1].expression)

    def symbols(self) -> set[Any]:
        """Free symbols and unspecified functions of the statements, lets written out."""
        out: set[Any] = set()
        for line in self.lines:
            e = self.expand(line.expression)
            out |= e.free_symbols | {f.func for f in e.atoms(AppliedUndef)}
        return out


CLAIMS: dict[str, Claim] = {}


@dataclass(frozen=True, eq=False)
class Claim:
    """A named statement with its derivation; whether it is proved is for the kernel to say."""

    id: str
    build: Callable[[], Generator[Any, Any, None]]
    week: int | None
    source: str
    covers: tuple[str, ...]
    suppose: tuple[Suppose, ...]
    file: str
    line: int
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"<claim {self.id}>"

    @property
    def topic(self) -> str:
        return self.id.split(".")[0]

    @cached_property
    def title(self) -> str:
        return inspect.cleandoc(self.build.__doc__ or "").split("\n")[0]

    def derivation(self) -> Derivation:
        if "derivation" not in self._memo:
            self._memo["derivation"] = read(self)
        return self._memo["derivation"]

    @property
    def parts(self) -> dict[str, Expr]:
        """The formulas named by `let`, lets written out."""
        d = self.derivation()
        return {s.name: d.expand(e) for s, e in d.lets}

    @property
    def formula(self) -> Expr:
        """The claim's formula: its last line."""
        d = self.derivation()
        return d.expand(d.lines[-1].expression)

    def part(self, label: str) -> Expr:
        if label not in self.parts:
            raise KeyError(f"{self.id} has no part {label!r}; it has {', '.join(self.parts) or 'none'}")
        return self.parts[label]

    @property
    def hypotheses(self) -> list[str]:
        d = self.derivation()
        written = [d.expand(line.expression) for line in d.lines]
        return hypotheses_of(written) + [s.words() for s in self.suppose]

    @property
    def cites(self) -> tuple[Claim, ...]:
        seen = {c.id: c for line in self.derivation().lines if line.rule for c in line.rule.cites}
        return tuple(seen.values())

    @property
    def assumes(self) -> list[str]:
        """Named theorems and unproved facts taken on trust."""
        from theory.proof.rules import Assume

        return sorted({line.rule.fact for line in self.derivation().lines if isinstance(line.rule, Assume)})

    @property
    def statement_text(self) -> str:
        """What the shown hash is a hash of: statements, parts and hypotheses, with domains and kinds."""
        d = self.derivation()
        said = []
        for i in range(len(d.chains())):
            first, relations, last = d.statement(i)
            said += [fingerprint(first), *dict.fromkeys(relations), fingerprint(last)]
        said += [f"{s.name}={fingerprint(d.expand(e))}" for s, e in d.lets]
        said += [f"{fingerprint(s.left)}={fingerprint(s.right)}" for s in self.suppose]
        return "\n".join([self.id, *said, *self.hypotheses])

    @property
    def proof_text(self) -> str:
        """Every line and rule, for the cache's key."""
        written = self.derivation().lines
        lines = [f"{line.rule.key if line.rule else '-'} | {fingerprint(line.expression)}" for line in written]
        rules = [fingerprint(e) for line in written if line.rule for e in line.rule.expressions()]
        return "\n".join([self.statement_text, *lines, *rules])

    def _repr_latex_(self) -> str:
        from theory.proof.export import export

        return export(self).latex

    def _repr_html_(self) -> str:
        from theory.proof.export import export

        return export(self).html


_ID = re.compile(r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")


def claim(
    id: str,
    *,
    week: int | None = None,
    source: str = "",
    covers: str | tuple[str, ...] = (),
    hypotheses: tuple[Suppose, ...] | list[Suppose] = (),
) -> Callable[[Callable[[], Generator[Any, Any, None]]], Claim]:
    """Declare the generator below as the derivation of claim `topic.name`."""
    if not _ID.match(id):
        raise DerivationError(f"claim({id!r}): an id reads topic.name, in lower case")

    def declare(build: Callable[[], Generator[Any, Any, None]]) -> Claim:
        code = build.__code__
        old = CLAIMS.get(id)
        if old and (Path(old.file).is_file() or Path(code.co_filename).is_file()):  # a notebook's cell is run again
            here = f"{code.co_filename}:{code.co_firstlineno}"
            raise DerivationError(f"{id} is claimed twice: {old.file}:{old.line} and {here}")
        if not inspect.isgeneratorfunction(build):
            raise DerivationError(f"{id}: a derivation yields its lines; {build.__name__} yields nothing")
        if not (build.__doc__ or "").strip():
            raise DerivationError(f"{id}: a claim begins with one sentence that says it (a docstring)")
        rows = (covers,) if isinstance(covers, str) else tuple(covers)
        made = Claim(id, build, week, source, rows, tuple(hypotheses), code.co_filename, code.co_firstlineno)
        CLAIMS[id] = made
        return made

    return declare


def find(claim: Any) -> Claim:
    """The claim object, from itself or its id; its name is what errors show."""
    if isinstance(claim, Claim):
        return claim
    if isinstance(claim, str) and claim in CLAIMS:
        return CLAIMS[claim]
    if isinstance(claim, str):
        raise DerivationError(f"by({claim!r}): there is no such claim")
    raise DerivationError(f"by({claim!r}): cite a claim (the decorated function) or its id")


def read(claim: Claim) -> Derivation:
    """Run the author's generator once and keep what it yields, as data; anything malformed is refused here."""
    lines: list[Line] = []
    lets: list[tuple[Var, Expr]] = []
    generator = claim.build()
    answer: Any = None
    try:
        while True:
            item = generator.send(answer)
            answer = None
            if isinstance(item, Let):
                answer = _name(claim, item, lets)
            else:
                lines.append(_line(claim, item, lines))
                answer = lines[-1].expression
    except StopIteration:
        pass
    except DerivationError as error:
        if frame := getattr(generator, "gi_frame", None):  # refused by us, at the yield where the generator waits
            error.line = frame.f_lineno
        raise
    derivation = Derivation(tuple(lines), tuple(lets))
    _well_formed(claim, derivation)
    return derivation


def _name(claim: Claim, item: Let, lets: list[tuple[Var, Expr]]) -> Var:
    if not item.label.isidentifier():
        raise DerivationError(f"{claim.id}: let({item.label!r}, ...): a part's name is an identifier")
    if any(s.name == item.label for s, _ in lets):
        raise DerivationError(f"{claim.id}: the part {item.label!r} is named twice")
    _exact(claim, item.expression, f"let({item.label!r}, ...)")
    symbol = Var(item.label, DOMAINS["positive" if item.expression.is_positive else "real"])
    if symbol in item.expression.free_symbols:
        raise DerivationError(f"{claim.id}: let({item.label!r}, ...) is defined by itself; choose another name")
    lets.append((symbol, item.expression))
    return symbol


def _line(claim: Claim, item: Any, lines: list[Line]) -> Line:
    where = f"{claim.id}, line {len(lines) + 1}"
    rule: Any = None
    if isinstance(item, tuple):
        if len(item) != 2:
            raise DerivationError(f"{where}: yield an expression, or (rule, expression); got {len(item)} things")
        rule, item = item
        if not isinstance(rule, Rule):
            told = getattr(rule, "__name__", repr(rule))
            raise DerivationError(f"{where}: {told} is no rule; the rules are {', '.join(RULES)}")
        if not lines:
            raise DerivationError(f"{where}: the first line has nothing above it, so it takes no rule")
    if isinstance(item, Rule):
        raise DerivationError(f"{where}: a rule without an expression; yield (rule, expression)")
    try:
        expression = sp.sympify(item)
    except (sp.SympifyError, TypeError) as error:
        raise DerivationError(f"{where}: {item!r} is not an expression") from error
    if not isinstance(expression, Expr):
        raise DerivationError(f"{where}: {item!r} is not an expression (chains are written line by line, without Eq)")
    _exact(claim, expression, f"line {len(lines) + 1}")
    for e in rule.expressions() if rule else ():
        _exact(claim, e, f"the rule of line {len(lines) + 1}")
    return Line(rule, expression)


def _exact(claim: Claim, e: Expr, where: str) -> None:
    floats = sorted(e.atoms(Float), key=str)
    if floats:
        value = float(floats[0])
        exact = sp.nsimplify(value, rational=True)
        told = f"the float {value:g} is not exact; write Rational({exact.p}, {exact.q})"
        raise DerivationError(f"{claim.id}, {where}: {told}")
    bad = e.atoms(sp.core.numbers.NaN, sp.core.numbers.ComplexInfinity)
    if bad:
        raise DerivationError(f"{claim.id}, {where}: the expression contains {bad.pop()} (a division by zero?)")


def _well_formed(claim: Claim, d: Derivation) -> None:
    if not d.lines:
        raise DerivationError(f"{claim.id}: no line was yielded")
    for i, chain in enumerate(d.chains()):
        if len(chain) < 2:
            raise DerivationError(f"{claim.id}: chain {i + 1} has one line, {chain[0].expression}, and claims nothing")
        _one_symbol_a_name(claim, d, i)
    _one_direction(claim, d)
    used = {s for line in d.lines for s in line.expression.free_symbols}
    used |= {s for line in d.lines if line.rule for e in line.rule.expressions() for s in e.free_symbols}
    for s, e in d.lets:
        used |= e.free_symbols if s in used else set()
    for s, e in reversed(d.lets):
        used |= e.free_symbols if s in used else set()
        if s not in used:
            raise DerivationError(f"{claim.id}: the part {s.name!r} is named and never used in a line")
    bare = {s for s in d.symbols() if isinstance(s, sp.Symbol) and not isinstance(s, Var | sp.Dummy)}
    if bare:
        names = ", ".join(sorted(map(str, bare)))
        raise DerivationError(f"{claim.id}: {names} has no domain; make it with real(...), positive(...), unit(...)")
    wild = {f for f in d.symbols() if not isinstance(f, sp.Symbol) and not isinstance(getattr(f, "kind", None), str)}
    if wild:
        raise DerivationError(f"{claim.id}: {wild.pop()} has no kind; make it with function(name, kind=...)")
    for i, rule, above, line in d.steps():
        if above == line:
            raise DerivationError(
                f"{claim.id}, line {i + 1}: {rule.words}: both sides are the same expression, so the step says nothing"
            )


def _one_symbol_a_name(claim: Claim, d: Derivation, chain: int) -> None:
    """Refuse two symbols of one name in a chain: a reader, and the point of a refutation, cannot tell them apart."""
    named: dict[str, Var] = {}
    for line in d.chains()[chain]:
        for s in sorted((s for s in d.expand(line.expression).free_symbols if isinstance(s, Var)), key=str):
            if (other := named.setdefault(s.name, s)) != s:
                homes = " and ".join(sorted(v.domain.words.format(s.name) for v in (s, other)))
                raise DerivationError(f"{claim.id}: two symbols of chain {chain + 1} are called {s.name}: {homes}")


def _one_direction(claim: Claim, d: Derivation) -> None:
    """Refuse a chain whose relations add up to none: a <= b >= c says nothing of a and c, nor does a <= b -> c.

    An equality joins anything, <= joins <= and >= joins >=; a limit or an error term stands alone among equalities.
    """
    so_far = "="
    for number, line in enumerate(d.lines, 1):
        if line.rule is None:
            so_far = "="
            continue
        new = line.rule.relation
        if "=" not in (so_far, new) and not (new == so_far in ("<=", ">=")):
            told = f"the chain says {so_far.rstrip(',')} so far, which {new.rstrip(',')} does not continue"
            raise DerivationError(f"{claim.id}, line {number}: {told}; start a new chain (a line without a rule)")
        so_far = new if so_far == "=" else so_far


def renamed(claim: Claim, derivation: Derivation) -> Claim:
    """The same claim with another derivation (for mutants and canaries); it is not registered."""
    return replace(claim, _memo={"derivation": derivation})
