"""Small matrix products for Numba, one thread, matrices in cache.

Every element of a product is one chain of fused multiply-adds over k in order, so that a row's result does not depend
on the rows beside it, on the width of the vectors, or on the batch.
"""

from __future__ import annotations

from gatecast.compute.machine_code import compiled
from gatecast.forecasting.lstm.vectors import LANES, ROWS, VECTORS, narrow_tile, turn, wide_tile

BLOCK = LANES * VECTORS


@compiled()
def gemm(a, a_row, a_step, b, b_step, c, c_row, rows, columns, steps, start, start_row):  # type: ignore[no-untyped-def]
    """C (rows, columns) = start + A (rows, steps) · B (steps, columns), float32.

    Addresses are those of the first elements, strides are in floats: `a_row` between A's rows, `a_step` along k (swap
    them and A is read transposed), `b_step` and `c_row` between rows; columns are contiguous. `start` is 0 for nothing,
    C's own address to add to it, or a bias with `start_row` 0. `rows` is a multiple of 4, `columns` of 16, `steps` at
    least 1.
    """
    column = 0
    while column < columns:
        wide = columns - column >= BLOCK
        for row in range(0, rows, ROWS):
            left, right = a + 4 * row * a_row, b + 4 * column
            into = c + 4 * (row * c_row + column)
            begun = start + 4 * (row * start_row + column) if start != 0 else 0
            if wide:
                wide_tile(left, a_row, a_step, right, b_step, into, c_row, steps, begun, start_row)
            else:
                narrow_tile(left, a_row, a_step, right, b_step, into, c_row, steps, begun, start_row)
        column += BLOCK if wide else LANES


@compiled()
def transpose(source, rows, columns, target):  # type: ignore[no-untyped-def]
    """Target (columns, rows) = source (rows, columns), addresses of contiguous floats; both are multiples of 16."""
    for row in range(0, rows, LANES):
        for column in range(0, columns, LANES):
            turn(source + 4 * (row * columns + column), columns, target + 4 * (column * rows + row), rows)
