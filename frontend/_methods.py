"""Functions bound as methods and operators of `Tensor`: one visible table.

Every in-place method is its function followed by `overwrite`: there is no other definition of `add_`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from vitrify.ir import ops
from vitrify.ir.opdef import ALL, BoundOp, bind

from . import _autograd
from ._arguments import parsed
from ._composite import as_ops
from ._dispatch import apply2, assign, assign_checked, check_writable, native
from ._functions import (
    casting,
    compare,
    creation,
    elementary,
    gathering,
    indexing,
    joining,
    linalg,
    movement,
    pointwise,
    random,
    reductions,
    softmaxes,
)  # fmt: skip
from ._promotion import broadcast_shapes, can_cast, number_beside
from ._tape import Edge, Leaf, Node, RemovableHandle, mode, next_number, no_grad
from ._tensor import Tensor, edge_of, storage_kept

#: Functions of a module that are methods under their own name.
_METHODS: dict[Any, str] = {
    pointwise: """
        add sub mul div floor_divide remainder fmod pow float_power neg abs sign sgn floor ceil trunc round
        frac exp log sin cos tanh erf sqrt rsqrt sigmoid reciprocal square maximum minimum clamp clamp_min
        clamp_max relu lerp addcmul addcdiv positive bitwise_and bitwise_or bitwise_xor bitwise_not
        bitwise_left_shift bitwise_right_shift subtract multiply divide true_divide negative absolute fix
        clip
    """,
    elementary: """
        log2 log10 log1p exp2 expm1 tan asin acos atan atan2 sinh cosh asinh acosh atanh arcsin arccos arctan
        arctan2 arcsinh arccosh arctanh erfc erfinv lgamma digamma mvlgamma hypot logaddexp logaddexp2
        logit xlogy sinc deg2rad rad2deg nan_to_num
    """,
    compare: """
        eq ne lt le gt ge logical_and logical_or logical_xor logical_not isnan isinf isposinf isneginf
        isfinite signbit masked_fill isclose allclose equal greater greater_equal less less_equal not_equal
    """,
    casting: "clone contiguous type_as to cpu cuda type",
    reductions: """
        sum nansum prod mean nanmean var std amax amin aminmax argmax argmin max min any all count_nonzero
        logsumexp norm cumsum
    """,
    movement: """
        reshape view view_as reshape_as flatten ravel unflatten permute transpose t movedim squeeze
        unsqueeze expand expand_as broadcast_to repeat tile repeat_interleave flip fliplr flipud roll rot90
        narrow select diag diagonal diff as_strided unfold moveaxis swapaxes swapdims
    """,
    joining: "split chunk tensor_split unbind",
    linalg: "matmul mm bmm mv dot vdot inner outer addmm addmv addbmm baddbmm addr trace kron",
    indexing: "nonzero argwhere masked_select index_put",
    gathering: """
        gather take_along_dim take index_select scatter scatter_add index_add index_copy index_fill argsort
        sort msort topk kthvalue median unique bincount
    """,
    softmaxes: "softmax log_softmax",
    creation: "new_full new_zeros new_ones new_empty new_tensor tril triu",
    random: "bernoulli multinomial",
}

#: Functions that also have a form which overwrites its first operand, named with a trailing underscore.
_IN_PLACE: dict[Any, str] = {
    pointwise: """
        add sub mul div floor_divide remainder fmod pow neg abs sign floor ceil trunc round frac exp log sin
        cos tanh erf sqrt rsqrt sigmoid reciprocal square clamp clamp_min clamp_max relu lerp addcmul
        addcdiv bitwise_and bitwise_or bitwise_xor bitwise_not subtract multiply divide true_divide negative
        absolute clip
    """,
    elementary: """
        log2 log10 log1p exp2 expm1 tan asin acos atan atan2 sinh cosh asinh acosh atanh arcsin arccos arctan
        arctan2 arcsinh arccosh arctanh erfc erfinv lgamma digamma mvlgamma hypot logit xlogy sinc
        deg2rad rad2deg nan_to_num
    """,
    compare: "eq ne lt le gt ge logical_and logical_or logical_xor logical_not masked_fill",
    reductions: "cumsum",
    linalg: "addmm addmv addbmm baddbmm addr",
    gathering: "scatter scatter_add index_add index_copy index_fill",
    creation: "tril triu",
}


def overwrite(target: Tensor, value: Tensor) -> Tensor:
    """Store an op's result in its first operand: cast to its dtype, broadcast to its shape. Gives target.

    Raises RuntimeError where PyTorch does: a result of a higher category, a shape that is not target's.
    """
    if value._type is target._type:
        return assign_checked(target, value)
    if not can_cast(value._type.dtype, target._type.dtype):
        names = pointwise.TYPE_NAMES
        raise RuntimeError(
            f"result type {names[value.dtype]} can't be cast to the desired output type {names[target.dtype]}"
        )
    shape = target._type.shape
    if value._type.shape != shape and broadcast_shapes(value._type.shape, shape) != shape:
        raise RuntimeError(
            f"output with shape {list(shape)} doesn't match the broadcast shape "
            f"{list(broadcast_shapes(value._type.shape, shape))}"
        )
    return assign_checked(target, movement.expand(casting.cast(value, target._type.dtype), *shape))


def _keep_what_was_saved(target: Tensor, value: Tensor, start: int) -> None:
    """The elements of target are about to go: where a derivative recorded after `start` reads them, keep a
    copy.
    """
    old: Tensor | None = None
    for node in _recorded_since(start, edge_of(value)):
        if not any(storage_kept(x) is target._storage for x in node.saved or ()):
            continue
        if old is None:
            with no_grad():
                old = casting.clone(target)
            old._node = target._node
        node.saved = tuple(old if storage_kept(x) is target._storage else x for x in node.saved or ())
        node.versions = tuple(0 if x is old else v for x, v in zip(node.saved, node.versions, strict=True))


def _recorded_since(start: int, edge: Edge | None) -> Iterator[Node]:
    seen: set[Edge] = set()
    stack = [edge]
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and node.number > start and node not in seen:
            seen.add(node)
            stack.extend(node.edges)
            yield node


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    compute = as_ops(function)

    @functools.wraps(compute)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_writable(self)
        start = next_number()
        value = compute(self, *args, **kwargs)
        if mode.grad and edge_of(value) is not None:
            _keep_what_was_saved(self, value, start)
        return overwrite(self, value)

    method.__name__ = method.__qualname__ = function.__name__ + "_"
    method.__doc__ = f"`{function.__name__}`, overwriting this tensor."
    return method


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite the elements with those of src, cast and broadcast."""
    check_writable(self)
    return assign_checked(self, indexing._value_like(src, self, self._type.shape))


