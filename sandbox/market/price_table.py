"""The prices of all symbols of a market at a time, looked up together or one by one."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from candlestep.sandbox.market.candles import Candles


class _Grid(NamedTuple):
    """Symbols whose candles complete at the same times, so that one look-up serves all."""

    candles: Candles
    closes: list[tuple[str, Sequence[float]]]


class PriceTable:
    """The closes of the symbols of a market, arranged for look-ups of all of them at one time."""

    def __init__(self, candles: Mapping[str, Candles]) -> None:
        """Arrange the candles of each symbol; linear in their number, unless their times differ."""
        self.candles = candles
        self._grids = _grids(candles)

    def floats(self, time: int) -> dict[str, float]:
        """Return the price at ``time`` of each symbol that has one, in the order of ``candles``."""
        prices: dict[str, float] = {}
        for candles, closes in self._grids:
            index = candles.last_complete(time)
            if index >= 0:
                for symbol, close in closes:
                    prices[symbol] = close[index]
            else:
                for symbol, _ in closes:
                    first = self.candles[symbol].first_open
                    if time >= first.time:
                        prices[symbol] = first.price
        if len(self._grids) == 1:
            return prices
        return {symbol: prices[symbol] for symbol in self.candles if symbol in prices}

    def decimals(self, time: int) -> dict[str, Decimal]:
        """Return ``floats`` as decimals."""
        # As decimal_of, without the call, which would be felt in every step.
        if len(self._grids) == 1:
            candles, closes = self._grids[0]
            index = candles.last_complete(time)
            if index >= 0:
                return {symbol: Decimal(repr(close[index])) for symbol, close in closes}
        return {symbol: Decimal(repr(price)) for symbol, price in self.floats(time).items()}


class Prices(Mapping[str, Decimal]):
    """The price at a time of each symbol that has one, by symbol. Equal to a ``dict`` of them.

    One symbol costs one look-up, however many there are; the first iteration looks up all.
    """

    __slots__ = ("_all", "_table", "_time")

    def __init__(self, table: PriceTable, time: int) -> None:
        self._table = table
        self._time = time
        self._all: dict[str, Decimal] | None = None

    def __getitem__(self, symbol: str) -> Decimal:
        price = self._table.candles[symbol].price(self._time)
        if price is None:
            raise KeyError(symbol)
        return price

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == (other.as_dict() if isinstance(other, Prices) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.as_dict())

    def __reduce__(self) -> tuple[type, tuple[dict[str, Decimal]]]:
        """Pickle and copy as a ``dict``, without the market."""
        return dict, (self.as_dict(),)

    def as_dict(self) -> dict[str, Decimal]:
        """Return all prices, sorted by symbol; the same ``dict`` each time."""
        if self._all is None:
            self._all = self._table.decimals(self._time)
        return self._all


def _grids(by_symbol: Mapping[str, Candles]) -> list[_Grid]:
    grids: list[_Grid] = []
    alike: dict[tuple[int, int, int], list[_Grid]] = {}
    for symbol, candles in by_symbol.items():
        first, last = candles.complete_time_of(0), candles.complete_time_of(-1)
        similar = alike.setdefault((len(candles), first, last), [])
        for grid in similar:
            if candles.completes_with(grid.candles):
                break
        else:
            grid = _Grid(candles, [])
            similar.append(grid)
            grids.append(grid)
        grid.closes.append((symbol, candles.closes))
    return grids
