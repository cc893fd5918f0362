"""What keys that grow from 32 secret bytes have in common."""

from typing import ClassVar, Final, Self

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput

SEED_BYTES: Final = 32


class SeedKey:
    """A key that is its seed. Neither ``repr`` nor an error of a subclass ever shows the seed."""

    __slots__ = ("_seed",)
    KIND: ClassVar[str]
    """What the key is called in an error: ``"a node key"``."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidInput(f"the seed of {self.KIND} has {SEED_BYTES} bytes; got {len(seed)}")
        self._seed = bytes(seed)

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key that belongs to a 32-byte secret. Raises InvalidInput for any other length."""
        return cls(seed)

    @classmethod
    def generate(cls, rng: Rng) -> Self:
        """A fresh key from ``rng``."""
        return cls(rng.bytes(SEED_BYTES))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes; for the key file and nothing else."""
        return self._seed
