"""Every tool: its name, its description, its arguments and answer, and what a host may assume."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from candlestep.api.mcp import answers as given
from candlestep.api.mcp import arguments as taken
from candlestep.api.mcp.calls import acting, data, observing, outcomes, sessions, strategies
from candlestep.api.services import Services


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool of language models."""

    name: str
    description: str
    arguments: type[Any]
    answer: type[given.Answer]
    call: Callable[[Services, Any], Awaitable[given.Answer]]
    is_read_only: bool = False
    is_destructive: bool = False
    for_session_key: bool = False
    """True if the key of a session may call it, about that session."""
    is_frequent: bool = False
    """True if its successes are not logged."""
    is_idempotent: bool = False
    """True if the same call again changes nothing further, even without a key."""


_ALL = (
    Tool(
        name="list_data",
        description="What can be traded, and when.",
        arguments=taken.ListData,
        answer=given.DataList,
        call=data.list_data,
        is_read_only=True,
    ),
    Tool(
        name="create_session",
        description="Create and start a session on past data; its clock stands until step or act.",
        arguments=taken.CreateSession,
        answer=given.Created,
        call=sessions.create_session,
    ),
    Tool(
        name="list_sessions",
        description="Your sessions, the newest last.",
        arguments=taken.ListSessions,
        answer=given.SessionList,
        call=sessions.list_sessions,
        is_read_only=True,
    ),
    Tool(
        name="observe",
        description="Prices, candles (complete ones, time is the open; prices rounded) and"
        " indicators, positions and open orders, now. session_id may be left out, in every tool,"
        " while one session runs; the last to end can be read.",
        arguments=taken.Observe,
        answer=given.Observed,
        call=observing.observe,
        for_session_key=True,
        is_read_only=True,
    ),
    Tool(
        name="act",
        description="Cancel orders, place orders one by one, then step; the first refused one stops"
        " the rest. Types: market, limit (price), stop_loss and take_profit (trigger_price). Of"
        " orders with one oco_group the first to fill cancels the others.",
        arguments=taken.Act,
        answer=given.Acted,
        call=acting.act,
        is_frequent=True,
        for_session_key=True,
    ),
    Tool(
        name="step",
        description="Let time pass: steps candles of the session's interval, or less with until:"
        " an order fills or closes, or the price of symbol touches above or below.",
        arguments=taken.Steps,
        answer=given.Stepped,
        call=acting.step,
        is_frequent=True,
        for_session_key=True,
    ),
    Tool(
        name="account",
        description="Balances, positions, open orders, realized profit and fees.",
        arguments=taken.OfSession,
        answer=given.AccountShown,
        call=observing.account,
        for_session_key=True,
        is_read_only=True,
    ),
    Tool(
        name="history",
        description="Past orders or trades.",
        arguments=taken.History,
        answer=given.Listed,
        call=observing.history,
        for_session_key=True,
        is_read_only=True,
    ),
    Tool(
        name="fork",
        description="Copy a running session: try several decisions from here; the market ahead is"
        " the same in all.",
        arguments=taken.Fork,
        answer=given.Forked,
        call=sessions.fork,
    ),
    Tool(
        name="compare",
        description="Sessions side by side, and the best of them.",
        arguments=taken.Compare,
        answer=given.Compared,
        call=outcomes.compare,
        is_read_only=True,
    ),
    Tool(
        name="results",
        description="Metrics of a session, so far or final.",
        arguments=taken.SessionResults,
        answer=given.Outcome,
        call=outcomes.results,
        for_session_key=True,
        is_read_only=True,
    ),
    Tool(
        name="end_session",
        description="End a session for good, and return its results.",
        arguments=taken.EndSession,
        answer=given.Outcome,
        call=sessions.end_session,
        for_session_key=True,
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        name="run_strategy",
        description="Backtest a whole strategy without stepping.",
        arguments=taken.RunStrategy,
        answer=given.JobShown,
        call=strategies.run_strategy,
    ),
    Tool(
        name="job",
        description="A run of run_strategy: its progress, its metrics, its trades; or cancel it.",
        arguments=taken.Job,
        answer=given.JobShown,
        call=strategies.job,
        is_idempotent=True,
    ),
)

TOOLS = {tool.name: tool for tool in _ALL}
"""The tools by name, in the sequence in which they are listed."""

INSTRUCTIONS = (
    "Candlestep replays a market of the past: time moves only by step and act, and nothing later"
    " than the session's clock can be seen. Begin with list_data and create_session, then loop:"
    " observe, act with orders and steps. Guard each position, with stop_loss_pct and"
    " take_profit_pct of a market order or with orders of type stop_loss and take_profit. For long"
    ' waits use many steps with until="order_change" or until="price". Finish with results.'
)
