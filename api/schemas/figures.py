"""The figures of a run or a session in the answers of an API: which ones, and in what form."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from candlestep.data.records.jobs import RunSummary
from candlestep.sandbox import Metrics
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


def project(
    fields: Iterable[FigureField], source: RunSummary | Metrics, form: Form
) -> dict[str, Any]:
    """Return the figures of a run or a session by key; None where one is undefined."""
    return {field.key: _project(field, source, form) for field in fields}


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
        source = source.metrics
    return getattr(source, name)
