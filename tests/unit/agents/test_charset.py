"""Answers of any encoding are read as UTF-8, in pieces as well as whole."""

from __future__ import annotations

import codecs

import pytest

from agents._charset import Recoder, recoded
from agents._exchange import InvalidAnswerError, StreamedParts, parts_of, text_of

TEXT = '"Grüße, 你好"'


@pytest.mark.parametrize(
    ("raw", "charset"),
    [
        (TEXT.encode(), None),
        (TEXT.encode(), "UTF-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), None),
        # The mark was written with the text, the name by somebody else.
        (codecs.BOM_UTF8 + TEXT.encode(), "iso-8859-1"),
        (TEXT.encode("utf-16"), None),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), None),
        (TEXT.encode("utf-32"), None),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("gb18030"), "GB18030"),
        # Names of no charset: Python's own codecs, and nonsense.
        *((TEXT.encode(), name) for name in ("idna", "base64", "zlib", "undefined", "no such", "x\0y", "", "mbcs")),
    ],
)
def test_what_is_read_is_the_same_whole_and_byte_by_byte(raw: bytes, charset: str | None) -> None:
    assert recoded(raw, charset).decode() == TEXT
    recoder = Recoder(charset)
    pieces = [recoder.feed(raw[n : n + 1]) for n in range(len(raw))]
    assert (b"".join(pieces) + recoder.feed(b"", final=True)).decode() == TEXT
    assert parts_of(raw, charset) == [TEXT.strip('"')]
    stream = StreamedParts("it", charset=charset)
    assert [part for n in range(len(raw)) for part in stream.feed(raw[n : n + 1])] + stream.end() == [TEXT.strip('"')]


def test_latin_text_is_what_its_server_says_it_is() -> None:
    assert text_of("Grüße ".encode("latin-1"), "iso-8859-1") == "Grüße"
    assert parts_of('{"content": "Grüße"}'.encode("latin-1"), "latin1") == parts_of('{"content": "Grüße"}'.encode())


@pytest.mark.parametrize("charset", [None, "utf-8", "ascii"])
def test_what_is_not_of_its_charset_is_refused_by_its_name(charset: str | None) -> None:
    with pytest.raises(InvalidAnswerError, match="not text in UTF-8"):
        text_of("Grüße".encode("latin-1"), charset)
    with pytest.raises(InvalidAnswerError, match="not text in UTF-16"):
        parts_of(codecs.BOM_UTF16_LE + b'"\x00x', charset)


@pytest.mark.parametrize("raw", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b"\n", codecs.BOM_UTF8 + b" \n"])
def test_nothing_says_nothing(raw: bytes) -> None:
    assert text_of(raw) == ""
    stream = StreamedParts("it")
    assert stream.feed(raw) + stream.end() == []


@pytest.mark.parametrize("text", ["a", "ab", "é", '"x"'])
def test_a_text_shorter_than_a_mark_is_whole(text: str) -> None:
    recoder = Recoder()
    assert recoder.feed(text.encode()) + recoder.feed(b"", final=True) == text.encode()
