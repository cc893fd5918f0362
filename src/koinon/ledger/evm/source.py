"""Python source from the table of instructions: one function for each instruction, or for each block of a contract.

A block runs from one place that control can reach to the next instruction after which control may go elsewhere. Inside,
the stack is followed symbolically: values are Python locals, and only what has changed is written back at the end.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

from koinon.ledger.evm.opcodes import Opcode

_OPERANDS: Final = "abcdefghijklmnopq"
_NAME: Final = re.compile(r"(?<![\w.])([a-qx])(?!\w)")
_CONDITION: Final = re.compile(r"1 if (.+) else 0")
_NEGATION: Final = re.compile(r"not (\S+)")
_STATEFUL: Final = re.compile(r"frame|memory|\bx\b")


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction at its place.

    Attributes:
        x: what the effect's ``x`` stands for: a number, or the name of a variable.
        follows: position of the instruction behind it.
    """

    position: int
    opcode: Opcode
    x: int | str
    follows: int


class Links(Protocol):
    """How source refers to other blocks."""

    def behind(self, instruction: Instruction) -> str:
        """The block behind the instruction."""
        ...

    def target(self, destination: "int | str") -> str | None:
        """The block at a jump's destination, a number or a variable; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class _Effect:
    statements: tuple[str, ...]
    verb: str
    argument: str
    pushes: tuple[str, ...]
    is_pure: bool


@cache
def _effect(opcode: Opcode) -> _Effect:
    """The effect taken apart, operands as ``{a}`` to be filled in."""
    lines = opcode.effect.split("\n")
    verb, _, argument = lines[-1].partition(" ")
    if verb not in ("push", "jump", "wait", "halt"):
        verb, argument = "", ""
    statements = lines[:-1] if verb else [line for line in lines if line]
    template = _NAME.sub(r"{\1}", argument)
    # DUP and SWAP push several of the operands; a comma in any other row belongs to a call.
    pushes = tuple(template.split(", ")) if opcode.pushes > 1 else (template,) if verb == "push" else ()
    is_pure = verb == "push" and not statements and not _STATEFUL.search(argument)
    return _Effect(tuple(_NAME.sub(r"{\1}", line) for line in statements), verb, template, pushes, is_pure)


class _Entry:
    """An item that was on the stack when the block began; 1 is the top."""

    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        self.depth = depth


class _Condition:
    """A truth value not computed yet: 1 where ``text`` holds, or where it does not."""

    __slots__ = ("is_negated", "name", "text")

    def __init__(self, text: str, is_negated: bool) -> None:
        self.text = text
        self.is_negated = is_negated
        self.name = ""

    def __str__(self) -> str:
        return f"not ({self.text})" if self.is_negated else self.text


_Value = int | str | _Entry | _Condition


class BlockWriter:
    """Writes the body of one function."""

    def __init__(self, links: Links, names: Mapping[str, Any]) -> None:
        self.lines: list[str] = []
        self._links = links
        self._names = names
        self._stack: list[_Value] = []
        self._taken = 0
        self._loaded: set[int] = set()
        self._locals = 0

    def write(self, instruction: Instruction) -> None:
        """Add the effect of one instruction."""
        effect = _effect(instruction.opcode)
        operands = [self._pop() for _ in range(instruction.opcode.pops)]
        x = instruction.x
        if effect.verb == "jump":
            self._jump(operands, instruction)
            return
        if effect.pushes and all(len(part) == 3 and part[0] == "{" for part in effect.pushes):
            values: dict[str, _Value] = {**dict(zip(_OPERANDS, operands, strict=False)), "x": x}
            self._stack.extend(values[part[1]] for part in effect.pushes)
            return
        if effect.is_pure and all(isinstance(operand, int) for operand in operands):
            text = effect.argument.format_map(self._texts(operands, x))
            self._stack.append(eval(text, dict(self._names)))  # noqa: S307  # a row of the table on plain numbers
            return
        if (condition := _CONDITION.fullmatch(effect.argument)) and self._push_condition(condition[1], operands):
            return
        texts = self._texts(operands, x)
        self.lines.extend(line.format_map(texts) for line in effect.statements)
        if effect.verb == "push":
            name = self._new_local()
            self.lines.append(f"{name} = {effect.argument.format_map(texts)}")
            self._stack.append(name)
        elif effect.verb == "wait":
            self.flush()
            self.lines.append(f"frame.resume = {self._links.behind(instruction)}")
            self.lines.append("return None")
        elif effect.verb == "halt":
            self.lines.append("return None")

    def flush(self) -> None:
        """Write back what has changed on the stack."""
        kept = min(self._taken, len(self._stack))
        changed = {
            place: self._text(value)
            for place, value in enumerate(self._stack)
            if not (isinstance(value, _Entry) and value.depth == self._taken - place)
        }
        self.lines.extend(
            f"stack[{place - self._taken}] = {changed[place]}" for place in range(kept) if place in changed
        )
        added = [changed[place] for place in range(kept, len(self._stack))]
        if len(added) == 1:
            self.lines.append(f"stack.append({added[0]})")
        elif added:
            self.lines.append(f"stack += ({', '.join(added)})")
        elif kept < self._taken:
            self.lines.append(f"del stack[{kept - self._taken}:]")
        self._stack, self._taken = [], 0
        self._loaded.clear()

    def _pop(self) -> _Value:
        if self._stack:
            return self._stack.pop()
        self._taken += 1
        return _Entry(self._taken)

    def _new_local(self) -> str:
        self._locals += 1
        return f"v{self._locals}"

    def _text(self, value: _Value) -> str:
        """Source for a value, loaded or computed first if it has not been yet."""
        if isinstance(value, int):
            return hex(value)
        if isinstance(value, _Entry):
            if value.depth not in self._loaded:
                self._loaded.add(value.depth)
                self.lines.append(f"e{value.depth} = stack[-{value.depth}]")
            return f"e{value.depth}"
        if isinstance(value, _Condition):
            if not value.name:
                value.name = self._new_local()
                self.lines.append(f"{value.name} = 1 if {value} else 0")
            return value.name
        return value

    def _texts(self, operands: Sequence[_Value], x: int | str) -> dict[str, str]:
        texts = {name: self._text(value) for name, value in zip(_OPERANDS, operands, strict=False)}
        texts["x"] = x if isinstance(x, str) else hex(x)
        return texts

    def _push_condition(self, template: str, operands: Sequence[_Value]) -> bool:
        negated = _NEGATION.fullmatch(template)
        if not negated:
            self._stack.append(_Condition(template.format_map(self._texts(operands, 0)), False))
            return True
        operand = operands[0]
        if isinstance(operand, _Condition):
            self._stack.append(_Condition(operand.text, not operand.is_negated))
        else:
            self._stack.append(_Condition(self._text(operand), True))
        return True

    def _jump(self, operands: Sequence[_Value], instruction: Instruction) -> None:
        to = operands[0] if isinstance(operands[0], int) else self._text(operands[0])
        link = self._links.target(to)
        goes = f"return {link}" if link else "raise InvalidJump"
        if len(operands) == 1:
            self.flush()
            self.lines.append(goes)
            return
        condition = operands[1]
        if isinstance(condition, int):
            self.flush()
            self.lines.append(goes if condition else f"return {self._links.behind(instruction)}")
            return
        test = str(condition) if isinstance(condition, _Condition) else self._text(condition)
        self.flush()
        self.lines.append(f"if {test}: {goes}")
        self.lines.append(f"return {self._links.behind(instruction)}")


def function_source(name: str, parameters: str, opening: Sequence[str], body: Sequence[str]) -> str:
    """A function definition; ``memory`` is bound where the body speaks of it."""
    lines = list(opening)
    if any("memory" in line for line in body):
        lines.append("memory = frame.memory")
    lines.extend(body)
    return f"def {name}({parameters}):\n " + "\n ".join(lines or ["pass"]) + "\n"


def defined(source: str, name: str, names: dict[str, Any]) -> Callable[..., Any]:
    """Define the function in ``names``, which it also sees as its globals."""
    exec(compile(source, f"<evm {name}>", "exec"), names)  # noqa: S102  # source of our own making, from the table
    function: Callable[..., Any] = names[name]
    return function
