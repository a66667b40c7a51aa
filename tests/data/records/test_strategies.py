"""Strategies of accounts in the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from candlestep.data.errors import StrategyNotFound
from candlestep.data.records.strategies import (
    create_strategy,
    delete_strategy,
    get_strategy,
    list_strategies,
    update_strategy,
)
from candlestep.data.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


def test_a_strategy_is_kept_changed_and_deleted_by_its_account(store: Store) -> None:
    content = {"template": "tpl_rsi", "parameters": {}}
    strategy = create_strategy(store, "ann", name="one", universe=["BTCUSDT"], content=content)
    assert (strategy.status, strategy.version, strategy.content) == ("draft", 1, content)
    assert get_strategy(store, "ann", strategy.strategy_id) == strategy
    changed = update_strategy(store, "ann", strategy.strategy_id, name="two", universe=[])
    assert (changed.name, changed.universe, changed.version) == ("two", [], 2)
    assert changed.content == content
    other = create_strategy(store, "ann", name="three", content={})
    assert list_strategies(store, "ann") == [changed, other]
    assert list_strategies(store, "ann", skip=1, limit=1) == [other]
    assert list_strategies(store, "bob") == []
    for refused in (get_strategy, delete_strategy, update_strategy):
        with pytest.raises(StrategyNotFound):
            refused(store, "bob", strategy.strategy_id)
    delete_strategy(store, "ann", strategy.strategy_id)
    assert list_strategies(store, "ann") == [other]
