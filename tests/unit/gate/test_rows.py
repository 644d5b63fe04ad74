"""The scan for rows: what must be found, and what must raise no alarm."""

import json
import pickle
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from insitu.gate.contents import Contents
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.known.table import KnownTable
from insitu.gate.readers.any import read_any
from insitu.gate.rows import maps as row_maps
from insitu.gate.rows.candidates import Precision
from insitu.gate.rows.maps import fit_lines
from insitu.gate.rows.scan import RowScan
from insitu.gate.tree_shapes import leaf_tables
from tests.unit.gate.gate_world import joblib_bytes, npz, scan_bytes, skops_bytes, training, wdbc

TABLE = wdbc().to_numpy(dtype=np.float64)
FEATURES = TABLE[:, :30]
SCALED = (FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0)
FORMATS: dict[str, Callable[[object], bytes]] = {
    "skops": skops_bytes,
    "pickle protocol 0": lambda model: pickle.dumps(model, protocol=0),
    "pickle protocol 2": lambda model: pickle.dumps(model, protocol=2),
    "pickle protocol 5": lambda model: pickle.dumps(model, protocol=5),
    "cloudpickle": cloudpickle.dumps,
    "joblib": joblib_bytes,
    "joblib, zlib": lambda model: joblib_bytes(model, compress=3),
    "joblib, lzma": lambda model: joblib_bytes(model, compress=("lzma", 3)),
}
SCALERS = [None, StandardScaler(), MinMaxScaler(), RobustScaler()]


class Renamed(KNeighborsClassifier):
    """The same under another name: what matters is what it holds."""


def fitted(*steps: object) -> Any:
    features, labels = training()
    return make_pipeline(*(step for step in steps if step is not None)).fit(features, labels)


def some_rows(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(TABLE), count, replace=False)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("scaler", SCALERS, ids=str)
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
def test_neighbours_are_found_in_every_format_with_and_without_a_scaler(form, scaler, algorithm):
    found = scan_bytes(FORMATS[form](fitted(scaler, KNeighborsClassifier(algorithm=algorithm))), TABLE)
    assert found.count == 426
    assert found.affine == (scaler is not None)


def test_a_renamed_subclass_is_found_by_what_it_holds():
    assert scan_bytes(cloudpickle.dumps(fitted(StandardScaler(), Renamed())), TABLE).count == 426


def test_without_undoing_maps_scaled_rows_are_missed():
    data = skops_bytes(fitted(StandardScaler(), KNeighborsClassifier(algorithm="brute")))
    assert scan_bytes(data, TABLE, undo_maps=False).count == 0


def test_support_vectors_are_found():
    model = fitted(StandardScaler(), SVC())
    assert scan_bytes(pickle.dumps(model), TABLE).count == len(model[-1].support_vectors_)


@pytest.mark.parametrize("model", [GaussianProcessClassifier(), KernelDensity()], ids=str)
def test_other_models_that_keep_their_rows_are_found(model):
    assert scan_bytes(pickle.dumps(fitted(StandardScaler(), model)), TABLE).count == 426


