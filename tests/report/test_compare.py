import shutil

import numpy as np
import pytest

from rejepa_jax import artifacts
from rejepa_jax.report import compare, finders
from rejepa_jax.report.sides import open_sides
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture
def runs(make):
    """Two runs of the same records: one's target encoder has 0.6, the other's encoder 0.5."""
    return [make(name="ours <&>", target=0.6), make(name="mae", encoder="encoder", target=0.5)]


def test_runs_stand_side_by_side(runs, tmp_path, parse):
    path = compare.write_comparison(runs, tmp_path / "out" / "both.html")
    assert path == tmp_path / "out" / "both.html"
    found = parse(path.read_text(encoding="utf-8"))
    assert found.all("h1")[0][1] == "ours <&> beside mae"
    assert "invented scenes" not in path.read_text(encoding="utf-8")
    tables = [text for _, text in found.all("table", "scores")]
    assert len(tables) == 3
    for table in tables:
        assert table.startswith("Descriptorours <&> target encodermae encoder searched encoder")
    rows = [text for _, text in found.all("tr") if "[" in text]
    assert rows[0] == (
        "searched encoder plain, fills the index 0.600 [0.560, 0.640] 0.500 [0.460, 0.540]"
    )
    assert rows[1].startswith("searched encoder z-scored 0.100")
    assert rows[2].startswith("untrained encoder plain 0.400")
    assert len(rows) == 3 * 8  # each metric has a table
    best = [text for _, text in found.all("td", "best")]
    assert best == ["0.600 [0.560, 0.640]", "0.590 [0.550, 0.630]", "0.580 [0.540, 0.620]"]


def test_verdict_is_by_what_fills_the_indexes(runs, tmp_path, parse):
    path = compare.write_comparison(runs[::-1], tmp_path)
    assert path == tmp_path / "compare.html"
    assert (
        "ours <&> (target encoder) retrieves better than mae (encoder): F1@4 0.600 [0.560, 0.640] "
        "against 0.500 [0.460, 0.540]; the intervals do not overlap."
    ) in [text for _, text in parse(path.read_text()).all("p")]


