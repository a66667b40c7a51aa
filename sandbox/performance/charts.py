"""Charts: a session, a comparison, a sweep and more, from plain arrays, as Plotly's JSON.

A chart is plain data, ``{"data": […], "layout": {…}}``: the pages send it to the browser as it is, and
``to_figure`` makes a figure of the library of it, for notebooks and files. The colours of the
background are left to whoever shows a chart. Shapes, dashes and fillings tell apart what colours do.
Its times are in milliseconds; the library would show these in the zone of the browser, so that whoever
shows a chart makes instants of UTC of them.

Charts have up to 2,000 candles and points of a curve, and 1,000 markers of fills; what there is more
of has been gathered before (``chart_columns``). No chart has a trace of WebGL, which would need ``eval``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from candlestep.sandbox.clock import interval_name
from candlestep.sandbox.market.candles import Floats, Integers
from candlestep.sandbox.performance.drawdowns import DrawdownPeriod
from candlestep.sandbox.performance.monthly_returns import MonthlyReturn

Chart = dict[str, Any]
"""The JSON of a Plotly figure: ``data`` and ``layout``."""

MOST_CANDLES = 2000
"""The most candles of a chart, and about the most points of a curve."""
MOST_MARKERS = 1000
"""The most fills that have a marker each."""
_MOST_LARGE_MARKERS = 250
"""The most markers of a side that are large: more of them would hide the candles."""

UP, DOWN = "#0d9488", "#e0483e"
_EQUITY, _EXPOSURE = "#2563eb", "#8b5cf6"
_GRID = "rgba(128,128,128,0.18)"
_SERIES = ("#2563eb", "#d97706", "#0d9488", "#c026d3", "#64748b", "#dc2626", "#65a30d", "#0891b2")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ChartCandles(NamedTuple):
    """Complete candles of one symbol and interval (ms), oldest first."""

    symbol: str
    interval: int
    open_time: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats


class FillMarker(NamedTuple):
    """A fill, or all fills of one candle and side."""

    time: int
    side: str
    price: float
    """The price, or the mean price by quantity."""
    quantity: float
    pnl: float | None
    """The realized PnL; None where no fill realized any."""
    fills: int
    """Number of fills that it stands for."""
    is_liquidation: bool = False

    @property
    def kind(self) -> str:
        """A key of ``MARKER_STYLES``."""
        return "liquidation" if self.is_liquidation else self.side


class MarkerStyle(NamedTuple):
    """The look of the markers of one kind, and their name in the legend."""

    name: str
    symbol: str
    colour: str
    size: int
    """In pixels, unless there are many."""


MARKER_STYLES: Mapping[str, MarkerStyle] = {
    "buy": MarkerStyle("buys", "triangle-up", "#2563eb", 10),
    "sell": MarkerStyle("sells", "triangle-down", "#d97706", 10),
    "liquidation": MarkerStyle("liquidations", "x", "#c026d3", 14),
}
"""Every kind of marker of fills."""


class PriceLine(NamedTuple):
    """A price that mattered from one time to another: an order that waited, or a level."""

    kind: str
    """A key of ``LINE_STYLES``."""
    price: float
    start: int
    end: int
    label: str


class LineStyle(NamedTuple):
    """The look of the lines of one kind, and their name in the legend."""

    name: str
    colour: str
    dash: str


LINE_STYLES: Mapping[str, LineStyle] = {
    "limit": LineStyle("limit orders", "#64748b", "dot"),
    "stop_loss": LineStyle("stops", DOWN, "dash"),
    "take_profit": LineStyle("take-profits", UP, "dashdot"),
    "trailing_stop": LineStyle("trailing stops", "#c026d3", "dash"),
    "liquidation": LineStyle("liquidation price", "#b91c1c", "longdash"),
    "mark": LineStyle("mark price", "#7c3aed", "dot"),
}
"""Every kind of line on the candles. A new kind is a line here, and ``PriceLine`` values of it."""


class Curve(NamedTuple):
    """Equity at some instants (ms), with its distance below the peak, and the share in the market."""

    time: Integers
    equity: Floats
    drawdown: Floats
    """In percent, 0 or negative."""
    exposure: Floats | None = None
    """The value of the positions in percent of equity; None where it is not known."""


def trading_chart(
    candles: ChartCandles | None,
    markers: Sequence[FillMarker],
    lines: Sequence[PriceLine],
    curve: Curve,
    currency: str,
) -> Chart:
    """Return the chart of a session: candles with fills and orders, equity, drawdown, exposure.

    All share one axis of time. Without ``candles``, the first part stays empty.
    """
    data = [] if candles is None else [_candlesticks(candles)]
    data += _line_traces(lines)
    data += _marker_traces(markers)
    data += _curve_traces(curve)
    title = "price" if candles is None else f"{candles.symbol} {interval_name(candles.interval)}"
    axes = [
        ("yaxis", (0.46, 1.0), title),
        ("yaxis2", (0.27, 0.43), f"equity, {currency}"),
        ("yaxis3", (0.13, 0.245), "drawdown, %"),
        ("yaxis4", (0.0, 0.105), "exposure, %"),
    ]
    if curve.exposure is None:
        axes = [
            ("yaxis", (0.4, 1.0), title),
            ("yaxis2", (0.18, 0.37), f"equity, {currency}"),
            ("yaxis3", (0.0, 0.155), "drawdown, %"),
        ]
    layout = _layout(760)
    layout["xaxis"] |= {
        "anchor": axes[-1][0].replace("axis", ""), "rangeslider": {"visible": False},
    }  # fmt: skip
    if len(curve.time):
        end = int(curve.time[-1])
        if candles is not None and len(candles.open_time):
            end = max(end, int(candles.open_time[-1]) + candles.interval)
        layout["xaxis"]["range"] = [int(curve.time[0]), end]
    for name, domain, text in axes:
        layout[name] = _y_axis(text) | {"domain": list(domain)}
        if text.endswith("%"):
            layout[name]["rangemode"] = "tozero"
    for name, values, empty in (
        ("yaxis3", curve.drawdown, [-1.0, 0.0]),
        ("yaxis4", curve.exposure, [0.0, 1.0]),
    ):
        if values is not None and not values.any():
            layout[name]["range"] = empty
    return {"data": data, "layout": layout}


def comparison_chart(curves: Mapping[str, Curve]) -> Chart:
    """Return the chart of several curves by name: equity rebased to 100, and drawdowns."""
    data = []
    for place, (name, curve) in enumerate(curves.items()):
        line = {
            "color": _SERIES[place % len(_SERIES)],
            "dash": _DASHES[place % len(_DASHES)],
            "width": 1.6,
        }
        common = {"type": "scatter", "mode": "lines", "line": line, "legendgroup": str(place)}
        x = curve.time.tolist()
        start = float(curve.equity[0]) if len(curve.equity) else 1.0
        rebased = (curve.equity / start * 100).tolist() if start > 0 else curve.equity.tolist()
        text = f"{name}<br>%{{y:.2f}}<extra></extra>"
        data += [
            common | {"x": x, "y": rebased, "name": name, "hovertemplate": text},
            common
            | {
                "x": x, "y": curve.drawdown.tolist(), "name": name, "yaxis": "y2",
                "showlegend": False, "hovertemplate": text,
            },
        ]  # fmt: skip
    layout = _layout(520)
    layout["xaxis"]["anchor"] = "y2"
    layout["yaxis"] = _y_axis("equity, start = 100") | {"domain": [0.36, 1.0]}
    layout["yaxis2"] = _y_axis("drawdown, %") | {"domain": [0.0, 0.31], "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def heatmap_chart(
    x: tuple[str, Sequence[Any]],
    y: tuple[str, Sequence[Any]],
    values: Sequence[Sequence[float | None]],
    names: Sequence[Sequence[str | None]],
    *,
    metric: str,
    higher_is_better: bool,
) -> Chart:
    """Return the heatmap of a metric of a sweep over two parameters.

    ``x`` and ``y`` are a parameter's name and its values; ``values[row][column]`` is the metric at
    ``y[row]`` and ``x[column]``, and ``names`` has the id of the run that has it. Every cell is
    labelled with its value.
    """
    scale = [[0.0, "#fde8e4"], [0.5, "#f1f5f9"], [1.0, "#1d4ed8"]]
    if not higher_is_better:
        scale = [[0.0, "#1d4ed8"], [0.5, "#f1f5f9"], [1.0, "#fde8e4"]]
    trace = {
        "type": "heatmap",
        "x": [str(value) for value in x[1]],
        "y": [str(value) for value in y[1]],
        "z": [list(row) for row in values],
        "customdata": [list(row) for row in names],
        "texttemplate": "%{z:.4~g}",
        "hovertemplate": f"{x[0]} %{{x}}<br>{y[0]} %{{y}}<br>{metric} %{{z:.6~g}}<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "colorscale": scale,
        "colorbar": {
            "title": {"text": metric, "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
        },
    }
    layout = _layout(max(260, 110 + 42 * len(y[1])))
    for name, parameter in (("xaxis", x[0]), ("yaxis", y[0])):
        layout[name] = _axis() | {
            "title": {"text": parameter, "standoff": 10}, "type": "category", "showgrid": False,
            "automargin": True,
        }  # fmt: skip
    return {"data": [trace], "layout": layout | {"hovermode": "closest"}}


def drawdowns_chart(curve: Curve, periods: Sequence[DrawdownPeriod], currency: str) -> Chart:
    """Return the chart of equity with the worst drawdowns shaded, the deepest the darkest."""
    layout = _layout(320)
    layout["yaxis"] = _y_axis(f"equity, {currency}")
    end = int(curve.time[-1]) if len(curve.time) else 0
    layout["shapes"] = [
        {
            "type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": period.peak_time,
            "x1": end if period.recovery_time is None else period.recovery_time,
            "fillcolor": DOWN, "opacity": max(0.06, 0.26 - 0.05 * place), "line": {"width": 0},
            "layer": "below",
        }
        for place, period in enumerate(periods)
    ]  # fmt: skip
    equity, *_ = _curve_traces(curve)
    return {"data": [equity | {"yaxis": "y"}], "layout": layout}


def monthly_chart(returns: Sequence[MonthlyReturn]) -> Chart:
    """Return the heatmap of monthly returns in percent: a row for each year."""
    years = list(dict.fromkeys(entry.month[:4] for entry in returns))
    cells: dict[str, list[float | None]] = {year: [None] * 12 for year in years}
    for entry in returns:
        cells[entry.month[:4]][int(entry.month[5:7]) - 1] = entry.return_pct
    largest = max((abs(entry.return_pct or 0.0) for entry in returns), default=0.0) or 1.0
    trace = {
        "type": "heatmap",
        "x": list(_MONTHS),
        "y": years,
        "z": [cells[year] for year in years],
        "zmin": -largest,
        "zmax": largest,
        "texttemplate": "%{z:+.2f}",
        "hovertemplate": "%{x} %{y}<br>%{z:+.4f} %<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
        "colorscale": [[0.0, DOWN], [0.5, "#f1f5f9"], [1.0, UP]],
    }
    layout = _layout(90 + 34 * max(1, len(years)))
    layout["xaxis"] = _axis() | {"type": "category", "showgrid": False}
    layout["yaxis"] = _axis() | {"type": "category", "showgrid": False, "autorange": "reversed"}
    return {"data": [trace], "layout": layout | {"hovermode": "closest"}}


def to_figure(chart: Chart) -> Any:
    """Return a chart as a ``plotly.graph_objects.Figure``; raises ``ImportError`` without plotly."""
    try:
        from plotly.graph_objects import Figure
    except ImportError:
        raise ImportError("pictures need plotly: pip install plotly") from None
    data, layout = chart["data"], {"template": "plotly_white"} | chart["layout"]
    if layout["xaxis"]["type"] == "date":
        data = [trace | {"x": _instants(trace["x"])} for trace in data]
        layout["shapes"] = [
            shape | dict(zip(("x0", "x1"), _instants([shape["x0"], shape["x1"]]), strict=True))
            for shape in layout.get("shapes", ())
        ]
        if "range" in layout["xaxis"]:
            layout["xaxis"] = layout["xaxis"] | {"range": _instants(layout["xaxis"]["range"])}
    return Figure({"data": data, "layout": layout})


def _instants(times: Sequence[int | None]) -> list[datetime | None]:
    """Return times (ms) as what the library shows in UTC: it shifts numbers to the browser's zone."""
    instants: list[datetime | None] = np.array(times, dtype="datetime64[ms]").tolist()
    return instants


