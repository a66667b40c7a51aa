"""Backtests over HTTP: creation and its refusals, listing, and corrections by hand."""

from typing import Any

import pytest

from candlestep.sandbox.engines.run import engines
from tests.support.api_client import BACKTEST, Api
from tests.support.backtests import (
    BACKTEST_FIELDS,
    BACKTESTS,
    CONFIG,
    CROSS,
    FAILING,
    STRATEGIES,
    STRUCTURED,
    create,
    execute,
    field_of,
    keep,
)


def test_a_backtest_is_created_with_the_defaults_of_the_document(api: Api, cross: str) -> None:
    config = {name: CONFIG[name] for name in ("symbol", "start_date", "end_date")}
    created = api.post(BACKTESTS, {"strategy_id": cross, "config": config}, 201)
    assert created == {
        "id": created["id"],
        "strategy_id": cross,
        "engine": "sandbox",
        "status": "pending",
        "initial_capital": 100000,
        "commission": 0.0005,
        "slippage": 0.0005,
        "config": config
        | {
            "timeframe": "1d",
            "bars_per_year": 252,
            "risk_free_rate": 0,
            "size_type": "percent",
            "signal_plugin_key": None,
            "signal_plugin_params": {},
            "feature_ids": [],
            "model_id": None,
            "signal_logic_id": None,
            "exchange": "binance",
        },
        "metrics": {},
        "trades_uri": None,
        "equity_curve_uri": None,
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
        "covered_from": None,
        "covered_to": None,
        "warnings": [],
        "coverage": {},
    }
    assert api.get(f"{BACKTESTS}/{created['id']}") == created | {"structured_metrics": None}
    for part in ("equity-curve", "equity-curve/parquet", "trades", "trades/parquet"):
        error = api.get(f"{BACKTESTS}/{created['id']}/{part}", 409)
        assert (error["code"], error["details"]) == ("INVALID_STATE", {"status": "pending"})


def test_numbers_may_be_text(api: Api, cross: str) -> None:
    text = {"initial_capital": "5e3", "commission": "0.001", "slippage": ".0"}
    created = api.post(
        BACKTESTS,
        {"strategy_id": cross, "config": CONFIG | {"bars_per_year": "365"}, **text},
        201,
    )
    assert (created["initial_capital"], created["commission"], created["slippage"]) == (
        5000,
        0.001,
        0,
    )
    assert created["config"]["bars_per_year"] == 365


def test_the_size_type_is_what_the_strategy_says(api: Api) -> None:
    def card(size: dict[str, Any]) -> str:
        return keep(api, {"entries": [{"every": 5, "size": size}]})

    for size, fits, refused in (
        ({"equity_share": 0.1}, "percent", "shares"),
        ({"quantity": 0.01}, "shares", "percent"),
        ({"quote": 100}, "signal_weight", "percent"),
    ):
        strategy_id = card(size)
        body = {"strategy_id": strategy_id, "config": CONFIG}
        assert api.post(BACKTESTS, body, 201)["config"]["size_type"] == fits
        for given in (fits, "signal_weight"):
            create(api, strategy_id, {"size_type": given})
        body = {"strategy_id": strategy_id, "config": CONFIG | {"size_type": refused}}
        assert field_of(api.post(BACKTESTS, body, 422)) == "config.size_type"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbol": "B$"}, "config.symbol"),
        ({"symbol": None}, "config.symbol"),
        ({"symbl": "BTCUSDT"}, "config.symbl"),
        ({"timeframe": "3h"}, "config.timeframe"),
        ({"start_date": "soon"}, "config.start_date"),
        ({"start_date": "2025-02-10T00:00:00Z"}, "config.end_date"),
        ({"end_date": "2100-01-01"}, "config.end_date"),
        ({"start_date": "1900-01-01"}, "config.end_date"),
        ({"start_date": "2025-01-10T00:00:01Z", "end_date": "2025-01-10T00:59:59Z"},
         "config.end_date"),
        ({"bars_per_year": 0}, "config.bars_per_year"),
        ({"bars_per_year": "NaN"}, "config.bars_per_year"),
        ({"risk_free_rate": -1}, "config.risk_free_rate"),
        ({"size_type": "all"}, "config.size_type"),
        ({"signal_plugin_key": "tpl_magic"}, "config.signal_plugin_key"),
        ({"signal_plugin_params": {"fast": 20}}, "config.signal_plugin_params.fast"),
        ({"signal_plugin_params": {"fasst": 9}}, "config.signal_plugin_params.fasst"),
        ({"signal_plugin_params": []}, "config.signal_plugin_params"),
        ({"feature_ids": ["x"]}, "config.feature_ids"),
        ({"model_id": "x"}, "config.model_id"),
        ({"signal_logic_id": "x"}, "config.signal_logic_id"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(
    api: Api, cross: str, changes: dict[str, Any], field: str
) -> None:
    body = {"strategy_id": cross, "config": CONFIG | changes}
    assert field_of(api.post(BACKTESTS, body, 422)) == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"initial_capital": 0}, "initial_capital"),
        ({"initial_capital": "1e400"}, "initial_capital"),
        ({"commission": -0.1}, "commission"),
        ({"commission": "1.1"}, "commission"),
        ({"slippage": 0.6}, "slippage"),
        ({"slippage": "NaN"}, "slippage"),
        ({"config": None}, "config"),
        ({"sweep": 1}, "sweep"),
    ],
)
def test_a_backtest_that_cannot_be_is_refused(
    api: Api, cross: str, changes: dict[str, Any], field: str
) -> None:
    body = {"strategy_id": cross, "config": CONFIG} | changes
    assert field_of(api.post(BACKTESTS, body, 422)) == field


