"""A FreqAI model made of several: nets and trees, trained on one slice, weighed by one rule.

Weights that follow labels are a function of the candles since the model's training, whose end its
file holds. So backtest, bot and restarted bot agree, and no state is kept.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray, finite_rows
from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.errors import ConfigError, MismatchError
from freqai_lstm_plugins.freqai.frames import ScaledRows, scale_rows
from freqai_lstm_plugins.freqai.identifier import telling
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
from freqai_lstm_plugins.models.ensemble.settings import check_lags, with_defaults
from freqai_lstm_plugins.names import require_names
from freqai_lstm_plugins.training.devices import choose_device, torch_threads

if TYPE_CHECKING:
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Said:
    """What the members of a pair's model have said of the candles of a bot's frame.

    Attributes:
        model: The ensemble; another one begins anew.
        positions: (N,) numbers of the candles.
        said: (3, N, K, M) as `forecast_members` gives it.
        is_asked: (N,) whether they were asked.
    """

    model: EnsembleRegressor
    positions: IntArray
    said: FloatArray
    is_asked: BoolArray


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
        given, train = dict(self.settings.model_kwargs), self.settings.train
        self._refuse_contradictions(given)
        self.has_columns = given.pop("columns", True)
        self.members = with_defaults(given.pop("members", {}), vars(train))
        panel = self.settings.panel
        self.ensemble_settings = {
            "seed": train.seed,
            "num_threads": train.num_threads,
            "interval": train.interval,
            "label_period": self.settings.label_period,
            "symbol_embedding": 0 if panel is None else panel.symbol_embedding,
            **given,
        }
        ensemble = self.new_ensemble()
        config = ensemble.config
        check_lags(ensemble.members, config, self.window_size)
        for settings in self.members.values():
            choose_device(settings.get("device", "cpu"))
        self.interval, self.member_names = config.interval, list(self.members)
        self.label_watch = LabelWatch(self.settings.label_period)
        self._live_frame: pd.DataFrame | None = None
        self._said: dict[str, _Said] = {}
        # What an identifier stands for, with defaults filled in.
        shown = {name: telling(settings) for name, settings in self.members.items()}
        kept = telling(dataclasses.asdict(config))
        written = {"members": shown, "columns": self.has_columns, **kept}
        self.settings = dataclasses.replace(self.settings, model_kwargs=written)

    def _refuse_contradictions(self, given: dict[str, Any]) -> None:
        """Raise ConfigError where `model_kwargs` say other things than the rest of the config."""
        train = self.settings.train
        if "symbol_embedding" in given:
            raise ConfigError(
                f"{WHERE}.model_kwargs: {PANEL}.symbol_embedding says whether members are told the "
                f"pair. Leave symbol_embedding out here."
            )
        has_columns = given.get("columns", True)
        if not isinstance(has_columns, bool):
            raise ConfigError(
                f"{WHERE}.model_kwargs: columns must be true or false, not {has_columns!r}."
            )
        if given.get("interval", train.interval) != (train.interval or given.get("interval")):
            raise ConfigError(
                f"{WHERE}: interval = {given['interval']!r} in model_kwargs and {train.interval!r} "
                f"in trainer_kwargs. Keep one of them."
            )
        period = given.get("label_period", self.settings.label_period)
        if period != self.settings.label_period:
            raise ConfigError(
                f"{WHERE}.model_kwargs: label_period = {period!r}, and label_period_candles is "
                f"{self.settings.label_period}. Leave it out."
            )

    def require_room(self, n_features: int, data: dict[str, Any], labels: list[str]) -> None:
        """Nothing: all members of an ensemble can be told the pair."""

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
        everything, is_asked = self._recall(model, known.positions, said, dk.pair)
        newest = slice(len(whole) - said.shape[1], None)
        everything[:, newest] = np.where(has_window[:, None, None], said, everything[:, newest])
        is_asked[newest] |= has_window
        # Where no window ends at the newest candle none ever will.
        is_asked[-1] = True
        missing = np.flatnonzero(known.is_later & ~is_asked)
        if len(missing):
            everything[:, missing] = self._ask(model, whole, missing, dk)
            is_asked[missing] = True
        self._said[dk.pair] = _Said(model, known.positions, everything, is_asked)
        return model.combined(everything, known).tail(said.shape[1])

    def _recall(
        self, model: EnsembleRegressor, positions: IntArray, said: FloatArray, pair: str
    ) -> tuple[FloatArray, BoolArray]:
        """Return what members have said of a frame's candles (3, N, K, M), and of which ones."""
        everything = np.full((3, len(positions), *said.shape[2:]), np.nan)
        is_asked = np.zeros(len(positions), dtype=bool)
        former = self._said.get(pair)
        if former is not None and former.model is model:
            _, old, new = np.intersect1d(
                former.positions, positions, assume_unique=True, return_indices=True
            )
            everything[:, new], is_asked[new] = former.said[:, old], former.is_asked[old]
        return everything, is_asked

    def _ask(
        self, model: EnsembleRegressor, whole: pd.DataFrame, rows: IntArray, dk: FreqaiDataKitchen
    ) -> FloatArray:
        """Return what members say of rows of a frame, which stand for candles that were missed."""
        start = max(int(rows[0]) - self.window_size + 1, 0)
        part = whole.iloc[start : int(rows[-1]) + 1].reset_index(drop=True)
        scaled = scale_rows(part, dk, self.window_size, self.settings.windows.filled_candles)
        is_wanted = np.zeros(len(part), dtype=bool)
        is_wanted[rows - start] = True
        said = model.forecast_members(scaled.values, scaled.has_window & is_wanted)
        return said[:, rows - start]

    def _columns(
        self, model: EnsembleRegressor, found: EnsemblePredictions, dk: FreqaiDataKitchen
    ) -> pd.DataFrame:
        """Return labels and extra columns in the labels' own units.

        Without a forecast stands the one that knows nothing, the mean training label.
        """
        mean = np.asarray(model.require_fitted().target_mean)
        ends = [] if found.lower is None or found.upper is None else [found.lower, found.upper]
        parts = [found.point, *ends]
        if self.has_columns:
            # The last is what stands for a member that could not be trained.
            nothing = np.full_like(found.point, np.nan)
            parts += [*np.moveaxis(found.members, 2, 0), nothing]
        # At once, as a pipeline takes as long for one row as for hundreds.
        filled = np.concatenate([np.where(np.isfinite(part), part, mean) for part in parts])
        back = unscaled(filled, dk)[dk.label_list].to_numpy()
        point, *others = np.split(back, len(parts))
        columns = {label: point[:, k] for k, label in enumerate(dk.label_list)}
        if ends:
            # A label pipeline may turn the order round.
            lower, upper = np.sort(others[:2], axis=0)
            for k, label in enumerate(dk.label_list):
                columns[f"{label}_lower"], columns[f"{label}_upper"] = lower[:, k], upper[:, k]
        if self.has_columns:
            self._add_members(columns, model, found, others[len(ends) :], dk)
        order = [*dk.label_list, *self.extra_columns(dk.label_list)]
        return pd.DataFrame({name: columns[name] for name in order})

    def _add_members(
        self,
        columns: dict[str, FloatArray],
        model: EnsembleRegressor,
        found: EnsemblePredictions,
        said: list[FloatArray],
        dk: FreqaiDataKitchen,
    ) -> None:
        """Add what members say, in the labels' own units, their weights and their disagreement."""
        trained = [member.name for member in model.require_fitted().members]
        *said, blank = said
        for k, label in enumerate(dk.label_list):
            weights = found.weights[:, k]
            for name in self.member_names:
                # One that could not be trained says nothing, and weighs nothing.
                place = trained.index(name) if name in trained else None
                columns[f"{label}_{name}"] = (blank if place is None else said[place])[:, k]
                weight = np.zeros(len(blank)) if place is None else weights[:, place]
                columns[f"{label}_w_{name}"] = weight
            values = np.column_stack([part[:, k] for part in said])
            values[~np.isfinite(found.members[:, k])] = np.nan
            columns[f"{label}_disagreement"] = np.nan_to_num(disagreement(values, weights))
