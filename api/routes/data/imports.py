"""The import of candles over HTTP: a file is sent, and its import is asked for until it has ended."""

import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.admin.candles import Import, ImportFiles, Preview
from candlestep.api.admin.file_imports import FileImport, require_file_name
from candlestep.api.http.route import FileContent, Request, Route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    INTERVAL_TEXTS,
    ExchangeGiven,
    Symbol,
    Time,
)
from candlestep.api.services import Services
from candlestep.data.imports.kinds import Kind
from candlestep.data.imports.numbers import DecimalMark
from candlestep.data.imports.series import Taken
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_exchange, normalise_symbol
from candlestep.sandbox import format_time, interval_name, parse_interval

_BASE = "/api/v1/data/import"

Interval = Annotated[
    str,
    Meta(
        description="Interval of the candles, a name or seconds; by default told from the file.",
        extra_json_schema={"enum": INTERVAL_TEXTS},
    ),
]


class ImportQuery(RequestBody):
    file: Annotated[
        str,
        Meta(
            description="Name of the file, which may tell its format, symbol and interval.",
            min_length=1,
            max_length=200,
            pattern=r"^[^/\\]+$",
            examples=["BTCUSDT-1m.csv.gz"],
        ),
    ]
    symbol: Symbol | None = None
    interval: Interval | None = None
    exchange: ExchangeGiven = DEFAULT_EXCHANGE
    time_format: (
        Annotated[
            str,
            Meta(
                description="Format of the times, in the directives of strptime.",
                max_length=100,
                examples=["%d.%m.%Y %H:%M"],
            ),
        ]
        | None
    ) = None
    date: Annotated[datetime.date, Meta(description="Day of times that have no date.")] | None = (
        None
    )
    decimal: (
        Annotated[
            DecimalMark,
            Meta(description="Decimal mark of the numbers; the other one separates thousands."),
        ]
        | None
    ) = None
    no_volume: Annotated[
        bool, Meta(description="Do not use the volume, and mark it as not usable.")
    ] = False
    kind: (
        Annotated[
            Kind,
            Meta(
                description="Kind of the rows; by default as in the file's name and header. All but"
                " `candles` are of perpetuals: mark prices, funding rates, margin tiers."
            ),
        ]
        | None
    ) = None
    perp: Annotated[
        bool, Meta(description="Import under the symbol of the perpetual, such as `BTCUSDT-PERP`.")
    ] = False
    as_dates: Annotated[
        bool,
        Meta(
            description="Make UTC days of the daily candles of a market that closes before midnight."
        ),
    ] = False
    dry_run: Annotated[
        bool, Meta(description="Tell what would be imported, and import nothing.")
    ] = False


class TakenResponse(msgspec.Struct, frozen=True):
    times: Annotated[str, Meta(description="The column of times and their form.")]
    prices: Annotated[str, Meta(description="The columns of open, high, low and close.")]
    volume: Annotated[str, Meta(description="The column of the volume, and why.")]
    symbol: str
    interval: str
    notes: Annotated[
        list[str], Meta(description="Rows that were left out, moved or contradicted, in words.")
    ]
    kind: Kind

    @classmethod
    def of(cls, taken: Taken) -> "TakenResponse":
        return cls(
            taken.times, taken.prices, taken.volume, taken.symbol, taken.interval,
            list(taken.notes), taken.kind,
        )  # fmt: skip


