"""Report of the orders of a file that were placed in a new session."""

from candlestep.api.cli.terminal import print_table
from candlestep.api.replay.order_sequence import SequenceOutcome, SequenceResults

_NUMBERS = ("line", "step", "quantity", "price", "fee")


def print_placed(results: SequenceResults) -> None:
    """Print what became of each row, then the account at the end."""
    header = (
        "line", "step", "time", "side", "symbol", "type", "quantity", "price", "fee", "outcome",
    )  # fmt: skip
    print_table(header, map(_row, results.orders), numbers=_NUMBERS)
    summary = results.summary
    print(
        f"\n{summary.total_trades} fills; equity {summary.final_equity} of"
        f" {results.starting_balance} at {results.end_time}, {summary.total_fees} paid in fees."
    )


def _row(outcome: SequenceOutcome) -> tuple[str, ...]:
    place = (str(outcome.line), f"{outcome.step:,}", outcome.time)
    order = outcome.order
    if order is not None:
        terms = (order.side, order.symbol, order.type, order.quantity)
        return (*place, *terms, order.executed_price or "-", order.fee or "-", order.status)
    done = f"refused: {outcome.refusal}" if outcome.refusal else f"cancelled {outcome.cancelled}"
    return (*place, "", "", "", "", "", "", done)
