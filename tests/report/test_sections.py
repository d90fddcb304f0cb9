"""What a page shows of a whole evaluation, and what it does without."""

from rejepa_jax.config import Report
from rejepa_jax.data import pipeline
from rejepa_jax.report import page


def test_html_in_labels_ids_and_file_names_is_text_in_the_report(write, parse):
    text, _ = write(is_whole=True)
    found = parse(text)
    assert not found.all("script")
    assert '<b id="metric">' in [words for _, words in found.all("h4")]
    # The page's own <b> are marks in bars; those of the data would have brought their id.
    assert all("id" not in attributes for attributes, _ in found.all("b"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert found.all("h1")[0][1] == "run <&>"
    assert found.all("span", "id")[0] == (
        {"class": "id", "title": '<b id="r5">&amp;5.jpg'},
        '<b id="r5">&amp;5.jpg',
    )
    rows = [words for _, words in found.all("th") if words == "<script>alert(1)</script>"]
    assert len(rows) == 4 + 1  # in each order of the classes, and beside the map
    dots = [words for _, words in found.all("use") if words.endswith('<b id="r3">&amp;3.jpg')]
    assert dots == ["<script>alert(1)</script>; Fields & 'meadows' – <b id=\"r3\">&amp;3.jpg"]


def test_classes_stand_in_every_order(write, parse):
    found = parse(write(is_whole=True)[0])
    orders = [attributes for attributes, _ in found.all("details") if "name" in attributes]
    assert ["open" in attributes for attributes in orders] == [True, False, False, False]
    tables = [text for _, text in found.all("table", "classes")]
    first, second, third = "<script>alert(1)</script>", "Fields & 'meadows'", 'Water "body"'
    places = [[table.index(name) for name in (first, second, third)] for table in tables[:4]]
    assert [sorted(range(3), key=place.__getitem__) for place in places] == [
        [1, 0, 2],  # by F1: 0.375, 0.143, none
        [1, 0, 2],  # by average precision: 0.45, 0.2, none
        [0, 1, 2],  # by images of the gallery: 3, 2, 1
        [0, 1, 2],  # by name
    ]
    cells = [text for _, text in found.all("td")]
    start = cells.index("3 0.600") - 1  # two queries, three of the gallery's five images
    shares = ["0.143", "0.250 [0.210, 0.290]", "0.100 [0.060, 0.140]", "0.200 [0.160, 0.240]"]
    assert cells[start : start + 6] == ["2", "3 0.600", *shares]
    assert cells.count("–") == 4 * 4  # no query has the third class


def test_an_evaluation_of_before_gives_a_page_without_what_it_lacks(write, parse):
    headings = [text for _, text in parse(write()[0]).all("h2")]
    assert not {"Class by class", "Smaller descriptors"} & set(headings)
    assert "Map of the embedding space" in headings


def test_every_chart_has_a_name_a_description_and_its_numbers(write, parse):
    found = parse(write(is_whole=True)[0])
    drawn = [attributes for attributes, _ in found.all("svg") if attributes.get("role") == "img"]
    described = [text for _, text in found.all("desc")]
    assert len(drawn) == len(described) == 3 + 2 + 1  # of the training, of smaller forms, the map
    assert all(described)
    numbers = [text for _, text in found.all("table") if text.startswith("step")]
    assert len(numbers) == 3


def test_scores_without_a_querys_own_place_are_said(make, change_table, tmp_path, parse):
    run = make()
    score = {"value": 0.3, "low": 0.2, "high": 0.4}
    line = {"descriptor": "target encoder", "form": "plain", "f1_micro_sets": score}
    change_table(run, same_place={"queries": 2, "rows": [line]}, unanswerable=1)
    records = pipeline.open_records(run / "records")
    page.write_report(run, records, Report(0), tmp_path)
    words = [text for _, text in parse((tmp_path / "report.html").read_text()).all("p")]
    assert any("Nothing in the gallery is right for 1 of the queries" in text for text in words)
    assert any(
        text.startswith("2 queries have images of their own place")
        and text.endswith("F1, micro sets @4 0.300 [0.200, 0.400], with them 0.612 [0.572, 0.652].")
        for text in words
    )


def test_no_gallery_is_a_page_too(write, parse):
    assert not parse(write(queries=0)[0]).all("img")


def test_without_labels_nothing_is_judged(make, change_table, tmp_path, parse):
    run = make()
    change_table(run, rows=[])
    records = pipeline.open_records(run / "records")
    built = page.write_report(run, records, Report(1), tmp_path)
    assert built.info["verdict"].startswith("The records have no labels")
    found = parse((tmp_path / "report.html").read_text())
    assert not [text for _, text in found.all("h2") if text == "How well it retrieves"]
    assert not found.all("li", "right") + found.all("li", "wrong")
