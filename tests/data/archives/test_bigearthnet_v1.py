import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from ben_writer import S1, S2, band, on_the_grid, v1_names, write_list, write_v1

from rejepa_jax.data.archives.bigearthnet.archive import open_archive
from rejepa_jax.data.examples import encode
from rejepa_jax.types import ConfigError, DataError

LABELS = ("Sea and ocean", "Airports", "Rice fields")  # 11 Marine waters, none, 1 Arable land


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "deep" / "down"
    for number, labels in ((3, LABELS), (5, ["Airports"]), (7, ["Pastures"])):
        write_v1(root, number, labels, bands=number != 7)
    return root


@pytest.fixture
def lists(tmp_path):
    pairs = {number: ",".join(v1_names(number)) for number in (3, 5, 7)}
    write_list(tmp_path / "lists", "train.csv", [pairs[5], pairs[3]])
    return write_list(tmp_path / "lists", "val.csv", [pairs[7]])


def read(archive, number=0):
    return archive.read(archive.files, archive.items[number], archive.schema)


def facts_path(root, name):
    folder = "BigEarthNet-v1.0" if name.startswith("S2") else "BigEarthNet-S1-v1.0"
    return root / folder / name / f"{name}_labels_metadata.json"


def change(root, name, **facts):
    path = facts_path(root, name)
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_pair_is_read_from_any_form(root, lists, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "deep", arcname=".")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in root.rglob("*.*"):
            archive.write(path, path.relative_to(root))
    for path in (root, tmp_path / "x.tar", tmp_path / "x.zip"):
        archive = open_archive(path, split_file=lists)
        assert [(item.split, item.id) for item in archive.items] == [
            ("train", v1_names(3)[0]),
            ("train", v1_names(5)[0]),
            ("validation", v1_names(7)[0]),
        ]
        example = read(archive)
        assert encode(example, archive.schema)
        for index, name in enumerate(S1):
            np.testing.assert_array_equal(example.images["s1"][..., index], band(3, name))
        for index, name in enumerate(S2):
            expected = on_the_grid(band(3, name))
            np.testing.assert_array_equal(example.images["s2"][..., index], expected)


def test_an_example_knows_its_labels_its_place_and_its_time(root, lists):
    archive = open_archive(root, split_file=lists)
    example = read(archive)
    assert example.labels == (1, 11)
    assert example.datetime == "2017-08-03T09:40:35Z"  # of the metadata: the name says 9:40:31
    assert example.place == archive.items[0].place == "34TCR_3_18"
    assert (example.crs, example.transform) == ("EPSG:32634", (10, 0, 500000, 0, -10, 1200))
    assert example.source == f"BigEarthNet-v1.0/{v1_names(3)[0]}"
    assert read(archive, 1).labels == ()  # of none of the 19 classes, and kept
    change(root, v1_names(3)[0], acquisition_date="", labels=[])
    assert read(archive).datetime == "2017-08-03T09:40:31Z"
    assert read(archive).labels == ()


def test_where_the_images_name_no_place_the_metadata_do(tmp_path):
    root, (s2, s1) = write_v1(tmp_path, 3, crs=""), v1_names(3)
    lists = write_list(tmp_path / "lists", "train.csv", [f"{s2},{s1}"])
    for sensors in (["s2"], ["s1"], []):  # those of Sentinel-1 write lly for lry
        example = read(open_archive(root, split_file=lists, sensors=sensors))
        assert (example.crs, example.transform) == ("EPSG:32634", (10, 0, 500000, 0, -10, 1200))
        points = np.frombuffer(example.geometry, "<f8", offset=13).reshape(5, 2)
        np.testing.assert_allclose(points[1], [21, 0], atol=1e-9)
    change(root, s1, coordinates={"ulx": 1, "uly": 2})
    with pytest.raises(DataError, match=r"metadata .*34TCR_3_18_labels.*json: got KeyError"):
        read(open_archive(root, split_file=lists, sensors=["s1"]))
    facts = json.loads(facts_path(root, s2).read_text())
    del facts["coordinates"], facts["projection"]
    facts_path(root, s2).write_text(json.dumps(facts))
    example = read(open_archive(root, split_file=lists))
    assert (example.crs, example.transform, example.geometry) == ("", (), b"")


