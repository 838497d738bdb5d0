"""The arguments of public functions, as PyTorch's parser takes them.

`parsed` goes in front of what is public: it knows NumPy's names of arguments (`axis`, `keepdims`, `x`),
`out=`, integers in tensors of one element, Python's types as dtypes; and what does not fit a parameter's
annotation is a TypeError. A call whose classes of arguments (and of elements of lists) came before is checked
no more, unless it fails.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, Final

import numpy as np
from vitrify.ir.dtypes import DType
from vitrify.ir.errors import IRError

from ._dispatch import assign
from ._functions.casting import PYTHON_TYPES
from ._promotion import as_operand, can_cast
from ._tape import mode
from ._tensor import Tensor

#: Combinations of classes remembered per function.
MOST_SEEN: Final = 256
#: NumPy's names, where a function has a parameter with PyTorch's.
_NAMES: Final = {
    "axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other",
}  # fmt: skip
_LARGEST_INT: Final = 2**63
#: Options of creation functions that ask for what is so anyway.
_WITHOUT_EFFECT: Final = frozenset({"layout", "pin_memory", "memory_format"})
#: Functions that write their result to `out`, if they are given one.
_WITH_OUT: Final = frozenset(
    """
    abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr all amax amin aminmax any arange
    arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin asin asinh atan atan2
    atanh baddbmm bernoulli bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
    bitwise_xor bmm cat ceil clamp clamp_max clamp_min clip concat concatenate cos cosh cumsum deg2rad
    diag diff digamma div divide dot empty eq erf erfc erfinv exp exp2 expm1 eye fix float_power floor
    floor_divide fmod frac full gather ge greater greater_equal gt hstack hypot index_add index_copy
    index_select inner isneginf isposinf kron kthvalue le lerp less less_equal lgamma linspace log log10
    log1p log2 log_softmax logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit
    logspace logsumexp lt masked_select matmul max maximum mean min minimum mm msort mul multinomial
    multiply mv mvlgamma nan_to_num nanmean nansum ne neg negative nonzero norm normal not_equal ones
    outer polygamma pow prod rad2deg rand randint randn randperm reciprocal remainder round rsqrt
    scatter scatter_add sgn sigmoid sign signbit sin sinc sinh softmax sort sqrt square stack std sub
    subtract sum take take_along_dim tan tanh tensordot topk tril triu true_divide trunc var vdot vstack
    where xlogy zeros
    """.split()
)


def parsed(function: Callable[..., Any], *, method: bool = False) -> Callable[..., Any]:
    """The function with its arguments parsed. Raises TypeError for one that its annotation excludes. method:
    methods take no `out`."""
    with_out = function.__name__ in _WITH_OUT and not method
    seen: set[Any] = set()
    schema = functools.cache(lambda: _Schema(function))

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        kinds: Any = tuple([x.__class__ for x in args])
        if kwargs:
            kinds = (*kinds, *kwargs, *[x.__class__ for x in kwargs.values()])
        if tuple in kinds or list in kinds:
            rows = [x for x in (*args, *kwargs.values()) if x.__class__ is tuple or x.__class__ is list]
            kinds = (*kinds, *[tuple([x.__class__ for x in row]) for row in rows])
        if kinds not in seen:
            if with_out and "out" in kwargs:
                return _written(kwargs.pop("out"), called(*args, **kwargs))
            fitted, named = schema().fitted(args, kwargs)
            if fitted is args and named is kwargs:
                _remember(seen, kinds)
            args, kwargs = fitted, named
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if (better := schema().error(args, kwargs, error)) is not None:
                raise better from None
            raise

    return called


def _remember(seen: set[Any], kinds: Any) -> None:
    if len(seen) >= MOST_SEEN:
        seen.clear()
    seen.add(kinds)


class _Schema:
    """The parameters of a function. kinds: by name, the parts of the annotation."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = function.__name__
        self.positional: list[str] = []
        self.more, self.kinds_of_more = "", ["Any"]
        self.kinds: dict[str, list[str]] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.POSITIONAL_ONLY):
                self.positional.append(name)
            kinds = [part.strip() for part in str(parameter.annotation).split("|")]
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.more, self.kinds_of_more = name, kinds
            else:  # options are those of a creation function
                self.kinds[name if parameter.kind is not parameter.VAR_KEYWORD else "device"] = kinds

    def fitted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function takes them; the very same where they were so already."""
        if any(name not in self.kinds for name in kwargs):
            kwargs = {self._own_name(name): value for name, value in kwargs.items() if self._counts(name)}
        values = [self._fitted(name, x) for name, x in zip(self.positional, args, strict=False)]
        named = {name: self._fitted(name, x) for name, x in kwargs.items()}
        for x in args[len(values) :]:
            if "Any" not in self.kinds_of_more and not any(_fits(x, kind) for kind in self.kinds_of_more):
                raise self.refusal(self.more, x)
        if any(x is not y for x, y in zip(values, args, strict=False)):
            args = (*values, *args[len(values) :])
        if any(named[name] is not kwargs[name] for name in kwargs):
            kwargs = named
        return args, kwargs

    def _counts(self, name: str) -> bool:
        """Whether an option means something here: PyTorch's creation functions take some that do not."""
        return name in self.kinds or name not in _WITHOUT_EFFECT or "device" not in self.kinds

    def _own_name(self, name: str) -> str:
        return _NAMES[name] if name not in self.kinds and _NAMES.get(name) in self.kinds else name

    def _fitted(self, name: str, x: Any) -> Any:
        kinds = self.kinds.get(name)
        if kinds is None or "Any" in kinds:
            return x
        if "DType" in kinds and x.__class__ is type and x in PYTHON_TYPES:
            return PYTHON_TYPES[x]
        if ("int" in kinds or "Dims" in kinds) and "Tensor" not in kinds and _is_index(x):
            return x.__index__()
        if not any(_fits(x, kind) for kind in kinds):
            raise self.refusal(name, x)
        return x

    def refusal(self, name: str, x: Any) -> TypeError:
        """What is raised for an argument of another type."""
        kind = " or ".join(k for k in self.kinds.get(name, self.kinds_of_more) if k != "None")
        return TypeError(f"{self.name}(): argument '{name}' must be {kind}, not {type(x).__name__}")

    def error(self, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> Exception | None:
        """What PyTorch raises where the function raised `error`, if it is something else."""
        given = {**dict(zip(self.positional, args, strict=False)), **kwargs}
        for name, x in given.items() if isinstance(error, (IndexError, OverflowError)) else ():
            kinds = self.kinds.get(name, ())
            if (
                x.__class__ is int
                and not -_LARGEST_INT <= x < _LARGEST_INT
                and ("int" in kinds or "Dims" in kinds)
            ):
                return ValueError(f"{self.name}(): argument '{name}': Overflow when unpacking long")
        if isinstance(error, np.exceptions.AxisError):
            return IndexError(str(error))
        return RuntimeError(f"{self.name}(): {error}") if isinstance(error, IRError) else None


def _is_index(x: Any) -> bool:
    """Whether x is an integer, but no Python int."""
    if isinstance(x, Tensor):
        return x._type.numel == 1 and not x._type.shape and x._type.dtype.is_integer
    return isinstance(x, np.integer)


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float, np.number)) or hasattr(x, "_traced_scalar")


