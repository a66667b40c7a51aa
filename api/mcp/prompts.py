"""Prompts: tasks that a user can choose, each the text with which a conversation begins."""

from collections.abc import Mapping
from typing import NamedTuple

from candlestep.sandbox import InvalidParameter


class Prompt(NamedTuple):
    """A prompt: its arguments, all required, with their descriptions, and its text with their names."""

    description: str
    arguments: Mapping[str, str]
    text: str

    def written(self, given: Mapping[str, str]) -> str:
        """Return the text with the arguments in place; raises ``InvalidParameter``."""
        for name, description in self.arguments.items():
            if not given.get(name):
                raise InvalidParameter(name, f"is required: {description}")
        text = self.text
        for name in self.arguments:
            text = text.replace(f"<{name}>", given[name])
        return text


PROMPTS = {
    "trade_session": Prompt(
        "Trade a session from its start to its end.",
        {"symbol": "a symbol such as BTCUSDT", "days": "the number of days to trade"},
        "Trade <symbol> for <days> days on Candlestep. Find a period with list_data, then"
        " create_session over <days> days of it. Repeat until the session is over: observe; decide,"
        " and say why in a sentence; act with your orders (guard each buy with stop_loss_pct and"
        " take_profit_pct) and with steps, using until=order_change to wait. At the end call results"
        " and say what worked and what did not.",
    ),
    "review_run": Prompt(
        "Review how a session was traded.",
        {"session_id": "the id of a session"},
        "Review session <session_id> on Candlestep: read results with curve_points=20, history of"
        " orders and of trades. Name the decisions that gained or lost most, what the fees cost, and"
        " the rule that would have changed most.",
    ),
    "build_strategy": Prompt(
        "Turn an idea into a strategy, and test it.",
        {"idea": "the idea in words"},
        "Build a strategy on Candlestep from this idea: <idea>. Read candlestep://templates and"
        " candlestep://indicators if you can. Write a card, run it with run_strategy over a first"
        " period, mend what the errors name, then change one thing at a time. Check the final one"
        " over a period that you have not used before, and report both.",
    ),
}
"""By name."""
