"""Files in layouts made at random are imported exactly, or refused in words: never something else.

Candles are made first, the truth. A file is then written of them: delimiter, names and order of
columns, form and zone of the times, decimal mark, quotes, rows without prices, repeated rows, order
of the rows, columns that mean nothing. Some files get a fault that no reader can see through. What
is read must be the truth, to the last digit; where nothing is uncertain, it must be read.
"""

import gzip
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlestep.data.errors import UnreadableFile
from candlestep.data.imports.contents import read_series
from candlestep.data.imports.reading import ImportOptions
from candlestep.sandbox.clock import DAY, HOUR, INTERVALS, MINUTE

NOW = 1_795_867_200_000
"""2026-11-28, in milliseconds: the time at which files are read."""
EARLIEST, LATEST = datetime(1991, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
PRICES = ("open", "high", "low", "close")
SECOND = 1000
DELAY = 14 * SECOND

LENGTHS = {length: name for name, length in INTERVALS.items()}

Prices = dict[str, Decimal]


class Row(NamedTuple):
    """A row of a file; one of a time without a trade has no numbers."""

    time: int
    symbol: str
    numbers: Prices | None


@dataclass(frozen=True)
class Truth:
    """The candles of one symbol: open times in milliseconds, and exact numbers."""

    symbol: str
    candles: dict[int, Prices]

    def rows(self, later: int) -> list[tuple[float, ...]]:
        """Return the candles as they must be imported, ``later`` by some milliseconds."""
        return [
            (time + later, *(float(numbers[name]) for name in (*PRICES, "volume")))
            for time, numbers in sorted(self.candles.items())
        ]


@dataclass(frozen=True)
class TimeFormat:
    """A way to write times, in one column or two."""

    write: Callable[[datetime], list[str]]
    directives: str | None = None
    """The format that ``--time-format`` takes, where the text alone has two readings."""
    unit: int = SECOND
    """The shortest time that is written, in milliseconds."""


def number(per_second: int) -> TimeFormat:
    return TimeFormat(lambda time: [str(int(time.timestamp()) * per_second)])


def text(*patterns: str, directives: str | None = None, unit: int = SECOND) -> TimeFormat:
    return TimeFormat(lambda time: [time.strftime(one) for one in patterns], directives, unit)


TIMES = {
    "seconds": number(1),
    "milliseconds": number(10**3),
    "microseconds": number(10**6),
    "nanoseconds": number(10**9),
    "YYYYMMDD": text("%Y%m%d", unit=DAY),
    "YYYYMMDDHHMM": text("%Y%m%d%H%M", unit=MINUTE),
    "YYYYMMDD HHMMSS": text("%Y%m%d %H%M%S"),
    "dates": text("%Y-%m-%d", unit=DAY),
    "ISO": text("%Y-%m-%dT%H:%M:%SZ"),
    "no zone": text("%Y-%m-%d %H:%M:%S"),
    "slashes": text("%Y/%m/%d %H:%M", unit=MINUTE),
    "two columns": text("%Y.%m.%d", "%H:%M", unit=MINUTE),
    "halves of the day": text("%Y-%m-%d %I:%M %p", unit=MINUTE),
    "hours": text("%Y-%m-%d %I-%p", unit=HOUR),
    "day first": text("%d.%m.%Y %H:%M:%S.000", directives="%d.%m.%Y %H:%M:%S.%f"),
    "month first": text("%m/%d/%Y %I:%M %p", directives="%m/%d/%Y %I:%M %p", unit=MINUTE),
    "an offset": TimeFormat(
        lambda time: [time.astimezone(ZoneInfo("America/New_York")).isoformat(" ")]
    ),
    "GMT and an offset": TimeFormat(
        lambda time: [
            time.astimezone(ZoneInfo("Europe/Zurich")).strftime("%Y-%m-%d %H:%M:%S.000 GMT%z")
        ]
    ),
}
NAMES = {
    "time": ("timestamp", "Open time", "open_time", "Unix", "Date", "Datetime", "Gmt time", "time", ""),
    "open": ("open", "Open", "OPEN", "o", "<OPEN>", "Open Price"),
    "high": ("high", "High", "h", "<HIGH>", "high_price"),
    "low": ("low", "Low", "l", "<LOW>", "low price"),
    "close": ("close", "Close", "c", "<CLOSE>", "close-price"),
    "symbol": ("symbol", "Symbol", "ticker", "pair", "instrument"),
}  # fmt: skip
VOLUMES = (
    ("volume", None), ("Volume", None), ("vol", None), ("v", None), ("Volume BTC", None),
    ("volume", "quote_volume"), ("Volume BTC", "Volume USDT"), ("volume_btc", "volume"),
    ("volume", "turnover"), ("Volume_(BTC)", "Volume_(Currency)"), ("base volume", "quote asset volume"),
)  # fmt: skip
"""Names of the column of the volume, and of another one of the same in the quote currency."""
MEANINGLESS = ("id", "RSI", "trades", "Weighted_Price", "comment", "spread")
FAULTS = (
    "a repeated row with another price", "a price is missing", "a price is negative",
    "a price is text", "the high is below the low", "a time that is none", "a time before 1990",
    "a row is cut off", "another interval", "another symbol", "half a minute late", "a row between",
)  # fmt: skip

amounts = st.builds(Decimal.scaleb, st.integers(1, 10**9).map(Decimal), st.integers(-7, 0))


@st.composite
def truths(draw: st.DrawFn, interval: int, unit: int, count: int) -> list[Truth]:
    """One symbol or two, whose candles have holes between them, but the first two have none."""
    symbols = draw(st.sampled_from([["BTCUSDT"], ["BTCUSDT"], ["BTCUSDT", "BTCEUR"]]))
    phase = draw(st.sampled_from([0, 0, 30 * MINUTE, 9 * HOUR + 30 * MINUTE])) // unit * unit
    first = draw(st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None)))
    start = int(first.replace(tzinfo=UTC).timestamp()) * 1000 // DAY * DAY + phase
    truths = []
    for symbol in symbols:
        places = [0, *sorted(draw(st.sets(st.integers(1, 30), min_size=1, max_size=count)) | {1})]
        candles = {}
        for place in places[: max(count, 2)]:
            low, first_price, last_price, high = sorted(draw(st.tuples(*[amounts] * 4)))
            if draw(st.booleans()):
                first_price, last_price = last_price, first_price
            candles[start + place * interval] = {
                "open": first_price, "high": high, "low": low, "close": last_price,
                "volume": draw(st.one_of(st.just(Decimal(0)), amounts)),
            }  # fmt: skip
        truths.append(Truth(symbol, candles))
    return truths