def _candlesticks(candles: ChartCandles) -> Chart:
    return {
        "type": "candlestick",
        "name": candles.symbol,
        "x": candles.open_time.tolist(),
        "open": candles.open.tolist(),
        "high": candles.high.tolist(),
        "low": candles.low.tolist(),
        "close": candles.close.tolist(),
        # A candle that fell is filled, one that rose is not.
        "increasing": {"line": {"color": UP, "width": 1}, "fillcolor": "rgba(13,148,136,0.15)"},
        "decreasing": {"line": {"color": DOWN, "width": 1}, "fillcolor": DOWN},
        "showlegend": False,
    }


def _marker_traces(markers: Sequence[FillMarker]) -> list[Chart]:
    """Return a trace of buys, one of sells and, if there were any, one of liquidations."""
    members = {kind: [m for m in markers if m.kind == kind] for kind in MARKER_STYLES}
    return [
        _markers(members[kind], kind)
        for kind in MARKER_STYLES
        if members[kind] or kind != "liquidation"
    ]


def _markers(markers: Sequence[FillMarker], kind: str) -> Chart:
    style = MARKER_STYLES[kind]
    are_many = len(markers) > _MOST_LARGE_MARKERS
    return {
        "type": "scatter",
        "mode": "markers",
        "name": style.name,
        "x": [marker.time for marker in markers],
        "y": [marker.price for marker in markers],
        "customdata": [[m.fills, m.quantity, m.pnl] for m in markers],
        "hovertemplate": _marker_texts(markers, kind),
        "marker": {
            "symbol": style.symbol,
            "size": style.size // 2 if are_many else style.size,
            "color": style.colour,
            "line": {"width": 0 if are_many else 1, "color": "#ffffff"},
        },
    }


