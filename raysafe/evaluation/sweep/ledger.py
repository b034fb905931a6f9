"""What a sweep's trials have come to, read from their runs: the sweep keeps no other record of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raysafe.evaluation.sweep.space import Settings, value_at
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import SweepJob

TRIALS, EXAMINED = "trials", "examined"
STOPPED = "stopped-by-scheduler"
State = Literal["finished", "stopped", "failed", "unfinished"]


@dataclass(frozen=True)
class Trial:
    """One trial: where it stands, and the figures that it is judged by."""

    number: int
    settings: Settings
    seed: int
    state: State
    starts: int
    """Times that work on it began; one, where nothing was interrupted."""
    step: int
    figures: Mapping[str, float]
    uri: str
    error: str = ""


def folder_name(number: int) -> str:
    return f"trial-{number:04d}"


def trial_folder(run_uri: str, number: int) -> str:
    """URI of a trial's run."""
    return Folder(Folder(run_uri).join(TRIALS)).join(folder_name(number))


def find_run(run_uri: str, number: int) -> Run | None:
    """A trial's run, None where it has none yet."""
    uri = trial_folder(run_uri, number)
    # a kill between the folder and its first file leaves a folder that is no run
    return Run.open(uri) if Folder(uri).exists("config.yaml") else None


def read_trials(job: SweepJob, run: Run) -> list[Trial]:
    """Every trial that began, by number; raises StorageError where a run is damaged."""
    numbers = [int(name.rpartition("-")[2]) for name in run.folder.list(TRIALS) if name.startswith("trial-")]
    return [read_trial(job, found) for number in sorted(numbers) if (found := find_run(run.uri, number)) is not None]


def read_trial(job: SweepJob, run: Run) -> Trial:
    """One trial, from its run."""
    config, events = run.config, run.events
    return Trial(
        number=int(run.name.rpartition("-")[2]),
        settings={name: value_at(config, name) for name in job.space},
        seed=int(config["seed"]),
        state=state_of(run, len(job.examine)),
        starts=sum(event["event"] == "running" for event in events),
        step=max((row["step"] for row in run.metrics), default=0),
        figures=figures_of(run),
        uri=run.uri,
        error=next((str(e.get("error", "")) for e in reversed(events) if e["event"] == "failed"), ""),
    )


def state_of(run: Run, examinations: int) -> State:
    """finished: trained, and examined by each of the suites."""
    events = [event["event"] for event in run.events]
    if STOPPED in events:
        return "stopped"
    if run.status == "failed":
        return "failed"
    return "finished" if run.status == "finished" and events.count("examined-by") >= examinations else "unfinished"


def failures(run: Run) -> int:
    """How often its work ended with an error."""
    return sum(event["event"] == "failed" for event in run.events)


def figures_of(run: Run) -> dict[str, float]:
    """The last of every figure, and SUITE/METRIC of its evidence; validation figures are those of the kept model."""
    kept = next((e.get("best_step") for e in reversed(run.events) if e["event"] == "trained"), None)
    figures: dict[str, float] = {}
    for row in run.metrics:
        late = kept is not None and row["step"] > kept
        figures |= {k: float(v) for k, v in row.items() if k != "step" and not (late and k.startswith("validation/"))}
    return figures | {f"{e.suite}/{e.metric}": e.value for e in run.evidence}
