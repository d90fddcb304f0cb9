"""Several examples as one vector, and images of any size as the encoder takes them."""

import numpy as np
import pytest
from PIL import Image

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import EncoderSpec
from rejepa_jax.retrieval import query_images
from rejepa_jax.retrieval.encoder import Bundle, abstract_encoder
from rejepa_jax.retrieval.queries import combine, read_vectors
from rejepa_jax.types import ConfigError, DataError

UNIT = np.eye(4, dtype=np.float32)
NONE = UNIT[:0]


def bundle(dtype="uint8", nodata=0.0, size=8):
    given = SensorInput((0, 1, 2), (0.0,) * 3, (1.0,) * 3, nodata)
    record = Sensor(("red", "green", "blue"), dtype, size, size)
    encoder = abstract_encoder(EncoderSpec(size, 8, 3, 8, 1, 1, 4.0, "float32"))
    return Bundle("target", encoder, Preprocess(size, {"rgb": given}), "rgb", record, "mean", 0)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3)).astype(np.uint8)


def test_examples_are_combined_as_rocchio_does():
    np.testing.assert_allclose(combine(UNIT[:1], NONE), UNIT[0])
    np.testing.assert_allclose(combine(UNIT[:2], NONE), [0.5**0.5, 0.5**0.5, 0, 0], rtol=1e-6)
    # (1, 0, 0, 0) - 0.5 * (0, 0.5, 0.5, 0), of squared length 1.125
    expected = np.array([1, -0.25, -0.25, 0]) / 1.125**0.5
    np.testing.assert_allclose(combine(UNIT[:1], UNIT[1:3]), expected, rtol=1e-6)


def test_examples_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="no example of what to look for"):
        combine(NONE, UNIT[:1])
    with pytest.raises(ConfigError, match="cancel each other out"):
        combine(np.stack([UNIT[0], -UNIT[0]]), NONE)
    half = np.stack([UNIT[0], [-0.5, 0.75**0.5, 0, 0], [-0.5, -(0.75**0.5), 0, 0]])
    with pytest.raises(ConfigError, match="cancel each other out"):
        combine(half.astype(np.float32), NONE)


def test_image_of_the_records_size_stays_as_it_is():
    image = picture(8, 8)
    for mode in ("resize", "grid"):
        cut, note = query_images.patches(image, bundle(), mode, "a.png")
        np.testing.assert_array_equal(cut, image[None])
        assert note == ""


def test_other_sizes_are_cut_to_the_central_square_and_resampled():
    image = picture(16, 20)
    cut, note = query_images.patches(image, bundle(), "resize", "a.png")
    expected = np.asarray(Image.fromarray(image[:, 2:18]).resize((8, 8), Image.Resampling.BICUBIC))
    # Pillow rounds 8-bit pixels after each of its two passes, we once; and 0 is no-data here.
    np.testing.assert_allclose(cut[0].astype(int), expected, atol=2)
    assert note == "a.png: its central 16 x 16 of 16 x 20 pixels, resampled"
    assert query_images.patches(picture(4, 30), bundle(), "grid", "a.png")[0].shape == (1, 8, 8, 3)


def test_grid_covers_every_pixel_with_the_fewest_patches():
    image = picture(17, 24)
    cut, note = query_images.patches(image, bundle(), "grid", "a.png")
    tops, lefts = (0, 4, 9), (0, 8, 16)  # 4.5 rounds to even
    expected = [image[y : y + 8, x : x + 8] for y in tops for x in lefts]
    np.testing.assert_array_equal(cut, expected)
    assert note == "a.png: 9 patches of 8 x 8 pixels, descriptors averaged"
    image[:8] = 0
    assert len(query_images.patches(image, bundle(), "grid", "a.png")[0]) == 6  # no-data left out


def test_what_no_encoder_can_take_is_refused(tmp_path):
    blank = np.zeros((30, 30, 3), np.uint8)
    for mode in query_images.MODES:
        with pytest.raises(DataError, match=r"no-data \(0.0\) alone"):
            query_images.patches(blank, bundle(), mode, "a.png")
        assert len(query_images.patches(blank, bundle(nodata=None), mode, "a.png")[0]) > 0
    with pytest.raises(ConfigError, match="mode 'tiles', expected resize or grid"):
        query_images.patches(blank, bundle(), "tiles", "a.png")
    with pytest.raises(ConfigError, match="1089 patches of 8 x 8, expected 1024 at most"):
        query_images.patches(picture(257, 257), bundle(), "grid", "a.png")
    for image, match in (
        (picture(8, 8)[..., :2], "a.png has 2 bands of uint8; the encoder takes 3 bands of uint8"),
        (picture(8, 8).astype(np.uint16), "3 bands of uint16"),
        (picture(8, 8)[0], "a.png has 3 bands"),
    ):
        with pytest.raises(ConfigError, match=match):
            query_images.check_image(image, bundle(), "a.png")
    bad = np.ones((8, 8, 3), np.float32)
    bad[2, 3:5] = np.nan
    with pytest.raises(DataError, match="6 pixels are not finite"):
        query_images.check_image(bad, bundle("float32"), "a.png")
    with pytest.raises(DataError, match="no such file"):
        query_images.read_image(tmp_path / "a.png", bundle())


def test_crops_are_within_the_image():
    image = picture(10, 20)
    np.testing.assert_array_equal(query_images.crop(image, (3, 1, 20, 10), "a"), image[1:10, 3:20])
    for box in ((-1, 0, 5, 5), (0, 0, 21, 5), (0, 0, 5, 11), (5, 0, 5, 5), (0, 6, 5, 5)):
        with pytest.raises(ConfigError, match=r"got crop .* within 0 to 20 and .* within 0 to 10"):
            query_images.crop(image, box, "a")


def test_read_query_takes_a_file_of_any_size(tmp_path):
    image = picture(30, 20)
    Image.fromarray(image).save(tmp_path / "a.png")
    got = query_images.read_query(tmp_path / "a.png", bundle())
    np.testing.assert_array_equal(got, rasters.fit(rasters.Raster(image), 8, 0.0).array)


def test_vector_files(tmp_path):
    np.save(tmp_path / "one.npy", UNIT[2].astype(np.float64))
    (vector,), mark = read_vectors(tmp_path / "one.npy")
    assert (vector.tolist(), vector.dtype, mark) == ([0, 0, 1, 0], np.float32, "")
    np.savez(tmp_path / "two.npz", vectors=UNIT[:2], fingerprint="abc")
    vectors, mark = read_vectors(tmp_path / "two.npz")
    assert (len(vectors), mark) == (2, "abc")
    np.save(tmp_path / "deep.npy", UNIT[None])
    np.save(tmp_path / "none.npy", UNIT[:0])
    np.save(tmp_path / "code.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.savez(tmp_path / "other.npz", vector=UNIT)
    (tmp_path / "short.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:100])
    for kind in ("complex64", "bool", "datetime64[D]"):
        np.save(tmp_path / f"{kind}.npy", np.zeros(4, kind))
        with pytest.raises(DataError, match=r"got numbers of the type .*, expected vectors"):
            read_vectors(tmp_path / f"{kind}.npy")
    for name in (
        "deep.npy",
        "none.npy",
        "code.npy",
        "text.npy",
        "other.npz",
        "short.npz",
        "no.npy",
    ):
        with pytest.raises(DataError, match=name):
            read_vectors(tmp_path / name)
