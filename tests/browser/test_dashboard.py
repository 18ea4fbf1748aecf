"""The dashboard in a real headless Chromium, over a real server and a seeded database."""

import re
import shutil
from datetime import timedelta

import httpx
import pytest

from candlecast.api.app import STATIC, create_app
from candlecast.domain.market import FixedClock, SystemClock
from served import NOW, SILENT, at, seed_market, serving

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HORIZONS = {"1D": "1 day ahead", "1W": "1 week ahead", "1M": "1 month ahead"}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="NO CHROMIUM FOUND: the dashboard is not tested; install chromium"
    ),
    pytest.mark.skipif(
        not (STATIC / "index.html").is_file(),
        reason="THE DASHBOARD IS NOT BUILT, hence not tested; build it with make setup",
    ),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    opened = seed_market(tmp_path_factory.mktemp("dashboard"), "files")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(stores):
    with serving(create_app(stores)) as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield started
        started.close()


class Reader:
    """A page, what its console complained of, and the API beside it."""

    def __init__(self, page, address):
        self.page = page
        self.address = address
        self.complaints = []
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None,
        )

    def opens(self, path="/"):
        self.page.goto(self.address + path, wait_until="domcontentloaded")
        return self.waits()

    def waits(self):
        """Until everything that was asked for has come."""
        self.page.wait_for_function(
            """() => document.querySelector("footer p")?.textContent
                && !document.querySelector(".skeleton")"""
        )
        return self

    def asks(self, path):
        return httpx.get(self.address + path, timeout=30).raise_for_status().json()

    def text(self, selector):
        return self.page.inner_text(selector)

    def presses(self, name):
        self.page.get_by_role("button", name=re.compile(f"^{name}")).click()


@pytest.fixture
def read(browser, address):
    readers = []

    def make(at_address=address, **options):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        readers.append(Reader(page, at_address))
        return readers[-1]

    yield make
    for reader in readers:
        reader.page.close()


@pytest.fixture(scope="module")
def front(browser, address):
    """The first page, for tests that only look."""
    page = browser.new_page()
    yield Reader(page, address).opens()
    page.close()


def price(value):
    return f"${value:,.2f}"


def percent(share, digits=0):
    return f"{share * 100:.{digits}f}%".replace("-", "−")


def signed(share, digits=1):
    text = percent(share, digits)
    is_zero = not float(f"{share * 100:.{digits}f}")
    return text.lstrip("−") if is_zero else text if share < 0 else f"+{text}"


def shown_colours(page, selector):
    """How many pixels of each colour the canvases within `selector` show."""
    return page.evaluate(
        """async selector => {
            const frame = () => new Promise(requestAnimationFrame);
            await frame().then(frame).then(frame); // until what was asked for is painted
            const counts = {};
            for (const canvas of document.querySelectorAll(selector + " canvas")) {
                const { width, height } = canvas;
                if (!width || !height) continue;
                const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
                for (let i = 0; i < data.length; i += 4) {
                    if (data[i + 3] < 255) continue;
                    const key = [data[i], data[i + 1], data[i + 2]].join();
                    counts[key] = (counts[key] ?? 0) + 1;
                }
            }
            return counts;
        }""",
        selector,
    )


# --- what is shown --------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_card_shows_what_the_api_says(read, horizon):
    reader = read().opens("/?symbol=SYN01")
    reader.presses(horizon)
    [forecast] = reader.asks(f"/api/v1/forecasts?symbol=SYN01&horizon={horizon}")["forecasts"]
    card = reader.text(".card")
    assert HORIZONS[horizon] in card
    assert forecast["label"] in reader.text(".card .badge")
    meters = [
        meter.get_attribute("aria-valuetext") for meter in reader.page.get_by_role("meter").all()
    ]
    assert meters[0].startswith(percent(forecast["confidence"]))
    assert meters[1].startswith(percent(forecast["prob_up"]))
    end = forecast["points"][-1]
    for shown in (
        price(forecast["predicted_price"]),
        f"{price(end['lower'])} – {price(end['upper'])}",
        signed(-forecast["value_at_risk_95"]),
        signed(forecast["threshold"]["upper"], 2),
        signed(forecast["threshold"]["lower"], 2),
        forecast["model_version"],
        "12 Oct 2004, 20:00 UTC",
        "fresh",
    ):
        assert shown in card
    assert forecast["action"] in card.lower()
    assert reader.complaints == []


