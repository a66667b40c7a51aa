"""``candlestep data instruments`` and ``candlestep data instrument``: list, show and change."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import click
import msgspec

from candlestep.api.admin import instruments
from candlestep.api.admin.operation import EmptyInput
from candlestep.api.cli.home import command_on, home_option, run
from candlestep.api.cli.messages import suggest
from candlestep.api.cli.terminal import print_json, print_table
from candlestep.data.records.instruments import ListedInstrument
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import Filters
from candlestep.sandbox.money import format_decimal

_FILTERS = Filters.__struct_fields__
_NONE = "none"
"""The value that removes a filter."""


def _filter_option(name: str, meaning: str) -> Callable[..., Any]:
    flag = name.replace("_", "-")
    help_text = f"{meaning}, in exact decimals; {_NONE} removes it."
    return click.option(f"--{flag}", metavar="NUMBER", help=help_text)


@click.command("instruments")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_instruments(home: str | None, as_json: bool) -> None:
    """List the instruments: filters of orders, and whether the volume is usable."""
    listed = run(instruments.LIST, home, EmptyInput()).instruments
    if as_json:
        print_json([_as_json(instrument) for instrument in listed])
    elif listed:
        _print_instruments(listed)
    else:
        print("There are no instruments yet: the import of candles makes them.")
        load, sample = command_on(home, "data import FILE…"), command_on(home, "data sample")
        suggest(f"{load} imports candles, {sample} loads a sample market")


@click.command("instrument")
@home_option
@click.argument("symbol", metavar="SYMBOL")
@click.option(
    "--exchange",
    default=DEFAULT_EXCHANGE,
    metavar="EXCHANGE",
    help=f"Exchange of the instrument (default {DEFAULT_EXCHANGE}).",
)
@click.option(
    "--volume-usable/--no-volume-usable",
    default=None,
    help="Whether the volume of its candles is in base currency, so that slippage can use it.",
)
@_filter_option("tick_size", "Unit of the prices of orders")
@_filter_option("step_size", "Unit of the quantities of orders")
@_filter_option("min_quantity", "Smallest quantity of an order")
@_filter_option("min_notional", "Smallest quantity times price of an order")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_or_change(
    home: str | None,
    symbol: str,
    exchange: str,
    volume_usable: bool | None,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Show an instrument, or change what the options name.

    A change holds for sessions that start after it.
    """
    changes = {
        name: None if value.lower() == _NONE else value
        for name, value in filters.items()
        if value is not None
    }
    if changes or volume_usable is not None:
        change = instruments.ChangeInstrument(symbol, exchange, volume_usable, changes)
        instrument = run(instruments.CHANGE, home, change)
    else:
        instrument = run(instruments.SHOW, home, instruments.ShowInstrument(symbol, exchange))
    if as_json:
        print_json(_as_json(instrument))
        return
    _print_instruments([instrument])
    if changes or volume_usable is not None:
        print("\nSessions that start from now on have this instrument; others keep theirs.")


def _print_instruments(listed: Sequence[ListedInstrument]) -> None:
    header = ("exchange", "symbol", "kind", "base", "quote", *_FILTERS, "volume", "")
    rows = []
    for entry in listed:
        instrument = entry.instrument
        names = (instrument.symbol, instrument.kind, instrument.base or "", instrument.quote or "")
        filters = (_text(getattr(instrument.filters, name)) or "" for name in _FILTERS)
        volume = "usable" if instrument.volume_usable else "not usable"
        tiers = instrument.tiers
        leverage = f"up to {format_decimal(tiers.max_leverage)}x" if tiers is not None else ""
        rows.append((entry.exchange, *names, *filters, volume, leverage))
    print_table(header, rows, numbers=_FILTERS)


def _as_json(entry: ListedInstrument) -> dict[str, Any]:
    fields = msgspec.structs.asdict(entry.instrument)
    filters = {name: _text(getattr(entry.instrument.filters, name)) for name in _FILTERS}
    tiers = fields.pop("tiers")
    fields |= {} if tiers is None else {"tiers": tiers.settings()}
    return {"exchange": entry.exchange} | fields | {"filters": filters}


def _text(number: Decimal | None) -> str | None:
    return None if number is None else format_decimal(number)
