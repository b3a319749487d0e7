"""What LSTM and GRU nets have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class RecurrentNet(nn.Module):
    """Stacked recurrent layers, and a small dense head on the last state.

    x (B, W, F) -> recurrent layers -> last state (B, H) -> Linear, ReLU, dropout, Linear -> (B, K)

    Subclasses name the cell. The only state between calls is the weights: each window starts from
    a zero state, so a row's prediction does not depend on its batch.
    """

    cell: ClassVar[type[nn.LSTM] | type[nn.GRU]]

    def __init__(
        self,
        n_features: int,
        n_targets: int,
        *,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.2,
        head_size: int = 64,
    ) -> None:
        super().__init__()
        self.recurrent = self.cell(
            n_features,
            hidden_size,
            num_layers,
            batch_first=True,
            # torch drops only between layers, and warns where there is no between.
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.head = nn.Sequential(
            nn.Linear(hidden_size, head_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(head_size, n_targets),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, W, F) to targets (B, K)."""
        states, _ = self.recurrent(x)
        prediction: Tensor = self.head(states[:, -1])
        return prediction

    def forward_steps(self, x: Tensor, n_steps: int) -> Tensor:
        """Map sequences (B, L, F) to targets at each of their last `n_steps` rows: (B, S, K).

        The states run forwards only, so no step sees a row after it.
        """
        states, _ = self.recurrent(x)
        prediction: Tensor = self.head(states[:, -n_steps:])
        return prediction
