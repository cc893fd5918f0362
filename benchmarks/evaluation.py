"""Cost of models and trust: the demonstration's split, a sandboxed call, variants, one evaluation, three at once.

python benchmarks/evaluation.py [--json] [--seeds N]
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import uvloop
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from koinon.data.commitment import DatasetCommitment
from koinon.data.demonstration import HOSPITALS, DemoSplit, demo_split
from koinon.data.table import Table
from koinon.models.card import ModelCard
from koinon.models.onnx_export import LogisticParameters, edge_rows, export_logistic, weights_hash
from koinon.models.sandbox import SandboxedModel
from koinon.models.variants import choose_variant
from koinon.trust.evaluation import Task
from koinon.trust.evidence import EvaluationSettings
from koinon.trust.run import EvaluationRun
from koinon.trust.vector import KINDS, SCALE, grade, grade_families

CALLS = 2000


def fit(tables: tuple[Table, ...]) -> LogisticParameters:
    """scikit-learn's logistic regression on columns scaled by their public ranges to [-1, 1]."""
    low = np.array([column.low for column in tables[0].schema.columns])
    high = np.array([column.high for column in tables[0].schema.columns])
    features = np.concatenate([table.features for table in tables])
    target = np.concatenate([table.target for table in tables])
    model = LogisticRegression(max_iter=2000).fit(2 * (features - low) / (high - low) - 1, target)
    return LogisticParameters(low, high, model.coef_[0], float(model.intercept_[0]))


def score(parameters: LogisticParameters, table: Table) -> dict[str, float]:
    found = parameters.probability(table.features)
    return {"auc": float(roc_auc_score(table.target, found)), "log_loss": float(log_loss(table.target, found))}


def measure_split(seeds: int) -> dict[str, object]:
    """Each hospital alone against all together, on the evaluators' rows: means, and the smallest gap over all seeds."""
    alone: dict[str, list[dict[str, float]]] = {name: [] for name in HOSPITALS}
    pooled = []
    for seed in range(seeds):
        split = demo_split(seed)
        pooled.append(score(fit(split.hospitals), split.evaluation))
        for name, table in zip(HOSPITALS, split.hospitals, strict=True):
            alone[name].append(score(fit((table,)), split.evaluation))

    def mean(values: list[dict[str, float]]) -> dict[str, float]:
        return {key: round(float(np.mean([value[key] for value in values])), 4) for key in ("auc", "log_loss")}

    gaps = [
        (p["auc"] - a["auc"], a["log_loss"] - p["log_loss"])
        for v in alone.values()
        for a, p in zip(v, pooled, strict=True)
    ]
    return {
        "seeds": seeds,
        "pooled": mean(pooled),
        "alone": {name: mean(values) for name, values in alone.items()},
        "smallest_auc_gap": round(min(gap for gap, _ in gaps), 4),
        "smallest_log_loss_gap": round(min(gap for _, gap in gaps), 4),
    }


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure_sandbox(onnx_bytes: bytes, rows: np.ndarray) -> dict[str, object]:
    """Start of a model's child, and what one call costs on both sides."""
    started = time.perf_counter()
    async with SandboxedModel.open(onnx_bytes) as model:
        opened = time.perf_counter() - started
        child = psutil.Process(model._worker.pid)
        result: dict[str, object] = {
            "open_seconds": round(opened, 3),
            "open_cpu_seconds": round(cpu_of(child), 3),
            "rss_mb": round(child.memory_info().rss / 1e6),
        }
        for batch in (1, 32, 1024):
            matrix = np.ascontiguousarray(np.resize(rows, (batch, rows.shape[1])), np.float32)
            wall, parent, inside = time.perf_counter(), time.process_time(), cpu_of(child)
            for _ in range(CALLS):
                await model.predict(matrix)
            result[f"batch_{batch}"] = {
                "wall_microseconds": round((time.perf_counter() - wall) / CALLS * 1e6),
                "parent_cpu_microseconds": round((time.process_time() - parent) / CALLS * 1e6),
                "child_cpu_microseconds": round((cpu_of(child) - inside) / CALLS * 1e6),
                "session_microseconds": round(float(np.median(await model.time(matrix, 300))) * 1e6, 1),
            }
    return result


async def measure_variants(onnx_bytes: bytes, parameters: LogisticParameters) -> list[dict[str, object]]:
    rows = edge_rows(parameters, np.random.default_rng(0)).astype(np.float32)
    report = await choose_variant(onnx_bytes, rows)
    return [
        {
            "name": one.name,
            "chosen": one.name == report.chosen,
            "bytes": one.size,
            "difference": one.difference,
            "single_microseconds": round(one.single_seconds * 1e6, 1),
            "batch_microseconds": round(one.batch_seconds * 1e6, 1),
            "within_budget": one.within_budget,
            "remark": one.remark,
        }
        for one in report.measurements
    ]


async def measure_evaluation(onnx_bytes: bytes, task: Task, at_once: int) -> dict[str, object]:
    """Wall and processor seconds of ``at_once`` evaluations started together, with the default settings."""

    async def one(number: int) -> object:
        async with EvaluationRun.start(onnx_bytes, replace(task, seed=bytes([number]) * 32)) as run:
            return await run.result()

    before, parent, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time(), time.perf_counter()
    found = await asyncio.gather(*(one(number) for number in range(at_once)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    vector = found[0].vector  # type: ignore[attr-defined]
    return {
        "evaluators": at_once,
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "children_cpu_seconds_each": round(children / at_once, 2),
        "parent_cpu_seconds_each": round((time.process_time() - parent) / at_once, 2),
        "largest_child_rss_mb": round(after.ru_maxrss / 1e3),
        "grade": grade(vector),
        "families": grade_families(vector),
        "vector": {
            criterion.name: {
                "value": criterion.value / SCALE,
                "low": criterion.low / SCALE,
                "high": criterion.high / SCALE,
                "unit": KINDS[criterion.name].unit,
            }
            for criterion in vector.criteria
        },
    }


def task_of(split: DemoSplit, onnx_bytes: bytes) -> Task:
    card = ModelCard(
        "tumour-risk",
        "binary-classification",
        split.schema.columns,
        split.schema.target,
        500_000,
        0,
        (),
        (),
        bytes(32),
        "benchmark",
        "Apache-2.0",
    )
    root = DatasetCommitment.make(split.evaluation, bytes(32)).root
    return Task(card, weights_hash(onnx_bytes), split.evaluation, root, EvaluationSettings("mean_texture"), bytes(32))


async def measure(seeds: int) -> dict[str, object]:
    split = demo_split(7)
    parameters = fit(split.hospitals)
    onnx_bytes = export_logistic(parameters)
    task = task_of(split, onnx_bytes)
    return {
        "demonstration": measure_split(seeds),
        "sandbox": await measure_sandbox(onnx_bytes, split.evaluation.features),
        "variants": await measure_variants(onnx_bytes, parameters),
        "one_evaluation": await measure_evaluation(onnx_bytes, task, 1),
        "three_evaluations": await measure_evaluation(onnx_bytes, task, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of indented text")
    parser.add_argument("--seeds", type=int, default=10, help="how many cuts of the demonstration's rows to score")
    options = parser.parse_args()
    found = uvloop.run(measure(options.seeds))
    print(json.dumps(found, indent=None if options.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
