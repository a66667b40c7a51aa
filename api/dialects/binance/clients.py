"""The lines with which each client of Binance is pointed at a session."""

from typing import Literal, get_args

Client = Literal["ccxt", "python-binance", "binance-sdk-spot"]
CLIENTS: tuple[str, ...] = get_args(Client)

_CCXT = """\
from urllib.parse import urlsplit
import ccxt

BASE = "{base_url}"

def moved(urls):
    if isinstance(urls, dict):
        return {{name: moved(url) for name, url in urls.items()}}
    return BASE + urlsplit(urls).path

exchange = ccxt.binance({{"apiKey": "{api_key}", "secret": "{api_secret}"}})
exchange.urls["api"] = moved(exchange.urls["api"])
"""
_PYTHON_BINANCE = """\
from binance.client import Client

Client.API_URL = "{base_url}/api"
Client.MARGIN_API_URL = "{base_url}/sapi"
client = Client("{api_key}", "{api_secret}")
"""
_BINANCE_SDK = """\
from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_spot.spot import Spot

client = Spot(config_rest_api=ConfigurationRestAPI(
    api_key="{api_key}", api_secret="{api_secret}", base_path="{base_url}",
))
"""
_SNIPPETS: dict[str, str] = {
    "ccxt": _CCXT,
    "python-binance": _PYTHON_BINANCE,
    "binance-sdk-spot": _BINANCE_SDK,
}


def snippet(client: Client, base_url: str, api_key: str, api_secret: str) -> str:
    """Return the lines with which a bot that uses ``client`` trades in a session."""
    text = _SNIPPETS[client]
    return text.format(base_url=base_url, api_key=api_key, api_secret=api_secret)
