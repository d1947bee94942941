"""What the soak sees: samples of memory, descriptors, CPU and latency, their table as CSV, their plot, their trend."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. Memory is resident MiB, CPU is the share of a core since the look before."""

    minute: float
    control_mib: float
    workers_mib: float
    descriptors: int
    cpu_router: float
    cpu_all: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    routes: int


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through values over minutes: change an hour, and its standard error."""

    per_hour: float
    error: float

    def __str__(self) -> str:
        return f"{self.per_hour:+.2f} ± {self.error:.2f}"


def trend(minutes: Sequence[float], values: Sequence[float]) -> Trend:
    """Least squares; two values at least."""
    line = statistics.linear_regression(minutes, values)
    middle = statistics.fmean(minutes)
    rest = sum((value - line.intercept - line.slope * at) ** 2 for at, value in zip(minutes, values, strict=True))
    spread = sum((at - middle) ** 2 for at in minutes)
    freedom = max(1, len(values) - 2)
    return Trend(line.slope * 60, (rest / freedom / spread) ** 0.5 * 60)


def write(path: Path, samples: Sequence[Sample]) -> None:
    """As CSV."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Sample)], lineterminator="\n")
        table.writeheader()
        for sample in samples:
            table.writerow({name: f"{value:.6g}" for name, value in asdict(sample).items()})


def plot(path: Path, samples: Sequence[Sample], warm_up: float) -> None:
    """Three panels over the minutes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [sample.minute for sample in samples]
    figure, (memory, descriptors, latency) = pyplot.subplots(3, 1, sharex=True, figsize=(8, 7), layout="constrained")
    for name, label in (("control_mib", "control"), ("workers_mib", "both workers")):
        values = [getattr(sample, name) for sample in samples]
        settled = [(at, value) for at, value in zip(minutes, values, strict=True) if at >= warm_up]
        label = f"{label}: {trend(*zip(*settled, strict=True))} MiB an hour" if len(settled) > 2 else label
        memory.plot(minutes, values, label=label)
    memory.axvline(warm_up, color="grey", linestyle=":", linewidth=1)
    memory.set_ylabel("resident MiB")
    descriptors.plot(minutes, [sample.descriptors for sample in samples], label="descriptors, all processes")
    descriptors.plot(minutes, [sample.routes for sample in samples], label="routes")
    latency.plot(minutes, [sample.p50_ms for sample in samples], label="small requests, p50 ms")
    latency.plot(minutes, [sample.p99_ms for sample in samples], label="p99 ms")
    latency.set_yscale("log")
    latency.set_xlabel("minutes")
    for panel in (memory, descriptors, latency):
        panel.legend(loc="upper left" if panel is latency else "lower right", fontsize="small")
        if panel is not latency:
            panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    pyplot.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
