"""Domains: by inputs, then samples, then declaration; contradictions are questions."""

import pytest

from koinon.kernel.errors import InvalidInput
from koinon.models.domain import Domain, detect_domain, sample_domain
from koinon.models.frames import ModelMetadata, TensorSpec

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt "
CSV = b"age,size\n1,2\n3,4\n"


def metadata(*inputs: tuple[str, str, tuple[int, ...]]) -> ModelMetadata:
    return ModelMetadata(tuple(TensorSpec(*value) for value in inputs), (), 0, (), 0, 0)


TABLE = metadata(("features", "float", (-1, 30)))
IMAGE = metadata(("x", "float", (-1, 3, 224, 224)))


@pytest.mark.parametrize(
    ("model", "domain", "certain"),
    [
        (TABLE, Domain.TABULAR, False),
        (metadata(("x", "double", (-1, 4))), Domain.TABULAR, False),
        (IMAGE, Domain.IMAGE, True),
        (metadata(("x", "uint8", (-1, 28, 28, 1))), Domain.IMAGE, True),
        (metadata(("clip", "float", (-1, 3, 16, 112, 112))), Domain.VIDEO, True),
        (metadata(("input_ids", "int64", (-1, -1)), ("attention_mask", "int64", (-1, -1))), Domain.TEXT, True),
        (metadata(("words", "string", (-1,))), Domain.TEXT, True),
        (metadata(("input", "float", (-1, 16_000))), Domain.AUDIO, False),
        (metadata(("input", "float", (-1, 512)), ("sr", "int64", ())), Domain.AUDIO, True),
    ],
)
def test_inputs_say_what_they_can(model: ModelMetadata, domain: Domain, certain: bool) -> None:
    finding = detect_domain(model)
    assert (finding.domain, finding.certain) == (domain, certain)
    assert finding.reasons


def test_a_shape_that_could_be_many_things_is_settled_by_samples_or_declaration() -> None:
    assert detect_domain(TABLE, [CSV]).certain
    assert detect_domain(TABLE, [WAV]).domain is Domain.AUDIO
    assert detect_domain(TABLE, declared=Domain.AUDIO).domain is Domain.AUDIO
    assert detect_domain(metadata(("x", "float", (-1, 7, 9, 11))), [PNG]).domain is Domain.IMAGE


@pytest.mark.parametrize(
    ("model", "samples", "declared", "asked"),
    [
        (IMAGE, [CSV], None, "inputs say image but the sample files are tabular"),
        (IMAGE, [], Domain.TEXT, "inputs say image but the publisher declares text"),
        (TABLE, [WAV], Domain.TABULAR, "sample files are audio but the publisher declares tabular"),
        (TABLE, [WAV, PNG], None, "different kinds"),
        (metadata(("x", "float", (-1, 7, 9, 11))), [], None, "declare the model's domain"),
        (metadata(("x", "bool", (-1,))), [], None, "declare the model's domain"),
    ],
)
def test_contradictions_and_ignorance_are_questions(
    model: ModelMetadata, samples: list[bytes], declared: Domain | None, asked: str
) -> None:
    with pytest.raises(InvalidInput, match=asked):
        detect_domain(model, samples, declared)


@pytest.mark.parametrize(
    ("sample", "domain"),
    [
        (PNG, Domain.IMAGE),
        (b"\xff\xd8\xff\xe0", Domain.IMAGE),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", Domain.IMAGE),
        (WAV, Domain.AUDIO),
        (b"fLaC", Domain.AUDIO),
        (b"\x00\x00\x00\x18ftypmp42", Domain.VIDEO),
        (b"PAR1", Domain.TABULAR),
        (CSV, Domain.TABULAR),
        (b"Der Befund, wie er ist.\nNoch ein Satz", Domain.TEXT),
        (b"\x00\x01\x02\x03", None),
        (b"\xfe\xff\x00", None),
        (b"", None),
    ],
)
def test_sample_files_are_known_by_their_first_bytes(sample: bytes, domain: Domain | None) -> None:
    assert sample_domain(sample) is domain


def test_text_cut_in_the_middle_of_a_character_is_still_text() -> None:
    assert sample_domain(("ä" * 40_000).encode()[1:-1][1:]) is Domain.TEXT
