"""What detectors keep of the run length that they are calibrated for, how soon they find a shift, and what they cost.

    python -m tests.bench.detectors [--kinds cusum ewma] [--runs 400] [--calibrations 4] [--no-run-lengths]

Run lengths are measured on streams and calibration data that are drawn anew: normal, heavy-tailed (Student's t with 3
degrees of freedom) and of counts (Poisson, mean 4). Costs are compared with river's ADWIN and P-squared quantile.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from raysafe.monitoring.detectors.adwin import AdwinConfig
from raysafe.monitoring.detectors.chart import ChartConfig
from raysafe.monitoring.detectors.detector import Detector, calibrate
from raysafe.monitoring.detectors.kinds import OF_NUMBERS
from raysafe.monitoring.detectors.quantile import StreamingQuantile
from raysafe.monitoring.detectors.run_length import dithered

STATED = 500.0
SHIFT_AT = 200
SHIFTS = (1.0, 3.0)
Draw = Callable[[np.random.Generator, Any], np.ndarray]
STREAMS: dict[str, Draw] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "heavy-tailed": lambda rng, size: rng.standard_t(3, size),
    "counts": lambda rng, size: rng.poisson(4, size).astype(float),
}


class Measured(NamedTuple):
    """One kind of detector."""

    kind: str
    run_lengths: dict[str, float]
    """Mean values until a false alarm, by stream."""
    delays: dict[float, float]
    """Mean values from a shift of so many standard deviations until its alarm, on the normal stream."""


def calibrated(config: ChartConfig, draw: Draw, calibrations: int, seed: int, stated: float = STATED) -> list[Detector]:
    """Detectors for a run length, each from data of its own: 100 run lengths of them."""
    count = int(100 * stated)
    return [
        calibrate(config, draw(np.random.default_rng([seed, number]), count), average_run_length=stated, seed=number)
        for number in range(calibrations)
    ]


def lengths(
    detectors: Sequence[Detector], draw: Draw, runs: int, seed: int, shift: float = 0.0, longest: float = 20 * STATED
) -> np.ndarray:
    """Values until the first alarm of each of `runs` streams, spread over the detectors, (runs,).

    The shift begins after SHIFT_AT values. Raises RuntimeError where a stream has no alarm in `longest` values.
    """
    each = -(-runs // len(detectors))
    states = [detector.state() for detector in detectors]
    references_RN = np.repeat(np.array([state["reference"] for state in states]), each, axis=0)
    limits_R = np.repeat([detector.limit for detector in detectors], each)
    chart = detectors[0].config.chart(references_RN)
    rng = np.random.default_rng([seed, 99])
    first_R = rng.integers(0, 1 << 20, len(limits_R))
    found_R = np.zeros(len(limits_R), int)
    for moment in range(1, int(longest)):
        values_R = draw(rng, len(limits_R)) + (shift if moment > SHIFT_AT else 0.0)
        over_R = dithered(chart.step(values_R), first_R + moment) > limits_R
        found_R[over_R & (found_R == 0)] = moment
        if found_R.all():
            return found_R
    raise RuntimeError(f"{np.sum(found_R == 0)} of {len(found_R)} streams had no alarm in {longest:,.0f} values")


def measure(kind: str, runs: int = 400, calibrations: int = 4, seed: int = 0) -> Measured:
    """Run lengths on all streams, and delays on the normal one; runs that alarmed before the shift don't count."""
    run_lengths, delays = {}, {}
    for name, draw in STREAMS.items():
        detectors = calibrated(OF_NUMBERS[kind](), draw, calibrations, seed)
        run_lengths[name] = float(lengths(detectors, draw, runs, seed).mean())
        if name == "normal":
            for shift in SHIFTS:
                found = lengths(detectors, draw, runs, seed + 1, shift)
                delays[shift] = float((found[found > SHIFT_AT] - SHIFT_AT).mean())
    return Measured(kind, run_lengths, delays)


def table(measured: Sequence[Measured]) -> str:
    """In Markdown."""
    rows = [
        f"| detector | {' | '.join(f'run length, {name}' for name in STREAMS)} "
        f"| {' | '.join(f'delay at +{shift:g} sigma' for shift in SHIFTS)} |",
        "|---|" + "---:|" * (len(STREAMS) + len(SHIFTS)),
    ]
    for found in measured:
        figures = [f"{value:.0f}" for value in found.run_lengths.values()]
        figures += [f"{value:.1f}" for value in found.delays.values()]
        rows.append(f"| {found.kind} | {' | '.join(figures)} |")
    return "\n".join(rows)


def microseconds(update: Callable[[float], object], values: Sequence[float]) -> float:
    """What a value costs: the fastest of five passes."""
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        for value in values:
            update(value)
        taken.append((time.perf_counter() - begun) / len(values))
    return 1e6 * min(taken)


def costs() -> dict[str, float]:
    """Microseconds by what is updated; detectors have their default windows."""
    from river import drift, stats

    values = np.random.default_rng(0).standard_normal(3000).tolist()
    reference_N = np.random.default_rng(1).standard_normal(1000)
    found = {}
    for kind, config in ((kind, made()) for kind, made in OF_NUMBERS.items()):
        detector = Detector(config, reference_N[: config.size(1000)], math.inf)
        found[kind] = microseconds(detector.update, values)
    adwin = Detector(AdwinConfig(), reference_N, math.log(1 / 0.002))
    found["adwin, delta 0.002"] = microseconds(adwin.update, values)
    found["river's ADWIN"] = microseconds(drift.ADWIN(delta=0.002).update, values)
    found["streaming quantile"] = microseconds(StreamingQuantile(0.95).add, values)
    found["river's quantile"] = microseconds(stats.Quantile(0.95).update, values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=sorted(OF_NUMBERS), default=list(OF_NUMBERS))
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--calibrations", type=int, default=4)
    parser.add_argument("--no-run-lengths", action="store_true", help="Costs only.")
    options = parser.parse_args()
    found = costs()
    for name, cost in found.items():
        print(f"{name:20s} {cost:8.2f} us")
    adwin, quantile = (
        found["adwin, delta 0.002"] / found["river's ADWIN"],
        found["streaming quantile"] / found["river's quantile"],
    )
    print(f"ADWIN takes {adwin:.1f} times what river's does, the quantile {quantile:.1f} times")
    if options.no_run_lengths:
        return
    measured = []
    for kind in options.kinds:
        begun = time.perf_counter()
        measured.append(measure(kind, options.runs, options.calibrations))
        print(f"{measured[-1]}  {time.perf_counter() - begun:.0f} s", flush=True)
    print(table(measured))


if __name__ == "__main__":
    main()
