"""A net's parameters as scikit-learn wants them, and its attributes once it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from freqai_lstm_plugins.config import (
    DEFAULT_WINDOW,
    AnyNetConfig,
    DataConfig,
    TrainConfig,
    field_names,
)
from freqai_lstm_plugins.errors import ConfigError, MismatchError
from freqai_lstm_plugins.models.parameters import NetFactory, Parameters

if TYPE_CHECKING:
    from torch import nn

    from freqai_lstm_plugins.data.arrays import FloatArray
    from freqai_lstm_plugins.data.scaling import Scaling
    from freqai_lstm_plugins.models.fitted import Fitted
    from freqai_lstm_plugins.training.history import History


class ParameterizedNet(ABC):
    """A net with its parameters and, once it is fitted, what the training left.

    Attributes:
        companion: What a host keeps with the model, such as its pipelines. It goes where the model
            goes, so that another thread finds both or neither; no file holds it.
    """

    def __init__(
        self,
        net: str | NetFactory = "lstm",
        window: int = DEFAULT_WINDOW,
        *,
        valid_size: float = 0.15,
        label_period: int = 0,
        step: str | None = None,
        symbol: str | None = None,
        symbol_embedding: int = 0,
        scale: bool = True,
        progress: bool | None = None,
        **settings: Any,
    ) -> None:
        """Set every parameter; nothing is trained yet.

        Args:
            net: Name in `NETS`, or a function `(n_features, n_outputs) -> nn.Module` that makes a
                net of your own, (B, W, F) -> (B, O): one output a target, three a target with the
                loss `quantile`, one a class in a classifier.
            window: W, rows a window.
            valid_size: Last fraction of the targets that `fit` keeps for early stopping where no
                `eval_set` is given; 0 trains on all.
            label_period: Rows that a target looks ahead; so many targets are left out between
                training and validation.
            step: Time between two rows, such as `"5min"`. Windows then break where a DataFrame's
                DatetimeIndex jumps. Without it all rows of a symbol count as consecutive.
            symbol: Column that names the symbol where X is one DataFrame with rows of many symbols.
            symbol_embedding: Learned numbers that stand for the symbol beside each row's features,
                where many symbols are trained together; 0 does not tell the net the symbol. The net
                `tft` learns `hidden_size` numbers instead, whatever is given here above 0.
            scale: Standardize features and targets, fitted on training rows only.
            progress: Show a progress bar; by default where a terminal watches.
            **settings: Fields of `TrainConfig` and of the net's settings (`NetConfig`,
                `ALSTMConfig`, `TFTConfig`), under torch's or FreqAI's names.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        data = {
            "window": window,
            "valid_size": valid_size,
            "label_period": label_period,
            "step": step,
            "symbol": symbol,
            "symbol_embedding": symbol_embedding,
            "scale": scale,
            "progress": progress,
        }
        parameters = Parameters.parse(net, {**data, **settings}, type(self).__name__)
        self.check_answer_settings(parameters.train)
        self._parameters = parameters
        self._fitted: Fitted | None = None
        self.companion: Any = None

    @abstractmethod
    def check_answer_settings(self, config: TrainConfig) -> None:
        """Raise ConfigError where loss, interval or class weights do not suit this estimator."""

    # parameters, as scikit-learn wants them

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every parameter with its value, as scikit-learn's `clone` wants them."""
        return self._parameters.to_dict()

    def set_params(self, **params: Any) -> Self:
        """Change parameters; the model counts as not fitted afterwards."""
        changed = self._parameters.changed(params, type(self).__name__)
        self.check_answer_settings(changed.train)
        self._parameters, self._fitted = changed, None
        return self

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's estimator tags; called by scikit-learn alone."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True, multi_output=True),
            input_tags=InputTags(allow_nan=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __repr__(self) -> str:
        state = "fitted" if self.is_fitted else "not fitted"
        return f"{type(self).__name__}(net={self.net_name!r}, window={self.window}, {state})"

    @property
    def net(self) -> str | NetFactory:
        """Name of the net, or the function that makes it."""
        return self._parameters.net

    @property
    def net_config(self) -> AnyNetConfig:
        """Settings of the net."""
        return self._parameters.net_config

    @property
    def train_config(self) -> TrainConfig:
        """How the net is trained."""
        return self._parameters.train

    @property
    def data_config(self) -> DataConfig:
        """Which rows make windows, targets and the validation part."""
        return self._parameters.data

    @property
    def window(self) -> int:
        """W, rows a window."""
        return self._parameters.data.window

    @property
    def net_name(self) -> str:
        """Name under which a model file keeps the net."""
        return self._parameters.net_name

    def __getattr__(self, name: str) -> Any:
        # scikit-learn's habit: a parameter is an attribute of its name.
        if name in field_names(DataConfig):
            return getattr(self.data_config, name)
        # Python comes here, too, where a property of what is fitted had nothing to tell.
        is_of_fitted = isinstance(getattr(type(self), name, None), property)
        unknown = f"{type(self).__name__} has no attribute {name!r}."
        raise AttributeError(self._not_fitted_message() if is_of_fitted else unknown)

    # what the training left

    @property
    def is_fitted(self) -> bool:
        """Whether the model has been trained or loaded, so that it can predict."""
        return self._fitted is not None

    @property
    def fitted(self) -> Fitted:
        """What the training left, whole."""
        # An AttributeError, so that `hasattr` and scikit-learn take it for what it is.
        if self._fitted is None:
            raise AttributeError(self._not_fitted_message())
        return self._fitted

    def _not_fitted_message(self) -> str:
        return f"This {type(self).__name__} is not fitted yet: call fit or load first."

    @property
    def net_(self) -> nn.Module | None:
        """The fitted net; None before the training, and in a file until its own net is built."""
        return None if self._fitted is None else self._fitted.net

    @property
    def history_(self) -> History:
        """Losses of the training."""
        return self.fitted.history

    @property
    def feature_names_in_(self) -> list[str]:
        """Names of the F features."""
        return self.fitted.schema.feature_names

    @property
    def label_names_(self) -> list[str]:
        """Names of the K targets."""
        return self.fitted.schema.label_names

    @property
    def symbols_(self) -> list[str]:
        """Names of the symbols that the net knows; empty where it is not told the symbol."""
        return [] if self._fitted is None else self._fitted.schema.symbols

    @property
    def class_names(self) -> list[list[Any]]:
        """For each target the names of its classes; nothing where targets are numbers."""
        return [] if self._fitted is None else [list(c) for c in self._fitted.schema.classes]

    @property
    def scaling(self) -> Scaling | None:
        """How features and targets are standardized; None where the model does not scale."""
        return None if self._fitted is None else self._fitted.scaling

    @property
    def optimizer_state(self) -> dict[str, Any] | None:
        """State from which a training can go on; None where it was dropped."""
        return None if self._fitted is None else self._fitted.optimizer_state

    @property
    def target_mean(self) -> FloatArray:
        """The forecast that knows nothing, in the net's units.

        (K,) mean training target of a regressor, (O,) frequency of each class of a classifier.
        """
        return np.asarray(self.fitted.blank)

    def require_net(self) -> nn.Module:
        """Return the fitted net.

        Raises:
            ConfigError: The model is not fitted.
            MismatchError: The model was loaded, and waits for its own net.
        """
        if self._fitted is None:
            raise ConfigError(self._not_fitted_message())
        if self._fitted.net is None:
            raise MismatchError(
                f"This model file holds the weights of {self.net_name!r} and not its class: "
                f"give `bind` the function that makes the net."
            )
        return self._fitted.net

    @property
    def model(self) -> nn.Module:
        """The fitted net, under the name by which the models of freqtrade itself ask for it.

        They come this way past the models of this package, which build their own nets, so here
        alone the core says what to do in FreqAI.
        """
        try:
            return self.require_net()
        except MismatchError as error:
            raise MismatchError(
                f"{error} In FreqAI run with --freqaimodel {self.net_name}, which is expected in "
                f"the file user_data/freqaimodels/{self.net_name}.py."
            ) from error
