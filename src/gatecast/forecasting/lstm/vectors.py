"""Arithmetic on whole registers for the kernel, written in LLVM's vectors.

Numba leaves loops to LLVM's vectoriser, which gives up where it cannot prove that arrays do not overlap: the cell's
loops then run one number at a time. Here every load, product and store is of `LANES` floats by construction, and every
operation is rounded as written, so that the same bytes come out wherever LLVM inlines the code.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

ROWS = 4  # of C in one tile of a product


def _registers() -> tuple[int, int]:
    """(floats in a vector, vectors in a tile's row): as much of C as the registers hold beside A and B."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 4
    return (8, 2) if features.get("avx2") else (4, 2)


LANES, VECTORS = _registers()
I64, F32 = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, LANES)
ZERO = ir.Constant(VECTOR, [0.0] * LANES)
ONE = ir.Constant(VECTOR, [1.0] * LANES)

# tanh as an odd rational of degree 13 over 6 fitted on [-9, 9]: within 4e-7 everywhere in float32
OVER = (
    -8.488418335411153e-14, 5.2778348314064368e-11, -2.0224989305837423e-08, 1.1154249656728391e-05,
    0.0031039505768782642, 0.13084005037466656, 0.99999999338384227,
)  # fmt: skip
UNDER = (0.00025461370342405278, 0.024495155899308549, 0.46417332137357936, 1.0)


class Lanes:
    """LLVM's builder with the few operations that the kernel needs; addresses are int64, strides in floats."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def address(self, base: Any, *strides: tuple[Any, int]) -> Any:
        """Base + the sum of stride · count, in floats; a stride may be a number."""
        for stride, count in strides:
            size = ir.Constant(I64, 4 * count)
            step = ir.Constant(I64, 4 * count * stride) if isinstance(stride, int) else self.builder.mul(stride, size)
            base = self.builder.add(base, step)
        return base

    def load(self, base: Any, *strides: tuple[Any, int]) -> Any:
        """A vector from memory."""
        pointer = self.builder.inttoptr(self.address(base, *strides), VECTOR.as_pointer())
        return self.builder.load(pointer, align=4)

    def store(self, value: Any, base: Any, *strides: tuple[Any, int]) -> None:
        """A vector to memory."""
        pointer = self.builder.inttoptr(self.address(base, *strides), VECTOR.as_pointer())
        self.builder.store(value, pointer, align=4)

    def spread(self, base: Any) -> Any:
        """One number from memory in every lane."""
        number = self.builder.load(self.builder.inttoptr(base, F32.as_pointer()), align=4)
        undefined, index = ir.Constant(VECTOR, ir.Undefined), ir.IntType(32)
        single = self.builder.insert_element(undefined, number, ir.Constant(index, 0))
        return self.builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """Lanes of a (0..LANES - 1) and of b (LANES and more)."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once."""
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        call = get_or_insert_function(self.builder.module, kind, f"llvm.fma.v{LANES}f32")  # type: ignore[no-untyped-call]
        return self.builder.call(call, [a, b, c])

    def product(self, *factors: Any) -> Any:
        """The factors' product, from left to right."""
        result = factors[0]
        for factor in factors[1:]:
            result = self.builder.fmul(result, factor)
        return result

    def minus(self, a: Any, b: Any) -> Any:
        """a - b."""
        return self.builder.fsub(a, b)

    def plus(self, a: Any, b: Any) -> Any:
        """a + b."""
        return self.builder.fadd(a, b)

    def tanh(self, x: Any) -> Any:
        """Of every lane; NaN stays NaN."""
        most, least = constant(9.0), constant(-9.0)
        x = self.builder.select(self.builder.fcmp_ordered(">", x, most), most, x)
        x = self.builder.select(self.builder.fcmp_ordered("<", x, least), least, x)
        square = self.builder.fmul(x, x)
        over, under = constant(OVER[0]), constant(UNDER[0])
        for number in OVER[1:]:
            over = self.fma(over, square, constant(number))
        for number in UNDER[1:]:
            under = self.fma(under, square, constant(number))
        return self.builder.fdiv(self.builder.fmul(x, over), under)

    def sigmoid(self, x: Any) -> Any:
        """Of every lane, by tanh."""
        half = constant(0.5)
        return self.fma(half, self.tanh(self.builder.fmul(half, x)), half)


def constant(number: float) -> Any:
    """The same number in every lane."""
    return ir.Constant(VECTOR, [number] * LANES)


def of_integers(count: int) -> Any:
    """The signature of a function of so many addresses, strides and sizes, which returns nothing."""
    return types.void(*([types.int64] * count))


