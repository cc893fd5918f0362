"""The study file: one canonical form, signed, refused whole for the first rule it breaks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koinon.audit.study_checks import StudyOutline
from koinon.crypto.signature import NodeKey
from koinon.data.schema import Schema
from koinon.jobs.inputs import data_schema, share_columns, sources
from koinon.jobs.study import (
    Party,
    SignedStudy,
    StudyFile,
    escrow,
    open_study,
    open_study_named,
    read_study_toml,
    sign_study,
    specification_hash,
)
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.kernel.ids import Address, Hash32
from koinon.wire.committee import Column

KEY = NodeKey.from_seed(b"p" * 32)


def published(study: StudyFile, **changes: Any) -> StudyFile:
    publisher = Party("company", KEY.node_id, study.publisher.account)
    return msgspec.structs.replace(study, publisher=publisher, **changes)


def test_a_signed_study_opens_to_the_same_file(study: StudyFile) -> None:
    mine = published(study)
    assert open_study_named(sign_study(mine, KEY), specification_hash(mine)) == mine


def test_every_changed_byte_of_a_signed_study_is_refused(study: StudyFile) -> None:
    signed = sign_study(published(study), KEY)
    for position in range(0, len(signed.study), 7):
        changed = bytearray(signed.study)
        changed[position] ^= 1
        with pytest.raises((Forged, InvalidInput)):
            open_study(SignedStudy(bytes(changed), signed.signature))


def test_another_file_than_the_one_on_the_chain_is_refused(study: StudyFile) -> None:
    with pytest.raises(Forged, match="not the one whose hash is on the chain"):
        open_study_named(sign_study(published(study), KEY), Hash32(bytes(32)))


def test_a_study_signed_by_a_stranger_is_refused(study: StudyFile) -> None:
    with pytest.raises(InvalidInput, match="another publisher"):
        sign_study(study, KEY)


def test_the_escrow_is_four_committee_fees_and_every_owner_fee(study: StudyFile) -> None:
    assert escrow(study) == 4 * 5 + 3 * 7


def test_an_auditor_reads_a_study_file_of_this_version(study: StudyFile) -> None:
    """The auditor's form is of another room; a field that only one of them has would make every bundle unreadable."""
    assert StudyOutline.__struct_fields__ == StudyFile.__struct_fields__
    assert decode(StudyOutline, encode(study)).title == study.title


PEOPLE = bytes([7]) * 32
SPLIT = (("mean radius",), ("mean texture",), ("malignant",))


@dataclass(frozen=True)
class Bad:
    name: str
    changes: dict[str, Any]
    sentence: str


