"""The pages in a real browser: what they draw, how they follow, and that nothing goes wrong on them.

One server and one browser for all tests: sessions that have ended and that run, a sweep, two accounts.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from candlestep.sandbox import parse_time
from tests.support.api_client import BACKTEST, UNKNOWN_SESSION, Api, make_key, sample_home
from tests.support.backtests import BACKTESTS, CONFIG, CROSS, keep, task_ended
from tests.support.browser import WatchedPage, chromium
from tests.support.patience import PATIENCE
from tests.support.server_process import RunningServer, running
from tests.support.traded_sessions import traded

EVIL = "<img src=x onerror=\"document.title='owned'\">"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Site(NamedTuple):
    """A server with something on it, and a browser that has signed in to an account of it."""

    server: RunningServer
    api: Api
    bob: Api
    context: BrowserContext
    ended: str
    sweep: str
    backtests: list[str]
    screenshots: Path

    def open(self, path: str) -> WatchedPage:
        """Open a page in the browser of the account."""
        return WatchedPage(self.context.new_page(), self.server.url + path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    home = sample_home(folder / "home")
    ann_key, bob_key = make_key(home, "ann"), make_key(home, "bob")
    with (
        running(home) as server,
        server.client(ann_key) as ann,
        server.client(bob_key) as bob,
        browser.new_context(viewport=WIDE) as context,  # type: ignore[arg-type]
    ):
        context.set_default_timeout(PATIENCE * 1000)
        api = Api(ann)
        ended = traded(api, strategy_label=EVIL, pairs=["BTCUSDT", "ETHUSDT"])
        for number in range(20):
            side = "sell" if number % 2 else "buy"
            api.order(ended, symbol="ETHUSDT", side=side, quantity="0.1")
            api.step(ended, 30)
        api.step(ended, 10_000)
        grid = [{"fast": fast, "slow": slow} for fast in (5, 10) for slow in (50, 100)]
        body = {"strategy_id": keep(api, CROSS), "base_config": CONFIG, "param_grid": grid}
        sweep = api.post(f"{BACKTESTS}/sweep", body)["task_id"]
        board = task_ended(api, sweep)["result"]["leaderboard"]
        sign_in(context.new_page(), server.url, ann_key)
        screenshots = folder / "screenshots"
        screenshots.mkdir()
        yield Site(
            server, api, Api(bob), context, ended, sweep,
            [run["backtest_id"] for run in board], screenshots,
        )  # fmt: skip


def sign_in(page: Page, url: str, key: str) -> None:
    """Sign in on the page that a browser gets without a key."""
    page.goto(url)
    page.get_by_label("API key").fill("ak_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("[data-problem]")).to_contain_text("send an API key")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="This server")).to_be_visible()
    page.close()


def drawn(page: Page, times: int = 1) -> None:
    """Wait until the chart has been drawn so many times."""
    page.wait_for_function(
        "times => Number(document.querySelector('[data-figure]')?.dataset.drawn ?? 0) >= times",
        arg=times,
    )


def traces(page: Page) -> dict[str, Any]:
    """Return the traces of the chart by name, as the library has them."""
    found: dict[str, Any] = page.evaluate(
        """() => Object.fromEntries(document.querySelector('[data-figure]').data.map(
          (t) => [t.name, { x: (t.x ?? []).map(Number), y: [...(t.y ?? [])], customdata: t.customdata,
                            close: t.close }]))"""
    )
    return found


def drawn_parts(page: Page, kind: str) -> int:
    """Return how many parts the paths of a kind have: a marker is one, a candle up to three."""
    paths = page.locator(f"[data-figure] .drawn-{kind} path")
    return sum(
        path.count("M") for path in paths.evaluate_all("e => e.map((p) => p.getAttribute('d'))")
    )


@pytest.mark.parametrize("name", ["home", "session", "backtest", "compare", "sweep", "data"])
def test_every_page_is_sound_wide_and_narrow_dark_and_light(site: Site, name: str) -> None:
    path = {
        "home": "/",
        "session": f"/sessions/{site.ended}",
        "backtest": f"/backtests/{site.backtests[0]}",
        "compare": f"/compare?ids={site.ended},{','.join(site.backtests[:2])}",
        "sweep": f"/sweeps/{site.sweep}",
        "data": "/data",
    }[name]
    watched = site.open(path)
    page = watched.page
    if page.locator("[data-figure]").count():
        drawn(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.wait_for_function(
                "width => document.documentElement.scrollWidth <= width", arg=size["width"]
            )
            page.screenshot(path=site.screenshots / f"{name}-{scheme}-{size['width']}.png")
    assert watched.problems == []
    page.close()


def test_the_markers_are_the_fills(site: Site) -> None:
    watched = site.open(f"/sessions/{site.ended}")
    page = watched.page
    drawn(page)
    trades = site.api.read(site.ended, "trade/history")["trades"]
    for number, symbol in enumerate(("ETHUSDT", "BTCUSDT")):
        if number:
            page.get_by_label("Symbol").select_option(symbol)
            drawn(page, 2)
        own = [trade for trade in trades if trade["symbol"] == symbol]
        found = traces(page)
        for name, side in (("buys", "buy"), ("sells", "sell")):
            expected = [trade for trade in own if trade["side"] == side]
            assert found[name]["x"] == [parse_time(t["simulated_at"]) for t in expected]
            assert found[name]["y"] == [float(t["price"]) for t in expected]
        assert drawn_parts(page, "fills") == len(own)
        candles = len(found[symbol]["x"])
        assert drawn_parts(page, "candles") in (candles, 3 * candles)
        titles = page.locator("[data-figure] .drawn-titles text").all_text_contents()
        assert titles == [f"{symbol} 3m", "equity, USDT", "drawdown, %", "exposure, %"]
    page.evaluate(
        """() => { const figure = document.querySelector('[data-figure]');
          const place = figure.data.findIndex((trace) => trace.name === 'sells');
          return Plotly.restyle(figure, { visible: 'legendonly' }, [place]); }"""
    )
    assert drawn_parts(page, "fills") == len(found["buys"]["x"]), "the legend hides what it names"
    assert len(found["BTCUSDT"]["x"]) <= 2000
    assert watched.problems == []
    page.close()


def test_labels_of_an_axis_differ_where_little_happens(site: Site) -> None:
    session_id = site.api.started("01-10", "01-12", pairs=["BTCUSDT"])
    site.api.order(session_id, quantity="0.00001")
    site.api.step(session_id, 2000)
    page = site.open(f"/sessions/{session_id}").page
    drawn(page)
    labels = page.locator("[data-figure] .y2tick text").all_text_contents()
    assert len(labels) > 1
    assert len(set(labels)) == len(labels)


def test_a_liquidation_is_drawn_as_a_cross(site: Site) -> None:
    session_id = site.api.started(
        "01-09", "01-14", market_type="perp", pairs=["SOLUSDT"], leverage=20,
        margin_mode="isolated", starting_balance="2000", candle_interval="5m",
    )  # fmt: skip
    site.api.order(session_id, symbol="SOLUSDT-PERP", side="sell", quantity="40")
    site.api.step(session_id, 10_000)
    (liquidation,) = site.api.read(session_id, "results/liquidations")["liquidations"]
    watched = site.open(f"/sessions/{session_id}")
    page = watched.page
    drawn(page)
    found = traces(page)
    assert found["liquidations"]["x"] == [parse_time(liquidation["simulated_at"])]
    assert found["liquidations"]["y"] == [float(liquidation["price"])]
    assert drawn_parts(page, "fills") == len(found["sells"]["x"]) + 1
    expect(page.locator("[data-figure] .legend")).to_contain_text("liquidations")
    place = page.evaluate(
        """() => {
          const figure = document.querySelector('[data-figure]');
          const { xaxis, yaxis, _size } = figure._fullLayout;
          const trace = figure.data.find((trace) => trace.name === 'liquidations');
          const box = figure.getBoundingClientRect();
          return [box.x + _size.l + xaxis.l2p(+trace.x[0]), box.y + yaxis._offset + yaxis.l2p(trace.y[0])];
        }"""
    )
    page.mouse.move(*place)
    text = page.locator("[data-figure] .hoverlayer .hovertext")
    expect(text).to_contain_text(f"liquidation {float(liquidation['quantity']):,g} at ")
    expect(text).to_contain_text(liquidation["simulated_at"])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=site.screenshots / f"liquidation-{scheme}.png")
    assert watched.problems == []
    page.close()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_a_chart_is_in_utc_wherever_the_browser_is(site: Site, browser: Browser, zone: str) -> None:
    kept = site.context.storage_state()
    with browser.new_context(viewport=WIDE, timezone_id=zone, storage_state=kept) as context:  # type: ignore[arg-type]
        page = WatchedPage(context.new_page(), f"{site.server.url}/sessions/{site.ended}").page
        drawn(page)
        there = _places(page)
        page.get_by_label("Symbol").select_option("BTCUSDT")
        drawn(page, 2)
    page = site.open(f"/sessions/{site.ended}").page
    drawn(page)
    assert there == _places(page)
    assert there["ticks"][0].startswith("00:00")
    page.close()


def _places(page: Page) -> dict[str, Any]:
    """Return where the chart has its candles and fills, and what stands below them."""
    places: dict[str, Any] = page.evaluate(
        """() => {
          const texts = (selector, of) => [...document.querySelectorAll(selector)].map(of);
          return { ticks: texts('[data-figure] .xtick text', (e) => e.textContent),
                   paths: texts('[data-figure] .drawn-candles path, .drawn-fills path', (e) => e.getAttribute('d')) };
        }"""
    )
    return places


def test_tables_show_the_texts_of_the_api(site: Site) -> None:
    page = site.open(f"/sessions/{site.ended}").page
    trades = site.api.read(site.ended, "trade/history")["trades"]
    rows = page.locator("#trades tbody tr")
    expect(rows).to_have_count(len(trades))
    # A table far below the fold is laid out once it is near.
    rows.first.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('#trades tbody tr').innerText")
    shown = [row.split("\t") for row in rows.evaluate_all("rows => rows.map(r => r.innerText)")]
    names = ("quantity", "price", "quote_amount", "fee", "slippage_pct")
    assert [row[5:10] for row in shown] == [[trade[name] for name in names] for trade in trades]
    fees = sum(Decimal(row[8]) for row in shown)
    assert fees == Decimal(site.api.read(site.ended, "results")["summary"]["total_fees"])
    page.close()


def test_a_row_a_key_and_a_zoom_lead_into_the_chart(site: Site) -> None:
    watched = site.open(f"/sessions/{site.ended}")
    page = watched.page
    drawn(page)
    whole = traces(page)["ETHUSDT"]["x"]
    trade = site.api.read(site.ended, "trade/history")["trades"][-1]
    page.locator("#trades tbody tr").last.click()
    drawn(page, 2)
    part = traces(page)["ETHUSDT"]["x"]
    assert part[1] - part[0] == 60_000 < whole[1] - whole[0]
    assert part[0] <= parse_time(trade["simulated_at"]) <= part[-1] + 60_000
    page.get_by_role("button", name="Whole period").click()
    drawn(page, 3)
    assert traces(page)["ETHUSDT"]["x"] == whole
    page.keyboard.press("j")
    drawn(page, 4)
    first = min(traces(page)["buys"]["x"])
    start, end = page.evaluate("document.querySelector('[data-figure]').layout.xaxis.range")
    assert parse_time(f"{start}Z") < first < parse_time(f"{end}Z")
    box = page.locator("[data-figure]").bounding_box()
    assert box is not None
    page.get_by_role("button", name="Whole period").click()
    drawn(page, 5)
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 210, steps=4)
    page.mouse.up()
    drawn(page, 6)
    zoomed = traces(page)["ETHUSDT"]["x"]
    assert zoomed[-1] - zoomed[0] < (whole[-1] - whole[0]) / 2
    assert watched.problems == []
    page.close()


def test_a_page_follows_its_session_and_never_shows_the_future(site: Site) -> None:
    session_id = site.api.started("01-15", "01-16", pairs=["BTCUSDT"])
    watched = site.open(f"/sessions/{session_id}")
    page = watched.page
    drawn(page)
    assert traces(page)["BTCUSDT"]["x"] == []
    for steps in (300, 400):
        site.api.order(session_id, quantity="0.01")
        site.api.step(session_id, steps)
        status = site.api.read(session_id, "status")
        expect(page.locator(".progress")).to_contain_text(f"{status['progress_pct']} %")
        now = parse_time(status["virtual_time"])
        page.wait_for_function(
            "now => document.querySelector('[data-figure]').data[0].x.at(-1)?.getTime() === now - 60000",
            arg=now,
        )
        found = traces(page)
        assert max(found["equity"]["x"]) == now
    expect(page.locator("#trades tbody tr")).to_have_count(2)
    site.api.step(session_id, 10_000)
    expect(page.locator("#head .badge")).to_have_text("completed")
    expect(page.locator("#head")).to_contain_text("step 1,440 of 1,440")
    assert watched.problems == []
    page.close()


def test_a_label_is_text(site: Site) -> None:
    for path in (f"/sessions/{site.ended}", "/"):
        watched = site.open(path)
        expect(watched.page.get_by_text(EVIL).first).to_be_visible()
        assert watched.page.locator("main img").count() == 0
        assert "owned" not in watched.page.title()[:5]
        assert watched.problems == []
        watched.page.close()


def test_another_accounts_session_is_not_found(site: Site) -> None:
    theirs = traded(site.bob)
    for session_id in (theirs, UNKNOWN_SESSION):
        page = site.context.new_page()
        answer = page.goto(f"{site.server.url}/sessions/{session_id}")
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_role("heading", name="Not found")).to_be_visible()
        page.close()


def test_a_cell_of_a_sweep_leads_to_its_run(site: Site) -> None:
    watched = site.open(f"/sweeps/{site.sweep}")
    page = watched.page
    drawn(page)
    page.locator("[data-figure] .nsewdrag").hover(position={"x": 30, "y": 20})
    page.locator("[data-figure] .nsewdrag").click(position={"x": 30, "y": 20})
    page.wait_for_url("**/backtests/*")
    assert page.url.rpartition("/")[2] in site.backtests
    assert watched.problems == []
    page.close()


def test_selected_sessions_are_compared(site: Site) -> None:
    other = site.api.started("01-15", "01-16")
    watched = site.open("/")
    page = watched.page
    button = page.get_by_role("button", name="Compare selected")
    expect(button).to_be_disabled()
    for session_id in (site.ended, other):
        page.locator(f'input[value="{session_id}"]').check()
    button.click()
    page.wait_for_url("**/compare?ids=*")
    drawn(page)
    assert watched.problems == []
    page.close()


def test_a_file_needs_no_server(site: Site, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "session.html"
    path.write_bytes(site.api.client.get(f"/sessions/{site.ended}/file").content)
    with browser.new_page() as page:
        watched = WatchedPage(page, path.as_uri())
        page.wait_for_selector("[data-inline-figure].drawn")
        expect(page.locator("#trades tbody tr").first).to_be_visible()
        assert watched.problems == []


def test_signing_out_closes_the_pages(site: Site, browser: Browser) -> None:
    key = site.api.client.headers["X-API-Key"]
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE * 1000)
        sign_in(context.new_page(), site.server.url, key)
        page = context.new_page()
        page.goto(site.server.url)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"{site.server.url}/sessions/{site.ended}")
        expect(page.get_by_label("API key")).to_be_visible()
        assert BACKTEST not in page.content()