@dataclass
class Generated:
    """A file, and what must become of it."""

    name: str
    content: str
    options: ImportOptions
    truths: list[Truth]
    interval: int
    later: int
    """The milliseconds by which candles are to be known later than their rows say."""
    is_wrong: bool
    """Whether it has a fault, and must be refused."""
    is_certain: bool
    """Whether it must be read, if it has no fault."""
    packed: str


def faults(form: TimeFormat, interval: int) -> list[str]:
    """Return the faults that a file in this form can have."""
    found = [*FAULTS]
    if form.unit > SECOND:
        found.remove("half a minute late")
    if form.unit > MINUTE or interval == MINUTE:
        found.remove("a row between")
    if interval == MINUTE:
        found.remove("another interval")
    return found


@st.composite
def files(draw: st.DrawFn) -> Generated:
    interval = draw(st.sampled_from(sorted(INTERVALS.values())))
    form = TIMES[
        draw(st.sampled_from([name for name in TIMES if interval % TIMES[name].unit == 0]))
    ]
    all_truths = draw(truths(interval, form.unit, draw(st.integers(2, 14))))
    fault = draw(st.sampled_from([None, None, None, *faults(form, interval)]))
    delay = draw(st.sampled_from([0, 0, DELAY])) if form.unit == SECOND and fault is None else 0
    style = draw(styles(form, delay, len(all_truths) > 1 or fault == "another symbol"))
    rows = [
        Row(time, truth.symbol, numbers)
        for truth in all_truths
        for time, numbers in truth.candles.items()
    ]
    lines = [style.cells(row) for row in rows]
    lines += [
        style.cells(Row(row.time + interval, row.symbol, None))
        for row, draws in zip(rows, draw(st.lists(st.booleans(), min_size=len(rows))), strict=False)
        if draws and all(other[:2] != (row.time + interval, row.symbol) for other in rows)
    ]
    lines += draw(st.lists(st.sampled_from(lines), max_size=3))
    declared = draw(st.sampled_from([None, "name", "option"]))
    given = interval
    if fault == "another interval":
        declared, given = "option", draw(st.sampled_from([n for n in LENGTHS if n < interval]))
    elif fault is not None:
        # A row between others may be one of a shorter interval, unless that is known.
        declared = "option" if fault == "a row between" else declared
        lines = draw(with_fault(fault, style, rows, lines))
    lines = draw(st.sampled_from([lines, lines[::-1]]) | st.permutations(lines))
    name = "BTCUSDT" if len(all_truths) == 1 else "candles"
    return Generated(
        f"{name}-{LENGTHS[interval]}.csv" if declared == "name" else f"{name}.csv",
        style.file(lines),
        ImportOptions(
            interval=LENGTHS[given] if declared == "option" else None,
            decimal=style.mark if style.is_mark_given else None,
            time_format=form.directives if style.is_format_given else None,
        ),
        all_truths,
        interval,
        interval if delay else 0,
        fault is not None,
        style.is_certain
        and all(is_told(one, interval, declared is not None) for one in all_truths),
        draw(st.sampled_from(["", "", ".gz", ".zip"])),
    )


