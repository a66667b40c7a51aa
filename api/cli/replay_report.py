"""Report of a replay that differs from its recording, in words and tables."""

import json
from collections.abc import Sequence
from typing import Any

from candlestep.api.cli.messages import suggest
from candlestep.api.cli.terminal import print_table
from candlestep.api.replay.difference import Divergence, Event, FieldDifference, ReplayResult
from candlestep.data.journal.candle_fingerprints import Difference

_FIELDS_SHOWN = 30
_WIDEST = 60
_PERIODS_SHOWN = 6
_ABSENT = "-"
_PRICES = ("open", "high", "low", "close", "volume")
_POSITION = ("quantity", "avg_entry_price", "market_value", "unrealized_pnl")
_ORDER_TERMS = ("side", "quantity", "symbol", "type")


def print_differences(file: str, replayed: ReplayResult) -> None:
    """Print the candles that differ, then the replies that differ, the first of them in full."""
    if replayed.candles:
        _print_candles(replayed)
    print_other_candles(replayed)
    if replayed.candles or replayed.different_candle_count:
        print()
    if replayed.divergences:
        first, *others = replayed.divergences
        _print_divergence(file, first)
        if others:
            _print_others(others)
        return
    if replayed.candles:
        print(f"Even so, all {replayed.compared:,} answers that were compared are as recorded.\n")


def print_not_compared(file: str, replayed: ReplayResult) -> None:
    """Print how many commands could not be compared, and what to do."""
    missing = replayed.commands - replayed.compared
    print(
        f"{missing:,} of {replayed.commands:,} commands have neither answer nor digest,"
        " so they were not compared."
    )
    suggest(f"`candlestep replay --record {file}` records today's answers")


def _print_candles(replayed: ReplayResult) -> None:
    print("The candles are not those that it was recorded on:\n")
    rows = [(one.symbol, _months(one), _listed(one.days) or _ABSENT) for one in replayed.candles]
    if any(difference.days for difference in replayed.candles):
        print_table(("symbol", "months (UTC)", "days (UTC)"), rows)
    else:
        print_table(("symbol", "months (UTC)"), [row[:2] for row in rows])


def print_other_candles(replayed: ReplayResult) -> None:
    """Print the candles of a file that the market has otherwise, if there are any."""
    if not replayed.different_candle_count:
        return
    print("\nCandles in the file and in the market:\n")
    print_table(
        ("symbol", "opens (UTC)", "", *_PRICES),
        [
            (one.symbol, one.open_time, side, *_numbers(values))
            for one in replayed.different_candles
            for side, values in (("file", one.file), ("market", one.market))
        ],
        numbers=_PRICES,
    )
    rest = replayed.different_candle_count - len(replayed.different_candles)
    if rest:
        print(f"and {rest:,} more")


def _months(difference: Difference) -> str:
    return _listed([month.replace("first_open", "first open") for month in difference.months])


def _listed(periods: Sequence[str]) -> str:
    rest = len(periods) - _PERIODS_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(periods[:_PERIODS_SHOWN]) + more


def _numbers(values: list[float] | None) -> list[str]:
    return [_ABSENT] * len(_PRICES) if values is None else [repr(value) for value in values]


def _print_divergence(file: str, divergence: Divergence) -> None:
    event = divergence.event
    step = divergence.step if event is None else event.step
    when = "" if event is None else f" ({event.time})"
    print(
        f"{file}, line {divergence.line}, at step {step:,}{when}: the answer is not the one"
        " recorded.\n"
    )
    print(json.dumps(divergence.command, ensure_ascii=False) + "\n")
    if event is None:
        print("The prices at the start of the session differ from those recorded.")
        return
    _print_event(divergence, event)
    if event.candle is not None:
        print(f"\nThe candle of {event.symbol} at that step:\n")
        names = ("open_time", *_PRICES)
        print_table(names, [[str(event.candle[name]) for name in names]], numbers=_PRICES)
    print(f"\nThe account just before and just after{_span(event)}:\n")
    _print_accounts(event.before, event.after)


