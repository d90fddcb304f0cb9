"""Which of several runs finds what: hits of one alone, and hits that they share."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from rejepa_jax.report.gallery import Answer, Hit, Picture

Hits = Int[np.ndarray, "q k"]  # rows of the records, -1 for none


@dataclasses.dataclass(frozen=True)
class Found:
    """A hit of one run, and how many of the runs have it among their hits of the query."""

    hit: Hit
    finders: int


@dataclasses.dataclass(frozen=True)
class Column:
    """What one run finds for a query."""

    hits: list[Found]

    @property
    def right(self) -> int:
        """How many hits are right."""
        return sum(found.hit.is_relevant for found in self.hits)

    @property
    def alone(self) -> int:
        """How many hits no other run has."""
        return sum(found.finders == 1 for found in self.hits)

    @property
    def right_alone(self) -> int:
        """How many of these are right."""
        return sum(found.finders == 1 and found.hit.is_relevant for found in self.hits)


@dataclasses.dataclass(frozen=True)
class Compared:
    """A query and what each run finds for it, a column a run."""

    query: Picture
    columns: list[Column]


def count_finders(hits: Sequence[Hits]) -> list[Hits]:
    """Returns for each hit of each run how many runs found it; 0 where there is no hit."""
    return [
        sum((ours[:, :, None] == theirs[:, None, :]).any(axis=2) for theirs in hits) * (ours >= 0)
        for ours in hits
    ]


def shares_alone(counts: Sequence[Hits]) -> list[float]:
    """Returns the share of each run's hits, over all queries, that no other run found."""
    return [float((count == 1).sum() / max((count > 0).sum(), 1)) for count in counts]


def mark(answers: Sequence[Sequence[Answer]], counts: Sequence[Hits]) -> list[Compared]:
    """Lines up each run's answers to the same queries, and says of every hit who has it."""
    return [
        Compared(
            of_query[0].query,
            [
                Column(
                    [Found(hit, int(n)) for hit, n in zip(answer.hits, count[place], strict=False)]
                )
                for answer, count in zip(of_query, counts, strict=True)
            ],
        )
        for place, of_query in enumerate(zip(*answers, strict=True))
    ]
