"""Files that strangers send: bombs, liars, two kinds at once, broken ones."""

import io
import struct
import zipfile
import zlib

import numpy as np
import rasterio
from PIL import Image

PIXELS = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)


def picture(kind="PNG", pixels=PIXELS, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def geotiff(pixels=PIXELS, **options):
    height, width, count = pixels.shape
    options = {"transform": rasterio.Affine(10, 0, 600000, 0, -10, 5400000)} | options
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype, **options
        ) as out:
            out.write(np.moveaxis(pixels, -1, 0))
        return file.read()


def _chunk(kind, data):
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def png_of(width, height, data=b"\0" * 1000):
    """A PNG whose header says so, whatever its data."""
    head = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(data, 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of(width, height, bands=1, content=b"\0" * 1000):
    """A deflated TIFF of one strip whose header says so, whatever its strip."""
    data = zlib.compress(content, 9)
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1),
        (273, 4, 8), (277, 3, bands), (278, 4, height), (279, 4, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.html", "<script>alert(1)</script>")
    return buffer.getvalue()


VRT = b"""<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>/vsicurl/http://127.0.0.1:9/x.tif</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)

GOOD = {
    "png": picture(),
    "geotiff": geotiff(),
    "bigtiff": geotiff(BIGTIFF="YES"),
    "deflated and tiled": geotiff(compress="deflate", tiled=True, blockxsize=16, blockysize=16),
    "png that is a zip too": picture() + zipped(),
    "png that is a page too": picture() + b"<html><script>alert(1)</script></html>",
}
TOO_LARGE = {
    "png bomb": png_of(50_000, 50_000),
    "png of the largest size": png_of(2**31 - 1, 2**31 - 1),
    "png just above": png_of(4097, 4096),
    "tiff bomb": tiff_of(40_000, 40_000, content=b"\0" * 10_000_000),
    "tiff of the largest size": tiff_of(2**31 - 1, 2**31 - 1),
    "tiff of many bands": tiff_of(2000, 2000, bands=65_535),
}
NO_IMAGE = {
    "nothing": b"",
    "one byte": b"\x89",
    "text": b"hello",
    "svg": SVG,
    "vrt": VRT,
    "vrt behind a bom": b"\xef\xbb\xbf" + VRT,
    "page that is a gif too": b"GIF89a/*<html>*/=1;",
    "webp": picture("WEBP"),
    "bmp": picture("BMP"),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 100,
    "npy of objects": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "pdf": b"%PDF-1.4",
    "png head alone": picture()[:8],
    "png cut": picture(pixels=NOISE)[:4000],
    "png without data": png_of(64, 64, b""),
    "jpeg head alone": b"\xff\xd8\xff\xe0",
    "jpeg cut": picture("JPEG")[:300],
    "tiff head alone": b"II*\0",
    "tiff cut": geotiff()[:500],
    "tiff whose strip is no deflate": tiff_of(64, 64).replace(b"\x78\xda", b"\0\0"),
    "tiff whose list of tags is itself": b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 100,
    "vrt named as tiff": b"II*\0" + VRT,
}  # fmt: skip
