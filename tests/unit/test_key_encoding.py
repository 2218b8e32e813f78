"""Keys as text and as bytes: what another program wrote comes back as it was."""

from hypothesis import given
from hypothesis import strategies as st

from asyncwb.support.key_encoding import raw_of, text_of


@given(st.text())
def test_key_is_its_utf8_and_comes_back(key: str) -> None:
    assert raw_of(key) == key.encode()
    assert text_of(raw_of(key)) == key


@given(st.binary())
def test_bytes_of_any_kind_have_a_text_that_leads_back_to_them(raw: bytes) -> None:
    assert raw_of(text_of(raw)) == raw


def test_bytes_that_are_no_text_are_told_apart() -> None:
    assert text_of(b"caf\xe9") == "caf\udce9"
    assert text_of(b"caf\xe9") != text_of("café".encode())
