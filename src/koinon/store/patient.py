"""A store that waits for room on the disk, for a writer whose next act must not happen before the write is durable."""

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Final

from koinon.kernel.effects import Store
from koinon.kernel.errors import OutOfSpace

RETRY_SECONDS: Final = 1.0
_log: Final = logging.getLogger("koinon.store")


class PatientStore:
    """Passes everything on to a store; once ``wait_for_room`` was called, a write waits while the disk is full.

    A validator's thread is held in the write, so that it signs and sends nothing meanwhile; reading goes on. Nobody has
    to restart anything once there is room again.

    Attributes:
        delayed: how often a write was tried again.
        is_waiting: whether a write waits now.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.get = store.get
        self.scan = store.scan
        self.reading = store.reading
        self._impatient = threading.Event()
        self._impatient.set()
        self.delayed = 0
        self.is_waiting = False

    def wait_for_room(self) -> None:
        """From now on writes wait."""
        self._impatient.clear()

    def stop_waiting(self) -> None:
        """A write that waits fails now, and every later one at once. May be called from any thread."""
        self._impatient.set()

    def write(self, put: Mapping[bytes, bytes], delete: Iterable[bytes] = ()) -> None:
        """As the store's own, but patient. Raises OutOfSpace if it should wait no longer; nothing was written."""
        gone = tuple(delete)
        while True:
            try:
                self._store.write(put, gone)
            except OutOfSpace as problem:
                if not self.is_waiting:
                    _log.error("nothing more is signed until there is room to write it down: %s", problem)
                self.is_waiting = True
                self.delayed += 1
                if self._impatient.wait(RETRY_SECONDS):
                    raise
            else:
                if self.is_waiting:
                    _log.warning("there is room on the disk again; the work goes on")
                self.is_waiting = False
                return

    def close(self) -> None:
        self.stop_waiting()
        self._store.close()
