"""Renderings of an episode: a line of text, and an image that NumPy draws."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import format_time
from candlestep.sandbox.exchange.batch.exact import Floats, Integers
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.money import AMOUNT_PLACES
from candlestep.sandbox.session import Session

WIDTH, HEIGHT = 640, 360
_PRICES, _EQUITY = slice(10, 240), slice(260, 350)
_BACKGROUND = (18, 20, 26)
_LINE = (60, 64, 76)
_CLOSE = (196, 202, 216)
_WORTH = (88, 166, 255)
_BUY, _SELL = (63, 185, 80), (248, 81, 73)
_MARKER = 3


def line(session: Session, symbols: tuple[str, ...]) -> str:
    """Return the time, the prices, the weights and the equity of a session in one line."""
    portfolio = session.portfolio()
    values = {p.symbol: p.market_value for p in portfolio.positions}
    equity = portfolio.total_equity
    parts = [
        f"{symbol} {session.price(symbol):f} x {float(values[symbol] / equity) if symbol in values and equity else 0:.1%}"
        for symbol in symbols
    ]
    return f"{format_time(session.time)}  {'  '.join(parts)}  equity {equity:.2f}"


class Picture(NamedTuple):
    """The content of an image: closes with fills above, equity below, by step of the episode."""

    closes: Floats
    """The price at each step so far."""
    equity: Floats
    steps: int
    """The length of the episode, which is the width of the image."""
    buys: Integers
    """The steps after which something was bought."""
    sells: Integers

    @classmethod
    def of_session(cls, session: Session, symbol: str) -> "Picture":
        """Return the picture of a session so far, with the prices of one symbol."""
        times, total = session.total_equity()
        candles = session.market.candles_of(symbol)
        clock = session.config.clock
        fills: dict[str, list[int]] = {"buy": [], "sell": []}
        for fill in session.fills:
            if fill.symbol == symbol:
                fills[fill.side].append((fill.time - clock.start) // clock.interval)
        return cls(
            candles.close[np.maximum(candles.last_complete_at(times), 0)],
            as_floats(total, AMOUNT_PLACES),
            clock.total_steps,
            np.array(fills["buy"], dtype=np.int64),
            np.array(fills["sell"], dtype=np.int64),
        )

    def pixels(self) -> NDArray[np.uint8]:
        """Draw the image: 640 x 360 pixels in red, green and blue."""
        image = np.full((HEIGHT, WIDTH, 3), _BACKGROUND, dtype=np.uint8)
        image[250] = _LINE
        columns = self._columns(np.arange(len(self.closes)))
        heights = _heights(self.closes, _PRICES)
        _draw_line(image, columns, heights, _CLOSE)
        _draw_line(image, columns, _heights(self.equity, _EQUITY), _WORTH)
        for steps, color in ((self.buys, _BUY), (self.sells, _SELL)):
            for step in steps.tolist():
                row, column = heights[step], columns[step]
                image[
                    max(0, row - _MARKER) : row + _MARKER,
                    max(0, column - _MARKER) : column + _MARKER,
                ] = color
        return image

    def _columns(self, steps: Integers) -> Integers:
        columns: Integers = steps * (WIDTH - 1) // max(self.steps, 1)
        return columns


def _heights(values: Floats, band: slice) -> Integers:
    """Return the row of pixels of each value, the largest on top of the band."""
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    rows: Integers = np.rint(band.stop - 1 - share * (band.stop - 1 - band.start)).astype(np.int64)
    return rows


def _draw_line(
    image: NDArray[np.uint8], columns: Integers, rows: Integers, color: tuple[int, int, int]
) -> None:
    """Draw, in each column of pixels, the range that the values pass through there."""
    lows = np.minimum(rows, np.append(rows[:1], rows[:-1]))
    highs = np.maximum(rows, np.append(rows[:1], rows[:-1]))
    firsts = np.flatnonzero(np.diff(columns, prepend=-1))
    tops, bottoms = np.minimum.reduceat(lows, firsts), np.maximum.reduceat(highs, firsts)
    stops = np.append(columns[firsts][1:], columns[-1] + 1)
    for column, stop, top, bottom in zip(
        columns[firsts].tolist(), stops.tolist(), tops.tolist(), bottoms.tolist(), strict=True
    ):
        image[top : bottom + 1, column:stop] = color
