"""Small matrix products for Numba, one thread, matrices in cache.

Every element of a product is one chain of fused multiply-adds over k in order, so that a row's result does not depend
on the rows beside it, on the width of the vectors, or on the batch.

The right-hand matrix is read in panels of `PANEL` columns, see `pack`: rows of a wide matrix lie so far apart that
those of one tile share a few sets of the first cache, and push each other out of it.
"""

from __future__ import annotations

from gatecast.compute.machine_code import compiled
from gatecast.forecasting.lstm.vectors import LANES, ROWS, VECTORS, move, narrow_tile, of_integers, turn, wide_tile

BLOCK = LANES * VECTORS
PANEL = 64  # columns, a multiple of every BLOCK


@compiled(of_integers(12))
def gemm(a, a_row, a_step, b, b_rows, c, c_row, rows, columns, steps, start, start_row):  # type: ignore[no-untyped-def]
    """C (rows, columns) = start + A (rows, steps) · B (steps, columns), float32.

    Addresses are those of the first elements, strides are in floats: `a_row` between A's rows, `a_step` along k (swap
    them and A is read transposed), `c_row` between C's rows, whose columns are contiguous. B is packed, `b_rows` the
    rows of a panel in memory: B may be some of them. `start` is 0 for nothing, C's own address to add to it, or a bias
    with `start_row` 0. `rows` is a multiple of 4, `columns` of 16, `steps` at least 1.
    """
    for panel in range(0, columns, PANEL):
        width = min(PANEL, columns - panel)
        column = panel
        while column < panel + width:
            wide = panel + width - column >= BLOCK
            right = b + 4 * (panel * b_rows + column - panel)
            for row in range(0, rows, ROWS):
                left, into = a + 4 * row * a_row, c + 4 * (row * c_row + column)
                begun = start + 4 * (row * start_row + column) if start != 0 else 0
                if wide:
                    wide_tile(left, a_row, a_step, right, width, into, c_row, steps, begun, start_row)
                else:
                    narrow_tile(left, a_row, a_step, right, width, into, c_row, steps, begun, start_row)
            column += BLOCK if wide else LANES


@compiled(of_integers(4))
def pack(source, rows, columns, target):  # type: ignore[no-untyped-def]
    """Target = source in panels: `PANEL` columns of all rows, then the next; the last may be narrower.

    Addresses of contiguous floats; `columns` is a multiple of 16. Up to `PANEL` columns, source and target are alike.
    """
    for panel in range(0, columns, PANEL):
        width = min(PANEL, columns - panel)
        begin = target + 4 * panel * rows
        for row in range(rows):
            for column in range(0, width, LANES):
                move(source + 4 * (row * columns + panel + column), begin + 4 * (row * width + column))


@compiled(of_integers(4))
def transpose(source, rows, columns, target):  # type: ignore[no-untyped-def]
    """Target (columns, rows), in panels, = source (rows, columns), contiguous floats; both are multiples of 16."""
    for row in range(0, rows, LANES):
        panel = row // PANEL * PANEL
        width = min(PANEL, rows - panel)
        begin = target + 4 * (panel * columns + row - panel)
        for column in range(0, columns, LANES):
            turn(source + 4 * (row * columns + column), columns, begin + 4 * column * width, width)
