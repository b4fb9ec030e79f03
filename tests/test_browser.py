"""The web book in Chromium: no page has an error, reaches off the machine, or alters a picture. `make browser` runs it.

Needs a built book, Playwright and Chromium; without them each test says so and is skipped.
"""

import http.server
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest

HTML = Path(__file__).parents[1] / "book" / "_build" / "html"
PAGES = (
    sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
    if HTML.exists()
    else []
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    if not PAGES:
        pytest.skip("the book is not built: make book")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
    if not CHROMIUM:
        pytest.skip("no chromium here")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


def opened(browser, address, page, **how):
    """A page, and what it complained of: errors in the console, failed requests, requests off the machine."""
    context = browser.new_context(**how)
    tab, complaints = context.new_page(), []
    tab.set_default_timeout(120_000)
    tab.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    tab.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(f"off: {r.url}"))
    tab.goto(address + page, wait_until="load")
    return tab, complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES or ["index.html"])
def test_a_page_shows_all_of_it(browser, address, page, scheme):
    tab, complaints = opened(browser, address, page, color_scheme=scheme)
    tab.wait_for_timeout(200)
    look = "i => [i.src, i.naturalWidth, getComputedStyle(i).filter, i.alt]"
    pictures = tab.evaluate(f"[...document.querySelectorAll('.bd-content img')].map({look})")
    assert not complaints
    assert not [each for each in pictures if not each[1] or each[2] != "none" or not each[3]]
    assert "$$" not in tab.inner_text("main") and "{eq}" not in tab.inner_text("main")
    tab.context.close()


@pytest.mark.parametrize("page", ["index.html", "leaderboard.html", "explore.html", "notebooks/00_quickstart.html"])
def test_a_page_fits_a_telephone(browser, address, page):
    tab, _ = opened(browser, address, page, viewport={"width": 360, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.context.close()


def test_equations_are_drawn(browser, address):
    tab, _ = opened(browser, address, "index.html")
    tab.wait_for_selector("mjx-container svg")
    assert tab.locator("mjx-container svg").first.bounding_box()["width"] > 0
    tab.context.close()


def test_the_slider_moves_by_keys_and_mouse(browser, address):
    tab, _ = opened(browser, address, "explore.html")
    part = "document.querySelector('.slider').style.getPropertyValue('--part')"
    assert tab.evaluate(part) == "50%"
    tab.focus("input[type=range]")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(part) == "51%"
    box = tab.locator("input[type=range]").bounding_box()
    tab.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    assert float(tab.evaluate(part).rstrip("%")) > 80
    tab.context.close()


def test_another_choice_shows_other_pictures(browser, address):
    tab, complaints = opened(browser, address, "explore.html")
    before = tab.inner_text("#shown-value")
    tab.select_option("#pick-downscaler", "nearest")
    tab.select_option("#pick-scale", "8")
    tab.wait_for_timeout(300)
    assert tab.inner_text("#shown-value") != before and "_nearest_x8_" in tab.get_attribute("#shown-draw", "src")
    assert not complaints
    tab.context.close()


def test_tables_sort_and_downloads_are_there(browser, address):
    tab, _ = opened(browser, address, "leaderboard.html")
    first = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[0].textContent)"
    by_rank = tab.evaluate(first)
    tab.click("table.sortable th >> nth=0")
    assert tab.evaluate(first) == sorted(by_rank)
    tab.focus("table.sortable th >> nth=3")
    tab.keyboard.press("Enter")
    assert tab.evaluate(first) == by_rank
    for name in ("leaderboard.json", "leaderboard.csv"):
        assert tab.request.get(address + name).ok
    tab.context.close()


def test_search_finds_bilinear(browser, address):
    tab, _ = opened(browser, address, "search.html?q=bilinear")
    tab.wait_for_selector("ul.search li a")
    assert tab.locator("ul.search li a").count() > 2
    tab.context.close()
