"""Figures for notebooks and scripts: several results side by side, and a sweep as a heatmap.

``Session.plot`` and ``Results.plot`` draw a single one. All need plotly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.performance.chart_columns import Range, thinned
from candlestep.sandbox.performance.charts import comparison_chart, heatmap_chart, to_figure
from candlestep.sandbox.performance.figures import FIGURES
from candlestep.sandbox.performance.results import Results


def compare_figure(results: Sequence[Results] | Mapping[str, Results]) -> Any:
    """Return a Plotly figure of equity, rebased to 100, and drawdowns of several results.

    A mapping names them; others are numbered from 1.
    """
    named = (
        results
        if isinstance(results, Mapping)
        else {str(number): result for number, result in enumerate(results, 1)}
    )
    curves = {}
    for name, result in named.items():
        record = result.record()
        curves[name] = thinned(record.curve, Range(record.start, record.time))
    return to_figure(comparison_chart(curves))


def sweep_figure(
    runs: Sequence[tuple[Mapping[str, Any], Results]],
    x: str,
    y: str,
    metric: str = "sharpe_ratio",
) -> Any:
    """Return a Plotly figure of a metric over two parameters: a heatmap of runs.

    ``runs`` are parameters with their results, and ``metric`` is a field of ``Results`` or
    ``Metrics``. Where several runs share a cell, it shows the best. Raises ``InvalidParameter``.
    """
    if metric not in FIGURES or not any(
        hasattr(source, metric) for _, result in runs[:1] for source in (result, result.metrics)
    ):
        raise InvalidParameter("metric", "must be a field of Results or of Metrics")
    for name in (x, y):
        if any(name not in parameters for parameters, _ in runs):
            raise InvalidParameter("x" if name == x else "y", f"{name!r} is missing in some runs")
    cells = [
        (parameters[x], parameters[y], _value(result, metric), None) for parameters, result in runs
    ]
    better = FIGURES[metric].higher_is_better is not False
    xs, ys, values, names = heatmap_cells(cells, higher_is_better=better)
    return to_figure(
        heatmap_chart((x, xs), (y, ys), values, names, metric=metric, higher_is_better=better)
    )


Cell = tuple[Any, Any, float | None, str | None]
"""Two values of parameters, the value of a metric, and the id of a run."""
Cells = tuple[list[Any], list[Any], list[list[float | None]], list[list[str | None]]]


def heatmap_cells(cells: Sequence[Cell], *, higher_is_better: bool) -> Cells:
    """Return the sorted values of both parameters, and rows with the best value and id of each cell."""
    xs = _sorted_values([cell[0] for cell in cells])
    ys = _sorted_values([cell[1] for cell in cells])
    values: list[list[float | None]] = [[None] * len(xs) for _ in ys]
    names: list[list[str | None]] = [[None] * len(xs) for _ in ys]
    for x, y, value, name in cells:
        row, column = ys.index(y), xs.index(x)
        best = values[row][column]
        if names[row][column] is None:
            names[row][column] = name
        if value is not None and (best is None or (value > best) == higher_is_better):
            values[row][column], names[row][column] = value, name
    return xs, ys, values, names


def _sorted_values(values: Sequence[Any]) -> list[Any]:
    """Return distinct values: numbers by size, and then others by their text."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    others = [value for value in distinct if value not in numbers]
    return [*sorted(numbers), *sorted(others, key=str)]


def _value(result: Results, metric: str) -> float | None:
    source = result if hasattr(result, metric) else result.metrics
    value = getattr(source, metric)
    return None if value is None else float(value)
