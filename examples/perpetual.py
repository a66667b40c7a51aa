"""Sell a perpetual short with leverage on a server: it receives funding, then is liquidated.

    candlestep data sample && candlestep serve
    python examples/perpetual.py

The sample's SOLUSDT-PERP rises by a fifth in the first days of 2025, which a short with 5x leverage
does not survive.
"""

from argparse import ArgumentParser

from candlestep.api.client import Client
from candlestep.sandbox import MarginPosition, format_time

SYMBOL = "SOLUSDT-PERP"
EIGHT_HOURS = 8 * 12
"""Steps of 5 minutes from one funding to the next."""


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="URL of the server")
    parser.add_argument("--api-key", help="needed if the server has keys")
    options = parser.parse_args()
    with Client(options.url, options.api_key) as client:
        session = client.create_session(
            start_time="2025-01-02",
            end_time="2025-01-07",
            candle_interval="5m",
            starting_balance="10000",
            market_type="perp",
            pairs=[SYMBOL],
            leverage=5,
            margin_mode="isolated",
        )
        order = session.place_order(symbol=SYMBOL, side="sell", quantity="100")
        [position] = session.positions()
        assert order.fill is not None
        assert isinstance(position, MarginPosition)
        print(f"short of 100 at {order.fill.price:.2f}, margin {position.isolated_wallet:.2f}")
        print(f"liquidated where the mark price reaches {position.liquidation_price:.2f}\n")
        while session.status == "running":
            step = session.step(EIGHT_HOURS)
            for payment in step.funding:
                paid = f"{payment.rate * 100:+.4f} % of {payment.notional:.2f}"
                print(f"{format_time(payment.time)}  funding {paid}: {payment.amount:+.4f}")
            for end in step.liquidations:
                what = f"{end.side} {end.quantity:.0f} at {end.price:.2f}"
                print(f"{format_time(end.time)}  liquidation, {what}: {-end.loss:+.2f}")
        results = session.results()
        print(f"\nfunding received  {results.total_funding:.8f}")
        print(f"liquidations      {results.liquidations}")
        print(f"liquidation fees  {results.total_liquidation_fees:.8f}")
        print(f"final equity      {results.final_equity:.8f}")


if __name__ == "__main__":
    main()
