"""A FreqAI model made of several: nets and trees, trained on one slice, weighed by one rule.

Weights that follow labels are a function of the candles since the model's training, whose end its
file holds. So backtest, bot and restarted bot agree, and no state is kept.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray, finite_rows
from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.errors import ConfigError, MismatchError
from freqai_lstm_plugins.freqai.frames import ScaledRows, scale_rows
from freqai_lstm_plugins.freqai.label_watch import LabelWatch
from freqai_lstm_plugins.freqai.regressor import SequenceRegressorModel, unscaled
from freqai_lstm_plugins.freqai.settings import PANEL, WHERE
from freqai_lstm_plugins.freqai.slices import prepared_of
from freqai_lstm_plugins.models.ensemble.combine import disagreement
from freqai_lstm_plugins.models.ensemble.regressor import (
    EnsemblePredictions,
    EnsembleRegressor,
    KnownLabels,
)
from freqai_lstm_plugins.models.ensemble.settings import with_defaults
from freqai_lstm_plugins.names import require_names
from freqai_lstm_plugins.training.devices import torch_threads

if TYPE_CHECKING:
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

logger = logging.getLogger(__name__)

# Settings of members that change no prediction of a given training slice.
_HARMLESS = {"device", "num_threads"}


class EnsembleRegressorModel(SequenceRegressorModel):
    """A FreqAI regressor whose forecast is that of several models.

    `model_training_parameters.model_kwargs` holds `members`, the fields of `EnsembleConfig`, and
    `columns` (true): whether the strategy gets what the members say, their weights and their
    disagreement. `trainer_kwargs` are for members that are nets and say nothing else.
    """

    def prepare(self) -> None:
        """Refuse members that would only fail in the first training."""
        # freqtrade's own plot knows trees alone.
        self.features_to_plot, self.plot_features = int(self.plot_features or 0), 0
        panel = self.settings.panel
        if panel is not None and panel.symbol_embedding:
            raise ConfigError(
                f"{PANEL}.symbol_embedding = {panel.symbol_embedding}: members of an ensemble are "
                f"not told the pair. Set it to 0."
            )
        given = dict(self.settings.model_kwargs)
        self.has_columns = given.pop("columns", True)
        if not isinstance(self.has_columns, bool):
            raise ConfigError(
                f"{WHERE}.model_kwargs: columns must be true or false, not {self.has_columns!r}."
            )
        train = self.settings.train
        members = given.pop("members", {})
        self.members = with_defaults(members, vars(train))
        if given.get("interval", train.interval) != (train.interval or given.get("interval")):
            raise ConfigError(
                f"{WHERE}: interval = {given['interval']!r} in model_kwargs and {train.interval!r} "
                f"in trainer_kwargs. Keep one of them."
            )
        self.ensemble_settings = {
            "seed": train.seed,
            "num_threads": train.num_threads,
            "interval": train.interval,
            "label_period": self.settings.label_period,
            **given,
        }
        config = self.new_ensemble().config
        self.interval, self.member_names = config.interval, list(self.members)
        self.label_watch = LabelWatch(self.settings.label_period)
        self._live_frame: pd.DataFrame | None = None
        self._said: dict[str, tuple[EnsembleRegressor, dict[int, FloatArray]]] = {}
        # What an identifier stands for, with defaults filled in.
        shown = {
            name: {key: value for key, value in settings.items() if key not in _HARMLESS}
            for name, settings in self.members.items()
        }
        kept = {k: v for k, v in dataclasses.asdict(config).items() if k not in _HARMLESS}
        written = {"members": shown, "columns": self.has_columns, **kept}
        self.settings = dataclasses.replace(self.settings, model_kwargs=written)

    def new_ensemble(self) -> EnsembleRegressor:
        """Make an ensemble that is not trained yet."""
        return EnsembleRegressor(self.members, window=self.window_size, **self.ensemble_settings)

    def extra_columns(self, label_list: list[str]) -> list[str]:
        """Return the columns beside the labels: ends of intervals, members, their weights."""
        names = []
        for label in label_list:
            if self.interval is not None:
                names += [f"{label}_lower", f"{label}_upper"]
            if self.has_columns:
                names += [f"{label}_{member}" for member in self.member_names]
                names += [f"{label}_w_{member}" for member in self.member_names]
                names.append(f"{label}_disagreement")
        return names

    def fit(self, data_dictionary: dict[str, Any], dk: FreqaiDataKitchen, **kwargs: Any) -> Any:
        """Train all members, and weigh them by out-of-fold forecasts.

        Args:
            data_dictionary: As for every model of this package.
            dk: FreqAI's data kitchen of the pair.
            **kwargs: Nothing is read; FreqAI's own signature.
        """
        self.say_what_is_trained(", ".join(self.member_names), data_dictionary, dk)
        feature_names = data_dictionary["feature_names"]
        symbols = data_dictionary.get("symbols", [])
        schema = Schema(feature_names, dk.label_list, symbols=symbols)
        model = self.new_ensemble().fit_windows(
            prepared_of(data_dictionary, schema),
            start_from=self.start_from(dk, feature_names, symbols),
            on_epoch=self.stop_if_asked,
            last_time=self._last_candle(data_dictionary["times"], dk),
        )
        self.hand_over(model, data_dictionary, dk)
        return model

    def _last_candle(self, times: IntArray, dk: FreqaiDataKitchen) -> int:
        """Return the number of the last candle that a training knows."""
        # In a backtest FreqAI cuts these off, and a bot's training has them; the first slice that
        # such a model predicts begins after them in either case.
        n_cut = 0 if dk.live else self.ft_params.get("buffer_train_data_candles") or 0
        return int(times.max()) + int(n_cut)

    def require_usable(self, model: Any) -> EnsembleRegressor:
        """Raise MismatchError where a model from disk is not of these members."""
        if not isinstance(model, EnsembleRegressor):
            raise MismatchError(
                f"The identifier {self.identifier!r} holds a {type(model).__name__} of another "
                f"FreqAI model. Choose a new freqai.identifier."
            )
        require_names("members", [member.name for member in model.members], self.member_names)
        if model.window != self.window_size:
            raise MismatchError(
                f"The saved model has conv_width {model.window}; the config asks for "
                f"{self.window_size}. Choose a new freqai.identifier."
            )
        return model

    def label_numbers(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> dict[str, pd.Series]:
        """Return the label columns with infinities as missing values, and look if they changed."""
        columns = super().label_numbers(frame, dk)
        values = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
        self.label_watch.look(dk.pair, self.candle_numbers(frame["date"]), values)
        return columns

    # prediction

    def build_strategy_return_arrays(
        self, dataframe: pd.DataFrame, dk: FreqaiDataKitchen, pair: str, trained_timestamp: int
    ) -> None:
        """Predict a bot's newest candle, with the labels of the candles before it at hand."""
        self._live_frame = dataframe
        try:
            super().build_strategy_return_arrays(dataframe, dk, pair, trained_timestamp)
        finally:
            self._live_frame = None

    def answer_rows(
        self,
        model: EnsembleRegressor,
        frame: pd.DataFrame,
        rows: ScaledRows,
        n_context: int,
        dk: FreqaiDataKitchen,
    ) -> tuple[pd.DataFrame, BoolArray]:
        """Return the columns that the strategy gets, and at which rows there is a forecast."""
        with torch_threads(1 if dk.live else None):
            said = model.forecast_members(rows.values, rows.has_window)[:, n_context:]
            if not model.follows_labels:
                found = model.combined(said)
            elif dk.live and self._live_frame is not None:
                has_window = rows.has_window[n_context:]
                found = self._following(model, self._live_frame, said, has_window, dk)
            else:
                found = model.combined(said, self._known_labels(model, frame, dk))
        return self._columns(model, found, dk), finite_rows(found.point)

    def _known_labels(
        self, model: EnsembleRegressor, frame: pd.DataFrame, dk: FreqaiDataKitchen
    ) -> KnownLabels:
        """Return the labels of a frame in the units of the training, and when each is known."""
        positions = self.candle_numbers(frame["date"])
        targets = np.full((len(frame), len(dk.label_list)), np.nan)
        if all(label in frame for label in dk.label_list):
            numbers = pd.DataFrame(self.label_numbers(frame, dk))[dk.label_list]
            known = finite_rows(numbers.to_numpy())
            if known.any():
                scaled, _, _ = dk.label_pipeline.transform(numbers[known])
                targets[known] = scaled.to_numpy()
        last = model.require_fitted().last_time
        is_later = np.zeros(len(frame), dtype=bool) if last is None else positions > last
        return KnownLabels(targets, positions, is_later, self.known_at(positions))

    def _following(
        self,
        model: EnsembleRegressor,
        whole: pd.DataFrame,
        said: FloatArray,
        has_window: BoolArray,
        dk: FreqaiDataKitchen,
    ) -> EnsemblePredictions:
        """Predict a bot's newest candles by the losses of all candles since the training.

        Args:
            model: The ensemble.
            whole: The strategy's frame, with the labels that are known.
            said: What members say of its last rows.
            has_window: Whether a full window of those rows ends there.
            dk: FreqAI's data kitchen of the pair.
        """
        known = self._known_labels(model, whole, dk)
        n_rows = said.shape[1]
        holder, remembered = self._said.get(dk.pair, (None, {}))
        if holder is not model:
            remembered = {}
        tail = known.positions[len(whole) - n_rows :]
        for place in np.flatnonzero(has_window & known.is_later[len(whole) - n_rows :]):
            remembered[int(tail[place])] = said[:, place]
        self._remember(model, whole, known, remembered, dk)
        first = int(known.positions[0])
        remembered = {number: part for number, part in remembered.items() if number >= first}
        self._said[dk.pair] = (model, remembered)
        everything = np.full((3, len(whole), *said.shape[2:]), np.nan)
        for row, number in enumerate(known.positions):
            if int(number) in remembered:
                everything[:, row] = remembered[int(number)]
        everything[:, len(whole) - n_rows :] = np.where(
            has_window[:, None, None], said, everything[:, len(whole) - n_rows :]
        )
        found = model.combined(everything, known)
        return found.tail(n_rows)

    def _remember(
        self,
        model: EnsembleRegressor,
        whole: pd.DataFrame,
        known: KnownLabels,
        remembered: dict[int, FloatArray],
        dk: FreqaiDataKitchen,
    ) -> None:
        """Add what members say of later rows that nobody has asked them about yet."""
        is_missing = known.is_later & ~np.isin(known.positions, list(remembered))
        # The newest row was asked about; it is missing where no window ends there.
        is_missing[-1] = False
        if not is_missing.any():
            return
        rows = np.flatnonzero(is_missing)
        start = max(int(rows[0]) - self.window_size + 1, 0)
        part = whole.iloc[start : int(rows[-1]) + 1].reset_index(drop=True)
        scaled = scale_rows(part, dk, self.window_size, self.settings.windows.filled_candles)
        wanted = scaled.has_window & is_missing[start : int(rows[-1]) + 1]
        said = model.forecast_members(scaled.values, wanted)
        for row in rows:
            remembered[int(known.positions[row])] = said[:, row - start]

    def _columns(
        self, model: EnsembleRegressor, found: EnsemblePredictions, dk: FreqaiDataKitchen
    ) -> pd.DataFrame:
        """Return labels and extra columns in the labels' own units.

        Without a forecast stands the one that knows nothing, the mean training label.
        """
        mean = np.asarray(model.require_fitted().target_mean)
        columns = unscaled(_filled(found.point, mean), dk)
        if found.lower is not None and found.upper is not None:
            ends = [unscaled(_filled(end, mean), dk) for end in (found.lower, found.upper)]
            for label in dk.label_list:
                # A label pipeline may turn the order round.
                both = np.sort(np.column_stack([end[label] for end in ends]), axis=1)
                columns[f"{label}_lower"], columns[f"{label}_upper"] = both[:, 0], both[:, 1]
        if self.has_columns:
            self._add_members(columns, model, found, mean, dk)
        return columns[[*dk.label_list, *self.extra_columns(dk.label_list)]]

    def _add_members(
        self,
        columns: pd.DataFrame,
        model: EnsembleRegressor,
        found: EnsemblePredictions,
        mean: npt.NDArray[np.float64],
        dk: FreqaiDataKitchen,
    ) -> None:
        trained = [member.name for member in model.require_fitted().members]
        said = {
            name: unscaled(_filled(found.members[:, :, k], mean), dk)
            for k, name in enumerate(trained)
        }
        blank = unscaled(np.tile(mean, (len(columns), 1)), dk)
        for k, label in enumerate(dk.label_list):
            for name in self.member_names:
                # One that could not be trained says nothing, and weighs nothing.
                columns[f"{label}_{name}"] = said.get(name, blank)[label]
                is_trained = name in trained
                weight = found.weights[:, k, trained.index(name)] if is_trained else 0.0
                columns[f"{label}_w_{name}"] = weight
            values = np.column_stack([said[name][label] for name in trained])
            values[~np.isfinite(found.members[:, k])] = np.nan
            spread = disagreement(values, found.weights[:, k])
            columns[f"{label}_disagreement"] = np.nan_to_num(spread)


def _filled(values: FloatArray, mean: npt.NDArray[np.float64]) -> FloatArray:
    return np.where(np.isfinite(values), values, mean)