@pytest.mark.parametrize(
    "bad",
    [
        Bad("version", {"version": 2}, "version 2"),
        Bad("no title", {"title": ""}, "title"),
        Bad("unknown algorithm", {"algorithm": "magic/1"}, "no algorithm is called"),
        Bad("no columns", {"columns": ()}, "columns"),
        Bad("twice the same column", {"columns": (Column("a", 0, 1), Column("a", 0, 1))}, "same name"),
        Bad("empty range", {"columns": (Column("mean radius", 1, 1),)}, "low < high"),
        Bad("infinite range", {"columns": (Column("mean radius", 0, float("inf")),)}, "finite range"),
        Bad("target is a feature", {"target": "mean radius"}, "not also a feature"),
        Bad("sensitive column unknown", {"sensitive_column": "age"}, "none of the columns"),
        Bad("undeclared output", {"outputs": ("rows",)}, "outputs must be among"),
        Bad("no output", {"outputs": ()}, "outputs must be among"),
        Bad("a negative cost", {"epsilon": -1.0}, "epsilon must be 0"),
        Bad("hardly any noise", {"epsilon": 51.0}, "epsilon must be 0"),
        Bad("no number", {"epsilon": float("nan")}, "epsilon must be 0"),
        Bad("one owner", {"owners": ()}, "2 to 16 data owners"),
        Bad("owners' shares too large", {"owner_revenue": 4000}, "exceed the whole"),
        Bad("too few rows", {"minimum_rows": 1}, "minimum_rows"),
        Bad("settings of another program", {"settings": b"\x91\x01"}, "not a Settings"),
        Bad("target of a program without", {"algorithm": "statistics/1", "outputs": ("mean",)}, "predicts nothing"),
        Bad(
            "fairness of no model",
            {"algorithm": "statistics/1", "outputs": ("mean",), "target": ""},
            "leave sensitive_column empty",
        ),
        Bad("too few planted", {"planted": 7}, "plant 24 to 4096 rows, or none"),
        Bad("planted less than nothing", {"planted": -8}, "plant 24 to 4096 rows, or none"),
        Bad("too many planted", {"planted": 2000}, "plant 24 to 4096 rows, or none"),
        Bad("planted and noisy", {"planted": 8, "epsilon": 1.0}, "plant rows only where epsilon is 0"),
        Bad(
            "planted and split", {"planted": 8, "held": SPLIT, "people": PEOPLE}, "where each owner brings rows of its"
        ),
        Bad(
            "planted for no model",
            {"planted": 8, "algorithm": "naive-bayes/1", "outputs": ("priors",)},
            "makes no model that planted rows could be tried on",
        ),
        Bad("people without a split", {"people": PEOPLE}, "only where owners hold different columns"),
        Bad("no people", {"held": SPLIT}, "must agree on the people"),
        Bad("a join of nothing", {"join": "psi"}, "joined, only where owners hold different columns"),
        Bad("an unknown join", {"held": SPLIT, "join": "guess"}, "no join is called 'guess'"),
        Bad("people and a join", {"held": SPLIT, "people": PEOPLE, "join": "psi"}, "leave out the root or the join"),
        Bad(
            "not of pairs",
            {"held": SPLIT, "join": "oblivious", "algorithm": "poisson-regression/1", "outputs": ("coefficients",)},
            "an oblivious join gives exact outputs of",
        ),
        Bad("one table", {"held": (sum(SPLIT, ()),) * 3, "join": "oblivious"}, "here all bring the same"),
        Bad(
            "a table in parts",
            {"held": (SPLIT[0], (*SPLIT[1], *SPLIT[0][:1]), SPLIT[2]), "join": "oblivious"},
            "several owners bring the same columns, all of them",
        ),
        Bad("one table matched", {"held": (sum(SPLIT, ()),) * 3, "join": "psi"}, "only where there are two sets"),
        Bad(
            "a table in parts matched",
            {"held": (SPLIT[0], (*SPLIT[1], *SPLIT[0][:1]), SPLIT[2]), "join": "psi"},
            "exactly one owner",
        ),
        Bad("an owner too few", {"held": SPLIT[:2], "people": PEOPLE}, "every owner must bring a column"),
        Bad("an owner of nothing", {"held": (*SPLIT[:2], ()), "people": PEOPLE}, "every owner must bring a column"),
        Bad("a column of two", {"held": (SPLIT[0], SPLIT[1], SPLIT[1]), "people": PEOPLE}, "exactly one owner"),
        Bad("nobody's target", {"held": (*SPLIT[:2], ("age",)), "people": PEOPLE}, "exactly one owner"),
    ],
    ids=lambda bad: bad.name,
)
def test_a_broken_rule_gets_one_sentence(study: StudyFile, bad: Bad) -> None:
    with pytest.raises(InvalidInput, match=bad.sentence):
        sign_study(published(study, **bad.changes), KEY)


def test_random_bytes_are_no_study() -> None:
    with pytest.raises(MalformedMessage):
        open_study(SignedStudy(b"\x93\x01\x02", b""))


TOML = """
title = "Tumour risk"
purpose = "Tumour risk, for clinical decision support"
algorithm = "logistic-regression/1"
target = "malignant"
sensitive_column = "mean radius"
outputs = ["coefficients", "intercept"]
epsilon = 0
minimum_rows = 10
owner_revenue_basis_points = 2000
[[columns]]
name = "mean radius"
low = 0
high = 40.0
[[owners]]
name = "a"
node = "0101010101010101010101010101010101010101010101010101010101010101"
account = "0x0101010101010101010101010101010101010101"
[[owners]]
name = "b"
node = "0202020202020202020202020202020202020202020202020202020202020202"
account = "0x0202020202020202020202020202020202020202"
[terms]
committee_fee = "5"
owner_fee = "7.5"
bond = "1"
consent_seconds = 60
reveal_seconds = 30
run_seconds = 90
challenge_seconds = 4
maximum_attempts = 3
"""


def read(path: Path, study: StudyFile) -> StudyFile:
    return read_study_toml(
        path,
        algorithm_hash=lambda _, __: Hash32(b"a" * 32),
        publisher=study.publisher,
        chain_id=1,
        studies_contract=Address(bytes(20)),
    )


