"""In Chromium: no page of the web book has an error, reaches off the machine, or alters a picture; and JupyterLab runs
notebooks without a dialog or an error. `make browser` runs it.

Needs a built book, Playwright, Chromium and JupyterLab; without them each test says so and is skipped.
"""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from tests import test_nb_00, test_nb_01, test_nb_13
from tests.notebook import settings

ROOT = Path(__file__).parents[1]
HTML = ROOT / "book" / "_build" / "html"
PAGES = (
    sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
    if HTML.exists()
    else []
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TINY = {module.NAME: module.TINY for module in (test_nb_00, test_nb_01, test_nb_13)}  # of JupyterLab
TOKEN = "a-token-of-this-test"
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
    tab.set_default_timeout(300_000)  # of a busy machine
    tab.on("console", lambda said: complaints.append(f"{said.text} {said.location}") if said.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    tab.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(f"off: {r.url}"))
    tab.goto(address + page, wait_until="load")
    return tab, complaints


@pytest.mark.parametrize("page", PAGES or ["index.html"])
def test_a_page_shows_all_of_it_in_light_and_dark(browser, address, page):
    tab, complaints = opened(browser, address, page, color_scheme="light")
    look = "i => [i.src, i.naturalWidth, getComputedStyle(i).filter, getComputedStyle(i).padding, i.alt]"
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        pictures = tab.evaluate(f"[...document.querySelectorAll('.bd-content img')].map({look})")
        assert not [each for each in pictures if not each[1] or each[2:4] != ["none", "0px"] or not each[4]]
    assert not complaints
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


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """A JupyterLab of its own, on a copy of the notebooks with small parameters: its address, and the copy."""
    pytest.importorskip("jupyterlab", reason="no jupyterlab here")
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", copy := home / "work" / "notebooks")
    (home / "work" / "data").symlink_to(ROOT / "data")
    for name, tiny in TINY.items():
        given = settings(name, home / name, tiny)
        nbformat.write(parameterize_notebook(load_notebook_node(path := str(copy / f"{name}.ipynb")), given), path)
    own = {f"JUPYTER_{kind}_DIR": str(home / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{kind}_DIR": str(home / kind) for kind in ("SETTINGS", "WORKSPACES")}
    own |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTER_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    news = home / "SETTINGS" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={copy}", "--expose-app-in-browser"]
    with open(home / "log", "w") as log:
        server = subprocess.Popen([*command, "--LabApp.extension_manager=readonly"], env=os.environ | own, stderr=log)
    try:
        for _ in range(120):
            assert server.poll() is None, (home / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={TOKEN}").close()
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/", copy
    finally:
        server.terminate()  # which ends its kernels first
        server.wait(60)


@pytest.mark.parametrize("name", TINY)
def test_jupyterlab_runs_all_cells_without_a_dialog_or_an_error(browser, lab, name):
    address, copy = lab
    tab, complaints = opened(browser, address, f"lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}&reset")
    tab.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    ready = "panel.context.ready, panel.sessionContext.ready, panel.sessionContext.session.kernel.info"
    tab.evaluate(f"async () => {{ const panel = jupyterapp.shell.currentWidget; await Promise.all([{ready}]); }}")
    run = """async () => {
        const late = new Promise((_, fail) => setTimeout(() => fail(Error("no answer in 5 minutes")), 300000));
        const done = await Promise.race([jupyterapp.commands.execute("notebook:run-all-cells"), late]);
        await Promise.race([jupyterapp.commands.execute("docmanager:save"), late]);
        return done;
    }"""
    assert tab.evaluate(run) is True
    cells = [each for each in nbformat.read(copy / f"{name}.ipynb", 4).cells if each.cell_type == "code"]
    outputs = [out for cell in cells for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert tab.locator(".jp-Dialog").count() == 0
    assert tab.evaluate("[...document.querySelectorAll('.jp-Notebook img')].every(each => each.naturalWidth > 0)")
    assert not [each for each in complaints if each.startswith("off: ") and "blob:" not in each]
    tab.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    tab.context.close()
