"""The prepare-and-execute API: prepare candles, then execute a program on them."""

from candlestep.api.http.api import Api, PathParameter
from candlestep.api.routes.prepare_execute import exchanges, executions, preparations, programs
from candlestep.api.schemas.fields import SYMBOL_IN_PATH

API = Api(
    routes={
        "exchanges": exchanges.ROUTES,
        "prepare and execute": (*programs.ROUTES, *preparations.ROUTES, *executions.ROUTES),
    },
    refused_status=400,
    path_parameters={
        "symbol": PathParameter(SYMBOL_IN_PATH, may_contain_slash=True),
        "segment": PathParameter({"enum": ["spot", "futures"]}),
        "type": PathParameter({"enum": ["ticker", "kline"]}),
    },
)