def test_what_is_empty_may_be_sent_and_what_is_not_there_is_refused_in_words(api: Api) -> None:
    strategy_id = api.post(STRATEGIES, {"name": "empty"}, 201)["id"]
    body = {"strategy_id": strategy_id, "config": CONFIG}
    assert field_of(api.post(BACKTESTS, body, 422)) == "config.signal_plugin_key"
    empty: dict[str, Any] = {"feature_ids": [], "model_id": "", "signal_logic_id": None}
    create(api, strategy_id, empty | {"signal_plugin_key": "tpl_rsi"})
    error = api.post(BACKTESTS, body | {"strategy_id": "x"}, 404)
    assert error["code"] == "STRATEGY_NOT_FOUND"


def test_what_has_few_values_says_which(api: Api, cross: str) -> None:
    backtest_id = create(api, cross)
    error = api.call("PATCH", f"{BACKTESTS}/{backtest_id}", {"status": "done"}, 422)
    assert error["message"].endswith("it must be one of pending, running, completed, failed")
    body = {"strategy_id": cross, "config": CONFIG | {"size_type": "lots"}}
    error = api.post(BACKTESTS, body, 422)
    assert field_of(error) == "config.size_type"
    assert error["message"].endswith("it must be one of percent, shares, signal_weight")
    session = {"start_time": "2025-01-10", "end_time": "2025-01-11", "fee_model": "free"}
    error = api.post(f"{BACKTEST}/create", session, 422)
    assert "one of none, fixed_bps, tiered_maker_taker, match_exchange" in error["message"]


def test_engines_are_those_that_there_are(api: Api, cross: str) -> None:
    available = api.get(f"{BACKTESTS}/engines/available")
    assert available == {"engines": sorted(engines())}
    assert "sandbox" in available["engines"]
    error = api.post(BACKTESTS, {"strategy_id": cross, "config": CONFIG, "engine": "zipline"}, 422)
    assert field_of(error) == "engine"
    assert "sandbox" in error["message"]


@pytest.mark.parametrize("engine", [name for name in engines() if name != "sandbox"])
def test_what_an_engine_cannot_do_is_refused_before_anything_is_kept(api: Api, engine: str) -> None:
    """At its creation; and at its execution, if the strategy has become another since."""
    program = keep(api, FAILING)
    before = len(api.get(BACKTESTS, limit=1000))
    body = {"strategy_id": program, "config": CONFIG, "engine": engine}
    error = api.post(BACKTESTS, body, 422)
    assert field_of(error) == "engine"
    assert error["details"]["feature"] == "source"
    assert "as a card" in error["message"]
    assert len(api.get(BACKTESTS, limit=1000)) == before
    changed = keep(api, CROSS)
    backtest_id = create(api, changed, engine=engine)
    api.call("PATCH", f"{STRATEGIES}/{changed}", {"pipeline_config": FAILING})
    assert field_of(api.post(f"{BACKTESTS}/{backtest_id}/execute", expect=422)) == "engine"
    assert api.get(f"{BACKTESTS}/{backtest_id}")["status"] == "pending"


