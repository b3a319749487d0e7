"""Which net a FreqAI model trains, and which saved nets are its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from freqtrade.exchange import timeframe_to_seconds

from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.errors import ConfigError, MismatchError
from freqai_lstm_plugins.freqai.own_net import require_fitting_constructor
from freqai_lstm_plugins.freqai.panel.model import PanelModel
from freqai_lstm_plugins.freqai.settings import PANEL
from freqai_lstm_plugins.freqai.slices import prepared_of
from freqai_lstm_plugins.names import require_names
from freqai_lstm_plugins.nets import build_net, net_class
from freqai_lstm_plugins.training.devices import choose_device

if TYPE_CHECKING:
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
    from torch import nn

    from freqai_lstm_plugins.models.estimator import SequenceEstimator

logger = logging.getLogger(__name__)


class NetModel(PanelModel):
    """A FreqAI model that trains a net of this package or of the user's own.

    Attributes:
        net: Name in `NETS` of the net that `build_net` makes; None for a net of your own.
        estimator: What is trained.
        model_kwargs: Arguments of the net, from `model_training_parameters.model_kwargs`.
    """

    estimator: ClassVar[type[SequenceEstimator]]

    def prepare(self) -> None:
        """Refuse a device, a loss or a net that would only fail in the first training."""
        self._bind_lock = threading.Lock()
        self.model_kwargs = self.settings.model_kwargs
        self.device = str(choose_device(self.settings.train.device))
        self.new_model()
        if not self.is_registry_net():
            require_fitting_constructor(self.build_net, self.model_kwargs, type(self).__name__)

    def require_room(self, n_features: int, data: dict[str, Any], labels: list[str]) -> None:
        """Refuse a net of the user's own that does not take the pair's numbers beside the features.

        Raises:
            ConfigError: Says how many features it would get.
        """
        assert self.settings.panel is not None
        if self.is_registry_net():
            return
        width = n_features + self.settings.panel.symbol_embedding
        schema = Schema(data["feature_names"], labels, self.label_classes(), data["symbols"])
        n_outputs = self.new_model().answer_for(prepared_of(data, schema)).n_outputs
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                net = self.build_net(width, n_outputs).eval()
                net(torch.zeros(1, self.window_size, width))
        except RuntimeError as error:
            raise ConfigError(
                f"The net of {type(self).__name__} has no room for {PANEL}.symbol_embedding: "
                f"build_net gets n_features = {width}, {n_features} features and "
                f"{width - n_features} numbers of the pair, and must build a net that takes them "
                f"({error}). Let it, or set symbol_embedding to 0."
            ) from error

    def build_net(self, n_features: int, n_outputs: int) -> nn.Module:
        """Make a net with fresh weights that maps windows (B, W, F) to outputs (B, O).

        Args:
            n_features: F.
            n_outputs: O: one a label, three a label with the loss `quantile`, one a class in a
                classifier.
        """
        if self.net is None:
            raise ConfigError(f"{type(self).__name__} must override build_net.")
        config = net_class(self.net).config(**self.model_kwargs)
        return build_net(self.net, n_features, n_outputs, config)

    def new_model(self) -> SequenceEstimator:
        """Make an estimator that is not trained yet, with the settings of the config."""
        panel = self.settings.panel
        settings = {
            "window": self.window_size,
            "step": f"{timeframe_to_seconds(self.config['timeframe'])}s",
            "scale": False,
            "progress": False,
            "symbol_embedding": 0 if panel is None else panel.symbol_embedding,
            **vars(self.settings.train),
        }
        if self.net is not None and self.is_registry_net():
            return self.estimator(self.net, **settings, **self.model_kwargs)
        model = self.estimator(self.build_net, **settings)
        return model.name_net(type(self).__name__, self.model_kwargs)

    def is_registry_net(self) -> bool:
        """Tell whether the net is one of this package, as it stands there."""
        is_overridden = type(self).build_net is not NetModel.build_net
        return self.net is not None and not is_overridden

    def _bound(self, model: Any) -> SequenceEstimator:
        """Return the loaded model with its net, which only this class can build."""
        name = self.net if self.is_registry_net() else type(self).__name__
        if not isinstance(model, self.estimator):
            raise MismatchError(
                f"The identifier {self.identifier!r} holds a {type(model).__name__} of another "
                f"FreqAI model."
            )
        if model.net_name != name or model.window != self.window_size:
            raise MismatchError(
                f"The saved model is {model.net_name!r} with conv_width {model.window}; the config "
                f"asks for {name!r} with conv_width {self.window_size}. Run the saved one with "
                f"--freqaimodel, or train a new model."
            )
        # The trading loop and a training that learns on may meet here after a restart.
        with self._bind_lock:
            if model.net_ is None:
                model.bind(self.build_net, type(self).__name__)
        return model

    def start_from(
        self, dk: FreqaiDataKitchen, feature_names: list[str], symbols: list[str]
    ) -> Any:
        """Return the pair's former model for continual learning, where it fits.

        Args:
            dk: FreqAI's data kitchen of the pair.
            feature_names: Names of the features.
            symbols: Pairs that the net is told; none where it is not told the pair.
        """
        former = self.former_model(dk)
        if former is None:
            return None
        # FreqAI hangs its open log files on the very object that is predicting.
        if hasattr(former, "tb_logger"):
            del former.tb_logger
        try:
            former = self.require_usable(former)
            require_names("features", feature_names, former.feature_names_in_)
            require_names("labels", dk.label_list, former.label_names_)
            require_names("pairs", symbols, former.symbols_)
            self.require_answers(former)
        except MismatchError as error:
            logger.warning("%s: continual learning starts afresh. %s", dk.pair, error)
            return None
        return former

    def require_usable(self, model: Any) -> Any:
        """Raise MismatchError where a model from disk is not this class's, or does not fit it."""
        return self._bound(model)