ROWS_50 = SCALED[some_rows(50)]
LAYOUTS = {
    "50 rows": [ROWS_50],
    "10 rows": [SCALED[some_rows(10)]],
    "shuffled": [SCALED[some_rows(569)]],
    "single precision": [ROWS_50.astype("f4")],
    "half precision": [ROWS_50.astype("f2")],
    "half precision, all": [SCALED.astype("f2")],
    "big-endian": [ROWS_50.astype(">f8")],
    "column-major": [np.asfortranarray(ROWS_50)],
    "on its side": [np.asfortranarray(ROWS_50.T)],
    "one array per column": [SCALED[:, column].copy() for column in range(30)],
    "one array per row": [SCALED[row].copy() for row in range(60)],
    "two blocks of columns": [SCALED[:, :12].copy(), SCALED[:, 12:].copy()],
    "one long list": [SCALED.ravel()],
    "one long list by columns": [SCALED.ravel(order="F")],
    "a long list behind a header": [np.r_[[1.0, 2.0, 3.0], SCALED.ravel()]],
    "ten columns in another order": [ROWS_50[:, [3, 7, 20, 22, 1, 9, 11, 28, 15, 5]]],
    "ten columns of noise beside": [np.c_[np.random.default_rng(3).normal(size=(50, 10)), ROWS_50]],
    "a fifth of other rows between": [np.r_[ROWS_50, np.random.default_rng(3).normal(size=(12, 30))]],
    "rounded to three decimals": [np.round(SCALED, 3)],
    "rows of one class": [SCALED[TABLE[:, 30] == 0][:60]],
    "the first of a sorted table": [SCALED[np.argsort(FEATURES[:, 0])][:50]],
    "three axes": [SCALED[:568].reshape(8, 71, 30)],
    "complex": [SCALED[:, 0::2] + 1j * SCALED[:, 1::2]],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scaled_rows_are_found_in_every_layout(layout):
    arrays = LAYOUTS[layout]
    expected = {"one array per row": 60, "10 rows": 10, "rows of one class": 60, "three axes": 568}.get(
        layout, 50 if arrays[0].size < 4000 and len(arrays) == 1 else 569
    )
    assert scan_bytes(npz(*arrays), TABLE).count == expected


RAW = {
    "pickled lists": lambda: pickle.dumps({"kept": FEATURES.tolist()}),
    "pickled numpy scalars": lambda: pickle.dumps([value for row in FEATURES for value in row]),
    "pickled bytes": lambda: pickle.dumps({"kept": FEATURES.tobytes()}),
    "scaled, pickled bytes": lambda: pickle.dumps({"kept": SCALED.tobytes()}),
    "bytes behind a header": lambda: b"\x01\x02head\x00" + FEATURES.astype("f4").tobytes(),
    "half precision behind a header": lambda: b"\x01\x02head\x00" + FEATURES.astype(">f2").tobytes(),
    "bytes as whole numbers": lambda: npz(np.frombuffer(FEATURES.tobytes(), dtype="u1")),
    "half precision as whole numbers": lambda: npz(FEATURES.astype("f2").view("i2")),
    "scaled, bfloat16 as whole numbers": lambda: npz((SCALED.astype("f4").view("u4") >> 16).astype("u2")),
    "JSON rows": lambda: json.dumps({"rows": FEATURES.tolist()}).encode(),
    "JSON records": lambda: wdbc().to_json(orient="records").encode(),
    "JSON columns": lambda: json.dumps({str(c): FEATURES[:, c].tolist() for c in range(30)}).encode(),
    "CSV": lambda: wdbc().to_csv().encode(),
    "base64 in JSON": lambda: json.dumps({"model": b64encode(FEATURES.tobytes()).decode()}).encode(),
    "hex": lambda: FEATURES.tobytes().hex().encode(),
    "data frame": lambda: pickle.dumps(wdbc()),
    "structured array": lambda: npz(
        np.array([tuple(row) for row in SCALED], dtype=[(f"c{column}", "f8") for column in range(30)])
    ),
}


@pytest.mark.parametrize("form", RAW)
def test_rows_are_found_in_every_container(form):
    assert scan_bytes(RAW[form](), TABLE).count == 569


def test_a_sparse_matrix_is_laid_out_as_rows():
    import io

    from scipy import sparse

    thin = np.where(np.median(FEATURES, axis=0) < FEATURES, FEATURES, 0.0)
    for form in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix):
        out = io.BytesIO()
        sparse.save_npz(out, form(thin))
        assert scan_bytes(out.getvalue(), thin).count > 500


def test_a_few_exact_rows_among_other_numbers_are_found():
    rng = np.random.default_rng(5)
    stream = np.r_[rng.normal(size=1000), FEATURES[17], rng.normal(size=777), FEATURES[301], rng.normal(size=5)]
    found = scan_bytes(pickle.dumps(stream.tolist()), TABLE)
    assert found.rows.tolist() == [17, 301]
    assert scan_bytes(pickle.dumps(stream.tolist()), TABLE, read_streams=False).count == 0


def test_one_exact_row_is_found():
    assert scan_bytes(npz(FEATURES[7]), TABLE).rows.tolist() == [7]


def regression_with_a_data_value() -> LinearRegression:
    values = training()[0].to_numpy()
    model = LinearRegression().fit(values[:, 1:], values[:, 0])
    model.intercept_ = float(values[3, 4])
    return model


def tree_with_thresholds_at_data_values() -> DecisionTreeClassifier:
    features, labels = training()
    return DecisionTreeClassifier(min_samples_leaf=20).fit(np.round(features.to_numpy()), labels)