def test_the_form_people_write_is_read(tmp_path: Path, study: StudyFile) -> None:
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    result = read(path, study)
    assert result.terms.owner_fee == 7_500_000
    assert [owner.name for owner in result.owners] == ["a", "b"]


SPLIT_TOML = TOML.replace("low = 0\nhigh = 40.0", 'low = 0\nhigh = 40.0\nowner = "b"').replace(
    "epsilon = 0", f'epsilon = 0\ntarget_owner = "a"\npeople = "0x{PEOPLE.hex()}"'
)


def test_the_form_says_which_owners_bring_the_same_columns(tmp_path: Path, study: StudyFile) -> None:
    path = tmp_path / "study.toml"
    second = SPLIT_TOML[SPLIT_TOML.index('[[owners]]\nname = "b"') : SPLIT_TOML.index("[terms]")]
    third = second.replace('"b"', '"c"').replace("02", "03")
    text = SPLIT_TOML.replace("[terms]", third + "[terms]").replace('owner = "b"', 'owner = ["b", "c"]')
    text = text.replace('people = "', 'join = "oblivious"  # "')
    path.write_text(text)
    found = read(path, study)
    assert found.held[1] == found.held[2]
    assert found.held[0] == ("malignant",)
    path.write_text(text.replace('["b", "c"]', '["b", 3]'))
    with pytest.raises(InvalidInput, match="'owner' must be a text in quotes, or a list of them"):
        read(path, study)


def test_the_form_says_who_brings_which_column(tmp_path: Path, study: StudyFile) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SPLIT_TOML)
    result = read(path, study)
    assert result.held == (("malignant",), ("mean radius",))
    assert result.people == PEOPLE
    assert sources(result) == ((1,), (0,))
    assert data_schema(result, 0) == Schema((Column("malignant", 0.0, 1.0),), "")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('owner = "b"', 'owner = "c"', "comes from 'c', who is no owner"),
        ('target_owner = "a"', 'target_owner = "c"', "'malignant' comes from 'c'"),
        ('target_owner = "a"', "", "every owner must bring a column"),
        ('people = "0x', 'people = "0xz', "'people' must be the root"),
        ('people = "0x', 'people = "0x00', "agree on the people"),
    ],
)
def test_a_mistake_in_the_split_is_named(tmp_path: Path, study: StudyFile, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SPLIT_TOML.replace(old, new))
    with pytest.raises(InvalidInput, match=sentence):
        read(path, study)


def test_each_owner_shares_its_own_columns_in_the_study_s_order(study: StudyFile) -> None:
    split = msgspec.structs.replace(study, held=(("mean texture",), ("malignant", "mean radius"), ()), people=PEOPLE)
    radius, texture = study.columns
    assert share_columns(split, 0) == (texture,)
    assert share_columns(split, 1) == (radius, Column("malignant", 0.0, 1.0))
    assert data_schema(split, 0) == Schema((texture,), "")
    assert data_schema(split, 1) == Schema((radius,), "malignant")
    whole = msgspec.structs.replace(study, held=(), people=b"")
    assert share_columns(whole, 2) == (radius, texture, Column("malignant", 0.0, 1.0))
    assert data_schema(whole, 2) == Schema(study.columns, "malignant")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('title = "Tumour risk"', "", "'title' is missing"),
        ("epsilon = 0", 'epsilon = "none"', "'epsilon' must be a number"),
        ("minimum_rows = 10", "minimum_rows = true", "'minimum_rows' must be a whole number"),
        ("bond =", "bonds =", "'bond' is missing"),
        ('"7.5"', '"7,5"', "'owner_fee': an amount is digits"),
        ("challenge_seconds = 4", "challenge_seconds = 4\nwhatever = 1", "unknown key 'whatever'"),
        ('account = "0x0202', 'account = "0x02', "an address must be 40 hexadecimal digits"),
        ("[terms]", "[terms", "is not TOML"),
        ("low = 0", "lo = 0", "'low' is missing"),
    ],
)
def test_a_mistake_in_the_form_is_named(tmp_path: Path, study: StudyFile, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(InvalidInput, match=sentence):
        read(path, study)


def test_a_missing_form_says_so(tmp_path: Path, study: StudyFile) -> None:
    with pytest.raises(InvalidInput, match="cannot read the study file"):
        read(tmp_path / "none.toml", study)
