"""Answers from outside as UTF-8, however they were written: byte order marks, and charsets that a server names."""

from __future__ import annotations

import codecs
from typing import Final

#: What a text may begin with, the longest first: UTF-32's little-endian mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAX_MARK_BYTES: Final = 4
#: Python's codecs of text that are no charset.
_PYTHONS_OWN: Final = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")


class Recoder:
    """Turns a text into UTF-8 piece by piece, without its byte order mark.

    A mark says more than a name: it was written with the text. Without both it is UTF-8 and passes as it is, so that
    what reads it says what is wrong with it.

    Args:
        charset: the name that a ``Content-Type`` gives; one that nobody knows counts as none.
    """

    def __init__(self, charset: str | None = None) -> None:
        self._charset = charset
        self._begin: bytes | None = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """What ``data`` adds; the first bytes are kept back until a mark can be told from text.

        Args:
            final: nothing follows.

        Raises:
            UnicodeDecodeError: it is not of the encoding that it says it is.
        """
        if self._begin is not None:
            self._begin += data
            if len(self._begin) < _MAX_MARK_BYTES and not final:
                return b""
            data, self._begin = self._opened(self._begin), None
        if self._decoder is None:
            return data
        return self._decoder.decode(data, final).encode("utf-8", "replace")

    def _opened(self, begin: bytes) -> bytes:
        """Choose the decoder; what is left of the beginning."""
        marked = next(((mark, name) for mark, name in _MARKS if begin.startswith(mark)), None)
        mark, name = marked or (b"", _known(self._charset))
        if name not in ("utf-8", "ascii"):
            self._decoder = codecs.getincrementaldecoder(name)()
        return begin[len(mark) :]


def recoded(raw: bytes, charset: str | None = None) -> bytes:
    """A whole text as UTF-8, see :class:`Recoder`.

    Raises:
        UnicodeDecodeError: it is not of the encoding that it says it is.
    """
    return Recoder(charset).feed(raw, final=True)


def _known(charset: str | None) -> str:
    """Python's name of a charset; UTF-8's for none, and for what is no encoding of text."""
    try:
        # Refuses the codecs that are none of text: base64, zlib …
        bytes(_MAX_MARK_BYTES).decode(charset or "utf-8")
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _PYTHONS_OWN else name
