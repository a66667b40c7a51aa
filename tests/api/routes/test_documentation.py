"""The page at ``/docs``: its files, and the page in a real browser."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, expect

from candlestep.api.routes import ROUTES
from tests.support.api_client import make_key, refused, sample_home
from tests.support.browser import WatchedPage, chromium
from tests.support.server_process import RunningServer, running

SHOWN = [route for route in ROUTES if route.is_documented and not route.path.startswith("/admin")]
"""Operations of the command line are in the document, and not on the page."""


class _Addresses(HTMLParser):
    """Collects the addresses that a page loads or links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "href", "action")
        self.addresses += [value for name, value in attrs if name in names and value is not None]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def docs(browser: Browser, server: RunningServer) -> Iterator[WatchedPage]:
    """The page of a server without keys."""
    with browser.new_page(viewport={"width": 1280, "height": 900}) as page:
        yield WatchedPage(page, f"{server.url}/docs")


def operation(docs: WatchedPage, method: str, path: str) -> Locator:
    """Return the block of an operation, expanded."""
    block = docs.page.locator(f".opblock-{method}").filter(
        has=docs.page.locator(f'[data-path="{path}"]')
    )
    block.locator(".opblock-summary-control").click()
    return block


def answered_status(block: Locator) -> Locator:
    """Return the place where an operation that was tried shows the status of the answer."""
    return block.locator(".live-responses-table .response-col_status").last


def test_the_page_loads_its_own_files_alone(client: httpx.Client) -> None:
    page = client.get("/docs")

    addresses = _Addresses(page.text).addresses
    assert len(addresses) == 4
    for address in addresses:
        file = client.get(f"/{address}")
        assert file.status_code == 200, address
        assert file.headers["x-content-type-options"] == "nosniff"
        kind = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
        assert file.headers["content-type"].startswith(kind[address.rpartition(".")[2]])
    policy = page.headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "script-src" not in policy


@pytest.mark.parametrize(
    "name", ["x", "index.html", "swagger-ui.js", "%2e%2e", "__init__.py", "%2e%2e%2fx"]
)
def test_other_files_are_not_served(client: httpx.Client, name: str) -> None:
    refused(client.get(f"/docs/static/{name}"), 404, "NOT_FOUND")


def test_the_page_needs_no_key(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    make_key(home, "ann")
    with running(home) as server, server.client() as nobody:
        for path in ("/docs", "/docs/static/initializer.js", "/openapi.json"):
            assert nobody.get(path).status_code == 200


def test_every_operation_opens(docs: WatchedPage) -> None:
    page = docs.page
    expect(page.locator(".opblock")).to_have_count(len(SHOWN))
    # All at once: resolved one after the other, each would have the page drawn anew.
    page.locator(".opblock-summary-control").evaluate_all("all => all.forEach(c => c.click())")
    expect(page.locator(".opblock-body .responses-wrapper")).to_have_count(len(SHOWN))
    for panel in page.locator(".opblock-body .responses-wrapper").all():
        expect(panel).to_be_visible()

    expect(page.get_by_text("Could not render")).to_have_count(0)
    expect(page.locator(".errors-wrapper")).to_have_count(0)
    assert docs.problems == []


def test_a_request_can_be_tried_out(docs: WatchedPage) -> None:
    for path in ("/health", "/api/v1/market/data-range"):
        block = operation(docs, "get", path)
        block.get_by_role("button", name="Try it out").click()
        block.get_by_role("button", name="Execute").click()
        expect(answered_status(block)).to_contain_text("200")

    assert docs.problems == []


def test_a_request_with_a_body_can_be_tried_out(docs: WatchedPage) -> None:
    block = operation(docs, "post", "/api/v1/agents")
    block.get_by_role("button", name="Try it out").click()
    block.locator(".body-param__text").fill('{"name": "tried out"}')
    block.get_by_role("button", name="Execute").click()

    expect(answered_status(block)).to_contain_text("201")
    assert docs.problems == []


def test_requests_are_tried_out_with_a_key(browser: Browser, tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    with running(home) as server, browser.new_page() as page:
        docs = WatchedPage(page, f"{server.url}/docs")
        page.get_by_role("button", name="Authorize").first.click()
        form = page.locator(".auth-container").filter(has_text="X-API-Key")
        form.locator("input").fill(key)
        form.locator("input").press("Enter")
        expect(form.get_by_role("button", name="Remove authorization")).to_be_visible()
        page.locator(".close-modal").click()
        block = operation(docs, "get", "/api/v1/market/data-range")
        block.get_by_role("button", name="Try it out").click()
        block.get_by_role("button", name="Execute").click()

        expect(answered_status(block)).to_contain_text("200")
        assert docs.problems == []