def fill_(self: Tensor, value: Any) -> Tensor:
    """Overwrite every element with one number."""
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(
            f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
        )
    return copy_(self, value)


def zero_(self: Tensor) -> Tensor:
    """Overwrite every element with zero."""
    return copy_(self, 0)


def index_put_(self: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """Overwrite (or add to) the elements at the indices, one tensor per leading dimension."""
    plan = indexing._plan(self._type.shape, indexing._items(tuple(indices)))
    indexing.index_put_(self, plan.advanced, values, accumulate)
    return self


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Overwrite the diagonal with one number."""
    copy_(movement.diagonal(self), fill_value)
    return self


def uniform_(self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwrite with uniform random numbers from `from_` to `to`."""
    drawn = random.rand(*self._type.shape, dtype=self.dtype, generator=generator)
    return _drawn(self, drawn * (to - from_) + from_)


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwrite with normal random numbers."""
    drawn = random.randn(*self._type.shape, dtype=self.dtype, generator=generator)
    return _drawn(self, drawn * std + mean)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Overwrite with ones with probability p, else zeros."""
    drawn = random.rand(*self._type.shape, generator=generator)
    return _drawn(self, casting.cast(drawn < p, self.dtype))


def random_(self: Tensor, from_: int = 0, to: int | None = None, *, generator: Any = None) -> Tensor:
    """Overwrite with random integers from `from_` to `to` - 1; `random_(to)` starts at 0."""
    if to is None:
        from_, to = (0, from_) if from_ else (0, 2**24 if self.is_floating_point() else 2**31)
    return _drawn(self, random.randint(from_, to, self._type.shape, generator=generator, dtype=self.dtype))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwrite with exponentially distributed random numbers."""
    drawn = random.rand(*self._type.shape, dtype=self.dtype, generator=generator)
    return _drawn(self, pointwise.log(1.0 - drawn) * (-1.0 / lambd))


def _drawn(self: Tensor, values: Tensor) -> Tensor:
    return assign(self, values)


def _changing_view(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A movement function that changes the tensor itself to the view that it gives."""

    @functools.wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(edge_of(self), Leaf):
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        shown = function(self, *args, **kwargs)
        self._storage, self._type, self._node = shown._storage, shown._type, shown._node
        return self

    method.__name__ = method.__qualname__ = function.__name__ + "_"
    return method


def backward(
    self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
    create_graph: bool = False, inputs: Any = None,
) -> None:  # fmt: skip
    """Add the gradients of this tensor to the `grad` of the leaves it was computed from.

    gradient: its cotangent; may be left out for a scalar.
    """
    _autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)