def test_a_confidence_of_a_third_is_explained_where_the_threshold_is_scaled(front):
    card = front.text(".card")
    assert "one third: no skill" in card
    assert "terciles of this symbol’s own past returns" in card


def test_the_chart_paints_candles_and_fan_and_describes_itself(read):
    reader = read().opens("/?symbol=SYN00&horizon=1M")
    end = reader.asks("/api/v1/forecasts?symbol=SYN00&horizon=1M")["forecasts"][0]["points"][-1]
    colours = shown_colours(reader.page, ".chart")
    assert colours.get("14,143,106", 0) > 200, "no rising candles"
    assert colours.get("207,63,76", 0) > 200, "no falling candles"
    assert colours.get("52,87,213", 0) > 50, "no median line"
    description = reader.page.get_by_role("group", name=re.compile("^Candles of SYN00"))
    assert price(end["value"]) in description.get_attribute("aria-label")
    assert price(end["lower"]) in reader.text(".legend")
    assert reader.page.locator(".chart a[href*='tradingview.com']").count() == 1


def test_the_forecast_can_be_read_as_a_table(read):
    reader = read().opens("/?symbol=SYN02&horizon=1W")
    [forecast] = reader.asks("/api/v1/forecasts?symbol=SYN02&horizon=1W")["forecasts"]
    reader.page.get_by_text("The forecast as a table").click()
    rows = reader.page.locator(".points tbody tr")
    assert rows.count() == 5
    for row, point in zip(rows.all(), forecast["points"], strict=True):
        assert price(point["value"]) in row.inner_text()
    assert "13 Oct 2004" in rows.first.inner_text()


def test_the_track_record_is_that_of_the_api_and_names_its_origin(read):
    reader = read().opens("/?symbol=SYN00&horizon=1D")
    for button, query in (("SYN00", "symbol=SYN00&"), ("All symbols", "")):
        card = reader.asks(f"/api/v1/report?{query}horizon=1D&by_symbol=false")["overall"]
        reader.presses(button)
        reader.waits()
        record = reader.text(".record")
        assert card["verdict"].casefold() in reader.text(".verdict-words").casefold()
        for level, observed in card["coverage"].items():
            assert re.search(rf"{percent(float(level))} band\s+{percent(observed, 1)}", record)
        assert signed(card["crps_skill_vs_climatology"]) in record
        low, high = card["hit_rate_interval"]
        shown = f"{percent(card['hit_rate'], 1)} ({percent(low, 1)} to {percent(high, 1)})"
        assert shown in record
        assert f"{card['n']:,} settled forecasts" in record
        assert "walk-forward (the past replayed" in record


def test_the_disclaimer_stands_on_the_page(front):
    assert front.asks("/api/v1/ml/disclaimer")["disclaimer"] in front.text("footer")


def test_whose_work_the_page_is_built_on_can_be_read(front):
    link = front.page.get_by_role("link", name="Licences").get_attribute("href")
    licences = httpx.get(front.address + link, timeout=30).raise_for_status().text
    assert "lightweight-charts" in licences
    assert "react" in licences


# --- what can be done -----------------------------------------------------------------------


def test_a_symbol_is_picked_by_typing_and_the_address_follows(read):
    reader = read().opens("/?symbol=SYN00&horizon=1W")
    picker = reader.page.get_by_role("combobox", name="Symbol")
    picker.fill("02")
    picker.press("Enter")
    reader.page.wait_for_url("**/?symbol=SYN02&horizon=1W")
    reader.page.get_by_role("heading", name="SYN02", exact=True).wait_for()
    extents = {s["symbol"]: s for s in reader.asks("/api/v1/symbols")["symbols"]}
    assert price(extents["SYN02"]["last_close"]) in reader.text(".quote")
    reader.page.go_back()
    reader.page.get_by_role("heading", name="SYN00", exact=True).wait_for()
    assert reader.complaints == []


