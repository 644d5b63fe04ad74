"""The ONNX operators that a model may be made of, each with its attributes.

Left out on purpose: operators with graphs or functions inside (`If`, `Loop`, `Scan`), random ones, those
that keep a vocabulary (`TfIdfVectorizer`, `OneHotEncoder`, `DictVectorizer`, `StringNormalizer`), and every domain
but the two of ONNX itself. Attributes are those of all versions of an operator (onnx/defs, 1.23), less those
that only training or a runtime's statistics need.
"""

from __future__ import annotations

from collections.abc import Mapping

ML = "ai.onnx.ml"

_OPERATORS: Mapping[str, str] = {
    "Abs": "",
    "Add": "axis broadcast",
    "And": "axis broadcast",
    "ArgMax": "axis keepdims select_last_index",
    "ArgMin": "axis keepdims select_last_index",
    "AveragePool": "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides",
    "BatchNormalization": "epsilon spatial",
    "Cast": "round_mode saturate to",
    "Ceil": "",
    "Clip": "max min",
    "Concat": "axis",
    "Constant": "value value_float value_floats value_int value_ints value_string value_strings",
    "ConstantOfShape": "value",
    "Conv": "auto_pad dilations group kernel_shape pads strides",
    "ConvInteger": "auto_pad dilations group kernel_shape pads strides",
    "ConvTranspose": "auto_pad dilations group kernel_shape output_padding output_shape pads strides",
    "DequantizeLinear": "axis block_size output_dtype",
    "Div": "axis broadcast",
    "Dropout": "ratio seed",
    "DynamicQuantizeLinear": "",
    "Elu": "alpha",
    "Equal": "axis broadcast",
    "Erf": "",
    "Exp": "",
    "Expand": "",
    "Flatten": "axis",
    "Floor": "",
    "GRU": (
        "activation_alpha activation_beta activations clip direction hidden_size layout "
        "linear_before_reset output_sequence"
    ),
    "Gather": "axis",
    "Gelu": "approximate",
    "Gemm": "alpha beta broadcast transA transB",
    "GlobalAveragePool": "",
    "GlobalMaxPool": "",
    "Greater": "axis broadcast",
    "GreaterOrEqual": "",
    "GroupNormalization": "epsilon num_groups stash_type",
    "HardSigmoid": "alpha beta",
    "HardSwish": "",
    "Identity": "",
    "InstanceNormalization": "epsilon",
    "IsNaN": "",
    "LSTM": (
        "activation_alpha activation_beta activations clip direction hidden_size input_forget layout output_sequence"
    ),
    "LayerNormalization": "axis epsilon stash_type",
    "LeakyRelu": "alpha",
    "Less": "axis broadcast",
    "LessOrEqual": "",
    "Log": "",
    "LogSoftmax": "axis",
    "MatMul": "",
    "MatMulInteger": "",
    "Max": "",
    "MaxPool": "auto_pad ceil_mode dilations kernel_shape pads storage_order strides",
    "Mean": "",
    "Min": "",
    "Mish": "",
    "Mul": "axis broadcast",
    "Neg": "",
    "Not": "",
    "Or": "axis broadcast",
    "PRelu": "",
    "Pad": "mode paddings pads value",
    "Pow": "axis broadcast",
    "QLinearConv": "auto_pad dilations group kernel_shape pads strides",
    "QLinearMatMul": "",
    "QuantizeLinear": "axis block_size output_dtype precision saturate",
    "RNN": "activation_alpha activation_beta activations clip direction hidden_size layout output_sequence",
    "Reciprocal": "",
    "ReduceL1": "axes keepdims noop_with_empty_axes",
    "ReduceL2": "axes keepdims noop_with_empty_axes",
    "ReduceLogSumExp": "axes keepdims noop_with_empty_axes",
    "ReduceMax": "axes keepdims noop_with_empty_axes",
    "ReduceMean": "axes keepdims noop_with_empty_axes",
    "ReduceMin": "axes keepdims noop_with_empty_axes",
    "ReduceProd": "axes keepdims noop_with_empty_axes",
    "ReduceSum": "axes keepdims noop_with_empty_axes",
    "ReduceSumSquare": "axes keepdims noop_with_empty_axes",
    "Relu": "",
    "Reshape": "allowzero shape",
    "Selu": "alpha gamma",
    "Shape": "end start",
    "Sigmoid": "",
    "Sign": "",
    "Slice": "axes ends starts",
    "Softmax": "axis",
    "Softplus": "",
    "Softsign": "",
    "Split": "axis num_outputs split",
    "Sqrt": "",
    "Squeeze": "axes",
    "Sub": "axis broadcast",
    "Sum": "",
    "Tanh": "",
    "Tile": "",
    "TopK": "axis k largest sorted",
    "Transpose": "perm",
    "Unsqueeze": "axes",
    "Where": "",
    "Xor": "axis broadcast",
    "ai.onnx.ml:ArrayFeatureExtractor": "",
    "ai.onnx.ml:Binarizer": "threshold",
    "ai.onnx.ml:Imputer": "imputed_value_floats imputed_value_int64s replaced_value_float replaced_value_int64",
    "ai.onnx.ml:LinearClassifier": (
        "classlabels_ints classlabels_strings coefficients intercepts multi_class post_transform"
    ),
    "ai.onnx.ml:LinearRegressor": "coefficients intercepts post_transform targets",
    "ai.onnx.ml:Normalizer": "norm",
    "ai.onnx.ml:Scaler": "offset scale",
    "ai.onnx.ml:SVMClassifier": (
        "classlabels_ints classlabels_strings coefficients kernel_params kernel_type post_transform "
        "prob_a prob_b rho support_vectors vectors_per_class"
    ),
    "ai.onnx.ml:SVMRegressor": (
        "coefficients kernel_params kernel_type n_supports one_class post_transform rho support_vectors"
    ),
    "ai.onnx.ml:TreeEnsembleClassifier": (
        "base_values base_values_as_tensor class_ids class_nodeids class_treeids class_weights "
        "class_weights_as_tensor classlabels_int64s classlabels_strings nodes_falsenodeids "
        "nodes_featureids nodes_missing_value_tracks_true nodes_modes nodes_nodeids nodes_treeids "
        "nodes_truenodeids nodes_values nodes_values_as_tensor post_transform"
    ),
    "ai.onnx.ml:TreeEnsembleRegressor": (
        "aggregate_function base_values base_values_as_tensor n_targets nodes_falsenodeids "
        "nodes_featureids nodes_missing_value_tracks_true nodes_modes nodes_nodeids nodes_treeids "
        "nodes_truenodeids nodes_values nodes_values_as_tensor post_transform target_ids target_nodeids "
        "target_treeids target_weights target_weights_as_tensor"
    ),
    "ai.onnx.ml:ZipMap": "classlabels_int64s classlabels_strings",
    "ai.onnx.ml:LabelEncoder": (
        "default_float default_int64 default_string keys_floats keys_int64s keys_strings values_floats "
        "values_int64s values_strings"
    ),
    "ai.onnx.ml:FeatureVectorizer": "inputdimensions",
}

ATTRIBUTES: Mapping[str, frozenset[str]] = {
    operator: frozenset(attributes.split()) for operator, attributes in _OPERATORS.items()
}
"""Operator, with `ai.onnx.ml:` before it where that is its domain → names of its attributes."""

MEMORY_OF_ROWS = frozenset({"support_vectors"})
"""Attributes that hold training rows by construction: a model with one of them that is not empty is not rewritten."""
