"""What each page says, as frozen values: the templates print them and ``/api`` answers them as JSON.

Units: amounts of the payment token in its smallest unit, ether in wei, times in Unix seconds, ratios in parts per
million. Identifiers are ``0x`` hexadecimal text. A ``Sentence`` is an English text with named gaps, which the page
fills and may translate; every number that somebody may want to check is a ``Quantity`` and carries its ``Origin``.
"""
