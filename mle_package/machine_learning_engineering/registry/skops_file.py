"""The file of a fitted estimator, in the skops format. It is opened only if each type in it is on an allow-list."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry.manifest import CorruptModel

MODEL_FILE = "model.skops"

# Types that skops does not trust by default. Each holds arrays and numbers only, or computes with them; a function is
# one of the library's that computes with its arguments.
TRUSTED_TYPES = frozenset(
    {
        "functools.partial",  # of a function on this list, as HistGradientBoosting keeps one for its checks
        "numpy.dtype",  # OneHotEncoder, OrdinalEncoder, SimpleImputer, KBinsDiscretizer
        "numpy.floating",  # make_column_selector
        "numpy.integer",
        "numpy.mean",  # FeatureAgglomeration
        "numpy.number",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",  # SplineTransformer
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "scipy.sparse._dia.dia_matrix",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_elkan",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.CompoundKernel",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.ExpSineSquared",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.impute._iterative._ImputerTriplet",
        "sklearn.impute._iterative.IterativeImputer",
        "sklearn.metrics._classification.accuracy_score",
        "sklearn.metrics._classification.balanced_accuracy_score",
        "sklearn.metrics._classification.f1_score",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.metrics._scorer._CurveScorer",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._classification_threshold._CurveScorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
        "sklearn.utils.validation.check_array",
    }
)
# Trees that a library's own parser reads: trusted by the models that say so.
BOOSTER_TYPES = frozenset(
    {
        "collections.OrderedDict",  # LightGBM's scores
        "lightgbm.basic.Booster",  # Trees as text, which LightGBM's own parser reads.
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "xgboost.core.Booster",  # Trees, which XGBoost's own parser reads.
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        "xgboost.sklearn.XGBRanker",
        "xgboost.sklearn.XGBRegressor",
    }
)
MAX_UNPACKED_BYTES = 1024**3
"""Maximum size of a file's parts in memory; a small file may unpack to much more than it has on disk."""
_SAFE_INPUT = "content"


def dumps(model: Model) -> bytes:
    """Serialize a model's estimator.

    Raises:
        CorruptModel: The estimator holds untrusted types, so the file could not be opened again.
    """
    import skops.io

    content: bytes = skops.io.dumps(model.estimator)
    check_types(content, type(model), "new version")
    _check_parameters(model.estimator, type(model), "new version")
    return content


def loads(content: bytes, model_class: type[Model], what: str) -> Any:
    """Deserialize an estimator.

    Args:
        content: A skops file.
        model_class: Its `trusted_types` are allowed as well.
        what: The version, for error messages.

    Raises:
        CorruptModel: `content` is not a skops file, holds untrusted types, reads files, or can't be built with the
            installed code.
    """
    import skops.io

    types = check_types(content, model_class, what)
    try:
        estimator = skops.io.loads(content, trusted=types)
    except Exception as error:  # A type that changed or is missing may raise anything while it is built.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} can't be opened ({type(error).__name__}: {error!s:.500}): the code of its "
            "classes or the installed versions of the libraries may differ from those that it was saved with; install "
            f"those, or run inflight train {model_class.name}"
        ) from error
    _check_parameters(estimator, model_class, what)
    use_one_thread(estimator)
    return estimator


def use_one_thread(estimator: Any) -> None:
    """Let no part of an estimator start threads: a worker predicts in one; more would only wait for each other."""
    for part in parts(estimator):
        if isinstance(vars(part).get("n_jobs"), int):
            part.n_jobs = 1


def types_of(content: bytes) -> list[str]:
    """Names of the types in a valid skops file that skops does not trust by default."""
    import skops.io

    found: list[str] = skops.io.get_untrusted_types(data=content)
    return found


def check_types(content: bytes, model_class: type[Model], what: str) -> list[str]:
    """Check that each type in a skops file is on the allow-list.

    Returns:
        The types in the file that skops does not trust by default.

    Raises:
        CorruptModel: `content` is not a skops file, or holds untrusted types.
    """
    import skops.io

    _check_size(content, model_class, what)
    try:
        types: list[str] = skops.io.get_untrusted_types(data=content)
    except Exception as error:  # skops may raise anything on a malformed file.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} is not a skops file: {error!s:.500}; "
            f"restore it, or run inflight train {model_class.name}"
        ) from error
    if unknown := sorted(set(types) - TRUSTED_TYPES - model_class.trusted_types):
        raise CorruptModel(
            f"{MODEL_FILE} of {what} holds types that are not trusted: {', '.join(unknown):.1000}; it was not opened. "
            f"If they hold only arrays and numbers, list them in {model_class.__name__}.trusted_types; a function or a "
            "class that runs code of its own must not be in the file"
        )
    return types


def unpacked_size(content: bytes) -> int:
    """Bytes of a skops file's parts in memory; 0 if it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return sum(part.file_size for part in file.infolist())
    except Exception:  # Besides BadZipFile, zipfile raises several others on a malformed file.
        return 0  # skops has the message.


def _check_size(content: bytes, model_class: type[Model], what: str) -> None:
    size = unpacked_size(content)
    if size > MAX_UNPACKED_BYTES:
        raise CorruptModel(
            f"{MODEL_FILE} of {what} unpacks to {size:,} bytes, more than {MAX_UNPACKED_BYTES:,}; it was not opened: "
            f"restore it, or run inflight train {model_class.name}"
        )


def _check_parameters(estimator: Any, model_class: type[Model], what: str) -> None:
    """Check that no part of an estimator reads or writes files.

    Raises:
        CorruptModel: A part would do so. The message names its parameter.
    """
    if problem := unsafe_parameter(estimator):
        raise CorruptModel(
            f"{MODEL_FILE} of {what}: {problem}; it was refused: leave the parameter at its default, and run inflight "
            f"train {model_class.name}"
        )


def unsafe_parameter(estimator: Any) -> str | None:
    """What a part of an estimator would do to files, or None.

    The types are trusted, but some have parameters that make them take a request's text for the name of a file, or
    keep what they computed in a folder.
    """
    for part in filter(_is_of_sklearn, parts(estimator)):
        parameters = vars(part)
        name = type(part).__name__
        if str(parameters.get("input", _SAFE_INPUT)) != _SAFE_INPUT:
            return f"{name}(input={parameters['input']!r}) would read files that requests name"
        if parameters.get("memory") is not None:
            return f"{name}(memory=...) would write to a folder and read pickles from it"
    return None


def _is_of_sklearn(part: Any) -> bool:
    """Tell whether the class of an object or a base of it is from scikit-learn, which its parameters then are too."""
    modules = (base.__module__ for base in type(part).__mro__)
    return any(
        name.startswith("sklearn.") and not name.startswith(("sklearn.base", "sklearn.utils")) for name in modules
    )


def parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and all estimators within it, parameters and fitted ones, each once."""
    import numpy as np
    from sklearn.base import BaseEstimator

    seen: set[int] = set()
    pending = [estimator]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            pending += one
        elif isinstance(one, np.ndarray):
            if one.dtype == object:  # The trees of a gradient boosting.
                pending += one.ravel().tolist()
        elif hasattr(one, "__dict__") and not isinstance(one, type):
            if isinstance(one, BaseEstimator) or type(one).__module__.startswith("sklearn."):
                yield one
            pending += vars(one).values()
