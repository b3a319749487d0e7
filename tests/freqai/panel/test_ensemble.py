"""An ensemble whose members are told the pair."""

from __future__ import annotations

import numpy as np
import pytest

from tests.freqai.host import OTHER, PAIR, make_frame, make_model, predict, train_all
from tests.freqai.panel.walk import PANEL

KWARGS = {
    "members": {
        "lightgbm": {"n_estimators": 20, "learning_rate": 0.3, "lags": [0, 1]},
        "lstm": {"hidden_dim": 4, "n_layer": 1, "head_size": 4},
        "ridge": {"lags": [0, 1]},
    },
    "combine": "stack",
    "folds": 2,
}


@pytest.mark.parametrize("size", [2, 0], ids=["told", "not told"])
def test_a_member_that_is_told_the_pair_learns_what_holds_for_that_pair_alone(tmp_path, size):
    """Two pairs of the same features, of which the younger one rises where the other falls."""
    changes = {
        "freqaimodel": "LeaEnsembleRegressor",
        "freqai__model_training_parameters__model_kwargs": KWARGS,
        PANEL: {"symbol_embedding": size},
    }
    older = make_frame(300)
    frame = older.tail(220).reset_index(drop=True)
    opposite = older.assign(**{"&-target": -older["&-target"]})
    model = make_model(tmp_path, **changes)
    trained, _ = train_all(model, {PAIR: frame, OTHER: opposite})
    said, do_predict = predict(model, frame)
    likeness = np.corrcoef(said["&-target_lightgbm"][6:-3], frame["&-target"][6:-3])[0, 1]
    assert bool(likeness > 0.5) is bool(size)
    assert do_predict[6:].all()
    assert trained.symbols_ == ([PAIR, OTHER] if size else [])
    assert not trained.fitted.failures
    # What a bot finds on disk after a restart says the same.
    model.dd.model_dictionary = {}
    assert predict(model, frame)[0].equals(said)
