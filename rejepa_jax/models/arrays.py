"""Parameters by name: a module tree as a flat dict of arrays, which is what lies on disk."""

from typing import Any, TypeVar

import jax

from rejepa_jax.types import DataError

Tree = TypeVar("Tree")


def named_arrays(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by path, such as `context_encoder/blocks/mlp/up/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def with_arrays(tree: Tree, arrays: dict[str, Any], source: str) -> Tree:
    """Returns `tree` with every leaf replaced by the array of its name.

    Raises:
        DataError: a name is missing or left over, or a shape or dtype differs; names the array
            and `source`.
    """
    like = named_arrays(tree)
    for name in sorted(like.keys() ^ arrays.keys()):
        side = "missing from" if name in like else "not expected in"
        raise DataError(f"{source}: array {name!r} is {side} the file; was it made by this model?")
    for name, leaf in like.items():
        got, want = arrays[name], (leaf.shape, leaf.dtype)
        if (got.shape, got.dtype) != want:
            raise DataError(
                f"{source}: array {name!r} is {got.dtype}{list(got.shape)}, expected "
                f"{leaf.dtype}{list(leaf.shape)}; give the config that the file was made with"
            )
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in like])


def count_parameters(tree: Any) -> int:
    """Returns the number of numbers in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _name(path: tuple[Any, ...]) -> str:
    """Joins the steps of a path, without the variable box that NNX puts around an array."""
    steps = [
        str(getattr(step, "key", getattr(step, "name", getattr(step, "idx", step))))
        for step in path
    ]
    return "/".join(step for step in steps if step not in ("value", "raw_value"))
