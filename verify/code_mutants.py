r"""The bound functions broken on purpose: agreement has to refute every one.

A mutant is the source of a function with one node of its syntax tree changed, run in process in a copy of its module's
namespace. Private helpers of the same module are part of the function and are broken too. The operators, each tried
at every node it fits:

    sign          a + b -> a - b,   -a -> a,   the result negated
    operator      a * b <-> a / b,   a ** b -> a * b
    dropped term  a + b -> a, b;   a * b -> a, b;   a / b -> a
    constant      c -> c + 1, 2 c
    argument      x -> each other parameter;   f(a, b) -> f(b, a)
    function      sqrt(x) -> x, x ** 2;   x ** 2 -> x;   expm1 -> exp;   sin -> cos; ...
    branch        where(c, a, b) -> where(c, b, a);   a < b -> a >= b

Checks that raise, annotations, defaults, axes and text are not formulas and are left alone; nor is the place at which
one form of a function hands over to another (both hold there), so of a comparison only the sense is changed.

A mutant is killed when agreement refutes it. If it agrees, both functions are traced to SymPy expressions: an identical
normal form proves it equivalent. What is left has survived, unless `waivers.toml` gives a reviewed reason for it.
Exceptions (a mutant that no longer runs) prove nothing and are counted apart, as undecided.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sympy as sp

from diffusion.binding import Binding
from verify.agreement import Case, Function, judge
from verify.trace import UntraceableError, traced

WAIVERS = Path(__file__).with_name("waivers.toml")

_SIGN: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
_OPERATOR: dict[type, type] = {ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
_NEGATED: dict[type, type] = {
    **{ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
}
_FUNCTION = {
    "exp": "expm1",
    "expm1": "exp",
    "log": "log1p",
    "log1p": "log",
    "sin": "cos",
    "cos": "sin",
    "tan": "sin",
    "atan": "tanh",
    "sinh": "cosh",
    "cosh": "sinh",
    "tanh": "sinh",
    "asinh": "sinh",
    "sigmoid": "tanh",
    "maximum": "minimum",
    "minimum": "maximum",
    "amax": "amin",
    "logaddexp": "maximum",
    "rsqrt": "sqrt",
    "reciprocal": "sqrt",
}
_REDUCTIONS = frozenset({"sum", "mean", "cumsum", "cumprod"})  # as methods, their arguments are axes
_NUMBERS = frozenset({"int", "float", "str", "bool"})
_DROPPED = frozenset({"sqrt", "square", "abs", "exp", "log", "rsqrt", "reciprocal"})


@dataclass(frozen=True)
class Mutant:
    """One broken function: what was changed, where, and the function it gives."""

    function: str
    operator: str
    was: str
    became: str
    run: Function

    @property
    def key(self) -> str:
        """What a waiver names: the function, and the statement before and after."""
        return f"{self.function}: {self.was}  ->  {self.became}"


@dataclass(frozen=True)
class Outcome:
    """The fate of one mutant: killed, equivalent, waived, survived or undecided."""

    mutant: Mutant
    fate: str
    reason: str = ""


# ------------------------------------------------------------------------------------------------ making them


def mutants(binding: Binding) -> Iterator[Mutant]:
    """Every mutant of a bound function and of the private helpers it calls."""
    function = binding.function
    namespace = sys.modules[function.__module__].__dict__
    trees = {f.__name__: _tree(f) for f in _with_helpers(function)}
    for name, tree in trees.items():
        for path, operator, changed in _changes(tree):
            broken = copy.deepcopy(tree)
            statement = _put(broken, path, changed)
            run = _built(trees | {name: broken}, namespace, function.__name__)
            was, became = (ast.unparse(_at(t, path[:statement])).splitlines()[0] for t in (tree, broken))
            yield Mutant(f"{function.__module__}.{name}", operator, was, became, run)


def _with_helpers(function: Function) -> list[Function]:
    """The function and, transitively, the private functions of its module that it names."""
    found: list[Function] = []
    queue = [function]
    namespace = sys.modules[function.__module__].__dict__
    while queue:
        f = queue.pop()
        found.append(f)
        for name in inspect.unwrap(f).__code__.co_names:
            g = namespace.get(name)
            private = name.startswith("_") and inspect.isfunction(g) and g.__module__ == function.__module__
            if g is not None and private and g not in found and g not in queue:
                queue.append(g)
    return found


def _tree(function: Function) -> ast.FunctionDef:
    """The function's syntax tree without decorators (they would bind the mutant) and without annotations."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise TypeError(f"{function!r}: only plain functions (def) can be bound and broken")
    tree.decorator_list = []
    return tree