def _marker_texts(markers: Sequence[FillMarker], kind: str) -> str | list[str]:
    """Return the text of all markers, or a list if only some have a PnL; the library fills it in."""
    is_gathered = any(marker.fills > 1 for marker in markers)
    name = f"{kind} × %{{customdata[0]}}" if is_gathered else kind
    at = "at a mean of" if is_gathered else "at"
    start = f"<b>{name}</b> %{{customdata[1]:,.10~g}} {at} %{{y:,.10~g}}<br>"
    end = "%{x|%Y-%m-%dT%H:%M:%SZ}<extra></extra>"
    texts = {False: start + end, True: start + "PnL %{customdata[2]:+,.2f}<br>" + end}
    have_pnl = [marker.pnl is not None for marker in markers]
    if any(have_pnl) and not all(have_pnl):
        return [texts[has_pnl] for has_pnl in have_pnl]
    return texts[any(have_pnl)]


def _line_traces(lines: Sequence[PriceLine]) -> list[Chart]:
    """Return a trace for each kind of line that there is; gaps part the lines of one kind."""
    traces = []
    for kind, style in LINE_STYLES.items():
        members = [line for line in lines if line.kind == kind]
        if not members:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": style.name,
                "x": [x for line in members for x in (line.start, line.end, None)],
                "y": [y for line in members for y in (line.price, line.price, None)],
                "hovertext": [text for line in members for text in (line.label, line.label, "")],
                "hovertemplate": "%{hovertext}<extra></extra>",
                "line": {"color": style.colour, "dash": style.dash, "width": 1.2},
                "connectgaps": False,
            }
        )
    return traces


