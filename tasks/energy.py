"""Energy: what the processor's own counters say, shared among processes by CPU time."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_JOULES = 3.6e6  # of a kWh
_POWERCAP = Path("/sys/class/powercap")
_STAT = Path("/proc/stat")
# user, nice, system; idle and waiting stand between them and interrupts.
_BUSY = (0, 1, 2, 5, 6)


@dataclass(frozen=True)
class _Domain:
    """A part of the machine whose energy is counted, in microjoules that begin anew at `wraps`."""

    name: str
    place: Path
    wraps: int

    def microjoules(self) -> int:
        return int((self.place / "energy_uj").read_text())


class EnergyCounter:
    """Reads RAPL, where the kernel lets us, and takes this process's share.

    The counters are the machine's. A process has the share of their energy that its CPU time has
    in that of all processes, so what the idle machine draws is borne by those that compute.

    Parameters
    ----------
    powercap, stat
        Where the system keeps the counters, and the CPU time of the whole machine.

    Attributes
    ----------
    words
        The method, for the bill; empty where there are no counters that may be read.
    """

    def __init__(self, powercap: Path = _POWERCAP, stat: Path = _STAT) -> None:
        self._stat = stat
        self._domains = _domains(powercap)
        names = ", ".join(sorted({d.name for d in self._domains}))
        self.words = f"RAPL ({names}), shared among processes by CPU time" if names else ""
        self._last = [d.microjoules() for d in self._domains]
        self._busy = self._busy_seconds() if self._domains else 0.0

    def kwh(self, cpu_seconds: float) -> float:
        """Return this process's part of the energy since the last call, kWh.

        Parameters
        ----------
        cpu_seconds
            What this process and its children used since the last call.
        """
        if not self._domains:
            return 0.0
        try:
            now, busy = [d.microjoules() for d in self._domains], self._busy_seconds()
        except (OSError, ValueError):
            return 0.0  # read the next time, for both spans
        moved = zip(self._domains, self._last, now, strict=True)
        joules = sum(b - a if b >= a else b - a + d.wraps for d, a, b in moved) / 1e6
        # The machine's clock ticks a hundred times a second: it may lag behind the process's.
        share = cpu_seconds / max(busy - self._busy, cpu_seconds, 1e-9)
        self._last, self._busy = now, busy
        return joules * share / _JOULES

    def _busy_seconds(self) -> float:
        words = self._stat.read_text().split("\n", 1)[0].split()[1:]
        return sum(int(words[i]) for i in _BUSY) / os.sysconf("SC_CLK_TCK")


def _domains(powercap: Path) -> tuple[_Domain, ...]:
    """Find processors and their memory; parts of a processor are in its own count already."""
    found = []
    for place in sorted(powercap.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):
            name = (place / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                domain = _Domain(name, place, int((place / "max_energy_range_uj").read_text()))
                domain.microjoules()  # of late only root may read it
                found.append(domain)
    return tuple(found) if any(d.name.startswith("package") for d in found) else ()
