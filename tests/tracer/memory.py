"""A backend on numpy for the tracer's tests: graphs run in the interpreter, single ops by their meaning."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from vitrify.ir import ops
from vitrify.ir.dtypes import from_numpy
from vitrify.ir.graph import Graph
from vitrify.ir.interpreter import interpret
from vitrify.ir.opdef import BoundOp, OpDef, bind
from vitrify.ir.strided import StridedType, strided_type
from vitrify.ir.verifier import verify_graph
from vitrify.tracer.recorder import Recorder, concrete
from vitrify.tracer.traced import TracedValue


@dataclass(eq=False)
class Block:
    data: np.ndarray
    version: int = 0


@dataclass(eq=False)
class Memory:
    """A place in a block."""

    block: Block
    offset: int = 0

    @staticmethod
    def of(array: np.ndarray) -> Memory:
        return Memory(Block(np.frombuffer(bytearray(np.ascontiguousarray(array).tobytes()), np.uint8)))

    def array(self, type: StridedType) -> np.ndarray:
        item = type.dtype.itemsize
        flat = self.block.data[self.offset : self.offset + type.extent * item].view(type.dtype.numpy)
        return np.lib.stride_tricks.as_strided(flat, type.shape, [s * item for s in type.strides])


@dataclass
class NumpyBackend:
    """Counts its runs. `failing`: pretend that a check failed in every graph that has one."""

    graphs: list[Graph] = field(default_factory=list)
    eager_ops: list[BoundOp] = field(default_factory=list)
    keys: list[Hashable] = field(default_factory=list)

    def base(self, storage: Memory) -> int:
        return id(storage.block)

    def offset(self, storage: Memory) -> int:
        return storage.offset

    def view(self, storage: Memory, byte_offset: int) -> Memory:
        return Memory(storage.block, storage.offset + byte_offset)

    def version(self, storage: Memory) -> int:
        return storage.block.version

    def bump(self, storage: Memory, times: int) -> None:
        storage.block.version += times

    def scalar(self, value: float) -> Memory:
        return Memory.of(np.array(value))

    def execute(self, graph: Graph, key: Hashable, inputs: Sequence[Memory]) -> list[Memory] | None:
        verify_graph(graph)
        self.graphs.append(graph)
        self.keys.append(key)
        views = [
            m.array(strided_type(v.type.dtype, v.type.shape))
            for m, v in zip(inputs, graph.inputs, strict=True)
        ]
        try:
            outputs, updates = interpret(graph, [v.copy() for v in views])
        except (IndexError, RuntimeError, ValueError):
            return None
        for (value, _), new in zip(graph.updates, updates, strict=True):
            views[graph.inputs.index(value)][...] = new
            self.bump(inputs[graph.inputs.index(value)], 1)
        return [Memory.of(x) for x in outputs]

    def is_compiled(self, key: Hashable) -> bool:
        return key in self.keys

    def eager(
        self, op: BoundOp, types: tuple[StridedType, ...], storages: Sequence[Memory]
    ) -> tuple[Memory, ...]:
        self.eager_ops.append(op)
        assert op.opdef.meaning is not None
        result = op.opdef.meaning(*(m.array(t) for m, t in zip(storages, types, strict=True)), **op.attrs)
        return (Memory.of(np.empty(0) if result is None else np.asarray(result)),)

    def assign(self, target: Memory, type: StridedType, source: Memory, source_type: StridedType) -> None:
        target.array(type)[...] = source.array(source_type).copy()
        self.bump(target, 1)


class Owner:
    """Stands for a tensor: a storage and a type."""

    def __init__(self, storage: Memory | TracedValue, type: StridedType) -> None:
        self._storage = storage
        self._type = type

    @staticmethod
    def of(values: object, dtype: str = "float32") -> Owner:
        array = np.array(values, dtype)
        return Owner(Memory.of(array), strided_type(from_numpy(array.dtype), array.shape))

    def numpy(self) -> np.ndarray:
        return concrete(self._storage, "numpy").array(self._type)


class Session:
    """A recorder with owners for results, as a frontend would drive it."""

    def __init__(self, **options: bool) -> None:
        self.backend = NumpyBackend()
        self.recorder = Recorder(self.backend, **options)

    def traced(self, owner: Owner) -> TracedValue:
        return self.recorder.operand(owner._storage, owner._type)

    def __call__(self, opdef: OpDef, *operands: Owner, **attrs: object) -> Owner:
        """A computing op: a new, row-major result."""
        op = bind(opdef, **attrs)
        (type,) = op.result_types(*(o._type.ir for o in operands))
        result = strided_type(type.dtype, type.shape)
        made = Owner(self.recorder.record(op, [self.traced(o) for o in operands], result), result)
        self.recorder.track(made)
        return made

    def view(self, opdef: OpDef, x: Owner, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0,
             **attrs: object) -> Owner:  # fmt: skip
        """A view `offset` elements into x."""
        result = strided_type(x._type.dtype, shape, strides)
        op = bind(opdef, **attrs)
        value = self.recorder.record(op, [self.traced(x)], result, offset * x._type.dtype.itemsize)
        made = Owner(value, result)
        self.recorder.track(made)
        return made

    def slice(self, x: Owner, start: int, stop: int) -> Owner:
        """Rows start..stop-1."""
        shape = (stop - start, *x._type.shape[1:])
        starts = (start,) + (0,) * (len(shape) - 1)
        stops = (stop, *x._type.shape[1:])
        return self.view(ops.slice_, x, shape, x._type.strides, start * x._type.strides[0],
                         starts=starts, stops=stops, steps=(1,) * len(shape))  # fmt: skip

    def transpose(self, x: Owner) -> Owner:
        """Of a matrix."""
        return self.view(ops.permute, x, x._type.shape[::-1], x._type.strides[::-1], perm=(1, 0))

    def write(self, target: Owner, source: Owner) -> None:
        self.recorder.write(self.traced(target), self.traced(source))
