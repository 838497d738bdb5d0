"""Checks that a kernel is valid. The invariants:

* buffers have distinct names, a known access and sizes over the kernel's sizes; sizes have distinct names
* a scalar is defined once in the kernel, and before it is used, in the same block or one around it; what a
  body defines is not seen outside it, except by what the body yields
* scratch memory bears no name of a buffer, has a size that is not negative, and is not seen outside its body
* an axis bears no name of a size or of an axis around it; extents use the kernel's sizes only
* index expressions and guards use sizes, the axes around them, and integer scalars in scope (`%3`)
* a load gives its buffer's dtype; it says what it reads otherwise (a rank-0 literal of that dtype) if and
  only if it is guarded; a store has the buffer's dtype and never targets an `in` buffer
* a computation is of an elementwise op whose type rule gives its result's dtype for its operands' dtypes (on
  bf16 and f16 only casts and selections are);
  a constant is of rank 0 and of its result's dtype; an index gives i64; a check takes a bool, its code is
  positive
* a loop is parallel, serial or vector; only serial ones carry values, as many as they yield, of the same
  dtypes
* a reduction's op is one, its order is known, its result has the dtype that the op gives for the yielded
  value
* a contraction that goes on from other sums has one dtype and one superblock, and not no steps
* a contraction's operands and result have one dtype, or the operands are bf16 (i16) and the result is f32
  (i32); lhs does not depend on n, rhs not on m
* a sort stands outside of vector bodies, is of no bf16 or f16, writes i64 to a buffer that is not `in`, and
  has scratch memory of i64
* in the body of a vector loop, of a `lanes` reduction and of a contraction stand only computations,
  constants, indices, loads, stores, checks, serial loops and reductions

A message shows the statement, what it has and what was expected; the text of the kernel follows.
"""

from __future__ import annotations

from collections.abc import Iterable

from .dtypes import bool_, int64
from .errors import IRError, VerifyError
from .expr import Dim, coefficient, product, symbols_of
from .kernel import (
    Axis,
    Buffer,
    Check,
    Compute,
    Const,
    Contract,
    Guard,
    Index,
    Kernel,
    Load,
    Local,
    Loop,
    Reduce,
    Scalar,
    Sort,
    Statement,
    Store,
)  # fmt: skip
from .kernel_text import ACCESS, LOOPS, print_kernel, print_statement
from .narrow import NARROW, PAIRED
from .ops import ordered, reduction
from .ops.ordered import CONTRACT_BLOCK
from .types import TensorType

#: How the reductions of kernels combine; the results of blocks are kept in memory by other statements.
ORDERS = tuple(order for order in reduction.ORDERS if order != "blocks")


def verify_kernel(kernel: Kernel) -> None:
    """Raise VerifyError if the kernel breaks an invariant of this module's list."""
    try:
        _Verifier(kernel).run()
    except _Broken as broken:
        raise VerifyError(f"kernel {kernel.name}: {broken}\n{_text(kernel)}") from None


class _Broken(Exception):
    """An invariant that does not hold."""


def _text(kernel: Kernel) -> str:
    try:
        return print_kernel(kernel)
    except Exception as error:
        return f"(the kernel can't be printed: {error})"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _Broken(message)


