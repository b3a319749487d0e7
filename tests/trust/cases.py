"""The FreqAI models that the suites of this folder run over: a row here runs in all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

KWARGS = "freqai__model_training_parameters__model_kwargs"
EPOCHS = "freqai__model_training_parameters__trainer_kwargs__n_epochs"


@dataclass(frozen=True)
class Case:
    """A FreqAI model whose settings let it be trained in a moment.

    Attributes:
        name: Its name in the tests.
        changes: Changes to the config of `tests.freqai.host`, as `make_config` takes them.
        cost: About how many trainings of one net one of its trainings takes.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    cost: int = 1


# Each of so few trees is of use, so that files of all trainings have the same size.
TREES = {"n_estimators": 10, "learning_rate": 0.1, "lags": [0, 1]}
MEMBERS: dict[str, Any] = {
    "lstm": {"hidden_dim": 4, "n_layer": 1, "head_size": 4},
    "ridge": {"lags": [0, 1]},
    "lightgbm": {**TREES, "num_leaves": 7},
    "xgboost": {**TREES, "max_depth": 3},
}
ENSEMBLE = {"freqaimodel": "LeaEnsembleRegressor"}

ONE_NET = Case("one net")
SEVERAL = Case(
    "ensemble",
    {
        **ENSEMBLE,
        KWARGS: {
            "members": MEMBERS,
            "combine": "dynamic",
            "folds": 2,
            "half_lives": [10],
            "interval": 0.5,
        },
    },
    cost=4,
)
ALL_PAIRS = Case("one net for all pairs", {"freqai__model_training_parameters__panel": {}}, cost=2)
CASES = [ONE_NET, SEVERAL, ALL_PAIRS]
EVERY_MODEL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def columns_alone(
    model: Any, rows: np.ndarray, has_window: np.ndarray, kitchen: Any
) -> pd.DataFrame:
    """Return what an ensemble of a file says, in FreqAI's columns; NaN where no window ends."""
    labels = kitchen.label_list
    found = model.predict_windows(rows, has_window)

    def unscaled(values):
        back, _, _ = kitchen.label_pipeline.inverse_transform(np.nan_to_num(values))
        return back[labels].to_numpy()

    columns = dict(zip(labels, unscaled(found.point).T, strict=True))
    if found.lower is not None:
        for end, values in (("lower", found.lower), ("upper", found.upper)):
            columns |= {
                f"{label}_{end}": part
                for label, part in zip(labels, unscaled(values).T, strict=True)
            }
    names = [member.name for member in model.require_fitted().members]
    for m, name in enumerate(names):
        said = unscaled(found.members[:, :, m])
        for k, label in enumerate(labels):
            columns[f"{label}_{name}"] = said[:, k]
            columns[f"{label}_w_{name}"] = found.weights[:, k, m]
    spread = unscaled(np.nan_to_num(found.point) + found.disagreement) - unscaled(found.point)
    for k, label in enumerate(labels):
        columns[f"{label}_disagreement"] = spread[:, k]
    table = pd.DataFrame(columns)
    table[~np.isfinite(found.point[:, 0])] = np.nan
    return table
