"""The strategies that there are by name, with their parameters."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Call, Route
from candlestep.api.services import Server
from candlestep.sandbox.strategies import TEMPLATES, Template


class TemplateAnswer(msgspec.Struct, frozen=True):
    id: str
    name: str
    description: str
    params: Annotated[dict[str, Any], Meta(description="A JSON schema of the parameters.")]
    several_symbols: bool


class TemplatesAnswer(msgspec.Struct, frozen=True):
    data: list[TemplateAnswer]


async def templates(server: Server, call: Call) -> TemplatesAnswer:
    """The strategies that a job can be made of by name, with their parameters."""
    return TemplatesAnswer([_template(each) for each in TEMPLATES.values()])


def _template(template: Template) -> TemplateAnswer:
    return TemplateAnswer(
        template.id,
        template.name,
        template.description,
        template.schema(),
        not template.is_of_one_symbol,
    )


ROUTES = [
    Route("GET", "/api/v1/strategy-templates", templates, "Strategy templates", TemplatesAnswer),
]
