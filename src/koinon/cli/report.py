"""The demonstration's report: what was measured, paid and checked, as JSON and as a page in the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from koinon.cli.console import console, print_table, shorten
from koinon.contracts.tokens import format_amount
from koinon.jobs.study import SignedStudy, open_study
from koinon.journey.results import Audited
from koinon.kernel.codec import decode
from koinon.kernel.ids import Address, to_hex

MILLION: Final = 1_000_000


@dataclass(frozen=True)
class ModelScore:
    """A model's AUC and log-loss on the evaluators' rows."""

    auc: float
    log_loss: float


@dataclass(frozen=True)
class Scores:
    """What each owner reaches alone, what the joint model reaches, and what pooling all rows would have reached."""

    alone: Mapping[str, ModelScore]
    joint: ModelScore
    pooled: ModelScore


def report_of(
    audited: Audited,
    scores: Scores,
    seconds: Mapping[str, float],
    names: Mapping[Address, str],
    disturbances: list[str],
    chain: str,
) -> dict[str, Any]:
    """The whole report as JSON values."""
    from koinon.privacy.valuation.shapley import WORTH

    paid = audited.paid
    served = paid.served
    validated = served.named.validated
    trained = validated.hardened.published.trained
    study = open_study(decode(SignedStudy, trained.study.signed))

    def who(account: Address) -> str:
        return names.get(account, "buyer" if account == paid.buyer else to_hex(account))

    return {
        "chain": chain,
        "steps": {name: round(value, 2) for name, value in seconds.items()},
        "seconds": round(sum(seconds.values()), 2),
        "scores": {
            "alone": {name: vars(score) for name, score in scores.alone.items()},
            "joint": vars(scores.joint),
            "pooled": vars(scores.pooled),
        },
        "study": {
            "number": trained.study.number,
            "engine": study.engine,
            "attempts": trained.attempt + 1,
            "committee": [who(account) for account in trained.committee],
            "training_rows": list(trained.training_rows),
            "output_digest": to_hex(trained.output_digest),
            "worth": {
                owner.name: value
                for one in trained.outputs
                if one.name == WORTH
                for owner, value in zip(study.owners, one.values, strict=True)
            },
            "incidents": [
                {
                    "attempt": incident.attempt + 1,
                    "kind": incident.kind,
                    "unpaid": [who(account) for account in incident.accounts],
                    "slashed": format_amount(incident.slashed),
                }
                for incident in trained.incidents
            ],
        },
        "disturbances": disturbances,
        "model": {
            "name": served.named.name,
            "asset": validated.hardened.model,
            "weights": to_hex(validated.hardened.weights_hash),
            "domain": validated.hardened.domain,
            "variants": [
                {
                    "name": one.name,
                    "largest_difference": one.largest_difference,
                    "microseconds": round(one.microseconds, 1),
                    "kept": one.kept,
                }
                for one in validated.hardened.variants
            ],
            "replicas": len(validated.hardened.published.replicas),
        },
        "trust_vector": {
            "evaluators": [who(account) for account in validated.evaluators],
            "grade": validated.grade,
            "criteria": {
                score.criterion: [score.value / MILLION, score.low / MILLION, score.high / MILLION]
                for score in validated.vector
            },
        },
        "endpoints": [{"url": one.url, "node": who(one.account)} for one in served.endpoints],
        "payments": {
            "calls": paid.calls,
            "spent": format_amount(paid.spent),
            "payees": [
                {"who": who(payee.account), "for": payee.reason, "amount": format_amount(payee.amount)}
                for payee in paid.payees
            ],
            "conserved": sum(payee.amount for payee in paid.payees) == paid.spent,
            "first_answer": round(paid.first_answer, 6),
        },
        "bundle": {"file": audited.bundle, "blake3": to_hex(audited.bundle_hash)},
        "verification": {
            check.identifier: check.detail if check.holds else f"FAILS: {check.detail}" for check in audited.checks
        },
        "verified": bool(audited.checks) and all(check.holds for check in audited.checks),
    }


def print_story(report: Mapping[str, Any]) -> None:
    """The parts of the report that people look for first."""
    console.print()
    console.print("On the evaluators' rows, which no hospital and no publisher has:", style="bold")
    scores = report["scores"]
    rows = [(f"{name} alone", score) for name, score in scores["alone"].items()]
    rows += [("joint, no row shown", scores["joint"]), ("pooled, all rows in one place", scores["pooled"])]
    print_table(
        ("model", "AUC", "log-loss"),
        [(name, f"{score['auc']:.4f}", f"{score['log_loss']:.4f}") for name, score in rows],
        right=(1, 2),
    )
    if worth := report["study"]["worth"]:
        console.print()
        console.print("What each hospital's rows are worth to the model, of which it is paid its part:", style="bold")
        print_table(("who", "Shapley value"), [(who, f"{value:.4f}") for who, value in worth.items()], right=(1,))
    vector = report["trust_vector"]
    console.print()
    console.print(f"Trust vector, grade {vector['grade']}, by {', '.join(vector['evaluators'])}:", style="bold")
    print_table(
        ("criterion", "median", "interval"),
        [(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}") for name, (value, low, high) in vector["criteria"].items()],
        right=(1,),
    )
    payments = report["payments"]
    console.print()
    console.print(f"A stranger made {payments['calls']} calls and spent {payments['spent']} tokens:", style="bold")
    print_table(
        ("who", "for", "tokens"), [(one["who"], one["for"], one["amount"]) for one in payments["payees"]], right=(2,)
    )
    for disturbance in report["disturbances"]:
        console.print(f"\nWent wrong on purpose: {disturbance}", style="bold")
    for incident in report["study"]["incidents"]:
        console.print(
            f"  attempt {incident['attempt']} stopped by {incident['kind']}:"
            f" unpaid {', '.join(incident['unpaid'])}; stake lost {incident['slashed']} tokens"
        )
    holds = [name for name, detail in report["verification"].items() if not str(detail).startswith("FAILS")]
    console.print()
    console.print(
        f"Evidence bundle {report['bundle']['file']} ({shorten(report['bundle']['blake3'])}):"
        f" {len(holds)} of {len(report['verification'])} checks hold, offline and with no key.",
        style="bold",
    )
