"""What happened in a study, and who was paid: from the events of ``Studies`` and the stakes it touched."""

from collections.abc import Sequence
from typing import Any, Final

from koinon.gateway.facts import (
    ROWS_OF_A_PAGE,
    Absent,
    Facts,
    credit_flows,
    credited,
    grouped,
    moment,
    named,
    reason,
    total,
)
from koinon.gateway.journal import Entry, about, keys, last_of
from koinon.gateway.origins import of_view, sentence
from koinon.gateway.views.parts import Event, Flow, Measure, Quantity, Sentence, Tone
from koinon.gateway.views.studies import Attempt, Member, Owner, StudiesPage, StudyPage, StudyRow, Term
from koinon.gateway.writing import shorten
from koinon.kernel.ids import ZERO_ADDRESS, to_hex

PHASES: Final = ("unknown", "proposed", "locked", "drawing", "running", "completed", "ended")
TONES: Final[dict[str, Tone]] = {"completed": "final", "ended": "failed"}
COMMITTEE: Final = 4


def phase_of(entries: Sequence[Entry]) -> str:
    """Phase by the last event that changed it, as ``Studies`` defines them."""
    changes = {
        "Proposed": "proposed",
        "LockedIn": "locked",
        "Seeded": "drawing",
        "AttemptFailed": "drawing",
        "Drawn": "running",
        "Completed": "completed",
        "Ended": "ended",
    }
    phase = "unknown"
    for entry in entries:
        phase = changes.get(entry.event, phase) if entry.contract == "Studies" else phase
    return phase


def study_rows(facts: Facts, count: int) -> tuple[StudyRow, ...]:
    """The newest studies first."""
    rows = []
    for number in sorted(keys(facts.journal, "study"), reverse=True)[:count]:
        entries = about(facts.journal, "study", number)
        proposed = named(entries, "Proposed")
        if not proposed:
            continue  # its beginning fell out of the journal
        phase = phase_of(entries)
        rows.append(
            StudyRow(
                number=number,
                phase=phase,
                tone=TONES.get(phase, "pending"),
                publisher=facts.party(proposed[0].values["publisher"]),
                owners=len({entry.values["owner"] for entry in named(entries, "Consented")}),
                attempts=len(named(entries, "Drawn")),
                proposed_at=proposed[0].at,
            )
        )
    return tuple(rows)


def studies_page(facts: Facts) -> StudiesPage:
    """``/studies``."""
    rows = study_rows(facts, ROWS_OF_A_PAGE)
    running = sum(row.phase not in TONES for row in rows)
    completed = sum(row.phase == "completed" for row in rows)
    answer = sentence(
        "Studies: {count}. Completed: {completed}; under way: {running}; ended without a result: {ended}.",
        count=len(rows),
        completed=completed,
        running=running,
        ended=len(rows) - running - completed,
    )
    return StudiesPage(
        head=facts.head, answer=answer if rows else sentence("Nothing has been computed together yet."), studies=rows
    )


async def study_page(facts: Facts, number: int) -> StudyPage:
    """``/studies/{number}``. Raises Absent where the chain has no such study."""
    entries = about(facts.journal, "study", number)
    proposed = named(entries, "Proposed")
    if not proposed:
        raise Absent(f"There is no study {number} on this chain.")
    terms = await facts.reader.view("Studies", "termsOf", number, since=None)
    study = await facts.reader.view("Studies", "studyOf", number, since=last_of(facts.journal, "study", number))
    phase = phase_of(entries)
    completed = named(entries, "Completed")
    return StudyPage(
        head=facts.head,
        number=number,
        phase=phase,
        tone=TONES.get(phase, "pending"),
        answer=_answer(facts, phase, entries, terms, study),
        publisher=facts.party(study["publisher"]),
        result_party=facts.party(terms["resultParty"]),
        terms=_terms(facts, number, terms),
        owners=_owners(facts, entries, terms),
        attempts=_attempts(facts, entries),
        events=_events(facts, entries),
        flows=_flows(facts, entries),
        checks=_checks(facts, number, entries, study),
        output_digest=completed[0].values["outputDigest"] if completed else None,
        models=_names_from(facts, number),
    )


