"""The demonstration's hospitals: disjoint, reproducible, and each alone visibly worse than all together."""

from pathlib import Path

import numpy as np
import pytest

from koinon.data.demonstration import EVALUATORS, HOSPITALS, deal_rows, demo_split, write_demo
from koinon.data.table import Table, infer_schema, read_table
from koinon.kernel.errors import InvalidInput


def scores(train: Table, test: Table) -> tuple[float, float]:
    """AUC and log-loss of scikit-learn's logistic regression on columns scaled by their public ranges."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score

    low = np.array([column.low for column in train.schema.columns])
    high = np.array([column.high for column in train.schema.columns])
    model = LogisticRegression(C=1.0, max_iter=2000)
    model.fit(2 * (train.features - low) / (high - low) - 1, train.target)
    found = model.predict_proba(2 * (test.features - low) / (high - low) - 1)[:, 1]
    return float(roc_auc_score(test.target, found)), float(log_loss(test.target, found))


@pytest.mark.parametrize("seed", range(5))
def test_each_hospital_alone_is_worse_than_all_together(seed: int) -> None:
    split = demo_split(seed)
    pooled = Table(
        split.schema,
        np.concatenate([table.features for table in split.hospitals]),
        np.concatenate([table.target for table in split.hospitals]),
    )
    together_auc, together_loss = scores(pooled, split.evaluation)
    assert together_auc > 0.97
    for hospital in split.hospitals:
        auc, loss = scores(hospital, split.evaluation)
        assert auc < together_auc - 0.01
        assert loss > together_loss + 0.08


def test_no_row_belongs_to_two_and_every_row_to_one() -> None:
    split = demo_split(3)
    rows = np.concatenate([table.features for table in (*split.hospitals, split.evaluation)])
    assert len(np.unique(rows, axis=0)) == len(rows) == 569


def test_the_same_seed_writes_the_same_files_and_they_read_back(tmp_path: Path) -> None:
    first, second = (write_demo(tmp_path / name, seed=11) for name in ("a", "b"))
    assert tuple(first) == (*HOSPITALS, EVALUATORS)
    split = demo_split(11)
    for name, table in zip(first, (*split.hospitals, split.evaluation), strict=True):
        assert first[name].read_bytes() == second[name].read_bytes()
        again = read_table(first[name], split.schema)
        assert (again.features == table.features).all()
    assert infer_schema(first[EVALUATORS], "malignant").names == split.schema.names


def test_dealt_parts_are_disjoint_and_keep_the_classes() -> None:
    evaluation = demo_split(3).evaluation
    parts = deal_rows(evaluation, 3, seed=5)
    assert sum(part.rows for part in parts) == evaluation.rows
    together = np.concatenate([part.features for part in parts])
    assert len(np.unique(together, axis=0)) == evaluation.rows
    shares = [part.target.mean() for part in parts]
    assert max(shares) - min(shares) < 0.03
    with pytest.raises(InvalidInput, match="cannot be dealt"):
        deal_rows(evaluation, 500, seed=5)
