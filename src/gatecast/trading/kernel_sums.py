"""Sums and comparisons as machine code, with the bits of numpy and of `math.fsum`; and the variance of a book."""

from __future__ import annotations

import numpy as np

from gatecast.compute.machine_code import compiled


@compiled(inner=True)
def eight_at_a_time(values, first, count):
    """The sum of at most 128 numbers as numpy adds them."""
    total = -0.0
    whole = count - count % 8 if count >= 8 else 0
    if whole > 0:
        a, b, c, d = values[first], values[first + 1], values[first + 2], values[first + 3]
        e, f, g, h = values[first + 4], values[first + 5], values[first + 6], values[first + 7]
        for i in range(first + 8, first + whole, 8):
            a += values[i]
            b += values[i + 1]
            c += values[i + 2]
            d += values[i + 3]
            e += values[i + 4]
            f += values[i + 5]
            g += values[i + 6]
            h += values[i + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(first + whole, first + count):
        total += values[i]
    return total


@compiled()
def added(values, count):
    """The sum of the first so many numbers as numpy adds them: of more than 128 that of one half and the other."""
    if count <= 128:
        return 0.0 + eight_at_a_time(values, 0, count)
    first, size, done, left = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64)
    top, value = 0, 0.0
    first[0], size[0], done[0] = 0, count, 0
    while top >= 0:  # a stack, since code that calls itself cannot be kept
        half = size[top] // 2 - (size[top] // 2) % 8
        if size[top] <= 128:
            value = eight_at_a_time(values, first[top], size[top])
            top -= 1
        elif done[top] == 0:
            done[top] = 1
            first[top + 1], size[top + 1], done[top + 1] = first[top], half, 0
            top += 1
        elif done[top] == 1:
            done[top], left[top] = 2, value
            first[top + 1], size[top + 1], done[top + 1] = first[top] + half, size[top] - half, 0
            top += 1
        else:
            value = left[top] + value
            top -= 1
    return 0.0 + value


@compiled()
def exact(values, parts):
    """The sum of numbers, rounded once, as `math.fsum` (Shewchuk 1997); `parts`: room for as many and one."""
    count = 0
    for value in values:
        x, kept = value, 0
        for j in range(count):
            y = parts[j]
            if abs(x) < abs(y):
                x, y = y, x
            high = x + y
            low = y - (high - x)
            if low != 0.0:
                parts[kept] = low
                kept += 1
            x = high
        count = kept
        if x != 0.0:
            parts[count] = x
            count += 1
    if count == 0:
        return 0.0
    count -= 1
    high, low = parts[count], 0.0
    while count > 0:
        x = high
        count -= 1
        y = parts[count]
        high = x + y
        low = y - (high - x)
        if low != 0.0:
            break
    if count > 0 and ((low < 0.0 and parts[count - 1] < 0.0) or (low > 0.0 and parts[count - 1] > 0.0)):
        y = low * 2.0
        x = high + y
        if y == x - high:
            high = x
    return high


@compiled(inner=True)
def larger(a, b):
    """The larger of two, NaN where one is."""
    if a != a:
        return a
    return b if b != b or b > a else a


@compiled(inner=True)
def smaller(a, b):
    """The smaller of two, NaN where one is."""
    if a != a:
        return a
    return b if b != b or b < a else a


@compiled(inner=True)
def sign(a):
    """-1, 0 or 1."""
    return 1.0 if a > 0.0 else (-1.0 if a < 0.0 else 0.0)


@compiled()
def variance(weights, covariance, places, room):
    """See `covariance.book_variance`; `places` and `room` are for its work."""
    held = 0
    for i in range(len(weights)):
        if weights[i] != 0.0:
            places[held] = i
            held += 1
    at = 0
    for one in range(held):
        i = places[one]
        for other in range(held):
            j = places[other]
            room[at] = weights[i] * covariance[i, j] * weights[j]
            at += 1
    found = added(room, at)
    return 0.0 if found < 0.0 else found
