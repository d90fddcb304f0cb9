import re
from xml.etree import ElementTree

from rejepa_jax.report import compact_chart

SVG = "{http://www.w3.org/2000/svg}"


def row(name, family, size, value, exact=0):
    score = {"value": value, "low": value - 0.02, "high": value + 0.01}
    sizes = {"bytes": size, "exact_bytes": exact}
    return {"name": name, "family": family, "recall": score, "f1": score} | sizes


ROWS = [
    row("float32", "all numbers", 64, 1.0),
    row("int8", "all numbers", 16, 0.9),
    row("1-bit", "all numbers", 2, 0.4),
    row("1-bit, re-ranked", "all numbers", 2, 0.8, exact=64),
    row("PCA to 8, float32", "PCA, float32", 32, 0.95),
    row("PCA to 8, int8", "PCA, int8", 8, 0.85),
    row("first 8, float32", "first numbers, float32", 32, 0.7),
]


def test_lines_begin_at_what_they_shorten():
    names = {
        name: [row["name"] for row in rows] for name, rows in compact_chart.lines(ROWS).items()
    }
    assert names == {
        "all numbers": ["float32", "int8", "1-bit"],
        "1-bit, re-ranked": ["1-bit, re-ranked"],
        "PCA, float32": ["float32", "PCA to 8, float32"],
        "PCA, int8": ["int8", "PCA to 8, int8"],
        "first numbers, float32": ["float32", "first 8, float32"],
    }


def test_both_charts_have_a_log_axis_a_legend_and_words():
    recall, score = compact_chart.draw_compact({"k": 7, "rows": ROWS})
    assert (recall.title, score.title) == ("Recall@7 of float32's hits", "F1@7")
    assert recall.summary == (
        "from 1.000 at 64 bytes to 0.400 at 2 bytes; every point is in the table below"
    )
    root = ElementTree.fromstring(recall.svg)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert set(compact_chart.lines(ROWS)) < set(texts)
    ticks = [text for text in texts if re.fullmatch(r"\d+", text or "")]
    assert ticks == ["2", "4", "8", "16", "32", "64"]
    assert root.find(f"{SVG}title").text == "Recall@7 of float32's hits by bytes"
    assert "PCA to 8, int8, 8 bytes: 0.850" in root.find(f"{SVG}desc").text
    ids = re.findall(r'\bid="([^"]+)"', recall.svg + score.svg)
    assert len(set(ids)) == len(ids)  # both stand in one page


def test_without_labels_there_is_one_chart_and_of_an_older_evaluation_none():
    rows = [{name: value for name, value in row.items() if name != "f1"} for row in ROWS]
    assert len(compact_chart.draw_compact({"k": 7, "rows": rows})) == 1
    assert compact_chart.draw_compact(None) == []
