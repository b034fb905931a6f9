"""One way to start any job: `--config FILE`, every field as a flag, `--resume DIR`."""

from __future__ import annotations

import difflib
import inspect
import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

import tyro
import yaml
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from raysafe.cli.output import print_table
from raysafe.config import Job, check_names, parse_field, plain, read_yaml, unchecked
from raysafe.errors import ConfigError
from raysafe.runtime.headline import headline
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
    _run(job)
    return 0


def _run(job: Job, resume: Run | None = None) -> None:
    """Do the work, and print what it came to."""
    run = job.run(resume=resume)
    rows = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row] for row in job.table(run)]
    if rows:
        print_table(rows[0], rows[1:])
    show_result(run)


def parse_job(job_class: type[Job], argv: list[str], config: str | None) -> Job:
    """A job from flags over the settings of a YAML file; raises ConfigError, or SystemExit after --help."""
    values = read_yaml(config, job_class.job) if config else {}
    named, argv = _take_named(argv, _named(job_class))
    for table, entries in named.items():
        values[table] = {**(values.get(table) or {}), **entries}
    default, markers = _with_inner_flags(_defaults(job_class, values, config or "the command line"), argv)
    said = io.StringIO()
    try:
        with redirect_stderr(said), unchecked():
            job = tyro.cli(
                job_class,
                args=argv,
                default=default,
                prog=f"raysafe {job_class.job}",
                description=_description(job_class),
                config=markers,
            )
    except SystemExit as leaving:
        if leaving.code:
            _refuse(said.getvalue(), argv, list(_flags(job_class)), _tables(job_class))
        raise
    sys.stderr.write(said.getvalue())
    given = argv or named or not config
    sources = [*([config] if config else []), *(["the command line"] if given else [])]
    return job_class.parse(plain(job), " and ".join(sources))


def show_result(run: Run) -> None:
    """Print where a finished run is, its last figures, and what may come next."""
    figures: dict[str, Any] = {}
    for row in run.metrics:
        figures |= row
    evidence = run.evidence
    table = Table("figure", "value", show_header=False, box=None)
    for name in (*(["step"] if "step" in figures else []), *headline(figures)):
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
    last = {event["event"]: event for event in run.events}
    if early := last.get("stopped-early"):
        console.print(f"early   step {early['step']}: {early['why']}", soft_wrap=True, highlight=False)
    if back := last.get("rolled-back"):
        console.print(f"model   of step {back['step']}, the best by validation", soft_wrap=True, highlight=False)
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
    _run(job_class.parse(values, f"{run.uri}/config.yaml"), run)
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


