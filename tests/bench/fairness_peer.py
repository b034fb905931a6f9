"""fairlearn's figures of arrays in an npz file, as JSON: run by tests.bench.fairness in an environment of its own."""

from __future__ import annotations

import json
import sys

import fairlearn.metrics as metrics
import numpy as np
from fairlearn.reductions import DemographicParity, ExponentiatedGradient
from sklearn.linear_model import LogisticRegression


def gaps(selected: np.ndarray, qualified: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    arguments = {"y_true": qualified.astype(int), "y_pred": selected.astype(int), "sensitive_features": groups}
    return {
        "demographic_parity_gap": metrics.demographic_parity_difference(**arguments),
        "equalised_odds_gap": metrics.equalized_odds_difference(**arguments),
        "equal_opportunity_gap": metrics.equal_opportunity_difference(**arguments),
    }


def reduction(file: dict[str, np.ndarray], tolerance: float) -> dict[str, float]:
    """Agarwal et al. 2018 by logistic regression: held-out accuracy and gaps of its randomised classifier's draws."""
    # its bound is on each group's distance from everybody's rate
    fitted = ExponentiatedGradient(LogisticRegression(max_iter=1000), DemographicParity(difference_bound=tolerance))
    fitted.fit(file["x"], file["y"], sensitive_features=file["g"])
    predicted = fitted.predict(file["test_x"], random_state=0)
    right = {"accuracy": float((predicted == file["test_y"]).mean())}
    return right | gaps(predicted.astype(bool), file["test_y"].astype(bool), file["test_g"])


def main() -> None:
    with np.load(sys.argv[1], allow_pickle=False) as loaded:
        file = {name: loaded[name] for name in loaded.files}
    if "x" in file:
        found: object = {str(tolerance): reduction(file, tolerance) for tolerance in file["tolerances"].tolist()}
    else:
        cases = range(len(file["selected"]))
        found = [gaps(file["selected"][i], file["qualified"][i], file["groups"][i]) for i in cases]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
