"""Characters of field names and values, and lists."""

import pytest

from asgid.worker.http.fields import CONTROL_CHARACTER, FIELD_VALUE, TOKEN, list_elements

_TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize("byte", range(256))
def test_a_token_has_the_characters_of_rfc_9110(byte):
    """Section 5.6.2."""
    assert (byte in _TCHAR) == bool(TOKEN.fullmatch(bytes([byte])))


@pytest.mark.parametrize("byte", range(256))
def test_a_value_has_no_control_character_except_the_tab(byte):
    """Section 5.5: NUL, CR and LF are invalid; the other controls are rejected as well."""
    is_control = (byte < 0x20 and byte != 0x09) or byte == 0x7F

    assert is_control == bool(CONTROL_CHARACTER.search(bytes([byte])))
    assert is_control != bool(FIELD_VALUE.fullmatch(bytes([byte])))


@pytest.mark.parametrize(
    ("value", "elements"),
    [(b"", []), (b"a", [b"a"]), (b" a ,\tb c\t", [b"a", b"b c"]), (b",, a,", [b"a"]), (b" , ", [])],
)
def test_a_list_has_no_empty_elements(value, elements):
    """Section 5.6.1.2."""
    assert elements == list_elements(value)