def _take_named(argv: list[str], tables: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Entries of fields of free names, `--env_config.level test`, their values read as YAML; and the rest."""
    named: dict[str, dict[str, Any]] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        table, dot, name = flag.removeprefix("--").partition(".")
        table = table.replace("-", "_")
        if not (flag.startswith("--") and dot and table in tables):
            rest.append(argument)
            continue
        found = value if equals else next(arguments, None)
        if not name or found is None:
            raise ConfigError(f"{flag} needs a name and a value: --{table}.NAME VALUE")
        try:
            named.setdefault(table, {})[name] = yaml.safe_load(found)
        except yaml.YAMLError:
            raise ConfigError(f"{flag} must be a value as YAML has it, got {found!r} (the command line)") from None
    return named, rest


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


def _with_inner_flags(default: Job, argv: Sequence[str]) -> tuple[Job, tuple[Any, ...]]:
    """The defaults with each optional inner config (lora) that a flag names, and what makes tyro take such flags.

    tyro would have it chosen by a subcommand, `lora:lora-config`, which is obeyed where it is given.
    """
    markers: tuple[Any, ...] = ()
    for name, field in type(default).model_fields.items():
        inner = _optional_config(field.annotation)
        dotted = f"--{name.replace('_', '-')}."
        wanted = any(argument.replace("_", "-").startswith(dotted) for argument in argv)
        if inner is None or not wanted or any(argument.startswith(f"{name}:") for argument in argv):
            continue
        markers = (tyro.conf.AvoidSubcommands,)
        if getattr(default, name) is None:
            default = default.model_copy(update={name: _bare(inner)})
    return default, markers


def _optional_config(annotation: Any) -> type[BaseModel] | None:
    """The model of `Model | None`."""
    models = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return models[0] if models and type(None) in get_args(annotation) else None


def _bare(model: type[BaseModel]) -> BaseModel:
    """A config of defaults; fields without one are left for the flags."""
    return model.model_construct(
        **{name: tyro.MISSING for name, field in model.model_fields.items() if field.is_required()}
    )


def _flags(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every flag that a model's fields have."""
    if not prefix:
        yield from (*_OWN, "--help")
    for field_name, field in model.model_fields.items():
        name = field_name.replace("_", "-")
        inner = _optional_config(field.annotation) or field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _flags(inner, f"{prefix}{name}.")
            continue
        yield f"--{prefix}{name}"
        if inner is bool:
            yield f"--{prefix}no-{name}"


def _tables(model: type[BaseModel]) -> list[str]:
    """Fields of free names, which have no flags of their own."""
    return [name for name, field in model.model_fields.items() if get_origin(field.annotation) is dict]


def _named(model: type[BaseModel]) -> list[str]:
    """Those of them that take any value, by `--FIELD.NAME VALUE`."""
    return [name for name in _tables(model) if get_args(model.model_fields[name].annotation)[1] is Any]


_NUMBERS = {"INT": "a whole number", "FLOAT": "a number", "{None}": "None"}


def _refuse(said: str, argv: Sequence[str], known: Sequence[str], tables: Sequence[str]) -> NoReturn:
    """Raise ConfigError with one sentence for what tyro said, in a box, of a command line."""
    plain_text = _unboxed(said)
    sections = [" ".join(part.split()) for part in re.split(r"^[-─]{4,}$", plain_text, flags=re.MULTILINE)]
    title, *parts = [part for part in sections if part] or ["the command line can't be read"]
    text = parts[0] if parts else title
    unknown = next((part for part in parts if part.startswith("Unrecognized")), None)
    if unknown:
        raise ConfigError(_unknown(unknown, argv, known, tables))
    if title == "Required options":
        missing = re.findall(r"^(--\w[\w.-]*)", plain_text, re.MULTILINE) or [text]
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{' and '.join(missing)} {verb} required: give a flag or set it in the --config file")
    if found := re.match(r"Missing value for argument '([^']+)'\. Expected (\d+)", text):
        flag, count = found.groups()
        raise ConfigError(f"{flag} needs {'a value' if count == '1' else f'{count} values'} (the command line)")
    if found := re.match(r"invalid choice (.+) for argument '([^']+)'\. Expected one of \((.+?),?\)", text):
        value, flag, choices = found.groups()
        raise ConfigError(f"{flag} must be one of {choices.replace(chr(39), '')}, got {value} (the command line)")
    if found := re.match(r"Error parsing (--[\w.-]+)\S*: (.*)", text):
        flag, reason = found.groups()
        kinds = re.search(re.escape(flag) + r" (\S+)", " ".join(parts[1:]))
        wanted = [_NUMBERS[kind] for kind in kinds[1].split("|")] if kinds and _simple(kinds[1]) else []
        value = _value_of(flag, argv)
        if wanted and value is not None:
            raise ConfigError(f"{flag} must be {' or '.join(reversed(wanted))}, got {value!r} (the command line)")
        raise ConfigError(f"{flag}: {reason} (the command line)")
    raise ConfigError(f"{text} (the command line)")


def _simple(kinds: str) -> bool:
    return all(kind in _NUMBERS for kind in kinds.split("|"))


def _unboxed(said: str) -> str:
    """The text in a box, its title first, with a rule after each section; tyro draws with dashes outside of UTF-8."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).strip().splitlines()
    head = [line.strip("╭╮─ ") + "\n────" for line in lines[:1]]
    return "\n".join([*head, *(line.strip("│╰╯ ") for line in lines[1:])])


def _value_of(flag: str, argv: Sequence[str]) -> str | None:
    """What was given to a flag, the last time."""
    given = None
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == flag:
            given = value if equals else following
    return given


def _unknown(text: str, argv: Sequence[str], known: Sequence[str], tables: Sequence[str]) -> str:
    """A sentence for the first argument that is no flag of the job, with the flag that may have been meant."""
    for argument in argv:
        flag = argument.partition("=")[0]
        dashed = flag.replace("_", "-")
        table = dashed.removeprefix("--").partition(".")[0].replace("-", "_")
        if flag.startswith("--") and table in tables:
            return f"{table} has no flag: set it in the --config file"
        if not flag.startswith("--") or dashed in known:
            continue
        ends = [name for name in known if name.endswith(f".{dashed.removeprefix('--')}")]
        near = ends or difflib.get_close_matches(dashed, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "--help lists the flags"
        return f"unknown flag '{flag}'; {hint}"
    found = re.search(r"options: (\S+)", text)
    stray = found[1].rstrip(",") if found else text
    before = argv[argv.index(stray) - 1] if stray in argv[1:] else ""
    after = f" after {before}" if before.startswith("--") else ""
    return f"unexpected argument '{stray}'{after}; --help lists the flags"


def _description(job_class: type[Job]) -> str:
    doc = inspect.cleandoc(job_class.__doc__ or "")
    preset = Path("jobs", "presets", f"{job_class.job.replace('-', '_')}_tiny.yaml")
    tables = "".join(f" --{name}.NAME VALUE sets an entry of {name}." for name in _named(job_class))
    return (
        f"{doc}\n\n--config FILE reads settings from YAML, flags override them; --resume DIR goes on with a run."
        f"{tables}\n"
        f"Example: raysafe {job_class.job} --config {preset}"
    )
