"""A finished run in miniature, and a reader of the page about it."""

import html.parser

import pytest
from small_run import HITS, make_bundle, make_run, make_table

from rejepa_jax import artifacts
from rejepa_jax.config import Report
from rejepa_jax.data import pipeline
from rejepa_jax.report import page

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """The elements of a page as (tag, attributes, text within), in the order of their start."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        assert not self._open, "an element is left open"

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag, "elements overlap"

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, css=None):
        """Elements of a tag, and of a class."""
        return [
            (attributes, " ".join(text.split()))
            for name, attributes, text in self.elements
            if name == tag and (css is None or css in (attributes.get("class") or "").split())
        ]


@pytest.fixture
def make(tmp_path):
    """Makes a run of the given table, or of the usual one."""

    def make(layout="image_folder", name="run <&>", is_whole=False, hits=HITS, **values):
        table = make_table(**values)
        return make_run(tmp_path / name, table, layout, is_whole=is_whole, hits=hits)

    return make


@pytest.fixture
def change_table():
    """Rewrites a run's table as if it had been evaluated otherwise."""

    def change(run, **changes):
        path, manifest = run / "evaluation" / "table.json", artifacts.load(run / "evaluation")
        artifacts.write_json(path, artifacts.read_json(path) | changes)
        manifest["files"]["table.json"]["bytes"] = path.stat().st_size
        artifacts.write_json(run / "evaluation" / "manifest.json", manifest)

    return change


@pytest.fixture
def records(make):
    """The records of the usual run."""
    return pipeline.open_records(make() / "records")


@pytest.fixture
def bundle():
    """Makes a toy bundle of a name, seeing images at a size."""
    return make_bundle


@pytest.fixture
def parse():
    """Reads a page into its elements."""
    return Page


@pytest.fixture
def write(make, tmp_path):
    """Writes the page about a run made so; returns its text and what the stage reports."""

    def write(queries=3, **values):
        run = make(**values)
        out = tmp_path / "out"
        out.mkdir()
        records = pipeline.open_records(run / "records")
        built = page.write_report(run, records, Report(queries), out)
        assert [path.name for path in out.iterdir()] == ["report.html"]
        return (out / "report.html").read_text(encoding="utf-8"), built

    return write
