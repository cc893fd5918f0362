"""An owner signs what its policy allows and refuses everything else with a reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koinon.jobs.policy import Policy, agree, read_policy
from koinon.jobs.study import StudyFile, check_study
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import TokenAmount
from koinon.privacy.graphs.function_code import Block, Equation, FunctionCode, Kind, hash_of
from koinon.privacy.programs.function import Settings
from koinon.wire.committee import Column

POLICY = Policy(
    purposes=("tumour risk",),
    publishers=(),
    minimum_parties=3,
    allowed_programs=("logistic-regression/1",),
    allowed_functions=(),
    allowed_engines=("rep4",),
    allowed_outputs=("coefficients", "intercept"),
    allowed_joins=("agreed",),
    minimum_group=5,
    allow_exact_outputs=True,
    privacy_epsilon=8.0,
    privacy_delta=1e-6,
    minimum_owner_fee=TokenAmount(7),
    maximum_bond=TokenAmount(11),
)
INSTALLED = Hash32(b"a" * 32)
OWNER = Address(bytes([2]) * 20)


def test_an_acceptable_study_is_agreed_to(study: StudyFile) -> None:
    agree(study, POLICY, OWNER, INSTALLED, rows=10)


@pytest.mark.parametrize(
    ("policy", "changes", "sentence"),
    [
        ({"purposes": ("insurance",)}, {}, "purpose is none the policy accepts"),
        ({"publishers": (Address(b"x" * 20),)}, {}, "no studies from this publisher"),
        ({"minimum_parties": 4}, {}, "3 data owners; the policy asks for 4"),
        ({}, {"engine": "federated"}, "does not allow the engine federated"),
        ({"allowed_outputs": ("intercept",)}, {}, "'coefficients' is not allowed"),
        ({"allowed_joins": ()}, {"held": (("x",),), "join": "psi"}, "brought together by join = 'psi'"),
        ({"allow_exact_outputs": False}, {}, "does not allow exact outputs"),
        ({"minimum_owner_fee": TokenAmount(8)}, {}, "below the policy's minimum"),
        ({"maximum_bond": TokenAmount(10)}, {}, "above the policy's maximum"),
        ({}, {"algorithm_hash": Hash32(b"b" * 32)}, "not that of the program installed here"),
        ({}, {"minimum_rows": 11}, "fewer than the 11 rows"),
    ],
)
def test_every_rule_refuses(study: StudyFile, policy: Any, changes: Any, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        agree(msgspec.structs.replace(study, **changes), replace(POLICY, **policy), OWNER, INSTALLED, rows=10)


def bringing(study: StudyFile, rows: tuple[int, ...]) -> StudyFile:
    """The study with a function that sums up the columns of so many rows of each owner, of people of their own."""
    table, sums = Kind((sum(rows), len(study.columns)), "float32"), Kind((len(study.columns),), "float32")
    body = Block((table,), (Equation("reduce_sum", ((0,),), (), (0,), (sums,)),), (1,))
    code = encode(FunctionCode(rows, len(study.columns), ("sums",), body, ()))
    return msgspec.structs.replace(
        study,
        algorithm="function/1",
        settings=encode(Settings(code)),
        outputs=("sums",),
        target="",
        sensitive_column="",
        held=(),
    )


def allowing(*functions: Hash32) -> Policy:
    return replace(POLICY, allowed_programs=("function/1",), allowed_outputs=("sums",), allowed_functions=functions)


def test_a_function_is_allowed_by_its_hash_alone(study: StudyFile) -> None:
    asked = bringing(study, (10,) * len(study.owners))
    named = hash_of(decode(Settings, asked.settings).function)
    agree(asked, allowing(named), OWNER, INSTALLED, rows=10)
    for policy in (allowing(), allowing(Hash32(bytes(32)))):
        with pytest.raises(Refused, match=f"does not allow the function 0x{named.hex()}; a function can open anything"):
            agree(asked, policy, OWNER, INSTALLED, rows=10)
    with pytest.raises(Refused, match="the function is for 10 rows of this owner, which has 11"):
        agree(asked, allowing(named), OWNER, INSTALLED, rows=11)


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        ((10, 10), {}, "the function is for 2 owners, and the study has 3"),
        ((9, 10, 10), {}, "fewer rows than minimum_rows, 10"),
        ((10, 10, 10), {"columns": (Column("more", 0.0, 1.0),)}, "takes .* columns, and the study has 1"),
        ((10, 10, 10), {"settings": b""}, "needs a function"),
        ((10, 10, 10), {"settings": encode(Settings(b"\x93"))}, "not a FunctionCode"),
        ((10, 10, 10), {"outputs": ("other",)}, "outputs must be among sums"),
        ((10, 10, 10), {"epsilon": 1.0}, "noisy outputs are not offered"),
        ((10, 10, 10), {"planted": 10}, "makes no model that planted rows"),
        ((10, 10, 10), {"engine": "federated"}, "federated does not run it"),
        ((10, 10, 10), {"engine": "he"}, "he does not run it"),
    ],
)
def test_what_is_wrong_with_a_function_is_said_before_anybody_signs(
    study: StudyFile, rows: tuple[int, ...], changes: Any, sentence: str
) -> None:
    asked = bringing(study, rows)
    if rows == (10, 10, 10):
        check_study(asked)
    with pytest.raises(InvalidInput, match=sentence):
        check_study(msgspec.structs.replace(asked, **changes))


def test_an_outsider_refuses(study: StudyFile) -> None:
    with pytest.raises(Refused, match="not among the study's data owners"):
        agree(study, POLICY, Address(b"z" * 20), INSTALLED, rows=10)


FILE = """
purposes = ["tumour risk"]
publishers = []
minimum_parties = 3
allowed_programs = ["logistic-regression/1"]
allowed_engines = ["rep4"]
allowed_outputs = ["coefficients", "intercept"]
allowed_joins = ["agreed"]
minimum_group = 5
allow_exact_outputs = true
privacy_epsilon = 8
privacy_delta = 1e-6
minimum_owner_fee = "0.000007"
maximum_bond = "0.000011"
"""


def test_the_policy_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(FILE)
    assert read_policy(path) == POLICY


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("minimum_parties = 3", "", "'minimum_parties' is missing"),
        ("minimum_parties = 3", "minimum_parties = true", "must be a int"),
        ('purposes = ["tumour risk"]', "purposes = [1]", "must be a list of texts"),
        ("publishers = []", 'publishers = ["me"]', "an address must be"),
        ("allow_exact_outputs", "allow_exact_output", "unknown key 'allow_exact_output'"),
        ("privacy_epsilon = 8", 'privacy_epsilon = "8"', "'privacy_epsilon' must be a number"),
        ("privacy_epsilon = 8", "privacy_epsilon = 0", "a privacy budget has ε above 0"),
        ("privacy_delta = 1e-6", "privacy_delta = nan", "δ between 0 and 1"),
        ('"0.000007"', '"cheap"', "'minimum_owner_fee': an amount is digits"),
    ],
)
def test_a_mistake_in_the_policy_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(InvalidInput, match=sentence):
        read_policy(path)
