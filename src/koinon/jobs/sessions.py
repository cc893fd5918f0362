"""Names that all parties of a study compute alike."""

from koinon.crypto.hash import tagged_hash
from koinon.jobs.study import StudyFile, specification_hash
from koinon.kernel.codec import encode
from koinon.kernel.ids import Hash32


def study_key(study: StudyFile, number: int) -> Hash32:
    """32-byte name of a study, unique over chains and contracts; what owners bind their shares to."""
    place = encode([study.chain_id, study.studies_contract, number])
    return tagged_hash("koinon study 1", place, specification_hash(study))


def session_key(study: StudyFile, number: int, attempt: int) -> Hash32:
    """32-byte name of one attempt: the session that the committee's workers agree on."""
    return tagged_hash("koinon session 1", study_key(study, number), attempt.to_bytes(4, "big"))
