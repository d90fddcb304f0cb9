"""The configs over each form of BigEarthNet: small ones of random pixels, and the real patches."""

import layout_road
import pytest
from ben_writer import row, v1_names, write_list, write_stacked, write_tables, write_v1, write_v2

SPLITS = ("train", "validation", "test")
TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COUNTS = {"train": 4, "validation": 2, "test": 2}


def rows(months=("06",)):
    """Two patches for each split and month, four for training."""
    dealt = ("train", *SPLITS) * 2
    return [
        row(number, f"2017{month}13", split=split)
        for month in months
        for number, split in enumerate(dealt, 10 * int(month))
    ]


def written_v1(root):
    """Version 1, and its lists as CSMAE has them, names alone."""
    numbers = iter(range(10, 20))
    for split, count in COUNTS.items():
        names = [v1_names(number)[0] for number, _ in zip(numbers, range(count), strict=False)]
        write_list(root / "lists", f"{split}.csv", names)
        for name in names:
            write_v1(root / "data", int(name.split("_")[-2]))
    return root / "data", root / "lists" / "train.csv"


def counts(records):
    return {split: len(found) for split, found in records.splits.items()}


@pytest.mark.parametrize("sensor", ["s1", "s2"])
def test_ben14k_on_version_1(tmp_path, sensor):
    archive, lists = written_v1(tmp_path)
    records, seen, config = layout_road.prepared(
        tmp_path / "run", "ben14k", archive, data__split_file=str(lists), data__sensor=sensor
    )
    assert counts(records) == COUNTS
    assert len(seen.inputs[sensor].bands) == {"s1": 2, "s2": 12}[sensor]
    assert (config.eval.query_split, config.eval.gallery_split) == ("validation", "test")


def test_ben14k_on_version_2_takes_serbia_in_summer(tmp_path):
    archive = write_v2(tmp_path / "data", rows())
    write_tables(archive, [*rows(), *rows(("05",)), row(1, country="Austria")])
    records, _, _ = layout_road.prepared(tmp_path / "run", "ben14k", archive)
    assert counts(records) == COUNTS


def test_ben14k_on_the_stacked_copy(tmp_path):
    archive = write_stacked(tmp_path / "BEN_14k", rows(), TEN, named=False)
    records, seen, _ = layout_road.prepared(
        tmp_path / "run", "ben14k", archive, data__file_bands=(*TEN, "VV", "VH")
    )
    assert counts(records) == COUNTS
    assert records.schema.sensors["s2"].bands == TEN
    assert len(seen.inputs["s2"].bands) == 10


def test_all_of_bigearthnet(tmp_path):
    archive = write_v2(tmp_path / "data", rows(("01", "07"))[:8])
    records, _, _ = layout_road.prepared(tmp_path / "run", "bigearthnet", archive)
    assert counts(records) == COUNTS


@pytest.mark.slow
@pytest.mark.parametrize(("config", "sensor"), [("ben14k", "s1"), ("bigearthnet", "s2")])
def test_configs_roads_run_to_their_end(shared_data, tmp_path, config, sensor):
    archive = shared_data / "bigearthnet" / "bigearthnet-v1-reencoded.tar"
    found = layout_road.walked(
        tmp_path / "run", config, archive, data__selection="clean", data__sensor=sensor
    )
    bands = {"s1": 2, "s2": 12}[sensor]
    assert found == ({"test": 7, "train": 14, "validation": 9}, bands, ("validation", "test"))