def retain_grad(self: Tensor) -> None:
    """Set `grad` in a backward although this is no leaf."""
    import weakref

    edge = edge_of(self)
    if edge is None:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if not isinstance(edge, Leaf):
        edge.retained = weakref.ref(self)


def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook` with the gradient of this tensor in each backward; what it returns, if not None, takes its
    place.
    """
    edge = edge_of(self)
    if edge is None:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    return edge.register_hook(hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `hook` with this leaf each time its `grad` has been added to."""
    edge = edge_of(self)
    if not isinstance(edge, Leaf):
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    if edge.accumulated is None:
        edge.accumulated = {}
    return RemovableHandle(edge.accumulated, hook)


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if self.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(joining.unbind(self, 0))


def _contains(self: Tensor, element: Any) -> bool:
    if isinstance(element, (Tensor, bool, int, float, complex)):
        return bool(compare.eq(self, element).any())
    raise RuntimeError(
        f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}."
    )


def _invert(self: Tensor) -> Tensor:
    if self._type.dtype.kind not in "iub":
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return pointwise.bitwise_not(self)


def _operator(
    function: Callable[[Any, Any], Tensor], reflected: bool = False
) -> Callable[[Tensor, Any], Any]:
    """A binary operator, leaving operands that are neither tensors nor numbers to the other side."""

    def method(self: Tensor, other: Any) -> Any:
        if isinstance(other, _NUMBERS) or hasattr(other, "_traced_scalar"):
            return function(other, self) if reflected else function(self, other)
        if isinstance(other, np.ndarray):
            other = creation.as_tensor(other)
            return function(other, self) if reflected else function(self, other)
        return NotImplemented

    return method


_NUMBERS = (Tensor, bool, int, float, complex, np.generic)


def _direct(op: BoundOp, function: Callable[[Any, Any], Tensor], kinds: str) -> Callable[[Tensor, Any], Any]:
    """An operator that goes straight to dispatch for two tensors of one type, or one and a number beside it.

    kinds: the kinds of dtype for which `function` is just this op.
    """
    general = _operator(function)

    def method(self: Tensor, other: Any) -> Any:
        if self._type.dtype.kind in kinds:
            kind = other.__class__
            if kind is float or kind is int:
                number = number_beside(self._type, other)
                if number is not None:
                    return apply2(op, self, number)
            elif isinstance(other, Tensor) and self._type is other._type:
                return apply2(op, self, other)
        return general(self, other)

    return method


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": pointwise.add, "sub": pointwise.sub, "mul": pointwise.mul, "truediv": pointwise.div,
    "floordiv": pointwise.floor_divide, "mod": pointwise.remainder, "pow": pointwise.pow,
    "and": pointwise.bitwise_and, "or": pointwise.bitwise_or, "xor": pointwise.bitwise_xor,
    "lshift": pointwise.bitwise_left_shift, "rshift": pointwise.bitwise_right_shift, "matmul": linalg.matmul,
}  # fmt: skip
#: Operators that are one op for these kinds of dtype.
_DIRECT = {
    "add": (ops.add, "fiu"), "sub": (ops.sub, "fiu"), "mul": (ops.mul, "fiu"), "truediv": (ops.div, "f"),
    "eq": (ops.eq, "fiub"), "ne": (ops.ne, "fiub"), "lt": (ops.lt, "fiub"), "le": (ops.le, "fiub"),
    "gt": (ops.gt, "fiub"), "ge": (ops.ge, "fiub"),
}  # fmt: skip
#: Methods without arguments that are one op for floating point dtypes.
_ONE_OP = {
    name: ALL[name] for name in "neg abs exp log sin cos tanh erf sqrt rsqrt sigmoid floor ceil trunc".split()
}
#: Methods whose ops follow from types and plain arguments.
_LEARNED = """
    __pow__ __rpow__ __ipow__
    add sub mul div pow maximum minimum clamp clamp_min clamp_max relu square reciprocal sign round lerp
    addcmul addcdiv floor_divide remainder fmod log2 log10 log1p exp2 expm1 tan asin acos atan sinh cosh
    asinh acosh atanh erfc masked_fill eq ne lt le gt ge logical_and logical_or logical_not isnan isinf
    isfinite sum mean amax amin max min prod any all argmax argmin cumsum
    view_as reshape_as flatten unflatten movedim expand expand_as narrow select diagonal swapaxes flip roll
    repeat tile split chunk unbind tril triu softmax log_softmax var std logsumexp norm
    matmul mm bmm mv dot outer addmm baddbmm gather index_select scatter scatter_add index_add
    type_as to float double long int bool contiguous clone detach new_zeros new_ones new_full
    copy_ fill_ zero_ fill_diagonal_ clamp_ clamp_min_ clamp_max_ lerp_ addcmul_ addcdiv_ masked_fill_ pow_
    square_ reciprocal_ round_ sign_ relu_ index_put_ scatter_ scatter_add_ index_add_ index_fill_ fmod_
    remainder_ floor_divide_ logical_not_ addmm_
"""
#: Operators whose ops follow from the types of their operands.
_BETWEEN = "__matmul__ __and__ __or__ __xor__ __floordiv__ __mod__"
#: Methods that write over their tensor what an op gives.
_OVER = {"add": (ops.add, "fiu"), "sub": (ops.sub, "fiu"), "mul": (ops.mul, "fiu"), "div": (ops.div, "f")}
_COMPARISONS = {name: getattr(compare, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


_DEFINED_HERE: tuple[Callable[..., Any], ...] = (
    copy_, fill_, zero_, index_put_, fill_diagonal_, uniform_, normal_, bernoulli_, random_, exponential_,
    backward, retain_grad, register_hook, register_post_accumulate_grad_hook,
)  # fmt: skip


def bind_methods() -> None:
    """Give `Tensor` its methods and operators."""
    for module, names in _METHODS.items():
        for name in names.split():
            setattr(Tensor, name, parsed(getattr(module, name), method=True))
    for module, names in _IN_PLACE.items():
        for name in names.split():
            setattr(Tensor, name + "_", parsed(_in_place(getattr(module, name)), method=True))
    Tensor.requires_grad_ = parsed(Tensor.requires_grad_)  # type: ignore[method-assign]
    for name, function in casting.CONVERSIONS.items():
        setattr(Tensor, name, function)
    for method in _DEFINED_HERE:
        setattr(Tensor, method.__name__, parsed(method))
    for name in ("squeeze", "unsqueeze", "transpose", "t"):
        setattr(Tensor, name + "_", _changing_view(getattr(movement, name)))
    _bind_operators()
    _bind_properties()
    if native is not None:
        _bind_native()


def _bind_native() -> None:
    """Native code in front of the methods that are one op for many types."""
    from . import _learned as learned
    from . import _native_methods as fast

    for name, (opdef, kinds) in _DIRECT.items():
        fast.install(f"__{name}__", "binary", vars(Tensor)[f"__{name}__"], fast.binary(opdef, kinds))
        if f"__r{name}__" in vars(Tensor):
            function = vars(Tensor)[f"__r{name}__"]
            fast.install(f"__r{name}__", "reflected", function, fast.reflected(opdef, kinds))
    for name, opdef in _ONE_OP.items():
        for method in (name, f"__{name}__"):
            if method in vars(Tensor):
                kinds = "fi" if name in ("neg", "abs") else "f"
                fast.install(method, "nullary", vars(Tensor)[method], fast.unary(opdef, kinds))
    fast.install("t", "nullary", movement.t, fast.moving(fast.transposed))
    fast.install("__invert__", "nullary", _invert, fast.unary(ops.bit_not, "iub"))
    for name, kind, resolve in (
        ("reshape", "sizes", fast.reshaped), ("permute", "sizes", fast.permuted),
        ("transpose", "ints", fast.swapped), ("unsqueeze", "ints", fast.unsqueezed),
        ("squeeze", "ints", fast.squeezed), ("view", "sizes", fast.viewed),
    ):  # fmt: skip
        fast.install(name, kind, vars(Tensor)[name], fast.moving(resolve))
    fast.install("__getitem__", "item", indexing.getitem, fast.learn_index)
    fast.install_setting(indexing.setitem)
    fast.install("item", "number", Tensor.item, fast.only("fi"))
    fast.install("__float__", "number", Tensor.__float__, fast.only("f"))
    for name, (opdef, kinds) in _OVER.items():
        learned.install_method(name + "_", vars(Tensor)[name + "_"], "over_pair", fast.binary(opdef, kinds))
    for name in _ONE_OP:
        if name + "_" in vars(Tensor):
            kinds = "fi" if name in ("neg", "abs") else "f"
            method = vars(Tensor)[name + "_"]
            learned.install_method(name + "_", method, "over_one", fast.unary(ALL[name], kinds))
    for name in _LEARNED.split():
        learned.install_method(name, vars(Tensor)[name])
    for name in ("T", "mT"):
        kept = vars(Tensor)[name]
        learned.install_property(name, kept.fget, kept.__doc__)
    for name in _BETWEEN.split():
        fast.install(name, "binary", vars(Tensor)[name], fast.no_rows)
    for name, (opdef, kinds) in _OVER.items():
        method = f"__i{'truediv' if name == 'div' else name}__"
        fast.install(method, "over_binary", vars(Tensor)[method], fast.binary(opdef, kinds))


def _bind_operators() -> None:
    for name, function in _OPERATORS.items():
        setattr(Tensor, f"__{name}__", _forward(name, function))
        setattr(Tensor, f"__r{name}__", _operator(function, reflected=True))
        if name != "matmul":
            setattr(Tensor, f"__i{name}__", _in_place(function))
    for name, function in _COMPARISONS.items():
        setattr(Tensor, f"__{name}__", _forward(name, function))
    unary = {"neg": pointwise.neg, "pos": pointwise.positive, "abs": pointwise.abs, "invert": _invert}
    special = {
        "iter": _iterate,
        "contains": _contains,
        "getitem": indexing.getitem,
        "setitem": indexing.setitem,
    }
    for name, method in {**unary, **special}.items():
        setattr(Tensor, f"__{name}__", method)


def _forward(name: str, function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Any]:
    if name not in _DIRECT:
        return _operator(function)
    opdef, kinds = _DIRECT[name]
    return _direct(bind(opdef), function, kinds)


def _bind_properties() -> None:
    properties = {
        "T": (movement.numpy_T, "The dimensions in reverse order."),
        "mT": (movement.mT, "The last two dimensions exchanged."),
    }
    for name, (function, doc) in properties.items():
        setattr(Tensor, name, property(function, doc=doc))
    setattr(Tensor, "__array_priority__", 1000)  # noqa: B010 - numpy asks for it by this name


bind_methods()
