"""The tensor: a storage, an interned type that says how its elements lie there, and a place in the tape.

This module holds the class and what concerns its representation; the operations are functions in
`_functions`, bound as methods in `_methods`. In a trace `_storage` is a traced value of `vitrify.tracer`
instead of a block of memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from vitrify.ir import ops
from vitrify.ir.dtypes import DType, bfloat16
from vitrify.ir.narrow import widened
from vitrify.ir.opdef import bind
from vitrify.ir.strided import StridedType
from vitrify.passes.autodiff import derivative
from vitrify.runtime import storage as memory
from vitrify.tracer import recorder
from vitrify.tracer.traced import TracedValue

from ._size import Size, device, layout, strided
from ._tape import Edge, Leaf, Node, Recorded

CPU = device("cpu")


class Tensor:
    """A multi-dimensional array that can record how it was computed.

    >>> x = vitrify.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    # _view: None, or (base, byte offset from it, base's node when this view was taken).
    __slots__ = ("_storage", "_type", "_node", "_grad", "_view", "__weakref__")
    _storage: Any
    _type: StridedType
    _node: Edge | None
    _grad: Tensor | None
    _view: tuple[Tensor, int, Edge | None] | None

    def __init__(self, storage: Any = (), type: Any = None, node: Edge | None = None, *more: Any) -> None:
        if type.__class__ is not StridedType:
            storage, type = _from_user(storage, type, node, *more)
            node = None
        self._storage = storage
        self._type = type
        self._node = node
        self._grad = None
        self._view = None

    if TYPE_CHECKING:  # bound in `_methods`

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def _binary(self, other: Any) -> Tensor: ...

        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = _binary
        __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = __lt__ = __le__ = __gt__ = __ge__ = _binary

    # Layout.
    @property
    def shape(self) -> Size:
        """The sizes of all dimensions."""
        return _SIZES.get(self._type) or _size_of(self._type)

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return self._type.dtype

    @property
    def device(self) -> device:
        """Where the elements lie: always the CPU."""
        return CPU

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._type.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._type.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._type.nbytes

    @property
    def layout(self) -> layout:
        """How the elements lie in memory: always by strides."""
        return strided

    @property
    def is_cuda(self) -> bool:
        """Whether the elements lie on a GPU: never."""
        return False

    @property
    def is_sparse(self) -> bool:
        """Whether only elements other than zero are stored: never."""
        return False

    @property
    def is_quantized(self) -> bool:
        """Whether the elements are integers that stand for others: never."""
        return False

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return self.shape
        shape = self._type.shape
        if dim.__class__ is int and 0 <= dim < len(shape):
            return shape[dim]
        return shape[wrap_dim(dim, len(shape))]

    def dim(self) -> int:
        """Number of dimensions."""
        return len(self._type.shape)

    ndimension = dim

    def numel(self) -> int:
        """Number of elements."""
        return self._type.numel

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._type.dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Steps in memory, in elements, along each dimension or along one."""
        if dim is None:
            return self._type.strides
        return self._type.strides[wrap_dim(dim, self.ndim)]

    def storage_offset(self) -> int:
        """Elements between the start of the storage and the first element."""
        return memory.offset(concrete(self, "storage_offset")) // self._type.dtype.itemsize

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return self._type.is_contiguous

    def data_ptr(self) -> int:
        """Address of the first element."""
        return memory.known_address(concrete(self, "data_ptr"))

    def is_floating_point(self) -> bool:
        """Whether the elements are floating point numbers."""
        return self._type.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return self._type.dtype.is_complex

    def is_signed(self) -> bool:
        """Whether the elements can be negative."""
        return self._type.dtype.is_signed

    # The tape.
    @property
    def requires_grad(self) -> bool:
        """Whether what is computed from this tensor is recorded, for a backward to reach it."""
        return edge_of(self) is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Make this leaf record, or not record, what is computed from it; gives itself."""
        node = edge_of(self)
        if not requires_grad:
            if node is not None and not isinstance(node, Leaf):
                raise RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a "
                    "computed "
                    "variable in a subgraph that doesn't require differentiation use var_no_grad = "
                    "var.detach()."
                )
            self._node = None
        elif node is None:
            if not self._type.dtype.is_floating_point:
                raise RuntimeError("only Tensors of floating point dtype can require gradients")
            self._node = Leaf(self)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was not computed from one that requires grad."""
        node = edge_of(self)
        return node is None or isinstance(node, Leaf)

    @property
    def grad_fn(self) -> Edge | None:
        """The node of the tape that the tensor came from; None for a leaf."""
        node = edge_of(self)
        return None if isinstance(node, Leaf) else getattr(node, "source", node)

    @property
    def output_nr(self) -> int:
        """Which of its node's outputs the tensor is."""
        return getattr(edge_of(self), "index", 0)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backwards have added up, or None."""
        if recorder.count and (capturing := recorder.active()) is not None:
            capturing.observe(self, "_grad")
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            _check_grad(self, value)
        if recorder.count and (capturing := recorder.active()) is not None:
            capturing.observe(self, "_grad", write=True)
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    @property
    def retains_grad(self) -> bool:
        """Whether a backward sets `grad` although this is no leaf."""
        node = self._node
        return node is not None and not isinstance(node, Leaf) and node.retained is not None

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view[0]

    def _is_view(self) -> bool:
        return self._view is not None

    @property
    def _version(self) -> int:
        return version_of(self)

    def detach(self) -> Tensor:
        """The same elements without a history; writes to either are seen by both."""
        return alias(self)

    def detach_(self) -> Tensor:
        """Forget the history; gives itself."""
        if self._view is not None:
            raise RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using "
                "DistributedDataParallel (DDP) "
                "for training, and gradient_as_bucket_view is set as True, gradients are views of DDP "
                "buckets, and "
                "hence detach_() cannot be called on these gradients."
            )
        self._node = None
        return self

    @property
    def data(self) -> Tensor:
        """The same elements without a history."""
        return alias(self)

    @data.setter
    def data(self, value: Tensor) -> None:
        if value.dtype is not self.dtype and self._node is not None and not value.is_floating_point():
            raise RuntimeError(
                "data set to a tensor that requires gradients must be floating point or complex dtype"
            )
        self._storage, self._type, self._view = value._storage, value._type, None
        track(self)

    # To Python and numpy.
    def item(self) -> Any:
        """The only element as a Python number. Raises RuntimeError if there isn't exactly one."""
        if self._type.numel != 1:
            raise RuntimeError(f"a Tensor with {self._type.numel} elements cannot be converted to Scalar")
        return _only(self, "item")

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for rank 0."""
        return self._array("tolist").tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """A numpy array on the same memory. Raises RuntimeError for a tensor that requires grad unless
        `force`.
        """
        if self.requires_grad and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            )
        if self._type.dtype is bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._array("numpy")

    def _array(self, why: str) -> np.ndarray:
        """The elements as numpy sees them; a bfloat16's, which it can't, copied to float32."""
        return widened(self._bits(why)) if self._type.dtype is bfloat16 else self._bits(why)

    def _bits(self, why: str) -> np.ndarray:
        """The elements as they lie in memory (bfloat16 as uint16)."""
        return memory.to_array(concrete(self, why), self._type)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        array = array if dtype is None else array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __bool__(self) -> bool:
        if self._type.numel != 1:
            what = "no values" if self._type.numel == 0 else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
        return bool(_only(self, "bool"))

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def _number(self) -> Any:
        """`item()`, for Python's own conversions. Raises ValueError if there isn't exactly one element."""
        if self._type.numel != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __index__(self) -> int:
        if self._type.numel != 1 or self._type.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.ndim == 0 else object.__format__(self, spec)

    def __len__(self) -> int:
        if not self._type.shape:
            raise TypeError("len() of a 0-d tensor")
        return self._type.shape[0]

    __hash__ = object.__hash__

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        from ._print import tensor_text

        return tensor_text(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
                "at the "
                "moment.  If you were attempting to deepcopy a module, this may be because of a "
                "torch.nn.utils."
                "weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001"
            )
        copied = _copied(self, memo)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        from ._functions.creation import _rebuilt

        return _rebuilt, (self._array("pickle").copy(), self.dtype.name, self.requires_grad)


#: How the elements of a dtype lie in memory, where Python has a number just like them.
_CELLS: Final[dict[str, Any]] = {
    "float32": ctypes.c_float, "float64": ctypes.c_double, "int64": ctypes.c_int64, "int32": ctypes.c_int32,
    "int16": ctypes.c_int16, "int8": ctypes.c_int8, "uint8": ctypes.c_uint8, "bool": ctypes.c_bool,
}  # fmt: skip


def _only(x: Tensor, why: str) -> Any:
    """The only element."""
    cell = _CELLS.get(x._type.dtype.name)
    if cell is None:
        return x._array(why).item()
    return cell.from_address(memory.address(concrete(x, why))).value


def _copied(x: Tensor, memo: dict[int, Any]) -> Tensor:
    from copy import deepcopy

    made = alias(x)
    made._storage = memory.from_array(np.array(x._bits("deepcopy"), order="C"))
    made._type = x._type if x._type.is_contiguous else made._type
    made.requires_grad_(x.requires_grad)
    made._grad = deepcopy(x._grad, memo)
    return made


def alias(x: Tensor, node: Edge | None = None) -> Tensor:
    """Another tensor on the same elements, with this place in the tape."""
    made = Tensor(x._storage, x._type, node)
    track(made)
    return made


def track(x: Tensor) -> None:
    """If the tensor is traced, have its storage become eager in place when the trace is forced."""
    if isinstance(x._storage, TracedValue):
        x._storage.recorder.track(x)


def concrete(x: Tensor, why: str) -> Any:
    """The tensor's eager storage, whose elements are looked at; what is traced is forced, for the reason
    `why`."""
    for tell in when_read:
        tell()
    return recorder.concrete(x._storage, why)


#: Told when elements are looked at by other means than ops.
when_read: list[Callable[[], None]] = []


def version_of(x: Tensor) -> int:
    """Number of in-place writes to the block of memory that the tensor lies in."""
    recording = recorder.active()
    return memory.version(x._storage) if recording is None else recording.version(x._storage)


def edge_of(x: Tensor) -> Edge | None:
    """The tensor's place in the tape. A view whose base was written to in the meantime gets a new one:
    it shows a part of what the base is now."""
    if x._view is not None:
        base, offset, node = x._view
        now = base._node
        if now is not node and not isinstance(now, Leaf):
            x._view = (base, offset, now)
            x._node = None if now is None else view_node(base, offset, x._type)
    return x._node


def storage_kept(x: Any) -> Any:
    """The storage of what a node of the tape keeps: of a tensor, itself, or of a number none."""
    return x._storage if isinstance(x, Tensor) else None if x.__class__ in (int, float) else x


_SIZES: dict[StridedType, Size] = {}
_MOST_SIZES: Final = 8192


def _size_of(type: StridedType) -> Size:
    if len(_SIZES) >= _MOST_SIZES:
        _SIZES.clear()
    made = _SIZES[type] = Size(type.shape)
    return made


def is_current(x: Tensor) -> bool:
    """Whether the place in the tape is up to date: the tensor is no view, or its base's is the same."""
    return x._view is None or x._view[0]._node is x._view[2]