def _answer(facts: Facts, phase: str, entries: Sequence[Entry], terms: Any, study: Any) -> Sentence:
    consents, everybody = len(named(entries, "Consented")), len(terms["owners"])
    match phase:
        case "proposed":
            return sentence(
                "{given} of {all} owners have consented; the others may until {deadline}.",
                given=consents,
                all=everybody,
                deadline=moment(terms["consentDeadline"]),
            )
        case "locked":
            return sentence(
                "Every owner has consented; {given} of {all} parties have opened their nonces.",
                given=len(named(entries, "Revealed")),
                all=everybody + 1,
            )
        case "drawing":
            return sentence("A committee can be drawn once block {height} exists.", height=study["drawHeight"])
        case "running":
            return sentence(
                "Committee {number} is at work; it has until {deadline}.",
                number=study["attempt"] + 1,
                deadline=moment(study["deadline"]),
            )
        case "completed":
            done = named(entries, "Completed")[0]
            return sentence(
                "Owners: {owners}; committees drawn: {attempts}. {signers} of 4 members signed the result at {time},"
                " and {amount} was paid out.",
                owners=everybody,
                attempts=len(named(entries, "Drawn")),
                signers=len(done.values["signers"]),
                time=moment(done.at),
                amount=facts.amount(total(credited(entries, "Studies"))),
            )
    ended = named(entries, "Ended")
    return sentence(
        "It ended without a result: {reason}. {amount} went to who is listed below.",
        reason=reason(ended[-1].values["reason"] if ended else "unknown"),
        amount=facts.amount(total(credited(entries, "Studies"))),
    )


def _terms(facts: Facts, number: int, terms: Any) -> tuple[Term, ...]:
    data = facts.reader.call_data("Studies", "termsOf", number)
    origin = of_view("Studies", "termsOf", facts.address("Studies"), data, facts.reader.public_rpc)

    def tokens(label: str, name: str) -> Term:
        return Term(label=label, quantity=Quantity(value=terms[name], unit="token", origin=origin))

    def seconds(label: str, name: str) -> Term:
        return Term(label=label, quantity=Quantity(value=terms[name], unit="seconds", origin=origin))

    return (
        Term(label="Hash of the study file", hash=terms["specHash"]),
        Term(label="Hash of the algorithm", hash=terms["algorithmHash"]),
        tokens("Fee of a committee member", "committeeFee"),
        tokens("Fee of an owner", "ownerFee"),
        tokens("Bond of each party", "bond"),
        Term(label="Consent until", moment=terms["consentDeadline"]),
        seconds("Time to open the nonces", "revealSeconds"),
        seconds("Time to compute", "runSeconds"),
        seconds("Time to answer a challenge", "challengeSeconds"),
        Term(label="Attempts at most", quantity=Quantity(value=terms["maximumAttempts"], unit="count", origin=origin)),
    )


def _owners(facts: Facts, entries: Sequence[Entry], terms: Any) -> tuple[Owner, ...]:
    consents = {entry.values["owner"]: entry for entry in named(entries, "Consented")}
    refusals = {entry.values["owner"] for entry in named(entries, "Refused")}
    opened = {entry.values["party"] for entry in named(entries, "Revealed")}
    ended = named(entries, "Ended")
    ending = "completed" if named(entries, "Completed") else ended[-1].values["reason"] if ended else ""
    rows = []
    for account in terms["owners"]:
        fees = [
            e
            for e in credited(entries, "Studies")
            if e.values["account"] == account and e.values["reason"] == "owner fee"
        ]
        state, tone = _owner_state(account, ending, consents, refusals, opened)
        consent = consents.get(account)
        rows.append(
            Owner(
                party=facts.party(account),
                state=state,
                tone=tone,
                dataset_hash=consent.values["datasetHash"] if consent else None,
                consented_at=consent.at if consent else None,
                revealed=account in opened,
                paid=facts.from_entries(total(fees), fees) if fees else None,
            )
        )
    return tuple(rows)


def _owner_state(
    account: str, ending: str, consents: dict[str, Entry], refusals: set[str], opened: set[str]
) -> tuple[str, Tone]:
    """``ending`` is ``completed``, the reason of an end without a result, or empty while the study goes on."""
    if account in refusals:
        return "refused", "failed"
    if account not in consents:
        if ending == "no consent":
            return "did not consent", "failed"
        return ("had not answered", "neutral") if ending else ("asked", "pending")
    if account in opened:
        return ("took part", "final") if ending == "completed" else ("opened its nonce", "final")
    return ("did not open its nonce", "failed") if ending == "no reveal" else ("consented", "neutral")


