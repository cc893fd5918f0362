"""Names that all parties of a study compute alike."""

from koinon.crypto.hash import tagged_hash
from koinon.jobs.study import StudyFile, specification_hash
from koinon.kernel.codec import encode
from koinon.kernel.ids import Address, Hash32


def study_key(study: StudyFile, number: int) -> Hash32:
    """32-byte name of a study, unique over chains and contracts; what owners bind their shares to."""
    return study_named(study.chain_id, study.studies_contract, number, specification_hash(study))


def study_named(chain_id: int, contract: Address, number: int, specification: Hash32) -> Hash32:
    """``study_key`` from what the chain holds, for who has no study file."""
    return tagged_hash("koinon study 1", encode([chain_id, contract, number]), specification)


def session_key(study: StudyFile, number: int, attempt: int) -> Hash32:
    """32-byte name of one attempt: the session that the committee's workers agree on."""
    return session_of(study_key(study, number), attempt)


def session_of(study: Hash32, attempt: int) -> Hash32:
    """``session_key`` of an attempt of a study by its 32-byte name."""
    return tagged_hash("koinon session 1", study, attempt.to_bytes(4, "big"))
