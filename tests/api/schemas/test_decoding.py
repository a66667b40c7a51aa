"""Messages of bodies that cannot be accepted: the field first, then what would do."""

import pytest

from candlestep.api.schemas.decoding import decode_body
from candlestep.api.schemas.orders import OcoRequest
from candlestep.api.schemas.sessions import CreateRequest
from candlestep.sandbox import InvalidParameter

LEG = b'{"symbol": "BTCUSDT", "side": "sell", "quantity": "1"}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "orders: is required"),
        (b'{"orders": [' + LEG + b"]}", "orders: must have at least 2 items"),
        (b'{"orders": [' + b",".join([LEG] * 3) + b"]}", "orders: must have at most 2 items"),
        (b'{"orders": [{"side": "sell"}, {}]}', "orders[0].symbol: is required"),
    ],
)
def test_what_is_missing_or_too_much_is_said_in_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        decode_body(OcoRequest, body)
    assert refusal.value.message == message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("symbols", "pairs"),
        ("start", "start_time"),
        ("end", "end_time"),
        ("balance", "starting_balance"),
        ("interval", "candle_interval"),
        ("fee", "fee_rate"),
    ],
)
def test_the_names_of_other_libraries_are_known(name: str, meant: str) -> None:
    period = b'"start_time": "2025-01-01", "end_time": "2025-01-02"'
    with pytest.raises(InvalidParameter, match=f"did you mean `{meant}`"):
        decode_body(CreateRequest, b'{%b, "%b": 1}' % (period, name.encode()))