def _span(event: Event) -> str:
    if event.kind != "amounts" or event.first_step == event.step:
        return ""
    return f" steps {event.first_step:,} to {event.step:,}"


def _print_event(divergence: Divergence, event: Event) -> None:
    print(_in_words(divergence, event))
    if event.kind in ("fill", "close"):
        print()
        _print_side_by_side(event.expected, event.actual)
        return
    rows = [(one.name, one.expected or _ABSENT, one.actual or _ABSENT) for one in divergence.fields]
    if divergence.status != divergence.expected_status:
        statuses = ("(status)", str(divergence.expected_status), str(divergence.status))
        rows.insert(0, statuses)
    if rows:
        print()
        print_table(("field", "expected", "actual"), _abridge(rows))


def _in_words(divergence: Divergence, event: Event) -> str:
    """Return what happened then and what happens now."""
    if event.kind == "command":
        if divergence.fields or divergence.status != divergence.expected_status:
            return "The answers:"
        return "This answer is the same; an earlier one, which was not recorded in full, is not."
    if event.kind == "amounts":
        if divergence.is_recorded:
            return "The same orders filled and closed; prices or amounts differ:"
        return (
            "Nothing filled or closed, neither then nor now; a price or an amount differs. Only a"
            " digest of the answer was recorded, so it cannot be said which."
        )
    order = event.actual or event.expected or {}
    terms = " ".join(str(order.get(name, "")) for name in _ORDER_TERMS)
    return f"Order {order.get('order_id')} ({terms}) {_change(event)}:"


def _change(event: Event) -> str:
    now, was = _end(event.actual), _end(event.expected)
    if event.expected is None:
        return f"{now} here, and did not when it was recorded"
    if event.actual is None:
        return f"{was} here when it was recorded, and does not now"
    if now == was:
        return f"{now} otherwise than it was recorded"
    return f"{now} here; recorded is that it {was}"


def _end(order: dict[str, Any] | None) -> str:
    if order is None:
        return ""
    return "filled" if order.get("filled_at") else f"was {order.get('status')}"


def _print_side_by_side(expected: dict[str, Any] | None, actual: dict[str, Any] | None) -> None:
    """Print the fields of an order that differ; all that are set if there is only one side."""
    recorded, present = expected or {}, actual or {}
    rows = [
        (name, _text(recorded.get(name)), _text(present.get(name)))
        for name in dict.fromkeys([*recorded, *present])
        if recorded.get(name) != present.get(name) and name != "id"
    ]
    print_table(("field", "expected", "actual"), _abridge(rows))


def _text(value: Any) -> str:
    return _ABSENT if value is None else str(value)


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


def _print_accounts(before: dict[str, Any], after: dict[str, Any]) -> None:
    then, now = _amounts(before), _amounts(after)
    rows = [
        (name, then.get(name, _ABSENT), now.get(name, _ABSENT))
        for name in dict.fromkeys([*then, *now])
    ]
    print_table(("", "before", "after"), rows, numbers=("before", "after"))


def _amounts(account: dict[str, Any]) -> dict[str, str]:
    """Return the amounts of an account and of each of its positions, by name."""
    amounts = {name: str(amount) for name, amount in account.items() if name != "positions"}
    for position in account.get("positions", ()):
        for name in _POSITION:
            amounts[f"{position['symbol']} {name}"] = str(position[name])
    return amounts


def _print_others(others: Sequence[Divergence]) -> None:
    print(f"\n{len(others):,} more answers differ, which may all follow from the first:\n")
    rows = [
        (str(one.line), f"{one.step:,}", str(one.command.get("do")), _field_names(one.fields))
        for one in others
    ]
    print_table(("line", "step", "command", "fields"), rows, numbers=("line", "step"))


def _field_names(fields: Sequence[FieldDifference]) -> str:
    if not fields:
        return "(digest)"
    more = f" and {len(fields) - 1} more" if len(fields) > 1 else ""
    first = fields[0]
    return f"{first.name}: {first.expected or _ABSENT}, now {first.actual or _ABSENT}{more}"
