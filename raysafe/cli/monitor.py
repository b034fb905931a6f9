"""`raysafe monitor run | check | status | alerts | ack | resolve | silence | history`: the safety monitor.

Gateways write figures of what they answer to the store; `run` watches them by a file of rules, alerts, escalates what
nobody acknowledges in time, and intervenes. `raysafe serve --monitor RULES` runs it beside a service.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from raysafe.cli.arguments import AsJson, By, Store
from raysafe.cli.keys import moment, span
from raysafe.cli.output import print_json, print_table
from raysafe.control.people import person
from raysafe.records.store import default_url, open_store

if TYPE_CHECKING:
    from raysafe.monitoring.rules import Rule

Id = tyro.conf.Positional[str]
RulesPath = Annotated[Path, tyro.conf.arg(help="YAML file of rules; it is followed while the monitor runs.")]
Service = Annotated[str | None, tyro.conf.arg(help="One service only.")]
Note = Annotated[str, tyro.conf.arg(help="Why; kept with the alert and in the audit log.")]
Everything = Annotated[bool, tyro.conf.arg(name="all", help="The resolved ones too.")]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {
        "run": run,
        "check": check,
        "status": status,
        "alerts": alerts,
        "ack": ack,
        "resolve": resolve_one,
        "silence": silence_some,
        "history": history,
    }
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe monitor", description=__doc__)


def run(
    *,
    rules: RulesPath,
    store: Store = None,
    address: Annotated[
        str | None, tyro.conf.arg(help="Ray cluster to join, which then exports the monitor's metrics to Prometheus.")
    ] = None,
) -> int:
    """Watch until Ctrl-C. Of two monitors of the same rules one is in charge; the other waits to take over."""
    import logging

    from raysafe.monitoring.running import Running
    from raysafe.oversight.roll_back import roll_back_of
    from raysafe.runtime.cluster import connect

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    if address is not None:
        connect(address)
    url = store or default_url()
    with open_store(url) as opened:
        running = Running(url, rules, approved=lambda service: roll_back_of(opened, service))
        running.start()
        try:
            print(
                f"{running.monitor.rules.label}: {'in charge' if running.in_charge else 'waiting for another monitor'}"
            )
            before = running.in_charge
            while True:
                time.sleep(1.0)
                if running.in_charge != before:
                    before = running.in_charge
                    print("in charge" if before else "another monitor is in charge now", flush=True)
        finally:
            running.stop()


def check(rules: tyro.conf.Positional[Path], *, as_json: AsJson = False) -> int:
    """Validate a file of rules, and show what it says."""
    from raysafe.monitoring.rules import Rules

    found = Rules.load(rules)
    if as_json:
        print_json(found.model_dump(mode="json") | {"label": found.label})
        return 0
    print(f"{found.label}: sinks {', '.join(sink.name for sink in found.sinks) or 'none'}")
    rows = [
        (
            rule.name,
            rule.metric,
            _watches(rule),
            rule.severity,
            f"{rule.for_s:g} s",
            _steps(rule),
            ", ".join(rule.inhibited_by),
        )
        for rule in found.rules
    ]
    print_table(("rule", "metric", "alerts on", "severity", "for", "escalates", "inhibited by"), rows)
    return 0


def status(*, store: Store = None, as_json: AsJson = False) -> int:
    """Who watches, what gateways observed in the last minute, and how many alerts are open."""
    from raysafe.monitoring.alerts import list_alerts
    from raysafe.monitoring.figures import live_figures, monitor_state

    with open_store(store) as opened:
        monitors, figures, open_alerts = monitor_state(opened), live_figures(opened), list_alerts(opened)
    if as_json:
        parts = {"monitors": monitors, "figures": figures}
        shown = {name: [each._asdict() for each in found] for name, found in parts.items()}
        print_json(shown | {"alerts": [alert.record() for alert in open_alerts]})
        return 0
    for monitor in monitors:
        print(f"{monitor.rules} at {monitor.place}: {'watches' if monitor.live else 'NOT RUNNING'}")
    if not monitors:
        print("no monitor has ever run on this store: raysafe monitor run --rules FILE")
    print(f"{len(open_alerts)} alert(s) not resolved")
    rows = [(f.service, f.metric, f.count, f"{f.mean:.4g}", f"{f.low:.4g}", f"{f.high:.4g}") for f in figures]
    print_table(("service", "metric, last minute", "values", "mean", "lowest", "highest"), rows)
    return 0


def alerts(
    *, service: Service = None, everything: Everything = False, store: Store = None, as_json: AsJson = False
) -> int:
    """Alerts, newest first."""
    from raysafe.monitoring.alerts import list_alerts

    with open_store(store) as opened:
        found = list_alerts(opened, service=service, everything=everything)
    if as_json:
        print_json([alert.record() for alert in found])
        return 0
    rows = [
        (
            a.id,
            a.severity,
            a.rule,
            a.service,
            a.state,
            a.acknowledged_by,
            f"{a.opened:%m-%d %H:%M:%S}",
            a.summary,
            a.quiet,
        )
        for a in found
    ]
    print_table(("alert", "severity", "rule", "service", "state", "seen by", "since", "what", "quiet"), rows)
    return 0


def ack(alert: Id, *, note: Note, by: By = None, store: Store = None) -> int:
    """Say that you look at it: it escalates no further."""
    from raysafe.monitoring.alerts import acknowledge

    with open_store(store) as opened:
        found = acknowledge(opened, alert, by=person(by), note=note)
    print(f"{found.id} acknowledged by {found.acknowledged_by}")
    return 0


def resolve_one(alert: Id, *, note: Note, by: By = None, store: Store = None) -> int:
    """Say that it is over; new values may open another."""
    from raysafe.monitoring.alerts import resolve

    with open_store(store) as opened:
        found = resolve(opened, alert, by=person(by), note=note)
    print(f"{found.id} resolved by {found.resolved_by}")
    return 0


def silence_some(
    *,
    rule: Annotated[str, tyro.conf.arg(help="The rule whose alerts are silent.")] = "",
    service: Annotated[str, tyro.conf.arg(help="The service whose alerts are silent.")] = "",
    lasts: Annotated[str, tyro.conf.arg(name="for", help="How long: 30m, 12h, 2d.")] = "1h",
    reason: Annotated[str, tyro.conf.arg(help="Why; kept in the audit log.")] = "",
    end: Annotated[str | None, tyro.conf.arg(help="End this silence, by its id.")] = None,
    show: Annotated[bool, tyro.conf.arg(name="list", help="Show the silences in force, and change nothing.")] = False,
    by: By = None,
    store: Store = None,
) -> int:
    """For a time, tell nobody of a rule's or a service's alerts, and escalate none of them."""
    from raysafe.monitoring.silences import end_silence, list_silences, silence

    with open_store(store) as opened:
        if show:
            rows = [
                (s.id, s.rule or "all", s.service or "all", s.by, _time(s.until), s.reason)
                for s in list_silences(opened)
            ]
            print_table(("silence", "rule", "service", "by", "until", "reason"), rows)
        elif end is not None:
            print(f"{end_silence(opened, end, by=person(by)).id} ended")
        else:
            made = silence(
                opened, rule=rule, service=service, duration_s=span(lasts).total_seconds(), by=person(by), reason=reason
            )
            print(f"{made.id}: {made}")
    return 0


def history(
    metric: tyro.conf.Positional[str],
    *,
    service: Service = None,
    since: Annotated[str, tyro.conf.arg(help="A date or time (UTC), or how long ago: 6h, 30d.")] = "1h",
    until: Annotated[str | None, tyro.conf.arg(help="A date or time (UTC); now by default.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> int:
    """A metric over time, from the files that any reader of Parquet can open, and from the store."""
    from raysafe.monitoring.history import history_folder, with_recent

    now = datetime.now(UTC)
    begin = now - span(since) if since[-1:] in "smhd" else moment(since)
    with open_store(store) as opened:
        folder = history_folder(store or default_url())
        end = None if until is None else moment(until)
        table = with_recent(opened, folder, service=service, metric=metric, since=begin, until=end)
    if as_json:
        print_json(table.to_pylist())
        return 0
    rows = [
        (f"{r['start']:%m-%d %H:%M:%S}", r["service"], r["gateway"][:8], r["count"], *_figures(r))
        for r in table.to_pylist()
    ]
    print_table(
        ("from", "service", "gateway", "values", "mean", "lowest", "highest"), rows, title=f"{metric}, {folder}"
    )
    return 0


def _figures(row: dict[str, float]) -> list[str]:
    if row["total"] is None:
        return ["", "", ""]
    return [f"{value:.4g}" for value in (row["total"] / row["count"], row["low"], row["high"])]


def _watches(rule: Rule) -> str:
    if rule.limit is not None:
        side = f"above {rule.limit.above:g}" if rule.limit.above is not None else f"below {rule.limit.below:g}"
        return f"mean {side} over {rule.limit.over_s:g} s"
    assert rule.detector is not None
    run_length = rule.calibration.average_run_length
    return f"{rule.detector.kind}, a false alarm in {run_length:,g} {rule.each}s, set on {rule.calibration.values:,}"


def _steps(rule: Rule) -> str:
    parts = []
    for step in rule.escalate:
        does = [step.severity or "", ", ".join(step.sinks)]
        if step.intervention is not None:
            does.append(f"{'proposes ' if step.intervention.confirm else ''}{step.intervention.kind}")
        parts.append(f"{step.after_s:g} s: {' '.join(filter(None, does))}")
    return "; ".join(parts)


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%m-%d %H:%M}"
