"""The stop and the target of positions: their triggers, and which of them a candle reaches first."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.exchange.batch.exact import Integers, muldiv
from candlestep.sandbox.exchange.batch.prices import LARGEST, POWERS, FillPrices
from candlestep.sandbox.exchange.batch.tape import NEVER, Tape

Indices = NDArray[np.intp]

TRIGGER_DIGITS = 8
"""Significant digits of the fill price to which triggers are rounded, half up."""
MILLION = 10**6

_FINEST = 16
_FLOAT_POWERS = 10.0 ** np.arange(-1, 40)
_WRAPPED_POWERS = np.array([(10**k + 2**63) % 2**64 - 2**63 for k in range(40)])


class Triggers(NamedTuple):
    """The triggers of guards for some fill prices, as whole numbers of 10 ** -places."""

    places: Integers
    stop: Integers
    target: Integers
    stop_from: Integers
    """The highest price of the tape that reaches the stop; -1 without one."""
    target_from: Integers
    """The lowest price of the tape that reaches the target; ``NEVER`` without one."""

    def at(self, index: Any) -> "Triggers":
        """Return those at some places."""
        return Triggers(*(column[index] for column in self))


def triggers_of(
    fill: FillPrices, stop_loss: Integers | int, take_profit: Integers | int, digits: int
) -> Triggers:
    """Return the triggers at distances from fill prices in millionths, 0 for none.

    ``digits`` are those of the tape. A stop that rounds to zero is none. Linear.
    """
    places = np.clip(_FINEST + TRIGGER_DIGITS - _decimal_size(fill), 0, _FINEST)
    stop = _trigger(fill, MILLION - stop_loss, places)
    target = _trigger(fill, MILLION + take_profit, places)
    has_stop = np.logical_and(stop_loss, stop)
    has_target = np.not_equal(take_profit, 0)
    return Triggers(
        places,
        stop,
        target,
        np.where(has_stop, _on_tape(stop, places, digits, upwards=False), -1),
        np.where(has_target, _on_tape(target, places, digits, upwards=True), NEVER),
    )


class Guards:
    """The guards of one symbol's positions, one stop and one target an account; most have none."""

    def __init__(self, accounts: int) -> None:
        self._stop_from = np.full(accounts, -1)
        self._target_from = np.full(accounts, NEVER)
        self._stop = np.zeros(accounts, dtype=np.int64)
        self._target = np.zeros(accounts, dtype=np.int64)
        self._places = np.zeros(accounts, dtype=np.int64)

    def clear(self, accounts: Indices) -> None:
        """Cancel the guards of some accounts."""
        self._stop_from[accounts] = -1
        self._target_from[accounts] = NEVER

    def place(self, accounts: Indices, quantity: Integers, triggers: Triggers) -> None:
        """Replace the guards of some accounts, whose positions are of ``quantity``.

        A guard whose value rounds to zero is not placed.
        """
        self._places[accounts] = triggers.places
        self._stop[accounts] = triggers.stop
        self._target[accounts] = triggers.target
        self._stop_from[accounts] = triggers.stop_from
        self._target_from[accounts] = triggers.target_from
        least = int(quantity.min()) * int(triggers.stop.min())
        if least < 2 * 10 ** int(triggers.places.max()):
            places = triggers.places
            worthless = ~_has_value(triggers.stop, quantity, places)
            self._stop_from[accounts[worthless]] = -1
            worthless = ~_has_value(triggers.target, quantity, places)
            self._target_from[accounts[worthless]] = NEVER

    def reached(self, low: Integers, high: Integers) -> Indices:
        """Return the accounts whose guards a step from ``low`` to ``high`` reaches."""
        return np.flatnonzero((low <= self._stop_from) | (high >= self._target_from))

    def base_prices(
        self, accounts: Indices, rows: Integers, tape: Tape
    ) -> tuple[Integers, Integers]:
        """Return the price, and its places, at which a candle triggers a guard of each account.

        The order within the candle is that of ``matching.walk``: what the open has reached, then
        the nearer extreme, then the farther one. A gap fills at the open.
        """
        opened, low, high = tape.open[rows], tape.low[rows], tape.high[rows]
        stop_from, target_from = self._stop_from[accounts], self._target_from[accounts]
        by_open = (opened <= stop_from) | (opened >= target_from)
        low_is_nearer = opened - low <= high - opened
        by_stop = (low <= stop_from) & (low_is_nearer | (high < target_from))
        trigger = np.where(by_stop, self._stop[accounts], self._target[accounts])
        base = np.where(by_open, opened, trigger)
        return base, np.where(by_open, tape.digits, self._places[accounts])

    def first_touches(
        self, accounts: Indices, firsts: Integers, lasts: Integers, tape: Tape
    ) -> Integers:
        """Return the first candle from ``firsts`` to ``lasts`` that reaches a guard of each account."""
        rows = lasts.copy()
        for place in np.flatnonzero(firsts < lasts).tolist():
            account, span = accounts[place], slice(firsts[place], lasts[place] + 1)
            reached = tape.low[span] <= self._stop_from[account]
            reached |= tape.high[span] >= self._target_from[account]
            rows[place] = firsts[place] + reached.argmax()
        return rows


