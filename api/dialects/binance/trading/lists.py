"""Pairs of orders of which one cancels the other: order lists, as Binance calls them."""

from collections.abc import Iterator

from candlestep.sandbox import Order, Session

NO_LIST = -1


def list_name(order: Order) -> str | None:
    """Return the name of the pair that an order belongs to; one without has a name by its id."""
    if order.oco_group is not None or order.list_id is None:
        return order.oco_group
    return f"cs-list-{order.list_id}"


class Lists:
    """The pairs of orders of a session. The id of a pair is that of its first order."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_group: dict[str, list[int]] = {}
        self._counted = 0

    def id_of(self, order: Order) -> int:
        """Return the id of the pair that an order belongs to; -1 without one."""
        ids = self._ids(order)
        return ids[0] if ids else NO_LIST

    def others(self, order: Order) -> list[Order]:
        """Return the other orders of the pair that an order belongs to."""
        return [self._session.order(number) for number in self._ids(order) if number != order.id]

    def members(self, list_id: int) -> list[Order]:
        """Return the orders of a pair by its id; none if there is no such pair."""
        if not 1 <= list_id <= self._session.order_count:
            return []
        ids = self._ids(self._session.order(list_id))
        return [self._session.order(number) for number in ids] if ids[:1] == [list_id] else []

    def named(self, name: str) -> list[Order]:
        """Return the orders of a pair by its name; none if there is no such pair."""
        return [self._session.order(number) for number in self._groups.get(name, [])]

    def all(self) -> Iterator[list[Order]]:
        """Yield the orders of every pair, the oldest pair first."""
        for ids in self._groups.values():
            yield [self._session.order(number) for number in ids]

    def _ids(self, order: Order) -> list[int]:
        name = list_name(order)
        return [] if name is None else self._groups[name]

    @property
    def _groups(self) -> dict[str, list[int]]:
        """The ids of the orders of each group, in the sequence of their first orders."""
        count = self._session.order_count
        for number in range(self._counted + 1, count + 1):
            group = list_name(self._session.order(number))
            if group is not None:
                self._by_group.setdefault(group, []).append(number)
        self._counted = count
        return self._by_group
