"""A small trained-looking model, and ways to write ONNX files that no honest exporter would."""

import numpy as np
import pytest

from koinon.models.onnx_export import LogisticParameters, export_logistic


@pytest.fixture(scope="session")
def parameters() -> LogisticParameters:
    rng = np.random.default_rng(5)
    low = rng.uniform(-100, 100, 6)
    return LogisticParameters(low, low + rng.uniform(0.01, 2000, 6), 3 * rng.standard_normal(6), 0.25)


@pytest.fixture(scope="session")
def exported(parameters: LogisticParameters) -> bytes:
    return export_logistic(parameters)


@pytest.fixture(scope="session")
def rows(parameters: LogisticParameters) -> np.ndarray:
    """float32 (64, 6), inside the public ranges."""
    return np.random.default_rng(6).uniform(parameters.low, parameters.high, (64, 6)).astype(np.float32)
