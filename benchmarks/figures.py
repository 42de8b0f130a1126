"""Percentiles and ratios, printed the same way by every benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """Latencies of one measured case, in seconds, and how many were done each second."""

    name: str
    seconds: Sequence[float]
    rate: float | None = None

    def at(self, percent: float) -> float:
        """A percentile, in milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def show(title: str, cases: Sequence[Figures], base: Figures | None = None) -> None:
    """Print a table; with `base`, how much each case adds to it and how many times it takes."""
    print(f"\n{title}")
    print(f"  {'case':44} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'per s':>8} {'+p50 ms':>8} {'x base':>7}")
    for case in cases:
        rate = f"{case.rate:8.0f}" if case.rate else " " * 8
        added = ratio = ""
        if base is not None and case is not base:
            added = f"{case.at(50) - base.at(50):.2f}"
            ratio = f"{case.at(50) / base.at(50):.2f}"
        print(f"  {case.name:44} {case.at(50):8.2f} {case.at(95):8.2f} {case.at(99):8.2f} {rate} {added:>8} {ratio:>7}")
