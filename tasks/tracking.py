"""Tracking: one MLflow run for each run of a flow, with its accuracy, its time and its cost."""

import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psutil

from tasks.attempts import FLOW_RUN, adopt_attempts
from tasks.databases import check_mlflow_database
from tasks.engines import are_off
from tasks.metering import Meter, metered
from tasks.settings import settings
from tasks.showing import show_links, show_note, show_table
from tasks.signs import LastSign
from tasks.viewing import offer_view, run_page, runs_page
from twinloop.errors import ServiceError
from twinloop.logplan import LogItem, Metric, Note, Param, Plot, Table, Tag, Text, plan_bill
from twinloop.vocabulary import RunKind
from twinloop.window import Window, format_instant
from twinloop.workload import Workload

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VERBS: dict[RunKind, str] = {
    "preparation": "prepare",
    "training": "train",
    "candidate": "try",
    "tuning": "tune",
    "trial": "trial",
    "inference": "score",
    "monitoring": "watch",
    "retraining": "retrain",
    "promotion": "promote",
    "reproduction": "reproduce",
    "replay": "replay",
}
# What stands for the accuracy of a run that has none, by how it ended.
_WITHOUT = {
    "FINISHED": "none: nothing was measured",
    "FAILED": "none: failed",
    "KILLED": "none: interrupted",
}
_ADDRESS = "MLFLOW_TRACKING_URI"
_BATCH = 100
_PROBE_SECONDS = 5.0


@dataclass
class TrackedRun:
    """An open MLflow run.

    Attributes
    ----------
    run_id
        MLflow's.
    as_of
        The moment it is meant for, UTC.
    replay
        Run id of the replay it belongs to; empty outside of one.
    rows
        How many rows the run dealt with, once known.
    held
        What is to be logged when the run closes, where engines are off.
    flow_run
        Prefect's id of the flow run it is, or is a part of; empty outside of one.
    accurate
        Whether it has logged an accuracy.
    interrupted
        Whether somebody asked to stop when its work was done: it ends as finished, and then stops.
    """

    run_id: str
    workload: Workload
    meter: Meter
    as_of: datetime
    replay: str
    rows: int | None = None
    held: list[LogItem] = field(default_factory=list)
    flow_run: str = ""
    accurate: bool = False
    interrupted: bool = False

    def log(self, items: Iterable[LogItem]) -> None:
        """Log items to MLflow, and tables and notes to the page of the flow run."""
        planned = list(items)
        accuracies = (
            i for i in planned if isinstance(i, Metric) and i.name.startswith("accuracy/")
        )
        self.accurate |= any(not math.isnan(i.value) for i in accuracies)
        if are_off():
            # Nobody looks in the meantime: one writing instead of many, and no pictures.
            self.held += (item for item in planned if not isinstance(item, Plot))
            return
        log_items(self.run_id, planned)
        for item in planned:
            if isinstance(item, Table):
                show_table(self.workload, item)
            elif isinstance(item, Note):
                show_note(self.workload, item)


_CURRENT: ContextVar[TrackedRun | None] = ContextVar("run", default=None)


def client() -> "MlflowClient":
    """Return a client of MLflow, its address checked and its store made ready.

    Raises
    ------
    ServiceError
        If MLflow does not answer.
    """
    here = settings()
    quiet()
    import mlflow

    _reach(here.mlflow_uri)
    given = os.environ.get(_ADDRESS)
    mlflow.set_tracking_uri(here.mlflow_uri)
    mlflow.set_registry_uri(here.mlflow_uri)
    if given is None:
        # MLflow writes it down in the environment, where it would outlive a change of settings.
        os.environ.pop(_ADDRESS, None)
    return mlflow.MlflowClient()


