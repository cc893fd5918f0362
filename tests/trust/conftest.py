"""The demonstration's model, rows and card, and a task small enough for many tests."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from trust_world import SALT

from koinon.data.commitment import DatasetCommitment
from koinon.data.demonstration import DemoSplit, demo_split
from koinon.models.card import ModelCard
from koinon.models.onnx_export import LogisticParameters, export_logistic, weights_hash
from koinon.trust.evaluation import Task
from koinon.trust.evidence import EvaluationSettings
from koinon.trust.queries import Predict


@pytest.fixture(scope="session")
def split() -> DemoSplit:
    return demo_split(7)


@pytest.fixture(scope="session")
def parameters(split: DemoSplit) -> LogisticParameters:
    low = np.array([column.low for column in split.schema.columns])
    high = np.array([column.high for column in split.schema.columns])
    features = np.concatenate([table.features for table in split.hospitals])
    target = np.concatenate([table.target for table in split.hospitals])
    model = LogisticRegression(max_iter=2000).fit(2 * (features - low) / (high - low) - 1, target)
    return LogisticParameters(low, high, model.coef_[0], float(model.intercept_[0]))


@pytest.fixture(scope="session")
def exported(parameters: LogisticParameters) -> bytes:
    return export_logistic(parameters)


@pytest.fixture(scope="session")
def card(split: DemoSplit) -> ModelCard:
    return ModelCard(
        "tumour-risk",
        "binary-classification",
        split.schema.columns,
        split.schema.target,
        500_000,
        1,
        (),
        (),
        bytes(32),
        "A second opinion for a physician.",
        "Apache-2.0",
    )


@pytest.fixture(scope="session")
def task(split: DemoSplit, card: ModelCard, exported: bytes) -> Task:
    """The demonstration's evaluation without its load test."""
    settings = EvaluationSettings("mean_texture", resamples=200, load_rates=())
    root = DatasetCommitment.make(split.evaluation, SALT).root
    return Task(card, weights_hash(exported), split.evaluation, root, settings, bytes(32))


@pytest.fixture
def predict(parameters: LogisticParameters) -> Predict:
    """The model as a function in this process."""

    async def answer(rows: np.ndarray) -> np.ndarray:
        return parameters.probability(rows.astype(np.float64)).astype(np.float32)

    return answer