class _Verifier:
    """One walk over the statements.

    scope: what may be used where the walk is: scalars, and by name everything an index may use.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.buffers: dict[str, Buffer] = {}
        self.sizes = set(kernel.sizes)
        self.defined: dict[str, Scalar] = {}
        self.scope: set[Scalar] = set()
        self.names: set[str] = set(kernel.sizes)
        self.vector = False

    def run(self) -> None:
        _require(
            len(self.sizes) == len(self.kernel.sizes), f"sizes ({', '.join(self.kernel.sizes)}) repeat a name"
        )
        for buffer in self.kernel.buffers:
            _require(buffer.name not in self.buffers, f"two buffers are called %{buffer.name}")
            _require(
                buffer.access in ACCESS,
                f"%{buffer.name} has access {buffer.access}, expected one of {ACCESS}",
            )
            self.sized(buffer.size, f"the size of %{buffer.name}")
            self.buffers[buffer.name] = buffer
        self.block(self.kernel.body, ())

    def sized(self, dim: Dim, what: str) -> None:
        loose = symbols_of(dim) - self.sizes
        _require(not loose, f"{what} uses {', '.join(sorted(loose))}, expected the kernel's sizes only")

    def indexed(self, dims: Iterable[Dim], statement: Statement) -> None:
        loose = set().union(*map(symbols_of, dims)) - self.names
        _require(
            not loose,
            f"{_head(statement)}: {', '.join(sorted(loose))} is no size, axis or integer value in scope",
        )

    def block(
        self, body: Iterable[Statement], yields: Iterable[Scalar], parameters: Iterable[Scalar] = ()
    ) -> None:
        """Check a body, and that what it yields is defined at its end; then forget what it defined."""
        scope, names, buffers = set(self.scope), set(self.names), dict(self.buffers)
        for parameter in parameters:
            self.define(parameter)
        for statement in body:
            self.statement(statement)
        for value in yields:
            self.use(value, "yield")
        self.scope, self.names, self.buffers = scope, names, buffers

    def define(self, scalar: Scalar) -> None:
        _require(scalar.name not in self.defined, f"%{scalar.name} is defined twice")
        self.defined[scalar.name] = scalar
        self.scope.add(scalar)
        if scalar.dtype.is_integer:
            self.names.add(f"%{scalar.name}")

    def use(self, scalar: Scalar, where: str) -> None:
        known = self.defined.get(scalar.name) is scalar
        why = "is not in scope" if known else "is not defined before this"
        _require(scalar in self.scope, f"{where}: %{scalar.name} {why}")

    def axes(self, axes: Iterable[Axis], statement: Statement) -> set[str]:
        """Check axes and bring them into scope. Gives the names as they were."""
        before = set(self.names)
        for axis in axes:
            _require(
                axis.name not in self.names, f"{_head(statement)}: the name {axis.name} is already in use"
            )
            self.sized(axis.extent, f"{_head(statement)}: the extent of {axis.name}")
            self.names.add(axis.name)
        return before

    def statement(self, statement: Statement) -> None:
        match statement:
            case Compute():
                self.compute(statement)
            case Const(result, value):
                want = TensorType(result.dtype)
                _require(
                    value.type == want, f"{_head(statement)}: the literal is {value.type}, expected {want}"
                )
                self.define(result)
            case Index(result, expr):
                self.indexed([expr], statement)
                _require(result.dtype is int64, f"{_head(statement)}: has dtype {result.dtype}, expected i64")
                self.define(result)
            case Load():
                self.load(statement)
            case Store():
                self.store(statement)
            case Check(ok, code):
                self.use(ok, _head(statement))
                _require(ok.dtype is bool_, f"{_head(statement)}: %{ok.name} is {ok.dtype}, expected bool")
                _require(code > 0, f"{_head(statement)}: the code is {code}, expected a positive one")
            case Local():
                self.local(statement)
            case Loop():
                self.loop(statement)
            case Reduce():
                self.reduce(statement)
            case Contract():
                self.contract(statement)
            case Sort():
                self.sort(statement)

    def sort(self, sort: Sort) -> None:
        head = _head(sort)
        _require(not self.vector, f"{head}: a sort can't stand inside a vector body")
        self.indexed(sort.dims, sort)
        source = self.buffer(sort.source, sort).dtype
        _require(source not in NARROW, f"{head}: sorts f32, %{sort.source} is {source}")
        for name in (sort.target, sort.scratch):
            have = self.buffer(name, sort)
            _require(have.dtype is int64, f"{head}: %{name} is {have.dtype}, expected i64")
            _require(have.access != "in", f"{head}: %{name} is only read")

    def compute(self, statement: Compute) -> None:
        head, op = _head(statement), statement.opdef
        for operand in statement.operands:
            self.use(operand, head)
            have = operand.dtype
            _require(
                not (op.wide and have in NARROW),
                f"{head}: {op.name} computes in f32, %{operand.name} is {have.short}",
            )
        _require(op.elementwise, f"{head}: {op.name} is not elementwise")
        types = [TensorType(s.dtype) for s in statement.operands]
        try:
            (want,) = op.result_types(*types, **dict(statement.attrs))
        except (IRError, TypeError, ValueError) as error:
            raise _Broken(f"{head}: {error}") from None
        have = statement.result.dtype
        _require(have is want.dtype, f"{head}: the result is {have}, expected {want.dtype}")
        self.define(statement.result)

    def buffer(self, name: str, statement: Statement) -> Buffer:
        _require(name in self.buffers, f"{_head(statement)}: there is no buffer %{name}")
        return self.buffers[name]

    def guards(self, guards: Iterable[Guard], statement: Statement) -> None:
        self.indexed((d for g in guards for d in (g.expr, g.low, g.high)), statement)

    def load(self, statement: Load) -> None:
        head, buffer = _head(statement), self.buffer(statement.buffer, statement)
        self.indexed([statement.index], statement)
        self.guards(statement.guards, statement)
        want = TensorType(buffer.dtype)
        have = statement.result.dtype
        _require(have is buffer.dtype, f"{head}: the result is {have}, expected {buffer.dtype}")
        other = statement.otherwise
        if statement.guards:
            _require(other is not None, f"{head}: a guarded load needs to say what it reads else")
        else:
            _require(other is None, f"{head}: a load without a guard has no else")
        _require(
            other is None or other.type == want, f"{head}: else is {other and other.type}, expected {want}"
        )
        self.define(statement.result)

    def store(self, statement: Store) -> None:
        head, buffer = _head(statement), self.buffer(statement.buffer, statement)
        self.indexed([statement.index], statement)
        self.guards(statement.guards, statement)
        self.use(statement.value, head)
        have = statement.value.dtype
        _require(have is buffer.dtype, f"{head}: the value is {have}, expected {buffer.dtype}")
        _require(buffer.access != "in", f"{head}: %{buffer.name} is only read")

    def local(self, local: Local) -> None:
        head = _head(local)
        _require(local.name not in self.buffers, f"{head}: there is a buffer %{local.name} already")
        _require(local.size >= 0, f"{head}: the size is negative")
        _require(not self.vector, f"{head}: can't stand inside a vector body")
        self.buffers[local.name] = Buffer(local.name, local.dtype, local.size, "temp")

    def loop(self, loop: Loop) -> None:
        head = _head(loop)
        _require(loop.kind in LOOPS, f"{head}: the kind is {loop.kind}, expected one of {', '.join(LOOPS)}")
        _require(not self.vector or loop.kind == "serial", f"{head}: can't stand inside a vector body")
        self.carried(loop)
        outer, self.vector = self.vector, self.vector or loop.kind == "vector"
        names = self.axes([loop.axis], loop)
        self.block(loop.body, loop.yields, [parameter for parameter, _ in loop.carries])
        self.names, self.vector = names, outer
        for final in loop.finals:
            self.define(final)

    def carried(self, loop: Loop) -> None:
        head = _head(loop)
        counts = (len(loop.carries), len(loop.yields), len(loop.finals))
        _require(len(set(counts)) == 1, f"{head}: carries, yields and has as results {counts} values")
        _require(not loop.carries or loop.kind == "serial", f"{head}: only a serial loop carries values")
        for (parameter, start), value, final in zip(loop.carries, loop.yields, loop.finals, strict=True):
            self.use(start, head)
            dtypes = (parameter.dtype, start.dtype, value.dtype, final.dtype)
            _require(
                len(set(dtypes)) == 1,
                f"{head}: %{parameter.name} has dtypes {', '.join(d.short for d in dtypes)}",
            )

    def reduce(self, reduce: Reduce) -> None:
        head = _head(reduce)
        _require(reduce.opdef.reduction, f"{head}: {reduce.opdef.name} is not a reduction")
        _require(
            reduce.order in ORDERS,
            f"{head}: the order is {reduce.order}, expected one of {', '.join(ORDERS)}",
        )
        lanes = reduce.order == "lanes"
        outer, self.vector = self.vector, self.vector or lanes
        names = self.axes(reduce.axes, reduce)
        self.block(reduce.body, [reduce.value])
        self.names, self.vector = names, outer
        try:
            (want,) = reduce.opdef.result_types(
                TensorType(reduce.value.dtype, (1,)), axes=(0,), order="lanes"
            )
        except IRError as error:
            raise _Broken(f"{head}: {error}") from None
        have = reduce.result.dtype
        _require(have is want.dtype, f"{head}: the result is {have}, expected {want.dtype}")
        self.define(reduce.result)

    def within(self, contract: Contract, head: str) -> None:
        """Which steps of a contraction take part."""
        for guard in contract.inside:
            dims = (guard.expr, guard.low, guard.high)
            self.indexed(dims, contract)
            axes = (contract.m, contract.n, *contract.over)
            known = all(isinstance(coefficient(guard.expr, a.name), int) for a in axes)
            _require(known, f"{head}: {guard.expr} goes by steps that are not known")
            fixed = not any(a.name in symbols_of(d) for a in axes for d in dims[1:])
            _require(fixed, f"{head}: the bounds of {guard.expr} change along an axis")
        if contract.inside:
            _require(contract.within is None, f"{head}: has both `when` and `inside`")
            paired = self.buffer(contract.lhs, contract).dtype in PAIRED
            _require(not paired, f"{head}: pairs take part whole")
        if contract.within is None:
            return
        self.indexed([contract.within], contract)
        steps = {coefficient(contract.within, a.name) for a in (contract.m, contract.n, *contract.over)}
        _require(steps <= {-1, 0, 1}, f"{head}: {contract.within} has steps other than 1 and -1")
        _require(self.buffer(contract.lhs, contract).dtype not in PAIRED, f"{head}: pairs take part whole")

    def contract(self, contract: Contract) -> None:
        head = _head(contract)
        _require(not self.vector, f"{head}: a contraction can't stand inside a vector body")
        buffers = [self.buffer(name, contract) for name in (contract.lhs, contract.rhs)]
        result, lhs, rhs = (contract.result.dtype, *(b.dtype for b in buffers))
        _require(
            lhs is rhs and result is (ordered.sum_dtype(lhs) if lhs in PAIRED else lhs),
            f"{head}: result and operands are {result.short}, {lhs.short}, {rhs.short}, not one dtype",
        )
        names = self.axes((contract.m, contract.n, *contract.over), contract)
        self.indexed([contract.lhs_index, contract.rhs_index], contract)
        step = coefficient(contract.lhs_index, contract.n.name)
        _require(step in (0, 1), f"{head}: lhs is read at steps of {step} along n")
        known = isinstance(contract.n.extent, int) and lhs not in PAIRED and contract.within is None
        _require(step == 0 or known, f"{head}: an lhs along n takes a number of columns, unpaired, all steps")
        _require(contract.m.name not in symbols_of(contract.rhs_index), f"{head}: rhs depends on m")
        self.within(contract, head)
        self.names -= {a.name for a in contract.over}
        if contract.start is not None:
            self.indexed([contract.start[1]], contract)
            have = self.buffer(contract.start[0], contract).dtype
            _require(have is result is lhs, f"{head}: the sums go on from {have.short}")
            steps = product(a.extent for a in contract.over)
            one = isinstance(steps, int) and 0 < steps <= CONTRACT_BLOCK
            _require(one, f"{head}: only the sums of one superblock go on from others")
        self.vector = True
        self.block(contract.body, (), [contract.result])
        self.names, self.vector = names, False


def _head(statement: Statement) -> str:
    """The first line of a statement, without the brace."""
    return print_statement(statement).partition("\n")[0].removesuffix(" {")
