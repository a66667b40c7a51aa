"""Commands of a margin account: leverage, margin mode, and transfers between its wallets."""

from decimal import Decimal

import msgspec

from candlestep.sandbox.errors import InsufficientMargin, InvalidParameter, InvalidState
from candlestep.sandbox.exchange.clearing import MARGIN_MODES, Clearing
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.margin.account import ChangeKind, MarginChange, MarginTerms
from candlestep.sandbox.exchange.margin.clearing import MarginClearing
from candlestep.sandbox.exchange.margin.positions import unrealized_pnl
from candlestep.sandbox.exchange.margin.settings import parse_leverage, require_leverage
from candlestep.sandbox.exchange.orders import parse_choice
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    MAXIMUM,
    ZERO,
    add,
    format_decimal,
    parse_number,
    rounded,
    subtract,
)


def require_margin(clearing: Clearing, action: str) -> MarginClearing:
    """Return the clearing of a margin account; raises ``InvalidState`` for a spot account."""
    if not isinstance(clearing, MarginClearing):
        raise InvalidState(
            f"cannot {action}: this is a spot session; create one with market_type 'perp'",
            market_type="spot",
        )
    return clearing


def set_leverage(exchange: Exchange, symbol: str, leverage: object) -> None:
    """Set the leverage of ``symbol``; an isolated wallet stays as it is.

    Raises ``InvalidParameter`` (not a whole number, above that of the tiers), ``InvalidState``
    (lowered with an isolated position), ``LeverageLimit`` (the position and its orders are too
    large for it) and ``InsufficientMargin``. A refusal changes nothing.
    """
    clearing, symbol = _margin_of(exchange, symbol, "set the leverage")
    account, before, now = clearing.account, clearing.account.terms[symbol], exchange.now
    number = parse_leverage(leverage)
    require_leverage(symbol, number, before.tiers)
    is_lower = number < before.leverage
    if is_lower and before.is_isolated and symbol in account.open_holdings:
        raise InvalidState(
            f"the leverage of {symbol} cannot be lowered while it has an isolated position; close"
            " it first, or add margin to it",
            symbol=symbol,
        )
    after = account.copy()
    after.terms[symbol] = _with_leverage(before, number)
    refusal = None
    if clearing.has_mark(symbol, now):
        refusal = clearing.rules.leverage_refusal(after, symbol, now)
    if refusal is not None:
        raise refusal
    if is_lower:
        available = clearing.rules.available(now)
        left = clearing.rules.available(now, after)
        if left < 0:
            raise InsufficientMargin(
                f"leverage {format_decimal(number)} needs {subtract(available, left):f} more margin"
                f" for {symbol}, but only {max(available, ZERO):f} is available; choose a higher"
                " leverage, or reduce the position",
                required=subtract(available, left),
                available=max(available, ZERO),
            )
    account.terms[symbol] = after.terms[symbol]
    if number != before.leverage:
        clearing.guard.changed_at[symbol] = now
        clearing.guard.disarm(symbol)
    _note(exchange, clearing, "leverage", symbol, f"{number:f}")
    _lock(clearing, symbol, now)


def set_margin_mode(exchange: Exchange, symbol: str, mode: object) -> None:
    """Set the margin mode of ``symbol``, ``cross`` or ``isolated``.

    Raises ``InvalidParameter``, and ``InvalidState`` with a position or a pending order.
    """
    clearing, symbol = _margin_of(exchange, symbol, "set the margin mode")
    margin_mode = parse_choice("margin_mode", mode, MARGIN_MODES)
    if symbol in clearing.account.open_holdings or clearing.pending.of([symbol]):
        raise InvalidState(
            f"the margin mode of {symbol} cannot change while it has a position or a pending order;"
            " close and cancel them first",
            symbol=symbol,
        )
    terms = clearing.account.terms[symbol]
    clearing.account.terms[symbol] = msgspec.structs.replace(
        terms, is_isolated=margin_mode == "isolated"
    )
    _note(exchange, clearing, "margin_mode", symbol, margin_mode)


def transfer_margin(exchange: Exchange, symbol: str, amount: object) -> None:
    """Move ``amount`` from the cross wallet to the isolated wallet of ``symbol``, or back.

    A negative amount is taken out: at most the wallet, and at most what it and the unrealized PnL
    have beyond the initial margin at the mark. At most the smaller of cross wallet and available
    balance is added. Raises ``InvalidParameter``, ``InvalidState`` without an isolated position,
    and ``InsufficientMargin``.
    """
    clearing, symbol = _margin_of(exchange, symbol, "transfer margin")
    now = exchange.now
    moved = rounded(parse_number("amount", amount), AMOUNT_PLACES)
    if not moved or abs(moved) > MAXIMUM:
        raise InvalidParameter("amount", "must be a number other than 0, at most 1e16")
    account = clearing.account
    if symbol not in account.isolated_wallets:
        raise InvalidState(
            f"{symbol} has no isolated position to move margin to or from", symbol=symbol
        )
    if moved > 0:
        most = min(account.cross_wallet, clearing.rules.available(now))
    else:
        most = _most_to_remove(clearing, symbol, now)
    if abs(moved) > most:
        action = "added to" if moved > 0 else "taken out of"
        raise InsufficientMargin(
            f"at most {max(most, ZERO):f} can be {action} the isolated wallet of {symbol} now",
            required=abs(moved),
            available=max(most, ZERO),
        )
    account.move_margin(symbol, moved)
    if moved < 0:
        clearing.guard.changed_at[symbol] = now
    clearing.note_transfer(symbol)
    _note(exchange, clearing, "transfer", symbol, f"{moved:f}")
    _lock(clearing, symbol, now)
    exchange.test_margin()


def _margin_of(exchange: Exchange, symbol: str, action: str) -> tuple[MarginClearing, str]:
    """Return the margin clearing of an exchange, and the symbol in its one spelling."""
    clearing = require_margin(exchange.clearing, action)
    return clearing, exchange.market.candles_of(symbol).symbol


def _most_to_remove(clearing: MarginClearing, symbol: str, now: int) -> Decimal:
    """Return what Binance's FAQ 360038447311 says may be taken out of an isolated wallet."""
    account, mark = clearing.account, clearing.marks.price(symbol, now)
    wallet, holding = account.isolated_wallet(symbol), account.open_holdings[symbol]
    notional = clearing.rules.notional(account, symbol, now).copy_abs()
    balance = add(wallet, unrealized_pnl(holding, mark))
    return min(wallet, subtract(balance, account.terms[symbol].margin(notional)))


def _with_leverage(terms: MarginTerms, leverage: Decimal) -> MarginTerms:
    return msgspec.structs.replace(terms, leverage=leverage)


def _note(
    exchange: Exchange, clearing: MarginClearing, kind: ChangeKind, symbol: str, value: str
) -> None:
    """Keep a command that was carried out, for recordings of the session."""
    change = MarginChange(kind, symbol, value, exchange.now, len(exchange.orders))
    clearing.account.changes += (change,)


def _lock(clearing: MarginClearing, symbol: str, now: int) -> None:
    clearing.lock_symbol(symbol)
    clearing.history.record(now, clearing.account)
