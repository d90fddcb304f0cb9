"""The boxes of fMoW's JSON: what is said of them, and how much ground around them is shown."""

import json
from typing import Any

from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.archives.fmow.tables import CATEGORIES, bounds, utc

# How much of a box's side is added to it, by the side's share of the picture's; else 0.15.
CONTEXT = ((0.1, 2.0), (0.2, 1.0), (0.3, 0.5), (0.4, 0.3), (0.5, 0.2))


def read_boxes(files: ArchiveFiles, note: str, picture: str) -> list[dict[str, Any]]:
    """Reads the JSON `note` on a picture; gives the facts on each of its boxes.

    These are `box` (left, top, width, height in pixels), `datetime`, `centre` (longitude, latitude;
    () = unknown) and, where known, `category` and `transform`, which says where the picture lies in
    EPSG:4326. A box that is of no use has `left_out`, the reason. If the JSON cannot be used, one
    entry has `fault`, which tells it.
    """
    try:
        content = json.loads(files.read(note)) if note else {}
        boxes = content["bounding_boxes"]  # a single one is not always in a list
        time = utc(str(content.get("timestamp", "")))
        boxes = boxes if isinstance(boxes, list) else [boxes]
        return [{"datetime": time} | _describe(box) for box in boxes]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = (
            f"image {picture}: got {error!r} for its JSON {note!r}, expected bounding_boxes of "
            "box: [left, top, width, height] and a known category; download it again or set "
            "--config.data.selection=full for whole pictures"
        )
        return [{"fault": fault}]


def _describe(box: dict[str, Any]) -> dict[str, Any]:
    left, top, width, height = map(int, box["box"])
    category = box.get("category", CATEGORIES[0])
    if category == "false_detection":  # no kind of place: two of them are not alike
        return {"left_out": "false detections"}
    if width <= 2 or height <= 2:
        return {"left_out": "boxes of 2 pixels or less"}
    CATEGORIES.index(category)
    facts: dict[str, Any] = {"box": [left, top, width, height]}
    if "category" in box:
        facts["category"] = category
    ground = bounds(str(box.get("raw_location", "")))
    facts["centre"] = ((ground[0] + ground[2]) / 2, (ground[1] + ground[3]) / 2) if ground else ()
    if ground:
        a, e = (ground[2] - ground[0]) / width, (ground[1] - ground[3]) / height
        facts["transform"] = (a, 0.0, ground[0] - a * left, 0.0, e, ground[3] - e * top)
    return facts


def square_around(box: list[int], height: int, width: int) -> tuple[int, int, int]:
    """Gives top, left and side of the square that is cut out for a box of a picture.

    Each side of the box grows by a share of itself, half at each end, as far as the picture
    reaches: by 2 where it is less than a tenth of the picture's side, by 1 below two tenths, by
    0.5, 0.3 and 0.2 below three, four and five, else by 0.15. The numbers are those of the data
    set's authors (github.com/fMoW/baseline), who compare width with height and squeeze what they
    cut into a square; here like is compared with like, and the shorter side grows to the longer
    one, or to the picture's. The square lies about the middle of the box, inside the picture.
    """
    left, right = _grow(box[0], box[2], width)
    top, bottom = _grow(box[1], box[3], height)
    side = min(max(right - left, bottom - top), height, width)
    top = min(max((top + bottom - side) // 2, 0), height - side)
    left = min(max((left + right - side) // 2, 0), width - side)
    return top, left, side


def _grow(start: int, length: int, limit: int) -> tuple[int, int]:
    share = next((share for below, share in CONTEXT if length / limit < below), 0.15)
    margin = int(length * share / 2)
    return max(start - margin, 0), min(start + length + margin, limit)
