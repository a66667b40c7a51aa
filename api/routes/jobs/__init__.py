"""The jobs API: a strategy is submitted, run in the background and looked at."""

from candlestep.api.http.api import Api
from candlestep.api.routes.jobs import jobs, templates

API = Api(routes={"jobs": (*jobs.ROUTES, *templates.ROUTES)})
