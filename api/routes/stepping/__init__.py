"""The stepping API: agents create sessions, step them, place orders and read the results."""

from candlestep.api.http.api import Api, PathParameter
from candlestep.api.http.error_body import ErrorObjectBody
from candlestep.api.routes.stepping import (
    account,
    dialects,
    forks,
    keys,
    market,
    orders,
    results,
    sessions,
    turns,
    watching,
)
from candlestep.api.schemas.fields import SYMBOL_IN_PATH

_ORDER_ID = {"type": "integer", "minimum": 1, "maximum": 999_999_999_999}

API = Api(
    routes={
        "sessions": (
            *sessions.ROUTES,
            *forks.ROUTES,
            *keys.ROUTES,
            *watching.ROUTES,
            *dialects.ROUTES,
        ),
        "orders and trades": (*orders.ROUTES, *turns.ROUTES),
        "market and account": (*market.ROUTES, *account.ROUTES),
        "results": (*results.ROUTES, *watching.RESULT_ROUTES),
    },
    error_body=ErrorObjectBody,
    path_parameters={
        "symbol": PathParameter(SYMBOL_IN_PATH, may_contain_slash=True),
        "order_id": PathParameter(_ORDER_ID),
    },
    hot_prefix="/api/v1/backtest/{session_id}/",
)
