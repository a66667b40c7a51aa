"""Equity at any number of instants, derived exactly from the history of an account.

Amounts are whole numbers of 1e-8 (units), so that whole columns are computed at once without
rounding.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.exchange.history import AccountHistory, DType, StepSeries
from candlestep.sandbox.exchange.orders import Fill
from candlestep.sandbox.market.candles import Candles, Integers
from candlestep.sandbox.market.fixed_point import Units, as_floats
from candlestep.sandbox.market.frames import Frame, pandas_frame
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, EXACT, Whole, add, parse_count

SNAPSHOT_STEPS = 60
"""Number of steps from one snapshot of equity to the next."""

_INT64_HEADROOM = 2**62


class Snapshot(msgspec.Struct, frozen=True):
    """An account at one instant (ms), after all its events; amounts in quote currency."""

    time: int
    total_equity: Decimal
    available_cash: Decimal
    locked_cash: Decimal
    position_value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    funding: Decimal | None = None
    """Funding received less funding paid since the start; None on spot."""

    @property
    def wallet_balance(self) -> Decimal:
        """Cash, available or locked: on perpetuals the wallet of the account."""
        return add(self.available_cash, self.locked_cash)


class EquityCurve(msgspec.Struct, frozen=True, eq=False):
    """Snapshots as columns: ``time`` in milliseconds, amounts as whole numbers of 1e-8."""

    time: Integers
    total_equity: Units
    available_cash: Units
    locked_cash: Units
    position_value: Units
    unrealized_pnl: Units
    realized_pnl: Units
    funding: Units | None = None
    """Funding received less funding paid since the start; None on spot."""

    @property
    def _columns(self) -> dict[str, Units]:
        columns = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: column for name, column in columns.items() if column is not None}

    def __len__(self) -> int:
        return len(self.time)

    def __iter__(self) -> Iterator[Snapshot]:
        """Iterate over the rows as snapshots."""
        columns = [column.tolist() for column in self._columns.values()]
        for time, *amounts in zip(*columns, strict=True):
            yield Snapshot(time, *map(_amount, amounts))

    def __repr__(self) -> str:
        if not len(self):
            return "EquityCurve(empty)"
        times, equity = self.time[[0, -1]], as_floats(self.total_equity[[0, -1]], AMOUNT_PLACES)
        return (
            f"EquityCurve({len(self)} from {format_time(int(times[0]))} to"
            f" {format_time(int(times[1]))}, total equity {equity[0]:.2f} to {equity[1]:.2f})"
        )

    def to_frame(self) -> Frame:
        """Return a pandas frame by ``time`` (UTC), with amounts in quote currency as floats.

        Raises ``ImportError`` without pandas.
        """
        columns = {
            name: as_floats(column, AMOUNT_PLACES)
            for name, column in self._columns.items()
            if name != "time"
        }
        return pandas_frame({"time": self.time.astype("datetime64[ms]"), **columns}, index="time")


def snapshot_times(clock: Clock, now: int, fills: Iterable[Fill], *, is_over: bool) -> list[int]:
    """Return the start, every 60 steps up to ``now``, every fill and, if all ``is_over``, ``now``."""
    times = set(range(clock.start, now + 1, SNAPSHOT_STEPS * clock.interval))
    times.update(fill.time for fill in fills)
    if is_over:
        times.add(now)
    return sorted(times)


def times_of_steps(clock: Clock, now: int, steps: Whole) -> Integers:
    """Return the start, every ``steps`` steps since, and ``now``, in milliseconds."""
    times = np.arange(clock.start, now + 1, parse_count("steps", steps) * clock.interval)
    return times if times[-1] == now else np.append(times, now)


def equity_curve(
    history: AccountHistory, market: Market, times: Sequence[int] | Integers
) -> EquityCurve:
    """Return the account at each of ``times`` (sorted), after all events of that time.

    Linear in the number of times and of changes.
    """
    instants = np.asarray(times, dtype=np.int64)
    dtype = _dtype(history, market)

    def at(series: StepSeries) -> Units:
        return series.at(instants, dtype)

    available, locked, realized = at(history.available), at(history.locked), at(history.realized)
    value = cost = np.zeros(len(instants), dtype)
    for symbol, series in history.holdings.items():
        quantity = at(series.quantity)
        value = value + _market_value(history.line(market, symbol), quantity, instants)
        cost = cost + at(series.cost_basis)
    unrealized = value - cost
    funding = None
    if history.is_margined:
        value, funding = unrealized, at(history.funding)
    return EquityCurve(
        instants,
        available + locked + value,
        available,
        locked,
        value,
        unrealized,
        realized,
        funding,
    )


def total_equity(history: AccountHistory, market: Market, times: Integers) -> Units:
    """Return total equity alone at each of ``times``, in units: cheaper than the whole curve."""
    dtype = _dtype(history, market)
    amounts = zip(history.available.amounts, history.locked.amounts, strict=True)
    cash = StepSeries(history.available.times, [add(*pair) for pair in amounts])
    equity = cash.at(times, dtype)
    for symbol, series in history.holdings.items():
        quantity = series.quantity.at(times, dtype)
        equity += _market_value(history.line(market, symbol), quantity, times)
        if history.is_margined:
            equity -= series.cost_basis.at(times, dtype)
    return equity


def exposed_value(history: AccountHistory, market: Market, times: Integers) -> Units:
    """Return the market value of all positions at each of ``times``, in units; shorts add to it."""
    dtype = _dtype(history, market)
    exposed: Units = np.zeros(len(times), dtype)
    for symbol, series in history.holdings.items():
        quantity = series.quantity.at(times, dtype)
        exposed = exposed + np.abs(_market_value(history.line(market, symbol), quantity, times))
    return exposed


def equity_instants(history: AccountHistory, market: Market, start: int, end: int) -> Integers:
    """Return every instant from ``start`` to ``end`` at which equity may have changed.

    These are the changes of the account and the completions of candles of symbols held.
    """
    instants = np.empty(0, dtype=np.int64)
    for symbol, series in history.holdings.items():
        candles = market.candles_of(symbol)
        first = candles.last_complete(series.quantity.times[0] - 1) + 1
        instants = _union(instants, candles.completions(first, candles.last_complete(end) + 1))
    changes = np.array(sorted({start, *history.available.times, end}), dtype=np.int64)
    return _union(instants, changes)


def _dtype(history: AccountHistory, market: Market) -> DType:
    """Return int64 if every amount in units and every sum of them fits, else Python integers."""
    total = history.available.largest + history.locked.largest + history.realized.largest
    for symbol, series in history.holdings.items():
        prices = history.line(market, symbol).price_units
        if prices.units.dtype == object:
            return prices.units.dtype
        total += series.quantity.largest * prices.largest + series.cost_basis.largest
    return np.dtype(np.int64 if total < _INT64_HEADROOM else object)


def _market_value(candles: Candles, quantity: Units, times: Integers) -> Units:
    """Return ``round8(quantity * price)`` at each of ``times``, in units."""
    units, digits, _ = candles.price_units
    value: Units = quantity * _price_at(units, candles, times)
    if digits:
        is_short = quantity < 0
        has_short = bool(is_short.any())
        if has_short:  # Halves are rounded away from zero.
            value[is_short] = -value[is_short]
        value += 10**digits // 2
        value //= 10**digits
        if has_short:
            value[is_short] = -value[is_short]
    return value


def _price_at(price_units: Units, candles: Candles, times: Integers) -> Units:
    """Return the price in units at each of ``times``.

    Quick if they are consecutive completions of candles, and what comes after the last one.
    """
    if not len(times):
        return price_units[:0]
    first = candles.last_complete(int(times[0]))
    completions = candles.completions(first + 1, first + len(times))
    if not np.array_equal(completions, times[1 : 1 + len(completions)]):
        return price_units[candles.last_complete_at(times) + 1]
    prices = price_units[first + 1 : first + 2 + len(completions)]
    after = len(times) - len(prices)
    return np.concatenate([prices, np.repeat(prices[-1:], after)]) if after else prices


def _union(some: Integers, others: Integers) -> Integers:
    """Return the distinct members of two arrays, each sorted and distinct, sorted."""
    few, many = sorted((some, others), key=len)
    if np.array_equal(few, many[len(many) - len(few) :]):
        return many
    places = np.searchsorted(many, few)
    missing = few[(places == len(many)) | (many[np.minimum(places, len(many) - 1)] != few)]
    if not len(missing):
        return many
    # The stable sort recognises sorted runs, so that merging two of them is linear.
    return np.sort(np.concatenate([many, missing]), kind="stable")


def _amount(units: int) -> Decimal:
    """Return ``units`` hundred-millionths as a decimal with 8 places."""
    return EXACT.scaleb(Decimal(units), -AMOUNT_PLACES)
