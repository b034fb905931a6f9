"""The evaluate job: one suite on one model, leaving Evidence in its run and, for a registered model, in the store."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from raysafe.config import Job
from raysafe.data.tokenise import TooLong
from raysafe.errors import DataError
from raysafe.evaluation.generalization.settings import (
    CalibrationSettings,
    ShiftSettings,
    StabilitySettings,
    SuiteSettings,
)
from raysafe.evaluation.suites import SUITES, Findings, SuiteName
from raysafe.models.packing import Layout
from raysafe.records.evidence import Evidence
from raysafe.robustness.attacks.language.settings import GCGSettings
from raysafe.robustness.evaluate import RobustnessSettings
from raysafe.runtime.cluster import Needs
from raysafe.runtime.run import Run

ROWS = "artifacts/cases.jsonl"
SUMMARY = "artifacts/summary.json"
EXAMPLES_SHOWN = 40


class EvaluateJob(Job):
    """Examine a model with one suite. A setting that the suite doesn't read is an error."""

    job: ClassVar[str] = "evaluate"

    model: str = Field(description="Model folder, run directory or hub id to examine.")
    suite: SuiteName = Field(description="What to examine: see the suites in the README.")
    data: str = Field(
        description="Held-out pairs (preference-accuracy) or prompts (win-rate, safety-prompts), file or hub id; a "
        "table (fairness), a reward (value-divergence), a recording (safe-exploration), the environment, "
        "raysafe/NAME-v0 (agents), or labelled examples: digits, mnist, a folder of classes, npz, a "
        "table, a hub id (classifiers)."
    )
    reference: str | None = Field(
        None,
        description="The policy's reference model (preference-accuracy), the other model (win-rate), a trusted "
        "agent (reward-hacking), a classifier whose adversarial examples are tried too (robustness), the model before "
        "(forgetting), or one trained from scratch (negative-transfer).",
    )
    env_config: dict[str, Any] = Field(default_factory=dict, description="Suites of agents: the problem's settings.")
    episodes: int = Field(200, ge=2, le=100_000, description="Suites of agents: episodes under each condition.")
    drawn: bool = Field(
        False, description="Suites of agents: draw actions from the policy's distribution; else take its best."
    )
    judge: str | None = Field(None, description="win-rate: a reward model, or module:function(prompt, first, second).")
    detector: str = Field("rules", description="safety-prompts: 'rules', or module:function(prompt, answer).")
    gcg: GCGSettings = Field(default_factory=GCGSettings, description="suffixes: the search, and what it is for.")
    policy: str | None = Field(None, description="suffixes: guards that stand before the model, as a policy's file.")
    problem: str | None = Field(
        None,
        description="value-divergence: where both rewards are of, a gridworld's id (raysafe/…-v0) or an MDP's file.",
    )
    gamma: float = Field(0.95, ge=0, lt=1, description="value-divergence: the discount of values.")
    robustness: RobustnessSettings = Field(
        default_factory=RobustnessSettings, description="robustness: attacks, epsilons, and how they are checked."
    )
    label: str = Field("label", description="fairness: column of the class.")
    groups: tuple[str, ...] | None = Field(None, description="fairness: columns of the groups that it is between.")
    favourable: str | None = Field(None, description="fairness: the class that it is good to be in.")
    smallest_group: int = Field(20, ge=1, description="fairness: rows below which a group counts for no gap.")
    permutations: int = Field(39, ge=1, description="fairness: shufflings that leakage is compared with.")
    source: str | None = Field(
        None, description="shift: labelled examples of the training's origin that the model hasn't learned from."
    )
    shift: ShiftSettings = Field(default_factory=ShiftSettings)
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    stability: StabilitySettings = Field(default_factory=StabilitySettings)
    thresholds: dict[str, float] = Field(default_factory=dict, description="metric: value that the model must reach.")
    max_new_tokens: int = Field(256, ge=1, description="Longest answer, where the suite lets the model answer.")
    temperature: float = Field(0.0, ge=0, description="Sampling temperature of answers; 0 takes the likeliest token.")
    limit: int | None = Field(None, ge=1, description="Use only the first rows of the data.")
    skip_bad_rows: bool = Field(
        False, description="Leave out rows that can't be read, and list them, instead of stopping."
    )
    chat_template: str = Field("auto", description="auto (the tokenizer's own), plain, or a Jinja file.")
    too_long: TooLong = Field(
        "error", description="Pairs that exceed a policy's context: error, drop, or truncate-prompt."
    )
    layout: Layout = Field(
        default_factory=Layout, description="How pairs are laid out for a policy; packed where the model allows."
    )
    micro_tokens: int = Field(8192, ge=1, description="Tokens per forward pass: lower it if memory runs out.")
    workers: int = Field(1, ge=1, description="Ray actors that share the cases.")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    store: str | None = Field(None, description="URL of the store; by default RAYSAFE_STORE or the one in ./runs.")

    @model_validator(mode="after")
    def _fits_suite(self) -> Self:
        suite = SUITES[self.suite]
        optional = frozenset[str]().union(*(s.settings for s in SUITES.values()))
        idle = sorted((optional - suite.settings) & self.model_fields_set)
        idle = [
            name
            for name in idle
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        ]
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect in suite {suite.name}: leave it out")
        missing = sorted(name for name in suite.required if getattr(self, name) is None)
        if missing:
            raise ValueError(f"suite {suite.name} can't do without {' and '.join(missing)}")
        unknown = sorted(metric for metric in self.thresholds if not suite.measures(metric))
        if unknown:
            known = ", ".join([*sorted(suite.metrics), *(f"{family}@…" for family in sorted(suite.families))])
            raise ValueError(f"thresholds names {unknown[0]}, which suite {suite.name} doesn't measure; it has {known}")
        return self

    @property
    def needs(self) -> Needs:
        return Needs(workers=self.workers, cpus=self.cpus_per_worker, gpus=self.gpus_per_worker)

    def run(self, resume: Run | None = None) -> Run:
        """Examine the model; leaves evidence.json, the cases and report.html in the run."""
        run = resume or Run.create(self)
        with run.active():
            findings = self._examine(run)
        self._report(run, findings)
        return run

    def _examine(self, run: Run) -> Findings:
        from raysafe.evaluation.stored import add_to_store

        digest = SUITES[self.suite].digest(self.model)
        run.record_input("model", self.model, digest)
        findings = SUITES[self.suite].examine(self)
        run.record_input("data", self.data, findings.data_digest)
        for name, other in findings.models.items():
            run.record_input("data" if name == self.source else "model", name, other)
        run.folder.write(ROWS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in findings.rows))
        run.folder.write(SUMMARY, json.dumps(findings.summary, indent=2, ensure_ascii=False))
        evidence = self._evidence(findings, digest, run)
        run.add_evidence(evidence)
        run.event("examined", **{item.metric: item.value for item in evidence})
        add_to_store(self.store, digest, evidence, run)
        return findings

    def _report(self, run: Run, findings: Findings) -> None:
        from raysafe.runtime.report import Section, write_report

        shown = findings.rows[:EXAMPLES_SHOWN]
        table = [list(shown[0]), *(list(row.values()) for row in shown)] if shown else []
        about = f"The first {len(shown)} of {len(findings.rows)}; all of them are in {ROWS}."
        write_report(
            run,
            title=f"{self.suite} of {self.model.rstrip('/').rsplit('/', 1)[-1]}",
            sections=[*findings.sections, Section("Cases", about, table)],
        )

    def _evidence(self, findings: Findings, digest: str, run: Run) -> list[Evidence]:
        unmeasured = sorted(set(self.thresholds) - {figure.metric for figure in findings.figures})
        if unmeasured:
            raise DataError(
                f"{self.data} holds no cases for {unmeasured[0]}, which has a threshold: "
                "add such cases or take the threshold away"
            )
        return [
            Evidence(
                suite=self.suite,
                metric=figure.metric,
                value=figure.value,
                n=figure.n,
                interval=figure.interval,
                threshold=self.thresholds.get(figure.metric),
                better=figure.better,
                model_digest=digest,
                data_digest=findings.data_digest,
                settings=self._decisive(findings),
                run=run.uri,
                artifacts={"cases": ROWS, "summary": SUMMARY},
            )
            for figure in findings.figures
        ]

    def _decisive(self, findings: Findings) -> dict[str, str]:
        """Settings that decide a figure besides model and data; other models by digest, as a path says nothing."""
        names = sorted({"limit", "chat_template"} | SUITES[self.suite].settings - {"layout"})
        values = {name: getattr(self, name) for name in names}
        return {
            name: v.decisive(findings.models) if isinstance(v, SuiteSettings) else findings.models.get(str(v), str(v))
            for name, v in values.items()
            if v is not None
        }
