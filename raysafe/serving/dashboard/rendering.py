"""From values to HTML: Jinja with every value escaped, and hidden characters spelled out wherever they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request

from raysafe.serving.dashboard.visible import marked, spelled

FOLDER = Path(__file__).parent
Theme = Literal["auto", "light", "dark"]
_THEMES: dict[str, Theme] = {"auto": "auto", "light": "light", "dark": "dark"}
THEMES = tuple(_THEMES)
_LEFT_OUT = ("texts", "sha256", "statement", "signature")
"""Of a row's details: what its own page shows."""
THEME_COOKIE = "raysafe-theme"


def page(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


def theme_of(request: Request) -> Theme:
    return _THEMES.get(request.cookies.get(THEME_COOKIE, ""), "auto")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"marked": marked, "moment": moment, "span": span, "figure": figure, "told": told}
    made.filters["urlencode"] = _quoted
    made.globals["now"] = lambda: datetime.now(UTC)
    return made


def _finalize(value: Any) -> Any:
    """What an expression of a template writes; Markup is what `marked` or a macro has made safe already."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else spelled(str(value))


def told(details: object) -> list[tuple[str, str]]:
    """A row's details for one line of a table: what says nothing left out, and of verdicts who said what."""
    if not isinstance(details, dict):
        return [("", str(details))]
    found = []
    for name, value in details.items():
        if name == "verdicts" and isinstance(value, list) and all(isinstance(each, dict) for each in value):
            value = ", ".join(f"{each.get('guard')} {each.get('action')}" for each in value)
        if value not in (None, "", [], {}) and name not in _LEFT_OUT:
            found.append((str(name), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return found


def _quoted(value: object) -> str:
    """For an address; what no address can hold is replaced."""
    return quote(str(value), safe="", errors="replace")


def moment(value: datetime | str | None) -> Markup | str:
    """A time as the log has it, in UTC, without the date where that is today's."""
    if value is None or value == "":
        return ""
    when = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    today = when.date() == datetime.now(UTC).date()
    full = when.isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        full, f"{when:%Y-%m-%d %H:%M:%S}", f"{when:%H:%M:%S}" if today else f"{when:%Y-%m-%d %H:%M}"
    )


def span(value: timedelta | float) -> str:
    """A length of time in its two largest units: 3 d 4 h, 12 min 5 s."""
    seconds = round(value.total_seconds() if isinstance(value, timedelta) else value)
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
        elif parts:
            break
    return sign + " ".join(parts[:2])


def figure(value: float | None) -> str:
    """A number with four digits that count, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"
