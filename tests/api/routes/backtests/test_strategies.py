"""Stored strategies over HTTP."""

from typing import Any

import pytest

from tests.support.api_client import Api
from tests.support.backtests import (
    CROSS,
    STRATEGIES,
    field_of,
    keep,
)


def test_a_strategy_is_kept_as_it_was_sent(api: Api) -> None:
    sent = {
        "name": "trend",
        "description": "follows it",
        "universe": ["BTCUSDT", "eth/usdt"],
        "timeframe": "4h",
        "pipeline_config": CROSS,
    }
    created = api.post(STRATEGIES, sent, 201)
    assert created == sent | {
        "universe": ["BTCUSDT", "ETHUSDT"],
        "id": created["id"],
        "status": "draft",
        "version": 1,
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
    }
    assert api.get(f"{STRATEGIES}/{created['id']}") == created
    changed = api.call(
        "PATCH", f"{STRATEGIES}/{created['id']}", {"name": "other", "timeframe": 3600}
    )
    assert changed == created | {
        "name": "other", "timeframe": "1h", "version": 2, "updated_at": changed["updated_at"],
    }  # fmt: skip
    answer = api.client.delete(f"{STRATEGIES}/{created['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    for method in ("GET", "PATCH", "DELETE"):
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        error = api.call(method, f"{STRATEGIES}/{created['id']}", body, 404)
        assert error["code"] == "STRATEGY_NOT_FOUND"


def test_strategies_are_listed_by_page(api: Api) -> None:
    before = len(api.get(STRATEGIES))
    ids = [keep(api, CROSS) for _ in range(3)]
    assert [entry["id"] for entry in api.get(STRATEGIES, skip=before)] == ids
    assert [entry["id"] for entry in api.get(STRATEGIES, skip=before + 1, limit=1)] == [ids[1]]
    least = api.post(STRATEGIES, {"name": "least"}, 201)
    assert (least["universe"], least["timeframe"], least["pipeline_config"]) == ([], "1d", {})
    assert field_of(api.get(STRATEGIES, 422, limit=0)) == "limit"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"nam": "x"}, "nam"),
        ({"timeframe": "1M"}, "timeframe"),
        ({"universe": ["B$"]}, "symbol"),
        ({"pipeline_config": 5}, "pipeline_config"),
        ({"pipeline_config": {"template": "tpl_magic"}}, "pipeline_config.template"),
        ({"pipeline_config": {"entries": 5}}, "pipeline_config.entries"),
        ({"pipeline_config": {"source": "def"}}, "pipeline_config.source"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(
    api: Api, changes: dict[str, Any], field: str
) -> None:
    assert field_of(api.post(STRATEGIES, {"name": "x"} | changes, 422)) == field


def test_hostile_numbers_and_nesting_are_refused(api: Api) -> None:
    def sent(pipeline: str) -> Any:
        body = f'{{"name": "x", "pipeline_config": {pipeline}}}'
        headers = {"Content-Type": "application/json"}
        return api.client.post(STRATEGIES, content=body, headers=headers)

    assert field_of(sent('{"template": 1e400}').json()) == "pipeline_config"
    nested = sent('{"entries": ' + "[" * 40 + "]" * 40 + "}").json()
    assert field_of(nested).startswith("pipeline_config.entries[0]")
    assert sent("[" * 5000 + "]" * 5000).json()["code"] == "INVALID_JSON"
