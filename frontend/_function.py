"""User-defined differentiable functions: `autograd.Function`, with PyTorch's `ctx`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from vitrify.ir.builder import sum_to
from vitrify.tracer.calls import follow
from vitrify.tracer.capture import current

from . import _dispatch
from ._autograd import FREED, written_over
from ._dispatch import build
from ._tape import Edge, MultiNode, OutputOf, is_grad_enabled, no_grad
from ._tensor import Tensor, alias, edge_of, version_of


class FunctionCtx:
    """What a `Function` keeps between forward and backward; any attribute may be set on it."""

    needs_input_grad: tuple[bool, ...] = ()
    materialize_grads = True

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] | None = ()
        self._saved_as: list[tuple[Tensor | None, int, Edge | None]] | None = []
        self._dirty: tuple[Tensor, ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        #: Makes a node for a context like this one, and edges.
        self._node: Callable[[FunctionCtx, tuple[Edge | None, ...]], MultiNode] | None = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs for the backward, guarded against in-place changes."""
        self._saved = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs were changed in place; they must be among the outputs."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether the backward gets zeros (the default) or None for outputs that nothing depends on."""
        self.materialize_grads = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`. Raises RuntimeError if one was changed, or all
        were freed."""
        if self._saved_as is None:
            raise RuntimeError(FREED)
        return tuple(_unpacked(*entry) for entry in self._saved_as)

    def _settle(self, outputs: list[Tensor]) -> None:
        """After forward: remember versions; an output is kept apart from its node, which would make
        a cycle, and what needs no saving is not kept at all."""
        self._saved_as = []
        for x in self._saved or ():
            edge = None if x is None else edge_of(x)
            kept = x if x is None or not any(x is y for y in outputs) else alias(x)
            self._saved_as.append((kept, 0 if x is None else version_of(x), edge))
        self._saved = None
        self._dirty = self._constant = ()


def _unpacked(x: Tensor | None, version: int, edge: Edge | None) -> Tensor | None:
    if x is None:
        return None
    if (now := version_of(x)) != version:
        raise RuntimeError(written_over(x, edge, now, version))
    return x if x._node is edge else alias(x, edge)


class Function:
    """A differentiable function given by `forward` and `backward`.

    >>> class Square(vitrify.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, ct):
    ...         (x,) = ctx.saved_tensors
    ...         return 2 * x * ct
    >>> Square.apply(vitrify.tensor(3.0, requires_grad=True))
    tensor(9., grad_fn=<SquareBackward>)
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs: (ctx, *inputs), or (*inputs) where `setup_context` is defined."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> Any:
        """Keep what the backward needs."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        """Give the cotangent of each input from those of the outputs."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use "
            "it with "
            "backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward and put one node on the tape."""
        ctx = FunctionCtx()
        if (capture := current()) is not None:
            capture.made(ctx)
        edges = tuple(edge_of(a) if isinstance(a, Tensor) else None for a in args)
        ctx.needs_input_grad = tuple(e is not None for e in edges)
        recording = is_grad_enabled() and any(ctx.needs_input_grad)
        with no_grad():
            result = _forward(cls, ctx, args, kwargs)
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        made = [_output(ctx, y, args) for y in outputs]
        if recording:
            _record(cls, ctx, edges, args, made)
        ctx._saved = tuple(_replaced(x, outputs, made) for x in ctx._saved or ())
        ctx._settle([y for y in made if isinstance(y, Tensor)])
        return tuple(made) if isinstance(result, (tuple, list)) else made[0]


def _forward(cls: type[Function], ctx: FunctionCtx, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if cls.setup_context is Function.setup_context:
        return follow(cls.forward)(ctx, *args, **kwargs)
    result = follow(cls.forward)(*args, **kwargs)
    follow(cls.setup_context)(ctx, args, result)
    return result


def _among(x: Any, items: Any) -> bool:
    return any(x is item for item in items)


def _output(ctx: FunctionCtx, y: Any, inputs: tuple[Any, ...]) -> Any:
    """The tensor to return for what forward gave: an input that was not changed is returned as
    another tensor."""
    if not isinstance(y, Tensor) or _among(y, ctx._dirty):
        return y
    return alias(y) if _among(y, inputs) or edge_of(y) is not None else y


def _replaced(x: Any, before: list[Any], after: list[Any]) -> Any:
    return next((new for old, new in zip(before, after, strict=True) if old is x), x)


def _record(
    cls: type[Function],
    ctx: FunctionCtx,
    edges: tuple[Edge | None, ...],
    args: tuple[Any, ...],
    outputs: list[Any],
) -> None:
    types = [y._type if isinstance(y, Tensor) else None for y in outputs]
    shapes = [a._type if isinstance(a, Tensor) else None for a in args]
    ctx._node = functools.partial(_node, cls, types, shapes)
    node = ctx._node(ctx, edges)
    for i, y in enumerate(outputs):
        if isinstance(y, Tensor) and y.is_floating_point() and not _among(y, ctx._constant):
            y._node = OutputOf(node, i)


def _node(
    cls: type[Function], types: list[Any], shapes: list[Any], ctx: FunctionCtx, edges: tuple[Edge | None, ...]
) -> MultiNode:
    """The node of one application. types, shapes: of the outputs and of the arguments, where they are
    tensors."""

    def cotangents(given: list[Tensor | None], keep: bool) -> list[Tensor | None]:
        filled = [_filled(ctx, g, t) for g, t in zip(given, types, strict=True)]
        result = follow(cls.backward)(ctx, *filled)
        if not keep and ctx._saved_as:
            ctx._saved_as = None
        return _checked(cls.__name__ + "Backward", result, shapes, edges)

    return MultiNode(edges, len(types), cotangents, cls.__name__ + "Backward", context=ctx)


def _filled(ctx: FunctionCtx, ct: Tensor | None, type: Any) -> Tensor | None:
    if ct is not None or type is None or not ctx.materialize_grads:
        return ct
    with no_grad():
        return _dispatch.full(0, type.dtype, type.shape)


def _checked(name: str, result: Any, types: list[Any], edges: tuple[Edge | None, ...]) -> list[Tensor | None]:
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    while len(found) > len(types) and found[-1] is None:
        found.pop()
    if len(found) != len(types):
        raise RuntimeError(
            f"function {name} returned an incorrect number of gradients (expected {len(types)}, got "
            f"{len(found)})"
        )
    for i, (g, type, edge) in enumerate(zip(found, types, edges, strict=True)):
        if edge is None or g is None:
            found[i] = None
        elif not isinstance(g, Tensor):
            raise RuntimeError(f"expected Variable or None (got {g.__class__.__name__})")
        else:
            found[i] = _fitted(name, i, g, type)
    return found


def _fitted(name: str, i: int, g: Tensor, type: Any) -> Tensor:
    lead = len(g._type.shape) - len(type.shape)
    expandable = lead >= 0 and all(m in (1, n) for n, m in zip(g._type.shape[lead:], type.shape, strict=True))
    if not expandable:
        raise RuntimeError(
            f"Function {name} returned an invalid gradient at index {i} - got {list(g.shape)} but expected "
            "shape "
            f"compatible with {list(type.shape)}"
        )
    g = sum_to(build, g, type.shape)
    return g if g._type.dtype is type.dtype else build(_dispatch.ops.cast, g, dtype=type.dtype)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `backward` whose result can't be differentiated again: trying raises RuntimeError."""

    @functools.wraps(backward)
    def wrapped(ctx: FunctionCtx, *cotangents: Tensor | None) -> Any:
        with no_grad():
            result = backward(ctx, *cotangents)
        if not is_grad_enabled() or not any(isinstance(c, Tensor) and c.requires_grad for c in cotangents):
            return result
        items = result if isinstance(result, tuple) else (result,)
        refused = tuple(_refusing(g) if isinstance(g, Tensor) else g for g in items)
        return refused if isinstance(result, tuple) else refused[0]

    return wrapped


def _refusing(g: Tensor) -> Tensor:
    def refuse(*_: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )

    made = alias(g)
    node = MultiNode((), 1, refuse, "Error")
    made._node = OutputOf(node, 0)
    return made
