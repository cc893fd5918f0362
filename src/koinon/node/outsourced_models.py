"""A study's linear model in the form that is evaluated on encrypted rows."""

from typing import TYPE_CHECKING, Final

from koinon.jobs.study import StudyFile
from koinon.journey.predictors import arrays_of, features_of
from koinon.journey.results import Trained
from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from koinon.privacy.encrypted.models import EncryptedModel

LOGISTIC: Final = "logistic-regression/1"


def encrypted_model(trained: Trained, study: StudyFile) -> "EncryptedModel":
    """The model of a logistic regression, for rows in the units of the study's columns.

    Raises:
        InvalidInput: the study trained something else, or did not open all its coefficients.
    """
    import numpy as np

    from koinon.privacy.encrypted.models import EncryptedModel, Link, layer, standardised

    if study.algorithm != LOGISTIC:
        raise InvalidInput(f"strangers answer on ciphertexts for {LOGISTIC} only; this study is {study.algorithm}")
    outputs, columns = arrays_of(trained), features_of(study)
    if not {"coefficients", "intercept"} <= set(outputs) or outputs["coefficients"].shape != (len(columns),):
        raise InvalidInput("the study did not open all coefficients and the intercept; its model cannot be given away")
    low, high = (np.array([getattr(column, end) for column in columns], np.float64) for end in ("low", "high"))
    scaled = EncryptedModel((layer(outputs["coefficients"], outputs["intercept"]),), Link.SIGMOID)
    return standardised(scaled, (low + high) / 2, (high - low) / 2)
