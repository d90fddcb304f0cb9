import bz2
import hashlib
import importlib.util
import pathlib
import zipfile

import pytest
from ben_writer import v1_names, write_list

from rejepa_jax.data.archives.bigearthnet.archive import open_archive
from rejepa_jax.data.archives.bigearthnet.names import acquired, ground, is_ben14k
from rejepa_jax.data.archives.bigearthnet.splits import PUBLISHED, Listed, read_lists
from rejepa_jax.types import DataError

(A2, A1), (B2, B1) = v1_names(1), v1_names(2)
PAIRS = [Listed(A2, A1, "train"), Listed(B2, B1, "validation")]
NAMES = [Listed(A2, "", "train"), Listed(B2, "", "validation")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train.csv": f"{A2}\n", "val.csv": f"{B2}\r\n"}, NAMES),
        ({"train.csv": f"s2\n{A2}\n\n", "validation.csv": f"\ufeff{B2}"}, NAMES),
        ({"train.csv": f"{A2},{A1}\n", "val.csv": f"{B1}, {B2}\n"}, PAIRS),
        ({"bigearthnet-train.csv": f"a,b\n{A2},{A1}\n", "val.csv": f"{B2},{B1}\n"}, PAIRS),
        (
            {"train.csv": A2, "train_pairs.csv": f"a,b\n{A2},{A1}", "val_pairs.csv": f"{B2},{B1}"},
            PAIRS,
        ),
    ],
)
def test_lists_in_every_form(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "test.csv").write_text(A2)  # is not looked for
    (tmp_path / "other.csv").write_text("not read")
    assert sorted(read_lists(tmp_path)) == expected
    assert sorted(read_lists(tmp_path / next(iter(files)))) == expected


def test_lists_in_a_package_are_filled_up_from_its_table(tmp_path):
    table = f"s1_name,s2_name,country,season\n{A1},{A2},Serbia,Summer\n{B1},{B2},Austria,Fall\n"
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr("x/train.csv.bz2", bz2.compress(A2.encode()))
        wheel.writestr("x/val.csv.bz2", bz2.compress(B2.encode()))
        wheel.writestr("x/s1_s2_name_country_season.csv.bz2", bz2.compress(table.encode()))
    assert sorted(read_lists(tmp_path / "x.whl")) == [
        Listed(A2, A1, "train", "Serbia"),
        Listed(B2, B1, "validation", "Austria"),
    ]
    assert read_lists(tmp_path / "x.whl", "ben14k") == [Listed(A2, A1, "train", "Serbia")]


