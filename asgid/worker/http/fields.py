"""Header fields of any HTTP version: their type, the characters of names and values, and lists (RFC 9110 section 5).

The meaning of a single field belongs to its reader.
"""

import re
from typing import TypeAlias

#: A name in lower case, and its value.
Field: TypeAlias = tuple[bytes, bytes]

#: The characters of a token, for use inside the brackets of a regular expression (RFC 9110 section 5.6.2).
TOKEN_CHARACTERS = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN = re.compile(rb"[%b]+" % TOKEN_CHARACTERS)

_CONTROLS = rb"\x00-\x08\x0a-\x1f\x7f"
#: A control character other than the tab: not allowed in a value (RFC 9110 section 5.5).
CONTROL_CHARACTER = re.compile(rb"[%b]" % _CONTROLS)
FIELD_VALUE = re.compile(rb"[^%b]*" % _CONTROLS)


def list_elements(value: bytes) -> list[bytes]:
    """Return the elements of a comma-separated list without the white space around them, and without empty ones.

    RFC 9110 section 5.6.1.2 asks recipients to ignore empty elements.
    """
    return [element for part in value.split(b",") if (element := part.strip(b" \t"))]
