"""The figures of a run or a session in the answers of an API: which ones, and in what form."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.data.records.jobs import RunSpec, RunSummary
from candlestep.sandbox import Metrics
from candlestep.sandbox.exchange.clearing import MarginMode
from candlestep.sandbox.exchange.margin.reports import MarginFigures, MarkSource
from candlestep.sandbox.performance.figures import FIGURES, Figure, Unit

Form = Callable[[Any, Unit], Any]
"""Writes a figure, which is not None, of a unit."""


class FigureField(NamedTuple):
    """A figure under the name that an API has for it."""

    key: str
    name: str
    """In ``FIGURES``."""
    unit: Unit | None = None
    """To convert it to; None: as it is."""
    is_negated: bool = False

    @property
    def figure(self) -> Figure:
        return FIGURES[self.name]


def fields_named(names: Iterable[str]) -> tuple[FigureField, ...]:
    """Return fields for figures that an API calls by their own names."""
    return tuple(FigureField(name, name) for name in names)


MARGIN_FIELDS = fields_named(
    ("total_funding", "total_liquidation_fees", "liquidations", "max_leverage_used")
)
"""The figures that the APIs have of a run on perpetuals besides the others."""


def project(
    fields: Iterable[FigureField], source: RunSummary | Metrics, form: Form
) -> dict[str, Any]:
    """Return the figures of a run or a session by key; None where one is undefined."""
    return {field.key: _project(field, source, form) for field in fields}


def project_margin(summary: RunSummary, form: Form) -> dict[str, Any]:
    """Return the figures that only a run on perpetuals has; none on spot."""
    return {} if summary.margin is None else project(MARGIN_FIELDS, summary, form)


class MarginAssumptions(msgspec.Struct, frozen=True):
    """The assumptions of a run on perpetuals; null where only its result tells."""

    funding: Annotated[bool, Meta(description="Funding is paid at the rates that were imported.")]
    leverage: int
    margin_mode: MarginMode
    mark_source: Annotated[
        MarkSource | None,
        Meta(
            description="Positions were valued at `mark` prices, or at the `last` ones; `mixed`:"
            " at these where the mark price has holes."
        ),
    ]
    funding_events: Annotated[int | None, Meta(description="Payments of funding.")]
    missing_marks: Annotated[
        int | None, Meta(description="Candles without a mark price, if the symbol has any.")
    ]

    @classmethod
    def of(cls, spec: RunSpec, summary: RunSummary | None) -> "MarginAssumptions | UnsetType":
        """Return the assumptions of a run; nothing on spot."""
        if spec.config.get("market_type") != "perp":
            return UNSET
        figures = None if summary is None else summary.margin
        return cls(
            spec.config["funding"],
            spec.config["leverage"],
            "cross",
            None if figures is None else figures.mark_source,
            None if figures is None else figures.funding_expected,
            None if figures is None else figures.mark_holes,
        )


def as_number(value: Any, unit: Unit) -> Any:
    """Write every figure as a number of JSON; the form of an API whose amounts are floats."""
    return float(value) if isinstance(value, Decimal) else value


def _project(field: FigureField, source: RunSummary | Metrics, form: Form) -> Any:
    value = _value(field.name, source)
    if value is None:
        return None
    unit = field.figure.unit
    if field.unit is not None and field.unit != unit:
        assert (unit, field.unit) == ("percent", "fraction")
        value, unit = value / 100, field.unit
    return form(-value if field.is_negated else value, unit)


def _value(name: str, source: RunSummary | Metrics) -> Any:
    """Return a figure, which a run has in its summary or in the metrics of that."""
    if isinstance(source, RunSummary) and name not in RunSummary.__struct_fields__:
        if name in MarginFigures.__struct_fields__:
            return getattr(source.margin, name)
        source = source.metrics
    return getattr(source, name)
