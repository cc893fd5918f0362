"""Columns filled in, scaled and encoded inside a study, beside scikit-learn's pipelines on the same pooled rows."""

from dataclasses import replace

import numpy as np
import pytest
from offer_scenes import FEATURES, ROWS, Scene, features, ill
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from test_privacy_predictors import opened_as, study_of

from koinon.journey.predictors import predictor_of
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_export import LogisticParameters, export_logistic
from koinon.models.onnx_preparation import PreparationParameters, check_equal_prepared, export_prepared
from koinon.models.runtime import open_session
from koinon.models.scan import scan
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.engines import ENGINES
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import PREPARATION, Layout, Parameters, decode_settings, settings_from
from koinon.privacy.programs.preparation import presented
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.valuation.shapley import WORTH
from koinon.wire.committee import Column

PEOPLE = sum(ROWS)
COLUMNS = (*FEATURES, Column("site", 0.0, 2.0), Column("age missing", 0.0, 1.0))
RANDOM = np.random.default_rng(12)
MISSING = RANDOM.random(PEOPLE) < 0.3
SITE = np.digitize(features()[:, 1], [-0.5, 0.5]).astype(np.float64)
RAW = np.column_stack([np.where(MISSING, np.nan, features()[:, 0]), features()[:, 1:], SITE])
SHARED = np.column_stack([np.where(MISSING, RANDOM.uniform(0, 100, PEOPLE), RAW[:, 0]), RAW[:, 1:], MISSING])
"""What owners share: any number where a cell is missing."""
ALL = {"missing": [["age", "age missing"]], "encode": ["site"]}


def scene(program: str, target: str, **settings: object) -> Scene:
    if target != "ill":
        return Scene(program, COLUMNS, SHARED, target, {**ALL, **settings}, dict)
    return Scene(
        program,
        (*COLUMNS, Column("ill", 0.0, 1.0)),
        np.column_stack([SHARED, ill()]),
        target,
        {**ALL, **settings},
        dict,
    )


def run_of(one: Scene, engine: Backend, *, by_columns: bool = False) -> tuple[Layout, dict[str, np.ndarray]]:
    offer = registry.offer(one.program)
    settings = settings_from(offer, one.settings)
    width = len(one.columns)
    if by_columns:
        sources = ((*range(5, width), 1, 2), (0, 3, 4))
        layout = Layout((PEOPLE, PEOPLE), one.columns, one.target, sources)
        parts = [PlainInput(tuple(one.columns[n] for n in own), one.rows[:, list(own)]) for own in sources]
    else:
        layout = Layout(ROWS, one.columns, one.target)
        parts = [PlainInput(one.columns, part) for part in np.split(one.rows, np.cumsum(ROWS)[:-1])]
    names = tuple(n for n in registry.outputs_of(offer, decode_settings(offer, settings)) if n != WORTH)
    program = registry.load(one.program, encode(Parameters(layout, settings, names)))
    return layout, dict(engine.run(program, parts, SeededRng(b"prepared")).outputs)


