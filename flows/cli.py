"""The `twinloop` command. Heavy imports are late: help answers at once."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from flows import costs
from flows.arguments import (
    Json,
    Var,
    read_duration,
    read_experiment,
    read_kind,
    read_overrides,
    read_policies,
    read_window,
    read_workload_name,
)
from flows.session import quiet, write_result

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train models, score with them, watch for drift and retrain: one system, one bill.",
    epilog="WORKLOAD is a name from data/workloads/ or the path of any workload file.",
)

Ref = Annotated[str, typer.Argument(metavar="WORKLOAD", help="Name, or path of a YAML file.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(help="The moment the run is meant for, UTC; default now.", metavar="TIME"),
]
Span = Annotated[
    str | None,
    typer.Option("--window", help="Rows to take, UTC: START/END, the end left out.", metavar="A/B"),
]


def main() -> None:
    """Run the command; errors a user can mend are one message and status 1."""
    from twinloop.errors import TwinloopError

    # Being asked to stop ends runs as interrupted ones, and stops the server we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except TwinloopError as err:
        sys.stderr.write(f"error {err}\n")
        sys.exit(1)
    except SystemExit as err:
        if err.code == 130:  # Typer's answer to Ctrl-C; it says nothing
            sys.stderr.write("interrupted\n")
        raise


@app.command()
def train(
    workload: Ref,
    window: Span = None,
    as_of: AsOf = None,
    history: Annotated[
        str | None, typer.Option(help="Length of the training window, like 90d.", metavar="SPAN")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Who competes, by comma.", metavar="A,B")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Folds of the cross-validation.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="No further candidate starts after so long.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Settings tried for each tuned candidate; 0: no tuning.")
    ] = None,
    var: Var = None,
    json: Json = None,
) -> None:
    """Train, judge and register a new version; the verdict decides whether it serves."""
    name = read_workload_name(workload, var)
    span = read_window(window)
    overrides = read_overrides(name, history, candidates, folds, minutes, trials)
    with _running():
        from flows.train_model import train_model

        result = train_model(name, span, as_of, overrides)
    from flows import report

    report.training(result)
    write_result(json, result)


@app.command()
def score(
    workload: Ref, window: Span = None, as_of: AsOf = None, var: Var = None, json: Json = None
) -> None:
    """Score a window with the champion; write predictions and quarantine as Parquet."""
    name, span = read_workload_name(workload, var), read_window(window)
    with _running():
        from flows.score_batch import score_batch

        manifest = score_batch(name, span, as_of)
    from flows import report

    report.scoring(manifest)
    write_result(json, manifest)


@app.command()
def backfill(
    workload: Ref,
    start: Annotated[datetime, typer.Option("--from", help="Start of the first window, UTC.")],
    end: Annotated[datetime, typer.Option("--to", help="End of the last window, UTC.")],
    current: Annotated[
        bool, typer.Option("--current", help="Use today's champion, not that of each date.")
    ] = False,
    var: Var = None,
) -> None:
    """Score every window of a span that is not complete, each by the champion of its date."""
    name, span = read_workload_name(workload, var), read_window(f"{start}/{end}")
    assert span is not None  # noqa: S101 - both ends were given
    with _running():
        from flows import report
        from flows.backfill import backfill as fill

        for window, manifest in fill(name, span, of_then=not current):
            report.backfilled(window, manifest)


@app.command()
def verify(workload: Ref, var: Var = None, json: Json = None) -> None:
    """Read all published predictions again, and hold them byte for byte to their manifests."""
    name = read_workload_name(workload, var)
    quiet()
    from flows import report
    from tasks.settings import load_workload
    from tasks.verifying import verify_published
    from twinloop.errors import StorageError

    found = verify_published(load_workload(name))
    report.verification(found)
    write_result(json, found)
    if found.faults:
        raise StorageError(
            f"{len(found.faults)} published files of {found.workload!r} are not as written.",
            "What mends each is said above; `twinloop score` scores a window again.",
        )


@app.command()
def watch(workload: Ref, as_of: AsOf = None, var: Var = None, json: Json = None) -> None:
    """Check what was scored lately for drift and harm, and say what to do."""
    name = read_workload_name(workload, var)
    with _running():
        from flows.watch_drift import watch_drift

        decision = watch_drift(name, as_of)
    from flows import report

    report.decision(decision)
    write_result(json, decision)


@app.command()
def retrain(
    workload: Ref,
    as_of: AsOf = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the run.")] = "by hand",
    var: Var = None,
    json: Json = None,
) -> None:
    """Train a challenger on the newest labelled window, unless the last training is too recent."""
    name = read_workload_name(workload, var)
    _show_progress()
    with _running():
        from flows.retrain_model import retrain_model

        result = retrain_model(name, as_of, reason)
    from flows import report

    if result is None:
        report.say("Nothing was trained.")
        return
    report.training(result)
    write_result(json, result)


@app.command()
def replay(
    workload: Ref,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="never, every:28d or drift; give it again to compare.", metavar="RULE"),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option(help="First training, UTC; default as early as can be.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(help="Last tick, UTC; default the end of the source.")
    ] = None,
    step: Annotated[str, typer.Option(help="Time between ticks.", metavar="SPAN")] = "7d",
    flows: Annotated[
        bool,
        typer.Option("--flows", help="Run every step as a flow run, seen in both pages; slow."),
    ] = False,
    var: Var = None,
    json: Json = None,
) -> None:
    """Run both loops over past time, and show what each policy would have cost and gained."""
    name = read_workload_name(workload, var)
    between, policies = read_duration(step), read_policies(policy or ["drift"])
    _show_progress()
    if flows:
        with _running():
            from flows.replay_history import replay_history

            result = replay_history(name, policies, start, end, between)
    else:
        quiet()
        from tasks.orphans import close_orphans

        close_orphans(prefect=False)
        from flows.replay_policies import replay_policies

        result = replay_policies(name, policies, start, end, between)
    from flows import report

    report.replay(result, flows=flows)
    write_result(json, result)


@app.command()
def champion(
    workload: Ref,
    at: Annotated[
        datetime | None, typer.Option(help="Only say which version served then, UTC.")
    ] = None,
    rollback: Annotated[
        str | None, typer.Option(help="Make this version champion again.", metavar="VERSION")
    ] = None,
    var: Var = None,
    json: Json = None,
) -> None:
    """Show which version serves and how it came to; or roll back to an earlier one."""
    name = read_workload_name(workload, var)
    quiet()
    from flows import report
    from tasks.history import champion_history
    from tasks.orphans import close_orphans
    from tasks.registry import resolve_champion, roll_back
    from tasks.settings import load_workload
    from twinloop.window import as_utc

    spec = load_workload(name)
    close_orphans(prefect=False)  # a move that was killed is finished before anybody asks
    if at is not None:
        then = resolve_champion.fn(spec, as_utc(at))
        report.say(f"{then.name} {then.label} was champion at {as_utc(at):%Y-%m-%d %H:%M} UTC.")
        write_result(json, then)
        return
    if rollback is not None:
        version = roll_back(spec, rollback, datetime.now(UTC))
        report.say(f"{version.name} {version.label} is champion.")
    history = champion_history(spec)
    report.champion(history)
    write_result(json, history)


@app.command()
def reproduce(
    workload: Ref,
    version: Annotated[
        str | None, typer.Option(help="Number of the version; default the champion.", metavar="N")
    ] = None,
    var: Var = None,
    json: Json = None,
) -> None:
    """Fit a version again from its snapshot, and compare it with what was registered."""
    name = read_workload_name(workload, var)
    with _running():
        from flows.reproduce_model import reproduce_model

        result = reproduce_model(name, version)
    from flows import report
    from twinloop.reproduction import refuse_differences

    report.reproduction(result)
    write_result(json, result)
    refuse_differences(result)


@app.command()
def runs(
    workload: Ref,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    kind: Annotated[
        str | None, typer.Option(help="Only training, inference, monitoring, ...")
    ] = None,
    replays: Annotated[bool, typer.Option("--replays", help="Those of replays instead.")] = False,
    var: Var = None,
    json: Json = None,
) -> None:
    """List runs with their accuracy, time and cost."""
    spec, only = read_experiment(workload, var, replays=replays), read_kind(kind)
    quiet()
    from flows import costs_report
    from tasks.recent import recent_runs

    found = recent_runs(spec, limit, only)
    costs_report.runs(found)
    write_result(json, found)


app.add_typer(costs.app, name="costs")


@app.command()
def check(workload: Ref, window: Span = None, var: Var = None, json: Json = None) -> None:
    """Read a workload file and its data before anything runs, and say what was understood."""
    name = read_workload_name(workload, var)
    quiet()
    from flows import report
    from tasks.checking import check_workload
    from tasks.settings import load_workload
    from twinloop.leakage import refuse_leaks

    result = check_workload(load_workload(name), read_window(window), datetime.now(UTC))
    report.check(result)
    write_result(json, result)
    refuse_leaks(result.findings)


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(help="Where the Prefect UI listens.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Where the MLflow UI listens.")] = 5000,
    limit: Annotated[int, typer.Option(help="Flow runs at a time.", min=1)] = 2,
) -> None:
    """Serve both pages, deploy all workloads on their schedules, and run them; Ctrl-C stops all."""
    quiet(join=False)
    _show_progress()
    from tasks.stack import servers, watch_over, worker

    typer.echo("starting Prefect and MLflow ...")
    with (
        servers(prefect_port, mlflow_port) as (addresses, children),
        worker(limit, children) as last,
    ):
        typer.echo(f"Prefect  {addresses.prefect}\nMLflow   {addresses.mlflow}")
        typer.echo("Ctrl-C, or `twinloop down` elsewhere, stops all of it.")
        watch_over([*children, last], addresses)


@app.command()
def deploy() -> None:
    """Register all workloads' deployments at the server PREFECT_API_URL names, and run nothing."""
    quiet()
    from tasks.servers import configured_server

    configured_server()
    from flows.deploy import deploy as register
    from tasks.orphans import close_orphans
    from tasks.settings import all_workloads

    close_orphans()
    found, refused = all_workloads()
    for reason in refused:
        typer.echo(f"not deployed: {reason}", err=True)
    typer.echo(f"{len(register(found))} deployments of {', '.join(w.name for w in found)}")


@app.command()
def down() -> None:
    """Stop what `twinloop up` started."""
    quiet(join=False)
    from tasks.stack import stop_stack

    stopped = stop_stack()
    typer.echo("nothing runs here" if stopped is None else f"stopped {stopped.prefect}")


@contextmanager
def _running() -> Iterator[None]:
    """Have what flows need for the length of a block."""
    quiet()
    from tasks.servers import prefect_server

    with prefect_server():
        from tasks.orphans import close_orphans

        close_orphans()
        yield


def _show_progress() -> None:
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("twinloop.progress")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    main()
