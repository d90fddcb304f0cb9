"""Faults 35 and 36: what strangers send as images, decoded here; test_decoding has the children."""

import numpy as np
import pytest
from fakes import DIM
from hostile import GOOD, NO_IMAGE, PIXELS, TOO_LARGE, geotiff, picture
from starlette.exceptions import HTTPException
from test_searching import best, rows_of

from rejepa_jax.data.archives import rasters
from rejepa_jax.serve import settings as limits
from rejepa_jax.serve.decoding_child import RefusedError, decode

MOST = limits.Settings().max_pixels


@pytest.mark.parametrize("kind", GOOD)
def test_images_come_out_as_they_were_whatever_hangs_behind_them(kind):
    np.testing.assert_array_equal(decode(GOOD[kind], MOST), PIXELS)


def test_pixels_are_those_that_the_command_reads():
    for data, name in ((picture("JPEG"), "x.jpg"), (picture(), "x.png"), (geotiff(), "x.tif")):
        np.testing.assert_array_equal(decode(data, MOST), rasters.read_image(data, name))
    deep = (PIXELS.astype(np.uint16) * 257)[..., :2]
    np.testing.assert_array_equal(decode(geotiff(deep), MOST), deep)


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_too_many_pixels_are_refused_before_any_is_decoded(kind):
    with pytest.raises(RefusedError, match=r"expected at most 16777216 pixels|too large") as caught:
        decode(TOO_LARGE[kind], MOST)
    assert caught.value.status == 413


@pytest.mark.parametrize("kind", NO_IMAGE)
def test_other_kinds_and_broken_images_are_refused(kind):
    with pytest.raises(RefusedError, match="expected a whole GeoTIFF, PNG, JPEG file") as caught:
        decode(NO_IMAGE[kind], MOST)
    assert caught.value.status == 415


@pytest.fixture
def upload(serving, monkeypatch):
    """Sends files to a server that decodes in this process."""
    client = serving(limits.Settings(max_uploads=2, max_patches=4))

    async def here(data):
        try:
            return decode(data, MOST)
        except RefusedError as error:
            raise HTTPException(error.status, str(error)) from error

    monkeypatch.setattr(client.app.state.service.decoder, "decode", here)

    def send(*files, **fields):
        parts = [("files", file) for file in files]
        return client.post("/api/search/image", files=parts, data=fields)

    return send


def descriptor(pixels):
    vector = np.pad(pixels.reshape(-1, 3).mean(axis=0) / 255 + 0.01, (0, DIM - 3))
    return vector / np.linalg.norm(vector)


def test_upload_is_searched_with_the_request_beside_it_and_says_what_was_done(upload):
    sent = upload(("x.png", picture()), request='{"k": 3, "filters": {"splits": ["test"]}}')
    square = rasters.fit(rasters.Raster(PIXELS), 32).array
    assert rows_of(sent.json()) == best(descriptor(square), 3, keep=lambda f: f["split"] == "test")
    assert sent.json()["notes"] == ["image 1: its central 48 x 48 of 48 x 64 pixels, resampled"]
    grid = upload(("x.png", picture()), mode="grid", request='{"k": 3}').json()
    assert grid["notes"] == ["image 1: 4 patches of 32 x 32 pixels, descriptors averaged"]
    two = upload(("a", picture()), ("b", picture()), request='{"k": 2, "negative": ["patch-1"]}')
    assert len(two.json()["hits"]) == 2


@pytest.mark.parametrize(
    "name", ["../../etc/x.png", "/vsicurl/http://127.0.0.1:9/x.tif", "x.svg", "\0"]
)
def test_name_of_a_file_means_nothing(upload, name):
    assert upload((name, picture())).status_code == 200


@pytest.mark.parametrize(
    ("files", "fields", "status", "said"),
    [
        ([], {"request": "{}"}, 415, "expected multipart/form-data"),
        ([("x", picture())] * 3, {}, 400, "Too many files"),
        ([("x", picture())], {"other": "x"}, 422, "got a part 'other'"),
        ([("x", picture())], {"mode": "whole"}, 422, "got mode 'whole'"),
        ([("x", picture())], {"request": "{"}, 422, "request: body: got"),
        ([("x", picture())], {"request": '{"k": 0}'}, 422, "request: k: got 0"),
        ([("x", picture())], {"request": '{"vector": [NaN]}'}, 422, "request: vector.0"),
        ([("x", picture())], {"request": "x" * 2**21}, 400, "maximum size"),
        ([("x", picture(pixels=PIXELS[..., 0]))], {}, 200, ""),  # grey becomes red, green, blue
        ([("x", geotiff(PIXELS[..., :2]))], {}, 422, "2 bands of uint8; the encoder takes 3"),
        ([("x", geotiff(PIXELS.astype(np.float32)))], {}, 422, "3 bands of float32"),
        ([("x", picture(pixels=np.tile(PIXELS, (2, 2, 1))))], {"mode": "grid"}, 413, "12 patches"),
        ([("<b>.svg", NO_IMAGE["svg"])], {}, 415, "'<b>.svg': got 71 bytes of another kind"),
    ],
)
def test_uploads_that_cannot_be_used_are_refused_in_one_sentence(
    upload, files, fields, status, said
):
    sent = upload(*files, **fields)
    assert sent.status_code == status, sent.text
    assert said in sent.text
