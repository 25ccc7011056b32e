"""Ordinary sessions of a line as machine code: the account of `money` and the trades of `sizing`, to the bit.

A session is ordinary where nothing is booked but orders, nights and prices: no action or end, no perpetual contract, no
margin. `pass_sessions` stops before one that is not, or whose rules would say more than numbers (a rate that is
missing, no equity, a stuck book); `line.LineState.after` makes that one. These two are the readable form of what stands
here, and `tests/trading/test_kernel.py` holds one against the other.
"""

from __future__ import annotations

import math

import numpy as np

from gatecast.compute.machine_code import compiled
from gatecast.trading.flat import KINDS, NUMBERS
from gatecast.trading.kernel_sizing import size
from gatecast.trading.kernel_sums import added, larger, smaller, variance

_GAIN, _CURRENCY, _CARRY, _COMMISSION, _SPREAD, _IMPACT, _BORROWED, _TRADED, _LAG = (
    KINDS.index(one)
    for one in ("gain", "currency", "carry", "commission", "spread", "impact", "borrow", "traded", "lag")
)
(
    _BEFORE, _EQUITY, _INTEREST, _LATE, _CASH_LEFT, _VOLATILITY, _SPIKED, _REACHED, _EARNED, _EXPECTED, _LEVEL,
    _VARIANCE, _CORE_RETURN,
) = range(len(NUMBERS))  # fmt: skip


@compiled(inner=True)
def is_plain(s, begin, market, known, state):
    """Whether a session is one of those that are made here."""
    if not market.ordinary[s] or not state.number[4] > 0.0:
        return False
    for i in range(len(state.units)):
        if state.units[i] != 0.0 or state.orders[i] != 0.0:
            rate = market.rate[s, i]
            if not (0.0 < rate < np.inf) or known.ahead[s - known.first, i] != known.ahead[s - known.first, i]:
                return False
    return True


