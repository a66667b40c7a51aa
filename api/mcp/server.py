"""The server of the MCP SDK over the tools, resources and prompts. Loading this loads the SDK.

Tools are called with their raw arguments, which ``arguments`` checks by the same types that make
their input schemas: the SDK's own functions would drop unknown ones without a word.
"""

import logging
from typing import Any

import structlog
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from mcp_types import Prompt as McpPrompt
from mcp_types import Resource as McpResource
from mcp_types import ResourceTemplate as McpResourceTemplate
from mcp_types import Tool as McpTool

from candlestep import __version__
from candlestep.api.errors import Forbidden, InternalError
from candlestep.api.mcp.arguments import read_arguments
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.prompts import PROMPTS
from candlestep.api.mcp.resources import RESOURCE_TEMPLATES, RESOURCES, read_resource
from candlestep.api.mcp.schema import short_schema
from candlestep.api.mcp.text import error_text
from candlestep.api.mcp.tools import INSTRUCTIONS, TOOLS, Tool
from candlestep.api.services import Services
from candlestep.sandbox import InvalidParameter, SandboxError
from candlestep.sandbox.errors import abbreviate

Context = ServerRequestContext[Any]

log = structlog.get_logger()


def tools_server(services: Services) -> Server[Any]:
    """Return the server of the SDK that offers everything to the caller of ``caller.CALLER``."""
    offered = _Offered(services)
    return Server(
        "candlestep",
        version=__version__,
        title="Candlestep",
        instructions=INSTRUCTIONS,
        on_list_tools=offered.list_tools,
        on_call_tool=offered.call_tool,
        on_list_resources=offered.list_resources,
        on_list_resource_templates=offered.list_resource_templates,
        on_read_resource=offered.read_resource,
        on_list_prompts=offered.list_prompts,
        on_get_prompt=offered.get_prompt,
    )


def http_manager(services: Services) -> StreamableHTTPSessionManager:
    """Return the manager of requests over HTTP, which answers each for itself, with JSON.

    The SDK leaves hosts and origins alone: the server checks them in front, as on every path, by
    the settings and by whether a key is asked for, which the SDK could not know.
    """
    logging.getLogger("mcp").setLevel(logging.WARNING)
    return StreamableHTTPSessionManager(
        tools_server(services),
        json_response=True,
        stateless=True,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=services.settings.max_body_bytes,
    )


class _Offered:
    """The handlers of the SDK's requests."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tools = ListToolsResult(tools=[_described(tool) for tool in TOOLS.values()])

    async def list_tools(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """Return every tool."""
        return self._tools

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool; its refusals are answers, so that the model reads them."""
        try:
            tool = _tool(params.name)
            arguments = read_arguments(tool.arguments, params.arguments)
            answer = await tool.call(self._services, arguments)
        except SandboxError as refusal:
            self._log(params.name, refusal.code)
            self._services.refusals.note(CALLER.get().session_id)
            return _refused(refusal)
        except Exception:
            log.exception("request_failed", tool=params.name)
            return _refused(InternalError("the server failed; please report this"))
        if not (tool.is_read_only or tool.is_frequent):
            self._log(params.name, None)
        content = TextContent(type="text", text=answer.text())
        return CallToolResult(content=[content], structured_content=answer.content())

    def _log(self, tool: str, code: str | None) -> None:
        """Log a call that changed something or was refused, and who made it."""
        caller = CALLER.get()
        account = self._services.authenticator.account_name(caller.account_id)
        log.info(
            "tool", tool=abbreviate(tool), code=code, account=account, key_id=caller.api_key_id
        )

    async def list_resources(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """Return the resources that are the same for all."""
        return ListResourcesResult(
            resources=[
                McpResource(
                    uri=uri,
                    name=resource.name,
                    description=resource.description,
                    mime_type=resource.media_type,
                )
                for uri, resource in RESOURCES.items()
            ]
        )

    async def list_resource_templates(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """Return the kinds of resources of sessions."""
        return ListResourceTemplatesResult(
            resource_templates=[
                McpResourceTemplate(
                    uri_template=uri,
                    name=template.name,
                    description=template.description,
                    mime_type=template.media_type,
                )
                for uri, template in RESOURCE_TEMPLATES.items()
            ]
        )

    async def read_resource(
        self, context: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult:
        """Return the text of a resource."""
        uri = str(params.uri)
        try:
            media_type, text = await read_resource(self._services, uri)
        except SandboxError as refusal:
            raise MCPError(INVALID_PARAMS, error_text(refusal)) from None
        except Exception:
            log.exception("request_failed", resource=uri)
            raise MCPError(INTERNAL_ERROR, "the server failed; please report this") from None
        return ReadResourceResult(
            contents=[TextResourceContents(uri=uri, mime_type=media_type, text=text)]
        )

    async def list_prompts(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListPromptsResult:
        """Return every prompt."""
        return ListPromptsResult(
            prompts=[
                McpPrompt(
                    name=name,
                    description=prompt.description,
                    arguments=[
                        PromptArgument(name=argument, description=described, required=True)
                        for argument, described in prompt.arguments.items()
                    ],
                )
                for name, prompt in PROMPTS.items()
            ]
        )

    async def get_prompt(self, context: Context, params: GetPromptRequestParams) -> GetPromptResult:
        """Return the text of a prompt."""
        prompt = PROMPTS.get(params.name)
        try:
            if prompt is None:
                raise InvalidParameter("name", f"must be one of {', '.join(PROMPTS)}")
            text = prompt.written(params.arguments or {})
        except InvalidParameter as refusal:
            raise MCPError(INVALID_PARAMS, error_text(refusal)) from None
        content = TextContent(type="text", text=text)
        return GetPromptResult(
            description=prompt.description, messages=[PromptMessage(role="user", content=content)]
        )


def _tool(name: str) -> Tool:
    """Return the tool of this name, if the caller may call it."""
    tool = TOOLS.get(name)
    if tool is None:
        raise InvalidParameter("name", f"{abbreviate(name)!r} is not one of {', '.join(TOOLS)}")
    if CALLER.get().session_id is not None and not tool.for_session_key:
        raise Forbidden(
            "this key is that of one session: it may observe, act and step, and read account,"
            " history and results"
        )
    return tool


def _described(tool: Tool) -> McpTool:
    """Return a tool as hosts read it."""
    return McpTool(
        name=tool.name,
        description=tool.description,
        input_schema=short_schema(tool.arguments),
        output_schema=short_schema(tool.answer),
        annotations=ToolAnnotations(
            read_only_hint=tool.is_read_only or None,
            destructive_hint=None if tool.is_read_only else tool.is_destructive,
            idempotent_hint=tool.is_idempotent or None,
        ),
    )


def _refused(refusal: SandboxError) -> CallToolResult:
    content = TextContent(type="text", text=error_text(refusal))
    return CallToolResult(content=[content], is_error=True)