class ImportedSeriesResponse(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    kind: Kind
    interval: Annotated[
        str | None, Meta(description="Null for funding rates and margin tiers, which have none.")
    ]
    start: Annotated[
        Time, Meta(description="The first candle of the file opens, or its first other row is of.")
    ]
    end: Annotated[
        Time, Meta(description="The last candle of the file is complete, or its last row is of.")
    ]
    rows: Annotated[int, Meta(description="Rows in the file; margin tiers of one day are one.")]
    new: int
    replaced: Annotated[int, Meta(description="Rows that superseded another one.")]
    unchanged: int
    gaps: Annotated[int, Meta(description="Gaps of the whole series.")]
    import_number: Annotated[int | None, Meta(description="Null if nothing has changed.")]
    taken: TakenResponse | None

    @classmethod
    def of(cls, imported: Import) -> "ImportedSeriesResponse":
        summary = imported.summary
        return cls(
            summary.exchange,
            summary.symbol,
            summary.kind,
            interval_name(summary.interval) if summary.interval else None,
            format_time(summary.start),
            format_time(summary.end),
            summary.rows,
            summary.new,
            summary.replaced,
            summary.unchanged,
            len(summary.gaps),
            summary.import_number,
            None if summary.taken is None else TakenResponse.of(summary.taken),
        )


class PreviewResponse(msgspec.Struct, frozen=True):
    rows: int
    first: Annotated[
        list[float],
        Meta(
            description="Open time (ms), open, high, low, close, volume; of funding rates time and"
            " rate; of margin tiers floor, maintenance margin rate, cum and highest leverage."
        ),
    ]
    last: list[float]
    taken: TakenResponse

    @classmethod
    def of(cls, preview: Preview) -> "PreviewResponse":
        return cls(preview.rows, preview.first, preview.last, TakenResponse.of(preview.taken))


class ImportErrorResponse(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: Annotated[
        dict[str, Any], Meta(description="For bad rows: their `count`, and the first of them.")
    ]


class ImportResponse(msgspec.Struct, frozen=True):
    import_id: str
    file: str
    state: Literal["queued", "running", "completed", "failed"]
    rows_read: int
    share: Annotated[float, Meta(ge=0, le=1, description="Part of the file that has been read.")]
    imported: Annotated[
        list[ImportedSeriesResponse], Meta(description="Once it has completed, each series.")
    ]
    previews: Annotated[
        list[PreviewResponse],
        Meta(description="With `dry_run`, each series that would be imported."),
    ]
    error: Annotated[
        ImportErrorResponse | None, Meta(description="Once it has failed, the reason.")
    ]

    @classmethod
    def of(cls, found: FileImport) -> "ImportResponse":
        """Return the answer that shows an import."""
        report, refusal = found.report, found.refusal
        error = None
        if refusal is not None:
            error = ImportErrorResponse(refusal.code, refusal.message, refusal.details)
        return cls(
            found.import_id,
            found.file,
            found.state,
            found.rows_read,
            round(found.share, 4),
            [] if report is None else [ImportedSeriesResponse.of(one) for one in report.imports],
            [] if report is None else [PreviewResponse.of(one) for one in report.previews],
            error,
        )


async def start(services: Services, request: Request) -> ImportResponse:
    """Send a file as the body; it is imported as a whole or not at all.

    It has candles, or mark prices, funding rates or margin tiers of perpetuals.

    The answer comes when the file is received. `GET` its `import_id` for the progress and the
    outcome. Needs an admin key.
    """
    query: ImportQuery = request.query
    require_file_name(query.file)
    options = ImportFiles(
        files=[],
        symbol=None if query.symbol is None else normalise_symbol(query.symbol),
        interval=None if query.interval is None else interval_name(parse_interval(query.interval)),
        exchange=normalise_exchange(query.exchange),
        time_format=query.time_format,
        day=query.date,
        decimal=query.decimal,
        no_volume=query.no_volume,
        as_dates=query.as_dates,
        is_trial=query.dry_run,
        kind=query.kind,
        is_perp=query.perp,
    )
    started = await services.imports.receive(request.account_id, query.file, options, request.body)
    return ImportResponse.of(started)


async def progress(services: Services, request: Request) -> ImportResponse:
    """Return the progress of an import, then its outcome: what was imported, or the bad rows."""
    return ImportResponse.of(services.imports.get(request.account_id, request.path["import_id"]))


ROUTES = [
    Route(
        "POST", _BASE, start, "Import a file",
        query=ImportQuery, body=FileContent, status=202, access="admin_key",
        errors=("RATE_LIMITED",),
    ),
    Route(
        "GET", f"{_BASE}/{{import_id}}", progress, "Progress of an import",
        access="admin_key", errors=("NOT_FOUND",),
    ),
]  # fmt: skip
