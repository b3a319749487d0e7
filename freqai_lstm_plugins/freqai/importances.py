"""FreqAI's plot of the best and the worst features, for models of this package.

freqtrade draws it for trees alone. Here a feature's importance is the mean size of its attributions
(of a net, integrated gradients) over the newest training windows and all their rows.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import MissingExtraError
from freqai_lstm_plugins.explanations.ensemble import explain_fitted
from freqai_lstm_plugins.explanations.explanation import DEFAULT_WINDOWS
from freqai_lstm_plugins.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.data.windows import WindowSet
    from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
    from freqai_lstm_plugins.models.estimator import SequenceEstimator

    Explained = EnsembleRegressor | SequenceEstimator

logger = logging.getLogger(__name__)


def plot_importances(
    model: Explained, windows: WindowSet, dk: FreqaiDataKitchen, count: int
) -> None:
    """Write `MODEL-LABEL.html` for each label beside the model; a failure is only logged.

    Args:
        model: What has just been trained.
        windows: What it was trained on.
        dk: The pair's data kitchen, with the model's folder and name.
        count: Features to show, the best and the worst.
    """
    try:
        for label in model.label_names_:
            importances = _importances(model, windows, label)
            figure = _figure(importances, dk.pair, count)
            plain = label.replace("&", "").replace("%", "")
            path = Path(dk.data_path) / f"{dk.model_filename}-{plain}.html"
            write_text(path, figure.to_html())
            logger.info("%s: wrote the importances of features to %s", dk.pair, path)
    except MissingExtraError as error:
        logger.warning("%s: plot_feature_importances is left out. %s", dk.pair, error)
    # A picture is never worth a training.
    except Exception as error:
        logger.warning(
            "%s: plot_feature_importances failed, %s: %s",
            dk.pair,
            type(error).__name__,
            error,
            exc_info=True,
        )


def _importances(model: Explained, windows: WindowSet, label: str) -> pd.Series:
    # Looked for before the work is done.
    if find_spec("plotly") is None:
        raise MissingExtraError("plotly", "explain", "Drawing importances")
    newest = windows.ends[-DEFAULT_WINDOWS:]
    explained = explain_fitted(model, windows.rows, newest, target=label)
    return explained.importance.mean(axis=1)


def _figure(importances: pd.Series, pair: str, count: int) -> Any:
    from plotly.graph_objects import Bar
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.5)
    for column, part in enumerate((importances.nlargest(count), importances.nsmallest(count)), 1):
        drawn = part[::-1]
        bar = Bar(x=drawn.to_numpy(), y=list(drawn.index), orientation="h", showlegend=False)
        figure.add_trace(bar, row=1, col=column)
    figure.update_layout(title_text=f"Best and worst features by importance {pair}")
    return figure
