import json
import re

import pytest

from rejepa_jax import artifacts
from rejepa_jax.config import Report
from rejepa_jax.data import pipeline
from rejepa_jax.report import page
from rejepa_jax.types import DataError


def test_nothing_is_fetched(write, parse):
    text, _ = write(is_whole=True)
    for tag, attributes, _ in parse(text).elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name, value in attributes.items():
            if name in {"src", "srcset", "data", "poster", "action"}:
                assert value.startswith("data:image/jpeg;base64,")
            if name.endswith("href"):
                assert value.startswith("#")
            if not name.startswith("xmlns"):
                assert not re.search(r"https?:|^//", value or "")
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    (policy,) = [a["content"] for a, _ in parse(text).all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_marks_follow_from_the_labels(write, parse):
    found = parse(write()[0])
    # Labels of the queries: {0, 1}, {2}, {}; of gallery rows 0 to 4: {0}, {1}, {2}, {0, 1}, {};
    # the hits are 3 0 2 4, then 0 2 1 3, then 4 1 0 2.
    rights = [True, True, False, False] + [False, True, False, False] + [False] * 4
    hits = [(a, text) for a, text in found.all("li") if a.get("class") in ("right", "wrong")]
    assert [a["class"] == "right" for a, _ in hits] == rights
    assert [text.startswith("✓ right") for _, text in hits] == rights
    assert [text.startswith("✗ wrong") for _, text in hits] == [not right for right in rights]
    assert [text.split()[2] for _, text in hits[:4]] == ["0.900", "0.800", "0.700", "-0.250"]
    counts = [text for _, text in found.all("h3") if " of 4 right" in text]
    assert counts == ["2 of 4 right", "1 of 4 right", "0 of 4 right"]


def test_every_picture_says_what_it_is(write, parse):
    alts = [attributes["alt"] for attributes, _ in parse(write()[0]).all("img")]
    assert len(alts) == 3 * 5 + 3 * 5
    assert alts[0] == (
        "Query: <b id=\"r5\">&amp;5.jpg. Labels: <script>alert(1)</script>, Fields & 'meadows'."
    )
    assert alts[4] == 'Hit 4, wrong: <b id="r4">&amp;4.jpg. Labels: none.'


def test_the_table_shows_the_numbers_of_its_file(write, tmp_path, parse):
    found = parse(write()[0])
    table = json.loads((tmp_path / "run <&>" / "evaluation" / "table.json").read_text())
    names = ("f1_micro_sets", "f1_pair_mean", "precision_at_k")
    expected = [
        f"{line[n]['value']:.3f} [{line[n]['low']:.3f}, {line[n]['high']:.3f}]"
        for line in table["rows"]
        for n in names
    ]
    cells = [(a, text) for a, text in found.all("td") if "[" in text]
    assert [text for _, text in cells] == expected
    best = [place for place, (a, _) in enumerate(cells) if a.get("class") == "best"]
    assert best == [15, 16, 17]  # the sixth line: the target encoder, plain
    searched = found.all("tr", "searched")
    assert len(searched) == 1
    assert searched[0][1].startswith("target encoder plain, fills the index 0.612")
    bars = found.all("i")
    assert bars[0][0]["style"] == "left:39.86%;width:12.26%"  # 0.26 and 0.08 of 0.65234


def test_the_protocol_is_said(write, parse):
    paragraphs = [text for _, text in parse(write()[0]).all("p")]
    assert any(
        text.startswith("Each of the 3 images of query queries the 5 images of gallery")
        and "k = 4" in text
        and "95 % bootstrap" in text
        for text in paragraphs
    )


@pytest.mark.parametrize(
    ("target", "words", "ending"),
    [
        (0.62, "retrieves better than", "do not overlap."),
        (0.55, "does not clearly retrieve better than", "the intervals overlap."),
        (0.52, "retrieves no better than", "the intervals overlap."),
        (0.50, "retrieves no better than", "the intervals overlap."),
        (0.40, "retrieves worse than", "do not overlap."),
    ],
)
def test_the_verdict_goes_either_way(write, target, words, ending, parse):
    text, built = write(target=target, statistics=0.52)
    verdict = built.info["verdict"]
    assert verdict == (
        f"The target encoder {words} the best free descriptor, image statistics (z-scored): F1@4 "
        f"{target:.3f} [{target - 0.04:.3f}, {target + 0.04:.3f}] against 0.520 [0.480, 0.560]; "
        f"the intervals {ending.removeprefix('the intervals ')}"
    )
    paragraphs = [words for _, words in parse(text).all("p")]
    assert verdict in paragraphs
    assert any("the untrained encoder: F1@4" in words for words in paragraphs)


def test_the_verdict_names_the_best_free_descriptor(write):
    verdict = write(target=0.6, statistics=0.5, patches=0.7)[1].info["verdict"]
    assert "worse than the best free descriptor, ZCA patches (whitened): F1@4 0.600" in verdict
    assert "against 0.700" in verdict


def test_an_encoder_that_is_called_encoder_is_called_so_once(make, tmp_path, parse):
    run = make(encoder="encoder")
    records = pipeline.open_records(run / "records")
    built = page.write_report(run, records, Report(1), tmp_path)
    assert built.info["verdict"].startswith("The encoder retrieves better than the best free")
    found = parse((tmp_path / "report.html").read_text())
    assert found.all("tr", "searched")[0][1].startswith("encoder plain, fills the index")


def test_attention_of_the_trained_and_the_untrained_encoder_stands_beside_the_queries(write, parse):
    found = parse(write()[0])
    looks = [a["aria-label"] for a, _ in found.all("article", "look")]
    assert looks == [f"Attention on query {number}" for number in (1, 2, 3)]
    captions = [text for _, text in found.all("figcaption") if "even shares" in text]
    kinds = ["Last layer, target", "Last layer, untrained", "Roll-out, target"]
    for text, kind in zip(captions, [*kinds, "Roll-out, untrained"] * 3, strict=True):
        assert text.startswith(f"{kind} encoder ")
    alts = [a["alt"] for a, _ in found.all("img") if "even shares" in a["alt"]]
    assert len(alts) == 12
    assert alts[0].startswith('Last layer of target encoder on <b id="r5">&amp;5.jpg: most in row ')
    words = " ".join(text for _, text in found.all("p"))
    assert "not an explanation" in words
    assert "as the encoder sees them at 8 px" in words
    (ramp,) = found.all("span", "ramp")
    assert ramp[0]["style"].startswith("background:linear-gradient(to right, #440154")


def test_settings_versions_and_counts_are_there(write, tmp_path, parse):
    found = parse(write()[0])
    facts = dict(zip(*[[text for _, text in found.all(tag)] for tag in ("dt", "dd")], strict=True))
    assert facts["Method"] == "rejepa, 4 steps, 16,000 images seen"
    assert (facts["Records of gallery"], facts["Records of query"]) == ("5", "3")
    assert facts["Unusable images left out"] == "17"
    assert facts["Index"] == "exact, 8 × 32, recall@10 0.988 against exact search"
    assert (facts["seed"], facts["sensor"], facts["bands"]) == ("7", "rgb", "()")
    marks = [text for _, text in found.all("code")]
    stages = ("records", "checkpoints", "encoders", "embeddings", "index", "evaluation")
    run = tmp_path / "run <&>"
    assert marks == [artifacts.load(run / stage)["fingerprint"] for stage in stages]
    rows = [text for _, text in found.all("tr")]
    numpy = artifacts.versions()["numpy"]
    assert f"numpy {numpy} {numpy}".replace(" ", "") in [row.replace(" ", "") for row in rows]


@pytest.mark.parametrize(("layout", "is_said"), [("synthetic", True), ("bigearthnet", False)])
def test_invented_images_are_called_so(write, layout, is_said):
    assert ("invented scenes" in write(layout=layout)[0]) == is_said


def test_the_same_run_gives_the_same_page(make, tmp_path):
    run = make()
    records = pipeline.open_records(run / "records")
    texts = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        page.write_report(run, records, Report(2), tmp_path / name)
        texts.append((tmp_path / name / "report.html").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("missing", "error", "words"),
    [
        ("checkpoints/metrics.jsonl", DataError, r"metrics\.jsonl: got no file"),
        ("evaluation/table.json", DataError, r"table\.json: got no file"),
        ("evaluation/ranking.npz", DataError, r"ranking\.npz: got no file"),
        ("encoders/target/bundle.json", DataError, r"bundle\.json: got no file"),
        ("index/manifest.json", FileNotFoundError, r"index has no manifest\.json"),
    ],
)
def test_what_is_missing_is_named(make, tmp_path, missing, error, words):
    run = make()
    records = pipeline.open_records(run / "records")
    (run / missing).unlink()
    with pytest.raises(error, match=words):
        page.write_report(run, records, Report(), tmp_path)


def test_stages_of_two_runs_are_not_mixed(make, tmp_path):
    run = make()
    records = pipeline.open_records(run / "records")
    manifest = artifacts.load(run / "evaluation")
    manifest["inputs"]["records"] = "0123456789abcdef"
    artifacts.write_json(run / "evaluation" / "manifest.json", manifest)
    with pytest.raises(DataError, match=r"evaluation: got one made from records 0123456789ab, exp"):
        page.write_report(run, records, Report(), tmp_path)
