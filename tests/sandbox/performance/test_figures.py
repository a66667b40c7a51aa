"""The table of figures."""

from candlestep.sandbox import Metrics
from candlestep.sandbox.performance.figures import FIGURES


def test_every_metric_is_in_the_table() -> None:
    assert set(Metrics.__struct_fields__) <= set(FIGURES)
