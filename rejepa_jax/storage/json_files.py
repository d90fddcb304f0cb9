"""JSON files: written whole or not at all, and read with a word on what is wrong."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from rejepa_jax.types import DataError


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        json.dump(plain(content), file, indent=1, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file; raises a DataError if it is damaged."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: got {error}, expected JSON; remove {path.parent} and run again"
        ) from error


def plain(content: Any) -> Any:
    """Turns tuples and dataclasses into what JSON gives back, so that both compare equal."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(item) for item in content]
    return content
