"""The runs API: run a strategy on a dataset, and allow for the number of trials in the result."""

from candlestep.api.http.api import Api
from candlestep.api.routes.runs import datasets, runs

API = Api(routes={"runs": (*runs.ROUTES, *datasets.ROUTES)})
