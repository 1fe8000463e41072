"""Reproduce a model: a version is fitted again, and compared with what was registered."""

from flows.form import run_name
from tasks.engines import flow
from tasks.provenance import read_provenance
from tasks.registering import work_folder
from tasks.registry import find_version, resolve_champion
from tasks.reproducing import fit_again
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from twinloop.reproduction import Reproduction


@flow(name="reproduce-model", flow_run_name=run_name("reproduce"))
def reproduce_model(workload: str, version: str | None = None) -> Reproduction:
    """Fit a version again from its snapshot and provenance, and compare it file by file.

    Nothing is registered, no alias is moved, and the version is not written to.

    Parameters
    ----------
    workload
        Name of the workload.
    version
        Number of the version; default the champion.
    """
    spec, moment = load_workload(workload), moment_of(None)
    what = f"v{version}" if version else "the champion"
    with (
        tracked_run(spec, "reproduction", window=None, as_of=moment, what=what) as run,
        work_folder(spec, run) as work,
    ):
        found = find_version(spec, version) if version else resolve_champion(spec)
        provenance = read_provenance(found, spec)
        return fit_again(found, provenance, work, run)
