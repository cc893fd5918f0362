"""The deliberate fault of a demonstration: a party that changes one bit of one value it sends, and seals what it sends.

It stands outside the engine. A node asks for it only when its operator has configured chaos.
"""

import numpy as np

from koinon.privacy.rep4.party import KEY_ROUNDS, Party
from koinon.privacy.rep4.signing import Signatures
from koinon.privacy.rep4.transcript import Transcript
from koinon.wire.committee import Fault


class FaultyParty(Party):
    """Flips one bit of the first value sent to a peer in or after the round of a fault, or of an announcement; once."""

    def __init__(
        self, position: int, session: bytes, signatures: Signatures, transcript: Transcript, fault: Fault
    ) -> None:
        super().__init__(position, session, signatures, transcript)
        self._fault: Fault | None = fault

    def send_frames(self) -> dict[int, bytes]:
        fault = self._fault
        told = [each for each in self.announcing() if fault is not None and each.receiver == fault.peer]
        if fault is not None and told and self.round == fault.round < KEY_ROUNDS:
            told[0].content = flipped(np.frombuffer(told[0].content, np.uint8), fault.bit).tobytes()
            self._fault = None
        elif fault is not None and self.round >= fault.round:
            for message in self.outgoing():
                if (message.sender, message.receiver) == (self.position, fault.peer) and message.value.size:
                    message.value = flipped(message.value, fault.bit)
                    self._fault = None
                    break
        return super().send_frames()


def flipped(value: np.ndarray, bit: int) -> np.ndarray:
    """A copy with one bit changed; ``bit`` counts from the first byte, modulo the number of bits."""
    changed = bytearray(value.tobytes())
    place, shift = divmod(bit % (8 * len(changed)), 8)
    changed[place] ^= 1 << shift
    return np.frombuffer(changed, value.dtype).reshape(value.shape)
