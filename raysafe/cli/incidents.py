"""`raysafe incidents list | show | correct | export`: what guards stopped and people corrected, as training data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from raysafe.cli.arguments import AsJson, Store
from raysafe.cli.output import print_json, print_table
from raysafe.errors import ConfigError, DataError, StorageError
from raysafe.oversight.incident_export import REFUSAL, Exported, Form
from raysafe.oversight.incidents import Incident, Incidents, Wanted

if TYPE_CHECKING:
    from raysafe.oversight.incident_export import Helper

Arg = tyro.conf.arg
Id = tyro.conf.Positional[str]
Since = Annotated[str | None, Arg(help="Not before this day or time, such as 2026-11-26 or 2026-11-26T08:00.")]
Model = Annotated[str | None, Arg(help="Of the model that a gateway serves by this name.")]
Tenant = Annotated[str | None, Arg(help="Of this tenant's keys.")]
By = Annotated[str | None, Arg(help="Who corrects; RAYSAFE_REVIEWER by default.")]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_incidents, "show": show, "correct": correct, "export": export}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe incidents", description=__doc__)


def list_incidents(
    *, since: Since = None, model: Model = None, tenant: Tenant = None, store: Store = None, as_json: AsJson = False
) -> int:
    """Exchanges that a guard blocked or held for what they say, and answers that a person corrected; oldest first."""
    found, others = _read(store, _wanted(since, model, tenant))
    if as_json:
        print_json([_facts(one) for one in found])
        return 0
    rows = [(o.id, o.time[:16], o.model, o.tenant, o.stage, o.guard, o.state, _texts(o)) for o in found]
    print_table(("incident", "time", "model", "tenant", "stage", "guard", "state", "texts"), rows)
    lacking = sum(one.lacking is not None for one in found)
    print(f"{len(found)} incidents, {lacking} of them without their texts; {_others(others)}")
    return 0


def show(incident: Id, *, store: Store = None, as_json: AsJson = False) -> int:
    """One incident, with its texts; an exchange that was let pass too, for it may be corrected."""
    from raysafe.records.store import open_store

    with open_store(store) as opened:
        found = Incidents(opened).get(incident)
    facts = _facts(found)
    if as_json:
        print_json(facts)
        return 0
    said = ("prompt", "answer", "correction")
    print_table(("what", "value"), [(k, str(v)) for k, v in facts.items() if v is not None and k not in said])
    # repr: what was said may try to write to the reader's terminal
    for turn in found.prompt or ():
        print(f"{turn['role']}: {turn['content']!r}")
    if found.answer is not None:
        print(f"answer: {found.answer!r}")
    if found.correction is not None:
        print(f"correction by {found.correction.by}: {found.correction.answer!r}")
    return 0


def correct(
    incident: Id,
    *,
    answer: Annotated[Path, Arg(help="File with the answer that should have been given, in UTF-8.")],
    by: By = None,
    note: Annotated[str, Arg(help="Why; kept in the audit log with the correction.")] = "",
    store: Store = None,
) -> int:
    """Say what should have been answered: to what was blocked or held, or to an exchange that was let pass.

    The correction is a row of the audit log, text and all. A later one of the same exchange takes its place.
    """
    from raysafe.oversight.corrections import correct as record
    from raysafe.oversight.review import named_reviewer
    from raysafe.records.store import open_store

    try:
        text = answer.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"can't read the answer {answer}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{answer} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    person = named_reviewer(by)
    with open_store(store) as opened:
        incidents = Incidents(opened)
        found = incidents.get(incident)
        made = record(incidents.folder, incident, text, by=person, note=note, asked_by=found.key)
    print(f"{incident} corrected by {made.by}; audit row {made.row[:12]}")
    return 0


def export(
    *,
    out: Annotated[Path, Arg(help="JSON Lines file to write, *.jsonl; one that is there is replaced.")],
    form: Annotated[
        Form, Arg(name="format", help="preferences (for dpo and reward-model), or prompts (for ppo and grpo).")
    ] = "preferences",
    since: Since = None,
    model: Model = None,
    tenant: Tenant = None,
    policy: Annotated[
        str | None,
        Arg(
            help="Policy, or default, whose pii and secrets guards say what is marked, and whose guards judge what "
            "models write here; without it all personal data and secrets are marked."
        ),
    ] = None,
    refusal: Annotated[str, Arg(help="What is chosen over an answer that was stopped.")] = REFUSAL,
    answer_with: Annotated[
        str | None,
        Arg(
            help="Model that answers prompts which were stopped before one did; what the policy's guards stop of that "
            "is rejected. Needs --policy."
        ),
    ] = None,
    chosen_with: Annotated[
        str | None,
        Arg(help="Trusted model whose answers stand in for refusals, where the guards let them. Needs --policy."),
    ] = None,
    max_new_tokens: Annotated[int, Arg(help="Longest answer of these models, in tokens.")] = 256,
    seed: Annotated[int, Arg(help="Seed of their draws.")] = 0,
    address: Annotated[str | None, Arg(help="Ray cluster to join; a local Ray is started by default.")] = None,
    store: Store = None,
) -> int:
    """Write incidents as preference pairs or prompts, each with its incident, audit row and guard.

    Chosen over what a guard stopped is a refusal, or what a person wrote by `raysafe incidents correct`; where a
    reviewer released a hold, the answer is chosen over a refusal. The same prompt and answer count once, as the last
    person decided. What is left out is counted, with the reason.
    """
    from raysafe.data.cache import written_whole
    from raysafe.data.schema import to_json_lines
    from raysafe.guards.policy import load_policy
    from raysafe.oversight.incident_export import preferences, prompts
    from raysafe.oversight.redaction import Redactor

    if out.suffix != ".jsonl":
        raise ConfigError(f"out must end in .jsonl, by which it is read again, got {out}")
    if not refusal.strip():
        raise ConfigError("refusal is empty: say what is to be chosen over an answer that was stopped")
    if policy is None and (answer_with or chosen_with):
        raise ConfigError("--answer-with and --chosen-with need --policy, whose guards judge what the models write")
    chosen = None if policy is None else load_policy(None if policy == "default" else policy)
    found, others = _read(store, _wanted(since, model, tenant))
    redactor = Redactor(chosen)
    if form == "prompts":
        exported = prompts(found, redactor)
    else:
        exported = preferences(
            found,
            redactor,
            refusal=refusal,
            guards=None if chosen is None else chosen.build(),
            rejected_by=_helper(answer_with, max_new_tokens, seed, address),
            chosen_by=_helper(chosen_with, max_new_tokens, seed, address),
        )
    if not exported.rows:
        raise DataError(f"there are no {form} to export: {_left_out(exported) or 'no incident'}; {_others(others)}")
    try:
        with written_whole(out) as path:
            path.write_text(to_json_lines(exported.rows), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"can't write {out}: {error.strerror}") from None
    told = ", ".join(f"{count} {what}" for what, count in exported.written.most_common())
    print(f"{len(exported.rows)} {form} of {len(found)} incidents in {out}: {told}")
    if left_out := _left_out(exported):
        print(f"left out: {left_out}")
    print(f"{_others(others)}; {redactor.told}")
    print(f"next: raysafe {'dpo' if form == 'preferences' else 'grpo'} --model MODEL --data {out}")
    return 0


def _read(store: str | None, wanted: Wanted) -> tuple[list[Incident], int]:
    from raysafe.records.store import open_store

    with open_store(store) as opened:
        return Incidents(opened).read(wanted)


def _wanted(since: str | None, model: str | None, tenant: str | None) -> Wanted:
    try:
        day = None if since is None else datetime.fromisoformat(since)
    except ValueError:
        raise ConfigError(
            f"since must be a day or time such as 2026-11-26 or 2026-11-26T08:00, got '{since}'"
        ) from None
    return Wanted(since=day, model=model, tenant=tenant)


def _helper(model: str | None, max_new_tokens: int, seed: int, address: str | None) -> Helper | None:
    if model is None:
        return None
    from raysafe.oversight.incident_export import Helper

    def answer(prompts: Sequence[Any]) -> list[str]:
        import pyarrow as pa

        from raysafe.data.conversation import MESSAGES
        from raysafe.models.generate.answers import answer_prompts
        from raysafe.models.generate.engine import SamplingParams
        from raysafe.runtime.cluster import Needs

        if not prompts:
            return []
        table = pa.table({"prompt": pa.array(list(prompts), MESSAGES)})
        sampling = SamplingParams(max_tokens=max_new_tokens, seed=seed)
        found = answer_prompts(
            model, table, sampling, needs=Needs(), description=f"answers of {model}", address=address
        )
        return [texts[0] for texts in found]

    return Helper(model, answer)


def _left_out(exported: Exported) -> str:
    return "; ".join(f"{count}: {why}" for why, count in exported.left_out.most_common())


def _others(count: int) -> str:
    return f"{count} more exchanges were stopped by a limit or a guard's failure, and are no incidents"


def _texts(incident: Incident) -> str:
    return "missing" if incident.lacking is not None else "kept"


def _facts(incident: Incident) -> dict[str, Any]:
    facts = incident._asdict() | {"state": incident.state}
    facts["word"] = None if incident.word is None else incident.word._asdict()
    facts["correction"] = None if incident.correction is None else incident.correction._asdict()
    return facts
