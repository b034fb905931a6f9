"""One way to start any job: `--config FILE`, every field as a flag, `--resume DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from raysafe.config import Job, check_names, parse_field, read_yaml
from raysafe.errors import ConfigError
from raysafe.runtime.run import Run

_OWN = {"--config": "file", "--resume": "run directory"}


def run_job(job_class: type[Job], argv: list[str], *, positional: str | None = None) -> int:
    """Parse `argv`, run the job, print where the result is; returns the exit code.

    Flags override the YAML file. positional: a field that may stand first without its flag. Raises RaySafeError.
    """
    own, rest = _take_own(argv)
    if positional and rest and not rest[0].startswith("-"):
        rest = [f"--{positional}", *rest]
    if "--resume" in own:
        return _resume(job_class, own, rest)
    job = parse_job(job_class, rest, own.get("--config"))
    show_result(job.run())
    return 0


def parse_job(job_class: type[Job], argv: list[str], config: str | None) -> Job:
    """A job from flags over the settings of a YAML file; raises ConfigError, or SystemExit as tyro does."""
    values = read_yaml(config, job_class.job) if config else {}
    return tyro.cli(
        job_class,
        args=argv,
        default=_defaults(job_class, values, config or "the command line"),
        prog=f"raysafe {job_class.job}",
        description=_description(job_class),
    )


def show_result(run: Run) -> None:
    """Print where a finished run is, its last figures, and what may come next."""
    figures: dict[str, Any] = {}
    for row in run.metrics:
        figures |= row
    evidence = run.evidence
    table = Table("figure", "value", show_header=False, box=None)
    for name in ("step", "loss", "accuracy", "validation/loss", "validation/accuracy"):
        if name in figures:
            table.add_row(name, f"{figures[name]:.6g}")
    for item in evidence:
        verdict = {True: "passed", False: "failed", None: ""}[item.passed]
        spread = f"  [{item.interval[0]:.3f}, {item.interval[1]:.3f}]" if item.interval else ""
        table.add_row(item.metric, f"{item.value:.4g}{spread}  n={item.n}  {verdict}")
    console = Console()
    if table.row_count:
        console.print(table)
    console.print(f"run     {run.uri}", soft_wrap=True, highlight=False)
    console.print(f"report  {run.folder.join('report.html')}", soft_wrap=True, highlight=False)
    if run.folder.exists("model"):
        console.print(f"next    raysafe registry register {run.uri} --name NAME", soft_wrap=True, highlight=False)


def _resume(job_class: type[Job], own: dict[str, str], rest: list[str]) -> int:
    if rest or "--config" in own:
        raise ConfigError("--resume goes on with the run's own settings: leave out every other flag")
    run = Run.open(own["--resume"])
    values = run.config
    found = values.pop("job", None)
    if found != job_class.job:
        raise ConfigError(f"{run.uri} is a run of '{found}', not of '{job_class.job}': raysafe runs resume {run.uri}")
    if run.status == "finished":
        print(f"{run.uri} is finished: nothing to do")
        return 0
    show_result(job_class.parse(values, f"{run.uri}/config.yaml").run(resume=run))
    return 0


def _take_own(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """The flags that belong to no field, and the rest."""
    own: dict[str, str] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag not in _OWN:
            rest.append(argument)
            continue
        found = value if equals else next(arguments, None)
        if not found:
            raise ConfigError(f"{flag} needs a {_OWN[flag]}")
        own[flag] = found
    return own, rest


def _defaults(job_class: type[Job], values: dict[str, Any], source: str) -> Job:
    """The job that `values` describe; required fields that they lack are left for the flags."""
    check_names(job_class, values, source)
    fields: dict[str, Any] = {}
    for name, field in job_class.model_fields.items():
        if name in values:
            fields[name] = parse_field(job_class, name, values[name], source)
        elif field.is_required():
            fields[name] = tyro.MISSING
        else:
            fields[name] = field.get_default(call_default_factory=True)
    return job_class.model_construct(**fields)


def _description(job_class: type[Job]) -> str:
    doc = (job_class.__doc__ or "").strip()
    preset = Path("jobs", "presets", f"{job_class.job.replace('-', '_')}_tiny.yaml")
    return (
        f"{doc}\n\n--config FILE reads settings from YAML, flags override them; --resume DIR goes on with a run.\n"
        f"Example: raysafe {job_class.job} --config {preset}"
    )
