import numpy as np

from rejepa_jax.retrieval.forms import forms, unit, whitened, z_scored

rng = np.random.default_rng(4)


def test_unit_rows_have_length_1_and_their_direction():
    vectors = np.array([[3.0, 4.0], [0.0, -2.0]])
    scaled = unit(vectors)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, -1]], rtol=1e-6)


def test_zero_vector_stays_zero():
    np.testing.assert_array_equal(unit(np.zeros((1, 3))), 0)


def test_z_scored_by_hand():
    gallery = np.array([[0.0, 10.0], [4.0, 30.0]], np.float32)  # means 2 and 20, spreads 2 and 10
    scored = z_scored(np.array([[8.0, 60.0]], np.float32), gallery)  # 3 and 4 spreads away
    np.testing.assert_allclose(scored, [[0.6, 0.8]], rtol=1e-6)


def test_constant_dimension_says_nothing():
    gallery = np.stack([np.full(7, 0.1), np.arange(7.0)], axis=1).astype(np.float32)
    np.testing.assert_allclose(np.abs(z_scored(gallery, gallery))[[0, 1, 2, 4, 5, 6]], [[0, 1]] * 6)


# --- whitening


def test_whitened_by_hand():
    gallery = np.array([[0.0, 10.0], [4.0, 30.0]], np.float32)  # standardised (-1, -1) and (1, 1)
    query = np.array([[8.0, 60.0]], np.float32)  # standardised (3, 4)
    scored, known = whitened(query, gallery)
    # The axes are the diagonals, of strength 2 and 0: along them the query is 7 and 1, over root 2.
    along, across = 7 / 2.01**0.5, 1 / 0.01**0.5
    cosine = along / (along**2 + across**2) ** 0.5
    np.testing.assert_allclose(scored @ known.T, [[-cosine, cosine]], rtol=1e-4)
    np.testing.assert_allclose(known @ known.T, [[1, -1], [-1, 1]], rtol=1e-5)


def test_whitening_undoes_a_rotation_and_its_stretch():
    hidden = rng.normal(size=(4000, 4))
    hidden -= hidden.mean(0)
    hidden /= np.sqrt(np.linalg.eigvalsh(np.cov(hidden.T, ddof=0)).mean())
    turn = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    mixed = (hidden * [3, 2, 1, 1]) @ turn  # each dimension has the same spread: 15 / 4 of variance
    scored, known = whitened(mixed[:50].astype(np.float32), mixed.astype(np.float32))
    expected, _ = unit(hidden[:50]), None
    np.testing.assert_allclose(scored @ scored.T, expected @ expected.T, atol=0.08)
    plain = unit(mixed[:50])
    assert np.abs(plain @ plain.T - expected @ expected.T).max() > 0.8
    covariance = np.cov(known.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=0.02)


def test_whitening_keeps_the_strongest_directions():
    strong, noise = rng.normal(size=(600, 128)), rng.normal(size=(600, 72))
    vectors = np.concatenate([strong, strong, noise], axis=1).astype(np.float32)
    scored, known = whitened(vectors[:9], vectors)
    assert scored.shape == (9, 128)
    assert scored.dtype == known.dtype == np.float32
    # Each strong number stands there twice: these directions have strength 2, the noise has 1.
    expected, _ = whitened(strong[:9].astype(np.float32), strong.astype(np.float32))
    np.testing.assert_allclose(scored @ scored.T, expected @ expected.T, atol=0.15)


def test_shift_and_unit_of_a_dimension_do_not_matter():
    vectors = rng.normal(size=(300, 6)).astype(np.float32)
    moved = (vectors * [1, 5, 0.1, 30, 2, 1] + [9, 0, 1, 0, -4, 0]).astype(np.float32)
    for name in ("z-scored", "whitened"):
        queries, gallery = forms(vectors[:7], vectors)[name]
        moved_queries, moved_gallery = forms(moved[:7], moved)[name]
        np.testing.assert_allclose(
            queries @ gallery.T, moved_queries @ moved_gallery.T, atol=1e-4, err_msg=name
        )


def test_fewer_images_than_dimensions_and_constant_dimensions_are_no_trouble():
    vectors = rng.normal(size=(4, 30)).astype(np.float32)
    vectors[:, :3] = 0.1
    for name, (queries, gallery) in forms(vectors[:2] + 1, vectors).items():
        assert np.isfinite(queries).all(), name
        np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, rtol=1e-5, err_msg=name)


def test_every_descriptor_has_three_forms_in_this_order():
    assert list(forms(np.eye(3)[:1], np.eye(3))) == ["plain", "z-scored", "whitened"]