def quiet() -> None:
    """Keep MLflow from calling home, from progress bars and from chatter; before its import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # Where nobody reads the output any more, a run would fail for having finished.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


_reached: set[str] = set()


def _reach(uri: str) -> None:
    """Ask once whether MLflow is there: its absence is one error, no minutes of retries."""
    if uri in _reached:
        return
    if uri.startswith("http"):
        _reach_server(uri)
    elif uri.startswith("sqlite:///"):
        try:
            folder = settings().store
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise ServiceError(f"cannot make MLflow's store {str(folder)!r}: {err}.") from err
        check_mlflow_database(uri)
    _reached.add(uri)


def _reach_server(uri: str) -> None:
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + settings().patience
    while True:
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS):  # noqa: S310 - the scheme was checked
                return
        except urllib.error.HTTPError as err:
            if err.code in (401, 403):
                return  # it is there and wants credentials, which the client sends
            raise ServiceError(f"MLflow at {uri} answers {err.code}.") from err
        except OSError as err:
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"MLflow at {uri} does not answer: {err}.",
                    "Start it, or unset MLFLOW_TRACKING_URI to use the embedded store.",
                ) from err
        time.sleep(1.0)


def experiment_id(mlflow_client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, made where it is missing."""
    from mlflow.exceptions import MlflowException

    found = mlflow_client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    here = settings()
    local = here.mlflow_uri.startswith("sqlite")
    place = (here.store / "artifacts" / name).as_uri() if local else None
    try:
        return str(mlflow_client.create_experiment(name, artifact_location=place))
    except MlflowException:
        # Another process was faster.
        again = mlflow_client.get_experiment_by_name(name)
        if again is None:
            raise
        return str(again.experiment_id)


@contextmanager
def tracked_run(
    workload: Workload, kind: RunKind, *, window: Window | None, as_of: datetime, what: str = ""
) -> Iterator[TrackedRun]:
    """Open an MLflow run, and close it with its bill and its state, whatever happens.

    Runs opened within become its children.

    Parameters
    ----------
    workload
        Gives the experiment and the prices.
    kind
        Which of the loops' jobs this is.
    window
        The data it is about.
    as_of
        The moment it is meant for, UTC.
    what
        A word for the run's name, where kind and time do not tell.
    """
    from mlflow.exceptions import MlflowException

    mlflow_client = client()
    try:
        experiment = experiment_id(mlflow_client, workload.experiment)
        if _CURRENT.get() is None and not are_off():
            offer_view(mlflow_client, experiment, workload)
        name = " ".join(filter(None, (_VERBS[kind], workload.id, what, format_instant(as_of))))
        tags = run_tags(workload, kind, window, as_of)
        run_id = mlflow_client.create_run(experiment, run_name=name, tags=tags).info.run_id
        replay = tags.get("twinloop.replay", "")
        if kind == "replay" and not replay:
            replay = run_id
    except MlflowException as err:
        raise ServiceError(f"MLflow at {settings().mlflow_uri} refuses a run: {err}") from err
    _link_pages(workload, kind, experiment, run_id)
    sign = LastSign(workload.id, run_id)
    with metered() as meter:
        meter.on_beat(sign.write)
        run = TrackedRun(run_id, workload, meter, as_of, replay, flow_run=flow_run_id())
        _take_over(mlflow_client, experiment, run)
        token = _CURRENT.set(run)
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        except Exception as err:
            # A failed run says why; what it says must not hide the error itself.
            with suppress(MlflowException):
                mlflow_client.set_tag(run_id, "twinloop.error", str(err)[:4000])
            raise
        finally:
            _CURRENT.reset(token)
            _close(mlflow_client, run, status, sign)
    if run.interrupted:
        raise KeyboardInterrupt


def _take_over(mlflow_client: "MlflowClient", experiment: str, run: TrackedRun) -> None:
    """Where Prefect tries a flow run again, take what it tried before into the bill."""
    from prefect.runtime import flow_run

    if run.flow_run and (flow_run.run_count or 0) > 1 and not _is_part(_CURRENT.get()):
        adopt_attempts(mlflow_client, experiment, run.run_id, run.flow_run, run.meter)
        mlflow_client.set_tag(run.run_id, "twinloop.attempt", str(flow_run.run_count))


