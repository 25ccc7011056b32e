"""The trades of one session as machine code: `sizing.trades_of`, to the bit; each function names the one that it is."""

from __future__ import annotations

import math

import numpy as np

from gatecast.compute.machine_code import compiled
from gatecast.trading.flat import GATES, NUMBERS
from gatecast.trading.kernel_sums import exact, larger, sign, smaller, variance
from gatecast.trading.sizing import SLACK

(
    _NAME, _NET, _HALT, _CLOSE, _STOP, _BORROW, _PARTICIPATION, _LOT, _TICKET, _CASH,
) = (
    GATES.index(one) for one in (
        "name", "net", "halt", "close", "stop", "borrow", "participation", "lot", "ticket", "cash",
    )
)  # fmt: skip
_VOLATILITY = NUMBERS.index("volatility")


@compiled(inner=True)
def scale_of(wanted, stuck, covariance, target, two, places, room):
    """See `sizing.scale_of`; -1 for None."""
    a = variance(wanted, covariance, places, room)
    if a == 0.0:
        return 0.0
    c, b = variance(stuck, covariance, places, room), 0.0
    if c > 0.0:
        b = (variance(wanted + stuck, covariance, places, room) - a - c) / 2
    root = b**two - a * (c - target**two)
    scale = (-b + math.sqrt(root)) / a if root >= 0.0 else -1.0
    return scale if scale >= 0.0 else -1.0


@compiled(inner=True)
def summed(weights, share, fixed, work, parts):
    """Exact sum of |weights - fixed| times a share."""
    for i in range(len(weights)):
        work[i] = abs(weights[i] - fixed[i]) * share[i]
    return exact(work, parts)


@compiled(inner=True)
def holds(weights, nothing, caps, work, parts):
    """See `sizing._Caps.hold`."""
    for one in weights:
        if not abs(one) <= caps.name + SLACK:
            return False
    for k in range(len(caps.most)):
        if not summed(weights, caps.shares[k], nothing, work, parts) <= caps.most[k] + SLACK:
            return False
    return abs(exact(weights, parts)) <= caps.net + SLACK


@compiled(inner=True)
def cut(wanted, fixed, nothing, caps, gate, work, parts):
    """See `sizing._Caps.cut`."""
    count = len(wanted)
    weights = np.empty(count)
    for i in range(count):
        bound = larger(abs(fixed[i]), caps.name)
        weights[i] = smaller(larger(wanted[i], -bound), bound)
        if abs(wanted[i]) > bound + SLACK:
            gate[i] = _NAME
    for k in range(len(caps.most)):
        share, cap = caps.shares[k], caps.most[k]
        held = summed(fixed, share, nothing, work, parts)
        more = summed(weights, share, fixed, work, parts)
        if more > 0.0 and held + more > cap + SLACK:
            left = (0.0 if cap - held < 0.0 else cap - held) / more
            for i in range(count):
                if share[i] > 0.0:
                    if weights[i] != fixed[i]:
                        gate[i] = caps.gates[k]
                    weights[i] = fixed[i] + left * (weights[i] - fixed[i])
    held = exact(fixed, parts)
    for i in range(count):
        work[i] = weights[i] - fixed[i]
    more = exact(work, parts)
    if abs(held + more) > caps.net + SLACK and more * (held + more) > 0.0:
        left = caps.net - math.copysign(held, held * more)
        left = (0.0 if left < 0.0 else left) / abs(more)
        for i in range(count):
            if weights[i] != fixed[i]:
                gate[i] = _NET
            weights[i] = fixed[i] + left * (weights[i] - fixed[i])
    return weights


