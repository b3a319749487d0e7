"""What a model file of any kind says of itself, without building a model or parsing a tree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import NotACheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from freqai_lstm_plugins.checkpoint import Checkpoint


@dataclass(frozen=True)
class Summary:
    """Lines and tables of a model that is no net.

    Attributes:
        lines: What a line is called -> what it says.
        feature_names: Names of the features.
        members: For an ensemble, a row a label and member: label, member, kind, weight, out-of-fold
            error.
    """

    lines: dict[str, str]
    feature_names: list[str]
    members: Sequence[tuple[str, ...]] = ()


def summarize(checkpoint: Checkpoint) -> Summary:
    """Summarize trees, linear and naive forecasts, and ensembles.

    Raises:
        NotACheckpointError: The state is none of such a model.
    """
    state = checkpoint.state
    try:
        summary = _ensemble(state) if checkpoint.kind == "ensemble" else _single(state)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise NotACheckpointError(
            f"The model file is damaged: it holds no sound {checkpoint.kind} ({error})."
        ) from error
    return replace(summary, lines={"model": checkpoint.kind, **summary.lines})


def _single(state: Mapping[str, Any]) -> Summary:
    lines = {}
    if "settings" in state:
        lines["settings"] = _plain(state["settings"])
    if "window" in state:
        lines["window"] = f"{int(state['window'])} rows"
    lines |= _names(state["schema"])
    history = state.get("history") or {"epochs": []}
    if history["epochs"]:
        best = history["epochs"][int(history["best_epoch"]) - 1]
        lines["trained on"] = (
            f"{history['n_train_windows']} windows, validated on {history['n_valid_windows']}"
        )
        lines["passes"] = f"{len(history['epochs'])}, kept up to {history['best_epoch']}"
        lines["training loss"] = number(best["train_loss"])
        lines["validation loss"] = number(best["valid_loss"])
    return Summary(lines, [str(name) for name in state["schema"]["feature_names"]])


def _ensemble(state: Mapping[str, Any]) -> Summary:
    schema, kinds = state["schema"], {one["name"]: one["kind"] for one in state["members"]}
    trained = [str(one["name"]) for one in state["trained"]]
    lines = {
        "settings": _plain(state["settings"]),
        "window": f"{int(state['window'])} rows",
        **_names(schema),
        "members": "; ".join(
            f"{one['name']} ({_plain(one['settings']) or 'defaults'})" for one in state["members"]
        ),
    }
    if state["failures"]:
        lines["left out"] = "; ".join(f"{k}: {v}" for k, v in state["failures"].items())
    members = []
    for label, part in zip(schema["label_names"], state["weighed"], strict=True):
        lines[f"{label}, out of fold"] = _evidence(part)
        errors: Sequence[float | None] = part["member_errors"] or [None] * len(trained)
        members += [
            (str(label), name, str(kinds[name]), f"{float(weight):.3f}", number(error))
            for name, weight, error in zip(trained, part["weights"], errors, strict=True)
        ]
    return Summary(lines, [str(name) for name in schema["feature_names"]], members)


def _evidence(part: Mapping[str, Any]) -> str:
    return (
        f"{int(part['n_rows'])} rows, squared error of the ensemble {number(part['own_error'])}, "
        f"of the plain mean {number(part['mean_error'])}, effective members "
        f"{number(part['effective_members'])}, mean correlation of errors "
        f"{number(part['correlation'])}"
    )


def _names(schema: Mapping[str, Any]) -> dict[str, str]:
    names = [str(name) for name in schema["feature_names"]]
    more = f", ... ({len(names)} in all)" if len(names) > 4 else ""
    labels = [str(name) for name in schema["label_names"]]
    return {"features": ", ".join(names[:4]) + more, "labels": ", ".join(labels)}


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def number(value: Any) -> str:
    """Return a number of five digits, and `none` where there is none."""
    return "none" if value is None else f"{float(value):.5g}"
