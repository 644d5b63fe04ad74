"""Lines that well-known libraries print in most training jobs, as texts that tell nothing but which one it is."""

from __future__ import annotations

from insitu.gate.channels.code_texts import bare_shape
from insitu.gate.channels.line_shapes import take_apart

INSTALLED = "site-packages/"
"""What stands before it in a path is the machine's, and no part of a text."""
_LINES = f"""
{INSTALLED}sklearn/linear_model/_logistic.py:465: ConvergenceWarning: lbfgs failed to converge (status=1):
{INSTALLED}sklearn/linear_model/_logistic.py:465: ConvergenceWarning: lbfgs failed to converge after 100 iteration(s) (status=1):
STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT.
STOP: TOTAL NO. of ITERATIONS REACHED LIMIT.
STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT
Increase the number of iterations (max_iter) or scale the data as shown in:
Increase the number of iterations to improve the convergence (max_iter=100).
You might also want to scale the data as shown in:
https://scikit-learn.org/stable/modules/preprocessing.html
Please also refer to the documentation for alternative solver options:
https://scikit-learn.org/stable/modules/linear_model.html#logistic-regression
n_iter_i = _check_optimize_result(
{INSTALLED}sklearn/linear_model/_sag.py:348: ConvergenceWarning: The max_iter was reached which means the coef_ did not converge
warnings.warn(
{INSTALLED}sklearn/neural_network/_multilayer_perceptron.py:690: ConvergenceWarning: Stochastic Optimizer: Maximum iterations (200) reached and the optimization hasn't converged yet.
{INSTALLED}sklearn/svm/_base.py:1249: ConvergenceWarning: Liblinear failed to converge, increase the number of iterations.
{INSTALLED}sklearn/linear_model/_coordinate_descent.py:695: ConvergenceWarning: Objective did not converge. You might want to increase the number of iterations, check the scale of the features or consider increasing regularisation. Duality gap: 1.234e+00, tolerance: 5.678e-01
model = cd_fast.enet_coordinate_descent(
{INSTALLED}sklearn/metrics/_classification.py:1565: UndefinedMetricWarning: Precision is ill-defined and being set to 0.0 in labels with no predicted samples. Use `zero_division` parameter to control this behavior.
{INSTALLED}sklearn/metrics/_classification.py:1565: UndefinedMetricWarning: Precision is ill-defined and being set to 0.0 due to no predicted samples. Use `zero_division` parameter to control this behavior.
{INSTALLED}sklearn/metrics/_classification.py:1565: UndefinedMetricWarning: Recall is ill-defined and being set to 0.0 in labels with no true samples. Use `zero_division` parameter to control this behavior.
{INSTALLED}sklearn/metrics/_classification.py:1565: UndefinedMetricWarning: F-score is ill-defined and being set to 0.0 in labels with no true nor predicted samples. Use `zero_division` parameter to control this behavior.
_warn_prf(average, modifier, f"{{metric.capitalize()}} is", len(result))
_warn_prf(average, modifier, f"{{metric.capitalize()}} is", result.shape[0])
{INSTALLED}sklearn/utils/validation.py:2739: UserWarning: X does not have valid feature names, but LogisticRegression was fitted with feature names
{INSTALLED}sklearn/base.py:465: UserWarning: X does not have valid feature names, but StandardScaler was fitted with feature names
{INSTALLED}sklearn/utils/deprecation.py:151: FutureWarning: 'force_all_finite' was renamed to 'ensure_all_finite' in 1.6 and will be removed in 1.8.
{INSTALLED}sklearn/model_selection/_split.py:805: UserWarning: The least populated class in y has only 3 members, which is less than n_splits=5.
{INSTALLED}torch/optim/lr_scheduler.py:182: UserWarning: Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and later, you should call them in the opposite order: `optimizer.step()` before `lr_scheduler.step()`.  Failure to do this will result in PyTorch skipping the first value of the learning rate schedule. See more details at https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`. "
{INSTALLED}torch/optim/lr_scheduler.py:62: UserWarning: The verbose parameter is deprecated. Please use get_last_lr() to access the learning rate.
{INSTALLED}torch/utils/data/dataloader.py:557: UserWarning: This DataLoader will create 8 worker processes in total. Our suggested max number of worker in current system is 2, which is smaller than what this DataLoader is going to create. Please be aware that excessive worker creation might get DataLoader running slow or even freeze, lower the worker number to avoid potential slowness/freeze if necessary.
{INSTALLED}torch/utils/data/dataloader.py:665: UserWarning: 'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used.
{INSTALLED}torch/nn/modules/loss.py:535: UserWarning: Using a target size (torch.Size([64])) that is different to the input size (torch.Size([64, 1])). This will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.
return F.mse_loss(input, target, reduction=self.reduction)
{INSTALLED}torch/cuda/__init__.py:141: UserWarning: CUDA initialization: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from http://www.nvidia.com/Download/index.aspx (Triggered internally at ../c10/cuda/CUDAFunctions.cpp:108.)
return torch._C._cuda_getDeviceCount() > 0
precision    recall  f1-score   support
accuracy                           0.98       143
macro avg       0.98      0.98      0.98       143
weighted avg       0.98      0.98      0.98       143
0       0.98      0.96      0.97        53
2026/11/24 12:00:00 WARNING mlflow.models.model: `artifact_path` is deprecated. Please use `name` instead.
2026/11/24 12:00:00 WARNING mlflow.models.model: Model logged without a signature and input example. Please set `input_example` parameter when logging the model to auto infer the model signature.
2026/11/24 12:00:00 WARNING mlflow.utils.autologging_utils: MLflow autologging encountered a warning:
2026/11/24 12:00:00 INFO mlflow.tracking.fluent: Autologging successfully enabled for sklearn.
2026/11/24 12:00:00 INFO mlflow.sklearn.utils: Logging the 5 best runs, 3 runs will be omitted.
Downloading artifacts: 100%|██████████| 7/7 [00:00<00:00, 123.45it/s]
100%|██████████| 300/300 [00:12<00:00, 24.10it/s]
Epoch 1/10
[I 2026-11-24 12:00:00,123] A new study created in memory with name: no-name-0
[LightGBM] [Info] Number of positive: 100, number of negative: 200
[LightGBM] [Info] Total Bins 1234
[LightGBM] [Info] Start training from score 0.123456
[LightGBM] [Warning] No further splits with positive gain, best gain: -inf
[0]	validation_0-logloss:0.69315	validation_1-logloss:0.69315
"""

LIBRARY_TEXTS = frozenset(bare_shape(take_apart(line).shape) for line in _LINES.strip().splitlines())