def test_one_sensor_alone_and_partners_that_no_list_names(root, tmp_path, caplog):
    names = [v1_names(number)[0] for number in (3, 5, 7, 9)]
    lists = write_list(tmp_path / "names", "test.csv", names)
    archive = open_archive(root, split_file=lists)
    assert [item.files["s1"].rsplit("/")[-1] for item in archive.items] == [
        v1_names(number)[1] for number in (3, 5, 7)
    ]
    assert "left out 1 of 4 listed patches, which have no partner" in caplog.text
    shutil.rmtree(root / "BigEarthNet-v1.0")
    alone = open_archive(root, split_file=lists)
    assert [item.id for item in alone.items] == names[:3]
    example = read(alone)
    assert list(example.images) == ["s1"]
    assert (example.labels, example.datetime) == ((1, 11), "2017-08-02T16:33:50Z")
    np.testing.assert_array_equal(example.images["s1"][..., 1], band(3, "VH"))
    assert "only BigEarthNet-S1-v1.0 is there" in caplog.text


def test_sentinel_2_alone_needs_no_partner(root, tmp_path):
    shutil.rmtree(root / "BigEarthNet-S1-v1.0")
    lists = write_list(tmp_path / "names", "test.csv", [v1_names(3)[0]])
    archive = open_archive(root, split_file=lists)
    assert list(read(archive).images) == ["s2"]
    assert archive.items[0].place == ""  # only the name of Sentinel-1 has the tile in it
    with pytest.raises(DataError, match="got none of the listed patches"):
        write_v1(tmp_path / "other", 11, bands=False)
        open_archive(tmp_path / "other", split_file=lists)


def test_a_table_beside_the_folders_has_the_splits(root, tmp_path):
    with pytest.raises(DataError, match=r"v1 without splits.*pip download bigearthnet-common"):
        open_archive(root)
    header = "s2_name,s1_name,official_split,labels_43"
    line = '{},{},{},"Pastures, with a comma"'
    rows = [line.format(*v1_names(3), "val"), line.format(*v1_names(5), "train")]
    write_list(root, "labels.csv", [header, *rows])
    write_list(tmp_path, "labels.csv", [header])  # lies elsewhere, and is not read
    items = open_archive(tmp_path / "deep").items
    assert [(i.split, i.id) for i in items] == [
        ("train", v1_names(5)[0]),
        ("validation", v1_names(3)[0]),
    ]
    with pytest.raises(ConfigError, match=r"got 'all', expected clean, ben14k: .* lists say which"):
        open_archive(root, "all")


@pytest.mark.parametrize(
    ("which", "content", "message"),
    [
        (0, None, "FileNotFoundError.*readable file"),
        (0, "{", "JSONDecodeError"),
        (0, "[]", "TypeError"),
        (0, '{"coordinates": 1}', "KeyError"),
        (0, '{"labels": [1]}', "TypeError"),
        (0, '{"labels": ["Jungle"]}', "got Jungle, expected some of .* 43 classes"),
        (1, '{"labels": []}', "got the partner None, expected S2A_MSIL2A_20170803T94031_3_18"),
        (1, '{"labels": [], "corresponding_s2_patch": "x"}', "got the partner 'x', expected S2A"),
    ],
)
def test_bad_metadata_are_named_when_the_patch_is_read(root, lists, which, content, message):
    path = facts_path(root, v1_names(3)[which])
    path.unlink()
    if content is not None:
        path.write_text(content)
    archive = open_archive(root, split_file=lists)
    with pytest.raises(DataError, match=message) as error:
        read(archive)
    assert v1_names(3)[0] in str(error.value)
    assert read(archive, 1).labels == ()


def test_a_patch_without_its_images_is_found_when_it_is_read(root, lists):
    with pytest.raises(DataError, match=r"_7_18_VV\.tif: got FileNotFoundError"):
        read(open_archive(root, split_file=lists), 2)
