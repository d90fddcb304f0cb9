"""Searching a run: every kind of query, filters, and versions that change meanwhile."""

import io
import threading

import fake_archive
import numpy as np
import pytest
import rasterio
import searched_run
from PIL import Image

from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.collection.filters import Filter
from rejepa_jax.retrieval.collection.images import embed_images, find_images
from rejepa_jax.retrieval.collection.parts import Rows
from rejepa_jax.retrieval.encoder import Embedder
from rejepa_jax.retrieval.queries import Query
from rejepa_jax.retrieval.search import Searcher
from rejepa_jax.types import ConfigError, DataError

ROWS = searched_run.ROWS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched_run.make_whole(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def searcher(whole):
    return Searcher(whole[0])


@pytest.fixture(scope="module")
def vectors(searcher):
    return searcher.collection.vectors(range(ROWS))


@pytest.fixture(scope="module")
def pixels(searcher):
    _, records, _ = searcher._pixels._open() and searcher._pixels._records
    return records.read(range(ROWS), ["s2"])["image"]["s2"]


def order(vector, vectors, without=()):
    """All rows by the score that a vector gives them."""
    ranking = np.argsort(-(vectors @ vector), kind="stable")
    return [row for row in ranking.tolist() if row not in without]


def unit(vector):
    return vector / np.linalg.norm(vector)


def rows(hits):
    return [hit.row for hit in hits]


def test_an_image_finds_itself_and_an_id_does_not(searcher, vectors, pixels):
    hits = searcher.search(Query(images=(pixels[3],)), 5)
    assert rows(hits) == order(vectors[3], vectors)[:5]
    assert (hits[0].id, hits[0].rank, hits[0].labels) == ("place003", 1, ["forest", "all"])
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].datetime == "2018-01-04T10:00:00Z"
    by_id = searcher.search(Query(positive=("place003",)), 5)
    assert rows(by_id) == order(vectors[3], vectors, (3,))[:5]
    assert rows(searcher.search(Query(positive=("place003",)), 1, exclude_queries=False)) == [3]


def test_several_examples_for_and_against(searcher, vectors, pixels):
    query = Query(("place001",), ("place005", "place006"), (pixels[2],), (vectors[4],))
    wanted = vectors[[1, 2, 4]].mean(0) - 0.5 * vectors[[5, 6]].mean(0)
    expected = order(unit(wanted), vectors, (1, 5, 6))
    assert rows(searcher.search(query, 24)) == expected
    assert len(expected) == 21


def test_grid_of_patches_is_averaged_and_said(searcher, vectors, pixels):
    mosaic = np.concatenate([np.concatenate(pixels[:2], 1), np.concatenate(pixels[2:4], 1)], 0)
    answer = searcher.answer(Query(images=(mosaic,), mode="grid"), 24)
    assert rows(answer.hits) == order(unit(vectors[:4].mean(0)), vectors)
    assert answer.notes == ("image 1: 4 patches of 16 x 16 pixels, descriptors averaged",)
    assert searcher.answer(Query(images=(mosaic,)), 2).notes == (
        "image 1: 32 x 32 pixels, resampled",
    )


def test_crop_of_a_file_and_of_an_image_in_the_records(searcher, whole, pixels):
    box = (4, 2, 12, 10)
    part = pixels[7][2:10, 4:12]
    large = np.asarray(Query(images=(part,)).images[0])
    expected = [hit.row for hit in searcher.search(Query(images=(large,)), 24)]
    assert rows(searcher.search(Query(images=(pixels[7],), crop=box), 24)) == expected
    by_id = searcher.search(Query(positive=("place007",), crop=box), 23)
    assert rows(by_id) == [row for row in expected if row != 7]
    for query in (
        Query(crop=box),
        Query(positive=("place001", "place002"), crop=box),
        Query(images=(part, part), crop=(0, 0, 4, 4)),
    ):
        with pytest.raises(ConfigError, match=r"got a crop of . images, expected one"):
            searcher.search(query, 3)
    elsewhere = Searcher(whole[0], whole[0] / "no records")
    with pytest.raises(ConfigError, match=r"no records there.*\(--records\)"):
        elsewhere.search(Query(positive=("place007",), crop=box), 3)