def _attempts(facts: Facts, entries: Sequence[Entry]) -> tuple[Attempt, ...]:
    attempts = []
    for drawn in named(entries, "Drawn"):
        number = drawn.values["attempt"]
        own = [entry for entry in entries if entry.values.get("attempt") == number and entry is not drawn]
        failed, done = named(own, "AttemptFailed"), named(own, "Completed")
        tone: Tone = "final" if done else "failed" if failed else "pending"
        state = sentence("completed" if done else "running")
        if failed:
            state = sentence("failed: {reason}", reason=reason(failed[0].values["reason"]))
        samples = about(facts.journal, "sampled", drawn.transaction)
        attempts.append(
            Attempt(
                number=number,
                seed=drawn.values["seed"],
                drawn_at=drawn.at,
                height=drawn.height,
                transaction=drawn.transaction,
                pool=len(samples[0].values["pool"]) if samples else 0,
                state=state,
                tone=tone,
                members=tuple(
                    _member(facts, place, account, entries, own)
                    for place, account in enumerate(drawn.values["committee"])
                ),
            )
        )
    return tuple(attempts)


def _member(facts: Facts, place: int, account: str, entries: Sequence[Entry], own: Sequence[Entry]) -> Member:
    done = named(own, "Completed")
    blamed = [
        e for e in named(own, "Complained") if account in (e.values["sender"], e.values["backup"], e.values["receiver"])
    ]
    declined = [e for e in named(own, "Declined") if e.values["member"] == account]
    silent = [e for e in named(own, "ChallengeExpired") if e.values["member"] == account]
    challenged = [e for e in named(own, "Challenged") if e.values["member"] == account]
    answered = [e for e in named(own, "Answered") if e.values["member"] == account]
    state: str
    tone: Tone
    if done:
        signed = account in done[0].values["signers"]
        state, tone = ("signed the result", "final") if signed else ("signature not needed", "neutral")
    elif silent:
        state, tone = "silent, lost stake", "failed"
    elif declined:
        state, tone = "could not run the study", "neutral"
    elif blamed:
        state, tone = "left unpaid after a complaint", "failed"
    elif named(own, "AttemptFailed"):
        state, tone = "released", "neutral"
    elif answered:
        state, tone = "answered a challenge", "pending"
    elif challenged:
        state, tone = "challenged", "pending"
    else:
        state, tone = "at work", "pending"
    fees = [
        e
        for e in credited(entries, "Studies")
        if e.values["account"] == account and e.values["reason"] == "committee fee"
    ]
    return Member(
        position=place,
        party=facts.party(account),
        state=state,
        tone=tone,
        paid=facts.from_entries(total(fees), fees) if done and fees else None,
        lost=facts.from_entries(total(silent, "slashed"), silent) if silent else None,
    )


def _events(facts: Facts, entries: Sequence[Entry]) -> tuple[Event, ...]:
    return tuple(event for entry in entries if (event := _event(facts, entry)) is not None)