@compiled(inner=True)
def toward(goal, weights, nothing, caps, gate, work, parts):
    """See `sizing._Caps.toward`."""
    if holds(weights, nothing, caps, work, parts):
        return weights
    count = len(weights)
    lowest, nearer = np.empty(count), np.empty(count)
    for i in range(count):
        lowest[i] = goal[i] if abs(weights[i]) > abs(goal[i]) else weights[i]
    left, why = 1.0, _NAME
    for k in range(len(caps.most)):
        most = summed(weights, caps.shares[k], nothing, work, parts)
        least = summed(lowest, caps.shares[k], nothing, work, parts)
        if most > caps.most[k] + SLACK and most > least:
            share = caps.most[k] - least
            share = (0.0 if share < 0.0 else share) / (most - least)
            if share < left:
                left, why = share, caps.gates[k]
    for i in range(count):
        one = lowest[i] + left * (weights[i] - lowest[i])
        one = smaller(larger(one, -caps.name), caps.name)
        nearer[i] = lowest[i] if abs(one) < abs(lowest[i]) else one
    if not holds(nearer, nothing, caps, work, parts):
        if abs(exact(nearer, parts)) > caps.net + SLACK:
            why = _NET
        nearer = goal.copy()
    for i in range(count):
        if abs(nearer[i] - weights[i]) > SLACK:
            gate[i] = why
    return nearer


@compiled(inner=True)
def whole(weights, held, units, unit, lot, room):
    """Weights -> units in lots, see `sizing._units_of` and `sizing._whole`; `held`: shares of the `units` held."""
    found = np.empty(len(weights))
    for i in range(len(weights)):
        if abs(weights[i] - held[i]) <= SLACK and weights[i] != 0.0:
            found[i] = units[i]
            continue
        wanted = 0.0 if weights[i] == 0.0 else weights[i] / unit[i]
        found[i] = wanted
        if not (lot[i] > 0.0 and wanted != 0.0):
            continue
        step, base = lot[i], abs(units[i]) if wanted * units[i] >= 0.0 else 0.0
        change = abs(wanted) - base
        if change >= 0.0:
            size = math.floor(change / step + SLACK) * step + base
        else:
            less = math.ceil(-change / step - SLACK)
            if less * step > larger(room[i] / unit[i], -change) * (1 + SLACK):
                less = less - 1
            size = -less * step + base
        found[i] = sign(wanted) * larger(size, 0.0)
    return found


@compiled(inner=True)
def weight(units, unit):
    """A share of equity; a name that is not held needs no price."""
    return 0.0 if units == 0.0 else units * unit


@compiled(inner=True)
def weights_of(units, unit):
    """(names,) shares of equity."""
    found = np.empty(len(units))
    for i in range(len(units)):
        found[i] = weight(units[i], unit[i])
    return found


@compiled(inner=True)
def without_small(units, held, unit, least, nothing, caps, gate, work, parts):
    """See `sizing._without_small`."""
    count, some = len(units), False
    small = np.empty(count, np.bool_)
    for i in range(count):
        small[i] = units[i] != held[i] and units[i] != 0.0 and abs(weight(units[i] - held[i], unit[i])) < least
        some |= small[i]
    if not some:
        return units
    for again in range(2):
        result = np.empty(count)
        for i in range(count):
            if again == 1 and not abs(units[i]) > abs(held[i]):
                small[i] = False
            result[i] = held[i] if small[i] else units[i]
        if holds(weights_of(result, unit), nothing, caps, work, parts):
            for i in range(count):
                if small[i]:
                    gate[i] = _TICKET
            return result
    return units