def test_point_is_the_image_nearest_to_it(searcher, vectors):
    answer = searcher.answer(Query(point=(8.2, 40.1)), 3)
    assert rows(answer.hits) == order(vectors[8], vectors, (8,))[:3]
    assert answer.notes == ("place008 is nearest to the point, 20.3 km away",)


def test_filters_and_places(searcher, vectors):
    query = Query(positive=("place003",))
    answer = searcher.answer(query, 10, Filter(splits=("test",)))
    assert rows(answer.hits) == [row for row in order(vectors[3], vectors, (3,)) if row < 6]
    assert (answer.searched, answer.allowed) == (24, 6)
    assert answer.notes == ("6 of 24 images fit the filters",)
    other = searcher.answer(query, 24, exclude_same_place=True)
    assert rows(other.hits) == order(vectors[3], vectors, (2, 3))


def test_nothing_passes_the_filters(searcher):
    where = Filter(splits=("test",), start="2018-01-20")
    answer = searcher.answer(Query(positive=("place003",)), 10, where)
    assert (answer.hits, answer.allowed) == ([], 0)
    assert answer.notes == ("0 of 24 images fit the filters",)


def test_queries_that_cannot_be_answered_are_refused(searcher, vectors, pixels):
    for query, k, error, match in (
        (Query(), 3, ConfigError, "no example"),
        (Query(negative=("place001",)), 3, ConfigError, "no example"),
        (Query(positive=("../place001",)), 3, DataError, "ids that are not there"),
        (Query(positive=("place001",)), 25, ConfigError, "k = 25, expected 1 to 24"),
        (Query(positive=("place001",)), 0, ConfigError, "k = 0, expected 1 to 24"),
        (Query(vectors=(vectors[0][:8],)), 3, ConfigError, "shape .8,., expected .16,."),
        (Query(vectors=(vectors[0] * 2,)), 3, DataError, "length other than 1"),
        (Query(vectors=(vectors[0] * np.nan,)), 3, DataError, "not finite"),
        (Query(vectors=(vectors[0], -vectors[0])), 3, ConfigError, "cancel each other out"),
        (Query(images=(pixels[0][..., :2],)), 3, ConfigError, "image 1 has 2 bands of uint16"),
    ):
        with pytest.raises(error, match=match):
            searcher.search(query, k)


def test_vector_of_another_encoder_is_refused(searcher, vectors, whole):
    good = Query(vectors=(vectors[4],), fingerprint=whole[1].fingerprint)
    assert rows(searcher.search(good, 1)) == [4]
    with pytest.raises(DataError, match=r"encoder abababababab, expected .*do not compare"):
        searcher.search(Query(vectors=(vectors[4],), fingerprint="ab" * 32), 1)


