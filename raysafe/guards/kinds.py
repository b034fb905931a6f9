"""The kinds of guards by the name that a policy gives them; a module is imported where a policy names its kind."""

from __future__ import annotations

import difflib
from importlib import import_module

from raysafe.errors import ConfigError
from raysafe.guards.settings import GuardConfig

KINDS = {
    "capabilities": "raysafe.control.capability_guard:CapabilitiesConfig",
    "length": "raysafe.guards.limits:LengthConfig",
    "action": "raysafe.guards.action:ActionGuardConfig",
    "rate": "raysafe.guards.limits:RateConfig",
    "patterns": "raysafe.guards.patterns:PatternsConfig",
    "linear": "raysafe.guards.linear:LinearConfig",
    "injection": "raysafe.guards.injection:InjectionConfig",
    "gibberish": "raysafe.guards.gibberish:GibberishConfig",
    "perplexity": "raysafe.guards.perplexity:PerplexityConfig",
    "pii": "raysafe.guards.pii:PiiConfig",
    "secrets": "raysafe.guards.secrets:SecretsConfig",
    "canary": "raysafe.guards.canary:CanaryConfig",
    "topics": "raysafe.guards.topics:TopicsConfig",
    "language": "raysafe.guards.languages:LanguageConfig",
    "output_schema": "raysafe.guards.schema:SchemaConfig",
    "judge": "raysafe.guards.judge:JudgeGuardConfig",
    "constitution": "raysafe.guards.constitution:ConstitutionConfig",
    "probe": "raysafe.guards.probe:ProbeGuardConfig",
    "certified": "raysafe.guards.certified:CertifiedConfig",
    "trusted_monitoring": "raysafe.control.protocols:TrustedMonitoringConfig",
    "defer_to_trusted": "raysafe.control.protocols:DeferToTrustedConfig",
    "defer_to_resample": "raysafe.control.protocols:DeferToResampleConfig",
    "trusted_editing": "raysafe.control.protocols:TrustedEditingConfig",
}


def kind_of(kind: object, where: str) -> type[GuardConfig]:
    """The settings' class of a kind; raises ConfigError for one that isn't known, naming the nearest."""
    if isinstance(kind, str) and kind in KINDS:
        module, _, name = KINDS[kind].partition(":")
        return getattr(import_module(module), name)
    near = difflib.get_close_matches(str(kind), KINDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"kinds: {', '.join(KINDS)}"
    found = "has no kind" if kind is None else f"has an unknown kind '{kind}'"
    raise ConfigError(f"a guard {found} ({where}); {hint}")
