"""Searches of many threads together are the searches that each would have made alone."""

import dataclasses
import os
import threading
import time

import numpy as np
import pytest
from fakes import ROWS, collection_of, table

from rejepa_jax.serve import batching
from rejepa_jax.types import DataError

COLLECTION = collection_of(table())
VECTORS = COLLECTION.index.stored


def held(collection, fail=lambda _: False, error=DataError):
    """The collection with an engine that waits, at first, until `go`; notes how many it served."""
    go, begun, served, engine = threading.Event(), threading.Event(), [], collection.index.nearest

    def nearest(queries, k, allowed):
        begun.set()
        go.wait(10)
        served.append(len(queries))
        if fail(queries):
            raise error("a bad query")
        return engine(queries, k, allowed)

    index = dataclasses.replace(collection.index, nearest=nearest)
    return batching.batched(dataclasses.replace(collection, index=index)), go, begun, served


def together(searched, go, begun, asked):
    """Asks everything at once while the first search is held; returns answers or errors."""
    found = [None] * len(asked)

    def ask(number):
        try:
            found[number] = searched.search(*asked[number])
        except (DataError, MemoryError) as error:
            found[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    waiting = searched.index.nearest._waiting
    while len(waiting) < len(asked):
        waiting = [*searched.index.nearest._waiting, threads[0]]
    go.set()
    for thread in threads:
        thread.join(10)
    return found


def requests(count):
    """Searches for other vectors, of other lengths, with other rows left out or none."""
    random = np.random.default_rng(0)
    for number in range(count):
        allowed = np.ones(ROWS, bool)
        allowed[random.integers(0, ROWS, number % 5)] = False
        rows = random.integers(0, ROWS, 1 + number % 2)
        yield VECTORS[rows], int(random.integers(1, 30)), allowed if number % 3 else None


def test_all_who_wait_are_searched_for_at_once_and_find_what_they_would_alone():
    searched, go, begun, served = held(COLLECTION)
    asked = list(requests(40))
    found = together(searched, go, begun, asked)
    assert served == [1, sum(len(vectors) for vectors, *_ in asked[1:])]
    for (scores, rows), one in zip(found, asked, strict=True):
        expected = COLLECTION.search(*one)
        np.testing.assert_array_equal(rows, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-6)


def test_threads_that_ask_without_a_pause_are_searched_for_together():
    threads, rounds, served, done = 8, 20, [], []
    engine = COLLECTION.index.nearest

    def slow(queries, k, allowed):
        """Takes so long that everybody else has had his answer and waits with the next query."""
        for _ in range(5000):
            if len(searched.index.nearest._waiting) + len(queries) + len(done) == threads:
                served.append(len(queries))
                return engine(queries, k, allowed)
            time.sleep(0.001)
        raise AssertionError("some who were searched for did not come back")

    index = dataclasses.replace(COLLECTION.index, nearest=slow)
    searched = batching.batched(dataclasses.replace(COLLECTION, index=index))

    def ask(number):
        rows = [searched.search(VECTORS[[number]], 3)[1][0, 0] for _ in range(rounds)]
        done.append(set(rows) == {number})

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(20)
    assert done == [True] * threads
    assert sum(served) == threads * rounds
    assert len(served) <= 2 * rounds  # who is not in one search is in the next


def test_filters_that_differ_by_much_are_searched_apart_and_few_rows_are_marked():
    searched, go, begun, served = held(COLLECTION)
    few = np.arange(ROWS) < 5
    most = np.arange(ROWS) >= 5
    asked = [(VECTORS[:1], 3, None), (VECTORS[1:2], 9, few), (VECTORS[2:3], 9, most)]
    asked += [(VECTORS[3:4], 200, None), (VECTORS[4:5], 9, few)]
    found = together(searched, go, begun, asked)
    assert sorted(served) == [1, 2, 2]
    for (scores, rows), one in zip(found, asked, strict=True):
        expected = COLLECTION.search(*one)
        np.testing.assert_array_equal(rows, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    assert (found[1][1][0, 5:] == -1).all()
    assert np.isnan(found[1][0][0, 5:]).all()


def test_error_of_one_search_does_not_reach_the_others():
    bad = VECTORS[7]
    searched, go, begun, _ = held(COLLECTION, lambda queries: (queries == bad).all(axis=1).any())
    asked = [(VECTORS[row : row + 1], 3) for row in range(12)]
    found = together(searched, go, begun, asked)
    assert isinstance(found.pop(7), DataError)
    del asked[7]
    for (_, rows), one in zip(found, asked, strict=True):
        np.testing.assert_array_equal(rows, COLLECTION.search(*one)[1])
    np.testing.assert_array_equal(searched.search(*asked[0])[1], found[0][1])  # turns go on


def test_search_together_that_breaks_down_is_made_up_for_one_by_one():
    searched, go, begun, served = held(COLLECTION, lambda queries: len(queries) > 1, MemoryError)
    asked = [(VECTORS[row : row + 1], 3) for row in range(6)]
    found = together(searched, go, begun, asked)
    assert served == [1, 5, 1, 1, 1, 1]  # the five were told by one, who has the error
    assert sum(isinstance(each, MemoryError) for each in found) == 1
    for each, one in zip(found, asked, strict=True):
        if not isinstance(each, MemoryError):
            np.testing.assert_array_equal(each[1], COLLECTION.search(*one)[1])


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_kinds_that_keep_one_core_busy_have_a_turn_for_each(kind):
    index = dataclasses.replace(COLLECTION.index, kind=kind)
    nearest = batching.batched(dataclasses.replace(COLLECTION, index=index)).index.nearest
    assert nearest._turns == (1 if kind == "exact" else os.cpu_count())