def _parameters(tree: ast.FunctionDef) -> dict[str, str]:
    """Each parameter and its annotation: an argument is only confused with one of its own type."""
    arguments = (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs)
    return {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in arguments}


def _built(trees: dict[str, ast.FunctionDef], namespace: dict[str, Any], name: str) -> Function:
    """Compile the trees, in order, into a copy of the module's namespace."""
    scope = dict(namespace)
    future = ast.parse("from __future__ import annotations").body
    module = ast.Module(body=[*future, *trees.values()], type_ignores=[])
    exec(compile(ast.fix_missing_locations(module), f"<mutant of {name}>", "exec"), scope)
    return scope[name]


Place = tuple[tuple[str, int | None], ...]


def _changes(tree: ast.FunctionDef) -> Iterator[tuple[Place, str, ast.AST]]:
    """(where, operator, new node) for every operator at every node of the function's formulas."""
    parameters = _parameters(tree)
    tensors = _tensors(tree, parameters)
    for path, node in _formula_nodes(tree, ()):
        for operator, changed in _broken(node, parameters, tensors):
            yield path, operator, changed


def _tensors(tree: ast.FunctionDef, parameters: dict[str, str]) -> set[str]:
    """Names that hold tensors: parameters that are no Python numbers, and what is assigned (loop variables are not)."""
    assigned = [target for n in ast.walk(tree) if isinstance(n, ast.Assign) for target in n.targets]
    names = {n.id for target in assigned for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names | {name for name, kind in parameters.items() if kind not in _NUMBERS}


def _formula_nodes(node: ast.AST, path: Place) -> Iterator[tuple[Place, ast.AST]]:
    """The expressions that compute: all but guards (what raises, and calls whose value is dropped), axes and text."""
    if isinstance(node, ast.Raise | ast.Assert | ast.Expr | ast.arguments | ast.JoinedStr):
        return
    if isinstance(node, ast.If) and any(isinstance(s, ast.Raise) for s in node.body):
        return
    if isinstance(node, ast.expr | ast.Return):
        yield path, node
    if isinstance(node, ast.Compare):
        return
    for name, value in ast.iter_fields(node):
        called = isinstance(node, ast.Call) and name == "func" and isinstance(value, ast.Name)
        axes = isinstance(node, ast.Call) and name == "args" and getattr(node.func, "attr", "") in _REDUCTIONS
        if called or axes or name in ("annotation", "returns"):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield from _formula_nodes(child, (*path, (name, i)))


def _child(tree: Any, step: tuple[str, int | None]) -> Any:
    name, i = step
    return getattr(tree, name) if i is None else getattr(tree, name)[i]


def _at(tree: Any, path: Place) -> Any:
    for step in path:
        tree = _child(tree, step)
    return tree


def _put(tree: ast.AST, path: Place, new: ast.AST) -> int:
    """Replace the node at `path`; the length of the path to the statement it is in."""
    statement = max(i for i in range(len(path) + 1) if isinstance(_at(tree, path[:i]), ast.stmt))
    parent, (name, i) = _at(tree, path[:-1]), path[-1]
    if i is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[i] = new
    return statement


def _broken(node: Any, parameters: dict[str, str], tensors: set[str]) -> Iterator[tuple[str, ast.AST]]:
    """Each way an operator breaks this one node."""
    if isinstance(node, ast.Return) and node.value is not None:
        yield "sign", ast.Return(ast.UnaryOp(ast.USub(), node.value))
    if isinstance(node, ast.BinOp):
        yield from _broken_operation(node, tensors)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _NEGATED:
        yield "branch", ast.Compare(node.left, [_NEGATED[type(node.ops[0])]()], node.comparators)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        for value in {node.value + 1, 2 * node.value} - {node.value}:
            yield "constant", ast.Constant(value)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in parameters:
        for other in parameters:
            if other != node.id and parameters[other] == parameters[node.id]:
                yield "argument", ast.Name(other, ast.Load())
    if isinstance(node, ast.Call):
        yield from _broken_call(node, parameters)


def _broken_operation(node: ast.BinOp, tensors: set[str]) -> Iterator[tuple[str, ast.AST]]:
    kind = type(node.op)
    if kind in _SIGN:
        yield "sign", ast.BinOp(node.left, _SIGN[kind](), node.right)
    if kind in _OPERATOR:
        yield "operator", ast.BinOp(node.left, _OPERATOR[kind](), node.right)
    if kind in _SIGN or kind in _OPERATOR:
        yield "dropped term", _without(node.right, node.left, tensors)
    if kind in _SIGN or kind is ast.Mult:
        yield "dropped term", _without(node.left, node.right, tensors)


def _without(dropped: ast.expr, kept: ast.expr, tensors: set[str]) -> ast.expr:
    """What is kept; a number that is left alone stays a tensor by adding 0 times what was dropped."""
    if any(isinstance(n, ast.Name) and n.id in tensors for n in ast.walk(kept)):
        return kept
    return ast.BinOp(kept, ast.Add(), ast.BinOp(ast.Constant(0), ast.Mult(), dropped))


def _broken_call(node: ast.Call, parameters: dict[str, str]) -> Iterator[tuple[str, ast.AST]]:
    """torch.f(x), f(x) and x.f() alike."""
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in _FUNCTION and owner is not None:
        yield "function", ast.Call(ast.Attribute(owner, _FUNCTION[name], ast.Load()), node.args, node.keywords)
    if name in _DROPPED:
        of_module = owner is None or (isinstance(owner, ast.Name) and owner.id in ("torch", "math"))
        inside = node.args[0] if of_module or owner is None else owner
        yield "function", inside
        if name == "sqrt":
            yield "function", ast.BinOp(inside, ast.Pow(), ast.Constant(2))
    if name == "where" and len(node.args) == 3:
        yield "branch", ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], [])
    elif name not in ("hypot", "maximum", "minimum", "add", "mul"):  # commutative: swapping would change nothing
        for i, (a, b) in enumerate(itertools.pairwise(node.args)):
            if ast.dump(a) != ast.dump(b) and _type(a, parameters) == _type(b, parameters):
                yield "argument", ast.Call(node.func, [*node.args[:i], b, a, *node.args[i + 2 :]], node.keywords)


