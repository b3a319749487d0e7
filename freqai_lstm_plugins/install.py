"""Writes the strategies, the model files and a config into a freqtrade user directory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from freqai_lstm_plugins.errors import UserDirError
from freqai_lstm_plugins.files import write_bytes, write_text
from freqai_lstm_plugins.names import CONFIG_NAME, ENSEMBLE_CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = Path(__file__).parent
MODELS_DIR = PACKAGE / "freqaimodels"
TEMPLATE_DIR = PACKAGE / "userdir"
CONFIG, ENSEMBLE = TEMPLATE_DIR / "config.json", TEMPLATE_DIR / "ensemble.json"
SHORT_STRATEGY = "LeaLongShortStrategy"
# Says which files are ours as they were written, so that a newer version may replace them.
RECORD = ".freqai-lstm.json"

MINUTES = {"m": 1, "h": 60, "d": 1440}
# Timeframe -> the longer one whose features stand beside its own. Some twelve times as long shows
# another market; startup candles of more than a day each would need years of history.
LONGER = {
    "1m": "15m",
    "3m": "1h",
    "5m": "1h",
    "15m": "4h",
    "30m": "6h",
    "1h": "12h",
    "2h": "1d",
    "4h": "1d",
    "6h": "1d",
    "8h": "1d",
    "12h": "1d",
    "1d": None,
}
# As many candles as 30 days of 5m candles, within what stays a useful time to look back on.
TRAIN_CANDLES = 8640
LONGEST_TRAINING_DAYS = 730

State = Literal[
    "written",
    "up to date",
    "upgraded",
    "changed by you, kept",
    "replaced, old one kept as .bak",
]


@dataclass(frozen=True)
class InstalledFile:
    """A file of the user directory, and what became of it."""

    path: Path
    state: State

    @property
    def is_kept(self) -> bool:
        """Whether a changed file stood in the way, so that ours was not written."""
        return self.state == "changed by you, kept"


@dataclass(frozen=True)
class Market:
    """What the written config trades.

    Attributes:
        pairs: Such as `BTC/USDT`, or `BTC/USDT:USDT` for futures.
        timeframe: Such as `5m`.
    """

    pairs: Sequence[str] = ("BTC/USDT", "ETH/USDT")
    timeframe: str = "5m"

    def __post_init__(self) -> None:
        """Refuse what one config cannot trade.

        Raises:
            UserDirError: A pair is none, the pairs have several stakes, or the timeframe is
                unknown.
        """
        if self.timeframe not in LONGER:
            raise UserDirError(
                f"Unknown timeframe {self.timeframe!r}: use one of {', '.join(LONGER)}."
            )
        for pair in self.pairs:
            base, _, quote = pair.partition("/")
            if not base or not quote.split(":")[0]:
                raise UserDirError(
                    f"{pair!r} is no pair: write BTC/USDT, or BTC/USDT:USDT for futures."
                )
        if len({pair.partition("/")[2] for pair in self.pairs}) != 1:
            raise UserDirError(
                f"A bot trades pairs of one stake currency and market, not {', '.join(self.pairs)}."
            )

    @property
    def stake(self) -> str:
        """The currency that trades are paid in."""
        return self.pairs[0].partition("/")[2].split(":")[0]

    @property
    def is_futures(self) -> bool:
        """Whether the pairs are perpetual futures, which can be sold short."""
        return ":" in self.pairs[0]


def config_text(market: Market) -> str:
    """Return the template's config for a market; the template itself where it is the default."""
    text = CONFIG.read_text(encoding="utf-8")
    if market == Market():
        return text
    config = json.loads(text)
    longer = LONGER[market.timeframe]
    timeframes = [market.timeframe, longer] if longer else [market.timeframe]
    config |= {
        "stake_currency": market.stake,
        "max_open_trades": max(2, min(len(market.pairs), 5)),
        "timeframe": market.timeframe,
        "timeframes": timeframes,
    }
    config["exchange"]["pair_whitelist"] = list(market.pairs)
    if market.is_futures:
        config |= {
            "trading_mode": "futures",
            "margin_mode": "isolated",
            "strategy": SHORT_STRATEGY,
        }
    freqai = config["freqai"]
    freqai |= _spans(market.timeframe)
    # Two leading pairs tell of the market; more would multiply the features of every pair.
    leading = list(market.pairs[:2])
    freqai["feature_parameters"] |= {
        "include_timeframes": timeframes,
        "include_corr_pairlist": leading,
    }
    return json.dumps(config, indent=4) + "\n"


def ensemble_config_text(market: Market) -> str:
    """Return the config for a market, with a model of several members in place of the net."""
    config, changes = json.loads(config_text(market)), json.loads(ENSEMBLE.read_text("utf-8"))
    config["freqaimodel"] = changes["freqaimodel"]
    # As a whole, since the net's own settings mean nothing to the members.
    config["freqai"]["model_training_parameters"] = changes["model_training_parameters"]
    return json.dumps(config, indent=4) + "\n"


