"""Config: one frozen pydantic model per job, the same behind the command line, the YAML presets and the Python API."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from raysafe.errors import ConfigError

if TYPE_CHECKING:
    from raysafe.runtime.run import Run


_inside: ContextVar[bool] = ContextVar("inside", default=False)
_source: ContextVar[str] = ContextVar("source", default="settings")
_unchecked: ContextVar[bool] = ContextVar("unchecked", default=False)


class Config(BaseModel):
    """Frozen settings; an unknown field or an impossible value fails at construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        """Validate; raises ConfigError with one sentence naming each field, value and remedy."""
        if _unchecked.get():
            given = type(self).model_construct(**values)
            for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
                object.__setattr__(self, name, getattr(given, name))
            return
        outermost = not _inside.get()
        token = _inside.set(True)
        try:
            super().__init__(**values)
        except ValidationError as error:
            if not outermost:
                raise
            raise ConfigError(explain(type(self), error, _source.get())) from None
        finally:
            _inside.reset(token)

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "settings") -> Self:
        """The settings in a mapping that came from `source`, which errors name; raises ConfigError."""
        token = _source.set(source)
        try:
            return cls(**values)
        finally:
            _source.reset(token)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a YAML file; raises ConfigError where it is missing, not YAML, or doesn't validate."""
        return cls.parse(read_yaml(path), str(path))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class Job(Config):
    """A Config that does work: `SomeJob(...).run()` returns the Run it left behind."""

    job: ClassVar[str]

    storage: str = Field(default="runs", description="Where runs are kept: a folder or any pyarrow filesystem URI.")
    name: str | None = Field(
        default=None, description="First part of the run directory's name; the job's name by default."
    )
    seed: int = Field(default=0, ge=0, description="Seed of every random choice.")
    address: str | None = Field(default=None, description="Ray cluster to join; a local Ray is started by default.")

    def run(self, resume: Run | None = None) -> Run:
        """Do the work in a new run directory, or go on in `resume`."""
        raise NotImplementedError(f"{type(self).__name__} defines no run()")

    def table(self, run: Run) -> list[list[Any]]:
        """What the command line shows of a finished run besides its figures, headings first."""
        return []

    def to_yaml(self) -> str:
        return f"job: {self.job}\n" + super().to_yaml()


@contextmanager
def unchecked() -> Iterator[None]:
    """Configs made inside are not validated: for what makes inner ones first, whose errors would lack the path."""
    token = _unchecked.set(True)
    try:
        yield
    finally:
        _unchecked.reset(token)


def plain(config: BaseModel) -> dict[str, Any]:
    """The values of a config, inner ones as mappings as well: what `parse` validates."""
    return {name: plain(value) if isinstance(value, BaseModel) else value for name, value in config}


def read_yaml(path: str | Path, job: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file, less its `job` key, which must be `job` where both are given; raises ConfigError."""
    values = _mapping(path)
    found = values.pop("job", job)
    if job is not None and found != job:
        raise ConfigError(f"{path} holds settings of the job '{found}', not of '{job}'")
    return values


def job_named(path: str | Path) -> str | None:
    """The job whose settings a YAML file says that it holds; raises ConfigError."""
    return _mapping(path).get("job")


def _mapping(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of fields to values, found a {type(values).__name__}")
    _check_keys(values, str(path))
    return values


def _check_keys(value: Any, path: str, within: str = "") -> None:
    """Raise ConfigError for a key that isn't text, at any depth."""
    if isinstance(value, list):
        for item in value:
            _check_keys(item, path, within)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if not isinstance(key, str):
            place = f" in {within}" if within else ""
            raise ConfigError(f"{path} has the key {key!r}{place}, which is not text: fields are named by text")
        _check_keys(inner, path, f"{within}.{key}" if within else key)


def parse_field(model: type[BaseModel], name: str, value: Any, source: str) -> Any:
    """The value of one field, validated by itself; raises ConfigError."""
    token = _inside.set(True)
    try:
        return TypeAdapter(model.model_fields[name].rebuild_annotation()).validate_python(value)
    except ValidationError as error:
        raise ConfigError(explain(model, error, source, within=(name,))) from None
    finally:
        _inside.reset(token)


def check_names(model: type[BaseModel], values: dict[str, Any], source: str) -> None:
    """Raise ConfigError for a name that is no field of the model."""
    known = list(model.model_fields)
    strange = [name for name in values if name not in known]
    if strange:
        raise ConfigError("; ".join(_unknown(name, name, known, source) for name in strange))


def explain(model: type[BaseModel], error: ValidationError, source: str, within: tuple[str, ...] = ()) -> str:
    """One sentence per problem: field, what was found, what is allowed, what to do.

    within: path of the field that was validated by itself.
    """
    return "; ".join(_explain_one(model, problem, source, within) for problem in error.errors())


def _unknown(name: str, field: str, known: list[str], source: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known fields: {', '.join(known)}"
    return f"unknown field '{field}' in {source}; {hint}"


def _explain_one(model: type[BaseModel], problem: Any, source: str, within: tuple[str, ...]) -> str:
    path = (*within, *problem["loc"])
    field = ".".join(str(part) for part in path) or "settings"
    if problem["type"] == "extra_forbidden":
        return _unknown(str(path[-1]), field, _fields_at(model, path[:-1]), source)
    if problem["type"] == "missing":
        return f"field '{field}' is required in {source}"
    message = problem["msg"].removeprefix("Value error, ")
    if path and not isinstance(problem["input"], dict):
        return f"{field}: {message}, got {problem['input']!r} ({source})"
    return f"{field}: {message} ({source})" if path else f"{message} ({source})"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in loc:
        field = getattr(current, "model_fields", {}).get(part)
        current = field.annotation if field else None
        # a field that may be left out: the model among the types that it may have
        current = next((kind for kind in get_args(current) if hasattr(kind, "model_fields")), current)
    return list(getattr(current, "model_fields", {}))
