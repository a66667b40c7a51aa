"""The jobs API: submit a strategy, let it run in the background, and fetch the result."""

from candlestep.api.http.api import Api
from candlestep.api.routes.jobs import jobs, templates

API = Api(routes={"jobs": (*jobs.ROUTES, *templates.ROUTES)})
