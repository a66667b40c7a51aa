"""Report of a replay that differs from its recording, in words and tables."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from candlestep.api.cli.messages import suggest
from candlestep.api.cli.terminal import print_table
from candlestep.api.replay.replay import Divergence, ReplayResult
from candlestep.data.journal.candle_fingerprints import Difference

_FIELDS_SHOWN = 30
_WIDEST = 60
_MONTHS_SHOWN = 6
_ABSENT = "-"


def print_differences(file: str, replayed: ReplayResult) -> None:
    """Print the candles that differ, then the first answer that differs, if any."""
    if replayed.candles:
        _print_candles(replayed.candles)
        print()
    if replayed.divergence is not None:
        _print_divergence(file, replayed.divergence)
        return
    if replayed.candles:
        print(f"Even so, all {replayed.compared:,} answers that were compared are as recorded.\n")
    missing = replayed.commands - replayed.compared
    if missing:
        print(
            f"{missing:,} of {replayed.commands:,} commands have neither answer nor digest,"
            " so they were not compared."
        )
        suggest(f"`candlestep replay --record {file}` records today's answers")


def _print_candles(differences: Sequence[Difference]) -> None:
    rows = []
    for difference in differences:
        months = [month.replace("first_open", "first open") for month in difference.months]
        rest = len(months) - _MONTHS_SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        rows.append((difference.symbol, ", ".join(months[:_MONTHS_SHOWN]) + more))
    print("The candles are not those that it was recorded on:\n")
    print_table(("symbol", "months (UTC)"), rows)


def _print_divergence(file: str, divergence: Divergence) -> None:
    print(
        f"{file}, line {divergence.line}, at step {divergence.step:,}: the answer is not the one"
        " recorded.\n"
    )
    print(json.dumps(divergence.command, ensure_ascii=False) + "\n")
    _print_answers(divergence)
    print("\nThe account after it:\n")
    _print_account(divergence.account)


def _print_answers(divergence: Divergence) -> None:
    """Print the fields in which the recorded and the actual answer differ."""
    if divergence.actual is None:
        print("The prices at the start of the session differ from those recorded.")
        return
    actual = dict(_leaves("", divergence.actual))
    if divergence.expected is None:
        print(
            "Only a digest of this answer was recorded, because nothing was filled or closed then."
            " The answer is now:\n"
        )
        print_table(("field", "actual"), _abridge(list(actual.items())))
        return
    actual = {"(status)": str(divergence.status)} | actual
    expected = {"(status)": str(divergence.expected_status)}
    expected |= dict(_leaves("", divergence.expected))
    rows = [
        (name, expected.get(name, _ABSENT), actual.get(name, _ABSENT))
        for name in dict.fromkeys([*expected, *actual])
        if expected.get(name) != actual.get(name)
    ]
    if rows:
        print_table(("field", "expected", "actual"), _abridge(rows))
    else:
        print("This answer is the same; an earlier one, which was not recorded in full, is not.")


def _abridge(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the first rows, with long cells cut off."""
    abridged = [
        tuple(cell if len(cell) <= _WIDEST else f"{cell[:_WIDEST]}…" for cell in row)
        for row in rows[:_FIELDS_SHOWN]
    ]
    if len(rows) > _FIELDS_SHOWN:
        rest = f"and {len(rows) - _FIELDS_SHOWN:,} more"
        abridged.append((rest, *[""] * (len(rows[0]) - 1)))
    return abridged


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the plain values of an answer with their paths, such as ``orders_filled[0].fee``."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, member)
    elif isinstance(value, list) and value:
        for index, member in enumerate(value):
            yield from _leaves(f"{path}[{index}]", member)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def _print_account(account: dict[str, Any]) -> None:
    amounts = [(name, str(amount)) for name, amount in account.items() if name != "positions"]
    print_table(("", "amount"), amounts, numbers=("amount",))
    positions = account.get("positions")
    if positions:
        names = ("symbol", "quantity", "avg_entry_price", "market_value", "unrealized_pnl")
        print()
        rows = [tuple(str(position[name]) for name in names) for position in positions]
        print_table(names, rows, numbers=names[1:])
