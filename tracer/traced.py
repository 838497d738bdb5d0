"""Tensors in a trace: traced storages and the traced values (views) on them.

A `TracedStorage` holds the current contents of one storage as a value of the graph. A `TracedValue` is a view
of it: a chain of steps (slice, reshape, permute, ...) from the storage's root. Reading a view applies the
steps to the current contents, remembered per version; writing one applies their inverses, from the view up to
the root, or writes it into a row-major view further up by its strides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..ir import ops
from ..ir.graph import Value
from ..ir.opdef import BoundOp, OpDef, bind
from ..ir.strided import StridedType

if TYPE_CHECKING:
    from .recorder import Recorder

#: A handle on memory, as the runtime makes them; opaque here.
Storage = Any
Emit = Callable[..., Value]


class TracedStorage:
    """The contents of one storage while it is traced.

    number: its name in the recorder's log. current: contents of the root, row-major. version: writes
    recorded. origin: the memory it stands for, if it comes from outside, and how often that was written to.
    concrete: the memory made for it by a run.
    """

    __slots__ = ("number", "current", "version", "origin", "origin_version", "concrete", "__weakref__")

    def __init__(self, number: int, current: Value, origin: Storage = None) -> None:
        self.number = number
        self.current = current
        self.version = 0
        self.origin = origin
        self.origin_version = 0
        self.concrete: Storage = None


class TracedValue:
    """A tensor in a trace: what stands in a tensor's `_storage` until it is forced.

    type: dtype, shape and strides, as eager would have them. offset: in elements, from the storage's origin.
    parent, step: the view it was made from and the movement op that made it; None for the root itself.
    concrete: the storage that holds it once the recorder has run; None before.
    """

    __slots__ = (
        "recorder", "storage", "type", "offset", "parent", "step", "concrete", "_value", "_version",
        "__weakref__",
    )  # fmt: skip

    def __init__(
        self, recorder: Recorder, storage: TracedStorage, type: StridedType, offset: int = 0,
        parent: TracedValue | None = None, step: BoundOp | None = None,
    ) -> None:  # fmt: skip
        self.recorder = recorder
        self.storage = storage
        self.type = type
        self.offset = offset
        self.parent = parent
        self.step = step
        self.concrete: Storage = None
        self._value: Value | None = None
        self._version = -1

    def read(self, emit: Emit) -> Value:
        """The view's elements in the storage's present contents, as a value of the graph."""
        if self.parent is None or self.step is None:
            return self.storage.current
        if self._value is None or self._version != self.storage.version:
            self._value = emit(self.step, self.parent.read(emit))
            self._version = self.storage.version
        return self._value

    def write(self, emit: Emit, new: Value) -> None:
        """Replace the view's elements by `new`, of its shape."""
        contents, view = self._into_dense(emit, new)
        while view.parent is not None and view.step is not None:
            contents = _INVERSES[view.step.opdef](emit, view.step, view.parent.read(emit), contents)
            view = view.parent
        self.storage.current = contents
        self.storage.version += 1
        self.remember(new)

    def _into_dense(self, emit: Emit, new: Value) -> tuple[Value, TracedValue]:
        """`new` itself; or, if a step on the way to the root shows elements more than once (expand, window)
        and so has no inverse, the first row-major view above all such steps, with `new` written into it."""
        chain = [self]
        while (parent := chain[-1].parent) is not None:
            chain.append(parent)
        folded = [i for i, v in enumerate(chain) if v.step is not None and v.step.opdef not in _INVERSES]
        if not folded:
            return new, self
        dense = next(v for v in chain[folded[-1] + 1 :] if v.type.is_contiguous)  # the root is, at the latest
        step = bind(ops.as_strided_update, strides=self.type.strides, offset=self.offset - dense.offset)
        return emit(step, dense.read(emit), new), dense

    def remember(self, value: Value) -> None:
        """Note that the view's elements are now `value`: saves deriving them from the root."""
        self._value, self._version = value, self.storage.version

    def forget(self, dropped: set[Value]) -> None:
        """Derive the elements anew if they were remembered as one of the dropped values."""
        if self._value in dropped:
            self._value = None

    def attach(self, parent: TracedValue, step: BoundOp) -> None:
        """Make a root a view of a new root that encloses it."""
        self.parent, self.step, self._value = parent, step, None

    def __repr__(self) -> str:
        return f"<traced {self.type}>"


def _unreshape(emit: Emit, step: BoundOp, base: Value, view: Value) -> Value:
    return emit(bind(ops.reshape, shape=base.type.shape), view)


def _unpermute(emit: Emit, step: BoundOp, base: Value, view: Value) -> Value:
    return emit(unpermuting(step.attrs["perm"]), view)  # type: ignore[arg-type]


def unpermuting(perm: tuple[int, ...]) -> BoundOp:
    """The permute that undoes permute(perm)."""
    return bind(ops.permute, perm=tuple(perm.index(axis) for axis in range(len(perm))))


def _unflip(emit: Emit, step: BoundOp, base: Value, view: Value) -> Value:
    return emit(step, view)


def _unslice(emit: Emit, step: BoundOp, base: Value, view: Value) -> Value:
    if view.type == base.type:
        return view
    back = bind(ops.update_slice, starts=step.attrs["starts"], steps=step.attrs["steps"])
    return emit(back, base, view)


def _unstride(emit: Emit, step: BoundOp, base: Value, view: Value) -> Value:
    back = bind(ops.as_strided_update, strides=step.attrs["strides"], offset=step.attrs["offset"])
    return emit(back, base, view)


#: `base` with the elements that a step shows replaced by `view`, for steps that show each element once.
_INVERSES: dict[OpDef, Callable[[Emit, BoundOp, Value, Value], Value]] = {
    ops.reshape: _unreshape,
    ops.permute: _unpermute,
    ops.flip: _unflip,
    ops.slice_: _unslice,
    ops.as_strided: _unstride,
}
