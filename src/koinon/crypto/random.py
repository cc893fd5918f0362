"""The operating system's random bytes, behind the ``Rng`` protocol of ``kernel.effects``."""

import os


class SystemRng:
    """Cryptographically secure random bytes from the kernel; the only Rng of a real node."""

    def bytes(self, count: int, /) -> bytes:
        """``count`` fresh random bytes."""
        return os.urandom(count)