def test_same_images_and_queries_by_each_run(runs, tmp_path, parse):
    found = parse(compare.write_comparison(runs, tmp_path).read_text())
    assert len(found.all("article", "look")) == len(found.all("article", "answer")) == 3
    captions = [text for _, text in found.all("figcaption") if "even shares" in text]
    names = ["Last layer, ours <&>", "Last layer, mae", "Roll-out, ours <&>", "Roll-out, mae"]
    for text, name in zip(captions, names * 3, strict=True):
        assert text.startswith(name)
    for tag, attributes, _ in found.elements:
        assert tag not in {"script", "link", "iframe"}
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/jpeg;base64,")
    (policy,) = [a["content"] for a, _ in found.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_hits_stand_in_a_column_a_run_and_those_of_one_run_are_marked(make, tmp_path, parse):
    # Labels: query 0 has {0, 1}; gallery rows 0 to 4 have {0}, {1}, {2}, {0, 1}, {}.
    hits = np.array([[0, 3, 1, 4], [0, 2, 1, 3], [4, 1, 0, -1]])
    runs = [make(name="ours"), make(name="theirs", hits=hits)]  # ours: 3 0 2 4; ...; 4 1 0 2
    found = parse(compare.write_comparison(runs, tmp_path).read_text())
    columns = [text for _, text in found.all("h3") if "only here" in text]
    assert columns == [
        "ours 2 of 4 right; 1 only here, 0 of these right",
        "theirs 3 of 4 right; 1 only here, 1 of these right",
        *["ours 1 of 4 right; 0 only here", "theirs 1 of 4 right; 0 only here"],
        "ours 0 of 4 right; 1 only here, 0 of these right",
        "theirs 0 of 3 right; 0 only here",
    ]
    marked = [text for _, text in found.all("li") if text.endswith("only here")]
    assert [text.split("&amp;")[1] for text in marked] == [
        *["2.jpg only here", "1.jpg only here", "2.jpg only here"]
    ]
    words = [text for _, text in found.all("p")]
    # 2 of our 12 hits, 1 of their 11.
    assert (
        "Over all 3 queries, of the hits of ours 17 %, theirs 9 % are found by no other run."
        in words
    )


def test_finders_are_counted_over_all_runs():
    runs = [np.array([row]) for row in ([1, 2, 3], [3, 4, 5], [3, 1, -1])]
    counts = finders.count_finders(runs)
    assert [count.tolist() for count in counts] == [[[2, 1, 3]], [[3, 1, 1]], [[3, 2, 0]]]
    assert finders.shares_alone(counts) == [1 / 3, 2 / 3, 0]


def test_invented_images_are_called_so(make, tmp_path):
    runs = [make("synthetic", name) for name in ("one", "other")]
    assert "invented scenes" in compare.write_comparison(runs, tmp_path).read_text()


def test_rows_that_one_run_lacks_are_dashes(runs, change_table):
    change = artifacts.read_json(runs[1] / "evaluation" / "table.json")["rows"]
    change = [line for line in change if line["descriptor"] != "ZCA patches"]
    change.append(change[-1] | {"descriptor": "other encoder"})
    change_table(runs[1], rows=change)
    rows = compare.side_by_side(open_sides(runs))
    names = list(dict.fromkeys(row.descriptor for row in rows))
    expected = ["searched encoder", "untrained encoder", "other encoder"]
    assert names == [*expected, "image statistics", "ZCA patches", "random ranking"]
    there = {(r.descriptor, r.form): [c is not None for c in r.cells["f1_pair_mean"]] for r in rows}
    assert there["ZCA patches", "whitened"] == [True, False]
    assert there["other encoder", "plain"] == [False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 3}, "mae was evaluated with k = 3, .*ours <&> with 4; evaluate both"),
        ({"queries": {"split": "test", "images": 3}}, "with queries = {'split': 'test'"),
        ({"gallery": {"split": "gallery", "images": 4}}, "gallery = .*'images': 4"),
    ],
)
def test_runs_that_were_evaluated_otherwise_are_refused(
    runs, change_table, tmp_path, changes, words
):
    change_table(runs[1], **changes)
    with pytest.raises(ConfigError, match=words):
        compare.write_comparison(runs, tmp_path)


def test_runs_on_other_records_are_refused(runs, tmp_path):
    manifest = artifacts.load(runs[1] / "evaluation")
    manifest["inputs"]["records"] = "0123456789abcdef"
    artifacts.write_json(runs[1] / "evaluation" / "manifest.json", manifest)
    with pytest.raises(ConfigError, match="records = 0123456789abcdef"):
        compare.write_comparison(runs, tmp_path)


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_is_no_comparison(runs, tmp_path, count):
    with pytest.raises(ConfigError, match="expected two or more different run directories"):
        compare.write_comparison(runs[:count], tmp_path)
    with pytest.raises(ConfigError, match="name each once"):
        compare.write_comparison([runs[0], runs[0]], tmp_path)


def test_records_may_lie_elsewhere(runs, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "records"
    shutil.copytree(runs[0] / "records", elsewhere)
    for run in runs:
        shutil.rmtree(run / "records")
    with pytest.raises(DataError, match="give their directory with --records"):
        compare.write_comparison(runs, tmp_path)
    assert compare.write_comparison(runs, tmp_path, elsewhere).exists()


def test_a_run_that_is_not_finished_is_named(runs, tmp_path):
    shutil.rmtree(runs[1] / "evaluation")
    with pytest.raises(FileNotFoundError, match="mae/evaluation has no manifest"):
        compare.write_comparison(runs, tmp_path)


def test_runs_of_one_name_are_told_apart(make):
    sides = open_sides([make(name="a/run"), make(name="b/run")])
    assert [side.name for side in sides] == ["a/run", "b/run"]
