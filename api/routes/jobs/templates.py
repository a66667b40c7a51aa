"""The strategies that there are by name, with their parameters."""

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
    """The strategies that a job can be made of by name, with their parameters."""
    return TemplatesResponse([_template(each) for each in TEMPLATES.values()])


def _template(template: Template) -> TemplateResponse:
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
