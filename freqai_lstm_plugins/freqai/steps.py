"""Steps of FreqAI's pipelines: what ours have in common, and how those of the host are replaced."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from datasieve.transforms.base_transform import BaseTransform

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasieve.pipeline import Pipeline

# Features, labels, sample weights and names of the features, as datasieve hands them on.
_Table = tuple[Any, Any, Any, Any]


class FeatureStep(BaseTransform):
    """A step that changes features alone; labels, weights and names go by as they are."""

    @abstractmethod
    def learn(self, rows: Any) -> None:
        """Look at training rows (N, F)."""

    @abstractmethod
    def change(self, rows: Any) -> Any:
        """Return rows (N, F) as the model is to see them."""

    def undo(self, rows: Any) -> Any:
        """Return rows (N, F) as they were before `change`, as far as they can be known."""
        return rows

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> _Table:
        """Learn from training rows; datasieve's own signature."""
        self.learn(X)
        return X, y, sample_weight, feature_list

    def transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        outlier_check: bool = False,
        **kwargs: Any,
    ) -> _Table:
        """Change rows; datasieve's own signature."""
        return self.change(X), y, sample_weight, feature_list

    def inverse_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> _Table:
        """Undo `transform`; datasieve's own signature."""
        return self.undo(X), y, sample_weight, feature_list


def replace_steps(
    pipeline: Pipeline, kind: type[BaseTransform], make: Callable[[Any], BaseTransform]
) -> Pipeline:
    """Replace steps of one of the host's classes in a pipeline that is not fitted yet.

    Args:
        pipeline: Changed in place, and returned.
        kind: The class itself; steps of classes derived from it stay.
        make: Makes the new step from the host's.
    """
    pipeline.steps = [
        (name, make(step) if type(step) is kind else step) for name, step in pipeline.steps
    ]
    return pipeline
