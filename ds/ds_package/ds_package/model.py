"""The wine model: multinomial logistic regression on scaled measurements."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ds_package import features
from ds_package.features import CULTIVARS, FIELDS, Cultivar, WineFeatures, WinePrediction
from machine_learning_engineering import Example, MLEModel


class Wine(MLEModel):
    """Which of three grapes of Piedmont a wine is made of."""

    name = "wine"
    Features = WineFeatures
    Prediction = WinePrediction
    primary_metric = "macro_f1"
    Label = Cultivar
    label_name = "cultivar"
    feature_names_in = FIELDS

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        """The 178 analyses that scikit-learn ships; nothing is downloaded."""
        from sklearn.datasets import load_wine

        found = load_wine()
        for measured, cultivar in zip(found.data.tolist(), found.target.tolist(), strict=True):
            yield Example(dict(zip(FIELDS, measured, strict=True)), CULTIVARS[cultivar])

    def new_estimator(self, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # lbfgs is deterministic, so the seed has no effect.
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000, random_state=seed))

    def build_inputs(self, rows: Sequence[WineFeatures]) -> NDArray[Any]:
        return features.build_inputs(rows)

    def predict(self, rows: Sequence[WineFeatures]) -> Sequence[WinePrediction]:
        if not rows:
            return []
        classes = self.estimator.classes_.tolist()
        answers = []
        for probabilities in self.estimator.predict_proba(features.build_inputs(rows)).tolist():
            by_class = dict(zip(classes, probabilities, strict=True))
            answers.append(WinePrediction(max(classes, key=by_class.__getitem__), by_class))
        return answers

    def evaluate(self, predictions: Sequence[WinePrediction], labels: Sequence[Cultivar]) -> Mapping[str, float]:
        from sklearn.metrics import accuracy_score, f1_score, log_loss

        said = [prediction.cultivar for prediction in predictions]
        names = sorted(CULTIVARS)
        return {
            "accuracy": float(accuracy_score(labels, said)),
            "macro_f1": float(f1_score(labels, said, average="macro", labels=names, zero_division=0.0)),
            "log_loss": float(
                log_loss(labels, [[one.probabilities.get(n, 0.0) for n in names] for one in predictions], labels=names)
            ),
        }
