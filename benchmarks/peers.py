"""The peers' own training loops, driving a net of this package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from freqtrade.freqai.tensorboard.base_tensorboard import BaseTensorboardLogger
from freqtrade.freqai.torch.PyTorchDataConvertor import DefaultPyTorchDataConvertor
from freqtrade.freqai.torch.PyTorchModelTrainer import PyTorchTransformerTrainer
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.data import FloatArray, HostShaped

LEARNING_RATE = 1e-3


def has_qlib() -> bool:
    """Tell whether qlib is installed."""
    return find_spec("qlib") is not None


def builtin_trainer(net: nn.Module, window: int, **settings: Any) -> PyTorchTransformerTrainer:
    """Return freqtrade's window trainer around `net`, made as `PyTorchTransformerRegressor` does.

    It logs nothing unless `tb_logger` says so, which is in its favour: by default it writes every
    step's loss to tensorboard.
    """
    shaped = HostShaped(net)
    logger = settings.pop("tb_logger", None) or BaseTensorboardLogger(Path(), activate=False)
    return PyTorchTransformerTrainer(
        model=shaped,
        optimizer=torch.optim.AdamW(shaped.parameters(), lr=LEARNING_RATE),
        criterion=nn.MSELoss(),
        device="cpu",
        data_convertor=DefaultPyTorchDataConvertor(target_tensor_type=torch.float),
        window_size=window,
        tb_logger=logger,
        **settings,
    )


def train_builtin(
    trainer: PyTorchTransformerTrainer, rows: FloatArray, targets: FloatArray
) -> None:
    """Run freqtrade's training loop on N rows; it trains on N - W of their windows."""
    frames = {"train_features": pd.DataFrame(rows), "train_labels": pd.DataFrame(targets)}
    trainer.fit(frames, ["train"])


def train_qlib(
    net: nn.Module, rows: FloatArray, targets: FloatArray, window: int, batch_size: int
) -> None:
    """Train one epoch on qlib's time series sampler, in the loop of qlib's recurrent models."""
    from qlib.data.dataset import TSDataSampler  # type: ignore[import-not-found]

    dates = pd.date_range("2025-01-01", periods=len(rows), freq="D")
    index = pd.MultiIndex.from_product([dates, ["A"]], names=["datetime", "instrument"])
    frame = pd.DataFrame(rows, index=index).assign(label=targets[:, 0])
    sampler = TSDataSampler(frame, dates[window - 1], dates[-2], step_len=window)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE)
    net.train()
    for batch in DataLoader(sampler, batch_size=batch_size, shuffle=True, drop_last=True):
        loss = nn.functional.mse_loss(net(batch[:, :, :-1].float())[:, 0], batch[:, -1, -1].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