@pytest.fixture
def changing(whole, tmp_path):
    """The run again, to be changed, with its searcher."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("records", "encoders", "embeddings", "index"):
        (run / name).symlink_to(whole[0] / name)
    return run, Searcher(run)


def test_encoder_that_did_not_make_the_embeddings_is_refused(whole, tmp_path):
    run = tmp_path / "run"
    other = searched_run.unit(3)
    searched_run.publish_embeddings(run, other, "e" * 64)
    searched_run.publish_index(run, other, "exact", "e" * 64)
    (run / "encoders").symlink_to(whole[0] / "encoders")
    with pytest.raises(DataError, match=r"eeeeeeeeeeee, the encoder .*different encoders. Remove"):
        Searcher(run)
    (run / "encoders").unlink()
    with pytest.raises(FileNotFoundError, match=r"encoders has no manifest\.json"):
        Searcher(run)


def test_added_image_is_found_and_a_deleted_one_is_not(changing, whole, pixels, vectors):
    run, searcher = changing
    before = searcher.collection
    image = pixels[5][::-1].copy()
    vector = Embedder(whole[1])({"s2": image[None]})
    part = searched_run.part([50], vector)
    updates.add(run, [Rows(part, lambda _: None)], {"fingerprint": whole[1].fingerprint})
    updates.delete(run, ["place005"])
    assert searcher.search(Query(images=(image,)), 1)[0].id != "place050"
    assert searcher.reload()
    assert not searcher.reload()
    assert searcher.collection.version != before.version
    assert searcher.search(Query(images=(image,)), 1)[0].id == "place050"
    assert 5 not in rows(searcher.search(Query(images=(pixels[5],)), 24))
    with pytest.raises(ConfigError, match="added after the records were embedded"):
        searcher.search(Query(positive=("place050",), crop=(0, 0, 4, 4)), 1)
    updates.merge(run)
    assert searcher.reload()
    crop = Query(positive=("place007",), crop=(0, 0, 16, 16))
    assert searcher.search(crop, 1, exclude_queries=False)[0].id == "place007"
    assert before.search(vectors[5:6], 1)[1].tolist() == [[5]]  # whoever holds the old one


def test_version_that_cannot_be_opened_leaves_the_old_one_in_use(changing, vectors, caplog):
    run, searcher = changing
    before = searcher.collection
    updates.delete(run, ["place005"])
    path = run / "updates" / "1" / "deleted.npy"
    whole_file = path.read_bytes()
    path.write_bytes(bytes(len(whole_file)))
    for _ in range(3):
        assert not searcher.reload()
    assert searcher.collection is before
    assert "deleted.npy" in searcher.refused
    assert caplog.text.count("stays in use") == 1
    path.write_bytes(whole_file)
    assert searcher.reload()
    assert (searcher.refused, searcher.collection.rows) == ("", 23)
    (run / "index").unlink()
    assert not searcher.reload()
    assert len(searcher.search(Query(vectors=(vectors[1],)), 23)) == 23


def test_no_search_fails_while_versions_change(changing, vectors):
    run, searcher = changing
    stop, faults, versions = threading.Event(), [], set()

    def ask():
        while not stop.is_set():
            try:
                answer = searcher.answer(Query(vectors=(vectors[2],)), 5, Filter(splits=("train",)))
                assert len(answer.hits) == 5
                versions.add(answer.version)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
                faults.append(error)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for turn in range(5):
            updates.delete(run, [f"place{10 + turn:03d}"])
            assert searcher.reload()
        updates.merge(run)
        assert searcher.reload()
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert not faults
    assert len(versions) > 1


def test_image_files_are_added_as_they_would_be_queried(changing, tmp_path):
    """Files become rows with an id, a place, a picture and the vector that a query would have."""
    run, searcher = changing
    folder = tmp_path / "new" / "deep"
    folder.mkdir(parents=True)
    write_tiff(folder / "a b.tif", 16)
    write_tiff(folder / "b.tif", 40)
    (folder / "notes.txt").write_text("no image")
    found = find_images([tmp_path / "new", folder / "b.tif"])
    assert [each.id for each in found] == ["deep/a b.tif", "deep/b.tif", "b.tif"]
    parts = list(embed_images(searcher.bundle, found[:2], ["new"], {"collection": "mine"}))
    updates.add(run, parts, {"fingerprint": searcher.bundle.fingerprint})
    assert searcher.reload()
    for name, width in (("a b.tif", 0.16), ("b.tif", 0.40)):
        hit = searcher.search(Query(images=(folder / name,)), 1)[0]
        assert (hit.id, hit.labels, hit.collection) == (f"deep/{name}", ["new"], "mine")
        assert hit.score == pytest.approx(1, abs=1e-5)
        assert (hit.lon, hit.lat) == pytest.approx((10 + width / 2, 50 - width / 2), abs=1e-4)
        assert hit.bbox == pytest.approx((10, 50 - width, 10 + width, 50), abs=1e-4)
        assert Image.open(io.BytesIO(searcher.collection.thumbnail(hit.row))).size == (16, 16)
    with pytest.raises(DataError, match="got no image, expected files with the endings"):
        find_images([run / "encoders"])


def write_tiff(path, size):
    image = np.random.default_rng(size).integers(1, 3000, (3, size, size)).astype(np.uint16)
    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.01, 0, 10, 0, -0.01, 50)}
    shape = {"count": 3, "height": size, "width": size, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(image)


def test_records_of_another_archive_are_refused(changing, tmp_path):
    run, _ = changing
    fake_archive.prepared(tmp_path / "other", {"test": 2}, 16)
    searcher = Searcher(run, tmp_path / "other" / "records")
    with pytest.raises(DataError, match=r"got the records .*which were embedded; give those"):
        searcher.search(Query(positive=("place007",), crop=(0, 0, 4, 4)), 1)