def _decimal_size(fill: FillPrices) -> Integers:
    """Return the number of digits of each price in units of 1e-16."""
    size = np.searchsorted(_FLOAT_POWERS, fill.floats, side="right").astype(np.int64) - 1
    # A float may be on the wrong side of a power of ten; the difference modulo 2 ** 64 tells.
    near = _FLOAT_POWERS[size + 1]
    below = (fill.floats < near) & (fill.floats > near * (1 - 1e-12))
    above = fill.floats < _FLOAT_POWERS[size] * (1 + 1e-12)
    for place in np.flatnonzero(below | above).tolist():
        power = size[place] if below[place] else size[place] - 1
        with np.errstate(over="ignore"):
            is_reached = fill.units[place] - _WRAPPED_POWERS[power] >= 0
        size[place] = power + is_reached
    return size


def _trigger(fill: FillPrices, factor: Integers | int, places: Integers) -> Integers:
    """Return ``fill * factor / 10 ** 6`` in units of 10 ** -places, half up."""
    factors = np.broadcast_to(np.asarray(factor, dtype=np.int64), fill.units.shape)
    exponent = _FINEST + 6 - places
    direct = np.minimum(exponent, 17)
    trigger = muldiv(factors, fill.units, POWERS[direct], fill.floats)
    large = np.flatnonzero(exponent > 17)
    if len(large):
        # The divisor exceeds int64's bound: divide by 10 ** 15 down, then by the rest half up.
        units, many = fill.units[large], factors[large]
        floor = muldiv(many, units, POWERS[15], fill.floats[large])
        floor -= many * units - floor * POWERS[15] < 0
        rest = POWERS[exponent[large] - 15]
        trigger[large] = (floor + rest // 2) // rest
    return trigger


def _has_value(trigger: Integers, quantity: Integers, places: Integers) -> NDArray[np.bool_]:
    """Return whether ``round8(quantity * trigger)`` is above zero."""
    scale = POWERS[places]
    has_value: NDArray[np.bool_] = trigger > 0
    small = np.flatnonzero(trigger * quantity.astype(np.float64) < 2.0 * scale)
    if len(small):
        has_value[small] &= muldiv(quantity[small], trigger[small], scale[small]) > 0
    return has_value


def _on_tape(trigger: Integers, places: Integers, digits: int, *, upwards: bool) -> Integers:
    """Return a trigger in the units of a tape, rounded down or up; at most ``NEVER``."""
    finer = np.maximum(places - digits, 0)
    coarser = np.maximum(digits - places, 0)
    scale = POWERS[finer]
    rounded = -(-trigger // scale) if upwards else trigger // scale
    fits = rounded * POWERS[coarser].astype(np.float64) < LARGEST
    return np.where(fits, rounded * POWERS[coarser], NEVER)
