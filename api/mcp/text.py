"""The text of answers: the line of a session, tables as columns, amounts with the digits that matter."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

from candlestep.api.schemas.fields import money
from candlestep.api.schemas.orders import OrderResponse
from candlestep.api.schemas.turns import PartError
from candlestep.sandbox import Order, SandboxError, Session, format_time
from candlestep.sandbox.money import format_decimal

MOST_BYTES = 7000
"""The bytes that the tables of an answer take at most: sent as text and as structured content, with
all that comes with them, they stay below 16 KB."""
_MOST_PRICES = 10
_CENTS = Decimal("0.01")
_UNITS = Decimal("1e-8")
_SMALL_ACCOUNT = 100
_EIGHT_DIGITS = Context(prec=8, rounding=ROUND_HALF_UP)
_LIMITS = ("limit", "allowed", "attempted", "required", "available", "filter", "value", "nearest")
_FIGURE = (str, int, float, Decimal)
_MINUTE_END = ":00Z"


def session_line(session: Session) -> str:
    """Return the line with which every answer about a session begins."""
    portfolio = session.portfolio()
    return line_of(
        format_time(session.time),
        session.step_number,
        session.total_steps,
        portfolio.total_equity,
        portfolio.starting_balance,
        portfolio.available_cash,
    )


def line_of(
    time: str, step: int, total_steps: int, equity: Decimal, starting: Decimal, cash: Decimal
) -> str:
    """Return the line of a session: time, step, equity with its change, cash rounded down.

    Cash is never shown as more than there is to spend.
    """
    unit = _CENTS if starting >= _SMALL_ACCOUNT else _UNITS
    change = 100 * (equity / starting - 1)
    return (
        f"{short_time(time)} step {step}/{total_steps} equity {equity.quantize(unit)}"
        f" ({percent(change)}) cash {cash.quantize(unit, ROUND_DOWN)}"
    )


def short_time(time: str) -> str:
    """Return a time without seconds where they are 0: ``2025-01-05T01:00Z``."""
    return time.removesuffix(_MINUTE_END) + "Z" if time.endswith(_MINUTE_END) else time


def percent(value: Decimal | float) -> str:
    """Return a number of percent with 2 decimals: ``-4.12 %``; never a negative zero."""
    return f"{value + 0:.2f} %".replace("-0.00", "0.00")


def rounded_price(price: Decimal) -> Decimal:
    """Return a price rounded to 8 significant digits."""
    return _EIGHT_DIGITS.plus(price)


def price_text(price: Decimal) -> str:
    """Return the text of a price, rounded to 8 significant digits."""
    return money(rounded_price(price))


def prices_text(prices: Mapping[str, str]) -> str:
    """Return the prices of the first symbols: ``BTCUSDT 94010.00, ETHUSDT 3312.40``."""
    shown = [f"{symbol} {price}" for symbol, price in list(prices.items())[:_MOST_PRICES]]
    more = len(prices) - len(shown)
    return ", ".join(shown) + (f", {more} more" if more > 0 else "")


def table(header: str, rows: Sequence[str], most_bytes: int = MOST_BYTES) -> str:
    """Return rows under a header, the newest last; the oldest beyond ``most_bytes`` are left out."""
    if not rows:
        return ""
    kept: list[str] = []
    room = most_bytes - len(header)
    for row in reversed(rows):
        room -= len(row.encode()) + 2
        if room < 0:
            break
        kept.append(row)
    left_out = len(rows) - len(kept)
    note = f" ({left_out} older left out)" if left_out else ""
    return "\n".join([header + note, *reversed(kept)])


def order_text(order: OrderResponse) -> str:
    """Return an order: what it is, and where it stands."""
    kind = f"#{order.id} {order.side} {order.type} {_number(order.quantity)} {order.symbol}"
    if order.status == "filled":
        assert order.executed_price is not None
        pnl = "" if order.realized_pnl is None else f" pnl {_cents(order.realized_pnl)}"
        price = price_text(Decimal(order.executed_price))
        return f"{kind} filled at {price} fee {_cents(order.fee or '0')}{pnl}"
    prices = [
        f" {name} {_number(price)}"
        for name, price in (
            ("price", order.price),
            ("trigger", order.trigger_price),
            ("stop_loss", order.stop_loss),
            ("take_profit", order.take_profit),
        )
        if isinstance(price, str)
    ]
    reason = f" ({order.reason})" if order.reason else ""
    return f"{kind}{''.join(prices)} {order.status}{reason}"


def fill_text(order: OrderResponse, line_time: str) -> str:
    """Return a fill in one line, with its date where that is not the one of ``line_time``."""
    filled_at = short_time(order.filled_at or "")
    day, _, time = filled_at.rstrip("Z").partition("T")
    at = time if line_time.startswith(day) else f"{day[5:]}T{time}"
    return f"{order_text(order).replace(' filled at ', ' at ')} at {at}"


def open_order_rows(orders: Iterable[Order]) -> list[str]:
    """Return pending orders, a row each."""
    return [order_text(OrderResponse.of(order)).removesuffix(" pending") for order in orders]


def refusal_text(part: str, error: SandboxError | PartError) -> str:
    """Return the refusal of a part of a call, which stopped the rest of it."""
    return f"{part} refused: {error_text(error)}; the rest was not done"


def error_text(error: SandboxError | PartError) -> str:
    """Return a refusal: its code, its message in words of tools, and the figures of its limit."""
    details = error.details
    figures = [
        f"{name} {_figure(details[name])}"
        for name in _LIMITS
        if isinstance(details.get(name), _FIGURE)
    ]
    return f"{error.code}: {_without_paths(error.message)}" + (
        f" ({', '.join(figures)})" if figures else ""
    )


def _figure(value: str | float | Decimal) -> str:
    return format_decimal(value) if isinstance(value, Decimal) else str(value)


def volume_text(volume: float) -> str:
    """Return a volume with 2 or 3 significant digits: ``12``, ``1.2k``, ``3.4M``."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if volume >= unit:
            return f"{volume / (1e3 if letter == 'k' else unit):.3g}{letter}"
    return f"{volume:.0f}" if volume >= 10 else f"{volume:.2g}"


def quantity_text(quantity: Decimal) -> str:
    """Return a quantity with all its digits."""
    return format_decimal(quantity)


def cents(amount: Decimal) -> str:
    """Return an amount of money rounded to cents, or to 4 digits where that would hide it."""
    if amount and abs(amount) < 1:
        return format_decimal(Context(prec=4).plus(amount))
    return f"{amount.quantize(_CENTS)}"


def _cents(text: str) -> str:
    return cents(Decimal(text))


def _number(text: str) -> str:
    return format_decimal(Decimal(text))


def _without_paths(message: str) -> str:
    """Leave out what a message says of HTTP: a path helps nobody who has tools only."""
    parts = message.split("; ")
    kept = [part for part in parts if not part.startswith(("GET /", "POST /", "DELETE /"))]
    return "; ".join(kept)