def model_answers(one: Scene, outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Of the exported model for the rows as owners hold them."""
    offer = registry.offer(one.program)
    names = tuple(n for n in registry.outputs_of(offer, decode_settings(offer, settings_from(offer, one.settings))))
    predictor = predictor_of(opened_as(outputs), study_of(one, tuple(n for n in names if n != WORTH)))
    scan(predictor.onnx)
    places = [n for n, column in enumerate(one.columns) if column.name != one.target]
    (found,) = open_session(predictor.onnx).run(None, {"features": one.rows[:, places].astype(np.float32)})
    return np.asarray(found, np.float64)


def pipeline(model: object, scaler: object, strategy: str = "mean", columns: tuple[int, ...] = (0, 1, 2)) -> object:
    """Filled in and scaled numbers, and a column for every site: scikit-learn's way."""
    numbers = make_pipeline(SimpleImputer(strategy=strategy), *([scaler] if scaler else []))
    return make_pipeline(
        make_column_transformer((numbers, list(columns)), (OneHotEncoder(categories=[[0, 1, 2]]), [3])), model
    )


@pytest.mark.parametrize("by_columns", [False, True], ids=["rows split", "columns split"])
@pytest.mark.parametrize("scale", ["standard", "range", ""])
def test_a_classifier_answers_raw_rows_as_the_pipeline_does(scale: str, by_columns: bool) -> None:
    one = scene("logistic-regression/1", "ill", scale=scale)
    _, outputs = run_of(one, ClearBackend(), by_columns=by_columns)
    # The program standardises what it is given, so the way there makes no difference but for what it was filled with.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-10, max_iter=1000))
    wanted = pipeline(model, {"standard": StandardScaler(), "range": MinMaxScaler()}.get(scale)).fit(RAW, ill())
    assert np.abs(model_answers(one, outputs) - wanted.predict_proba(RAW)[:, 1]).max() < 1e-2


@pytest.mark.parametrize("impute", ["mean", "median"])
def test_a_line_answers_raw_rows_as_the_pipeline_does(impute: str) -> None:
    one = scene("linear-regression/1", "dose", scale="standard", impute=impute, encode=[])
    _, outputs = run_of(one, ClearBackend())
    rows = np.column_stack([RAW[:, [0, 2]], SITE])
    numbers = make_pipeline(SimpleImputer(strategy=impute), StandardScaler())
    wanted = make_pipeline(numbers, LinearRegression()).fit(rows, RAW[:, 1]).predict(rows)
    assert np.abs(model_answers(one, outputs) - wanted).max() < 2e-2


def test_a_tree_answers_raw_rows_as_the_pipeline_does() -> None:
    one = scene("decision-tree/1", "ill", impute="median", depth=2, bins=64)
    _, outputs = run_of(one, ClearBackend())
    tree = DecisionTreeClassifier(max_depth=2, min_samples_leaf=5, random_state=0)
    wanted = pipeline(tree, None, "median").fit(RAW, ill()).predict_proba(RAW)[:, 1]
    assert np.abs(model_answers(one, outputs) - wanted).max() < 1e-3


@pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=["clear", "rep4"])
def test_clusters_are_those_of_standardised_rows(engine: Backend) -> None:
    one = scene("k-means/1", "", scale="standard", clusters=3, iterations=5, seed=1)
    layout, outputs = run_of(one, engine)
    offer = registry.offer(one.program)
    tables = {
        table.name: table
        for table in presented(offer, outputs, layout, decode_settings(offer, settings_from(offer, one.settings)))
    }
    filled = SimpleImputer().fit_transform(RAW[:, :3])
    ready = np.column_stack([StandardScaler().fit_transform(filled) / 8, 2 * np.eye(3)[SITE.astype(int)] - 1])
    start = ready[np.sort(np.random.default_rng(1).choice(PEOPLE, 3, replace=False))]
    found = KMeans(3, init=start, n_init=1, max_iter=5, tol=0).fit(ready).cluster_centers_
    # Shown in deviations, and as shares of a site.
    wanted = np.column_stack([8 * found[:, :3], (found[:, 3:] + 1) / 2])
    assert tables["centres"].columns == ("age", "dose", "size", "site = 0", "site = 1", "site = 2")
    assert np.abs(tables["centres"].values - wanted).max() < 2e-2
    how = tables[PREPARATION].values[:3]
    assert how[0, 0] == pytest.approx(np.nanmean(RAW[:, 0]), abs=1e-2)
    assert how[:, 1] == pytest.approx(filled.mean(0), abs=1e-2)
    assert how[:, 2] * filled.std(0) == pytest.approx(np.ones(3), abs=1e-2)


def test_a_perceptron_learns_of_prepared_columns_what_it_learns_of_plain_ones() -> None:
    """The same numbers, prepared before they are shared."""
    settings = {"hidden": 4, "epochs": 3, "batch": 17, "seed": 2}
    one = scene("perceptron/1", "ill", scale="range", **settings)
    _, outputs = run_of(one, ClearBackend())
    ready = pipeline("passthrough", MinMaxScaler()).fit_transform(RAW)
    columns = tuple(Column(f"x{n}", 0.0, 1.0) for n in range(6))
    plain = Scene(
        "perceptron/1", (*columns, Column("ill", 0.0, 1.0)), np.column_stack([ready, ill()]), "ill", settings, dict
    )
    _, wanted = run_of(plain, ClearBackend())
    assert wanted.keys() == outputs.keys() - {PREPARATION}
    for name, values in wanted.items():
        assert np.abs(outputs[name] - values).max() < 5e-3, name
    # The exported model is checked against the formula on its way.
    assert model_answers(one, outputs).shape == (PEOPLE,)


def test_a_model_held_back_holds_its_preparation_back() -> None:
    one = scene("decision-tree/1", "ill", depth=6, bins=48, minimum_group=1)
    offer, coins = registry.offer(one.program), np.random.default_rng(3).integers(0, 2, PEOPLE)
    rows = np.column_stack([one.rows[:, :-1], coins])
    layout = Layout(ROWS, one.columns, "ill", planted=8)
    names = registry.outputs_of(offer, decode_settings(offer, settings_from(offer, one.settings)))
    program = registry.load(one.program, encode(Parameters(layout, settings_from(offer, one.settings), names)))
    parts = [PlainInput(one.columns, part) for part in np.split(rows, np.cumsum(ROWS)[:-1])]
    found = dict(ClearBackend().run(program, parts, SeededRng(b"coins")).outputs)
    assert found.pop("released") == 0
    assert PREPARATION in found
    assert not any(values.any() for values in found.values())


def test_a_mask_may_hold_only_zeros_and_ones() -> None:
    one = scene("k-means/1", "", scale="range")
    rows = one.rows.copy()
    rows[3, 4] = 0.5
    with pytest.raises(InvalidInput, match="'age missing' may hold only 0 and 1"):
        run_of(replace(one, rows=rows), ClearBackend())