def test_the_picker_works_with_arrow_keys_and_leaves_with_escape(read):
    reader = read().opens("/?symbol=SYN00")
    picker = reader.page.get_by_role("combobox", name="Symbol")
    picker.focus()
    picker.press("ArrowDown")
    picker.press("Escape")
    assert picker.get_attribute("aria-expanded") == "false"
    assert picker.input_value() == "SYN00"
    picker.press("ArrowDown")
    picker.press("ArrowDown")
    picker.press("Enter")
    reader.page.wait_for_url("**/?symbol=SYN01")


def test_a_link_opens_the_symbol_and_horizon_that_it_names(read):
    reader = read().opens("/?symbol=SYN02&horizon=1D")
    assert reader.page.get_by_role("heading", name="1 day ahead", exact=True).is_visible()
    chip = reader.page.get_by_role("button", name=re.compile("^1D"))
    assert chip.get_attribute("aria-pressed") == "true"
    assert "SYN02" in reader.page.title()


def test_the_theme_can_be_switched_and_is_remembered(read):
    reader = read(color_scheme="light").opens()
    background = "getComputedStyle(document.body.parentElement).backgroundColor"
    light = reader.page.evaluate(background)
    reader.page.get_by_role("button", name="Switch to the dark theme").click()
    dark = reader.page.evaluate(background)
    assert dark != light
    colours = shown_colours(reader.page, ".chart")
    assert max(colours, key=colours.get) == "21,27,36", "the chart did not follow"
    reader.opens()
    assert reader.page.evaluate(background) == dark
    assert reader.complaints == []


def test_a_reader_who_prefers_dark_gets_dark(read):
    reader = read(color_scheme="dark").opens()
    assert reader.page.get_by_role("button", name="Switch to the light theme").is_visible()


def test_the_chart_can_show_longer_spans(read):
    reader = read().opens("/?symbol=SYN00")
    before = shown_colours(reader.page, ".chart")
    reader.presses("5Y")
    assert shown_colours(reader.page, ".chart") != before
    pressed = reader.page.get_by_role("button", name="5Y").get_attribute("aria-pressed")
    assert pressed == "true"


@pytest.mark.parametrize("width", [360, 820])
def test_nothing_is_cut_off_on_a_narrow_screen(read, width):
    reader = read(viewport={"width": width, "height": 800}).opens()
    page = "document.documentElement"
    assert reader.page.evaluate(f"{page}.scrollWidth <= {page}.clientWidth")
    assert reader.page.locator(".chart canvas").first.is_visible()
    assert reader.complaints == []


# --- what is missing or wrong ---------------------------------------------------------------


def test_a_clock_that_stands_still_is_announced(front):
    banner = front.text(".banner")
    assert "The clock stands still at 12 Oct 2004, 20:00 UTC" in banner


def test_a_stale_forecast_is_announced(read, stores):
    later = at(stores, FixedClock(NOW + timedelta(days=40)))
    with serving(create_app(later)) as address:
        reader = read(address).opens()
        warning = reader.text(".banner.warning")
        assert "This forecast is stale" in warning
        assert "12 Oct 2004 (40 days old)" in warning
        assert reader.text(".state") == "stale"


def test_a_running_clock_is_not_announced(read, stores):
    with serving(create_app(at(stores, SystemClock()))) as address:
        page = read(address).opens()
        assert "stands still" not in page.text("main")


def test_a_symbol_without_bars_says_how_to_get_some(read):
    reader = read().opens(f"/?symbol={SILENT}")
    main = reader.text("main")
    assert f"No bars of {SILENT} are stored yet" in main
    assert f"There is no forecast of {SILENT} yet" in main
    assert reader.complaints == []


def test_an_unknown_symbol_shows_the_close_ones(read):
    alert = read().opens("/?symbol=SYN9").page.get_by_role("alert").inner_text()
    assert "unknown symbol 'SYN9'; did you mean" in alert
    assert "SYN00" in alert


def test_a_failure_is_told_and_can_be_tried_again(read):
    reader = read()
    reader.page.route("**/api/v1/symbols", lambda route: route.fulfill(status=500, body="oh"))
    reader.opens()
    alert = reader.page.get_by_role("alert")
    assert "The server answered with status 500" in alert.inner_text()
    reader.page.unroute("**/api/v1/symbols")
    reader.page.get_by_role("button", name="Try again").click()
    reader.page.locator(".chart canvas").first.wait_for()
    assert alert.count() == 0
