"""Temporal fusion transformer for predictions from the last row of a window.

Source: Lim, Arik, Loeff and Pfister, Temporal Fusion Transformers for Interpretable Multi-horizon
Time Series Forecasting, International Journal of Forecasting 37(4), 2021 (arXiv 1912.09363, 2019).
Equation numbers below are those of the arXiv version.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from freqai_lstm_plugins.config import AnyNetConfig, TFTConfig
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.nets.base import SequenceNet, read_config
from freqai_lstm_plugins.nets.recurrent import run_layers, stacked
from freqai_lstm_plugins.nets.seeds import draw_seed, seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Numbers in one intermediate result of the variable selection, of which a step needs about ten.
CHUNK_NUMBERS = 2**20


class GatedLinearUnit(nn.Module):
    """(..., I) -> (..., O): dropout, then sigmoid(W4 x + b4) * (W5 x + b5) (equation 5)."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        # Gate and values in one product: the first half of the outputs is the gate.
        self.linear = nn.Linear(n_in, 2 * n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Let through what the gate opens for."""
        gate, values = self.linear(self.dropout(x)).chunk(2, dim=-1)
        return torch.sigmoid(gate) * values


class GatedSkip(nn.Module):
    """(..., H) and what went around it (..., H) -> (..., H) (equations 17, 20 and 22).

    LayerNorm(skipped + GLU(x)).
    """

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.glu = GatedLinearUnit(hidden_size, hidden_size, dropout)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """Add what the gate lets through to what went around it."""
        output: Tensor = self.norm(skipped + self.glu(x))
        return output


class GatedResidualNetwork(nn.Module):
    """(..., I) -> (..., O), with a context (..., C) where there is one (equations 2 to 4).

    LayerNorm(skip(a) + GLU(W1 ELU(W2 a + W3 c + b2) + b1)). skip is a itself, or a linear map where
    sizes differ or `project_skip` asks for it.
    """

    def __init__(
        self,
        n_in: int,
        hidden_size: int,
        n_out: int,
        dropout: float,
        *,
        context_size: int = 0,
        project_skip: bool = False,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(n_in, hidden_size)
        self.context = nn.Linear(context_size, hidden_size, bias=False) if context_size else None
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.glu = GatedLinearUnit(hidden_size, n_out, dropout)
        self.skip = nn.Linear(n_in, n_out) if project_skip or n_in != n_out else nn.Identity()
        self.norm = nn.LayerNorm(n_out)

    def forward(self, a: Tensor, context: Tensor | None = None) -> Tensor:
        """Apply as much of a nonlinear map as the gate lets through."""
        inner = self.inner(a)
        if self.context is not None:
            inner = inner + self.context(context)
        output: Tensor = self.norm(self.skip(a) + self.glu(self.hidden(nnf.elu(inner))))
        return output


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Return a parameter drawn as `nn.Linear` draws its own."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class VariableNetworks(nn.Module):
    """A gated residual network of its own for each variable: (N, F) -> (F, N, H).

    The paper embeds a real variable by a linear map of one number to H and gives the embedding to
    the network (equation 7). The first thing that a network does is linear too, so the two are one
    here: a network from one number to H whose skip is the embedding. Weights of all networks are
    stacked, and one batched product serves them all.
    """

    def __init__(self, n_features: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        one, many = (n_features, 1, hidden_size), (n_features, hidden_size, hidden_size)
        self.skip_weight, self.skip_bias = _uniform(*one, fan_in=1), _uniform(*one, fan_in=1)
        self.inner_weight, self.inner_bias = _uniform(*one, fan_in=1), _uniform(*one, fan_in=1)
        self.hidden_weight = _uniform(*many, fan_in=hidden_size)
        self.hidden_bias = _uniform(*one, fan_in=hidden_size)
        self.gate_weight = _uniform(*many, fan_in=hidden_size)
        self.gate_bias = _uniform(*one, fan_in=hidden_size)
        self.value_weight = _uniform(*many, fan_in=hidden_size)
        self.value_bias = _uniform(*one, fan_in=hidden_size)
        self.norm_weight = nn.Parameter(torch.ones(one))
        self.norm_bias = nn.Parameter(torch.zeros(one))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Give each variable to its own network."""
        a = x.t().unsqueeze(-1)
        inner = nnf.elu(torch.addcmul(self.inner_bias, a, self.inner_weight))
        hidden = self.dropout(torch.baddbmm(self.hidden_bias, inner, self.hidden_weight))
        gate = torch.sigmoid(torch.baddbmm(self.gate_bias, hidden, self.gate_weight))
        value = torch.baddbmm(self.value_bias, hidden, self.value_weight)
        skip = torch.addcmul(self.skip_bias, a, self.skip_weight)
        normed = nnf.layer_norm(torch.addcmul(skip, gate, value), skip.shape[-1:])
        return torch.addcmul(self.norm_bias, normed, self.norm_weight)


class VariableSelectionNetwork(nn.Module):
    """Weigh the variables of each row, and add up what their networks make of them.

    x (B, W, F), context (B, 1, C) -> weights (B, W, F) = softmax(GRN(x, context)) (equation 6)
    x, weights -> sum over variables of weight * network(variable) (B, W, H) (equations 7 and 8)

    The paper's selection sees all embeddings, flattened to F * H numbers, of which its network uses
    two linear maps. Those are linear in x, so the network sees x itself: the same functions with a
    fraction 1 / H of the weights and of the work.
    """

    def __init__(
        self, n_features: int, hidden_size: int, dropout: float, context_size: int = 0
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.selection = GatedResidualNetwork(
            n_features,
            hidden_size,
            n_features,
            dropout,
            context_size=context_size,
            project_skip=True,
        )
        self.networks = VariableNetworks(n_features, hidden_size, dropout)

    def weights(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the weight of each variable in each row: (B, W, F), summing to 1."""
        return torch.softmax(self.selection(x, context), dim=-1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map windows (B, W, F) to states (B, W, H).

        Rows are taken in chunks. In training, what happens inside of a chunk is computed again in
        the backward pass instead of being kept, as it is F times the size of the result. With
        F = 200, B = 256, W = 24 and H = 32 that lowers the most that a training step holds at a
        time from 1.9 GiB to 0.2 GiB, and halves its time on one CPU thread: 3 s against 6 s.
        """
        rows, weights = x.flatten(0, 1), self.weights(x, context).flatten(0, 1)
        chunk = max(CHUNK_NUMBERS // (rows.shape[1] * self.hidden_size), 1)
        parts = zip(rows.split(chunk), weights.split(chunk), strict=True)
        if len(rows) > chunk and (self.training or torch.is_grad_enabled()):
            states = [self._combine_again(*part) for part in parts]
        else:
            states = [self._combine(*part) for part in parts]
        return torch.cat(states).unflatten(0, x.shape[:2])

    def _combine_again(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Combine, and do it again in the backward pass with the same draw of dropout."""
        if not self.training:
            return self._kept_small(self._combine, rows, weights)
        seed = draw_seed()

        def combine(rows: Tensor, weights: Tensor) -> Tensor:
            # Not by torch's rewinding of the process's generator, from which other threads draw.
            with seeded(seed):
                return self._combine(rows, weights)

        return self._kept_small(combine, rows, weights)

    @staticmethod
    def _kept_small(combine: Callable[..., Tensor], rows: Tensor, weights: Tensor) -> Tensor:
        states: Tensor = checkpoint(
            combine, rows, weights, use_reentrant=False, preserve_rng_state=False
        )
        return states

    def _combine(self, rows: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("fnh,nf->nh", self.networks(rows), weights)


class StaticCovariateEncoder(nn.Module):
    """Symbols (B,) -> the four contexts (B, 1, H) that the net conditions on (section 4.3).

    In this order: for variable selection, for enrichment, and for state and cell of the LSTM.
    """

    def __init__(self, n_symbols: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, hidden_size)
        self.networks = nn.ModuleList(
            GatedResidualNetwork(hidden_size, hidden_size, hidden_size, dropout) for _ in range(4)
        )

    def forward(self, symbol: Tensor) -> list[Tensor]:
        """Look the symbols up."""
        embedded = self.embedding(symbol).unsqueeze(1)
        return [network(embedded) for network in self.networks]


class StaticEnrichment(GatedResidualNetwork):
    """(B, W, H), symbol's context (B, 1, H) -> (B, W, H) by one network for all rows (equation 18).

    A plain gated residual network where there are no symbols.
    """

    def __init__(self, hidden_size: int, dropout: float, context_size: int = 0) -> None:
        super().__init__(hidden_size, hidden_size, hidden_size, dropout, context_size=context_size)


class InterpretableMultiHeadAttention(nn.Module):
    """Attention whose heads share their values, so that their mean says what was looked at.

    query (B, 1, H), keys (B, W, H) -> (B, 1, H) (equations 13 to 16)

    Each head has its own queries and keys of H / heads numbers. The mean of the heads' attention
    weights is applied to values of H / heads numbers that all heads share.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, self.head_size, bias=False)
        self.out = nn.Linear(self.head_size, hidden_size, bias=False)

    def weights(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the mean over heads of the attention weights: (B, 1, W)."""
        size = (self.num_heads, self.head_size)
        queries = self.query(query).unflatten(-1, size)
        scores = torch.einsum("bqnd,bwnd->bnqw", queries, self.key(keys).unflatten(-1, size))
        return torch.softmax(scores / math.sqrt(self.head_size), dim=-1).mean(dim=1)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Look the query up among the keys, which are the values too."""
        output: Tensor = self.out(self.weights(query, keys) @ self.value(keys))
        return output


class TFTNet(SequenceNet):
    """Temporal fusion transformer: (B, W, F) -> (B, O).

    Variable selection -> LSTM -> enrichment by the symbol -> attention of the last row to all rows
    -> gated residual network -> outputs. Gated skips lead around LSTM, attention and the whole part
    after the LSTM. The outputs are the paper's quantile heads (equation 23) where the net is
    trained on the quantile loss, its default; with another loss they are what that loss asks for.

    Divergences from the paper:

    - One horizon: the prediction belongs to the window's last row. There is no decoder and no known
      future input; calendar features are ordinary columns.
    - So only the last row asks in the attention, and what follows the attention exists for that
      row alone. No mask is needed: no key lies after the query.
    - All inputs are real numbers observed in the past. Their embedding and the first linear map of
      each network that reads it are one map, see `VariableNetworks` and `VariableSelectionNetwork`:
      the same functions, though not the same start.
    - The only static input is the symbol, so static variable selection, which would choose from
      one, is left out. With `n_symbols` = 0 all contexts are, and the LSTM starts from zero.
    - `num_layers` may be more than the paper's one, with dropout between them; all layers start
      from the symbol's contexts.
    - Quantiles cannot cross: the heads give the median and steps away from it, see
      `freqai_lstm_plugins.training.objectives.Quantiles`.

    Args:
        n_features: F.
        n_outputs: O.
        config: Settings; by default those of `TFTConfig`, with what `settings` change.
        n_symbols: Symbols that are trained together; 0 takes no symbol.
        **settings: Fields of `TFTConfig`.

    Raises:
        ConfigError: `hidden_size` is no multiple of `num_heads`.
    """

    config = TFTConfig
    default_loss = "quantile"
    takes_symbols = True
    keeps_nothing = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        config: AnyNetConfig | None = None,
        *,
        n_symbols: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(n_features, n_outputs)
        shape = read_config(TFTConfig, config, settings, type(self).__name__)
        hidden_size, dropout = shape.hidden_size, shape.dropout
        context_size = hidden_size if n_symbols else 0
        self.static = StaticCovariateEncoder(n_symbols, hidden_size, dropout) if n_symbols else None
        self.selection = VariableSelectionNetwork(n_features, hidden_size, dropout, context_size)
        self.recurrent = stacked(nn.LSTM, hidden_size, shape)
        self.recurrent_skip = GatedSkip(hidden_size, dropout)
        self.enrichment = StaticEnrichment(hidden_size, dropout, context_size)
        self.self_attention = InterpretableMultiHeadAttention(hidden_size, shape.num_heads)
        self.attention_skip = GatedSkip(hidden_size, dropout)
        self.feed_forward = GatedResidualNetwork(hidden_size, hidden_size, hidden_size, dropout)
        self.decoder_skip = GatedSkip(hidden_size, dropout)
        self.head = nn.Linear(hidden_size, n_outputs)

    def forward(self, x: Tensor, symbol: Tensor | None = None) -> Tensor:
        """Map windows (B, W, F), and symbols (B,) where the net has them, to outputs (B, O)."""
        local, enriched = self._encode(x, symbol)
        last = enriched[:, -1:]
        attended = self.attention_skip(self.self_attention(last, enriched), last)
        state = self.decoder_skip(self.feed_forward(attended), local[:, -1:])
        outputs: Tensor = self.head(state.squeeze(1))
        return outputs

    def variable_weights(self, x: Tensor, symbol: Tensor | None = None) -> Tensor:
        """Return how much each variable counts in each row: (B, W, F), summing to 1 over F.

        In evaluation mode these are the weights that `forward` uses; in training mode they are
        another draw of dropout. The same holds for `attention`.
        """
        return self.selection.weights(x, self._contexts(symbol)[0])

    def attention(self, x: Tensor, symbol: Tensor | None = None) -> Tensor:
        """Return how much the last row looks at each row: (B, W), summing to 1."""
        _, enriched = self._encode(x, symbol)
        return self.self_attention.weights(enriched[:, -1:], enriched).squeeze(1)

    def _contexts(self, symbol: Tensor | None) -> Sequence[Tensor | None]:
        if self.static is None:
            if symbol is not None:
                raise DataError("The net takes no symbols, as n_symbols is 0: leave symbol out.")
            return [None] * 4
        if symbol is None:
            n_symbols = self.static.embedding.num_embeddings
            raise DataError(
                f"The net was built for n_symbols = {n_symbols}: give symbol, one integer below "
                f"{n_symbols} for each window."
            )
        contexts: list[Tensor] = self.static(symbol)
        return contexts

    def _encode(self, x: Tensor, symbol: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return states after the LSTM's skip, and the same after enrichment: (B, W, H) each."""
        for_selection, for_enrichment, *for_lstm = self._contexts(symbol)
        selected = self.selection(x, for_selection)
        start = self._start(for_lstm)
        if start is None:
            states = run_layers(self.recurrent, selected).transpose(0, 1)
        else:
            states, _ = self.recurrent(selected, start)
        local = self.recurrent_skip(states, selected)
        return local, self.enrichment(local, for_enrichment)

    def _start(self, contexts: Sequence[Tensor | None]) -> tuple[Tensor, ...] | None:
        layers = self.recurrent.num_layers
        start = tuple(
            context.transpose(0, 1).expand(layers, -1, -1).contiguous()
            for context in contexts
            if context is not None
        )
        return start or None
