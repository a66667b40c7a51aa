"""Strategy templates: strategies that are known by name, with their parameters."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.services import Services
from candlestep.sandbox.strategies import TEMPLATES, Template


class TemplateResponse(msgspec.Struct, frozen=True):
    id: str
    name: str
    description: str
    params: Annotated[dict[str, Any], Meta(description="A JSON schema of the parameters.")]
    several_symbols: bool


class TemplatesResponse(msgspec.Struct, frozen=True):
    data: list[TemplateResponse]


async def templates(services: Services, request: Request) -> TemplatesResponse:
    """List the strategies that a job can name, with their parameters."""
    return TemplatesResponse([_to_response(template) for template in TEMPLATES.values()])


def _to_response(template: Template) -> TemplateResponse:
    return TemplateResponse(
        template.id,
        template.name,
        template.description,
        template.schema(),
        not template.is_of_one_symbol,
    )


ROUTES = [
    Route("GET", "/api/v1/strategy-templates", templates, "Strategy templates", TemplatesResponse),
]
