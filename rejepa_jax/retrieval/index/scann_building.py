"""ScaNN's own building, run in a process of its own; it imports no more than that needs."""

from pathlib import Path
from typing import Any

import numpy as np

TRAINING_ROWS = 250_000


def build(directory: str, source: str, recipe: dict[str, Any], depth: int) -> None:
    """Builds and writes a ScaNN index of the vectors in the file `source` of the folder."""
    import scann  # optional, and only on Linux

    vectors = np.load(Path(directory, source), allow_pickle=False)
    builder = scann.scann_ops_pybind.builder(vectors, 10, "dot_product")
    if recipe:
        builder = builder.tree(
            recipe["leaves"],
            recipe["leaves_to_search"],
            training_sample_size=min(len(vectors), TRAINING_ROWS),
            spherical=True,  # unit vectors: as good with a third of the leaves
        )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(depth)
    else:
        builder = builder.score_brute_force()
    # ScaNN's default writes absolute paths, which break when the folder is published.
    builder.build().serialize(directory, relative_path=True)