@pytest.mark.parametrize("engine", [name for name in engines() if name != "sandbox"])
def test_an_engine_is_refused_where_an_instrument_has_filters(api: Api, engine: str) -> None:
    body = {"strategy_id": keep(api, CROSS), "config": CONFIG, "engine": engine}
    instrument = "/api/v1/data/instruments/BTCUSDT"
    api.call("PATCH", instrument, {"filters": {"step_size": "0.1"}})
    try:
        error = api.post(BACKTESTS, body, 422)
    finally:
        api.call("PATCH", instrument, {"filters": {"step_size": None}})
    assert error["details"] == {"field": "engine", "feature": "filters"}
    api.post(BACKTESTS, body, 201)


def test_backtests_are_listed_by_page_and_strategy(api: Api) -> None:
    strategy_id = keep(api, CROSS)
    ids = [create(api, strategy_id) for _ in range(3)]
    listed = api.get(BACKTESTS, strategy_id=strategy_id)
    assert [entry["id"] for entry in listed] == ids[::-1]
    assert all(set(entry) == BACKTEST_FIELDS for entry in listed)
    page = api.get(BACKTESTS, strategy_id=strategy_id, skip=1, limit=1)
    assert [entry["id"] for entry in page] == [ids[1]]
    assert [entry["id"] for entry in api.get(BACKTESTS, limit=3)] == ids[::-1]
    assert api.get(BACKTESTS, strategy_id="nobody's") == []
    assert field_of(api.get(BACKTESTS, 422, skip=-1)) == "skip"


def test_a_backtest_is_corrected_by_hand_until_it_is_executed(api: Api, cross: str) -> None:
    backtest_id = create(api, cross)
    path = f"{BACKTESTS}/{backtest_id}"
    changed = api.call(
        "PATCH", path, {"status": "completed", "metrics": {"total_return": "0.25", "own": 3}}
    )
    assert (changed["status"], changed["metrics"]) == (
        "completed",
        {"total_return": 0.25, "own": 3},
    )
    assert set(changed) == BACKTEST_FIELDS
    structured = api.get(path)["structured_metrics"]
    assert structured["total_return"] == 0.25
    assert structured["performance"]["cagr"] is None
    error = api.get(f"{path}/equity-curve", 409)
    assert "execute it again" in error["message"]
    api.call("PATCH", path, {"status": "running"})
    api.post(f"{path}/execute", expect=409)
    api.call("PATCH", path, {"status": "failed"})
    executed = execute(api, backtest_id)
    assert executed["status"] == "completed"
    assert set(executed["metrics"]) == set(STRUCTURED)


def test_an_address_that_the_server_did_not_make_is_refused_and_none_is_followed(
    api: Api, cross: str
) -> None:
    other = execute(api, create(api, cross))
    backtest_id = create(api, cross)
    path = f"{BACKTESTS}/{backtest_id}"
    addresses = ("file:///etc/passwd", "s3://b/trades.parquet", "http://127.0.0.1/x", "",
                 other["trades_uri"])  # fmt: skip
    for field in ("trades_uri", "equity_curve_uri"):
        for address in addresses:
            assert field_of(api.call("PATCH", path, {field: address}, 422)) == field
    answer = execute(api, backtest_id)
    hidden = api.call("PATCH", path, {"trades_uri": None})
    assert (hidden["trades_uri"], hidden["equity_curve_uri"]) == (None, answer["equity_curve_uri"])
    api.get(f"{path}/trades", 409)
    api.get(f"{path}/equity-curve")
    shown = api.call("PATCH", path, {"trades_uri": answer["trades_uri"]})
    assert shown["trades_uri"] == answer["trades_uri"]
    assert api.get(f"{path}/trades")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "done"}, "status"),
        ({"metrics": 5}, "metrics"),
        ({"metrics": {"x": "much"}}, "metrics.x"),
        ({"metrics": {"x": [1]}}, "metrics.x"),
        ({"metrics": {"x": True}}, "metrics.x"),
        ({"metrics": {"x" * 65: 1}}, "metrics." + "x" * 40 + "…"),
        ({"metrics": {str(n): n for n in range(201)}}, "metrics"),
        ({"metrics": {"trade_total_trades": 1.5}}, "metrics.trade_total_trades"),
        ({"metrics": {"error": 5}}, "metrics.error"),
        ({"name": "x"}, "name"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    api: Api, completed: Any, body: dict[str, Any], field: str
) -> None:
    path = f"{BACKTESTS}/{completed['id']}"
    assert field_of(api.call("PATCH", path, body, 422)) == field
    assert api.get(path) == completed
