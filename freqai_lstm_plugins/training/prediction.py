"""The prediction loop: outputs of a net for many windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import (
    gather_windows,
)
from freqai_lstm_plugins.nets import NETS
from freqai_lstm_plugins.nets.cpu.memory import keep_memory
from freqai_lstm_plugins.nets.cpu.threads import in_threads
from freqai_lstm_plugins.nets.recurrent import serves_rows
from freqai_lstm_plugins.nets.symbols import inner_net

PREDICT_BATCH = 512


@torch.inference_mode()
def predict_windows(net: nn.Module, rows: Tensor, ends: Tensor, window: int) -> Tensor:
    """Predict the windows that end at `ends`.

    Args:
        net: A net in evaluation mode.
        rows: (N, F) features on any device.
        ends: (M,) rows at which full windows end.
        window: W.

    Returns:
        (M, O) float32 outputs on the CPU.
    """
    device = next(net.parameters()).device
    return all_outputs(net, rows.to(device), ends.to(device), window).float().cpu()


def all_outputs(net: nn.Module, rows: Tensor, ends: Tensor, window: int) -> Tensor:
    """Return the outputs (M, O) of all windows, a batch at a time."""
    # An empty batch still tells how many outputs there are.
    batches = ends.split(PREDICT_BATCH) if len(ends) else (ends,)

    with keep_memory() as memory:

        def predict(batch: Tensor) -> Tensor:
            with keep_memory(memory):
                return _predict_batch(net, rows, batch, window)

        # A net of the user's own may keep something between calls.
        if rows.device.type == "cpu" and type(inner_net(net)) in NETS.values():
            return torch.cat(in_threads(predict, batches))
        return torch.cat([predict(batch) for batch in batches])


def _predict_batch(net: nn.Module, rows: Tensor, ends: Tensor, window: int) -> Tensor:
    # Windows that lie far apart share no rows.
    shares_rows = len(ends) > window and int(ends[-1] - ends[0]) < 2 * len(ends)
    if rows.device.type == "cpu" and shares_rows and serves_rows(net):
        return net.forward_rows(rows, ends, window)  # type: ignore[operator]
    prediction: Tensor = net(gather_windows(rows, ends, window))
    return prediction
