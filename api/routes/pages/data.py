"""The page of the data: symbols with their coverage by month, gaps, and imports."""

from collections.abc import Mapping, Sequence
from typing import Any

from candlestep.api.http.route import File, Request
from candlestep.api.routes.pages.page import PageNumber, html, page, page_route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.services import Services
from candlestep.api.views.view import (
    NOTHING,
    PAGE_ROWS,
    Column,
    ViewTable,
    duration_text,
    minute_text,
)
from candlestep.data.market.candle_cache import month_start
from candlestep.data.market.catalogue import Series, by_symbol, covered_spans, merged_gaps
from candlestep.data.market.import_log import count_imports, list_imports
from candlestep.data.symbols import is_perpetual
from candlestep.sandbox import format_time, interval_name
from candlestep.sandbox.market.spans import Span

_MOST_MONTHS = 60


class DataQuery(RequestBody):
    imports: PageNumber = 1
    gaps: PageNumber = 1
    perpetuals: PageNumber = 1


async def data(services: Services, request: Request) -> File:
    """Return the page of the data."""
    return html(await services.read(_render, services, request))


def _render(services: Services, request: Request) -> str:
    query: DataQuery = request.query
    groups = by_symbol(services.catalogue.series())
    months = _months([series for group in groups.values() for series in group])
    return page(
        services,
        request,
        "data.html",
        section="data",
        symbols=[_symbol(group, months) for group in groups.values()],
        months=[minute_text(start)[:7] for start, _ in months],
        perpetuals=_perpetuals(services, groups, query.perpetuals),
        gaps=_gaps(services, query.gaps),
        imports=_imports(services, query.imports),
        pages={},
    )


def _months(all_series: Sequence[Series]) -> list[Span]:
    """Return the months that any series covers, the latest 60 of them."""
    if not all_series:
        return []
    month, end = (
        month_start(min(s.start for s in all_series)),
        max(s.end for s in all_series),
    )
    months = []
    while month < end:
        following = month_start(month, later=1)
        months.append((month, following))
        month = following
    return months[-_MOST_MONTHS:]


def _symbol(group: Sequence[Series], months: Sequence[Span]) -> dict[str, Any]:
    start, end = min(s.start for s in group), max(s.end for s in group)
    spans = covered_spans(group)
    covered = sum(stop - first for first, stop in spans)
    return {
        "symbol": group[0].symbol,
        "exchange": group[0].exchange,
        "intervals": ", ".join(interval_name(series.interval) for series in group),
        "start": minute_text(start),
        "end": minute_text(end),
        "rows": sum(series.rows for series in group),
        "share": f"{covered / (end - start) * 100:.2f}",
        "gap_count": len(merged_gaps(group)),
        "strip": [(minute_text(month[0])[:7], _share(spans, month)) for month in months],
    }


def _share(spans: Sequence[Span], month: Span) -> float:
    """Return the share of a month, or of another span, that spans cover."""
    start, end = month
    inside = sum(
        min(stop, end) - max(first, start) for first, stop in spans if first < end and stop > start
    )
    return inside / (end - start)


def _perpetuals(
    services: Services, groups: Mapping[tuple[str, str], Sequence[Series]], number: int
) -> ViewTable | None:
    """Return the table of the mark prices and funding rates of perpetuals; None without any."""
    names = [name for name in groups if is_perpetual(name[1])]
    if not names:
        return None
    lines = services.catalogue.lines()
    marks = by_symbol(line for line in lines if line.kind == "mark")
    funding = by_symbol(line for line in lines if line.kind == "funding")
    columns = (
        "Symbol", "Exchange", "Marks", "Covered, %", "Settlements", "From", "To", "Holes"
    )  # fmt: skip
    rows = [
        [
            name[1],
            name[0],
            *_marks(groups[name], marks.get(name, [])),
            *_funding(funding.get(name, [])),
        ]
        for name in names[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    ]
    return ViewTable(
        "perpetuals",
        "Mark prices and funding",
        [Column(name, name in ("Covered, %", "Settlements", "Holes")) for name in columns],
        rows,
        len(names),
        number,
    )


def _marks(candles: Sequence[Series], marks: Sequence[Series]) -> list[str]:
    """Return the intervals of mark prices, and the share of the time of the candles they cover."""
    if not marks:
        return [NOTHING, "0.00"]
    span = (min(s.start for s in candles), max(s.end for s in candles))
    intervals = ", ".join(interval_name(series.interval) for series in marks)
    return [intervals, f"{_share(covered_spans(marks), span) * 100:.2f}"]


def _funding(funding: Sequence[Series]) -> list[str]:
    """Return the number of settlements, the first and the last one, and the number of holes."""
    if not funding:
        return ["0", NOTHING, NOTHING, NOTHING]
    (rates,) = funding
    start, end = minute_text(rates.start), minute_text(rates.end)
    return [f"{rates.rows:,}", start, end, f"{len(rates.gaps):,}"]


def _gaps(services: Services, number: int) -> ViewTable:
    known = services.catalogue.data_range()
    gaps = [("candles", gap) for gap in known.data_gaps]
    gaps += [("funding", gap) for gap in known.funding_gaps]
    shown = gaps[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    columns = ("Symbol", "Exchange", "Of", "From", "To", "Length")
    return ViewTable(
        "gaps",
        "Gaps",
        [Column(name, name == "Length") for name in columns],
        [
            [
                gap.symbol,
                gap.exchange,
                kind,
                format_time(gap.start),
                format_time(gap.end),
                duration_text(gap.end - gap.start),
            ]
            for kind, gap in shown
        ],
        len(gaps),
        number,
        empty="No gap: every symbol has candles, and every perpetual funding, from its first to its"
        " last.",
    )


def _imports(services: Services, number: int) -> ViewTable:
    rows = list_imports(services.store, limit=PAGE_ROWS, offset=(number - 1) * PAGE_ROWS)
    columns = (
        "#", "Imported", "Symbol", "Exchange", "Kind", "Interval", "New", "Replaced", "Unchanged",
        "Source",
    )  # fmt: skip
    numbers = ("#", "New", "Replaced", "Unchanged")
    return ViewTable(
        "imports",
        "Imports",
        [Column(name, name in numbers) for name in columns],
        [
            [
                str(row.number),
                minute_text(row.imported_at),
                row.symbol,
                row.exchange,
                row.kind,
                interval_name(row.interval) if row.interval else "",
                f"{row.rows_new:,}",
                f"{row.rows_replaced:,}",
                f"{row.rows_unchanged:,}",
                row.source,
            ]
            for row in rows
        ],
        count_imports(services.store),
        number,
        empty="Nothing has been imported.",
    )


ROUTES = [page_route("/data", data, "What data there is", query=DataQuery)]
