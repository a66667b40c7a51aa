"""The answers of tools: structured content, which the text repeats for hosts that show only that.

Some hosts show a model the text of an answer, some the structured content; none shows both. So each
has all of it, and together they are small.
"""

from typing import Any

import msgspec


class Answer(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An answer; its texts, in their order, are what is shown."""

    def text(self) -> str:
        """Return the fields that are texts, except those that only programs read."""
        shown = []
        for name in self.__struct_fields__:
            part = getattr(self, name)
            if isinstance(part, str) and part and name not in _FOR_PROGRAMS:
                shown.append(_LEADS.get(name, "") + part)
        return "\n".join(shown)

    def content(self) -> Any:
        """Return the structured content."""
        return msgspec.to_builtins(self)


_FOR_PROGRAMS = {"session_id", "job_id"}
_LEADS = {"next": "next: ", "prices": "prices "}
"""The words before a field in the text; structured content shows the field's name."""


class DataList(Answer, kw_only=True):
    data: str
    next: str


class Created(Answer, kw_only=True):
    line: str
    session_id: str
    created: str
    prices: str
    warnings: str = ""
    next: str


class SessionList(Answer, kw_only=True):
    sessions: str
    next: str


class Observed(Answer, kw_only=True):
    line: str
    market: str
    positions: str = ""
    open_orders: str = ""
    next: str


class Stepped(Answer, kw_only=True):
    line: str
    passed: str = ""
    fills: str = ""
    closed: str = ""
    prices: str = ""
    done: bool
    next: str


class Acted(Answer, kw_only=True):
    line: str
    cancelled: str = ""
    orders: str = ""
    refused: str = ""
    passed: str = ""
    fills: str = ""
    closed: str = ""
    prices: str = ""
    done: bool
    next: str


class AccountShown(Answer, kw_only=True):
    line: str
    balances: str
    positions: str = ""
    open_orders: str = ""
    totals: str
    next: str


class Listed(Answer, kw_only=True):
    line: str
    rows: str
    next: str


class Forked(Answer, kw_only=True):
    line: str
    session_ids: list[str]
    forks: str
    next: str


class Compared(Answer, kw_only=True):
    sessions: str
    best: str
    next: str


class Outcome(Answer, kw_only=True):
    line: str
    session_id: str
    status: str
    metrics: str
    real: str = ""
    earlier: str = ""
    pairs: str = ""
    curve: str = ""
    next: str


class JobShown(Answer, kw_only=True):
    job_id: str
    status: str
    metrics: str = ""
    trades: str = ""
    warnings: str = ""
    error: str = ""
    next: str
