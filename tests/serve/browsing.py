"""The page in a real Chromium over the real application: the fixtures of `test_page*.py`."""

import contextlib
import io
import json
import os
import shutil
import threading
import time
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import uvicorn
from fakes import FakeSearcher
from PIL import Image

from rejepa_jax.serve.app import create_app
from rejepa_jax.serve.settings import Settings

PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = {  # of a browser in which the map is drawn so; WebGL in software, as it is on any machine
    "webgl": ("--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"),
    "canvas": ("--no-sandbox", "--disable-gpu", "--disable-3d-apis"),
}
DESKTOP = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
OUTLINED = """(() => {
    const at = document.activeElement;
    const seen = (node) => node && getComputedStyle(node).outlineStyle !== "none";
    return at === document.body || seen(at) || seen(at.closest("label"));
})()"""
HIT = (194, 80, 12)  # --hit of style.css, in light


def chromium():
    """Where the browser is, or a skip."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PLACES)), None)
    if not found:
        pytest.skip("got no Chromium on PATH nor in the environment variable CHROMIUM")
    return found


@pytest.fixture(scope="module")
def browsers():
    """A browser for each of FLAGS, started when asked for and closed at the end."""
    library = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path, started = chromium(), {}
    with library.sync_playwright() as driver:

        def launch(drawn_by):
            if drawn_by not in started:
                flags = list(FLAGS[drawn_by])
                started[drawn_by] = driver.chromium.launch(executable_path=path, args=flags)
            return started[drawn_by]

        yield launch
        for each in started.values():
            each.close()


@contextlib.contextmanager
def server(app):
    """The application on a free port of loopback, stopped at the end."""
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/"
    running.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def url():
    with server(create_app(FakeSearcher(), Settings())) as address:
        yield address


@pytest.fixture
def visit(browsers, request):
    """Opens tabs; at the end none has asked another host for anything, or complained."""
    contexts, visits = [], []

    def open_tab(rest="", drawn_by="canvas", at=None, **choices):
        contexts.append(browsers(drawn_by).new_context(**DESKTOP | choices))
        visits.append(Visit(contexts[-1], at or request.getfixturevalue("url")))
        return visits[-1].open(rest)

    yield open_tab
    for context in contexts:
        context.close()
    for each in visits:
        assert each.requests
        assert (each.foreign_requests(), each.complaints, each.dialogs) == ([], [], [])


@pytest.fixture
def ask(url):
    """The same question to the API without the page: its answer."""

    def answer(image=None, **question):
        question = {"k": 24} | question
        if image is None:
            return httpx.post(url + "api/search", json=question).raise_for_status().json()
        form, files = {"request": json.dumps(question)}, {"files": ("a.png", image)}
        sent = httpx.post(url + "api/search/image", data=form, files=files)
        return sent.raise_for_status().json()

    return answer


def ids(answer):
    return [hit["id"] for hit in answer["hits"]]


class Visit:
    """One tab and everything that it asked for or complained about."""

    def __init__(self, context, url):
        self.url, self.requests, self.complaints, self.dialogs = url, [], [], []
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.on(
            "dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss())
        )

    def _listen(self, message):
        # That an answer of the API was an error is Chromium's to say and the page's to show.
        path = urlsplit(message.location.get("url", "")).path
        if message.type == "error" and not path.startswith("/api/") and path != "/favicon.ico":
            self.complaints.append(message.text)

    def open(self, rest=""):
        """Opens the page with the rest of its address."""
        self.page.goto(self.url + rest)
        self.page.wait_for_selector("body[data-ready]")
        return self

    def view(self, name="hits"):
        """Waits until the page shows hits, welcome, none or error."""
        self.page.wait_for_selector(f"#results[data-view={name}]")

    def until(self, expression):
        """Waits for something to be true; Playwright's own way is `eval`, which the CSP forbids."""
        for _ in range(150):
            if self.page.evaluate(expression):
                return
            time.sleep(0.1)
        raise AssertionError(f"waited in vain for {expression}")

    def press_until(self, key, expression):
        """Presses a key until something is true; meanwhile one can see where the keyboard is."""
        for _ in range(40):
            if self.page.evaluate(f"Boolean({expression})"):
                return
            self.page.keyboard.press(key)
            assert self.page.evaluate(OUTLINED)
        raise AssertionError(f"pressed {key} in vain for {expression}")

    def ids(self):
        """The ids on the cards that can be seen, in order."""
        return self.page.locator(".card:visible .id").all_inner_texts()

    def search(self, text):
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")
        self.view()

    def upload(self, name="field.png", content=None):
        file = {"name": name, "mimeType": "image/png", "buffer": content or picture()}
        self.page.set_input_files("#files", file)

    def map_pixels(self):
        return np.asarray(
            Image.open(io.BytesIO(self.page.locator("#map").screenshot())).convert("RGB")
        )

    def until_map_differs(self, before):
        for _ in range(100):
            if (self.map_pixels() != before).any():
                return
        raise AssertionError("the map stayed as it was")

    def drawn_hits(self):
        """Where the map shows the colour of hits: x, y in the map panel."""
        for _ in range(40):  # frames, until the map has drawn
            pixels = self.map_pixels().astype(int)
            y, x = np.nonzero(np.abs(pixels - HIT).max(axis=-1) < 12)
            if len(x):
                return np.stack([x, y], axis=1)
            time.sleep(0.1)
        return np.zeros((0, 2), int)

    def foreign_requests(self):
        here = urlsplit(self.url).netloc
        return [url for url in self.requests if urlsplit(url).netloc not in ("", here)]


def picture(side=32):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (40, 160, 70)).save(buffer, "PNG")
    return buffer.getvalue()
