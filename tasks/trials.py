"""Trials in MLflow: each a run of its own, written once it has ended, beside those that run."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tasks.settings import settings
from tasks.tracking import client, experiment_id, run_entities, run_tags
from twinloop.errors import ServiceError
from twinloop.tuneplan import plan_trial
from twinloop.tuning import State, Trial
from twinloop.vocabulary import TunableName
from twinloop.window import Window
from twinloop.workload import Workload

if TYPE_CHECKING:
    from datetime import datetime

    from mlflow import MlflowClient

_STATUS: dict[State, str] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "stopped": "KILLED",
}
_PAGE = 1000


class TrialWriter:
    """Writes trials down in a thread of its own: fits do not wait for the ledger."""

    def __init__(
        self, workload: Workload, candidate: TunableName, folds: int, tags: dict[str, str]
    ) -> None:
        self._workload, self._candidate, self._folds, self._tags = workload, candidate, folds, tags
        self._client = client()
        self._experiment = experiment_id(self._client, workload.experiment)
        self._queue: SimpleQueue[Trial | None] = SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="trials", daemon=True)
        self._thread.start()

    def write(self, trial: Trial) -> None:
        """Have a trial written down, soon."""
        self._queue.put(trial)

    def write_missing(self, trials: Iterable[Trial]) -> None:
        """Write those trials of a run before that was killed before it could."""
        kept = list(trials)
        if kept:
            known = written(self._client, self._experiment, self._tags["twinloop.study"])
            for trial in kept:
                if trial.number not in known:
                    self.write(trial)

    def close(self) -> None:
        """Wait until all is written."""
        self._queue.put(None)
        self._thread.join()

    def check(self) -> None:
        """Raise what went wrong.

        Raises
        ------
        ServiceError
            If MLflow refused a trial.
        """
        if self._error is not None:
            raise ServiceError(
                f"MLflow at {settings().mlflow_uri} refuses a trial: {self._error}"
            ) from self._error

    def _work(self) -> None:
        while (trial := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._write(trial)
                except Exception as err:  # noqa: BLE001 - told when the search has ended
                    self._error = err

    def _write(self, trial: Trial) -> None:
        plan = plan_trial(
            trial, self._candidate, self._workload.metric, self._folds, self._workload.prices
        )
        metrics, params, tags = run_entities(plan)
        # What is known when the run is made needs no second transaction.
        own = {tag.key: tag.value for tag in tags}
        parent = {"mlflow.parentRunId": trial.parent}
        made = self._client.create_run(
            self._experiment,
            start_time=int(trial.started * 1000),
            tags=self._tags | parent | own,
            run_name=f"trial {self._workload.id} {self._candidate} {trial.number}",
        )
        self._client.log_batch(made.info.run_id, metrics, params)
        ended = int(trial.ended * 1000)
        self._client.set_terminated(made.info.run_id, _STATUS[trial.state], ended)


@contextmanager
def writing_trials(
    workload: Workload,
    candidate: TunableName,
    folds: int,
    window: Window | None,
    as_of: "datetime",
    study: str,
) -> Iterator[TrialWriter]:
    """Write trials for the length of a block, as children of the run that is open."""
    tags: dict[str, Any] = run_tags(workload, "trial", window, as_of)
    # A word on each would say no more than its name does.
    tags.pop("mlflow.note.content", None)
    writer = TrialWriter(workload, candidate, folds, tags | {"twinloop.study": study})
    try:
        yield writer
    finally:
        writer.close()
    writer.check()


def written(mlflow_client: "MlflowClient", experiment: str, study: str) -> set[int]:
    """Return the numbers of the trials of a study that MLflow has; delete what is half written."""
    where = f"tags.`twinloop.study` = '{study}' and tags.`twinloop.kind` = 'trial'"
    found: set[int] = set()
    token: str | None = None
    while True:
        page = mlflow_client.search_runs([experiment], where, max_results=_PAGE, page_token=token)
        for run in page:
            if run.info.end_time and "cost/money" in run.data.metrics:
                found.add(int(run.data.tags["twinloop.trial"]))
            else:
                mlflow_client.delete_run(run.info.run_id)
        token = page.token
        if not token:
            return found
