"""BigEarthNet archives of random pixels, written in the three forms in which people have them."""

import json
import warnings

import numpy as np
import pyarrow
import pyarrow.parquet
import rasterio
from PIL import Image

METADATA = "metadata.parquet"
FLAGGED = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
S1 = ("VV", "VH")
S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SIZES = dict.fromkeys(S2, 60) | dict.fromkeys(("B02", "B03", "B04", "B08"), 120)
SIZES |= dict.fromkeys(("B01", "B09"), 20) | dict.fromkeys(S1, 120)


def band(seed, name):
    """A band's own random pixels."""
    rng = np.random.default_rng([seed, [*S2, *S1].index(name)])
    shape = (SIZES[name], SIZES[name])
    if name in S1:
        return rng.normal(-15, 3, shape).astype(np.float32)
    return rng.integers(1, 10000, shape).astype(np.uint16)


def on_the_grid(array):
    """A band of 120 pixels a side; Pillow's bicubic filter, written down here anew."""
    if array.shape == (120, 120):
        return array
    image = Image.fromarray(array.astype(np.float32)).resize((120, 120), Image.Resampling.BICUBIC)
    return np.clip(np.rint(np.asarray(image)), 1, 65535).astype(array.dtype)


def write_tiff(path, arrays, descriptions=(), crs="EPSG:32634", corner=(500000, 1200), **options):
    """Writes one file with a band an array over 1,200 m of ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = arrays[0].shape
    place = {
        "crs": crs,
        "transform": rasterio.Affine(1200 / width, 0, corner[0], 0, -1200 / height, corner[1]),
    }
    profile = {"height": height, "width": width, "count": len(arrays), "dtype": arrays[0].dtype}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(
            path, "w", driver="GTiff", **profile, **(place if crs else {}), **options
        ) as dataset,
    ):
        dataset.write(np.stack(arrays))
        for number, description in enumerate(descriptions, start=1):
            dataset.set_band_description(number, description)


def write_bands(folder, seed, names, **options):
    """Writes one file a band into the folder of a patch, which has the patch's name."""
    for name in names:
        write_tiff(folder / f"{folder.name}_{name}.tif", [band(seed, name)], **options)


def row(number, date="20170613", **changes):
    """What the metadata of version 2 say of a patch."""
    return {
        "patch_id": f"S2A_MSIL2A_{date}T101031_N9999_R022_T34TCR_{number:02}_07",
        "labels": ["Urban fabric", "Arable land"],
        "split": "train",
        "country": "Serbia",
        "s1_name": f"S1B_IW_GRDH_1SDV_{date}T165809_34TCR_{number}_7",
        "s2v1_name": f"S2A_MSIL2A_{date}T101031_{number}_7",
    } | changes


def write_tables(root, rows, flagged=None):
    """Writes the metadata of version 2."""
    root.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / METADATA)
    table = pyarrow.Table.from_pylist(flagged or [row(99, country="Finland")])
    pyarrow.parquet.write_table(table, root / FLAGGED)
    return root


def v2_folders(root, patch):
    """The two folders of a patch of version 2, as the data set's description gives them."""
    s1, s2 = patch["s1_name"], patch["patch_id"]
    return {
        "s1": root / "BigEarthNet-S1" / "_".join(s1.split("_")[:-3]) / s1,
        "s2": root / "BigEarthNet-S2" / "_".join(s2.split("_")[:-2]) / s2,
    }


def write_v2(root, rows):
    """Writes patches of version 2, each of its place in the list as seed, and the metadata."""
    for seed, patch in enumerate(rows, start=1):
        folders = v2_folders(root, patch)
        write_bands(folders["s2"], seed, S2)
        write_bands(folders["s1"], seed, S1)
    return write_tables(root, rows)


def write_stacked(root, rows, s2_bands, s1_bands=S1, named=True):
    """Writes the copy of version 2 with one file a patch."""
    for seed, patch in enumerate(rows, start=1):
        for folder, name, bands in (("S1", "s1_name", s1_bands), ("S2", "patch_id", s2_bands)):
            path = root / f"BigEarthNet-{folder}" / patch["split"] / f"{patch[name]}.tif"
            arrays = [on_the_grid(band(seed, each)) for each in bands]
            write_tiff(path, arrays, bands if named else ())
    return write_tables(root, rows)


PROJECTION = rasterio.CRS.from_epsg(32634).to_wkt()
CORNERS = {"ulx": 500000, "uly": 1200, "lrx": 501200}


def v1_names(number):
    """The names of a pair of version 1: of Sentinel-2, of Sentinel-1."""
    return (
        f"S2A_MSIL2A_20170803T94031_{number}_18",
        f"S1A_IW_GRDH_1SDV_20170802T163350_34TCR_{number}_18",
    )


def write_v1(root, number, labels=("Rice fields",), bands=True, **options):
    """Writes a pair of version 1, its number as seed; without `bands` only the metadata."""
    s2, s1 = v1_names(number)
    s2_facts = {
        "labels": labels,
        "coordinates": CORNERS | {"lry": 0},
        "projection": PROJECTION,
        "tile_source": "S2A_MSIL1C_20170803T094031_N0205_R036_T34TCR_20170803T094149.SAFE",
        "acquisition_date": "2017-08-03 09:40:35",
    }
    s1_facts = {
        "labels": labels,
        "coordinates": CORNERS | {"lly": 0},
        "projection": PROJECTION,
        "corresponding_s2_patch": s2,
        "acquisition_time": "2017-08-02T16:33:50",
    }
    for folder, facts, names in (
        (root / "BigEarthNet-v1.0" / s2, s2_facts, S2),
        (root / "BigEarthNet-S1-v1.0" / s1, s1_facts, S1),
    ):
        folder.mkdir(parents=True)
        (folder / f"{folder.name}_labels_metadata.json").write_text(json.dumps(facts))
        write_bands(folder, number, names if bands else (), **options)
    return root


def write_list(root, name, lines):
    """Writes a split list."""
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines))
    return root
