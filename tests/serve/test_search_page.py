"""The page as a person uses it, in a real headless Chromium over the real application."""
# ruff: noqa: F811 (fixtures are imported)

import httpx
import pytest
from browsing import ask, browsers, ids, picture, url, visit  # noqa: F401

pytestmark = pytest.mark.service


def test_upload_mark_rerank_filter_and_download_go_together(visit, ask, url):
    tab = visit(drawn_by="webgl")
    page = tab.page
    tab.upload()
    tab.view()
    first = tab.ids()
    assert first == ids(ask(image=picture()))
    assert len(tab.drawn_hits()) > 20 * 100  # 24 discs of 300 pixels, some one over the other

    page.click(".card >> nth=0 >> .plus")
    page.click(".card >> nth=2 >> .minus")
    assert page.locator(".card.is-plus .id").inner_text() == first[0]
    assert tab.ids() == first  # marks wait for the button
    page.click("#rerank")
    tab.view()
    examples = {"positive": [first[0]], "negative": [first[2]]}
    assert tab.ids() == ids(ask(image=picture(), **examples))

    page.click("#filters-toggle")
    page.check("input[name=labels][value=Pastures]")
    tab.view()
    answer = ask(image=picture(), filters={"labels": ["Pastures"]}, **examples)
    assert tab.ids() == ids(answer)
    assert f"({answer['allowed']} after filters)" in page.inner_text("#searched")

    threshold = answer["hits"][9]["score"] - 5e-4
    page.evaluate("score => { document.querySelector('#score').value = score; }", threshold)
    page.dispatch_event("#score", "input")
    best = [hit for hit in answer["hits"] if hit["score"] >= threshold]
    assert tab.ids() == [hit["id"] for hit in best]
    assert 10 <= len(best) <= 12
    body = {"ids": [hit["id"] for hit in best], "scores": [hit["score"] for hit in best]}
    for kind, name in zip(
        ("geojson", "geoparquet", "csv", "json"), page.locator("#formats button").all(), strict=True
    ):
        page.click("#download summary")
        with page.expect_download() as download:
            name.click()
        said = httpx.post(url + f"api/download?format={kind}", json=body).raise_for_status()
        assert download.value.path().read_bytes() == said.content
        assert download.value.suggested_filename in said.headers["content-disposition"]


@pytest.mark.parametrize("drawn_by", ["webgl", "canvas"])
def test_map_and_gallery_are_linked_and_a_box_filters_with_and_without_webgl(visit, drawn_by, ask):
    tab = visit("#positive=patch-0", drawn_by=drawn_by)
    page = tab.page
    panel = page.locator("#map").bounding_box()

    def at(across, down):
        return panel["x"] + across * panel["width"], panel["y"] + down * panel["height"]

    assert page.locator("#map").get_attribute("data-drawn-by") == drawn_by
    x, y = (tab.drawn_hits()[0] + (3, 3)).tolist()
    page.mouse.move(panel["x"] + x, panel["y"] + y)
    linked = page.wait_for_selector(".card.linked")
    assert page.is_visible("#peek")
    page.mouse.click(panel["x"] + x, panel["y"] + y)
    focused = page.evaluate("document.activeElement.closest('.card')?.dataset.row")
    assert focused == linked.get_attribute("data-row")
    before = tab.map_pixels()
    page.hover(".card >> nth=5")
    tab.until_map_differs(before)

    page.click("#draw-box")
    page.mouse.move(*at(0.25, 0.25))
    page.mouse.down()
    page.mouse.move(*at(0.75, 0.75))
    page.mouse.up()
    tab.view()
    edges = [page.input_value(f"[name={edge}]") for edge in ("West", "South", "East", "North")]
    west, south, east, north = box = [float(edge) for edge in edges]
    assert west < east
    assert south < north
    answer = ask(positive=["patch-0"], filters={"bbox": box})
    assert tab.ids() == ids(answer)
    assert answer["allowed"] < answer["searched"]

    page.click("#chips .chip")
    page.click("#clear")
    tab.view("welcome")
    page.mouse.click(*at(0.1, 0.9))
    tab.view()
    point = [float(degrees) for degrees in page.url.split("point=")[1].split("%2C")]
    assert tab.ids() == ids(ask(point=point))


def test_permalink_gives_the_same_hits_again_and_back_the_ones_before(visit):
    tab = visit()
    page = tab.page
    tab.search("patch-3")
    page.click(".card >> nth=1 >> .plus")
    page.click("#rerank")
    tab.view()
    page.click("#filters-toggle")
    page.fill("#start", "2017-06-10")
    tab.view()
    before = tab.ids()
    page.select_option("#k", "12")
    tab.view()
    again = visit("#" + page.url.split("#")[1])
    again.view()
    assert again.ids() == tab.ids() == before[:12]
    assert again.page.locator("#chips .chip").all_inner_texts() == ["from 2017-06-10"]
    page.go_back()
    tab.until("document.querySelectorAll('.card').length === 24")
    assert tab.ids() == before


def test_link_of_an_upload_says_that_the_image_is_not_in_it(visit):
    tab = visit()
    tab.upload("field.png")
    tab.view()
    again = visit("#" + tab.page.url.split("#")[1])
    again.view("welcome")
    assert "Upload it again" in again.page.inner_text("#notice")


def test_file_dropped_on_the_page_is_searched_with(visit, ask):
    tab = visit()
    tab.page.evaluate(
        """bytes => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([Uint8Array.from(bytes)], "dropped.png"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""",
        list(picture()),
    )
    tab.view()
    assert tab.ids() == ids(ask(image=picture()))
    assert tab.page.inner_text(".example") == "dropped.png"


def test_errors_of_the_api_are_shown_as_its_own_sentence(visit):
    tab = visit()
    page = tab.page
    tab.upload("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    tab.view("error")
    assert "drawing.svg" in page.inner_text("#error-text")
    page.route("**/api/search", lambda route: route.abort())
    page.fill("#question", "patch-1")
    page.press("#question", "Enter")
    tab.until("document.querySelector('#error-text').textContent.includes('does not answer')")
    page.unroute("**/api/search")
    page.click("#retry")
    tab.view()


def test_page_may_ask_no_other_host(visit):
    tab = visit()
    asked = "fetch('https://example.org/').then(() => 'answered', () => 'refused')"
    assert tab.page.evaluate(asked) == "refused"
    assert any("Content Security Policy" in text for text in tab.complaints)
    assert tab.foreign_requests() == []
    tab.complaints.clear()


def test_labels_ids_and_errors_with_markup_are_shown_as_text(visit):
    tab = visit()
    page = tab.page
    tab.search("patch-4")
    page.click("#filters-toggle")
    page.check("input[name=labels] >> nth=0")
    tab.view()
    shown = page.inner_text(".card .labels")
    assert '"><img src=x onerror=alert(1)>' in shown
    assert "<script>alert(1)</script>" in shown
    assert page.inner_text("#chips .chip") == '"><img src=x onerror=alert(1)>'
    page.click(".card .plus")
    page.click("#chips .chip")
    tab.view()
    tab.search("<b>patch&6</b>")
    page.fill("#question", "<img src=x onerror=alert(2)>")
    page.press("#question", "Enter")
    tab.view("error")
    assert "<img src=x onerror=alert(2)>" in page.inner_text("#error-text")
    assert page.locator("body script, [onerror], img[src=x], #results b").count() == 0
