"""How a replay went, in words and tables for a person."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from candlestep.api.cli.terminal import table
from candlestep.api.replay.replay import Divergence, Replayed
from candlestep.data.journal.candle_fingerprints import Difference

_FIELDS_SHOWN = 30
_WIDEST = 60
_MONTHS_SHOWN = 6
_NOTHING = "-"


def same(file: str, replayed: Replayed) -> str:
    """What is said of a replay in which every answer was the same."""
    return f"{file}: {replayed.commands:,} commands, and every answer is the one recorded."


def problems(file: str, replayed: Replayed) -> str:
    """What is said of any other: candles that differ first, then the first other answer."""
    parts = []
    if replayed.candles:
        parts.append(_candles(replayed.candles))
    if replayed.divergence is not None:
        parts.append(_divergence(file, replayed.divergence))
    elif replayed.candles:
        parts.append(f"All the same, the {replayed.compared:,} answers compared are as recorded.")
    missing = replayed.commands - replayed.compared
    if missing and replayed.divergence is None:
        parts.append(
            f"{missing:,} of {replayed.commands:,} commands have neither answer nor digest, so they were"
            f" not compared.\n\nNext: `candlestep replay --record {file}` writes down what is"
            " answered now."
        )
    return "\n\n".join(parts)


def _candles(different: Sequence[Difference]) -> str:
    rows = []
    for each in different:
        shown = [month.replace("first_open", "first open") for month in each.months]
        more = f" and {len(shown) - _MONTHS_SHOWN} more" if len(shown) > _MONTHS_SHOWN else ""
        rows.append((each.symbol, ", ".join(shown[:_MONTHS_SHOWN]) + more))
    head = "The candles are not those that it was recorded on:"
    return f"{head}\n\n{table(('symbol', 'months (UTC)'), rows)}"


def _divergence(file: str, divergence: Divergence) -> str:
    command = json.dumps(divergence.command, ensure_ascii=False)
    head = (
        f"{file}, line {divergence.line}, at step {divergence.step:,}: the answer is not the one"
        f" recorded.\n\n{command}"
    )
    return f"{head}\n\n{_answers(divergence)}\n\nThe account after it:\n\n{_account(divergence)}"


def _answers(divergence: Divergence) -> str:
    if divergence.actual is None:
        return "It starts with other prices than were recorded."
    actual = {"(status)": str(divergence.status)} | dict(_leaves("", divergence.actual))
    if divergence.expected is None:
        note = (
            "Of the answer only a digest was recorded: nothing was filled or closed then. It is"
            " now:"
        )
        now = [(name, value) for name, value in actual.items() if name != "(status)"]
        return f"{note}\n\n{table(('field', 'actual'), _cut(now))}"
    expected = {"(status)": str(divergence.expected_status)}
    expected |= dict(_leaves("", divergence.expected))
    rows = [
        (name, expected.get(name, _NOTHING), actual.get(name, _NOTHING))
        for name in dict.fromkeys([*expected, *actual])
        if expected.get(name) != actual.get(name)
    ]
    if not rows:
        return "This answer is the same, but one since the last that was recorded whole was not."
    return table(("field", "expected", "actual"), _cut(rows))


def _cut(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    shown = [
        tuple(c if len(c) <= _WIDEST else f"{c[:_WIDEST]}…" for c in row)
        for row in rows[:_FIELDS_SHOWN]
    ]
    if len(rows) > _FIELDS_SHOWN:
        rest = f"and {len(rows) - _FIELDS_SHOWN:,} more"
        shown.append((rest, *[""] * (len(rows[0]) - 1)))
    return shown


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The plain values in an answer, by the path of each: ``orders_filled[0].fee``."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, member)
    elif isinstance(value, list) and value:
        for index, member in enumerate(value):
            yield from _leaves(f"{name}[{index}]", member)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _account(divergence: Divergence) -> str:
    account = dict(divergence.account)
    positions = account.pop("positions", [])
    rows = [(name, str(amount)) for name, amount in account.items()]
    told = table(("", "amount"), rows, numbers=("amount",))
    if positions:
        names = ("symbol", "quantity", "avg_entry_price", "market_value", "unrealized_pnl")
        held = [tuple(str(position[name]) for name in names) for position in positions]
        told += "\n\n" + table(names, held, numbers=names[1:])
    return told