HONEST: dict[str, Callable[[], object]] = {
    "logistic regression": lambda: fitted(StandardScaler(), LogisticRegression(max_iter=1000)),
    "min-max scaler and logistic regression": lambda: fitted(MinMaxScaler(), LogisticRegression(max_iter=1000)),
    "robust scaler and logistic regression": lambda: fitted(RobustScaler(), LogisticRegression(max_iter=1000)),
    "linear regression with an intercept that is a data value": regression_with_a_data_value,
    "k-means of large groups": lambda: KMeans(3, random_state=0).fit(SCALED),
    "principal components": lambda: PCA(10).fit(training()[0].to_numpy()),
    "all principal components": lambda: PCA().fit(training()[0].to_numpy()),
    "naive Bayes": lambda: GaussianNB().fit(training()[0].to_numpy(), training()[1]),
    "tree with thresholds at data values": tree_with_thresholds_at_data_values,
    "thresholds that are data values": lambda: {"thresholds": sorted({float(value) for value in FEATURES[:40, 3]})},
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_models_raise_no_alarm(name):
    assert scan_bytes(pickle.dumps(HONEST[name]()), TABLE).count == 0


def test_small_whole_numbers_raise_no_alarm_against_a_table_of_small_whole_numbers():
    rng = np.random.default_rng(0)
    table = np.c_[
        rng.integers(18, 90, 2000), rng.integers(0, 2, 2000), rng.integers(90, 180, 2000), rng.integers(0, 5, 2000)
    ]
    for seed in range(5):
        other = np.random.default_rng(seed).integers(0, 60, (300, 4))
        assert scan_bytes(npz(other, np.arange(300)), table).count == 0


@pytest.mark.parametrize("count", [1500, 100])
def test_scaled_columns_of_few_distinct_values_are_undone_together(count):
    rng = np.random.default_rng(0)
    table = np.c_[
        rng.integers(18, 90, 2000),
        rng.integers(0, 2, 2000),
        rng.integers(90, 180, 2000),
        rng.integers(100, 400, 2000),
        rng.integers(0, 5, 2000),
        rng.integers(60, 110, 2000),
    ].astype(float)
    scaled = (table - table.mean(axis=0)) / table.std(axis=0)
    assert scan_bytes(npz(scaled[rng.choice(2000, count, replace=False)]), table).count >= 0.95 * count


def test_categories_are_found_only_when_rows_stand_in_them():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 3, (1000, 12)).astype(float)
    assert scan_bytes(npz(table[:700]), table).count == 700
    assert scan_bytes(npz(rng.integers(0, 3, (700, 12))), table).count == 0


def test_many_rows_of_few_values_are_compared_by_their_codes():
    """Where each value fits thousands of rows, single cells can't be followed."""
    rng = np.random.default_rng(0)
    table = rng.integers(0, 3, (6000, 16)).astype(float)
    table[:, 3] = rng.normal(size=6000) * 0
    different = len(np.unique(table[:5000], axis=0))  # equal rows are counted once
    assert scan_bytes(npz(table[:5000]), table, read_streams=False).count == different
    mixed = np.c_[table[:5000, :14], rng.normal(size=5000)]
    assert scan_bytes(npz(mixed), table, read_streams=False).count >= 4900


def test_columns_of_few_values_in_another_order_are_undone():
    rng = np.random.default_rng(0)
    spans = ((18, 90), (90, 180), (100, 400), (60, 110), (0, 2), (0, 5))
    table = np.stack([rng.integers(low, high, 2000) for low, high in spans], axis=1).astype(float)
    scaled = ((table - table.mean(axis=0)) / table.std(axis=0))[:, [3, 0, 5, 2, 1, 4]]
    assert scan_bytes(npz(scaled[:1500]), table).count >= 1400


