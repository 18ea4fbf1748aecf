"""A report in a real headless Chromium: no complaint, nothing asked of the network, it fits."""

import shutil

import pytest

from candlecast.reports.files import write_report
from evaluations import make_evaluation

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="NO CHROMIUM FOUND: the report is not tested; install chromium"
    ),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    write_report(folder, make_evaluation())
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield started
        started.close()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 380)], ids=str
)
def test_the_page_opens_without_complaint_and_fits(browser, page_file, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints, asked = [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert page.inner_text("h1") == "Evaluation of lightgbm"
    assert (complaints, asked) == ([], [page_file.as_uri()])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"
    )
    assert len(sizes) == 7
    assert min(sizes) > 100
    ink, surface = page.evaluate(
        """() => [getComputedStyle(document.querySelector('figure svg text')).fill,
                  getComputedStyle(document.querySelector('figure')).backgroundColor]"""
    )
    assert abs(brightness(ink) - brightness(surface)) > 70
    assert (brightness(surface) < 60) == (scheme == "dark")
    page.close()


def brightness(colour):
    numbers = [float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3
