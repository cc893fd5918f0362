"""A study that breaks no rule, to start from."""

import pytest

from koinon.jobs.study import Party, StudyFile, Terms
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import BasisPoints, TokenAmount
from koinon.wire.committee import Column


def party(number: int) -> Party:
    return Party(f"party-{number}", NodeId(bytes([number]) * 32), Address(bytes([number]) * 20))


@pytest.fixture
def study() -> StudyFile:
    return StudyFile(
        version=1,
        title="Tumour risk",
        purpose="Tumour risk from cell nuclei, for clinical decision support",
        algorithm="logistic-regression/1",
        algorithm_hash=Hash32(b"a" * 32),
        columns=(Column("mean radius", 0.0, 40.0), Column("mean texture", 0.0, 60.0)),
        target="malignant",
        sensitive_column="mean radius",
        outputs=("coefficients", "intercept"),
        epsilon=0.0,
        minimum_rows=10,
        owners=(party(1), party(2), party(3)),
        publisher=party(4),
        owner_revenue=BasisPoints(2000),
        terms=Terms(TokenAmount(5), TokenAmount(7), TokenAmount(11), 60, 30, 90, 4, 3),
        chain_id=4242,
        studies_contract=Address(b"s" * 20),
    )