def is_told(truth: Truth, interval: int, is_declared: bool) -> bool:
    """Tell whether the times of the candles leave no doubt of their interval."""
    spacings = Counter(b - a for a, b in pairwise(sorted(truth.candles)))
    [(common, most), *others] = spacings.most_common()
    if is_declared:
        return common == interval or most <= 0.9 * spacings.total()
    return common == interval and all(count < most for _, count in others)


@dataclass
class Style:
    """The way in which a file writes its rows."""

    form: TimeFormat
    delay: int
    """The milliseconds by which all rows are late."""
    columns: list[str]
    header: list[str]
    delimiter: str
    mark: Literal[".", ","]
    is_mark_given: bool
    is_format_given: bool
    quote: str
    missing: str
    line_end: str
    start: str
    after: str
    groups: bool

    @property
    def is_certain(self) -> bool:
        """Whether everything that has two readings is told by an option."""
        has_two = self.form.directives is not None
        return (self.mark == "." or self.is_mark_given) and (not has_two or self.is_format_given)

    def number(self, value: Decimal) -> str:
        written = f"{value:,f}" if self.groups else f"{value:f}"
        if self.mark == ",":
            written = written.translate(str.maketrans(".,", ",."))
        return written

    def cells(self, row: Row) -> list[str]:
        """Return the cells of a row."""
        written = {"symbol": row.symbol} | {name: str(len(name)) for name in MEANINGLESS}
        if row.numbers is None:
            written |= dict.fromkeys((*PRICES, "volume", "quote volume"), self.missing)
        else:
            numbers = row.numbers | {"quote volume": row.numbers["volume"] * row.numbers["close"]}
            written |= {name: self.number(value) for name, value in numbers.items()}
        times = self.form.write(datetime.fromtimestamp((row.time + self.delay) / 1000, UTC))
        cells = []
        for column in self.columns:
            cells += times if column == "time" else [written[column]]
        return cells

    def place(self, column: str) -> int:
        """Return the place of a column among the cells; of the first one of times."""
        place = self.columns.index(column)
        return place + (len(self.header) - len(self.columns)) * (self.columns.index("time") < place)

    def file(self, lines: Sequence[Sequence[str]]) -> str:
        quoted = [[self.quote + cell + self.quote for cell in cells] for cells in lines]
        all_lines = [self.delimiter.join(cells) for cells in [self.header, *quoted]]
        return self.start + self.line_end.join([*all_lines, self.after]).rstrip(" ")


