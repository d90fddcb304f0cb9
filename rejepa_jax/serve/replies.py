"""What the API gives."""

from typing import Literal

from pydantic import BaseModel, Field


class Failure(BaseModel):
    """Why a request was not served."""

    error: str = Field(examples=["got k = 0, expected 1 to 1000; change k"])


class Item(BaseModel):
    """One image of the collection, as far as it is known."""

    row: int
    id: str
    uuid: str
    labels: list[str]
    split: str
    sensor: str
    collection: str
    datetime: str = Field(description='ISO 8601, "" = unknown')
    place: str = Field(description="images of one place share it; '' = unknown")
    lon: float | None
    lat: float | None
    bbox: list[float] | None
    thumbnail: str | None = Field(description="URL of a WebP")


class HitOut(Item):
    """One answer."""

    rank: int = Field(description="from 1")
    score: float = Field(description="cosine")


class Answer(BaseModel):
    """The hits of one query, best first."""

    version: str = Field(description="of the collection that answered")
    searched: int = Field(description="images searched")
    allowed: int = Field(description="of them, those that the filters allow")
    took_ms: float
    notes: list[str] = Field(description="what was done with the query, for people")
    hits: list[HitOut]


class IndexInfo(BaseModel):
    """How the collection is searched."""

    kind: str
    recall_at_10: float | None = Field(description="against exact search, measured when built")


class QueryInfo(BaseModel):
    """What an uploaded image has to be."""

    sensor: str
    bands: list[str]
    dtype: str
    height: int
    width: int
    formats: list[str]


class Limits(BaseModel):
    """What one request may hold."""

    max_body: int
    max_pixels: int
    max_uploads: int
    max_k: int


class Info(BaseModel):
    """What is searched here, by what."""

    name: str
    rows: int
    dim: int
    fingerprint: str
    version: str
    index: IndexInfo
    encoder: str
    labels: list[str]
    sensors: list[str]
    collections: list[str]
    splits: list[str]
    dates: list[str] | None
    bbox: list[float] | None
    has_places: bool
    has_thumbnails: bool
    query: QueryInfo
    limits: Limits


class Points(BaseModel):
    """GeoJSON: where images lie, spread evenly over all of them."""

    type: Literal["FeatureCollection"]
    version: str = Field(description="of the collection, in which the rows are numbers")
    features: list[dict]
