"""The disguise of a market: the settings, and the names and the shift of time that they draw."""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import msgspec

from candlestep.sandbox.clock import WEEK, parse_time
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.market.blind.draws import Draws
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.market.symbols import PERPETUAL, is_perpetual, is_spot, parse_symbol
from candlestep.sandbox.money import Whole, python_number

Prices = bool | Literal["exact"]
Variant = Literal["none", "mirror", "bootstrap"]
VARIANTS: tuple[str, ...] = get_args(Variant)
LARGEST_SEED = 2**53 - 1
"""The largest seed: every reader of JSON keeps it whole."""

BLIND_EXCHANGE = "blind"
"""The exchange of a session whose names are hidden."""

_EARLIEST, _LATEST = parse_time("1990-01-01"), parse_time("2005-01-01")
"""The years into which times are shifted, in which no cryptocurrency was traded."""


class BlindSettings(msgspec.Struct, frozen=True):
    """The parts of a market that a disguise changes, and the seed that it draws from."""

    seed: int
    names: bool = True
    """Symbols become ``ASSET1USDT``, ``ASSET2USDT``, …; the quote stays."""
    times: bool = True
    """Times are shifted by a whole number of weeks, to between 1990 and 2005."""
    prices: Prices = True
    """Prices are multiplied and rounded to 6 digits, or ``"exact"``: not rounded, and recoverable."""
    variant: Variant = "none"

    @classmethod
    def parse(
        cls,
        seed: Whole,
        names: bool = True,
        times: bool = True,
        prices: Prices = True,
        variant: str = "none",
    ) -> "BlindSettings":
        """Check settings; raises ``InvalidParameter`` naming the field."""
        number = python_number(seed)
        if type(number) is not int or not 0 <= number <= LARGEST_SEED:
            raise InvalidParameter(
                "seed", f"must be a whole number from 0 to {LARGEST_SEED}, got {abbreviate(seed)}"
            )
        for field, value in (("names", names), ("times", times)):
            if not isinstance(value, bool):
                raise InvalidParameter(field, f"must be true or false, got {abbreviate(value)}")
        if not isinstance(prices, bool) and prices != "exact":
            raise InvalidParameter(
                "prices", f"must be true, false or 'exact', got {abbreviate(prices)}"
            )
        if variant not in VARIANTS:
            raise InvalidParameter("variant", f"must be one of {', '.join(VARIANTS)}")
        settings = {"names": names, "times": times, "prices": prices, "variant": variant}
        return msgspec.convert({"seed": number} | settings, cls)


class Disguise(msgspec.Struct, frozen=True):
    """All that a disguise changes, except for prices, which depend on the candles."""

    settings: BlindSettings
    names: Mapping[str, str]
    """The blind name of each symbol."""
    shift: int
    """Milliseconds that are added to every time."""

    @classmethod
    def draw(cls, settings: BlindSettings, symbols: Iterable[str], span: Span) -> "Disguise":
        """Draw the names of ``symbols``, and the shift of a market that covers ``span``."""
        known = sorted(set(symbols))
        names = _names(settings.seed, known) if settings.names else {name: name for name in known}
        return cls(settings, names, _shift(settings.seed, span) if settings.times else 0)

    @property
    def real_names(self) -> dict[str, str]:
        """The symbol behind each blind name."""
        return {blind: real for real, blind in self.names.items()}


def pair_of(symbol: str) -> str:
    """Return the pair whose price a perpetual follows; any other symbol is its own."""
    return symbol.removesuffix(PERPETUAL)


def _names(seed: int, symbols: list[str]) -> dict[str, str]:
    """Return the blind names of sorted symbols; those of one base have one number."""
    parts = {symbol: _currencies(symbol) for symbol in symbols}
    bases = sorted({base for base, _ in parts.values()})
    numbers = {base: place for place, base in enumerate(Draws(seed, "names").shuffled(bases), 1)}
    return {
        symbol: f"ASSET{numbers[base]}{quote}{PERPETUAL if is_perpetual(symbol) else ''}"
        for symbol, (base, quote) in parts.items()
    }


def _currencies(symbol: str) -> tuple[str, str]:
    """Return the base and the quote of a symbol; one that tells no quote is its own base."""
    if not is_spot(pair_of(symbol)):
        return pair_of(symbol), ""
    pair = parse_symbol(symbol)
    return pair.base, pair.quote


def _shift(seed: int, span: Span) -> int:
    """Draw a whole number of weeks, in ms; a market of more than 15 years begins in 1990."""
    first, last = span
    fewest = -((first - _EARLIEST) // WEEK)
    most = (_LATEST - last) // WEEK
    return WEEK * (fewest + Draws(seed, "times").below(max(1, most - fewest + 1)))