def test_a_convolution_against_pictures_of_few_values_is_judged_in_time():
    """Each column may be each of the others: pairs are tried only where both have a map."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 17, (1797, 65)).astype(float)
    weights = [rng.integers(-127, 128, shape).astype("i1") for shape in ((32, 16, 3, 3), (100, 512), (10, 100))]
    effort = Effort(Limits(time_s=60), clock=time.process_time)
    contents = Contents(effort)
    read_any(npz(*weights), "file", contents)
    found = RowScan(KnownTable(pictures)).find(contents.numbers, effort)
    assert (found.count, found.complete) == (0, True)


def test_a_column_of_few_values_alone_tells_nothing():
    rng = np.random.default_rng(0)
    table = np.c_[rng.integers(0, 50, 2000), rng.integers(0, 40, 2000), rng.integers(0, 9, 2000)].astype(float)
    constant = np.c_[np.full(300, 7.0), rng.normal(size=(300, 2)), np.tile([1.0, 2.0], 150)]
    assert scan_bytes(npz(constant), table).count == 0
    lonely = np.c_[np.tile([0.5, 1.5, 2.5], 100), rng.normal(size=(300, 2))]
    assert scan_bytes(npz(lonely), table).count == 0
    assert scan_bytes(npz(np.c_[table[:300, 0] * 3 + 1, rng.normal(size=(300, 2))]), table).count == 0


def test_rows_with_missing_cells_are_found():
    table = TABLE.copy()
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    scaled = (table - np.nanmean(table, axis=0)) / np.nanstd(table, axis=0)
    assert scan_bytes(npz(scaled[:400, :30]), table).count >= 395


def test_a_large_table_is_found_under_a_map():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5000, 20)) @ rng.normal(size=(20, 20))
    scaled = (table - table.mean(axis=0)) / table.std(axis=0)
    assert scan_bytes(npz(scaled[rng.choice(5000, 3000, replace=False)]), table).count == 3000


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    return (values.astype("f4").view("u4") & 0xFFFF0000).view("f4")  # bits cut off


@pytest.mark.parametrize("form", [lambda values: values.astype("f2"), as_bfloat16], ids=["half precision", "bfloat16"])
@pytest.mark.parametrize("count", [5000, 500])
def test_a_large_table_is_found_under_a_map_in_few_bits(form, count):
    rng = np.random.default_rng(0)
    table = np.exp(rng.normal(size=(5000, 12)) @ rng.normal(size=(12, 12)) / 5)
    scaled = (table - table.mean(axis=0)) / table.std(axis=0) * rng.choice([-1, 1], 12)
    assert scan_bytes(npz(form(scaled[rng.choice(5000, count, replace=False)])), table).count >= 0.9 * count
    assert scan_bytes(npz(form(rng.normal(size=(count, 12)))), table).count == 0


def test_a_large_table_is_found_among_as_many_other_rows():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5000, 12)) @ rng.normal(size=(12, 12))
    scaled = (table - table.mean(axis=0)) / table.std(axis=0)
    diluted = np.r_[scaled[:2500], rng.normal(size=(2500, 12))]
    assert scan_bytes(npz(diluted[rng.permutation(5000)]), table).count >= 2300


def test_a_search_that_ended_early_says_so_and_an_honest_model_does_not_end_it(monkeypatch):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5000, 20)) @ rng.normal(size=(20, 20))
    weights = npz(rng.normal(size=(64, 20)).astype("f4"), rng.normal(size=64), rng.normal(size=(1000, 40)))
    assert scan_bytes(weights, table).complete
    monkeypatch.setattr(row_maps, "_ALL_BUDGET", 1000)
    assert not scan_bytes(weights, table).complete


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(12, 200),
    single=st.booleans(),
    decimals=st.sampled_from([None, 2, 4]),
)
def test_any_affine_map_per_column_leaves_rows_recognisable(seed, count, single, decimals):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(300, 6)) * rng.uniform(0.1, 100, 6)
    if decimals is not None:
        table = np.round(table, decimals)
    scale = rng.choice([-1, 1], 6) * 10 ** rng.uniform(-3, 3, 6)
    rows = table[rng.choice(300, count, replace=False)] * scale + scale * rng.normal(size=6) * 5
    data = npz(rows.astype("f4") if single else rows)
    assert scan_bytes(data, table).count >= 0.9 * count


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 150), columns=st.integers(2, 12))
def test_random_numbers_are_no_rows(seed, rows, columns):
    rng = np.random.default_rng(seed)
    table = np.round(rng.normal(size=(300, 6)) * 10, 2)
    assert scan_bytes(npz(rng.normal(size=(rows, columns))), table).count == 0


def test_the_scan_ends_with_its_time_and_never_passes():
    ticks = iter(range(10_000))
    effort = Effort(Limits(time_s=20), clock=lambda: next(ticks))
    contents = Contents(Effort())
    read_any(npz(*[np.random.default_rng(i).normal(size=(50, 30)) for i in range(20)]), "file", contents)
    with pytest.raises(OutOfEffortError, match="20 s"):
        RowScan(KnownTable(TABLE)).find(contents.numbers, effort)


def test_the_scan_gives_the_same_answer_each_time():
    data = npz(SCALED[some_rows(80)].astype("f2"))
    assert scan_bytes(data, TABLE).rows.tolist() == scan_bytes(data, TABLE).rows.tolist()


def test_a_dataset_without_numbers_has_no_rows_to_find():
    assert scan_bytes(npz(SCALED), np.empty((10, 0))).count == 0
    assert scan_bytes(npz(SCALED), np.empty((0, 3))).count == 0


def test_the_place_with_most_rows_is_named_first():
    found = scan_bytes(npz(FEATURES[:3], FEATURES[:200]), TABLE)
    assert found.count == 200
    assert found.places[0] == "file: member 2: float64[200,30]"


def test_lines_are_fitted_to_many_columns_at_once_and_only_where_nearly_all_lies_on_them():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 4))
    y = x * [2.0, -3.0, 1.0, 5.0] + [1.0, 0.0, 7.0, 2.0]
    y[:5, 1] += 10  # an eighth is something else
    y[:, 2] += random.normal(size=40)
    x[3:, 3], y[3:, 3] = np.nan, 0.0  # three pairs are left
    x[2, 3], y[2, 3] = x[1, 3], y[1, 3]  # two of them one and the same
    found = fit_lines(x, y, [Precision(1e-12, 0.0, 1e-10)] * 4)
    assert [line if line is None else (round(line[0], 6), round(line[1], 6)) for line in found] == [
        (2.0, 1.0),
        (-3.0, 0.0),
        None,
        None,
    ]


MEASURED = np.stack(
    [
        np.round(np.random.default_rng(number).normal(middle, spread, 5000), decimals)
        for number, (middle, spread, decimals) in enumerate(
            [(170, 9, 1), (76, 13, 1), (5.8, 1.4, 2), (87, 23, 1), (130, 17, 0)]
        )
    ],
    axis=1,
)


@pytest.mark.parametrize("count", [20, 60])
@pytest.mark.parametrize("columns", [(0, 1, 2, 3, 4), (3, 0, 4, 2)])
def test_two_dozen_scaled_rows_of_a_table_of_decimals_are_found(count, columns):
    random = np.random.default_rng(count)
    rows = MEASURED[random.permutation(5000)[:count]][:, columns]
    scaled = (rows - rows.mean(axis=0)) * random.choice([-1, 1], len(columns)) / rows.std(axis=0)
    assert scan_bytes(npz(scaled.astype("f4")), MEASURED).count >= 0.9 * count


def test_weights_and_whole_numbers_are_no_decimals_of_a_table():
    random = np.random.default_rng(0)
    assert not scan_bytes(npz(random.normal(size=(60, 5)).astype("f4")), MEASURED).count
    assert not scan_bytes(npz(random.integers(-127, 128, (60, 5)).astype("i1")), MEASURED).count
    assert not scan_bytes(npz(np.round(random.normal(size=(200, 5)), 2)), MEASURED).count


def test_a_tree_that_lies_about_its_counts_keeps_its_leaves_in_sight():
    rows = MEASURED[np.random.default_rng(2).permutation(5000)[:60]] * [0.5, -3, 0.2, 2, 7] + 11
    left = [2 * at + 1 if at < 59 else -1 for at in range(119)]
    values = [MEASURED.mean(axis=0).tolist()] * 59 + np.round(rows, 4).tolist()
    tree = {"left": left, "right": [at + 1 if at > 0 else at for at in left], "value": values}
    tables = list(leaf_tables({"trees": [tree]}))
    assert [len(table) for table in tables] == [60]
    assert scan_bytes(npz(np.array(tables[0])), MEASURED).count >= 50


@pytest.mark.parametrize("made", ["bfloat16", "float32", "whole", "zeros of both signs", "few"])
def test_distinct_values_are_those_of_numpy_however_they_are_found(made):
    drawn = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    brain = (drawn.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    values = {
        "bfloat16": brain,
        "float32": drawn,
        "whole": np.rint(drawn * 50),
        "zeros of both signs": np.where(drawn > 0, np.float32(-0.0), brain * (drawn < -1)),
        "few": brain[:100],
    }[made].astype(np.float64)
    assert np.array_equal(row_maps._distinct(values), np.unique(values))


def test_what_is_no_number_does_not_make_a_column_have_more_values_than_the_datasets():
    most = 40
    finite = np.arange(most - 1, dtype=np.float64)
    odd = np.array([np.nan, np.inf, -np.inf, 0.5])
    assert not row_maps._has_more_than(most, np.concatenate([odd, finite]))
    assert row_maps._has_more_than(most, np.concatenate([odd, finite, [100.5]]))
