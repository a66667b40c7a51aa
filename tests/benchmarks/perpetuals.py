"""Perpetuals against spot in the same run: liquidation armed, and searched over a year."""

from typing import Any

import numpy as np

from candlestep.sandbox import Candles, Market, Session, SessionConfig
from tests.benchmarks.market import END, MINUTE, START, SYMBOLS, YEAR, synthetic_year
from tests.benchmarks.table import Row, seconds

_STEPS = 20_000
_CROSS = ({"BTCUSDT": 2, "ETHUSDT": -30, "SOLUSDT": 40}, 20_000)
"""Quantities of a hedged account, and a balance with which it lives on the edge."""


def rows() -> list[Row]:
    """Return the rows of perpetuals."""
    spot = [synthetic_year(symbol) for symbol in SYMBOLS]
    perps = [_renamed(candles, f"{candles.symbol}-PERP") for candles in spot]
    third = _renamed(_reversed(spot[1]), "SOLUSDT-PERP")
    return [
        *_against_spot(Market(spot), Market(perps)),
        _cross_positions(Market([*perps, third])),
    ]


def _against_spot(spot: Market, perps: Market) -> list[Row]:
    step_spot, step_perp = _single_step(spot, 1), _single_step(perps, 2)
    year_spot, year_perp = _year(spot), _year(perps)
    return [
        Row(
            "single step of a perpetual account, cross positions in 2 symbols, 100 pending",
            f"{1 / step_perp:,.0f} steps/s",
            f"{1 / step_spot:,.0f} steps/s on spot",
            f"{step_spot / step_perp:.2f} ×",
            "≥ 0.7 ×",
            step_spot / step_perp >= 0.7,
        ),
        Row(
            "batch step of a year, a perpetual position armed, 10 pending orders",
            f"{year_perp * 1e3:.3f} ms",
            f"{year_spot * 1e3:.3f} ms on spot",
            f"{year_perp / year_spot:.2f} ×",
            "≤ 2 ×",
            year_perp <= 2 * year_spot,
        ),
    ]


def _session(market: Market, **settings: Any) -> Session:
    is_perp = market.symbols[0].endswith("-PERP")
    if is_perp:
        settings = {"market_type": "perp", "funding": False, "leverage": 20, **settings}
    config = SessionConfig(
        start_time=START,
        end_time=END + MINUTE,
        allow_gaps=True,
        slippage={"model": "none"},
        **{"starting_balance": 1_000_000, **settings},
    )
    return Session(config, market)


def _with_pending(session: Session, count: int) -> Session:
    for number in range(count):
        session.place_order(
            symbol=session.market.symbols[number % 2],
            side="buy",
            type="limit",
            quantity="0.01",
            price=10 + number / 100,
        )
    return session


def _single_step(market: Market, held: int) -> float:
    session = _with_pending(_session(market), 100)
    for symbol in market.symbols[:held]:
        session.place_order(symbol=symbol, side="buy", quantity="0.1")

    def step_and_read() -> None:
        for _ in range(_STEPS):
            step = session.step()
            _ = step.prices, step.portfolio.total_equity

    return seconds(step_and_read) / _STEPS


def _year(market: Market) -> float:
    """Return the seconds of a year with a position that stays."""
    sessions = []
    for _ in range(7):
        session = _with_pending(_session(market), 10)
        session.place_order(symbol=market.symbols[0], side="buy", quantity=3)
        sessions.append(session)
    remaining = iter(sessions)
    return seconds(lambda: next(remaining).step(YEAR), repeat=7)


def _cross_positions(market: Market) -> Row:
    quantities, balance = _CROSS
    sessions = []
    for _ in range(5):
        session = _session(market, starting_balance=balance, fee_rate=0)
        for symbol, quantity in quantities.items():
            side = "buy" if quantity > 0 else "sell"
            session.place_order(symbol=f"{symbol}-PERP", side=side, quantity=abs(quantity))
        sessions.append(session)
    remaining = iter(sessions)
    year = seconds(lambda: next(remaining).step(YEAR))
    return Row(
        "three cross positions over a year of minutes, until they are liquidated",
        f"{year * 1e3:.1f} ms",
        f"{len(sessions[0].liquidations)} liquidations",
        "",
        "≤ 50 ms",
        year <= 50e-3,
    )


def _renamed(candles: Candles, symbol: str) -> Candles:
    return Candles.restore(candles.arrays._replace(symbol=symbol))


def _reversed(candles: Candles) -> Candles:
    """Return another market of the same kind: the candles backwards in time."""
    columns = {name: np.array(column[::-1]) for name, column in candles.arrays.columns.items()}
    return Candles(
        symbol="SOLUSDT",
        interval="1m",
        open_time=candles.open_time,
        open=columns["close"],
        high=columns["high"],
        low=columns["low"],
        close=columns["open"],
        volume=columns["volume"],
    )


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