def _tile(vectors: int) -> Any:
    """C = start + A · B for ROWS x (vectors * LANES) of C, which stay in registers."""

    @intrinsic
    def tile(typing_context, a, a_row, a_step, b, b_step, c, c_row, steps, start, start_row):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            a, a_row, a_step, b, b_step, c, c_row, steps, start, start_row = arguments
            lanes, places = Lanes(builder), [(r, v) for r in range(ROWS) for v in range(vectors)]
            entry = builder.block
            given, ready, loop, done = (builder.append_basic_block(name) for name in ("given", "ready", "loop", "done"))
            builder.cbranch(builder.icmp_signed("==", start, ir.Constant(I64, 0)), ready, given)
            builder.position_at_end(given)
            begun = [lanes.load(start, (start_row, r), (LANES, v)) for r, v in places]
            builder.branch(ready)
            builder.position_at_end(ready)
            first = [builder.phi(VECTOR) for _ in places]
            for one, value in zip(first, begun, strict=True):
                one.add_incoming(ZERO, entry)
                one.add_incoming(value, given)
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(I64)
            k.add_incoming(ir.Constant(I64, 0), ready)
            sums = [builder.phi(VECTOR) for _ in places]
            left, right = (builder.add(x, builder.mul(k, lanes.address(ir.Constant(I64, 0), (step, 1))))
                           for x, step in ((a, a_step), (b, b_step)))  # fmt: skip
            line = [lanes.load(right, (LANES, v)) for v in range(vectors)]
            column = [lanes.spread(lanes.address(left, (a_row, r))) for r in range(ROWS)]
            totals = [lanes.fma(column[r], line[v], one) for (r, v), one in zip(places, sums, strict=True)]
            following = builder.add(k, ir.Constant(I64, 1))
            k.add_incoming(following, loop)
            for one, begin, total in zip(sums, first, totals, strict=True):
                one.add_incoming(begin, ready)
                one.add_incoming(total, loop)
            builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)

            builder.position_at_end(done)
            for (r, v), total in zip(places, totals, strict=True):
                lanes.store(total, c, (c_row, r), (LANES, v))
            return context.get_dummy_value()

        return of_integers(10), build

    return tile


@intrinsic
def _move(typing_context, source, target):  # type: ignore[no-untyped-def]
    """LANES floats from one address to another."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = Lanes(builder)
        lanes.store(lanes.load(arguments[0]), arguments[1])
        return context.get_dummy_value()

    return of_integers(2), build


@intrinsic
def _turn(typing_context, source, source_row, target, target_row):  # type: ignore[no-untyped-def]
    """Target = source transposed, LANES x LANES floats, by swapping half blocks in registers log2(LANES) times."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, source_row, target, target_row = arguments
        lanes = Lanes(builder)
        rows = [lanes.load(source, (source_row, r)) for r in range(LANES)]
        half = LANES // 2
        while half:
            upper = [lane if not lane & half else lane - half + LANES for lane in range(LANES)]
            lower = [lane + half if not lane & half else lane + LANES for lane in range(LANES)]
            for r in range(LANES):
                if not r & half:
                    a, b = rows[r], rows[r + half]
                    rows[r], rows[r + half] = lanes.shuffle(a, b, upper), lanes.shuffle(a, b, lower)
            half //= 2
        for r in range(LANES):
            lanes.store(rows[r], target, (target_row, r))
        return context.get_dummy_value()

    return of_integers(4), build


@intrinsic
def _cell(typing_context, gates, units, before, after, squashed, hidden):  # type: ignore[no-untyped-def]
    """LANES units of one run at one step: gates in place, then the cell's state, its tanh and the hidden state."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        gates, units, before, after, squashed, hidden = arguments
        lanes = Lanes(builder)
        i, f, o = (lanes.sigmoid(lanes.load(gates, (units, gate))) for gate in range(3))
        u = lanes.tanh(lanes.load(gates, (units, 3)))
        state = lanes.fma(f, lanes.load(before), lanes.product(i, u))
        bounded = lanes.tanh(state)
        for gate, value in enumerate((i, f, o, u)):
            lanes.store(value, gates, (units, gate))
        lanes.store(state, after)
        lanes.store(bounded, squashed)
        lanes.store(lanes.product(o, bounded), hidden)
        return context.get_dummy_value()

    return of_integers(6), build


@intrinsic
def _cell_back(typing_context, gates, units, before, squashed, above, carry, bias):  # type: ignore[no-untyped-def]
    """`cell` backward: gates become their gradients and are added to `bias`, `carry` moves to the earlier step."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        gates, units, before, squashed, above, carry, bias = arguments
        lanes = Lanes(builder)
        i, f, o, u = (lanes.load(gates, (units, gate)) for gate in range(4))
        bounded, flowing = lanes.load(squashed), lanes.load(above)
        rest = lanes.minus(ONE, lanes.product(bounded, bounded))
        state = lanes.fma(lanes.product(flowing, o), rest, lanes.load(carry))
        gradients = (
            lanes.product(state, u, i, lanes.minus(ONE, i)),
            lanes.product(state, lanes.load(before), f, lanes.minus(ONE, f)),
            lanes.product(flowing, bounded, o, lanes.minus(ONE, o)),
            lanes.product(state, i, lanes.minus(ONE, lanes.product(u, u))),
        )
        for gate, gradient in enumerate(gradients):
            lanes.store(gradient, gates, (units, gate))
            lanes.store(lanes.plus(lanes.load(bias, (units, gate)), gradient), bias, (units, gate))
        lanes.store(lanes.product(state, f), carry)
        return context.get_dummy_value()

    return of_integers(7), build


@intrinsic
def _fma(typing_context, a, b, c):  # type: ignore[no-untyped-def]
    """a · b + c in float32, rounded once."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(F32, [F32] * 3)
        call = get_or_insert_function(builder.module, kind, "llvm.fma.f32")  # type: ignore[no-untyped-call]
        return builder.call(call, arguments)

    return types.float32(types.float32, types.float32, types.float32), build


wide_tile, narrow_tile = _tile(VECTORS), _tile(1)
move: Any = _move
turn: Any = _turn
cell: Any = _cell
cell_back: Any = _cell_back
fma: Any = _fma
