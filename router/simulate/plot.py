"""The picture of a simulation: latencies and imbalance by strategy. The only place that knows matplotlib."""

from __future__ import annotations

from pathlib import Path

from router.simulate.engine import Result
from router.simulate.scenario import ScenarioError

_SHARES = ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))


def plot(results: dict[str, Result], path: Path) -> None:
    """Write it to `path`; the ending tells the format. Raises ScenarioError."""
    try:
        import matplotlib
    except ImportError as error:
        raise ScenarioError("--plot needs matplotlib: pip install 'router[simulate]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (latency, balance) = pyplot.subplots(1, 2, figsize=(11, 0.45 * len(results) + 2), sharey=True)
    places = range(len(results))
    for number, (share, label) in enumerate(_SHARES):
        heights = [result.percentile(share) * 1000 for result in results.values()]
        latency.barh([place + 0.27 * (number - 1) for place in places], heights, 0.25, label=label)
    latency.set(xscale="log", xlabel="latency, ms", yticks=list(places), yticklabels=list(results))
    latency.invert_yaxis()
    latency.legend()
    balance.barh(list(places), [result.imbalance for result in results.values()], 0.6, color="tab:grey")
    balance.axvline(1.0, color="black", linewidth=1)
    balance.set(xlabel="requests of the busiest backend over the average")
    figure.tight_layout()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"--plot {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        pyplot.close(figure)