def _event(facts: Facts, entry: Entry) -> Event | None:
    if entry.contract != "Studies" or entry.event == "Credited":
        return None
    values = entry.values
    actor: str | None = None
    tone: Tone = "neutral"
    match entry.event:
        case "Proposed":
            actor = values["publisher"]
            said = sentence(
                "proposed the study and paid {amount} into its escrow",
                amount=facts.amount(total(facts.paid_into("Studies", [entry.transaction]), "value")),
            )
        case "Consented":
            actor, said = values["owner"], sentence("consented with data {hash}", hash=shorten(values["datasetHash"]))
        case "Refused":
            actor, tone = values["owner"], "failed"
            said = sentence(
                "refused. The reason went to the publisher; its hash is {hash}", hash=shorten(values["reasonHash"])
            )
        case "LockedIn":
            said = sentence(
                "Every owner has consented: the study is locked. Block {height} will decide the draw.",
                height=values["drawHeight"],
            )
        case "DrawScheduled":
            tone = "pending"
            said = sentence("The next draw uses block {height}.", height=values["drawHeight"])
        case "EntropyCaptured":
            said = sentence(
                "Block {height} gave the randomness {hash}.", height=values["height"], hash=shorten(values["entropy"])
            )
        case "Revealed":
            actor, said = values["party"], sentence("opened its nonce")
        case "Seeded":
            said = sentence("Every nonce is open. Seed {hash}.", hash=shorten(values["seed"]))
        case "Drawn":
            said = sentence(
                "Committee {number} drawn: {members}.",
                number=values["attempt"] + 1,
                members=", ".join(map(facts.label, values["committee"])),
            )
        case "Complained":
            actor, tone = values["receiver"], "failed"
            sender, receiver = facts.label(values["sender"]), facts.label(values["receiver"])
            if values["backup"] == to_hex(ZERO_ADDRESS):
                said = sentence(
                    "met a wrong or missing message of {sender}. Both leave the study unpaid",
                    sender=sender,
                )
            else:
                said = sentence(
                    "met a wrong value. {sender}, {backup} and {receiver} leave the study unpaid",
                    sender=sender,
                    backup=facts.label(values["backup"]),
                    receiver=receiver,
                )
        case "Declined":
            actor, said = values["member"], sentence("cannot run this study and leaves its seat to another")
        case "Challenged":
            actor, tone = values["challenger"], "pending"
            said = sentence(
                "asked {member} for a sign of life until {deadline}",
                member=facts.label(values["member"]),
                deadline=moment(values["deadline"]),
            )
        case "Answered":
            actor, said = values["member"], sentence("answered the challenge")
        case "ChallengeExpired":
            tone = "failed"
            said = sentence(
                "{member} stayed silent past the deadline and lost {amount} of its stake.",
                member=facts.label(values["member"]),
                amount=facts.amount(values["slashed"]),
            )
        case "Contradicted":
            tone = "failed"
            said = sentence(
                "{member} signed two different results and lost {amount} of its stake.",
                member=facts.label(values["member"]),
                amount=facts.amount(values["slashed"]),
            )
        case "AttemptFailed":
            tone = "failed"
            said = sentence(
                "Attempt {number} gave no result: {reason}.",
                number=values["attempt"] + 1,
                reason=reason(values["reason"]),
            )
        case "Completed":
            tone = "final"
            said = sentence(
                "{count} of 4 members signed the result {hash}; everybody was paid.",
                count=len(values["signers"]),
                hash=shorten(values["outputDigest"]),
            )
        case "Ended":
            tone = "failed"
            said = sentence("The study ended without a result: {reason}.", reason=reason(values["reason"]))
        case _:
            said = sentence("Event {event}.", event=entry.event)
    return facts.event(entry, said, actor, tone)


def _deposits(facts: Facts, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return facts.paid_into("Studies", (entry.transaction for entry in named(entries, "Proposed", "Consented")))


def _flows(facts: Facts, entries: Sequence[Entry]) -> tuple[Flow, ...]:
    flows = [
        Flow(
            payer=facts.label(payer),
            payee="escrow of the study",
            reason="fees and bond" if len(group) == 1 and position == 0 else "bond",
            amount=facts.from_entries(total(group, "value"), group),
        )
        for position, ((payer,), group) in enumerate(grouped(_deposits(facts, entries), "from").items())
    ]
    slashed = named(entries, "Slashed")
    flows += [
        Flow(
            payer=facts.label(account),
            payee="lost stake",
            reason="unanswered challenge",
            amount=facts.from_entries(total(group), group),
        )
        for (account,), group in grouped(slashed, "account").items()
    ]
    flows += credit_flows(facts, credited(entries, "Studies"), "escrow of the study", 1)
    flows += credit_flows(facts, credited(entries, "Providers"), "lost stake", 1)
    return tuple(flows)


def _checks(facts: Facts, number: int, entries: Sequence[Entry], study: Any) -> tuple[Measure, ...]:
    deposits, paid_out = _deposits(facts, entries), credited(entries, "Studies")
    checks = [
        Measure(
            statement=sentence(
                "Tokens paid into the escrow = credited from it ({credited}) + still held ({held})",
                credited=facts.amount(total(paid_out)),
                held=facts.amount(study["held"]),
            ),
            left=facts.from_entries(total(deposits, "value"), deposits),
            right=facts.from_view(total(paid_out) + study["held"], "Studies", "studyOf", number),
        )
    ]
    slashed, shared = named(entries, "Slashed"), credited(entries, "Providers")
    if slashed:
        checks.append(
            Measure(
                statement=sentence("Taken from stakes = credited to the parties"),
                left=facts.from_entries(total(slashed), slashed),
                right=facts.from_entries(total(shared), shared),
            )
        )
    return tuple(checks)


def _names_from(facts: Facts, number: int) -> tuple[str, ...]:
    made = {
        entry.values["assetId"]
        for asset in keys(facts.journal, "asset")
        for entry in named(about(facts.journal, "asset", asset), "Minted")
        if entry.values["studyId"] == number
    }
    names = []
    for name in keys(facts.journal, "name"):
        resolutions = named(about(facts.journal, "name", name), "ResolutionSet")
        if resolutions and resolutions[-1].values["modelId"] in made:
            names.append(name)
    return tuple(names)
