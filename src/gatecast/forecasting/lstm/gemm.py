"""Small matrix products for Numba: a register tile written in LLVM's vectors, for one thread and matrices in cache.

`gemm` adds to or sets C = A · B in float32. Every element of C is one chain of fused multiply-adds over k in order, so
that a row's result does not depend on the rows beside it, on the width of the vectors, or on the batch.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

ROWS = 4  # of C in one tile


def _registers() -> tuple[int, int]:
    """(floats in a vector, vectors in a tile's row): as much of C as the registers hold beside A and B."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 4
    return (8, 2) if features.get("avx2") else (4, 2)


LANES, VECTORS = _registers()
BLOCK = LANES * VECTORS


def _tile(vectors: int) -> Any:
    """A tile of ROWS x (vectors * LANES): addresses and strides in floats, all int64."""

    @intrinsic
    def tile(typing_context, a, a_row, a_step, b, b_step, c, c_row, steps, add):  # type: ignore[no-untyped-def]
        signature = types.void(*([types.int64] * 9))

        def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            a, a_row, a_step, b, b_step, c, c_row, steps, add = arguments
            i64, f32 = ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(f32, LANES)
            kind = ir.FunctionType(vector, [vector] * 3)
            fma = get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
            four = ir.Constant(i64, 4)
            zero = ir.Constant(vector, [0.0] * LANES)

            def at(base, floats, kind):  # type: ignore[no-untyped-def]
                return builder.inttoptr(builder.add(base, builder.mul(floats, four)), kind.as_pointer())

            rows = [builder.add(a, builder.mul(builder.mul(a_row, ir.Constant(i64, r)), four)) for r in range(ROWS)]
            before = builder.block
            loop, after = builder.append_basic_block("steps"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(i64)
            k.add_incoming(ir.Constant(i64, 0), before)
            sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(ROWS)]
            for line in sums:
                for one in line:
                    one.add_incoming(zero, before)
            line_of_b = builder.mul(k, b_step)
            loaded = [
                builder.load(at(b, builder.add(line_of_b, ir.Constant(i64, v * LANES)), vector), align=4)
                for v in range(vectors)
            ]
            step = builder.mul(k, a_step)
            undefined = ir.Constant(vector, ir.Undefined)
            spread = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            for r in range(ROWS):
                scalar = builder.load(at(rows[r], step, f32), align=4)
                broadcast = builder.shuffle_vector(
                    builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0)),
                    undefined,
                    spread,
                )
                for v in range(vectors):
                    sums[r][v].add_incoming(builder.call(fma, [broadcast, loaded[v], sums[r][v]]), loop)
            following = builder.add(k, ir.Constant(i64, 1))
            k.add_incoming(following, loop)
            totals = [[sums[r][v].incomings[1][0] for v in range(vectors)] for r in range(ROWS)]
            builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
            builder.position_at_end(after)
            adds = builder.icmp_signed("!=", add, ir.Constant(i64, 0))
            for r in range(ROWS):
                for v in range(vectors):
                    place = builder.add(builder.mul(c_row, ir.Constant(i64, r)), ir.Constant(i64, v * LANES))
                    pointer = at(c, place, vector)
                    with builder.if_else(adds) as (then, otherwise):
                        with then:
                            total = builder.fadd(builder.load(pointer, align=4), totals[r][v])
                            builder.store(total, pointer, align=4)
                        with otherwise:
                            builder.store(totals[r][v], pointer, align=4)
            return context.get_dummy_value()

        return signature, build

    return tile


@intrinsic
def _fma(typing_context, a, b, c):  # type: ignore[no-untyped-def]
    """a · b + c in float32, rounded once."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        single = ir.FloatType()
        kind = ir.FunctionType(single, [single] * 3)
        return builder.call(get_or_insert_function(builder.module, kind, "llvm.fma.f32"), arguments)

    return types.float32(types.float32, types.float32, types.float32), build


fma: Any = _fma
_wide, _narrow = _tile(VECTORS), _tile(1)


@njit(nogil=True, cache=True, error_model="numpy")
def gemm(a, a_row, a_step, b, b_step, c, c_row, rows, columns, steps, add):  # type: ignore[no-untyped-def]
    """C (rows, columns) = A (rows, steps) · B (steps, columns), or += where `add` is 1.

    Addresses are those of the first elements, strides are in floats: `a_row` between A's rows, `a_step` along k (swap
    them and A is read transposed), `b_step` and `c_row` between rows; columns are contiguous. `rows` is a multiple of
    4, `columns` of 16, `steps` at least 1.
    """
    column = 0
    while column < columns:
        wide = columns - column >= BLOCK
        for row in range(0, rows, ROWS):
            left, right = a + 4 * row * a_row, b + 4 * column
            into = c + 4 * (row * c_row + column)
            if wide:
                _wide(left, a_row, a_step, right, b_step, into, c_row, steps, add)
            else:
                _narrow(left, a_row, a_step, right, b_step, into, c_row, steps, add)
        column += BLOCK if wide else LANES
