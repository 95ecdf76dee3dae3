r"""A running bound on the rounding error of torch code, accumulated over the operations that actually ran.

Every float tensor x̂ carries e with |x̂ - x| <= e, where x is what exact arithmetic would have given for the same
inputs. An operation y = f(x_1, ..., x_k), computed as ŷ = fl(f(x̂_1, ..., x̂_k)), adds two errors:

    |ŷ - y|  <=  sup { |f(x̂ + d) - f(x̂)| : |d_i| <= e_i }   +   c u |ŷ|  +  tiny

the first from the arguments, the second from the operation itself: u = eps/2 is the unit roundoff of the result's
dtype, c the operation's error in units of u (1 for + - * / sqrt, which IEEE 754 rounds correctly; the stated 1 ulp =
2 u of the vector maths library for exp, log, sin, ...), and tiny its smallest normal number (underflow). The first term
is bounded for each operation by a closed form, second order included: |a| e_b + |b| e_a + e_a e_b for a product,
e^x̂ expm1(e) for an exponential. (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2, 3.3.)

Python floats that are not short binary fractions (0.1, math.pi) count as rounded once in float64 and once more in the
dtype they meet. Comparisons are taken as decided: the bound holds on the branch that ran. An operation without a rule
is refused by name. Backward operations are operations too, so the bound of a gradient comes in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Operand:
    """A value and the bound on its error, both float64; `x` is what the machine holds, not the exact value."""

    x: Array
    e: Array


def _relative(x: Operand) -> Array:
    """e / |x|, 0 where both vanish."""
    return np.divide(x.e, np.abs(x.x), out=np.where(x.e == 0, 0.0, np.inf), where=x.x != 0)


def _log_slack(r: Array) -> Array:
    """-log(1 - r): how far log x moves when x moves by the fraction r; infinite once x may reach 0."""
    return np.where(r < 1, -np.log1p(-np.minimum(r, 1.0)), np.inf)


def _safe(product: Array) -> Array:
    """0 * inf is 0 here: a factor that is exactly zero passes no error on."""
    return np.nan_to_num(product, nan=0.0, posinf=np.inf)


def _product(a: Operand, b: Operand) -> Array:
    return _safe(np.abs(a.x) * b.e) + _safe(np.abs(b.x) * a.e) + _safe(a.e * b.e)


def _quotient(a: Operand, b: Operand) -> Array:
    room = np.abs(b.x) - b.e
    return np.where(room > 0, (a.e + _safe(np.abs(a.x / b.x) * b.e)) / np.where(room > 0, room, 1.0), np.inf)


def _power(a: Operand, p: Operand) -> Array:
    """|x|^p moves by the factor (1 ± r)^p; an inexact exponent adds the factor |x|^(± e_p)."""
    r = _relative(a)
    steps = np.where(p.x >= 0, np.where(p.x <= 1, _log_slack(r), np.log1p(r)), _log_slack(r))
    logs = _safe(np.abs(p.x) * steps)
    logs = logs + np.where(p.e == 0, 0.0, _safe(p.e * (np.abs(np.log(np.abs(a.x))) + _log_slack(r))))
    spread = _safe(np.abs(a.x) ** p.x * np.expm1(logs))
    return np.where((a.x == 0) & (p.x > 0), a.e**p.x, spread)  # at 0 the power of the error itself


def _sqrt(a: Operand) -> Array:
    return np.where(a.e == 0, 0.0, a.e / (np.sqrt(np.abs(a.x)) + np.sqrt(np.maximum(np.abs(a.x) - a.e, 0.0))))


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def _sigmoid_backward(g: Operand, y: Operand) -> Array:
    return g.e * y.x * (1 - y.x) + np.abs(g.x) * y.e * (1 + y.e)


def _tanh_backward(g: Operand, y: Operand) -> Array:
    return g.e * (1 - y.x**2 + 1e-15) + np.abs(g.x) * (2 * np.abs(y.x) * y.e + y.e**2)


def _erfcx(x: Array) -> Array:
    return torch.special.erfcx(torch.from_numpy(x)).numpy()


def _log_hazard(x: Array) -> Array:
    """log of d/dx log Phi(x) = phi(x) / Phi(x), which falls with x."""
    return -(x**2) / 2 - 0.5 * math.log(2 * math.pi) - torch.special.log_ndtr(torch.from_numpy(x)).numpy()


# How an argument's error passes through: closed-form bounds on sup |f(x̂ + d) - f(x̂)|.
THROUGH: dict[str, Callable[..., Array]] = {
    "add": lambda a, b: a.e + b.e,
    "sub": lambda a, b: a.e + b.e,
    "rsub": lambda a, b: a.e + b.e,
    "mul": _product,
    "div": _quotient,
    "reciprocal": lambda a: _quotient(Operand(np.ones_like(a.x), np.zeros_like(a.e)), a),
    "pow": _power,
    "sqrt": _sqrt,
    "rsqrt": lambda a: _safe(np.abs(a.x) ** -0.5 * np.expm1(0.5 * _log_slack(_relative(a)))),
    "exp": lambda a: np.exp(a.x) * np.expm1(a.e),
    "exp2": lambda a: np.exp2(a.x) * np.expm1(a.e),
    "expm1": lambda a: np.exp(a.x) * np.expm1(a.e),
    "log": lambda a: _log_slack(_relative(a)),
    "log2": lambda a: _log_slack(_relative(a)) / math.log(2),
    "log10": lambda a: _log_slack(_relative(a)) / math.log(10),
    "log1p": lambda a: _log_slack(_relative(Operand(1 + a.x, a.e))),
    "sin": lambda a: np.abs(np.cos(a.x)) * a.e + a.e**2 / 2,
    "cos": lambda a: np.abs(np.sin(a.x)) * a.e + a.e**2 / 2,
    "tan": lambda a: a.e / np.maximum(np.abs(np.cos(a.x)) - a.e, 0.0) ** 2,
    "atan": lambda a: a.e / (1 + np.maximum(np.abs(a.x) - a.e, 0.0) ** 2),
    "asinh": lambda a: a.e / np.hypot(1, np.maximum(np.abs(a.x) - a.e, 0.0)),
    "sinh": lambda a: np.cosh(a.x) * np.expm1(a.e),
    "cosh": lambda a: np.cosh(a.x) * np.expm1(a.e),
    "tanh": lambda a: (1 - np.tanh(np.maximum(np.abs(a.x) - a.e, 0.0)) ** 2) * a.e,
    "sigmoid": lambda a: _sigmoid(a.x) * _sigmoid(-a.x) * np.expm1(a.e),
    "log_sigmoid_forward": lambda a: _sigmoid(-a.x) * np.expm1(a.e),
    "softplus": lambda a: _sigmoid(a.x) * np.expm1(a.e),
    "erf": lambda a: 2 / math.sqrt(math.pi) * np.exp(-(np.maximum(np.abs(a.x) - a.e, 0.0) ** 2)) * a.e,
    "special_erfcx": lambda a: _erfcx(a.x) * np.expm1(a.e * (1.13 + 2 * np.maximum(a.e - a.x, 0.0))),
    "special_log_ndtr": lambda a: a.e * np.exp(_log_hazard(a.x - a.e)),
    "special_xlog1py": lambda a, b: _product(a, Operand(np.log1p(b.x), THROUGH["log1p"](b))),
    "hypot": lambda a, b: np.hypot(a.e, b.e),
    "maximum": lambda a, b: np.maximum(a.e, b.e),
    "minimum": lambda a, b: np.maximum(a.e, b.e),
    "sigmoid_backward": _sigmoid_backward,
    "tanh_backward": _tanh_backward,
}

# The error of the operation itself, in units of u times the size of its result. Below one ulp (2 u) for the vector
# maths library; sums of several roundings for the composed kernels.
OWN: dict[str, float] = dict.fromkeys(THROUGH, 2.0) | {
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div", "reciprocal", "sqrt"), 1.0),
    **dict.fromkeys(("maximum", "minimum"), 0.0),
    **dict.fromkeys(("rsqrt", "log_sigmoid_forward", "softplus"), 4.0),
    **dict.fromkeys(("sigmoid", "sigmoid_backward", "tanh_backward"), 6.0),
    **dict.fromkeys(("special_erfcx", "special_log_ndtr"), 16.0),
}

# Operations that move, choose or sign values: the error moves with the value.
MOVES = frozenset((
    "view", "_unsafe_view", "reshape", "expand", "unsqueeze", "squeeze", "index", "select", "slice", "cat", "stack",
    "clone", "detach", "permute", "transpose", "t", "alias", "unbind", "split", "flip", "where", "gather", "repeat",
    "lift_fresh_copy", "masked_fill",
))  # fmt: skip
KEEPS = frozenset({"abs", "neg", "clamp", "clamp_min", "clamp_max", "relu"})  # |f(x) - f(y)| <= |x - y|, no rounding
EXACT = frozenset((
    "ones_like", "zeros_like", "new_zeros", "new_ones", "ones", "zeros", "empty", "empty_like", "sign", "sgn", "arange",
    "isfinite", "isnan", "isinf", "all", "any", "gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or",
    "logical_not", "bitwise_and", "bitwise_or", "bitwise_not", "is_same_size", "equal", "_local_scalar_dense",
))  # fmt: skip
CONSTANTS = frozenset({"lift_fresh", "scalar_tensor", "full", "full_like", "fill"})


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = eps / 2, the largest relative error of one rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def _is_short(x: Array) -> NDArray[np.bool_]:
    """Integers and short binary fractions (0.5, 0.375): constants that no rounding touched."""
    return np.asarray(np.mod(x * 1024.0, 1.0) == 0)


class RunningBound(TorchDispatchMode):
    """Within this context every float operation is followed by its error bound; `of(tensor)` reads it.

    Inputs are exact unless `given(tensor, bound)` says otherwise. float32 and float64 on the CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[tuple, tuple[Tensor, Tensor]] = {}  # the tensor is kept so that its storage is not used again

    @staticmethod
    def _key(x: Tensor) -> tuple:
        return (x.untyped_storage()._cdata, x.storage_offset(), tuple(x.shape), x.stride(), x.dtype)

    def given(self, x: Tensor, bound: Tensor) -> None:
        """Declare |x - exact| <= bound (float64, same shape)."""
        self._held[self._key(x)] = (x, bound)

    def of(self, x: Tensor) -> Tensor:
        """The bound of a tensor that came out of this context, float64; 0 for one that did not."""
        held = self._held.get(self._key(x))
        return held[1] if held is not None else torch.zeros(x.shape, dtype=torch.float64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place:  # the old value is overwritten by the call, the rule needs it
            name, written, args = name[:-1], args[0], (args[0].clone(), *args[1:])
            self.given(args[0], self.of(written))
        out = func(written, *args[1:], **kwargs) if in_place else func(*args, **kwargs)
        floats = [y for y in tree_leaves(out) if isinstance(y, Tensor) and y.dtype.is_floating_point]
        if floats:
            with np.errstate(all="ignore"):
                for y, bound in zip(floats, self._bounds(name, func, args, kwargs, floats), strict=True):
                    self.given(y, bound)
        return out

    def _operand(self, a: Any, dtype: torch.dtype) -> Operand:
        """An argument as value and bound; one more rounding where it is cast down to the dtype of the result."""
        u = unit_roundoff(dtype)
        if isinstance(a, Tensor):
            x, e = a.detach().double().numpy(), self.of(a).numpy()
            narrows = a.dtype.is_floating_point and torch.finfo(a.dtype).eps < 2 * u
            return Operand(x, e + u * np.abs(x)) if narrows else Operand(x, e)
        x = np.asarray(float(a))
        return Operand(x, np.where(_is_short(x), 0.0, np.abs(x) * max(u, 2.0**-53)))

    def _bounds(self, name: str, func: Any, args: Any, kwargs: Any, out: list[Tensor]) -> Sequence[Tensor]:
        if name in EXACT:
            return [torch.zeros(y.shape, dtype=torch.float64) for y in out]
        if name in MOVES:
            moved = func(*tree_map(self._moved, args), **tree_map(self._moved, kwargs))
            return [y.double() for y in tree_leaves(moved) if isinstance(y, Tensor)]
        if name == "masked_fill":
            return [self.of(args[0]).masked_fill(args[1], 0.0)]
        dtype, u, tiny = out[0].dtype, unit_roundoff(out[0].dtype), torch.finfo(out[0].dtype).tiny
        y = out[0].detach().double().numpy()
        if name in CONSTANTS:
            e = np.where(_is_short(y), 0.0, u * np.abs(y))
        elif name == "_to_copy":
            e = self._operand(args[0], dtype).e
        elif name in KEEPS:
            e = np.broadcast_to(self._operand(args[0], dtype).e, y.shape)
        elif name in SUMS:
            e = SUMS[name](self._operand(args[0], dtype), u, args[1:], kwargs)
        elif name in THROUGH:
            operands = [self._operand(a, dtype) for a in args if isinstance(a, Tensor | float | int)][: _arity(name)]
            e = THROUGH[name](*_scaled(name, operands, args, kwargs, u)) * (1 + 2.0**-40)
            e = e + OWN[name] * u * np.abs(y) + (0.0 if name in ("add", "sub", "rsub") else tiny)
        else:
            raise NotImplementedError(
                f"aten.{name} has no rounding rule: add one to verify/rounding.py, or write the function without it"
            )
        return [torch.from_numpy(np.array(np.broadcast_to(e, y.shape))) for _ in out]

    def _moved(self, a: Any) -> Any:
        """A float tensor's bound in its place; a bare number in the place of a value has none."""
        return self.of(a) if isinstance(a, Tensor) and a.dtype.is_floating_point else a


def _arity(name: str) -> int:
    return THROUGH[name].__code__.co_argcount


def _scaled(name: str, operands: list[Operand], args: Any, kwargs: Any, u: float) -> list[Operand]:
    """`add(a, b, alpha=c)` multiplies before it adds: the product is an operand with its own rounding."""
    scale = kwargs.get("alpha", args[2] if name in ("add", "sub", "rsub") and len(args) > 2 else 1)
    if scale in (1, -1):
        return operands
    scaled = 0 if name == "rsub" else 1
    a = operands[scaled]
    operands[scaled] = Operand(a.x * scale, abs(scale) * a.e + 2 * u * np.abs(scale * a.x))
    return operands


def _axes(args: Sequence[Any], kwargs: Any) -> dict[str, Any]:
    axis = args[0] if args else kwargs.get("dim")
    axis = tuple(axis) if isinstance(axis, list | tuple) and axis else axis if isinstance(axis, int) else None
    return {"axis": axis, "keepdims": (args[1] if len(args) > 1 else kwargs.get("keepdim", False))}


def _sum(a: Operand, u: float, args: Sequence[Any], kwargs: Any) -> Array:
    """Any order of n - 1 additions: (n - 1) u times the sum of the magnitudes (Higham, eq. 4.4)."""
    how = _axes(args, kwargs)
    total = np.sum(a.e, **how)
    n = a.x.size / max(np.size(total), 1)
    return total + n * u * (1 + n * u) * np.sum(np.abs(a.x) + a.e, **how)


def _mean(a: Operand, u: float, args: Sequence[Any], kwargs: Any) -> Array:
    total = _sum(a, u, args, kwargs)
    how = _axes(args, kwargs)
    n = a.x.size / max(np.size(total), 1)
    return total / n + 2 * u * np.abs(np.mean(a.x, **how))


def _cumsum(a: Operand, u: float, args: Sequence[Any], kwargs: Any) -> Array:
    n = a.x.shape[args[0]]
    return np.cumsum(a.e, axis=args[0]) + n * u * (1 + n * u) * np.cumsum(np.abs(a.x) + a.e, axis=args[0])


def _cumprod(a: Operand, u: float, args: Sequence[Any], kwargs: Any) -> Array:
    """Relative errors multiply: the log of each factor moves by at most -log(1 - r), each product by u more."""
    moved = np.cumsum(_log_slack(_relative(a)) + u * (1 + 2 * u), axis=args[0])
    return np.abs(np.cumprod(a.x, axis=args[0])) * np.expm1(moved) * (1 + 2.0**-40)


SUMS: dict[str, Callable[[Operand, float, Sequence[Any], Any], Array]] = {
    "sum": _sum,
    "mean": _mean,
    "cumsum": _cumsum,
    "cumprod": _cumprod,
}
