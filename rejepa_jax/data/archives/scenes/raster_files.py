"""Large GeoTIFF and JPEG 2000 files, opened where they are: on a disk or in a store.

A file is opened once in each thread and stays open; only the blocks that are asked for are decoded.
No file beside the image is looked for, and no other format is tried.
"""

import collections
import pathlib
import threading
import warnings

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from rejepa_jax.types import DataError

ENDINGS = (".tif", ".tiff", ".jp2")
REMOTE = {  # scheme -> GDAL's name of the file
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
}
OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
MOST_OPEN = 64  # files a thread
# Bytes of decoded blocks that GDAL keeps; by itself it takes a twentieth of the memory in each
# process. A row of 1,024 x 1,024 blocks of each band of a Sentinel-2 scene is 150 MB.
CACHE = 256 << 20
CACHE_PER_FILE = 64 << 20  # where files are read one by one, each by a thread


class _Open(threading.local):
    """This thread's open files, the one used last at the end."""

    def __init__(self) -> None:
        self.files: collections.OrderedDict[str, rasterio.DatasetReader] = collections.OrderedDict()


_open = _Open()


def open_file(root: pathlib.Path, file: str) -> rasterio.DatasetReader:
    """Opens a file by its name in the archive, or by its http, https, s3 or gs address.

    Raises:
        DataError: it is not there, or is no GeoTIFF or JPEG 2000 file.
    """
    place = locate(root, file)
    driver = "JP2OpenJPEG" if file.split("?")[0].lower().endswith(".jp2") else "GTiff"
    if place not in _open.files:
        if len(_open.files) >= MOST_OPEN:
            _open.files.popitem(last=False)[1].close()
        with (
            rasterio.Env(**OPTIONS),
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        ):
            try:
                _open.files[place] = rasterio.open(place, driver=driver)
            except (RasterioError, UnicodeDecodeError) as error:
                expected = f"a whole file of GDAL's kind {driver}"
                raise refusal(file, "nothing that opens", expected) from error
    _open.files.move_to_end(place)
    return _open.files[place]


def locate(root: pathlib.Path, file: str) -> str:
    """Gives GDAL's name of a file; its virtual file systems cannot be reached by a name."""
    for scheme, prefix in REMOTE.items():
        if file.startswith(scheme):
            return prefix + file.removeprefix(scheme)
    if file.startswith("/vsi") or "://" in file:
        raise refusal(file, "that address", f"a name in the archive, or {', '.join(REMOTE)}...")
    return str(root / file)


def refusal(file: str, got: str, expected: str) -> DataError:
    """Makes the error that says what is wrong with a file."""
    return DataError(f"scene file {file}: got {got}, expected {expected}; restore or remove it")
