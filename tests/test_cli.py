import errno
import json
import os
import sys

import numpy as np
import pytest
import rasterio
import road
from PIL import Image

from rejepa_jax import cli
from rejepa_jax.inspection import describe_config
from rejepa_jax.resolve import resolve
from rejepa_jax.retrieval.embeddings.writing import whole


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run over colour pictures of two kinds, in three classes' folders."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(15):
        for name, colour in (("red", (200, 40, 40)), ("green", (40, 200, 40))):
            picture = np.clip(rng.normal(colour, 20, (24, 24, 3)), 0, 255).astype(np.uint8)
            path = root / "archive" / name / f"{name}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    flags = road.arguments(
        root / "run", "image_folder", data__archive=root / "archive", eval__k=3, index__kind="exact"
    )
    done = road.run("main", *flags)
    assert done.returncode == 0, done.stderr
    return root / "run"


def query(run, name="red/red_3.png"):
    return run.parent / "archive" / name


def test_search_finds_the_image_itself_first(run, capsys):
    assert cli.main(["search", str(run), str(query(run)), "-k", "4", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    assert hits[0]["id"] == "red/red_3.png"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert hits[0]["labels"] == ["red"]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_search_prints_a_table(run, capsys):
    assert cli.main(["search", str(run), str(query(run)), "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "score", "id", "split", "labels"]
    assert len(lines) == 4


def test_duplicates_of_a_run_and_of_its_records(run, capsys, caplog):
    assert cli.main(["duplicates", str(run), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["sensor"], report["images"]) == ("rgb", 30)
    assert not any(pair["is_exact"] for pair in report["pairs"])  # each picture has its own noise
    assert cli.main(["duplicates", str(run / "records"), "--sensor", "rgb"]) == 0
    assert capsys.readouterr().out.startswith("30 images of rgb: ")
    refuse(caplog, 2, "--sensor s2: the records hold rgb", "duplicates", run, "--sensor", "s2")


def refuse(caplog, code, match, *argv):
    assert cli.main([str(argument) for argument in argv]) == code
    assert match in caplog.text


def write_tiff(path, bands):
    profile = {
        "driver": "GTiff",
        "width": 24,
        "height": 24,
        "transform": rasterio.Affine(2, 0, 9, 0, -2, 9),
    }
    with rasterio.open(path, "w", count=len(bands), dtype=bands.dtype, **profile) as file:
        file.write(bands)


def test_k_larger_than_the_gallery_is_refused(run, caplog):
    refuse(caplog, 2, "expected 1 to 30", "search", run, query(run), "-k", "31")


def test_query_with_other_bands_is_refused(run, tmp_path, caplog):
    path = tmp_path / "five.tif"
    write_tiff(path, np.ones((5, 24, 24), np.uint8))
    refuse(caplog, 2, "5 bands of uint8; the encoder takes 3 bands", "search", run, path)


def test_query_of_another_dtype_is_refused(run, tmp_path, caplog):
    path = tmp_path / "deep.tif"
    write_tiff(path, np.ones((3, 24, 24), np.uint16))
    refuse(caplog, 2, "3 bands of uint16", "search", run, path)


def test_query_that_is_no_image_is_refused(run, tmp_path, caplog):
    (tmp_path / "text.png").write_text("not a picture")
    refuse(caplog, 3, "text.png", "search", run, tmp_path / "text.png")
    refuse(caplog, 3, "nothing.png", "search", run, tmp_path / "nothing.png")


def test_query_of_another_size_is_cut_to_its_central_square_and_resampled(run, tmp_path, capsys):
    square = np.asarray(Image.open(query(run)).resize((72, 72), Image.Resampling.BICUBIC))
    wide = np.concatenate([np.zeros_like(square)[:, :9], square, np.zeros_like(square)[:, :9]], 1)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert cli.main(["search", str(run), str(tmp_path / "wide.png"), "-k", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert hit["id"] == "red/red_3.png"


def test_file_that_is_none_or_a_folder_is_told(run, tmp_path, caplog):
    told = f"{tmp_path}: got 'Is a directory', expected a file; give the path of one"
    refuse(caplog, 3, told, "delete", run, "--ids", tmp_path)
    missing = tmp_path / "ids.txt"
    told = f"{missing}: got 'No such file or directory', expected something there; correct the path"
    refuse(caplog, 3, told, "delete", run, "--ids", missing)
    assert "[Errno" not in caplog.text


def test_file_that_cannot_get_its_name_is_told_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    taken = tmp_path / "hits.json"
    taken.mkdir()

    def act(_):
        with whole(taken) as unfinished:
            unfinished.write_text("[]")

    monkeypatch.setattr(cli.looking, "doctor", act)
    refuse(caplog, 3, f"{taken}: got 'Is a directory', expected a file; give the path", "doctor")
    assert list(tmp_path.iterdir()) == [taken]


def test_reader_that_has_seen_enough_ends_a_verb_quietly(run, monkeypatch, caplog):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        caplog.clear()
        code = cli.main(["search", str(run), "--id", "red/red_3.png", "-k", "30", "--json"])
    assert code == cli.UNHEARD
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_connection_that_breaks_is_told(monkeypatch, caplog):
    def act(_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(cli.looking, "doctor", act)
    reading, writing = os.pipe()
    with open(reading), open(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        refuse(caplog, 3, "got 'Broken pipe', expected the system to do it", "doctor")


def test_search_without_a_finished_index_is_refused(tmp_path, caplog):
    refuse(caplog, 3, "manifest.json", "search", tmp_path, tmp_path / "a.png")


def test_verify_reads_every_byte(run, capsys):
    assert cli.main(["verify", str(run)]) == 0
    assert "DAMAGED" not in capsys.readouterr().out
    path = next((run / "records").glob("*.tfrecord-*[0-9]"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    original = path.read_bytes()
    path.write_bytes(content)
    assert cli.main(["verify", str(run)]) == 3
    out = capsys.readouterr().out
    assert "records: DAMAGED" in out
    assert path.name in out
    path.write_bytes(original)


def test_inspect_a_run(run, capsys):
    assert cli.main(["inspect", str(run)]) == 0
    out = capsys.readouterr().out
    for name in ("records", "checkpoints", "encoders", "embeddings", "index", "evaluation"):
        assert f"{run / name}: {name}" in out


def test_inspect_counts_the_papers_parameters():
    text = describe_config(resolve({}))
    assert "197,094,144" in text
    assert text.count("87,566,592") == 3  # context, target, and what retrieval needs
    assert "21,960,960" in text
    assert "context [b 147], target [b 1 49]" in text


@pytest.mark.parametrize(
    ("depth", "count"),
    [
        (6, "11,314,176"),
        pytest.param(8, "14,863,104", marks=pytest.mark.slow),
        pytest.param(10, "18,412,032", marks=pytest.mark.slow),
    ],
)
def test_inspect_counts_the_papers_predictors(depth, count):
    assert count in describe_config(resolve({"model": {"predictor_depth": depth}}))


def test_doctor(capsys):
    assert cli.main(["doctor"]) == 0
    assert "devices: 8 x cpu" in capsys.readouterr().out


def test_unknown_arguments_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["doctor", "--config.train.steps=3"])
    assert "unknown arguments" in capsys.readouterr().err