@compiled(inner=True)
def units_of(held_units, equity, unit, target, wanted, tradable, value, nothing, every, gate, work, parts):
    """See `sizing._units_of`; `value`: mean value traded a session."""
    rules, count = every.rules, len(target)
    held = weights_of(held_units, unit)
    room, reached, fixed, goal = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for i in range(count):
        part = rules.participation * 1.0 * value[i] / equity
        room[i] = (np.inf if part != part else part) if tradable[i] else 0.0
        low, high = held[i] - room[i], held[i] + room[i]
        reached[i] = smaller(larger(wanted[i], low), high)
        if abs(reached[i] - wanted[i]) > SLACK and tradable[i]:
            gate[i] = _PARTICIPATION
        fixed[i] = sign(held[i]) * larger(abs(held[i]) - room[i], 0.0)
        goal[i] = smaller(larger(target[i], low), high)
    goal = cut(goal, fixed, nothing, every.caps, np.empty(count, np.int64), work, parts)
    weights = toward(goal, reached, nothing, every.caps, gate, work, parts)

    again = weights_of(whole(weights, held, held_units, unit, every.lot, room), unit)
    net = exact(again, parts)
    excess = abs(net) - every.caps.net
    for i in range(count):
        work[i] = abs(again[i] - fixed[i]) if again[i] * net > 0.0 else 0.0
    more = exact(work, parts)
    if not (excess <= SLACK or more <= 0.0):
        left = 1 - excess / more
        left = 0.0 if left < 0.0 else left
        for i in range(count):
            if again[i] * net > 0.0:
                again[i] = fixed[i] + left * (again[i] - fixed[i])
    units = whole(again, held, held_units, unit, every.lot, room)
    for i in range(count):
        if units[i] == held_units[i] and abs(weights[i] - held[i]) > SLACK:
            thin = abs(reached[i] - wanted[i]) > SLACK and abs(wanted[i] - held[i]) >= every.lot[i] * unit[i]
            gate[i] = _PARTICIPATION if thin and tradable[i] else _LOT
    least = rules.ticket / equity
    units = without_small(units, held_units, unit, least, nothing, every.caps, gate, work, parts)

    weights = weights_of(units, unit)
    need, buys, spent = np.empty(count), np.empty(count), np.empty(count)
    for i in range(count):
        use = weights[i] if every.funded[i] else 0.0
        used = held[i] if every.funded[i] else 0.0
        cost = every.commission[i] + every.half_spread[i]
        need[i] = use - used + abs(weights[i] - held[i]) * cost
        buying = abs(weights[i]) > abs(held[i]) and need[i] > 0.0
        buys[i], spent[i], work[i] = need[i] if buying else 0.0, 0.0 if buying else need[i], used
    left = rules.limit - exact(work, parts) - exact(spent, parts)
    left, asked = (0.0 if left < 0.0 else left), exact(buys, parts)
    if not asked <= left + SLACK:
        for i in range(count):
            if abs(weights[i]) > abs(held[i]) and need[i] > 0.0:
                gate[i] = _CASH
                weights[i] = held[i] + left / asked * (weights[i] - held[i])
    units = whole(weights, held, held_units, unit, every.lot, room)
    return without_small(units, held_units, unit, least, nothing, every.caps, gate, work, parts)


@compiled(inner=True)
def is_off(weights, aimed, covariance, band, places, room):
    """Whether the book's volatility leaves its band."""
    has = variance(weights, covariance, places, room)
    return aimed > 0.0 and abs(math.sqrt(has / aimed) - 1) > band


