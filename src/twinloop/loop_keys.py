"""The keys of a workload file on what comes after training: the other loop, and the bill."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from twinloop.vocabulary import Frozen
from twinloop.window import Cron, Duration


class Inference(Frozen):
    """The inference loop."""

    schedule: Cron = Field("0 5 * * *", description="Cron, UTC")
    window: Duration = timedelta(days=1)
    catch_up: Duration = Field(
        timedelta(days=7), description="How far back a scheduled run makes up for missed windows"
    )
    batch_rows: int = Field(16_384, ge=1, description="Rows that a core scores at a time")
    part_rows: int = Field(
        250_000, ge=1, description="Rows to a file; a killed run goes on after the last one"
    )
    explanations: int = Field(
        0, ge=0, description="How many features to name with each prediction, by contribution"
    )
    shadow: float = Field(
        0.1, ge=0, le=1, description="Share of the rows that a challenger answers too, unpublished"
    )
    quarantine_limit: float = Field(
        0.05, ge=0, le=1, description="Share of quarantined rows above which the run fails"
    )


class Monitoring(Frozen):
    """The watch between the loops."""

    schedule: Cron = Field("0 6 * * *", description="Cron, UTC")
    window: Duration = timedelta(days=7)
    labels_after: Duration = Field(timedelta(days=1), description="When the truth is known")
    alpha: float = Field(
        0.01, gt=0, lt=0.5, description="Share of windows in which drift may be a false alarm"
    )
    min_effect: float = Field(
        0.03, ge=0, le=1, description="Smallest distance worth a word, beyond what chance makes"
    )
    tolerance: float = Field(0.05, ge=0, description="Relative rise of the error that may pass")


class Limits(Frozen):
    """What a model may take to be promoted."""

    latency_ms: float | None = Field(
        None, gt=0, description="Milliseconds to predict 1,000 rows in a batch"
    )
    size_mb: float | None = Field(None, gt=0, description="Megabytes of the saved model")


class Retraining(Frozen):
    """When a challenger is trained, and what it must show."""

    on: Literal["drift", "never"] = "drift"
    cooldown: Duration = timedelta(days=7)
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the verdict, one-sided")
    min_rows: int = Field(30, ge=1, description="Fresh rows a verdict needs")
    margin: float = Field(
        0.0, ge=0, lt=1, description="Share of the champion's loss that a challenger must save"
    )
    slices: bool = Field(True, description="Whether a slice that gets clearly worse is a veto")
    jury: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of what was known of rows accepted earlier that must be left; none: "
        "they are not asked",
    )
    rollback: Literal["auto", "never"] = Field(
        "auto", description="Whether a new champion that its predecessor beats is taken back"
    )
    limits: Limits = Limits()
    min_new_rows: int = Field(
        60, ge=1, description="Labelled rows newer than the champion's that a retraining needs"
    )
    probe_after: Duration | None = Field(
        timedelta(days=14),
        description="Time since the last call for a retraining after which new labels alone are "
        "reason to ask what a refresh would bring; none: they never are",
    )
    search: Literal["auto", "always", "never"] = Field(
        "auto",
        description="When all candidates compete again: auto: where a refresh will not do",
    )
    search_gain: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the error that a search must be expected to save to be worth it",
    )
    search_after: Duration | None = Field(
        None, description="A recipe older than this is searched anew; none: two training windows"
    )
    histories: Literal["auto", "own"] = Field(
        "auto",
        description="auto: how far back a refresh reaches is chosen on the newest labelled rows; "
        "own: training.window",
    )
    continuing: bool = Field(
        True,
        description="Whether a refresh of XGBoost may grow the champion's trees on, where that "
        "does better than fitting them anew",
    )


Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(Frozen):
    """What the machine costs."""

    currency: str = "EUR"
    core_hour: Price = Field(0.04, description="An hour of CPU time")
    gb_hour: Price = Field(0.005, description="A gigabyte of memory held for an hour")
    gpu_hour: Price = Field(2.0, description="A GPU held for an hour")
    kwh: Price = 0.30
    storage_gb_month: Price = Field(0.02, description="A gigabyte kept for a month")
    grams_co2_per_kwh: Price = 300.0
    watts_per_core: Price = Field(10.0, description="For the estimate of energy")
