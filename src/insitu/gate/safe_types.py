"""The skops types that may leave and be served without a steward naming them.

Two conditions: building one runs nothing but that class's own code, and its
fitted state has a size that does not grow with the number of training rows. So
neighbours, kernel machines, Gaussian processes, forests, encoders that keep
categories and clusterings that keep a label per row are not here, nor is a type
that skops itself does not load without being told to. A steward may add a type
under `release.models.trusted_types`, and the scan for rows runs all the same.
"""

from __future__ import annotations

_BUILTINS = ("dict", "list", "tuple", "set", "slice", "str", "int", "float", "bool")
_NUMPY = (
    "ndarray",
    "bool",
    "bool_",
    *(f"int{bits}" for bits in (8, 16, 32, 64)),
    *(f"uint{bits}" for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
    "str_",
)
_SKLEARN = (
    "compose._column_transformer.ColumnTransformer",
    "compose._target.TransformedTargetRegressor",
    "decomposition._pca.PCA",
    "decomposition._truncated_svd.TruncatedSVD",
    "discriminant_analysis.LinearDiscriminantAnalysis",
    "discriminant_analysis.QuadraticDiscriminantAnalysis",
    "dummy.DummyClassifier",
    "dummy.DummyRegressor",
    "feature_selection._variance_threshold.VarianceThreshold",
    "impute._base.SimpleImputer",
    "linear_model._base.LinearRegression",
    "linear_model._bayes.BayesianRidge",
    "linear_model._coordinate_descent.ElasticNet",
    "linear_model._coordinate_descent.Lasso",
    "linear_model._glm.glm.PoissonRegressor",
    "linear_model._huber.HuberRegressor",
    "linear_model._logistic.LogisticRegression",
    "linear_model._logistic.LogisticRegressionCV",
    "linear_model._ridge.Ridge",
    "linear_model._ridge.RidgeClassifier",
    "naive_bayes.BernoulliNB",
    "naive_bayes.GaussianNB",
    "naive_bayes.MultinomialNB",
    "pipeline.FeatureUnion",
    "pipeline.Pipeline",
    "preprocessing._data.MaxAbsScaler",
    "preprocessing._data.MinMaxScaler",
    "preprocessing._data.Normalizer",
    "preprocessing._polynomial.PolynomialFeatures",
    "preprocessing._data.PowerTransformer",
    "preprocessing._data.RobustScaler",
    "preprocessing._data.StandardScaler",
    "svm._classes.LinearSVC",
    "svm._classes.LinearSVR",
)

SAFE_TYPES: frozenset[str] = frozenset(
    [f"builtins.{name}" for name in _BUILTINS]
    + [f"numpy.{name}" for name in _NUMPY]
    + [f"sklearn.{name}" for name in _SKLEARN]
)

SAFE_LOADERS: frozenset[str] = frozenset(
    [
        "DTypeNode",
        "DictNode",
        "JsonNode",
        "ListNode",
        "NdArrayNode",
        "ObjectNode",
        "SetNode",
        "SliceNode",
        "SparseMatrixNode",
        "TupleNode",
        "TypeNode",
    ]
)
"""skops loaders that build from data. Those that call functions, methods or constructors are not here."""
