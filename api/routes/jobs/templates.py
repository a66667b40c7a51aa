"""Strategy templates: strategies that are known by name, with their parameters."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.schemas.response import Response
from candlestep.api.services import Services
from candlestep.sandbox.strategies import TEMPLATES


class TemplateResponse(Response, frozen=True):
    id: str
    name: str
    description: str
    params: Annotated[dict[str, Any], Meta(description="A JSON schema of the parameters.")]
    several_symbols: bool


class TemplatesResponse(msgspec.Struct, frozen=True):
    data: list[TemplateResponse]


async def templates(services: Services, request: Request) -> TemplatesResponse:
    """List the strategies that a job can name, with their parameters."""
    return TemplatesResponse(
        [
            TemplateResponse.of(
                template, params=template.schema(), several_symbols=not template.is_of_one_symbol
            )
            for template in TEMPLATES.values()
        ]
    )


ROUTES = [Route("GET", "/api/v1/strategy-templates", templates, "Strategy templates")]
