"""The rules that rows of a file must obey to be candles, checked column by column."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from candlestep.data.errors import BadRow, BadRows
from candlestep.data.imports.layouts import PRICES
from candlestep.data.imports.reading import Floats, Integers, Problems, Rows
from candlestep.sandbox.clock import MINUTE, format_time, interval_name
from candlestep.sandbox.market.checks import MAXIMUM_VOLUME
from candlestep.sandbox.money import MAXIMUM

Mask = NDArray[np.bool_]

NUMBERS = (*PRICES, "volume")


@dataclass(frozen=True)
class CandleColumns:
    """Checked candles of one series, sorted by their open times, which are all different."""

    open_time: Integers
    """Milliseconds since the epoch."""
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.open_time)

    def numbers(self) -> tuple[Floats, ...]:
        """Return open, high, low, close and volume."""
        return (self.open, self.high, self.low, self.close, self.volume)

    def columns(self) -> dict[str, "NDArray[np.generic]"]:
        """Return the open times and the numbers by name."""
        numbers = dict(zip(NUMBERS, self.numbers(), strict=True))
        return {"open_time": self.open_time, **numbers}

    def where(self, rows: Mask | slice) -> "CandleColumns":
        """Return the candles that ``rows`` selects."""
        return CandleColumns(self.open_time[rows], *(column[rows] for column in self.numbers()))


def check(
    file: str, rows: Rows, volume: Floats, problems: Problems, interval: int
) -> CandleColumns:
    """Return the candles of a series of ``interval`` milliseconds, sorted, without repeated rows.

    Raises ``BadRows`` if a row breaks a rule, or if the file has a problem already.
    """
    numbers = {**rows.prices, "volume": volume}
    rules = _rules(rows.open_time, numbers, interval)
    broken = np.zeros(len(rows), dtype=np.int8)
    for number, (mask, _) in enumerate(rules, 1):
        broken[(broken == 0) & mask] = number
    order = np.argsort(rows.open_time, kind="stable")
    order = order[broken[order] == 0]
    repeats, contradictions = _repeats(rows.open_time[order], [numbers[n][order] for n in NUMBERS])
    broken[order[contradictions]] = -1

    wrong = np.flatnonzero(broken)
    if len(wrong) or problems.count:
        wrong_rows = [
            BadRow(int(rows.line[row]), _reason(rules, int(broken[row]), rows, numbers, row))
            for row in wrong[: BadRows.SHOWN].tolist()
        ]
        first = sorted([*wrong_rows, *problems.first], key=lambda row: row.line)
        raise BadRows(file, first, len(wrong) + problems.count, problems.unit)
    distinct = order[~repeats]
    # Adding zero makes a negative zero positive.
    columns = [numbers[name][distinct] + 0.0 for name in NUMBERS]
    return CandleColumns(rows.open_time[distinct] // 1000, *columns)


def _rules(times: Integers, numbers: dict[str, Floats], interval: int) -> list[tuple[Mask, str]]:
    """Return, for each rule, the rows that break it and the reason to report.

    ``{name}`` stands for a number of the row.
    """
    low, high = numbers["low"], numbers["high"]
    rules = [(np.isnan(numbers[name]), f"{name} is missing") for name in NUMBERS]
    rules += [(np.isinf(numbers[name]), f"{name} {{{name}}} is not finite") for name in NUMBERS]
    for name in PRICES:
        rules.append((numbers[name] <= 0, f"{name} {{{name}}} is not positive"))
        rules.append((numbers[name] > float(MAXIMUM), f"{name} {{{name}}} is above {MAXIMUM:.0e}"))
    rules.append((numbers["volume"] < 0, "volume {volume} is negative"))
    rules.append((numbers["volume"] > MAXIMUM_VOLUME, "volume {volume} is too large"))
    rules.append((low > high, "low {low} is above the high {high}"))
    for name in ("open", "close"):
        rules.append((low > numbers[name], f"low {{low}} is above the {name} {{{name}}}"))
        rules.append((high < numbers[name], f"high {{high}} is below the {name} {{{name}}}"))
    rules.append(
        (
            times % (MINUTE * 1000) != 0,
            f"{{time}} is not the open time of a candle of {interval_name(interval)}: a whole minute",
        )
    )
    return rules


def _repeats(times: Integers, columns: list[Floats]) -> tuple[Mask, Mask]:
    """Return which of the sorted rows repeat the one before, and which contradict it.

    A row contradicts another of the same time if it has different values.
    """
    same_time = np.zeros(len(times), dtype=bool)
    same_time[1:] = times[1:] == times[:-1]
    same = same_time.copy()
    for column in columns:
        same[1:] &= column[1:] == column[:-1]
    return same, same_time & ~same


def _reason(
    rules: list[tuple[Mask, str]],
    broken: int,
    rows: Rows,
    numbers: dict[str, Floats],
    row: int,
) -> str:
    time = format_time(int(rows.open_time[row]) // 1000)
    if broken < 0:
        return f"{time} occurs twice, with different values"
    values = {name: repr(float(column[row])) for name, column in numbers.items()}
    return rules[broken - 1][1].format(time=time, **values)
