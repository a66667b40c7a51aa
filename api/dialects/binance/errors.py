"""Errors as Binance writes them. Clients compare the texts, so they are part of the contract."""

from collections.abc import Mapping
from typing import Any

from candlestep.sandbox import SandboxError

TOO_MANY = "Duplicate values for a parameter detected."
INSUFFICIENT = "Account has insufficient balance for requested action."
WOULD_MATCH = "Order would immediately match and take."
WOULD_TRIGGER = "Stop price would trigger immediately."
DUPLICATE = "Duplicate order sent."
UNKNOWN_ORDER = "Unknown order sent."
CLOSED = "Market is closed."

_FILTERS = {
    "tick_size": "PRICE_FILTER",
    "step_size": "LOT_SIZE",
    "min_quantity": "LOT_SIZE",
    "min_notional": "NOTIONAL",
}


class BinanceError(Exception):
    """A refusal, with Binance's number and text."""

    def __init__(
        self, code: int, message: str, status: int = 400, data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.data = data
        """More than the two fields of every error; of a replacement that failed."""

    @property
    def body(self) -> dict[str, Any]:
        """The error as it is sent."""
        fields = {"code": self.code, "msg": self.message}
        return fields if self.data is None else fields | {"data": self.data}


def missing(name: str) -> BinanceError:
    """Return the error of a parameter that is required."""
    return BinanceError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def malformed(name: str) -> BinanceError:
    """Return the error of a parameter whose text cannot be read."""
    return BinanceError(-1100, f"Illegal characters found in parameter '{name}'.")


def filter_failure(name: str) -> BinanceError:
    """Return the error of an order that breaks a filter, by Binance's name of it."""
    return BinanceError(-1013, f"Filter failure: {name}")


def invalid_symbol() -> BinanceError:
    """Return the error of a symbol that the session does not trade."""
    return BinanceError(-1121, "Invalid symbol.")


def of_refusal(error: SandboxError) -> BinanceError:
    """Return Binance's error for a refusal of the session, or of the server."""
    return named(error.code, error.message, error.details)


def named(code: str, message: str, details: Mapping[str, Any]) -> BinanceError:
    """Return Binance's error for a refusal with these parts."""
    match code:
        case "INSUFFICIENT_BALANCE":
            return BinanceError(-2010, INSUFFICIENT)
        case "SYMBOL_NOT_FOUND":
            return invalid_symbol()
        case "ORDER_WOULD_MATCH":
            return BinanceError(-2010, WOULD_MATCH)
        case "CLIENT_ORDER_ID_IN_USE":
            return BinanceError(-2010, DUPLICATE)
        case "ORDER_NOT_FOUND":
            return BinanceError(-2013, "Order does not exist.")
        case "INVALID_STATE" if "order_id" in details:
            return BinanceError(-2011, UNKNOWN_ORDER)
        case "INVALID_STATE" | "NO_DATA":
            return BinanceError(-1013, CLOSED)
        case "INVALID_PARAMETER" if details.get("filter") in _FILTERS:
            return filter_failure(_FILTERS[details["filter"]])
        case "INVALID_PARAMETER" | "RISK_LIMIT_EXCEEDED":
            return BinanceError(-2010, message)
        case "STORAGE_UNAVAILABLE" | "RATE_LIMITED":
            return BinanceError(-1001, f"Internal error; {message}", 503)
        case "SESSION_NOT_FOUND":
            return BinanceError(-1000, message, 404)
    return BinanceError(-1000, message)
