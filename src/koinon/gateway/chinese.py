"""Chinese of every sentence of the site, by its English text."""

from typing import Final

CHINESE: Final[dict[str, str]] = {}
