"""The runs API: a strategy is run on a dataset, and its result judged by the number of trials."""

from candlestep.api.http.api import Api
from candlestep.api.routes.runs import datasets, runs

API = Api(routes={"runs": (*runs.ROUTES, *datasets.ROUTES)})