def view_node(base: Tensor, offset: int, type: StridedType) -> Node:
    """A node for the view of `base` (row-major, `offset` in bytes) with these sizes and strides."""
    at = offset // type.dtype.itemsize
    op = bind(ops.as_strided, shape=type.shape, strides=type.strides, offset=at)
    return Node(Recorded(op, derivative(op, (base._type.ir,), (True,))), (base._node,))


def wrap_dim(dim: int, rank: int) -> int:
    """A dimension counted from the front. Raises IndexError, as PyTorch does, if there is none such."""
    low = -max(rank, 1)
    if not low <= dim < -low:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{low}, {-low - 1}], but got {dim})"
        )
    return dim + max(rank, 1) if dim < 0 else int(dim)


def _check_grad(x: Tensor, grad: Tensor) -> None:
    if not isinstance(grad, Tensor):
        raise TypeError(
            f"assigned grad expected to be a Tensor or None but got grad of type {type(grad).__name__}"
        )
    if grad is x:
        raise RuntimeError("can't assign Variable as its own grad")
    if grad.dtype is not x.dtype:
        raise RuntimeError(
            f"assigned grad has data of a different type: {grad.dtype.name} instead of {x.dtype.name}"
        )
    if grad._type.shape != x._type.shape:
        raise RuntimeError(
            f"assigned grad has data of a different size: {list(grad.shape)} instead of {list(x.shape)}"
        )


def _from_user(*args: Any) -> tuple[Any, StridedType]:
    """The arguments of the public constructor: sizes, or data, of default dtype."""
    from ._functions.creation import constructed

    made = constructed(*(a for a in args if a is not None))
    return made._storage, made._type


def is_tensor(obj: object) -> bool:
    """Whether obj is a tensor."""
    return isinstance(obj, Tensor)
