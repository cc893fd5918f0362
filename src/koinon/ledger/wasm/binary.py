"""Reading and writing the WebAssembly binary format (specification 1.0, section 5), strictly."""

from koinon.kernel.errors import InvalidInput


class InvalidModule(InvalidInput):
    """A module that breaks a rule of the format or one of ours. Nothing of it was compiled or kept."""


class Reader:
    """A cursor over bytes that raises InvalidModule, naming the position, where they end too early."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    @property
    def is_at_end(self) -> bool:
        return self.position == self.end

    def byte(self) -> int:
        position = self.position
        if position >= self.end:
            raise InvalidModule(f"the module ends early, at byte {position}")
        self.position = position + 1
        return self.data[position]

    def take(self, size: int) -> bytes:
        position = self.position
        if size > self.end - position:
            raise InvalidModule(f"{size} bytes are announced at byte {position} and {self.end - position} are there")
        self.position = position + size
        return self.data[position : position + size]

    def unsigned(self) -> int:
        """An unsigned number of 32 bits in LEB128: at most five bytes, no bit beyond the 32nd."""
        start = self.position
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
            shift += 7
            if shift > 28:
                raise InvalidModule(f"the number at byte {start} is longer than five bytes")
        if result >> 32:
            raise InvalidModule(f"the number at byte {start} has more than 32 bits")
        return result

    def signed(self, bits: int) -> int:
        """A signed number of ``bits`` in LEB128: no byte more than that takes, bits beyond are copies of the sign."""
        start = self.position
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            if shift >= bits:
                raise InvalidModule(f"the number at byte {start} is longer than {bits} bits need")
        if byte & 0x40:
            result -= 1 << shift
        if not -(1 << (bits - 1)) <= result < 1 << (bits - 1):
            raise InvalidModule(f"the number at byte {start} has more than {bits} bits")
        return result

    def count(self, what: str, most: int) -> int:
        """The length of a vector, checked before anything of it is read."""
        number = self.unsigned()
        if number > most:
            raise InvalidModule(f"a module may have {most} {what}; this one has {number}")
        return number

    def section(self) -> "Reader":
        """A reader over the sized region that begins here; this one goes on behind it."""
        size = self.unsigned()
        start = self.position
        self.take(size)
        return Reader(self.data, start, start + size)

    def close(self, what: str) -> None:
        """Raises InvalidModule if something is left."""
        if self.position != self.end:
            raise InvalidModule(f"{what} has {self.end - self.position} bytes too many, from byte {self.position}")


def unsigned(number: int) -> bytes:
    """``number`` in LEB128, as short as it gets."""
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


def signed(number: int) -> bytes:
    """``number`` in signed LEB128, as short as it gets."""
    result = bytearray()
    while not -64 <= number < 64:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number & 0x7F)
    return bytes(result)


def sized(content: bytes) -> bytes:
    return unsigned(len(content)) + content


def vector(items: list[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)
