"""A market by name: what to load, in whichever process needs it."""

from collections.abc import Sequence
from pathlib import Path

from candlestep.data.market.loading import load_market
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import Market
from candlestep.sandbox.config import Time


class MarketSource:
    """The arguments of ``load_market``, which a call loads.

    Environments take it for a market: it is pickled as a few names, and each process loads the
    candles itself, next to a server from files that all of them map.

    >>> source = MarketSource("/home/me/.candlestep", "BTCUSDT")
    >>> gymnasium.make("Candlestep/Target-v0", market=source)
    """

    def __init__(
        self,
        home: str | Path | None = None,
        symbols: str | Sequence[str] | None = None,
        *,
        exchange: str = DEFAULT_EXCHANGE,
        start: Time | None = None,
        end: Time | None = None,
    ) -> None:
        """Name the candles; nothing is loaded or checked yet. ``home`` is made absolute."""
        self.home = None if home is None else Path(home).expanduser().absolute()
        self.symbols = symbols
        self.exchange = exchange
        self.start = start
        self.end = end

    def __call__(self) -> Market:
        """Return the market; raises as ``load_market`` does."""
        return load_market(
            self.symbols, home=self.home, exchange=self.exchange, start=self.start, end=self.end
        )

    def __repr__(self) -> str:
        names = ("home", "symbols", "exchange", "start", "end")
        settings = {name: getattr(self, name) for name in names}
        given = (f"{name}={value!r}" for name, value in settings.items() if value is not None)
        return f"MarketSource({', '.join(given)})"
