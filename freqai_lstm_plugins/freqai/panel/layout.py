"""The same columns for every pair.

FreqAI puts the pair's name into the names of its features, and leaves a correlated pair's columns
out where the pair is that correlated pair itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.freqai.columns import without_pair
from freqai_lstm_plugins.names import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


@dataclass(frozen=True)
class Layout:
    """Where the columns that the net sees come from.

    Attributes:
        names: Names of the columns, the same for all pairs.
        sources: For each of them the feature of this pair that stands there.
    """

    names: list[str]
    sources: list[str]

    def arrange(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return candles and labels of a frame, with the features in this layout."""
        features = frame[self.sources].set_axis(self.names, axis=1)
        taken = set(self.sources)
        others = [name for name in frame if name not in taken]
        return frame[others].join(features)


def layout_of(features: Sequence[str], pair: str, correlated: Sequence[str]) -> Layout:
    """Give a pair's features the names and the order that they have for every pair.

    The name of the pair itself is left out. Where the pair is one of the correlated pairs, its own
    features stand in that pair's columns too.

    Args:
        features: The pair's features, in FreqAI's order.
        pair: Such as BTC/USDT.
        correlated: `include_corr_pairlist`.

    Raises:
        ConfigError: Two features have one name once the pair is left out.

    >>> layout_of(["%-x_BTC/USDT_5m", "%-hour"], "BTC/USDT", ["BTC/USDT"]).names
    ['%-x_5m', '%-hour', '%-x_BTC/USDT_5m']
    """
    others = [other for other in correlated if other != pair]
    own = [name for name in features if without_pair(name, pair) != name]
    of_others = {
        other: [name for name in features if without_pair(name, other) != name and name not in own]
        for other in others
    }
    foreign = {name for names in of_others.values() for name in names}
    plain = [name for name in features if name not in foreign]
    placed = [(without_pair(name, pair), name) for name in plain]
    for other in correlated:
        placed += [(name, name) for name in (own if other == pair else of_others[other])]
    names = [name for name, _ in placed]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ConfigError(
            f"{pair}: two features are called {name!r} once the pair is left out of their names, "
            f"as one net for all pairs needs. Rename one of them."
        )
    return Layout(names, [source for _, source in placed])


def require_same_columns(columns: Mapping[str, Sequence[str]], what: str) -> None:
    """Refuse pairs for which the strategy makes different columns.

    Args:
        columns: For each pair its columns, all in one layout.
        what: `features` or `labels`, for the message.

    Raises:
        ConfigError: Names two pairs and the columns that one of them lacks.
    """
    (first, expected), *rest = columns.items()
    for pair, found in rest:
        if list(found) == list(expected):
            continue
        missing = [name for name in expected if name not in set(found)]
        extra = [name for name in found if name not in set(expected)]
        parts = [f"without {shortened(missing)}"] if missing else []
        parts += [f"with {shortened(extra)}"] if extra else []
        raise ConfigError(
            f"One net for all pairs needs the same {what} for each, and the strategy makes those "
            f"of {pair} {' and '.join(parts) or 'in another order'}, compared with {first}. Make "
            f"the same {what} for all pairs, or leave pairs out with panel.pairs."
        )
