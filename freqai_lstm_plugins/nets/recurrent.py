"""What LSTM and GRU nets have in common, and how recurrent layers of all nets run."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.config import AnyNetConfig, NetConfig
from freqai_lstm_plugins.data.windows import RowWindows, gather_windows
from freqai_lstm_plugins.nets import cpu
from freqai_lstm_plugins.nets.base import SequenceNet, read_config
from freqai_lstm_plugins.nets.seeds import dropout_mask


class RecurrentNet(SequenceNet):
    """Stacked recurrent layers, and a small dense head on the last state.

    x (B, W, F) -> recurrent layers -> last state (B, H) -> `dense_head` -> (B, O)

    Subclasses name the cell. The only state between calls is the weights: each window starts from
    a zero state, so a row's prediction does not depend on its batch.
    """

    cell: ClassVar[type[nn.LSTM] | type[nn.GRU]]
    recurrent: nn.RNNBase

    def __init__(
        self, n_features: int, n_outputs: int, config: AnyNetConfig | None = None, **settings: Any
    ) -> None:
        super().__init__(n_features, n_outputs)
        shape = read_config(NetConfig, config, settings, type(self).__name__)
        self.recurrent = stacked(self.cell, n_features, shape)
        self.head = dense_head(shape.hidden_size, n_outputs, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, W, F) to outputs (B, O)."""
        prediction: Tensor = self.head(run_layers(self.recurrent, x)[-1])
        return prediction

    def forward_steps(self, x: Tensor, n_steps: int) -> Tensor:
        """Map sequences (B, L, F) to outputs at each of their last `n_steps` rows: (B, S, O).

        The states run forwards only, so no step sees a row after it.
        """
        prediction: Tensor = self.head(run_layers(self.recurrent, x)[-n_steps:]).transpose(0, 1)
        return prediction

    def forward_rows(self, rows: Tensor, ends: Tensor, window: int) -> Tensor:
        """Map the windows of `rows` (N, F) that end at `ends` (B,) to outputs (B, O).

        Windows that overlap share the first layer's product with the rows. Gradients and dropout
        are those of `forward`; for them, `ends` ascend.
        """
        windows = RowWindows(rows, ends, window)
        if not cpu.serves_rows(self.recurrent):
            whole: Tensor = self(gather_windows(*windows))
            return whole
        keeps = torch.is_grad_enabled() or self.recurrent.training
        last = (
            run_layers(self.recurrent, windows)[-1]
            if keeps
            else cpu.last_states(self.recurrent, windows)
        )
        prediction: Tensor = self.head(last)
        return prediction

    @property
    def is_stepwise(self) -> bool:
        """Whether no state sees a later row."""
        # Backwards, states see the rows to come.
        return not self.recurrent.bidirectional

    @property
    def shares_rows(self) -> bool:
        """Whether `forward_rows` stands for this `forward`, and the layers are plain ones."""
        kind = type(self)
        # A subclass of a user may have a `forward` of its own, which alone counts then.
        is_sound = (
            kind.forward is RecurrentNet.forward
            or kind.forward_rows is not RecurrentNet.forward_rows
        )
        return is_sound and cpu.has_cell(self.recurrent)

    @property
    def splits_batches(self) -> bool:
        """Whether compiled steps can train the layers, which are nearly all of the work."""
        return cpu.knows_layers(self.recurrent, learn=True)


def stacked(
    cell: type[nn.LSTM] | type[nn.GRU],
    n_features: int,
    shape: AnyNetConfig,
) -> nn.LSTM | nn.GRU:
    """Build layers as wide, as many and with as much dropout between them as a config says."""
    return cell(
        n_features,
        shape.hidden_size,
        shape.num_layers,
        batch_first=True,
        # torch drops only between layers, and warns where there is no between.
        dropout=shape.dropout if shape.num_layers > 1 else 0.0,
    )


def dense_head(n_inputs: int, n_outputs: int, shape: NetConfig) -> nn.Sequential:
    """Build what turns states into outputs: Linear, ReLU, dropout, Linear; one Linear without size.

    One layer is the head of qlib's recurrent nets.
    """
    if not shape.head_size:
        return nn.Sequential(nn.Linear(n_inputs, n_outputs))
    return nn.Sequential(
        nn.Linear(n_inputs, shape.head_size),
        nn.ReLU(),
        nn.Dropout(shape.dropout),
        nn.Linear(shape.head_size, n_outputs),
    )


def run_layers(recurrent: nn.RNNBase, x: Tensor | RowWindows) -> Tensor:
    """Run stacked layers from a zero state: x (B, W, F) -> states of the last layer (W, B, H).

    By our own steps where they serve the calling thread, else by torch.
    """
    batch, n_steps, _ = x.shape
    masks = _masks(recurrent, n_steps, batch)
    if cpu.serves_windows(recurrent, batch):
        return cpu.run_layers(recurrent, x, masks)
    windows = gather_windows(*x) if isinstance(x, RowWindows) else x
    if masks is not None:
        return _run_by_layer(recurrent, windows.transpose(0, 1), masks)
    if not recurrent.batch_first:
        states: Tensor = recurrent(windows.transpose(0, 1))[0]
        return states
    states = recurrent(windows)[0]
    return states.transpose(0, 1)


def _masks(recurrent: nn.RNNBase, n_steps: int, batch: int) -> Tensor | None:
    """Draw what multiplies the states between layers: (L - 1, W, B, H).

    None where nothing does, and where torch's layers have to draw by themselves.
    """
    between = recurrent.num_layers - 1
    if not (recurrent.training and recurrent.dropout and between and cpu.has_cell(recurrent)):
        return None
    return dropout_mask((between, n_steps, batch, recurrent.hidden_size), recurrent.dropout)


def _run_by_layer(recurrent: nn.RNNBase, x: Tensor, masks: Tensor) -> Tensor:
    """Run torch's layers one at a time over x (W, B, F), so that dropout between them is ours.

    torch's would come from the generator of the whole process.
    """
    states = x
    for number in range(recurrent.num_layers):
        if number:
            states = states * masks[number - 1]
        states = cpu.torch_layer(recurrent, number, states)
    return states