@compiled()
def pass_sessions(start, stop, begin, market, known, every, state, told):
    """Sessions from `start` on, at most up to `stop`: the first that was not made. `begin`: the line's first."""
    count = len(state.units)
    places, room = np.empty(count, np.int64), np.empty(count * count)
    work, parts, one = np.empty(count), np.empty(count + 1), np.empty(count)
    price, rate, units = np.empty(count), np.empty(count), np.empty(count)
    year, covariance = np.empty((count, count)), np.empty((count, count))
    rules, terms = every.rules, every.terms
    for s in range(start, stop):
        if not is_plain(s, begin, market, known, state):
            return s
        cash, surprise, peak = state.number[0], state.number[1], state.number[2]
        left, before = state.number[3], state.number[4]
        money = told.money[s]
        money[:] = 0.0

        # what is held moves with conversion rates, and through the nights
        for i in range(count):
            own = market.rate[s, i]
            idle = state.units[i] == 0.0 and state.orders[i] == 0.0
            rate[i] = state.rate[i] if own != own and idle else own
            old = state.units[i] * every.multiplier[i] * state.price[i]
            moved = 0.0 if state.units[i] == 0.0 else old * rate[i] - old * state.rate[i]
            one[i] = moved if every.funded[i] else 0.0
            work[i] = 0.0 if state.units[i] == 0.0 else old * rate[i]
        money[_CURRENCY] = added(one, count)
        days, nights, benchmark = market.days[s], market.nights[s], market.benchmark[s]
        credit = benchmark - terms.credit
        credit = 0.0 if credit < 0.0 else credit
        interest = cash * (benchmark + terms.debit if cash < 0.0 else credit) * days / terms.year
        for i in range(count):
            one[i] = larger(-work[i], 0.0) * terms.collateral * every.borrow[i] * days / terms.year
        money[_BORROWED] = added(one, count)
        for i in range(count):
            carry = market.carry[s, i]
            earned = -terms.carry * abs(work[i]) if carry != carry else carry * work[i]
            one[i] = earned * nights / terms.year if every.pair[i] else 0.0
        money[_CARRY] = added(one, count)
        cash += interest - money[_BORROWED] + money[_CARRY]

        # orders are filled
        commission, spread, impact = np.empty(count), np.empty(count), np.empty(count)
        gain, traded, lag, cost = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
        for i in range(count):
            held = state.units[i]
            after = held + state.orders[i]
            usual = market.usual[s, i] * rate[i]
            assumed = every.lendable[i] and (usual >= terms.least_lent if usual == usual else not every.has_volume[i])
            if not (assumed or not every.funded[i]):
                after = larger(after, smaller(held, 0.0))
            there = math.isfinite(market.close[s, i])
            fills = math.isfinite(market.fill[s, i]) and there and market.volume[s, i] != 0.0
            filled = after - held if fills else 0.0
            close = market.close[s, i] if there else state.price[i]
            fill = market.fill[s, i] if there and math.isfinite(market.fill[s, i]) else close
            was = fill if state.price[i] != state.price[i] else state.price[i]
            after = held + filled
            active = held != 0.0 or after != 0.0
            unit = every.multiplier[i] * rate[i] if active else 0.0
            last = close if active else 0.0
            was, fill = (was, fill) if active else (0.0, 0.0)
            move = (held * (fill - was) + after * (last - fill)) * unit
            value = filled * fill * unit
            gain[i], lag[i], one[i] = move, filled * (fill - was) * unit, -value if every.funded[i] else move
            units[i], price[i] = after, close
            number, value = abs(filled), abs(value)
            traded[i], commission[i], spread[i], impact[i] = value, 0.0, 0.0, 0.0
            if number > 0.0:
                fee = value * every.commission[i]
                if terms.per_unit == terms.per_unit:
                    fee = number * terms.per_unit * rate[i]
                commission[i] = larger(fee, terms.minimum)
                deviation, wider = market.deviations[s - 1, i], 1.0
                if market.usual_deviations[s - 1, i] > 0.0:
                    wider = deviation / market.usual_deviations[s - 1, i]
                    wider = wider if wider > 1.0 else 1.0
                spread[i] = value * every.half_spread[i] * wider
                share = terms.small_share if every.has_volume[i] else terms.share
                volume = market.volume[s, i] * rate[i]
                if volume > 0.0:
                    share = value / volume
                sigma = terms.unknown if deviation != deviation else deviation
                impact[i] = terms.impact * (sigma * value * math.sqrt(share))
            cost[i] = commission[i] + spread[i] + impact[i]
        for kind, cell in (
            (_GAIN, gain), (_LAG, lag), (_TRADED, traded), (_COMMISSION, commission), (_SPREAD, spread),
            (_IMPACT, impact),
        ):  # fmt: skip
            money[kind] = added(cell, count)
        cash += added(one, count)
        cash -= added(cost, count)
        funded = 0
        for i in range(count):
            told.weights[s, i] = 0.0 if units[i] == 0.0 else units[i] * every.multiplier[i] * price[i] * rate[i]
            if every.funded[i]:
                work[funded] = told.weights[s, i]
                funded += 1
        equity = cash + added(work, funded)
        if not equity > 0.0:
            return s

        # what the book's return says of its level
        for i in range(count):
            worth = 0.0 if units[i] == 0.0 else units[i] * (state.price[i] * state.rate[i]) * every.multiplier[i]
            one[i] = worth / before * market.earns[s, i]
        level = min(max(math.sqrt(surprise), rules.least_level), rules.most_level)
        earned = equity / before - 1 - interest / before
        expected = variance(one, state.covariance, places, room)
        number = told.number[s]
        number[_EARNED], number[_EXPECTED], number[_LEVEL] = earned, expected, level
        if expected > 0.0:
            surprise = rules.decay * surprise + (1 - rules.decay) * earned**rules.two / expected
        level = min(max(math.sqrt(surprise), rules.least_level), rules.most_level)
        if left > 1.0:
            left -= 1.0
        elif left == 1.0:
            left, peak = 0.0, equity
        else:
            peak = equity if equity > peak else peak
            if rules.stop > 0.0 and equity <= peak * (1 - rules.stop):
                left = float(rules.stop_sessions)

        # what is known of returns, and wanted
        k = s - known.first
        for i in range(count):
            for j in range(count):
                both = known.ahead[k, i] * known.ahead[k, j]
                covariance[i, j] = known.correlation[k, i, j] * both
                both = (known.ahead[k, i] * every.per_year[i]) * (known.ahead[k, j] * every.per_year[j])
                year[i, j] = known.correlation[k, i, j] * both
        for i in range(count):
            told.share[s, i] = market.core[s, i] if market.deviations[s, i] > 0.0 else 0.0
            earned_by = 0.0 if market.returns[s, i] != market.returns[s, i] else market.returns[s, i]
            own = market.core[s - 1, i] * earned_by
            one[i] = 0.0 if own != own else own
        number[_CORE_RETURN] = added(one, count)
        for i in range(count):
            work[i] = told.share[s - 1, i] * market.earns[s, i]
        past = variance(work, state.covariance, places, room)
        told.gate[s, :] = 0
        told.over[s], told.lotless[s] = False, -1
        number[_VOLATILITY], number[_SPIKED], number[_REACHED] = np.nan, np.nan, 0.0
        held = np.empty(count)
        for i in range(count):
            filled = math.isfinite(market.fill[s, i]) or not market.listed[s, i]
            one[i] = 0.0 if filled else state.orders[i]
            worth = price[i] * rate[i] * every.multiplier[i]
            held[i] = units[i] + one[i] if worth > 0.0 else 0.0
            work[i] = worth
        if rules.rebalanced:
            after = size(
                s,
                equity,
                level,
                left > 0.0,
                held,
                work.copy(),
                year,
                begin,
                market,
                every,
                told,
                places,
                room,
                work,
                parts,
            )
            if len(after) != count:
                return s
            has = level * variance(told.weights[s], year, places, room) ** rules.half
            number[_REACHED] = has >= rules.target * (1 - rules.book_band) * (1 - 1e-6)
            for i in range(count):
                one[i] = after[i] - held[i] + one[i]
        else:
            for i in range(count):
                told.weights[s, i] = told.weights[s, i] / max(equity, 1e-12)
                told.target[s, i] = told.core[s, i] = told.tilt[s, i] = 0.0

        told.number[s - 1, _VARIANCE] = past if past != 0.0 else np.nan
        number[_BEFORE], number[_EQUITY], number[_INTEREST], number[_CASH_LEFT] = before, equity, interest, cash
        number[_LATE] = 0.0
        told.units[s], told.trades[s] = units, one
        state.units[:], state.price[:], state.rate[:], state.orders[:] = units, price, rate, one
        state.covariance[:] = covariance
        state.number[0], state.number[1], state.number[2], state.number[3], state.number[4] = (
            cash, surprise, peak, left, equity,
        )  # fmt: skip
    return stop
