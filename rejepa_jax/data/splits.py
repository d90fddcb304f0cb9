"""Splits without leaks: all images of one ground fall into one split, whatever their number."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from rejepa_jax.config import Data
from rejepa_jax.console import Progress
from rejepa_jax.data.archives import footprints
from rejepa_jax.data.archives.files import Archive, Item
from rejepa_jax.data.blocks import Centre, around, find_block
from rejepa_jax.types import ConfigError, DataError

SPLITS = ("train", "validation", "test")  # the order of `data.split_shares`
AT_ONCE = 1024  # images whose place is read for
THREADS = 8
Leak = dict[str, Any]  # splits: two of them; text: how many places, for people


def assign(archive: Archive, data: Data, gap_km: float = 0.0) -> Archive:
    """Deals the images out anew as `data.split_by` says; `archive` leaves them where they are.

    location: by what the archive calls one place. block: by the block of ground that an image's
    middle lies in, whole. At a border of blocks images of two splits are neighbours, and share
    ground where they overlap (scenes of other dates or tiles, patches closer than their size). So
    that they do not, images nearer than `gap_km` to a block of a later split, of train, validation
    and test, are left out: give the diagonal of an image.

    Groups are ordered by the sha256 of their name, laid end to end and cut where the shares are
    reached: the same on any machine and in any order of the files, and as near to the shares as
    whole groups allow. (A threshold on the hash would leave every group in its split when others
    are added, but misses the shares by far where groups are few.)

    Raises:
        ConfigError: places are unknown, or there are too few of them for the shares.
    """
    if data.split_by == "archive":
        return archive
    centres: list[Centre | None] = []
    if data.split_by == "block":
        centres = find_centres(archive)
        groups = [find_block(centre, data.block_km) for centre in centres]
    else:
        groups = [None if "fault" in item.facts else item.place for item in archive.items]
    _refuse_unknown(archive.items, groups, data.split_by)
    split_of = deal(collections.Counter(filter(None, groups)), data.split_shares)
    # What cannot be read has no place: prepare will find it unusable, in whatever split.
    items = [
        dataclasses.replace(item, split=split_of.get(group or "", SPLITS[0]))
        for item, group in zip(archive.items, groups, strict=True)
    ]
    if gap_km and centres:
        items = list(_apart(items, centres, split_of, data.block_km, gap_km))
    _tell(archive.items, items, split_of, data)
    items.sort(key=lambda item: (item.split, item.id))
    return dataclasses.replace(archive, items=tuple(items))


def deal(sizes: Mapping[str, int], shares: Sequence[float]) -> dict[str, str]:
    """Gives each group the split that its middle falls into when all lie end to end."""
    total, done, split_of = sum(sizes.values()), 0, {}
    limits = [total * share for share in itertools.accumulate(shares)]
    last = max(place for place, share in enumerate(shares) if share)
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        middle = done + sizes[group] / 2
        place = next((place for place, limit in enumerate(limits) if middle < limit), last)
        split_of[group] = SPLITS[place]
        done += sizes[group]
    return split_of


def find_centres(archive: Archive) -> list[Centre | None]:
    """Finds the middle of each image's ground: () if it has none, None if it cannot be read.

    Layouts that know it at listing have put it into the items' facts; else every image is read,
    its pixels too, by a few threads.
    """
    items = archive.items
    known = [item.facts.get("centre", () if "fault" in item.facts else None) for item in items]
    if None not in known:
        return [None if "fault" in item.facts else c for item, c in zip(items, known, strict=True)]
    logging.info("splits: the listing does not say where the images are; all are read for that")
    progress, centres = Progress("find places", len(items), "images"), []

    def find(item: Item) -> Centre | None:
        try:
            geometry = archive.read(archive.files, item, archive.schema).geometry
        except (DataError, FileNotFoundError):
            return None
        return footprints.centre(geometry) if geometry else ()

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), AT_ONCE):
            centres += pool.map(find, items[start : start + AT_ONCE])
            progress.update(len(centres))
    return centres


def find_leaks(archive: Archive) -> list[Leak]:
    """Finds places with images in more than one split, and warns of them."""
    splits_of: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for item in archive.items:
        if item.place:
            splits_of[item.place][item.split] += 1
    shared: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for place, counts in splits_of.items():
        for pair in itertools.combinations(sorted(counts), 2):
            shared[pair].append(place)
    leaks = []
    for (one, other), places in sorted(shared.items()):
        images = [sum(splits_of[place][split] for place in places) for split in (one, other)]
        text = (
            f"{len(places)} of {len(splits_of)} places are both in {one} ({images[0]} images) and "
            f"in {other} ({images[1]} images), such as {min(places)}"
        )
        logging.warning("SPLITS LEAK: %s; config.data.split_by = location mends it", text)
        leaks.append({"splits": [one, other], "text": text})
    return leaks


def refuse_leaks(leaks: Sequence[Leak], queries: str, gallery: str, is_allowed: bool) -> None:
    """Raises a ConfigError if queries would find the same ground and that is not `is_allowed`."""
    for leak in leaks:
        if {queries, gallery} == set(leak["splits"]) and not is_allowed:
            raise ConfigError(
                f"{leak['text']}: queries would find the same ground at another date; set "
                "config.data.split_by = location, or allow it with config.eval.shared_places = True"
            )


def _refuse_unknown(items: Sequence[Item], groups: Sequence[str | None], by: str) -> None:
    unknown = [item.id for item, group in zip(items, groups, strict=True) if group == ""]
    if unknown:
        what = "a place" if by == "location" else "a footprint with a CRS"
        raise ConfigError(
            f"config.data.split_by = {by}: got {len(unknown)} of {len(items)} images without "
            f"{what}, such as {unknown[0]}, expected one of each; choose another way to split, or "
            "leave them out"
        )


def _apart(
    items: Sequence[Item],
    centres: Sequence[Centre | None],
    split_of: Mapping[str, str],
    block_km: float,
    gap_km: float,
) -> Iterator[Item]:
    """Yields the images that are not within the gap of a block of a later split."""
    if gap_km > block_km:
        raise ConfigError(
            f"config.data.block_gap_km = {gap_km}: at most config.data.block_km = {block_km}"
        )
    for item, centre in zip(items, centres, strict=True):
        later = SPLITS[SPLITS.index(item.split) + 1 :]
        near = around(centre, gap_km) if centre else ()
        if all(split_of.get(find_block(place, block_km) or "") not in later for place in near):
            yield item


def _tell(
    before: Sequence[Item], items: Sequence[Item], split_of: Mapping[str, str], data: Data
) -> None:
    counts = collections.Counter(item.split for item in items)
    logging.info(
        "splits: %d groups by %s, images: %s; %d left out between blocks of two splits",
        *(len(split_of), data.split_by, {split: counts[split] for split in SPLITS}),
        len(before) - len(items),
    )
    pairs = zip(SPLITS, data.split_shares, strict=True)
    if missing := [split for split, share in pairs if share and not counts[split]]:
        raise ConfigError(
            f"config.data.split_by = {data.split_by}: got no image for {', '.join(missing)} out of "
            f"{len(split_of)} groups, expected the shares {data.split_shares}; lower "
            "config.data.block_km, or change the shares"
        )
