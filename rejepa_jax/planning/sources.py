"""Which line of source an instruction of a compiled program comes from."""

import re
from collections import defaultdict

Frames = dict[int, tuple[str, int, int]]  # of the call stack: file, line, frame of the caller
OURS = "rejepa_jax/"
TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_ENTRY = re.compile(r"^(\d+) (?:\"(.*)\"|\{(.*)\})$")


def read_frames(text: str) -> Frames:
    """Reads the tables of the call stack; a caller is written one higher than its number."""
    tables: dict[str, dict[int, str]] = defaultdict(dict)
    table = ""
    for line in text.splitlines():
        if line in TABLES:
            table = line
        elif table and (found := _ENTRY.match(line)):
            tables[table][int(found[1])] = found[2] or found[3]
        elif line.startswith(("%", "ENTRY")):
            break
    places = {}
    for number, entry in tables["FileLocations"].items():
        fields = _fields(entry)
        places[number] = (tables["FileNames"][fields["file_name_id"]], fields["line"])
    frames = {}
    for number, entry in tables["StackFrames"].items():
        fields = _fields(entry)
        frames[number] = (*places[fields["file_location_id"]], fields["parent_frame_id"] - 1)
    return frames


def source(attributes: str, frames: Frames) -> str:
    """Returns `file.py:line` of our own innermost line behind an instruction's attributes.

    Without one it is the innermost line of others, else what JAX calls the operation, else "".
    """
    number = re.search(r"stack_frame_id=(\d+)", attributes)
    frame, places = int(number[1]) if number else 0, []
    while frame in frames:
        file, line, frame = frames[frame]
        places.append((file, line))
    if plain := re.search(r'source_file="([^"]*)" source_line=(\d+)', attributes):
        places.append((plain[1], int(plain[2])))
    ours = [place for place in places if OURS in place[0]]
    for file, line in ours or places[:1]:
        return f"{file.rpartition(OURS)[2].rpartition('site-packages/')[2]}:{line}"
    operation = re.search(r'op_name="([^"]*)"', attributes)
    return operation[1] if operation else ""


def _fields(entry: str) -> dict[str, int]:
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", entry)}
