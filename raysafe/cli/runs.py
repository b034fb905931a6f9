"""`raysafe runs list | show | resume | compare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import tyro
import yaml

from raysafe.cli.arguments import AsJson
from raysafe.cli.output import print_json, print_table
from raysafe.errors import ConfigError, StorageError
from raysafe.runtime.headline import headline
from raysafe.runtime.run import Run
from raysafe.runtime.storage import Folder

Storage = Annotated[str, tyro.conf.arg(help="Folder or URI that holds the runs.")]
_NOT_COMPARED = (
    *("step", "epoch", "learning_rate", "gradient_norm", "rows_per_s", "tokens_per_s", "member", "samples", "tokens"),
    *("staleness", "overhead", "step_s", "sync_s", "generate_s", "score_s", "update_s", "critic_update_s"),
    *("critic_learning_rate", "critic_gradient_norm"),
)
_OF_THE_RUN_ALONE = ("seed", "name", "storage", "address", "track", "track_project")


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_runs, "show": show, "resume": resume, "compare": compare}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe runs", description=__doc__)


def list_runs(*, storage: Storage = "runs", as_json: AsJson = False) -> int:
    """Every run, newest first, with its state and last figures."""
    folder = Folder(storage)
    uris = [folder.join(name) for name in folder.list()]
    runs = [_listed(uri) for uri in uris if Folder(uri).exists("config.yaml")]
    runs.sort(key=lambda run: run.started, reverse=True)
    if as_json:
        print_json([run.facts | run.figures for run in runs])
        return 0
    if not runs:
        print(f"no runs in {folder.uri}")
        return 0
    shown = [{name: run.figures[name] for name in headline(run.figures)} for run in runs]
    names = list(dict.fromkeys(name for figures in shown for name in figures))
    rows: list[tuple[object, ...]] = []
    for run, own in zip(runs, shown, strict=True):
        figures = (_number(own.get(name)) for name in names)
        # a reason is as wide as a table: it has its own line below
        rows.append((run.name, run.facts["job"], run.facts["status"], run.age, run.figures.get("step"), *figures))
    print_table(("run", "job", "status", "age", "step", *names), rows)
    for run in runs:
        if "reason" in run.facts:
            print(f"{run.name} is unreadable: {run.facts['reason']}")
    return 0


@dataclass(frozen=True)
class _Listed:
    """What `runs list` says of a run."""

    name: str
    facts: dict[str, Any]
    started: str = ""
    age: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def _listed(uri: str) -> _Listed:
    """One row; a damaged run is one too, with the reason."""
    try:
        run = Run.open(uri)
        facts = {"run": run.uri, "job": run.config.get("job"), "status": run.status}
        if run.folder.exists("environment.json"):
            _ = run.environment  # only whether `runs show` could read it
        return _Listed(run.name, facts, run.events[0]["time"] if run.events else "", _age(run), _last(run))
    except StorageError as error:
        return _Listed(uri.rsplit("/", 1)[-1], {"run": uri, "job": None, "status": "unreadable", "reason": str(error)})


def show(run: tyro.conf.Positional[str], *, storage: Storage = "runs", as_json: AsJson = False) -> int:
    """One run: settings, inputs, last figures, evidence, events."""
    opened = _open(run, storage)
    if as_json:
        facts = {"run": opened.uri, "status": opened.status, "config": opened.config, "environment": opened.environment}
        evidence = [e.model_dump(mode="json") for e in opened.evidence]
        print_json(facts | {"figures": _last(opened), "evidence": evidence, "events": opened.events})
        return 0
    print(f"{opened.uri}: {opened.status}\n")
    print(yaml.safe_dump(opened.config, sort_keys=False))
    inputs = [(i["kind"], i["uri"], i["sha256"]) for i in opened.environment.get("inputs", [])]
    print_table(("made from", "where", "sha256"), inputs)
    print_table(("figure", "last value"), [(name, _number(value)) for name, value in _last(opened).items()])
    if opened.evidence:
        rows = [(e.suite, e.metric, _number(e.value), e.n, e.passed) for e in opened.evidence]
        print_table(("suite", "figure", "value", "n", "passed"), rows)
    events = [
        (e["time"][:19], e["event"], {k: v for k, v in e.items() if k not in ("time", "event")}) for e in opened.events
    ]
    print_table(("time", "event", ""), events)
    return 0


def resume(run: tyro.conf.Positional[str], *, storage: Storage = "runs") -> int:
    """Go on with a run that was interrupted, killed or failed, from its last checkpoint."""
    from raysafe.cli.job import run_job
    from raysafe.jobs_table import load_job

    opened = _open(run, storage)
    return run_job(load_job(str(opened.config.get("job"))), ["--resume", opened.uri])


def compare(runs: tyro.conf.Positional[tuple[str, ...]], *, storage: Storage = "runs", as_json: AsJson = False) -> int:
    """Means with 95% intervals over seeds, for runs that share all other settings; two groups are compared in pairs."""
    from raysafe.records.statistics import mean_interval, paired_t

    if len(runs) < 2:
        raise ConfigError("comparing needs two runs at least: raysafe runs compare RUN RUN …")
    groups = _groups([_open(run, storage) for run in runs])
    names = sorted(set.intersection(*(_figures(r) for g in groups.values() for r in g)) - set(_NOT_COMPARED))
    result: list[dict[str, Any]] = []
    for name in names:
        row: dict[str, Any] = {"figure": name}
        for label, group in groups.items():
            values = [_last(r)[name] for r in group]
            row[label] = mean_interval(values) if len(values) > 1 else values[0]
        row["test"] = _paired(list(groups.values()), name, paired_t)
        result.append(row)
    if as_json:
        print_json(
            {"groups": {label: [r.uri for r in group] for label, group in groups.items()}}
            | {"figures": [{k: _plain(v) for k, v in row.items()} for row in result]}
        )
        return 0
    if not result:
        print("these runs share no figures")
        return 0
    labels = list(groups)
    for label, group in groups.items():
        print(f"{label}: {len(group)} run(s), seeds {', '.join(str(_seed(r)) for r in group)}")
    rows = [(r["figure"], *(_estimate(r[label]) for label in labels), _verdict(r["test"])) for r in result]
    print_table(("figure", *labels, "paired difference" if len(labels) == 2 else ""), rows)
    return 0


def _open(run: str, storage: str) -> Run:
    """A run by its folder or URI, or by the name that `runs list` shows."""
    if "/" not in run and not Folder(run).exists("config.yaml"):
        stored = Folder(storage).join(run)
        if Folder(stored).exists("config.yaml"):
            return Run.open(stored)
    return Run.open(run)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _groups(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs by their settings, less what belongs to a single run; groups are called after the settings that differ."""
    settings = [{k: v for k, v in _flat(run.config).items() if k not in _OF_THE_RUN_ALONE} for run in runs]
    names = sorted({k for s in settings for k in s})
    differing = [n for n in names if len({repr(s.get(n)) for s in settings}) > 1]
    groups: dict[str, list[Run]] = {}
    for run, setting in zip(runs, settings, strict=True):
        label = ", ".join(f"{n}={setting.get(n)}" for n in differing) or "same settings"
        groups.setdefault(label, []).append(run)
    return {label: sorted(group, key=_seed) for label, group in groups.items()}


def _paired(groups: list[list[Run]], figure: str, test: Any) -> Any:
    """A paired test over the seeds that two groups share; None where there are fewer than two."""
    if len(groups) != 2:
        return None
    first, second = ({_seed(r): _last(r)[figure] for r in group} for group in groups)
    seeds = sorted(set(first) & set(second))
    return test([first[s] for s in seeds], [second[s] for s in seeds]) if len(seeds) > 1 else None


def _seed(run: Run) -> int:
    return int(run.config.get("seed", 0))


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _last(run: Run) -> dict[str, Any]:
    """The last value of every figure, evidence included."""
    figures: dict[str, Any] = {}
    for row in run.metrics:
        figures |= row
    return figures | {f"{e.suite}/{e.metric}": e.value for e in run.evidence}


def _figures(run: Run) -> set[str]:
    return set(_last(run))


def _age(run: Run) -> str:
    if not run.events:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(run.events[0]["time"])).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _estimate(value: Any) -> str:
    return (
        _number(value) if isinstance(value, int | float) else f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"
    )


def _verdict(test: Any) -> str:
    return (
        "" if test is None else f"{test.difference:+.4g} ({test.low:+.4g} to {test.high:+.4g}), p = {test.p_value:.3g}"
    )
