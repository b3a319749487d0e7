"""Real FreqAI models in this process, trained and ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from torch import nn

from benchmarks.data import made_up
from benchmarks.sizes import Size
from tests.freqai import host

OURS = "LeaLSTMRegressor"
PARAMETERS: dict[str, dict[str, Any]] = {
    "PyTorchTransformerRegressor": {"trainer_kwargs": {"n_epochs": 1}},
    "PyTorchMLPRegressor": {"trainer_kwargs": {"n_epochs": 1}},
    "LightGBMRegressor": {"n_estimators": 200, "num_leaves": 31, "verbosity": -1},
}


def made_up_frame(n_rows: int, n_features: int) -> pd.DataFrame:
    """Return candles with a label and `n_features` features in all."""
    frame = host.make_frame(n_rows)
    missing = n_features - sum(str(name).startswith("%") for name in frame)
    rows, _ = made_up(n_rows, missing)
    more = pd.DataFrame(rows.astype(np.float64), columns=[f"%-more{i}" for i in range(missing)])
    return pd.concat([frame, more], axis=1)


@dataclass
class Ready:
    """A FreqAI model with what its `predict` needs for each of its pairs.

    Attributes:
        model: What freqtrade's resolver loaded.
        trained: A trained object a pair, as `train` returned it.
        kitchens: A data kitchen a pair, with its fitted pipelines.
    """

    model: Any
    trained: list[Any]
    kitchens: list[FreqaiDataKitchen]

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict the same frame for every pair, and return the last `do_predict`."""
        for trained, kitchen in zip(self.trained, self.kitchens, strict=True):
            self.model.model = trained
            _, do_predict = self.model.predict(frame, kitchen)
        return np.asarray(do_predict)

    def for_pairs(self, count: int) -> Ready:
        """Return the same model with weights and pipelines of their own for `count` pairs."""
        return Ready(
            self.model,
            [deepcopy(self.trained[0]) for _ in range(count)],
            [self._kitchen(f"P{number}/USDT") for number in range(count)],
        )

    def _kitchen(self, pair: str) -> FreqaiDataKitchen:
        first = self.kitchens[0]
        kitchen = FreqaiDataKitchen(self.model.config, self.model.live, pair)
        for name in ("data", "feature_pipeline", "label_pipeline", "label_list"):
            setattr(kitchen, name, deepcopy(getattr(first, name)))
        return kitchen


def ready(folder: Path, name: str, frame: pd.DataFrame, size: Size, *, live: bool) -> Ready:
    """Load the model `name` through freqtrade's resolver, and train it on `frame`.

    Ours has the net of `size`, the others have their own default nets.
    """
    ours = {"model_kwargs": size.net, "trainer_kwargs": {"n_epochs": 1}}
    model = host.make_model(
        folder / name,
        live=live,
        freqaimodel=name,
        freqai__conv_width=size.window,
        freqai__model_training_parameters=PARAMETERS.get(name, ours),
    )
    trained, kitchen = host.train(model, frame)
    return Ready(model, [trained], [kitchen])


def nets(trained: Sequence[Any]) -> list[nn.Module]:
    """Return the nets of trained objects that have one."""
    return [one.model for one in trained if isinstance(getattr(one, "model", None), nn.Module)]