BAD: dict[str, tuple[dict[str, object], str]] = {
    "another scale": ({"scale": "log"}, "scaled by 'standard' or 'range'"),
    "another way to fill in": ({"impute": "zero"}, "filled in by 'mean' or 'median'"),
    "a column that is not there": ({"encode": ["ward"]}, "'ward' is none of the columns"),
    "the target": ({"encode": ["ill"]}, "'ill' is none of the columns"),
    "a mask of the target": ({"missing": [["ill", "age missing"]]}, "'ill' is none of the columns"),
    "a mask with another range": ({"missing": [["age", "dose"]]}, "its range must be from 0 to 1"),
    "a mask of itself": ({"missing": [["age missing", "age missing"]]}, "each once"),
    "one mask for two": ({"missing": [["age", "age missing"], ["dose", "age missing"]]}, "each once"),
    "encoded and filled in": ({"missing": [["site", "age missing"]]}, "each once"),
    "encoded twice": ({"encode": ["site", "site"]}, "each once"),
    "codes that are none": ({"encode": ["dose"]}, "must go from 0 to the last code"),
    "nothing of the program": ({}, "opens something of its program"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_prepared_is_refused(case: str) -> None:
    changes, sentence = BAD[case]
    one = scene("logistic-regression/1", "ill", **changes)
    given = settings_from(registry.offer(one.program), one.settings)
    outputs = ("coefficients",) if changes else (PREPARATION,)
    with pytest.raises(InvalidInput, match=sentence):
        registry.load(one.program, encode(Parameters(Layout(ROWS, one.columns, "ill"), given, outputs)))


def test_noise_other_engines_and_secret_people_go_without() -> None:
    one = scene("logistic-regression/1", "ill", scale="standard")
    given = settings_from(registry.offer(one.program), one.settings)
    outputs = ("coefficients", "intercept")
    layout = Layout(ROWS, one.columns, "ill")
    with pytest.raises(InvalidInput, match="prepares no columns with noise"):
        registry.load(one.program, encode(Parameters(layout, given, outputs, 1.0)))
    apart = Layout((PEOPLE, PEOPLE), one.columns, "ill", ((5, 1, 2), (0, 3)), pairs=10)
    with pytest.raises(InvalidInput):
        registry.load(one.program, encode(Parameters(apart, given, outputs)))
    torn = Layout((PEOPLE, PEOPLE), one.columns, "ill", ((5, 1, 2, 4), (0, 3)))
    with pytest.raises(InvalidInput, match="must come from the owner"):
        registry.load(one.program, encode(Parameters(torn, given, outputs)))
    bayes = scene("naive-bayes/1", "ill", scale="standard")
    opened = ("priors", "means", "variances")
    scaled = settings_from(registry.offer(bayes.program), bayes.settings)
    for name, told, open_ in ((one.program, given, outputs), (bayes.program, scaled, opened)):
        plain = [each for each in ENGINES if not each.refusal(name, Parameters(layout, b"", open_))]
        assert {"rep4", "federated"} <= {each.name for each in plain}
        for each in plain:
            refusal = each.refusal(name, Parameters(layout, told, open_))
            assert ("prepared among shares" in refusal) == (each.name != "rep4")


def test_without_what_was_fitted_there_is_no_model() -> None:
    one = scene("logistic-regression/1", "ill", scale="standard")
    _, outputs = run_of(one, ClearBackend())
    del outputs[PREPARATION]
    with pytest.raises(InvalidInput, match="needs the output 'preparation'"):
        predictor_of(opened_as(outputs), study_of(one, ("coefficients", "intercept")))


INNER = export_logistic(LogisticParameters(np.zeros(2), np.ones(2), np.array([1.0, -2.0]), 0.5))
READY = PreparationParameters(
    low=np.zeros(3),
    high=np.array([10.0, 1.0, 2.0]),
    sources=np.array([0, 2]),
    masks=np.array([1, -1]),
    fills=np.array([4.0, 0.0]),
    centres=np.array([1.0, 0.0]),
    factors=np.array([0.1, 1.0]),
    lowest=np.zeros(2),
    highest=np.ones(2),
    codes=np.array([-1, 2]),
)
BAD_READY = {
    "a source that is not sent": replace(READY, sources=np.array([0, 3])),
    "a negative source": replace(READY, sources=np.array([0, -1])),
    "a mask that is not sent": replace(READY, masks=np.array([3, -1])),
    "too few factors": replace(READY, factors=np.ones(1)),
    "a centre that is no number": replace(READY, centres=np.array([np.nan, 0.0])),
    "more columns than the model takes": PreparationParameters(
        READY.low,
        READY.high,
        *(np.resize(value, 3) for name, value in vars(READY).items() if name not in ("low", "high")),
    ),
}


@pytest.mark.parametrize("case", BAD_READY)
def test_what_prepares_nothing_is_not_exported(case: str) -> None:
    with pytest.raises(InvalidInput):
        export_prepared(INNER, BAD_READY[case])


def test_another_preparation_than_the_fitted_one_is_forged() -> None:
    whole = export_prepared(INNER, READY)
    assert check_equal_prepared(whole, INNER, READY) < 1e-6
    for changes in ({"fills": np.array([9.0, 0.0])}, {"factors": np.array([0.05, 1.0])}, {"codes": np.array([-1, 1])}):
        with pytest.raises(Forged, match="differs from the trained one"):
            check_equal_prepared(whole, INNER, replace(READY, **changes))
