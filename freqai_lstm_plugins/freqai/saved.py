"""A model that FreqAI saved, read in another process with its metadata and pipelines.

Pipelines, and trees, are pickles, which freqtrade's own loader reads: they may execute anything.
The user's model folder is only read.
"""

from __future__ import annotations

import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqtrade.constants import USERPATH_FREQAIMODELS
from freqtrade.exceptions import FreqtradeException
from freqtrade.freqai.data_drawer import (
    FEATURE_PIPELINE,
    LABEL_PIPELINE,
    METADATA,
    FreqaiDataDrawer,
)
from freqtrade.resolvers.freqaimodel_resolver import FreqaiModelResolver

from freqai_lstm_plugins.checkpoint import Checkpoint, read_checkpoint
from freqai_lstm_plugins.errors import ConfigError, FreqaiLSTMError, NotACheckpointError
from freqai_lstm_plugins.freqai.stored import lend_companion, read_model
from freqai_lstm_plugins.models.registry import ENSEMBLE
from freqai_lstm_plugins.models.served import served_pairs
from freqai_lstm_plugins.models.state import SequenceState, read_state
from freqai_lstm_plugins.names import MODEL_SUFFIX, PANEL_NAME

if TYPE_CHECKING:
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.models.estimator import SequenceEstimator

TREES = "_model.joblib"


@dataclass(frozen=True)
class SavedModel:
    """The files of one model.

    Attributes:
        stem: Folder of the model, and the name that its files begin with.
        checkpoint: What the model file of this package holds; None where it is of trees.
        net: The same for a single net.
    """

    stem: Path
    checkpoint: Checkpoint | None
    net: SequenceState | None

    @property
    def is_trees(self) -> bool:
        """Whether freqtrade's own trees stand in the file."""
        return self.checkpoint is None

    @property
    def window(self) -> int:
        """W; trees see one candle."""
        if self.checkpoint is None:
            return 1
        return int(self.checkpoint.state["window"]) if self.net is None else self.net.window

    @property
    def step(self) -> str | None:
        """Time between two candles of the training; None where the file does not tell."""
        return None if self.net is None else self.net.data_settings.get("step")

    @property
    def name(self) -> str:
        """Name of the net, or of the kind of model."""
        if self.net is not None:
            return self.net.net
        return "" if self.checkpoint is None else self.checkpoint.kind


def find_saved(file: Path, pair: str | None = None) -> SavedModel:
    """Find the files that FreqAI wrote with a model, without executing anything in them.

    Args:
        file: The model file.
        pair: Which pair's files to take, where the model is one net for many.

    Raises:
        ConfigError: The net is one for many pairs, and `pair` is none of them.
        NotACheckpointError: It is no model file, or none that FreqAI wrote.
    """
    if not file.is_file():
        raise NotACheckpointError(f"There is no model file {file}.")
    if file.suffix not in (".zip", ".joblib"):
        raise NotACheckpointError(
            f"{file} is no model file: those of FreqAI end in {MODEL_SUFFIX}, or for trees in "
            f"{TREES}."
        )
    checkpoint = read_checkpoint(file) if file.suffix == ".zip" else None
    stem = file.with_name(file.name.removesuffix(TREES if checkpoint is None else MODEL_SUFFIX))
    names = (f"{METADATA}.json", f"{FEATURE_PIPELINE}.pkl", f"{LABEL_PIPELINE}.pkl")
    is_alone = stem.with_name(f"{stem.name}_{names[0]}").is_file()
    if stem.name.startswith(f"cb_{PANEL_NAME}_") and not is_alone:
        stem = _stem_of_pair(stem, pair)
    missing = [name for name in names if not stem.with_name(f"{stem.name}_{name}").is_file()]
    if missing == list(names) and checkpoint is not None:
        raise NotACheckpointError(
            f"{file} was not written by FreqAI, so nothing tells how its features are made. "
            f"Explain it in Python: explain(load_model({file.name!r}), X), both from "
            f"freqai_lstm_plugins."
        )
    if missing:
        raise NotACheckpointError(
            f"There is no {stem.name}_{missing[0]} beside {file}. FreqAI writes it with each "
            f"model: keep a model's files together."
        )
    return SavedModel(stem, checkpoint, _net_of(checkpoint))


def _net_of(checkpoint: Checkpoint | None) -> SequenceState | None:
    if checkpoint is None or (
        checkpoint.kind == ENSEMBLE and isinstance(checkpoint.state.get("window"), int)
    ):
        return None
    return read_state(checkpoint)


def _stem_of_pair(net_stem: Path, pair: str | None) -> Path:
    """Return the stem of a pair's files beside one net for many pairs."""
    stems = {str(panel.get("pair")): stem for stem, panel in served_pairs(net_stem)}
    if pair not in stems:
        raise ConfigError(
            f"{net_stem.name}{MODEL_SUFFIX} is one net for many pairs. Name one of them with "
            f"--pair: {', '.join(stems) or 'there are none beside it'}."
        )
    return stems[pair]


def load_saved(saved: SavedModel, kitchen: FreqaiDataKitchen) -> Any:
    """Load trees by freqtrade's own loader, and what is ours by our own.

    The kitchen gets the metadata and the pipelines of the model.

    Raises:
        NotACheckpointError: A file is damaged, or of other packages.
    """
    stem = saved.stem
    kitchen.data_path, kitchen.model_filename = stem.parent, stem.name
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = _load_trees(stem, kitchen, Path(folder)) if saved.is_trees else read_model(stem)
        except (FreqaiLSTMError, FreqtradeException):
            raise
        # A pickle that is damaged, or of other packages, may raise anything.
        except Exception as error:
            raise NotACheckpointError(
                f"{stem}: the model or its pipelines cannot be loaded "
                f"({type(error).__name__}: {error}). Use the packages that wrote them."
            ) from error
        if not saved.is_trees:
            lend_companion(model, kitchen)
        if saved.net is not None and saved.net.is_own_net:
            _bind_own_net(model, saved.net, kitchen.config, Path(folder))
    return model


def _load_trees(stem: Path, kitchen: FreqaiDataKitchen, folder: Path) -> Any:
    loader = FreqaiDataDrawer(folder, kitchen.config)
    loader.model_type = "joblib"
    loader.pair_dict[kitchen.pair] = {
        **loader.empty_pair_dict,
        "model_filename": stem.name,
        "data_path": str(stem.parent),
    }
    return loader.load_data(kitchen.pair, kitchen)


def _bind_own_net(
    model: SequenceEstimator, checkpoint: SequenceState, config: dict[str, Any], folder: Path
) -> None:
    """Let the user's own model class build its net, in a copy of the user directory."""
    models = config["user_data_dir"] / USERPATH_FREQAIMODELS
    if models.is_dir():
        shutil.copytree(models, folder / USERPATH_FREQAIMODELS)
    # A model writes records of the config into its user directory.
    own = deepcopy(config) | {"user_data_dir": folder, "freqaimodel": checkpoint.net}
    changes = {
        "identifier": "explain",
        "conv_width": checkpoint.window,
        "model_training_parameters": {"model_kwargs": checkpoint.net_settings},
    }
    for written in (own, own["original_config"]):
        written["freqai"].update(changes)
    model.bind(FreqaiModelResolver.load_freqaimodel(own).build_net, checkpoint.net)
