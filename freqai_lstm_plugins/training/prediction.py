"""The prediction loop: outputs of a net for many windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import RowWindows, gather_windows
from freqai_lstm_plugins.nets import forward_rows, keeps_nothing, shares_rows
from freqai_lstm_plugins.nets.cpu import in_threads, keep_memory

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
        (M, O) float32 outputs on the CPU. A window for which any output is not finite has none: all
        of them are NaN.
    """
    device = next(net.parameters()).device
    outputs = all_outputs(net, rows.to(device), ends.to(device), window).float().cpu()
    # Finite features far outside of what was trained on overflow in some nets, and an infinity or
    # half an answer must not pass for one.
    return outputs.masked_fill(~outputs.isfinite().all(dim=1, keepdim=True), torch.nan)


def all_outputs(
    net: nn.Module, rows: Tensor, ends: Tensor, window: int, *, by_series: bool = False
) -> Tensor:
    """Return the outputs (M, O) of all windows, a batch at a time.

    Args:
        net: As for `predict_windows`.
        rows: Features.
        ends: Rows at which full windows end.
        window: W.
        by_series: Whether no batch is to hold windows of two series that stand far apart, as the
            newest rows of many symbols do: each by itself shares its rows.
    """
    apart = _jumps(ends) if by_series and shares_rows(net) else []
    # An empty batch still tells how many outputs there are.
    batches = [batch for part in ends.tensor_split(apart) for batch in part.split(PREDICT_BATCH)]

    with keep_memory() as memory:

        def predict(batch: Tensor) -> Tensor:
            with keep_memory(memory):
                return _predict_batch(net, rows, batch, window)

        # A net of the user's own may keep something between calls.
        if rows.device.type == "cpu" and keeps_nothing(net):
            return torch.cat(in_threads(predict, batches))
        return torch.cat([predict(batch) for batch in batches])


def _jumps(ends: Tensor) -> list[int]:
    """Return the places among `ends` where more rows are left out than a batch has windows."""
    found: list[int] = (ends.diff() > PREDICT_BATCH).nonzero().flatten().add(1).tolist()
    return found


def _predict_batch(net: nn.Module, rows: Tensor, ends: Tensor, window: int) -> Tensor:
    # Windows that lie far apart share no rows.
    is_dense = len(ends) > window and int(ends[-1] - ends[0]) < 2 * len(ends)
    if rows.device.type == "cpu" and is_dense and shares_rows(net):
        return forward_rows(net, RowWindows(rows, ends, window))
    prediction: Tensor = net(gather_windows(rows, ends, window))
    return prediction
