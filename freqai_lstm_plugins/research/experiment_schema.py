"""The sections of an experiment file, and the values that they take.

`experiment_template.toml` explains each key to those who write one. Settings of a model are free
here: each model checks its own.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from freqai_lstm_plugins.config import DEFAULT_WINDOW
from freqai_lstm_plugins.data.candles import as_utc, last_moment
from freqai_lstm_plugins.errors import DataError, MissingExtraError
from freqai_lstm_plugins.research.experiment_errors import closest_hint
from freqai_lstm_plugins.research.toml_text import to_toml

try:
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        model_serializer,
        model_validator,
    )
except ImportError as error:
    raise MissingExtraError("pydantic", "research", "An experiment") from error

MODEL_KINDS = (
    "lstm",
    "gru",
    "alstm",
    "tft",
    "mlp",
    "ridge",
    "lightgbm",
    "xgboost",
    "naive_zero",
    "naive_last",
    "ensemble",
)
BASELINES = ("naive_zero", "ridge", "lightgbm")
"""Models that every comparison holds, whether its file names them or not.

By name: verdicts hold the others against them, which a model of the kind under another name is not.
"""

# Of what is bought and sold again; twice as much is still a part of it.
MOST_LOST = 0.25

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _date_text(value: Any) -> Any:
    # TOML has dates of its own: train = [2012-01-03, 2019-12-31].
    return value if isinstance(value, str) or value is None else str(value).replace(" ", "T")


def _is_date(value: str) -> str:
    try:
        as_utc(value)
    except DataError as error:
        raise ValueError("is no date: write 2024-12-31 or 2024-12-31T12:00") from error
    return value


def _is_path(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("is no path: name a folder")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ValueError(f"holds {twice[0]!r} twice: name it once")
    return values


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        try:
            to_toml({key: value})
        except TypeError as error:
            raise ValueError(f"{key}: {error}") from error
    return values


FolderPath = Annotated[str, AfterValidator(_is_path)]
Date = Annotated[str, BeforeValidator(_date_text), AfterValidator(_is_date)]
Dates = Annotated[tuple[Date, Date], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0, lt=0.5)]
FeatureSet = Literal["indicators", "alpha158", "alpha158_20", "alpha360", "columns"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSection(_Section):
    """Candles, and what counts as wrong in them.

    Attributes:
        folder: Folder of feather, parquet or CSV files, one a symbol.
        symbols: Which symbols; None takes all of the folder.
        timeframe: Bar size such as `1h`, where files of several lie side by side.
        start: First date that is used; None begins with the data.
        end: Last date that is used, the whole day included; None ends with the data.
        price_limit: Largest move a bar that the market allows, such as 0.07; None for no limit.
        no_volume_bars: See `research.checks.CheckLimits`, as the next two.
        stale_bars: See there.
        robust_multiple: See there.
    """

    folder: FolderPath
    symbols: Names | None = None
    timeframe: str | None = None
    start: Date | None = None
    end: Date | None = None
    price_limit: Annotated[float, Field(gt=0, lt=1)] | None = None
    no_volume_bars: Annotated[int, Field(ge=2)] = 20
    stale_bars: Annotated[int, Field(ge=2)] = 10
    robust_multiple: Annotated[float, Field(ge=1)] = 10.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start and self.end and as_utc(self.start) > last_moment(self.end):
            raise ValueError(f"data.start = {self.start} comes after data.end = {self.end}")
        return self


class FeaturesSection(_Section):
    """What the models see of a candle.

    Attributes:
        sets: Feature sets, side by side. `columns` takes columns of the files as they are.
        columns: Names of these columns; empty takes all whose names begin with `%`.
        missing: `nan` leaves a row out where a feature is unknown; `neutral` puts a constant into
            the Alpha sets.
        window: Rows that a model sees at once, unless its own settings name another number.
    """

    sets: Annotated[
        tuple[FeatureSet, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)
    ] = ("indicators",)
    columns: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_distinct)] = ()
    missing: Literal["nan", "neutral"] = "nan"
    window: Annotated[int, Field(ge=1)] = DEFAULT_WINDOW

    @model_validator(mode="after")
    def _columns_are_asked_for(self) -> Self:
        if self.columns and "columns" not in self.sets:
            raise ValueError(
                'features.columns are named, but features.sets lacks "columns": add it'
            )
        return self


class LabelSection(_Section):
    """What is predicted.

    Attributes:
        kind: `return` over the next `horizon` bars; `volatility_scaled`, that in units of the
            trailing volatility; `qlib`, from the next close to that after it; `column`, a column of
            the files.
        horizon: Bars that the label looks ahead, in the symbol's own candles; 1 for `qlib`, which
            earns for one bar.
        volatility_window: Returns that make the trailing volatility.
        cross_section: Whether labels are compared with those of other symbols at the same date.
        clip: Largest absolute value of a label, of the compared one where labels are compared;
            larger ones are set to it. None clips nothing.
        column: Name of the files' column, with `kind = "column"`.
    """

    kind: Literal["return", "volatility_scaled", "qlib", "column"] = "return"
    horizon: Annotated[int, Field(ge=1)] = 1
    volatility_window: Annotated[int, Field(ge=2)] = 48
    cross_section: Literal["none", "rank", "zscore"] = "none"
    clip: Annotated[float, Field(gt=0)] | None = None
    column: str | None = None

    @property
    def reach(self) -> int:
        """Bars from a row to the last candle that its label uses."""
        return 2 if self.kind == "qlib" else self.horizon

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "qlib" and self.horizon != 1:
            raise ValueError(f'label.horizon = {self.horizon} must be 1 with label.kind = "qlib"')
        if (self.kind == "column") != (self.column is not None):
            raise ValueError(
                'label.column goes with label.kind = "column", and only with it: it is '
                f'{self.column!r} with label.kind = "{self.kind}"'
            )
        return self


class SplitSection(_Section):
    """Which rows train, validate and test; see `data.splits`.

    Attributes:
        kind: `walk_forward`: `folds` test parts at the end of the data; `dates`: one fold of given
            dates.
        folds: Number of test parts.
        test_bars: Bars of each.
        window: Whether training takes all bars before the test (`expanding`) or the last
            `train_bars` of them (`rolling`).
        train_bars: Bars of a rolling window.
        valid_fraction: Share of the training bars, at their end, that become validation.
        embargo: Bars left out between two parts beyond what the labels ask for.
        train: First and last date, with `kind = "dates"`.
        valid: The same for validation; None cuts it from the end of the training dates.
        test: The same for the test.
    """

    kind: Literal["walk_forward", "dates"] = "walk_forward"
    folds: Annotated[int, Field(ge=1)] = 5
    test_bars: Annotated[int, Field(ge=1)] = 250
    window: Literal["expanding", "rolling"] = "expanding"
    train_bars: Annotated[int, Field(ge=1)] | None = None
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.15
    embargo: Annotated[int, Field(ge=0)] = 0
    train: Dates | None = None
    valid: Dates | None = None
    test: Dates | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        periods = {"train": self.train, "valid": self.valid, "test": self.test}
        if self.kind == "dates":
            lacking = [name for name in ("train", "test") if periods[name] is None]
            if lacking:
                raise ValueError(f'split.{lacking[0]} is missing with split.kind = "dates"')
        elif any(periods.values()):
            name = next(name for name, period in periods.items() if period)
            raise ValueError(f'split.{name} is given, but only split.kind = "dates" takes dates')
        if (self.window == "rolling") != (self.train_bars is not None):
            raise ValueError(
                'split.train_bars goes with split.window = "rolling", and only with it: it is '
                f'{self.train_bars} with split.window = "{self.window}"'
            )
        return self


class ModelSection(_Section):
    """A model, named by its key.

    Attributes:
        kind: Its name in the registry; empty where the key is that name.
        scope: One model a symbol, or one for all symbols (a panel).
        symbol_embedding: Width of what a net of a panel learns about each symbol; 0 for none.
        balance: What counts the same in the training of a panel: each of its `candles`, or each of
            its `symbols`, whatever the length of its history.
        leave_one_out: Whether a panel forecasts no symbol that it was trained on: a training for
            each symbol, from all others.
        settings: All other keys, which the model itself checks.
    """

    kind: str = ""
    scope: Literal["symbol", "panel"] = "symbol"
    symbol_embedding: Annotated[int, Field(ge=0)] = 0
    balance: Literal["candles", "symbols"] = "candles"
    leave_one_out: bool = False
    settings: Annotated[dict[str, Any], AfterValidator(_plain)] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = {key: value for key, value in values.items() if key in MODEL_KEYS}
        return own | {"settings": {key: values[key] for key in values if key not in MODEL_KEYS}}

    @model_validator(mode="after")
    def _only_a_panel_has_several_symbols(self) -> Self:
        asked = {
            "symbol_embedding": (self.symbol_embedding, "tells symbols apart"),
            "leave_one_out": (self.leave_one_out, "leaves symbols out"),
            "balance": (self.balance != "candles" and self.balance, "weighs symbols"),
        }
        for name, (value, what) in asked.items():
            if value and self.scope != "panel":
                said = to_toml({name: value}).strip()
                raise ValueError(f'{said} {what}, which only scope = "panel" has several of')
        return self

    @model_validator(mode="after")
    def _symbols_that_were_never_seen_have_no_embedding(self) -> Self:
        if self.leave_one_out and self.symbol_embedding:
            raise ValueError(
                f"symbol_embedding = {self.symbol_embedding} is learned for each symbol of the "
                "training, and leave_one_out = true forecasts symbols that were in none: choose "
                "one of them"
            )
        return self

    @model_validator(mode="after")
    def _window_counts_rows(self) -> Self:
        window = self.settings.get("window", 1)
        if type(window) is not int or window < 1:
            raise ValueError(f"window = {window!r} must be a whole number of at least 1")
        return self

    @model_validator(mode="after")
    def _is_not_seeded_alone(self) -> Self:
        if "seed" in self.settings:
            raise ValueError(
                f"seed = {self.settings['seed']!r} would train every seed alike: it is the seeds "
                "at the top that count, for all models"
            )
        return self

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        of_panels = () if self.scope == "panel" else _PANEL_KEYS
        own = {key: getattr(self, key) for key in MODEL_KEYS if key not in of_panels}
        return own | self.settings


_PANEL_KEYS = ("balance", "leave_one_out")
MODEL_KEYS = ("kind", "scope", "symbol_embedding", *_PANEL_KEYS)
"""Keys of a model that are no settings of the model itself."""


class CostsSection(_Section):
    """What a trade costs, as shares of the value traded.

    Attributes:
        buy: Fee of a purchase.
        sell: Fee of a sale.
        tax: Tax on what is sold.
        slippage: Lost on either side on top.
    """

    buy: Share = 0.001
    sell: Share = 0.001
    tax: Share = 0.0
    slippage: Share = 0.0

    @model_validator(mode="after")
    def _may_be_doubled(self) -> Self:
        lost = self.buy + self.sell + self.tax + 2 * self.slippage
        if lost >= MOST_LOST:
            raise ValueError(
                f"costs of a purchase and its sale come to {lost:g} of the value traded, and a "
                f"report doubles them: they must stay below {MOST_LOST:g} together"
            )
        return self


class PortfolioSection(_Section):
    """How predictions become positions.

    Attributes:
        kind: `top`: the `k` symbols with the highest predictions; `long_flat`: each symbol while
            its prediction lies above `threshold`; `long_short`: the `k` highest against the `k`
            lowest.
        k: Number of symbols.
        threshold: In units of the label, fixed before any test row is seen.
        can_short: Whether the market allows more to be sold than is held.
        settlement: Bars after a purchase at which it may first be sold.
        hindsight: Whether the symbols were chosen by what became of them, such as today's members
            of an index; the report then says so beside every absolute return.
    """

    kind: Literal["top", "long_flat", "long_short"] = "top"
    k: Annotated[int, Field(ge=1)] = 5
    threshold: float = 0.0
    can_short: bool = False
    settlement: Annotated[int, Field(ge=0)] = 0
    hindsight: bool = False

    @model_validator(mode="after")
    def _shorts_are_allowed(self) -> Self:
        if self.kind == "long_short" and not self.can_short:
            raise ValueError('portfolio.kind = "long_short" needs portfolio.can_short = true')
        return self


class OutputSection(_Section):
    """Where results go, which changes none of them.

    Attributes:
        folder: The folder; None where the command names it.
        title: Headline of the report.
    """

    folder: FolderPath | None = None
    title: str = ""


class Experiment(_Section):
    """A whole experiment, every value resolved; see the sections."""

    seeds: Annotated[
        tuple[Seed, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)
    ] = (1, 2, 3)
    data: DataSection
    features: FeaturesSection = FeaturesSection()
    label: LabelSection = LabelSection()
    split: SplitSection = SplitSection()
    models: Annotated[dict[str, ModelSection], Field(min_length=1)]
    costs: CostsSection = CostsSection()
    portfolio: PortfolioSection = PortfolioSection()
    output: OutputSection = OutputSection()

    @model_validator(mode="after")
    def _label_fits_the_split(self) -> Self:
        for name in ("test_bars", "train_bars"):
            bars = getattr(self.split, name)
            if self.split.kind == "walk_forward" and bars and self.label.reach >= bars:
                raise ValueError(
                    f"split.{name} = {bars} holds no label, which takes {self.label.reach} bars "
                    f"after its own (label.horizon = {self.label.horizon}): take more bars"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _resolve_models(cls, values: Any) -> Any:
        models = values.get("models") if isinstance(values, dict) else None
        if not isinstance(models, dict) or not all(isinstance(m, dict) for m in models.values()):
            return values
        named = {name: {"kind": name} | settings for name, settings in models.items()}
        for name, settings in named.items():
            _check_model(name, settings["kind"], given="kind" in models[name])
        # Baselines see what the others see: a panel where all others are panels.
        panel = bool(named) and all(model.get("scope") == "panel" for model in named.values())
        scope = "panel" if panel else "symbol"
        added = {kind: {"kind": kind, "scope": scope} for kind in BASELINES if kind not in named}
        return values | {"models": named | {k: v for k, v in added.items() if named}}


def _check_model(name: str, kind: Any, *, given: bool) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"models.{name!r}: a model's name holds letters, digits, - and _ alone")
    if name in MODEL_KINDS and kind != name:
        raise ValueError(
            f"models.{name}.kind = {kind!r} is another kind than the name says: choose another name"
        )
    if kind in MODEL_KINDS:
        return
    hint = closest_hint(str(kind), MODEL_KINDS)
    if given:
        raise ValueError(f"models.{name}.kind = {kind!r} is no model. {hint}")
    raise ValueError(f'models.{name} is no model and has no kind such as kind = "lstm". {hint}')
