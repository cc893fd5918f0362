"""``koinon study function`` and ``equations``: a JAX function as a file for studies, and what such a file does."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koinon.cli.console import console, print_json
from koinon.kernel.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from koinon.jobs.study import StudyFile
    from koinon.privacy.graphs.function_code import FunctionCode


def write_function(
    place: str, rows: Sequence[int], columns: int, output: Path, *, together: bool, as_json: bool
) -> None:
    """Trace ``FILE.py:NAME``, which runs that file, and write what studies bring to a new file.

    Raises:
        InvalidInput: no such function, something that is not done in studies, or the file exists.
        Unavailable: JAX is not installed, or the file cannot be written.
    """
    if output.exists():
        raise InvalidInput(f"{output.name} exists already; choose another name or remove it")
    if importlib.util.find_spec("jax") is None:
        raise Unavailable("writing a function down needs JAX: pip install 'koinon[jax]'; nobody else in the study does")
    from koinon.privacy.graphs.function_code import decode_code
    from koinon.privacy.graphs.function_tracing import traced

    data = traced(_loaded(place), rows, columns, together=together)
    try:
        output.write_bytes(data)
    except OSError as problem:
        raise Unavailable(f"cannot write {output.name}: {problem.strerror}") from None
    _show(decode_code(data), data, as_json=as_json)
    if not as_json:
        option = f"--program function/1 --function {output}"
        console.print(f"next: koinon study new FILE … {option}", style="dim", soft_wrap=True)


def show_equations(path: Path, *, as_json: bool) -> None:
    """Print what the function of a function file, or of a study file, does. Raises InvalidInput where there is none."""
    from koinon.privacy.graphs.function_code import decode_code

    data = read_function(path)
    code = decode_code(data)
    if as_json:
        from koinon.privacy.graphs.function_text import lines_of

        print_json({**_facts(code, data), "lines": list(lines_of(code))})
        return
    from koinon.privacy.graphs.function_text import lines_of

    for line in lines_of(code):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _show(code, data, as_json=False)


def read_function(path: Path) -> bytes:
    """The bytes of a function file, or those in a study file. Raises InvalidInput where it cannot be read."""
    from koinon.cli.study import read_draft
    from koinon.privacy.graphs.function_code import LONGEST_FUNCTION
    from koinon.privacy.programs import function, registry
    from koinon.privacy.programs.offer import decode_settings

    if path.suffix == ".toml":
        draft = read_draft(path)
        if draft.algorithm != function.NAME:
            raise InvalidInput(f"{path.name} names {draft.algorithm}, which brings no function")
        settings: function.Settings = decode_settings(registry.offer(draft.algorithm), draft.settings)
        return settings.function
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_FUNCTION + 1)
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name}: {problem.strerror}") from None
    return data


def function_rows(draft: "StudyFile") -> tuple[int, ...]:
    """Rows of each owner that the function of a study is for; empty where the study brings none."""
    from koinon.privacy.programs import function, registry
    from koinon.privacy.programs.offer import decode_settings

    if draft.algorithm != function.NAME:
        return ()
    settings: function.Settings = decode_settings(registry.offer(draft.algorithm), draft.settings)
    return function.code_of(settings).rows


def _facts(code: "FunctionCode", data: bytes) -> dict[str, Any]:
    from koinon.kernel.ids import to_hex
    from koinon.privacy.graphs.function_code import equations_of, hash_of, results_of

    opened = {name: list(kind.shape) for name, kind in zip(code.names, results_of(code), strict=True)}
    return {
        "function": to_hex(hash_of(data)),
        "bytes": len(data),
        "rows": list(code.rows),
        "columns": code.columns,
        "equations": sum(1 for _ in equations_of(code.body)),
        "opens": opened,
    }


def _show(code: "FunctionCode", data: bytes, *, as_json: bool) -> None:
    facts = _facts(code, data)
    if as_json:
        print_json(facts)
        return
    from koinon.cli.ordering import print_facts

    shapes = [f"{name} ({'×'.join(map(str, shape)) or 'a number'})" for name, shape in facts["opens"].items()]
    print_facts({**facts, "opens": ", ".join(shapes)}, as_json=False)
    console.print(
        f'owners that have read it allow it in policy.toml: allowed_functions = ["{facts["function"]}"]',
        style="dim",
        soft_wrap=True,
    )


def _loaded(place: str) -> Callable[..., Any]:
    """The function of ``FILE.py:NAME``; the file is run as Python runs it, as its owner's own code."""
    file, colon, name = place.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not path.is_file():
        raise InvalidInput(f"name a function as FILE.py:NAME, of a file that is there; got {place[:200]!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    found = getattr(module, name, None)
    if not callable(found):
        raise InvalidInput(f"{path.name} has no function {name[:80]!r}")
    return found  # type: ignore[no-any-return]