def _spans(timeframe: str) -> dict[str, Any]:
    """Return how long a model trains and holds, so that it sees as many candles as at 5m."""
    minutes = int(timeframe[:-1]) * MINUTES[timeframe[-1]]
    days = min(max(round(TRAIN_CANDLES * minutes / 1440), 2), LONGEST_TRAINING_DAYS)
    hours = 6 * minutes / 5
    return {
        "train_period_days": days,
        "backtest_period_days": max(1, round(days / 4)),
        "live_retrain_hours": min(max(round(hours), 1), 168),
        "expiration_hours": min(max(round(4 * hours), 4), 672),
    }


def template_files() -> Iterator[tuple[Path, str]]:
    """Yield each template with its place inside a user directory."""
    for model in sorted(MODELS_DIR.glob("*.py")):
        yield model, f"freqaimodels/{model.name}"
    for strategy in sorted((TEMPLATE_DIR / "strategies").glob("*.py")):
        yield strategy, f"strategies/{strategy.name}"
    # A user directory often has a config.json of its own.
    yield CONFIG, CONFIG_NAME
    yield ENSEMBLE, ENSEMBLE_CONFIG_NAME


def install(
    userdir: Path,
    *,
    pairs: Sequence[str] | None = None,
    timeframe: str | None = None,
    force: bool = False,
) -> list[InstalledFile]:
    """Write the package's files into `userdir`.

    A file that stands as an earlier run wrote it is replaced. One that differs is kept, unless
    `force` is given; then it stays beside ours with the suffix `.bak`.

    Args:
        userdir: A freqtrade user directory. Missing folders are made.
        pairs: Pairs of the config; by default those of the run before, else BTC and ETH.
        timeframe: Timeframe of the config; by default that of the run before, else 5m.
        force: Replace files that differ.

    Raises:
        UserDirError: The directory cannot be written, a file's place leads out of it, or the
            pairs or the timeframe are none.
    """
    try:
        record = _read_record(userdir)
        market = _chosen_market(record, pairs, timeframe)
        userdir.mkdir(parents=True, exist_ok=True)
        root = userdir.resolve()
        places = {
            relative: (_inside(root, relative), _text(source, market))
            for source, relative in template_files()
        }
        before = record.get("files", {})
        files = [
            _install_file(place, text, before.get(relative), force=force)
            for relative, (place, text) in places.items()
        ]
        # A changed file that was kept differs from ours, so that it will not pass for it later.
        ours = {
            relative: _fingerprint(text.encode("utf-8")) for relative, (_, text) in places.items()
        }
        traded = {"pairs": list(market.pairs), "timeframe": market.timeframe}
        write_text(root / RECORD, json.dumps({"market": traded, "files": ours}, indent=2) + "\n")
        return files
    except OSError as error:
        raise UserDirError(
            f"Cannot write to the user directory {userdir}: {error.strerror or error}. Choose "
            f"another --userdir, or make it writable."
        ) from error


def _text(source: Path, market: Market) -> str:
    if source == CONFIG:
        return config_text(market)
    if source == ENSEMBLE:
        return ensemble_config_text(market)
    return source.read_text(encoding="utf-8")


def _read_record(userdir: Path) -> dict[str, Any]:
    """Return what earlier runs wrote; nothing where there is no record or it is damaged."""
    path = userdir / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}
    # Without a record every file that differs is kept, which is always safe.
    is_sound = isinstance(record, dict) and all(
        isinstance(record.get(part, {}), dict) for part in ("market", "files")
    )
    return record if is_sound else {}


def _chosen_market(
    record: dict[str, Any], pairs: Sequence[str] | None, timeframe: str | None
) -> Market:
    before = record.get("market", {})
    default = Market()
    return Market(
        tuple(pairs or before.get("pairs") or default.pairs),
        timeframe or before.get("timeframe") or default.timeframe,
    )


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _inside(root: Path, relative: str) -> Path:
    place = root / relative
    target = place.resolve()
    if not target.is_relative_to(root) and not target.is_relative_to(PACKAGE):
        raise UserDirError(
            f"{place} leads out of the user directory, to {target}. Remove the link."
        )
    return place


def _install_file(place: Path, text: str, written: str | None, *, force: bool) -> InstalledFile:
    """Write one file, unless the user changed what stands there.

    Args:
        place: Where it goes.
        text: Its content.
        written: Fingerprint of what an earlier run wrote there.
        force: Replace a changed file.
    """
    if not place.exists():
        write_text(place, text)
        return InstalledFile(place, "written")
    present = place.read_bytes()
    if present == text.encode("utf-8"):
        return InstalledFile(place, "up to date")
    if _fingerprint(present) == written:
        write_text(place, text)
        return InstalledFile(place, "upgraded")
    if not force:
        return InstalledFile(place, "changed by you, kept")
    backup = _free_backup(place)
    write_bytes(backup, present)
    write_text(place, text)
    return InstalledFile(place, "replaced, old one kept as .bak")


def _free_backup(place: Path) -> Path:
    backup = place.with_name(f"{place.name}.bak")
    number = 1
    while backup.exists():
        backup = place.with_name(f"{place.name}.bak{number}")
        number += 1
    return backup
