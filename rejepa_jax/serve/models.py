"""What the API takes, checked strictly: nothing is coerced, ignored or unbounded."""

import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rejepa_jax.serve.settings import MAX_DOWNLOAD, MAX_EXAMPLES, MAX_K

Id = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Names = Annotated[list[Name], Field(max_length=256)]
Ids = Annotated[list[Id], Field(max_length=MAX_EXAMPLES)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", examples=["2017-06-13"])]
Four = Field(min_length=4, max_length=4)


class Strict(BaseModel):
    """A body of which every field is known, of its own type and finite."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Crop(Strict):
    """A part of an image of the collection."""

    id: Id
    box: Annotated[list[Annotated[int, Field(ge=0, le=2**15)]], Four] = Field(
        description="x0, y0, x1, y1 in pixels of the stored image; x1 and y1 lie outside",
        examples=[[0, 0, 60, 60]],
    )


class Filters(Strict):
    """Which images may be hits; a list that is empty allows all."""

    bbox: Annotated[list[float], Four] | None = Field(
        None, description="west, south, east, north in degrees; west > east crosses 180°"
    )
    start: Day | None = Field(None, description="first day")
    end: Day | None = Field(None, description="last day")
    sensors: Names = []
    labels: Names = Field([], description="any of them")
    collections: Names = []
    splits: Names = []

    @model_validator(mode="after")
    def _check(self) -> "Filters":
        if self.bbox is not None:
            check_box(self.bbox)
        for day in (self.start, self.end):
            if day is not None:
                datetime.date.fromisoformat(day)  # its ValueError becomes ours
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} lies after end {self.end}")
        return self


def check_box(box: list[float]) -> None:
    """Refuses what is no box on Earth with a ValueError."""
    west, south, east, north = box
    if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90):
        raise ValueError("expected degrees west, south, east, north with south <= north")


class SearchRequest(Strict):
    """A query: examples for and against, a vector, a crop, a place; what is given is combined."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"positive": ["patch-7"], "k": 12}]})
    positive: Ids = Field([], description="ids of images to be like")
    negative: Ids = Field([], description="ids of images to be unlike")
    vector: Annotated[list[float], Field(min_length=1, max_length=16384)] | None = Field(
        None, description="a descriptor of the run's own encoder; brought to length 1"
    )
    crop: Crop | None = Field(None, description="takes the place of positive ids")
    point: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="lon, lat: the image nearest to it is the example"
    )
    k: int = Field(24, ge=1, le=MAX_K, description="hits; fewer come where fewer are allowed")
    filters: Filters = Filters()
    exclude_same_place: bool = Field(False, description="leave out places of the examples")

    @model_validator(mode="after")
    def _check(self) -> "SearchRequest":
        if self.crop is not None and self.positive:
            raise ValueError("crop: expected to be the only positive example, but for a point")
        if self.point is not None and not (abs(self.point[0]) <= 180 and abs(self.point[1]) <= 90):
            raise ValueError("point: expected lon, lat in degrees")
        return self

    @property
    def has_example(self) -> bool:
        """Whether it names anything to be like."""
        return bool(self.positive or self.vector or self.crop or self.point)


class DownloadRequest(Strict):
    """Hits to write into a file, in their order."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_DOWNLOAD)]
    scores: Annotated[list[float], Field(max_length=MAX_DOWNLOAD)] = Field(
        [], description="one for each id, or none"
    )

    @model_validator(mode="after")
    def _check(self) -> "DownloadRequest":
        if self.scores and len(self.scores) != len(self.ids):
            raise ValueError(f"{len(self.scores)} scores for {len(self.ids)} ids")
        return self


Form = Literal["geojson", "geoparquet", "csv", "json"]
