"""History: what the registry remembers of a workload's champion, read for people."""

from tasks.registry import Move, ServedVersion, champion_moves, find_champion, versions
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload


class ChampionHistory(Frozen):
    """Versions, the one that serves, and every move, the newest first."""

    workload: str
    champion: str
    versions: tuple[ServedVersion, ...]
    moves: tuple[Move, ...]


def champion_history(workload: Workload) -> ChampionHistory:
    """Read who served, since when and by which evidence."""
    champion = find_champion(workload)
    return ChampionHistory(
        workload=workload.id,
        champion=champion.version if champion else "",
        versions=tuple(versions(workload)),
        moves=tuple(champion_moves(workload)),
    )
