"""Describing: the model card of a version, and its short form in the registry."""

from tasks import sources
from tasks.engines import are_off
from tasks.metering import step
from tasks.provenance import Provenance
from tasks.registering import ModelFiles
from tasks.registry import ServedVersion
from tasks.tracking import TrackedRun, client
from twinloop.card import short_card, write_card
from twinloop.cardfacts import CardFacts
from twinloop.costs import cost_metrics, energy_words
from twinloop.leakage import Finding
from twinloop.logplan import Text
from twinloop.page import to_html, to_markdown
from twinloop.results import Leaderboard
from twinloop.verdict import Verdict


@step
def describe_version(
    provenance: Provenance,
    board: Leaderboard,
    model: ModelFiles,
    findings: tuple[Finding, ...],
    verdict: Verdict,
    version: ServedVersion,
    champion: ServedVersion | None,
    run: TrackedRun,
) -> None:
    """Log the model card, and put its short form into the registry; before any alias is moved."""
    if are_off():
        return  # nobody will read it
    snapshot, workload = provenance.snapshot, provenance.workload
    usage = run.meter.usage()
    facts = CardFacts(
        workload=workload,
        version=version.version,
        origin=sources.origin(workload),
        window=provenance.window,
        trained_at=run.as_of,
        read=snapshot.read,
        quarantined=snapshot.quarantined,
        dropped=snapshot.dropped,
        digest=snapshot.digest,
        contract=snapshot.contract,
        board=board,
        evidence=model.evidence,
        findings=findings,
        verdict=verdict,
        champion=champion.version if champion else "",
        bill=cost_metrics(usage, workload.prices, run.rows),
        energy=energy_words(usage, workload.prices),
        software=provenance.software,
        threads=provenance.threads,
    )
    page = write_card(facts)
    run.log([Text("model_card.md", to_markdown(page)), Text("model_card.html", to_html(page))])
    client().update_model_version(workload.id, version.version, description=short_card(facts))
