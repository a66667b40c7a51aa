"""The proxy: each message goes to ``POST /mcp`` of a server, and its answer comes back as a line."""

import base64
import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from candlestep.api.cli.mcp.home_server import HomeServer
from candlestep.api.cli.messages import print_note
from candlestep.data.errors import NOT_JSON

KEY_VARIABLE = "CANDLESTEP_KEY"
_SECONDS_TO_ANSWER = 300
_SERVER_ERROR = -32000
_PARSE_ERROR = -32700
_VERSION_IN_META = "io.modelcontextprotocol/protocolVersion"
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The parameter of a method that a header repeats."""
_PLAIN = re.compile(r"[!-~]([ -~]*[!-~])?")


class Proxy:
    """A proxy that sends each message to the server, and returns the answer."""

    def __init__(self, server: HomeServer, key: str) -> None:
        self._server = server
        self._key = key
        self._version = ""

    def answers(self, line: bytes) -> Iterator[bytes]:
        """Yield the answer to a message, as a line of JSON; nothing for a notification."""
        try:
            message = msgspec.json.decode(line)
        except NOT_JSON:
            yield _error(None, _PARSE_ERROR, "the line is not JSON")
            return
        message_id = message.get("id") if isinstance(message, dict) else None
        try:
            status, body = self._post(line, self._headers(message))
        except (OSError, http.client.HTTPException) as error:
            yield from _told(
                message_id,
                f"the connection to the server broke ({error}); the call may have been done: look"
                " before you repeat it, or repeat it with the same key",
            )
            return
        if status == http.client.ACCEPTED or not body:
            return
        answer = _decoded(body)
        if "jsonrpc" not in answer:
            yield from _told(message_id, _in_words(status, answer))
            return
        if isinstance(message, dict) and message.get("method") == "initialize":
            self._version = (answer.get("result") or {}).get("protocolVersion", "")
        yield b" ".join(body.splitlines())

    def _headers(self, message: Any) -> dict[str, str]:
        """Return the headers that say over HTTP what a message says itself."""
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        if self._key:
            headers["X-API-Key"] = self._key
        parameters = message.get("params") if isinstance(message, dict) else None
        parameters = parameters if isinstance(parameters, dict) else {}
        meta = parameters.get("_meta")
        version = meta.get(_VERSION_IN_META) if isinstance(meta, dict) else None
        if not isinstance(version, str):
            return headers | ({"MCP-Protocol-Version": self._version} if self._version else {})
        method = str(message.get("method", ""))
        headers |= {"MCP-Protocol-Version": version, "Mcp-Method": method}
        name = parameters.get(_NAMED_BY.get(method, ""))
        return headers | ({"Mcp-Name": _header_value(name)} if isinstance(name, str) else {})

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a message once; look for the server again if nobody takes the connection."""
        try:
            connection = self._connected()
        except ConnectionRefusedError:
            connection = self._connected()
        try:
            connection.request("POST", "/mcp", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        address = urlsplit(self._server.find().url)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(
            address.hostname, address.port, timeout=_SECONDS_TO_ANSWER
        )
        connection.connect()
        return connection


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except NOT_JSON:
        return {}
    return answer if isinstance(answer, dict) else {}


def _in_words(status: int, answer: dict[str, Any]) -> str:
    """Return a refusal of the server itself, such as of a key."""
    hint = f"; put one into {KEY_VARIABLE}" if status == http.client.UNAUTHORIZED else ""
    return f"{answer.get('message', f'the server answers {status}')}{hint}"


def _told(message_id: Any, message: str) -> Iterator[bytes]:
    """Yield an error as the answer to a message; note it if the message wants no answer."""
    if message_id is None:
        print_note(message)
    else:
        yield _error(message_id, _SERVER_ERROR, message)


def _error(message_id: Any, code: int, message: str) -> bytes:
    error = {"code": code, "message": message}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": message_id, "error": error})


def _header_value(text: str) -> str:
    """Return a text as the protocol writes it in headers: in base64 unless it is plain."""
    if _PLAIN.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="