@compiled(inner=True)
def size(s, equity, level, stopped, held, price, covariance, begin, market, every, told, places, room, work, parts):
    """The trades of a session, see `sizing.trades_of`: units after them; an empty array where it says more."""
    rules, count, none = every.rules, len(held), np.empty(0)
    tradable, evidence, nothing = market.tradable[s], market.evidence[s], np.zeros(count)
    wanted, core, tilt = np.empty(count), np.empty(count), np.empty(count)
    unit, stuck = np.empty(count), np.empty(count)
    closing, needed = np.empty(count, np.bool_), np.empty(count, np.bool_)
    share = told.share[s]
    for i in range(count):
        closing[i] = market.closing[s, i] or stopped
        own = market.tilt[s, i] if market.deviations[s, i] > 0.0 else 0.0
        tilt[i] = evidence[i] * own
        needed[i] = (share[i] != 0.0 or tilt[i] != 0.0) and tradable[i] and not market.closing[s, i]
        needed[i] |= held[i] != 0.0 and not tradable[i]
        if (needed[i] or held[i] != 0.0) and not price[i] > 0.0:
            return none
        unit[i] = (price[i] if price[i] > 0.0 else np.nan) / equity
    for i in range(count):
        for j in range(count):
            both = (needed[i] or held[i] != 0.0) and (needed[j] or held[j] != 0.0)
            if both and not math.isfinite(covariance[i, j]):
                return none
    shares, gate, most, alone = weights_of(held, unit), told.gate[s], 0.0, True
    for i in range(count):
        stuck[i] = 0.0 if tradable[i] else shares[i]
        free = tradable[i] and not closing[i]
        core[i], tilt[i] = (share[i], tilt[i]) if free else (0.0, 0.0)
        if tilt[i] != 0.0:
            most = larger(most, evidence[i])
    aim = rules.target / level
    scale = scale_of(core, nothing, covariance, aim, rules.two, places, room)
    for i in range(count):
        core[i] = core[i] * (scale if scale > 0.0 else 0.0)
    most = rules.tilt_share * aim * most
    large = math.sqrt(variance(tilt, covariance, places, room))
    shrink = most / large if large > 0.0 else 0.0
    for i in range(count):
        tilt[i] = tilt[i] * (shrink if shrink < 1.0 else 1.0) if large > 0.0 else 0.0
        wanted[i] = core[i] + tilt[i]
        alone &= core[i] == 0.0
    bounded, lowest = market.bounded[s], np.empty(count)
    if bounded:
        for i in range(count):
            lowest[i] = -np.inf
            if market.recalled[s, i]:
                lowest[i] = 0.0
            elif not market.lent[s, i]:
                lowest[i] = weight(smaller(held[i], 0.0), unit[i])
            if wanted[i] < 0.0 and lowest[i] > -np.inf:
                gate[i] = _BORROW
            if wanted[i] < 0.0 and lowest[i] == 0.0:
                core[i] = tilt[i] = wanted[i] = 0.0
    scale = scale_of(wanted, stuck, covariance, aim, rules.two, places, room)
    if scale < 0.0:
        return none
    if alone:
        scale = 1.0 if scale > 1.0 else scale
    for i in range(count):
        core[i], tilt[i] = scale * core[i], scale * tilt[i]
        told.core[s, i], told.tilt[s, i] = core[i], tilt[i]
        one = core[i] + tilt[i]
        if bounded:
            one = larger(one, -np.inf if stuck[i] != 0.0 else lowest[i])
        wanted[i] = stuck[i] + one
        if stuck[i] != 0.0:
            gate[i] = _HALT
        if closing[i] and tradable[i] and shares[i] != 0.0:
            gate[i] = _STOP if stopped else _CLOSE
    target = cut(wanted, stuck, nothing, every.caps, gate, work, parts)
    told.target[s] = target

    aimed = variance(target, covariance, places, room)
    within, same = np.empty(count), True
    for i in range(count):
        total, some = 0.0, 0
        for row in range(max(begin, s - rules.band_sessions + 1), s + 1):
            one = abs(told.target[row, i])
            total += one
            some += one > 0.0
        half = rules.symbol_band * (total / max(some, 1))
        within[i] = 0.0 if target[i] == 0.0 else smaller(larger(shares[i], target[i] - half), target[i] + half)
        same &= within[i] == shares[i]
    off, before, units = is_off(shares, aimed, covariance, rules.book_band, places, room), gate.copy(), held
    if off or not same or not holds(shares, nothing, every.caps, work, parts):
        units = units_of(
            held, equity, unit, target, within, tradable, market.value[s], nothing, every, gate, work, parts
        )
    if off or is_off(weights_of(units, unit), aimed, covariance, rules.book_band, places, room):
        gate[:] = before
        units = units_of(
            held, equity, unit, target, target, tradable, market.value[s], nothing, every, gate, work, parts
        )
    after = weights_of(units, unit)
    told.weights[s] = after
    told.over[s] = not holds(after, nothing, every.caps, work, parts)
    told.lotless[s] = -1
    for i in range(count):
        lot = every.lot[i] * unit[i]
        if target[i] != 0.0 and units[i] == 0.0 and abs(target[i]) < lot:
            told.lotless[s], told.lot[s] = i, lot
    told.number[s, _VOLATILITY] = level * math.sqrt(aimed)
    return units
