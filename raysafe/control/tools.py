"""Rules of tools: what a tool does to the world, and which arguments it may be called with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from raysafe.config import Config
from raysafe.control.capabilities import INFLUENCES, Capabilities, Influence, covers_domain, covers_path
from raysafe.control.reach import UNREADABLE, domain_of, looks_like_path, path_of, people_in, strings, urls_in
from raysafe.guards.guard import ToolCall

Capability = Literal["resources", "information", "actions", "autonomy", "influence"]


class ArgumentRule(Config):
    """What one argument may be. Several conditions all hold."""

    required: bool = False
    kind: Literal["any", "text", "number", "truth", "path", "domain", "list"] = Field(
        default="any", description="path and domain are checked against the capabilities of the same name."
    )
    one_of: tuple[Any, ...] | None = Field(default=None, min_length=1)
    at_least: float | None = None
    at_most: float | None = None
    longest: int | None = Field(default=None, ge=0, description="Characters of a text, items of a list.")


class ToolRule(Config):
    """What one tool does, and its arguments. An argument without a rule is refused where there are rules."""

    arguments: dict[str, ArgumentRule] | None = Field(default=None, description="By name; none: any arguments.")
    reads: tuple[str, ...] = Field(default=(), description="Classes of data that it hands to the model.")
    scope: Influence = Field(default="self", description="Whom it touches.")
    recipients: str | None = Field(default=None, description="The argument that names the people it reaches.")


class Objection(Config):
    """What one capability has against a call. The text quotes nothing of the arguments."""

    capability: Capability
    text: str


def object_to(call: ToolCall, rule: ToolRule | None, granted: Capabilities) -> Iterator[Objection]:
    """All that stands against a call under what is in effect; nothing where it may be made, autonomy aside."""
    if not any(name in ("*", call.name) for name in granted.tools):
        yield _against("actions", f"the tool '{call.name[:64]}' isn't granted")
        return
    try:
        arguments = json.loads(call.arguments or "{}", object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        yield _against("actions", f"the arguments of '{call.name[:64]}' are no plain JSON object")
        return
    rule = rule or ToolRule()
    yield from _by_rules(arguments, rule)
    yield from _information(arguments, rule, granted)
    yield from _influence(arguments, rule, granted)


def _by_rules(arguments: dict[str, Any], rule: ToolRule) -> Iterator[Objection]:
    if rule.arguments is None:
        return
    if set(arguments) - set(rule.arguments):
        yield _against("actions", "an argument has no rule")
    for name, wanted in rule.arguments.items():
        if name not in arguments:
            if wanted.required:
                yield _against("actions", f"the argument '{name}' is required")
        elif (problem := _problem(arguments[name], wanted)) is not None:
            yield _against("actions", f"the argument '{name}' {problem}")


def _problem(value: Any, rule: ArgumentRule) -> str | None:
    kinds: dict[str, tuple[type, ...]] = {
        "text": (str,), "path": (str,), "domain": (str,), "number": (int, float), "truth": (bool,), "list": (list,),
    }  # fmt: skip
    if rule.kind != "any" and (type(value) not in kinds[rule.kind]):
        return f"is no {rule.kind}"
    if rule.one_of is not None and not any(type(value) is type(one) and value == one for one in rule.one_of):
        return "is none of those allowed"
    if rule.at_least is not None or rule.at_most is not None:
        if type(value) not in (int, float):
            return "is no number"
        low = rule.at_least if rule.at_least is not None else float("-inf")
        high = rule.at_most if rule.at_most is not None else float("inf")
        if not low <= value <= high:
            return "is out of its range"
    if rule.longest is not None and (not isinstance(value, str | list) or len(value) > rule.longest):
        return f"is longer than {rule.longest}"
    return None


def _information(arguments: dict[str, Any], rule: ToolRule, granted: Capabilities) -> Iterator[Objection]:
    if strange := [name for name in rule.reads if not any(one in ("*", name) for one in granted.data_classes)]:
        yield _against("information", f"it reads data of the class '{strange[0]}'")
    domains, paths = _reached(arguments, rule)
    if any(not _covered(domain, granted.domains, covers_domain) for domain in domains):
        yield _against("information", "it reaches a network domain that isn't granted")
    if any(not _covered(path, granted.paths, covers_path) for path in paths):
        yield _against("information", "it touches a path that isn't granted")


def _reached(arguments: dict[str, Any], rule: ToolRule) -> tuple[set[str], set[str]]:
    """Domains and paths in the arguments: of those whose rule says so, and of any text that looks like one."""
    domains, paths = set[str](), set[str]()
    for name, value in arguments.items():
        kind = rule.arguments[name].kind if rule.arguments and name in rule.arguments else "any"
        for text in strings([name, value]):
            urls = urls_in(text)
            domains.update(domain_of(url) for url in urls if not url.lower().startswith("file:"))
            paths.update(path_of(url) for url in urls if url.lower().startswith("file:"))
            if kind != "path" and looks_like_path(text):
                paths.add(path_of(text))
        if kind == "path" and isinstance(value, str):
            paths.add(path_of(value))
        if kind == "domain" and isinstance(value, str):
            domains.add(domain_of(value))
    return domains, paths


def _covered(found: str, granted: tuple[str, ...], covers: Any) -> bool:
    if found == UNREADABLE:
        return "*" in granted
    return any(covers(grant, found) for grant in granted)


def _influence(arguments: dict[str, Any], rule: ToolRule, granted: Capabilities) -> Iterator[Objection]:
    if INFLUENCES.index(rule.scope) > INFLUENCES.index(granted.scope):
        yield _against("influence", f"it touches '{rule.scope}', and no more than '{granted.scope}' is granted")
    if rule.recipients is not None and people_in(arguments.get(rule.recipients)) > granted.recipients:
        yield _against("influence", f"it reaches more than {granted.recipients:,} recipients")


def _against(capability: Capability, text: str) -> Objection:
    return Objection(capability=capability, text=text)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are its own: of two with one name, a reader may take either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found
