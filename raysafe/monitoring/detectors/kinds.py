"""The kinds of detectors by the name that a rule gives them."""

from __future__ import annotations

import difflib
from typing import Any

from raysafe.errors import ConfigError
from raysafe.monitoring.detectors.adwin import AdwinConfig
from raysafe.monitoring.detectors.chart import ChartConfig
from raysafe.monitoring.detectors.cusum import CusumConfig
from raysafe.monitoring.detectors.ewma import EwmaConfig
from raysafe.monitoring.detectors.ks import KsConfig
from raysafe.monitoring.detectors.mmd import MmdConfig
from raysafe.monitoring.detectors.psi import PsiConfig
from raysafe.monitoring.detectors.robust_z import RobustZConfig
from raysafe.monitoring.detectors.strangeness import EnergyScoreConfig, KnnConfig, MahalanobisConfig, MspConfig
from raysafe.monitoring.detectors.threshold import ThresholdConfig

OF_NUMBERS: dict[str, type[ChartConfig]] = {
    "threshold": ThresholdConfig,
    "robust_z": RobustZConfig,
    "ewma": EwmaConfig,
    "cusum": CusumConfig,
    "psi": PsiConfig,
    "ks": KsConfig,
    "mmd": MmdConfig,
    "adwin": AdwinConfig,
}
"""mmd takes rows of numbers as well, and psi names."""
OF_ROWS: dict[str, type[ChartConfig]] = {
    "msp": MspConfig,
    "energy_score": EnergyScoreConfig,
    "mahalanobis": MahalanobisConfig,
    "knn": KnnConfig,
}
KINDS = OF_NUMBERS | OF_ROWS


def chart_config(values: dict[str, Any], source: str = "detector") -> ChartConfig:
    """The settings in a mapping, by their `kind`; raises ConfigError for one that isn't known, naming the nearest."""
    kind = values.get("kind")
    if kind in KINDS:
        return KINDS[kind].parse(values, source)
    near = difflib.get_close_matches(str(kind), KINDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"kinds: {', '.join(KINDS)}"
    found = "has no kind" if kind is None else f"has an unknown kind '{kind}'"
    raise ConfigError(f"a detector {found} ({source}); {hint}")
