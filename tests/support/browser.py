"""A real browser for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.support.patience import PATIENCE

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium; skip the test where it is not installed, but fail in CI."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        message = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class WatchedPage:
    """A page of a browser, and everything that went wrong on it."""

    def __init__(self, page: Page, url: str) -> None:
        """Open ``url``, from whose host alone the page may load anything."""
        self.page = page
        self.problems: list[str] = []
        self._host = urlsplit(url).netloc
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", self._check_message)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._check_request)
        page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        page.goto(url)

    def _check_message(self, message: ConsoleMessage) -> None:
        # A violation of the Content-Security-Policy is an error in the console.
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _check_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self._host:
            self.problems.append(f"request to another host: {request.url}")
