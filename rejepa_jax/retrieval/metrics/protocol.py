"""Which images query which, by which labels, and how deep: the same for all that is compared."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.forms import each_form
from rejepa_jax.retrieval.metrics import catalogue, intervals, reference, table
from rejepa_jax.retrieval.metrics.evaluating import Task, measure
from rejepa_jax.retrieval.metrics.excluded import Excluded
from rejepa_jax.retrieval.metrics.intervals import Score
from rejepa_jax.retrieval.metrics.relevance import ANY_OVERLAP

SEED = 0  # of the random ranking
RULES = (ANY_OVERLAP, "exact_set", "jaccard>=0.5")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which rows query which, by which labels, and how deep."""

    queries: Int[np.ndarray, " q"]  # rows of the records
    gallery: Int[np.ndarray, " r"]
    query_labels: Bool[np.ndarray, "q l"]
    gallery_labels: Bool[np.ndarray, "r l"]
    k: int
    same_place: Excluded | None = None  # images of a query's own place, if there are any

    @functools.cached_property
    def task(self) -> Task:
        """What is scored."""
        return Task(self.query_labels, self.gallery_labels, RULES)

    @functools.cached_property
    def apart(self) -> Task:
        """What is scored where no query is answered by its own place."""
        return dataclasses.replace(self.task, excluded=self.same_place)

    @functools.cached_property
    def depth(self) -> int:
        """How many hits are needed for k of them to be of other places."""
        more = 0 if self.same_place is None else int(self.same_place.counts().max(initial=0))
        return min(self.k + more, len(self.gallery))

    def rank(
        self, queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
    ) -> tuple[Float[np.ndarray, "q n"], Int[np.ndarray, "q n"]]:
        """Returns the best gallery places of each query by inner product, and their scores."""
        return exact.top_k(queries, gallery, self.depth)

    def score(self, ranking: Int[np.ndarray, "q n"]) -> dict[str, Score]:
        """Returns every named metric of the first k hits."""
        return intervals.scores(measure(self.task, ranking, self.k), catalogue.at_k(RULES))

    def score_apart(self, ranking: Int[np.ndarray, "q n"]) -> dict[str, Score]:
        """Returns every named metric of the first k hits of other places."""
        return intervals.scores(measure(self.apart, ranking, self.k), catalogue.at_k(RULES))


class Scored:
    """The lines of the table, and of the one without a query's own place."""

    def __init__(self, protocol: Protocol):
        self.protocol = protocol
        self.all: list[table.Line] = []
        self.apart: list[table.Line] = []

    def add(self, name: str, form: str, ranking: Int[np.ndarray, "q n"]) -> None:
        """Scores a ranking of the protocol's depth."""
        self.all.append(table.line(name, form, self.protocol.score(ranking)))
        if self.protocol.same_place is not None:
            self.apart.append(table.line(name, form, self.protocol.score_apart(ranking)))

    def add_references(self) -> None:
        """Scores what looks at nothing."""
        queries, depth = len(self.protocol.queries), self.protocol.depth
        labels = self.protocol.gallery_labels
        chance = reference.random_ranking(queries, len(labels), depth, SEED)
        self.add("random ranking", "", chance)
        self.add("label prior", "", reference.label_prior_ranking(labels, queries, depth))

    def add_forms(self, name: str, vectors: Float[np.ndarray, "r d"]) -> None:
        """Scores a descriptor in every form."""
        for form, pair in each_form(*np.split(vectors, [len(self.protocol.queries)])):
            self.add(name, form, self.protocol.rank(*pair)[1])