def test_one_table_names_the_splits(tmp_path):
    path = tmp_path / "any.csv"
    path.write_text(f"split,s1,s2\nval,{B1},{B2}\ntrain,{A1},{A2}\n")
    assert sorted(read_lists(path)) == PAIRS


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"got no list, expected train\.csv.*pip download"),
        ({"train.csv": f"{A2}\n{A2}"}, "got 1 of 2 patches a second time"),
        ({"train.csv": A2, "test.csv": A2}, "got 1 of 2 patches a second time"),
        ({"train.csv": f"{A2}\n../x"}, r"train\.csv: got the row '\.\./x', expected names"),
        ({"train.csv": f"{A2}\n{A2},{A1}"}, "got the row 'S2A.*,S1A"),
        ({"train.csv": f"{A2},{A1}\n{B2},x"}, "got the row 'S2A.*,x'"),
        ({"train.csv": f"{A1}\n"}, "got no Sentinel-2 patch"),
        ({"train.csv": ""}, "got no Sentinel-2 patch"),
        ({"train.csv": A2, "train_pairs.csv": f"{B2},{B1}"}, "got 2 lists of train that differ"),
        ({"train.csv": b"\xff\xfe"}, "UnicodeDecodeError.*expected a CSV"),
        ({"train.csv": b'"' + 200_000 * b"x"}, "field larger than field limit"),
        ({"train.csv.bz2": A2.encode()}, "OSError.*packed with bzip2"),
        ({"train.csv.bz2": bz2.compress(A2.encode())[:-3]}, "ValueError.*packed with bzip2"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_lists(tmp_path)


def test_what_names_no_splits_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing: got nothing, expected lists of patches"):
        read_lists(tmp_path / "missing")
    path = tmp_path / "any.csv"
    path.write_text(f"{A2}\n")
    with pytest.raises(DataError, match="a split: train, val, validation, test"):
        read_lists(path)


def test_names_tell_time_and_ground():
    assert acquired("S2A_MSIL2A_20170613T101031_87_48") == "2017-06-13T10:10:31Z"
    assert acquired("S2B_MSIL2A_20170924T93020_69_24") == "2017-09-24T09:30:20Z"
    assert acquired("S2B_MSIL2A_20180204T94161_57_38") == ""  # 61 seconds: as published
    assert acquired("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_61_39") == "2017-06-13T16:50:43Z"
    assert acquired("picture_7") == ""
    assert ground("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_61_39") == "33UUP_61_39"
    assert ground("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_06_09") == "33UUP_6_9"
    assert ground("S2A_MSIL2A_20170613T101031_87_48") == ""


@pytest.mark.parametrize(
    ("date", "country", "expected"),
    [
        ("20170531", "Serbia", False),
        ("20170601", "Serbia", True),
        ("20180831", "Serbia", True),
        ("20170901", "Serbia", False),
        ("20170715", "Austria", False),
    ],
)
def test_the_rule_of_ben14k(date, country, expected):
    assert is_ben14k(f"S2A_MSIL2A_{date}T101031_87_48", country) is expected


def test_lists_of_other_months_are_not_ben14k(tmp_path, caplog):
    write_list(tmp_path, "train.csv", [A2, "S2B_MSIL2A_20180204T94161_57_38"])
    with pytest.raises(DataError, match=r"got 1 of 2 patches not of June to August, such as S2B"):
        read_lists(tmp_path, "ben14k")
    write_list(tmp_path, "train.csv", [A2])
    caplog.set_level("INFO", "absl")
    assert len(read_lists(tmp_path, "ben14k")) == 1
    assert "{'train': 1}, not the published BEN-14K" in caplog.text


COUNTS = {"train": 7761, "validation": 3508, "test": 3563}


def check_ben14k(path, folder, caplog):
    """Lists a version 1 without a single image, with the lists in `path`."""
    for name in ("BigEarthNet-v1.0", "BigEarthNet-S1-v1.0"):
        (folder / name).mkdir()
    caplog.set_level("INFO", "absl")
    items = open_archive(folder, "ben14k", path).items
    assert ", the published BEN-14K" in caplog.text
    return {split: [item for item in items if item.split == split] for split in COUNTS}


def test_ben14k_of_the_full_name_lists(shared_data, tmp_path, caplog):
    lists = shared_data / "bigearthnet" / "ben14k-splits"
    found = check_ben14k(lists, tmp_path, caplog)
    for (split, count), name in zip(COUNTS.items(), ("train", "val", "test"), strict=True):
        names = (lists / f"{name}.csv").read_text().split()
        assert len(found[split]) == len(names) == count
        assert [item.id for item in found[split]] == sorted(names)
        assert PUBLISHED[split] == hashlib.sha256((lists / f"{name}.csv").read_bytes()).hexdigest()
        partners = dict(
            line.split(",") for line in (lists / f"{name}_pairs.csv").read_text().split()[1:]
        )
        for item in found[split]:
            partner = partners[item.id]
            assert item.files == {
                "s1": f"BigEarthNet-S1-v1.0/{partner}/{partner}",
                "s2": f"BigEarthNet-v1.0/{item.id}/{item.id}",
            }


@pytest.mark.slow
def test_ben14k_of_the_official_splits(tmp_path, caplog):
    package = importlib.util.find_spec("bigearthnet_common")
    if package is None or package.origin is None:
        pytest.skip("needs the files of the package bigearthnet-common")
    found = check_ben14k(pathlib.Path(package.origin).parent, tmp_path, caplog)
    assert {split: len(items) for split, items in found.items()} == COUNTS