def flow_run_id() -> str:
    """Return Prefect's id of the flow run this is called in; empty outside of one."""
    from prefect.runtime import flow_run

    return flow_run.id or ""


def _is_part(around: TrackedRun | None) -> bool:
    """Tell whether what is opened here is a part of the flow run that an open run stands for."""
    return around is not None and around.flow_run == flow_run_id()


def run_tags(
    workload: Workload, kind: RunKind, window: Window | None, as_of: datetime
) -> dict[str, Any]:
    """Return the tags that every run has; its parent is the run that is open here.

    A flow run's id is on one run alone: its parts, like candidates, link to its page.
    """
    from prefect.runtime import flow_run

    parent = _CURRENT.get()
    tags = {
        "twinloop.kind": kind,
        "twinloop.workload": workload.id,
        "twinloop.window": str(window or "all"),
        "twinloop.as_of": format_instant(as_of),
        "twinloop.currency": workload.prices.currency,
        "twinloop.prices": workload.prices.model_dump_json(),
        "twinloop.process": _this_process(),
    }
    if flow_run.id:
        if not _is_part(parent):
            tags[FLOW_RUN] = flow_run.id
        tags["twinloop.prefect_url"] = flow_run.ui_url or ""
        tags["mlflow.note.content"] = (
            f"{kind} of `{workload.id}`, window {window or 'all'}, "
            f"meant for {format_instant(as_of)}.\n\n[Its flow run in Prefect]({flow_run.ui_url})"
        )
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.run_id
        if parent.replay:
            tags["twinloop.replay"] = parent.replay
    return tags


def _link_pages(workload: Workload, kind: RunKind, experiment: str, run_id: str) -> None:
    """Put links to MLflow on the page of the flow run, where MLflow has pages."""
    page = settings().mlflow_page or settings().mlflow_uri
    if page.startswith("http") and kind not in ("candidate", "tuning", "promotion"):
        links = {
            f"this {kind}": run_page(page, experiment, run_id),
            "all runs": runs_page(page, experiment),
        }
        show_links(workload, "In MLflow", links)


def _close(mlflow_client: "MlflowClient", run: TrackedRun, status: str, sign: LastSign) -> None:
    around, prices = _CURRENT.get(), run.workload.prices
    flow_level = around is None or not _is_part(around)
    bill = plan_bill(run.meter.usage(), prices, run.rows, known=run.accurate, flow_level=flow_level)
    run.log([*bill, *([] if run.accurate else [Tag("twinloop.accuracy", _WITHOUT[status])])])
    if run.held:
        log_items(run.run_id, run.held)
    sign.drop()
    mlflow_client.set_terminated(run.run_id, status)


def log_items(run_id: str, items: Iterable[LogItem]) -> None:
    """Log a plan: numbers and words in one batch, files one by one."""
    mlflow_client, planned = client(), list(items)
    metrics, params, tags = run_entities(planned)
    for item in planned:
        match item:
            case Text(path, content):
                mlflow_client.log_text(run_id, content, path)
            case Plot(path):
                mlflow_client.log_figure(run_id, item.figure, path, save_kwargs={"dpi": 100})
    for start in range(0, max(len(metrics), len(params), len(tags)), _BATCH):
        part = slice(start, start + _BATCH)
        mlflow_client.log_batch(run_id, metrics[part], params[part], tags[part])


def run_entities(items: Iterable[LogItem]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the numbers, settings and words of a plan as MLflow's metrics, params and tags."""
    from mlflow import entities

    now = int(time.time() * 1000)
    metrics, params, tags = [], [], []
    for item in items:
        match item:
            case Metric(name, value, step):
                metrics.append(entities.Metric(name, float(value), now, step))
            case Param(name, value):
                params.append(entities.Param(name, str(value)))
            case Tag(name, text):
                tags.append(entities.RunTag(name, text))
    return metrics, params, tags


def _this_process() -> str:
    """Name this process so that nothing else on any machine is called the same."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time()}"