def _type(node: ast.expr, parameters: dict[str, str]) -> str:
    """A number, a parameter that is a Python number, or a tensor: swapping across these makes no program."""
    if isinstance(node, ast.Constant):
        return "number"
    annotation = parameters.get(node.id, "") if isinstance(node, ast.Name) else ""
    return "number" if annotation in _NUMBERS else "tensor"


# ------------------------------------------------------------------------------------------------ killing them


def waivers(path: Path = WAIVERS) -> dict[str, str]:
    """Reviewed survivors: the mutant's key and the reason why nothing can refute it."""
    entries = tomllib.loads(path.read_text()).get("waiver", [])
    for entry in entries:
        if not entry.get("mutant") or not entry.get("reason", "").strip():
            raise ValueError(f"{path}: each [[waiver]] needs `mutant` and `reason`, got {entry}")
    return {entry["mutant"]: entry["reason"] for entry in entries}


def fates(
    binding: Binding, cases: Sequence[Case], formula: sp.Expr, waived: dict[str, str] | None = None
) -> list[Outcome]:
    """What became of every mutant of a binding."""
    waived = waivers() if waived is None else waived
    return [_fate(m, binding, cases, formula, waived) for m in mutants(binding)]


def _fate(mutant: Mutant, binding: Binding, cases: Sequence[Case], formula: sp.Expr, waived: dict[str, str]) -> Outcome:
    reason = ""
    for case in cases:
        try:
            verdict = judge(case, binding, mutant.run)
        except Exception as error:  # whatever a broken program does
            reason = reason or f"{type(error).__name__}: {error}"
            continue
        if verdict.refuted:
            return Outcome(mutant, "killed", verdict.reason)
    if reason:
        return Outcome(mutant, "undecided", reason)
    if _same(binding.function, mutant.run, formula):
        return Outcome(mutant, "equivalent", "the traced expressions have one normal form")
    if mutant.key in waived:
        return Outcome(mutant, "waived", waived[mutant.key])
    return Outcome(mutant, "survived")


def _same(original: Function, mutant: Function, formula: sp.Expr) -> bool:
    """Both traced on the formula's symbols, the difference expands to zero."""
    symbols = {str(s): s for s in formula.free_symbols}
    try:
        difference = traced(original, symbols) - traced(mutant, symbols)
        return difference == 0 or sp.expand(sp.numer(sp.together(difference)), trig=True) == 0
    except (UntraceableError, TypeError, ValueError, AttributeError):
        return False


def count(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """The layer's line in the report; waived mutants are equivalents that a person has reviewed."""
    fates = [o.fate for o in outcomes]
    return {
        "killed": fates.count("killed"),
        "equivalent": fates.count("equivalent") + fates.count("waived"),
        "undecided": fates.count("undecided"),
        "survived": fates.count("survived"),
    }
