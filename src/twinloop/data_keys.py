"""The keys of a workload file on data: sources, columns, cleaning."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from twinloop.vocabulary import Frozen, Kind
from twinloop.window import as_utc


class TimeParts(Frozen):
    """Where a table has no time column: the columns it is put together from."""

    date: str = Field(description="Column with the date, ISO 8601")
    hour: str | None = Field(None, description="Column with the hour of the day, 0 to 23")


class FilesSource(Frozen):
    """Local Parquet or CSV files."""

    kind: Literal["files"]
    path: str = Field(description="A glob; relative paths start at Twinloop's home folder")
    time_from: TimeParts | None = Field(None, description="How to build the time column")


class BundledSource(Frozen):
    """A table that comes with scikit-learn."""

    kind: Literal["bundled"]
    dataset: Literal["breast_cancer", "diabetes", "digits"]


class SimulatedSource(Frozen):
    """The simulated city (see docs/simulated-data.md)."""

    kind: Literal["simulated"]
    generator: Literal["bikes"] = "bikes"
    seed: int = Field(0, ge=0)
    start: datetime = datetime.fromisoformat("2011-01-01T00:00:00+00:00")
    hours: int = Field(17_520, ge=1, description="Rows, one an hour")
    drift: bool = Field(True, description="Whether the documented drift events happen")

    @field_validator("start")
    @classmethod
    def _whole_hour(cls, value: datetime) -> datetime:
        """Read a time without a zone as UTC, as everywhere; the city counts whole hours."""
        utc = as_utc(value)
        if utc != utc.replace(minute=0, second=0, microsecond=0):
            raise ValueError("expected a whole hour of UTC, like 2011-01-01 or 2011-01-01T06:00Z")
        return utc


Source = Annotated[FilesSource | BundledSource | SimulatedSource, Field(discriminator="kind")]


class ColumnRule(Frozen):
    """What is known of a column beforehand; it overrides what would be learned."""

    kind: Kind | None = None
    minimum: float | None = Field(None, description="Smaller values are impossible")
    maximum: float | None = Field(None, description="Larger values are impossible")
    required: bool = Field(False, description="A row without it is quarantined")
    levels: tuple[str, ...] | None = Field(None, description="The only levels there can be")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and low > high:
            raise ValueError(f"minimum {low:g} is above maximum {high:g}; no value can be right")
        if self.levels is not None and self.kind not in (None, "category"):
            raise ValueError(f"a column of kind {self.kind!r} has no levels; only a category has")
        return self


class Cleaning(Frozen):
    """What happens to training rows before they become a snapshot."""

    duplicates: Literal["fail", "first", "last"] = Field(
        "fail", description="Rows with one key but different content"
    )
    outliers: float | None = Field(
        None, gt=0, description="Drop rows further than this many interquartile ranges off"
    )