@st.composite
def styles(draw: st.DrawFn, form: TimeFormat, delay: int, has_symbol: bool) -> Style:
    marks: list[Literal[".", ","]] = [".", ".", ","]
    mark = draw(st.sampled_from(marks))
    groups = draw(st.sampled_from([False, False, True]))
    quote = draw(st.sampled_from(["", '"']))
    delimiter = draw(st.sampled_from(",;\t|"))
    if (mark == "," or groups) and delimiter == ",":
        quote = '"'
    base, rival = draw(st.sampled_from(VOLUMES))
    columns = ["time", *PRICES, "volume", *draw(st.sets(st.sampled_from(MEANINGLESS), max_size=2))]
    columns += ["quote volume"] * (rival is not None)
    columns += ["symbol"] * (has_symbol or draw(st.booleans()))
    columns = draw(st.permutations(columns))
    names = {name: draw(st.sampled_from(aliases)) for name, aliases in NAMES.items()}
    names |= {"volume": base, "quote volume": rival or ""}
    header = []
    for column in columns:
        if column == "time" and len(form.write(EARLIEST)) == 2:
            header += draw(st.sampled_from([["Date", "Time"], ["<DATE>", "<TIME>"]]))
        else:
            header.append(names.get(column, column))
    return Style(
        form,
        delay,
        columns,
        header,
        delimiter,
        mark,
        draw(st.booleans()) or groups,
        draw(st.booleans()),
        quote,
        draw(st.sampled_from(["", "NaN", "null"])),
        draw(st.sampled_from(["\n", "\r\n"])),
        draw(
            st.sampled_from(
                ["", "\ufeff", "# made by a program\n", "https://example.com/candles\n"]
            )
        ),
        draw(st.sampled_from(["", "Source: an exchange", "# the end"])),
        groups,
    )


@st.composite
def with_fault(
    draw: st.DrawFn, fault: str, style: Style, rows: list[Row], lines: list[list[str]]
) -> list[list[str]]:
    """Return lines of which one has a fault, so that the file must be refused."""
    row = draw(st.sampled_from(rows))
    assert row.numbers is not None
    price = style.place(draw(st.sampled_from(PRICES)))
    cells = style.cells(row)
    wrong = cells.copy()
    match fault:
        case "a repeated row with another price":
            higher = row.numbers | {"high": row.numbers["high"] + 1}
            return [*lines, style.cells(row._replace(numbers=higher))]
        case "a row between":
            return [*lines, style.cells(row._replace(time=row.time + MINUTE))]
        case "half a minute late":
            wrong = style.cells(row._replace(time=row.time + MINUTE // 2))
        case "the high is below the low":
            low = row.numbers["high"] + 1
            wrong = style.cells(row._replace(numbers=row.numbers | {"low": low}))
        case "a price is missing":
            wrong[price] = style.missing
        case "a price is negative":
            wrong[price] = "-1"
        case "a price is text":
            wrong[price] = draw(
                st.sampled_from(["one", "1.2.3", "0x1f", "1_000", "5K", "$5", "1 0"])
            )
        case "a time that is none":
            none = ["", "soon", "2024-02-30", "31.31.2024", "-"]
            wrong[style.place("time")] = draw(st.sampled_from(none))
        case "a time before 1990":
            wrong[style.place("time")] = (
                "0" if cells[style.place("time")].isdigit() else "1969-12-31"
            )
        case "a row is cut off":
            del wrong[-1]
        case "another symbol":
            contracts = ["BTCUSDT-PERP", "BTC/USDT:USDT", "BTCUSDT_250328", ""]
            wrong[style.place("symbol")] = draw(st.sampled_from(contracts))
    return [wrong if line == cells else line for line in lines]


def pack(directory: Path, file: Generated) -> Path:
    path = directory / f"{file.name}{file.packed}"
    content = file.content.encode()
    if file.packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"__MACOSX/._{file.name}", b"\0")
            archive.writestr(file.name, content)
    else:
        path.write_bytes(gzip.compress(content) if file.packed else content)
    return path


@settings(max_examples=100, deadline=None)
@given(files())
def test_a_generated_file_is_imported_exactly_or_refused(
    tmp_path_factory: pytest.TempPathFactory, file: Generated
) -> None:
    path = pack(tmp_path_factory.getbasetemp(), file)
    if file.is_wrong:
        with pytest.raises(UnreadableFile):
            read_series(path, file.options, time=NOW)
        return
    try:
        series = read_series(path, file.options, time=NOW)
    except UnreadableFile:
        if file.is_certain:
            raise
        return
    found = {
        one.pair.symbol: (
            one.interval,
            [tuple(row) for row in zip(one.candles.open_time, *one.candles.numbers(), strict=True)],
        )
        for one in series
    }
    assert found == {truth.symbol: (file.interval, truth.rows(file.later)) for truth in file.truths}
