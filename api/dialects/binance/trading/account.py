"""The account of a session, its trades, and what a client asks of an account that is not there."""

from decimal import Decimal
from typing import Any

from candlestep.api.dialects.binance.call import Call, Endpoint, number, reads
from candlestep.api.dialects.binance.errors import malformed
from candlestep.api.dialects.binance.trading.shapes import trade_shape
from candlestep.sandbox.money import ZERO, format_decimal

_MOST_TRADES = 1000
_LISTEN_KEY = "candles-have-no-stream"


async def account(call: Call) -> Any:
    """Return the balances of all assets of the session, and the rates of its fees."""
    held = {balance.asset: balance for balance in call.session.balances()}
    names = dict.fromkeys([call.session.config.currency, *held])
    for symbol in call.session.market.symbols:
        names |= dict.fromkeys(call.assets(symbol))
    balances = []
    for asset in names:
        balance = held.get(asset)
        free, locked = (ZERO, ZERO) if balance is None else (balance.available, balance.locked)
        if not (call.parameters.flag("omitZeroBalances") and not free and not locked):
            balances.append({"asset": asset, "free": number(free), "locked": number(locked)})
    maker, taker = _rates(call, call.session.market.symbols[0])
    return {
        "makerCommission": _basis_points(maker),
        "takerCommission": _basis_points(taker),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": _commission(maker, taker),
        "canTrade": call.session.status == "running",
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": call.now,
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
        "uid": 1,
    }


async def commission(call: Call) -> Any:
    """Return the rates of the fees of a symbol."""
    symbol = call.symbol()
    none = _commission(ZERO, ZERO)
    return {
        "symbol": symbol,
        "standardCommission": _commission(*_rates(call, symbol)),
        "specialCommission": none,
        "taxCommission": none,
        "discount": {
            "enabledForAccount": False,
            "enabledForSymbol": False,
            "discountAsset": "BNB",
            "discount": number(ZERO),
        },
    }


async def trade_fees(call: Call) -> Any:
    """Return the rates of the fees of one symbol, or of all."""
    symbol = call.optional_symbol()
    symbols = call.session.market.symbols if symbol is None else [symbol]
    fees = []
    for name in symbols:
        maker, taker = _rates(call, name)
        fees.append(
            {
                "symbol": name,
                "makerCommission": format_decimal(maker),
                "takerCommission": format_decimal(taker),
            }
        )
    return fees


def _rates(call: Call, symbol: str) -> tuple[Decimal, Decimal]:
    """Return the maker's and the taker's rate of a symbol now."""
    fees, now = call.session.config.costs.fees, call.session.time
    maker, taker = (fees.rate(symbol, now, ZERO, is_maker=is_maker) for is_maker in (True, False))
    return maker, taker


def _commission(maker: Decimal, taker: Decimal) -> dict[str, str]:
    rates = {"maker": maker, "taker": taker, "buyer": ZERO, "seller": ZERO}
    return {name: number(rate) for name, rate in rates.items()}


def _basis_points(rate: Decimal) -> int:
    return int(rate * 10_000)


async def my_trades(call: Call) -> Any:
    """Return the trades of a symbol: from an id or a time on the first ones, else the latest."""
    symbol, parameters = call.symbol(), call.parameters
    order_id, from_id = parameters.whole("orderId"), parameters.whole("fromId")
    start, end = parameters.whole("startTime"), parameters.whole("endTime")
    limit = parameters.count("limit", 500, _MOST_TRADES)
    if from_id is not None and (start is not None or end is not None):
        raise malformed("fromId")
    fills = [
        fill
        for fill in call.session.fills
        if fill.symbol == symbol
        and (order_id is None or fill.order_id == order_id)
        and (from_id is None or fill.id >= from_id)
        and (start is None or fill.time >= start)
        and (end is None or fill.time <= end)
    ]
    page = fills[-limit:] if from_id is None and start is None else fills[:limit]
    return [trade_shape(call, fill, call.session.order(fill.order_id)) for fill in page]


async def coins(call: Call) -> Any:
    """Return the assets of the session, none of which can be moved."""
    held = {balance.asset: balance for balance in call.session.balances()}
    names = dict.fromkeys([call.session.config.currency])
    for symbol in call.session.market.symbols:
        names |= dict.fromkeys(call.assets(symbol))
    return [
        {
            "coin": name,
            "name": name,
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "free": number(held[name].available if name in held else ZERO),
            "locked": number(held[name].locked if name in held else ZERO),
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "isLegalMoney": False,
            "trading": True,
            "networkList": [],
        }
        for name in names
    ]


async def nothing(call: Call) -> Any:
    """Return an empty list: there is nothing of the kind in a session."""
    return []


async def no_contracts(call: Call) -> Any:
    """Return an exchange without symbols: a session has no futures."""
    return {"timezone": "UTC", "serverTime": call.now, "rateLimits": [], "symbols": []}


async def system_status(call: Call) -> Any:
    """Answer that all is well."""
    return {"status": 0, "msg": "normal"}


async def order_rate(call: Call) -> Any:
    """Return the counts of orders by interval, of which none is limited."""
    limits = [("SECOND", 10, 100), ("DAY", 1, 200_000)]
    return [
        {
            "rateLimitType": "ORDERS",
            "interval": interval,
            "intervalNum": length,
            "limit": limit,
            "count": 0,
        }
        for interval, length, limit in limits
    ]


async def open_stream(call: Call) -> Any:
    """Return the name of a stream of the account, which never sends anything."""
    return {"listenKey": _LISTEN_KEY}


async def keep_stream(call: Call) -> Any:
    """Accept that a stream is kept open, or closed."""
    return {}


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "api/v3/account"): reads(account, "signed", "omitZeroBalances"),
    ("GET", "api/v3/account/commission"): reads(commission, "signed", "symbol"),
    ("GET", "api/v3/myTrades"): reads(
        my_trades, "signed", "symbol", "orderId", "startTime", "endTime", "fromId", "limit"
    ),
    ("GET", "api/v3/rateLimit/order"): reads(order_rate, "signed"),
    ("GET", "sapi/v1/capital/config/getall"): reads(coins, "signed"),
    ("GET", "sapi/v1/margin/allPairs"): reads(nothing, "key", "symbol"),
    ("GET", "sapi/v1/margin/isolated/allPairs"): reads(nothing, "key", "symbol"),
    ("GET", "sapi/v1/asset/tradeFee"): reads(trade_fees, "signed", "symbol"),
    ("GET", "sapi/v1/system/status"): reads(system_status, "none"),
    ("GET", "fapi/v1/exchangeInfo"): reads(no_contracts, "none"),
    ("GET", "dapi/v1/exchangeInfo"): reads(no_contracts, "none"),
    ("POST", "api/v3/userDataStream"): reads(open_stream, "key"),
    ("PUT", "api/v3/userDataStream"): reads(keep_stream, "key", "listenKey"),
    ("DELETE", "api/v3/userDataStream"): reads(keep_stream, "key", "listenKey"),
}
