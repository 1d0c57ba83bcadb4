"""JSON for what a prolog imports: a document from and to its text, by the C code that the json module has, too.

json itself imports re and enum, which together take half a bare start of Python; they serve what is not asked here.
Where a Python has no such C code, or takes other arguments for it, json does the work.
"""

from __future__ import annotations

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:
    _HAS_C_CODE = False
else:
    _HAS_C_CODE = True

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Reading:
    """What json.JSONDecoder is by default, to the C code."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def loads(data: bytes) -> Any:
    """Read a document.

    Raises:
        ValueError: it is none, or no UTF-8.
        RecursionError: it is nested too deeply.
    """
    if not _HAS_C_CODE:
        return _json().loads(data.decode())
    text = data.decode().strip(" \t\n\r")
    try:
        value, end = make_scanner(_Reading)(text, 0)  # type: ignore[arg-type]  # the stub is stricter than the code
    except StopIteration as error:
        raise ValueError(f"no JSON at character {error.value}") from None
    except (TypeError, AttributeError):
        return _json().loads(text)
    if end != len(text):
        raise ValueError(f"something follows the document at character {end}")
    return value


def dumps(value: object) -> bytes:
    """Write a document, in one line of ASCII.

    Raises:
        TypeError, ValueError: JSON has nothing for the value.
    """
    if not _HAS_C_CODE:
        return _as_json_does(value)
    try:
        write = make_encoder({}, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)
        return "".join(write(value, 0)).encode()
    except TypeError:  # of a value that has no JSON, or of arguments that are others in this Python
        return _as_json_does(value)


def _refuse(value: object) -> object:
    raise TypeError(f"JSON has nothing for a {type(value).__name__}")


def _as_json_does(value: object) -> bytes:
    text: str = _json().dumps(value)
    return text.encode()


def _json() -> Any:
    import json

    return json