def _curve_traces(curve: Curve) -> list[Chart]:
    x = curve.time.tolist()
    common = {"type": "scatter", "mode": "lines", "x": x, "showlegend": False}
    traces = [
        common
        | {
            "name": "equity", "y": curve.equity.tolist(), "yaxis": "y2",
            "line": {"color": _EQUITY, "width": 1.5, "shape": "hv"},
            "hovertemplate": "equity %{y:,.2f}<extra></extra>",
        },
        common
        | {
            "name": "drawdown", "y": curve.drawdown.tolist(), "yaxis": "y3", "fill": "tozeroy",
            "line": {"color": DOWN, "width": 1, "shape": "hv"},
            "fillcolor": "rgba(224,72,62,0.22)",
            "hovertemplate": "drawdown %{y:.2f} %<extra></extra>",
        },
    ]  # fmt: skip
    if curve.exposure is not None:
        traces.append(
            common
            | {
                "name": "exposure", "y": curve.exposure.tolist(), "yaxis": "y4", "fill": "tozeroy",
                "line": {"color": _EXPOSURE, "width": 1, "shape": "hv"},
                "fillcolor": "rgba(139,92,246,0.20)",
                "hovertemplate": "exposure %{y:.1f} %<extra></extra>",
            }
        )  # fmt: skip
    return traces


def _layout(height: int) -> Chart:
    return {
        "height": height,
        "margin": {"l": 76, "r": 16, "t": 28, "b": 36},
        "xaxis": _axis() | {"type": "date", "showspikes": True, "spikemode": "across"}
        | {"spikethickness": 1, "spikedash": "dot", "spikecolor": "#888888"},
        "hovermode": "closest",
        "dragmode": "zoom",
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "font": {"size": 12},
    }  # fmt: skip


def _axis() -> Chart:
    return {"gridcolor": _GRID, "zeroline": False, "automargin": False}


def _y_axis(title: str) -> Chart:
    text = {"text": title, "font": {"size": 11}, "standoff": 4}
    # To find out which labels overflow takes as long as to draw the rest of an axis.
    return _axis() | {
        "title": text, "type": "linear", "fixedrange": True, "nticks": 6, "tickformat": ",.9~r",
        "ticklabeloverflow": "allow",
    }  # fmt: skip