def _is_int(x: Any) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool) or _is_index(x)


def _fits(x: Any, kind: str) -> bool:
    """Whether a value fits a part of an annotation."""
    if kind == "None":
        return x is None
    test = _TESTS.get(kind)
    if test is not None:
        return test(x)
    if kind == "Dims":
        return x is None or _is_int(x) or _is_row(x, _is_int)
    if kind in ("Sequence[int]", "tuple[int, ...]"):
        return _is_row(x, _is_int)
    return kind != "Sequence[Tensor]" or _is_row(x, _TESTS["Tensor"])


def _is_row(x: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(x, (tuple, list)) and all(map(test, x))


_TESTS: Final[dict[str, Callable[[Any], bool]]] = {
    "Tensor": lambda x: isinstance(x, Tensor),
    "int": _is_int,
    "float": lambda x: _is_number(x) or isinstance(x, Tensor) and not x._type.shape,
    "Number": lambda x: (
        _is_number(x) or isinstance(x, complex) or isinstance(x, Tensor) and not x._type.shape
    ),
    "bool": lambda x: isinstance(x, (bool, np.bool_)),
    "str": lambda x: isinstance(x, str),
    "DType": lambda x: isinstance(x, DType),
}


def _written(out: Any, result: Any) -> Any:
    """Store a result in the tensor (or tensors) given as `out`, which takes its shape; gives `out`."""
    if out is None:
        return result
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"argument 'out' must be tuple of Tensors, not {type(out).__name__}")
        return type(result)(*map(_written, out, result)) if hasattr(result, "_fields") else out
    if not isinstance(out, Tensor):
        raise TypeError(f"argument 'out' must be Tensor, not {type(out).__name__}")
    _check_out(out, result)
    if out._type.shape != result._type.shape:
        out.data = as_operand(result, out.dtype, result._type.shape).clone()
        return out
    with_dtype: Tensor = as_operand(result, out.dtype, out._type.shape)
    return assign(out, with_dtype)


def _check_out(out: Tensor, result: Tensor) -> None:
    if mode.grad and (out.requires_grad or result.requires_grad):
        raise RuntimeError(
            "functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )
    if not can_cast(result.dtype, out.dtype):
        raise RuntimeError(f"result type {result.dtype} can't be cast to the desired output type {out.dtype}")


def parse_all(namespace: dict[str, Any], *modules: ModuleType) -> None:
    """Put `parsed` in front of the public functions of a namespace, or of those that it has from modules."""
    for name, function in list(namespace.items()):
        ours = not modules or any(vars(module).get(name) is function for module in modules)
        if isinstance(function, FunctionType) and not name.startswith("_") and ours:
            namespace[name] = parsed(function)
