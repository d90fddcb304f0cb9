"""The page by keyboard, on a phone, with a screen reader, with tired eyes, with a token."""
# ruff: noqa: F811 (fixtures are imported)

import numpy as np
import pytest
from browsing import ask, browsers, ids, server, url, visit  # noqa: F401
from fakes import FakeSearcher, collection_of, table

from rejepa_jax.serve.app import create_app
from rejepa_jax.serve.settings import Settings

pytestmark = pytest.mark.service
PHONE = {"viewport": {"width": 375, "height": 800}, "has_touch": True}
TEXTS = (
    "ink/ground ink/surface ink/accent-soft muted/ground muted/surface muted/sunken accent/ground "
    "on-accent/accent on-hit/hit on-hit/plus on-hit/minus danger/danger-soft danger/sunken "
    "ink/danger-soft map-text/land"
)


def test_everything_can_be_done_with_the_keyboard_alone(visit, ask):
    tab = visit()
    page, press = tab.page, tab.page.keyboard.press
    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    press("/")
    page.keyboard.type("patch-8")
    press("Enter")
    tab.view()
    first = tab.ids()
    tab.press_until("Tab", "document.activeElement.closest('.card')")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "+", "ArrowRight", "-"):
        press(key)
    style = "getComputedStyle(document.querySelector('#hits')).gridTemplateColumns"
    columns = len(page.evaluate(style).split())
    marked = page.locator(".is-plus .id, .is-minus .id").all_inner_texts()
    assert marked == [first[columns], first[columns + 1]]
    tab.press_until("Shift+Tab", "document.activeElement.id === 'rerank'")
    press("Enter")
    tab.view()
    again = ask(positive=["patch-8", marked[0]], negative=[marked[1]])
    assert tab.ids() == ids(again)
    # The button is gone; the keyboard is on the best hit, so Enter asks for more like it.
    row = page.evaluate("document.activeElement.closest('.card').dataset.row")
    assert row == str(again["hits"][0]["row"])
    press("Enter")
    tab.view()
    assert tab.ids() == ids(ask(positive=[again["hits"][0]["id"]]))
    press("?")
    assert page.is_visible("#help")
    press("Escape")
    assert page.is_hidden("#help")


def test_phone_width_has_the_map_above_and_no_sideways_scrolling(visit):
    tab = visit(**PHONE)
    page = tab.page

    def sideways():
        return page.evaluate("document.documentElement.scrollWidth - innerWidth")

    assert sideways() <= 0
    tab.upload("a-file-with-a-very-long-name-" * 4 + ".png")
    tab.view()
    assert sideways() <= 0
    assert page.locator("#map").bounding_box()["y"] < page.locator("#hits").bounding_box()["y"]
    page.click(".card >> nth=0 >> .plus")
    assert page.locator("#rerank").bounding_box()["y"] < 800  # in reach wherever one has scrolled
    page.click("#filters-toggle")
    drawer = page.locator("#filters").bounding_box()
    assert drawer["x"] >= 0
    assert drawer["x"] + drawer["width"] <= 375.5
    assert sideways() <= 0
    page.keyboard.press("Escape")
    assert page.is_hidden("#filters")
    boxes = [button.bounding_box() for button in page.locator("button:visible, summary").all()]
    assert all(min(box["width"], box["height"]) >= 24 for box in boxes)  # WCAG 2.5.8


def test_every_image_has_a_text_and_every_control_a_name(visit):
    tab = visit()
    page = tab.page
    tab.upload()
    tab.view()
    page.click(".card >> nth=0 >> .plus")
    page.click("#filters-toggle")
    page.click("#help-open")
    unnamed = page.evaluate("""() => {
        const name = (node) => node.ariaLabel || node.textContent.trim()
            || node.querySelector("img")?.alt || node.closest("label")?.textContent.trim();
        return [...document.querySelectorAll("button, summary, input, select, a, canvas, dialog")]
            .filter((node) => !name(node)).map((node) => node.outerHTML);
    }""")
    assert unnamed == []
    texts = page.locator("img").evaluate_all("nodes => nodes.map((node) => node.alt)")
    assert len(texts) > 24
    assert all(texts)
    ids_twice = page.evaluate("""() => {
        const all = [...document.querySelectorAll("[id]")].map((node) => node.id);
        return all.filter((id, i) => all.indexOf(id) !== i);
    }""")
    assert ids_twice == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(visit, scheme):
    page = visit(color_scheme=scheme).page
    value = "name => getComputedStyle(document.body).getPropertyValue('--' + name)"
    for pair in TEXTS.split():
        text, under = (page.evaluate(value, name) for name in pair.split("/"))
        assert contrast(text, under) >= 4.5, pair  # WCAG 2, level AA


def contrast(one, other):
    """WCAG 2's ratio of two colours written #rrggbb."""

    def luminance(colour):
        parts = np.array([int(colour.strip()[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_white_on_black_and_of_grey_on_white_is_what_wcag_says():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


def test_images_without_places_have_no_map_and_without_thumbnails_no_pictures(visit, monkeypatch):
    collection = collection_of(table().drop_columns(["geometry", "bbox"]))
    monkeypatch.setattr(type(collection), "thumbnail", lambda *_: None)
    with server(create_app(FakeSearcher(collection), Settings())) as address:
        tab = visit(at=address)
        page = tab.page
        assert page.is_hidden("#map-panel")
        assert page.is_hidden("#samples-title")
        tab.search("patch-1")
        assert page.locator(".card .no-image").count() == 24
        assert page.inner_text(".card .where >> nth=0").startswith("place-")
        page.click("#filters-toggle")
        assert page.is_hidden("#filter-bbox")
        assert page.is_visible("#filter-elsewhere")


def test_token_in_the_address_opens_the_page_once_and_leaves_the_address(visit):
    with server(create_app(FakeSearcher(), Settings(token="0123456789abcdef"))) as address:
        tab = visit("?token=0123456789abcdef#positive=patch-1&k=12", at=address)
        tab.view()
        assert tab.page.url == address + "#positive=patch-1&k=12"
        assert len(tab.ids()) == 12
        tab.page.reload()
        tab.view()


def test_new_version_of_the_collection_is_said(visit):
    searcher = FakeSearcher(following=[collection_of(table(), "1-later")])
    app = create_app(searcher, Settings())
    with server(app) as address:
        tab = visit(at=address)
        assert "0-invented" in tab.page.inner_text("#about")
        app.state.service.take_up_new_version()
        tab.search("patch-1")
        tab.until("document.querySelector('#about').textContent.includes('1-later')")
        # A picture of the page's beginning may have asked first, and advice stands behind it then.
        assert tab.page.inner_text("#toast").startswith("The collection has been updated.")


def test_pictures_of_an_older_version_are_not_shown_and_the_page_says_why(visit):
    searcher = FakeSearcher(following=[collection_of(table(150), "1-later")])
    app = create_app(searcher, Settings())
    with server(app) as address:
        tab = visit("#positive=patch-1&k=96", at=address)
        tab.view()
        app.state.service.take_up_new_version()
        tab.page.locator(".card >> nth=95").scroll_into_view_if_needed()  # loaded only now
        tab.page.wait_for_selector(".card:nth-child(96) .no-image")
        tab.until("document.querySelector('#toast').textContent.endsWith('as it is now.')")
        assert "1-later" in tab.page.inner_text("#about")
        read = "import('/static/api.js').then((api) => api.readItem(3, '0-invented'))"
        status = tab.page.evaluate(f"{read}.catch((error) => error.status)")
        assert status == 410
