"""The data that all accounts share: its instruments, and the import of candles.

Every account reads it; changes need an admin key.
"""

from candlestep.api.http.api import Api, PathParameter
from candlestep.api.routes.data import imports, instruments
from candlestep.api.schemas.fields import SYMBOL_IN_PATH

API = Api(
    routes={"data": (*imports.ROUTES, *instruments.ROUTES)},
    path_parameters={"symbol": PathParameter(SYMBOL_IN_PATH, may_contain_slash=True)},
)
