"""The records that rooms pass to one another, the errors they raise, and the dimension letters.

Dimension letters, the same in every signature: `b` batch, `h w` height and width, `c` bands,
`n` grid patches, `k` context tokens, `t` target tokens of a group, `m` target groups, `d` features,
`v` augmented views, `r` rows of a gallery, `q` queries.
"""

from typing import TypedDict

import jax
from jaxtyping import Array, Bool, Float, Int


class DataError(ValueError):
    """Data cannot be used as it is; the message names file and record (exit code 3)."""


class Interrupted(RuntimeError):  # noqa: N818  it is no error
    """Asked to stop: what was begun is saved, and the same command goes on (exit code 75)."""


class ConfigError(ValueError):
    """A setting or a command cannot be used as it is; the message says what to change (exit 2)."""


class Batch(TypedDict):
    """One step's images, still in the archive's own dtypes.

    `image` holds one array a sensor, so that paired methods need no other batch; `id` is the row
    of each image in the records; `valid` is false where the last batch of a pass was padded.
    """

    image: dict[str, jax.Array]
    id: Int[Array, " b"]
    valid: Bool[Array, " b"]


class Masks(TypedDict):
    """Which tokens are seen and which are predicted, as indices into the grid, row by row.

    Entries that are not valid only fill the arrays up; None where all of them are valid.
    """

    context: Int[Array, "b k"]
    target: Int[Array, "b m t"]
    context_valid: Bool[Array, "b k"] | None
    target_valid: Bool[Array, "b m t"] | None


Metrics = dict[str, Float[Array, ""]]
Views = tuple[dict[str, Float[Array, "b h w c"]], ...]
