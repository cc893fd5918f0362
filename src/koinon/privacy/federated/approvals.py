"""Who vouches for the model of a round before an owner answers in it.

An aggregator that chose the model at which owners add up could read single rows, although it sees sums only. So the
first model is the plan's, and every later one needs the signatures of two of the three members that repeat the rounds
(``witness``): each signs the session of the one round that follows from the owners' signed words, once.

MODEL-1  As long as one of the members that signed is honest, an owner answers at the plan's first model and at models
         that follow from sums of at least t owners' words, and at nothing else.

So a leader cannot choose a model alone, nor with one other member on its side; and one member that is silent, or
signs something else, stops nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.errors import Forged, ProtocolAbort
from koinon.kernel.ids import NodeId
from koinon.privacy.federated.session import session_of
from koinon.privacy.federated.worker import parameters_to
from koinon.privacy.seats import check_certified
from koinon.wire.federated import ModelApproval, RoundTerms

WITNESSES: Final = 3
"""Members of a committee beside the leader."""
ENOUGH_APPROVALS: Final = 2
"""Of three members beside the leader; owners are told of so many, never more."""
_DOMAIN: Final = "koinon/federated/round-model/1"


@dataclass(frozen=True, slots=True)
class Voucher:
    """What a member signs with: its position, its worker's key, and its node's certificate for that key."""

    position: int
    key: NodeKey
    certificate: bytes


def approve(terms: RoundTerms, voucher: Voucher) -> ModelApproval:
    """A member's signature on the round that follows. Whoever calls this never does for two models of one round."""
    session = session_of(terms)
    signature = voucher.key.sign(_DOMAIN, session)
    return ModelApproval(session, voucher.position, voucher.key.node_id, voucher.certificate, signature)


def check_approval(terms: RoundTerms, witnesses: Sequence[NodeId], approval: ModelApproval) -> None:
    """Check one member's signature.

    Args:
        witnesses: the nodes drawn for positions 1, 2, …

    Raises:
        Forged: another round's or another model's, or not by the worker of the node drawn for that position.
    """
    session = session_of(terms)
    if approval.session != session:
        raise Forged("a member approved of another round, or of another model")
    if not 1 <= approval.position <= len(witnesses) or len(approval.key) != 32:
        raise Forged("an approval is by a member beside the leader, with a key of 32 bytes")
    node = witnesses[approval.position - 1]
    check_certified(node, terms.study, approval.position, approval.key, approval.certificate)
    verify_node_signature(NodeId(approval.key), _DOMAIN, session, approval.signature)


def check_model(
    terms: RoundTerms,
    parameters: np.ndarray,
    first: np.ndarray,
    witnesses: Sequence[NodeId],
    approvals: Sequence[ModelApproval],
) -> None:
    """An owner's check before it adds anything up at ``parameters`` (size,), whose hash is in the terms.

    Args:
        first: the plan's own parameters (size,), for round 0.
        witnesses: as in ``check_approval``; where there are none, nobody but the aggregator answers for the model.

    Raises:
        ProtocolAbort: the model is not the plan's first, or fewer than two members vouch for it.
    """
    if not witnesses or terms.round == 0:
        if approvals:
            raise ProtocolAbort("the aggregator names approvals where none are due", {0})
        if witnesses and parameters_to(parameters) != parameters_to(first):
            raise ProtocolAbort("the training begins at another model than its plan's", {0})
        return
    if len(approvals) != ENOUGH_APPROVALS or len({each.position for each in approvals}) != len(approvals):
        raise ProtocolAbort(
            f"the model of round {terms.round} must be approved by {ENOUGH_APPROVALS} members beside the leader", {0}
        )
    for each in approvals:
        try:
            check_approval(terms, witnesses, each)
        except Forged as problem:
            raise ProtocolAbort(f"the model of round {terms.round} is not approved: {problem}", {0}) from None
