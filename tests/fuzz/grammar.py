"""Hypothesis strategies for streams: requests of the grammar of RFC 9112, with occasional faults."""

import itertools
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.mutations import INTERESTING

_METHODS = st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PATCH"])
_TARGETS = st.one_of(
    st.sampled_from([b"/", b"/a?b", b"http://a/b?c", b"HTTPS://a:1", b"//", b"/%", b"/?", b"/a;b=c"]),
    st.text("/?a%.:@=&", max_size=8).map(lambda text: b"/" + text.encode()),
)
_VERSIONS = st.sampled_from([*[b"HTTP/1.1"] * 4, b"HTTP/1.0"])
_BLANKS = st.sampled_from([b"", b" ", b" ", b" ", b"\t", b"  \t"])
_FRAMINGS = st.sampled_from([[], [(b"Content-Length", b"5")], [(b"Transfer-Encoding", b"chunked")]])
_HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                (b"Connection", b"close"),
                (b"Connection", b"keep-alive"),
                (b"Connection", b"Upgrade"),
                (b"Upgrade", b"websocket"),
                (b"Expect", b"100-continue"),
                (b"TE", b"trailers"),
                (b"Trailer", b"A"),
                (b"Keep-Alive", b"timeout=5"),
            ]
        ),
        st.tuples(st.sampled_from([b"A", b"a", b"B-c", b"Cookie"]), st.text('ab,;=" \té', max_size=6).map(str.encode)),
    ),
    max_size=4,
)
_SIZES = st.sampled_from([b"%x", b"%x", b"%X", b"00%x", b"%x;a", b"%x;a=b", b'%x;a="b"'])

# Faults by the place where they stand.
_WRONG: dict[str, st.SearchStrategy[Any]] = {
    "method": st.sampled_from([b"CONNECT", b"QUERY", b"get", b"", b"G T", b"GET\0", b"BREW"]),
    "target": st.sampled_from([b"", b"*", b"a:1", b"a", b"/a#b", b"/a b", b"/\xe9", b"/\0", b"\\", b"http://"]),
    "version": st.sampled_from([b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1", b"HTTP/1.1 ", b"", b"HTTP/11"]),
    "end": st.sampled_from([b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\n\n", b""]),
    "host": st.sampled_from([[], [(b"Host", b"a"), (b"Host", b"b")], [(b"Host", b"")], [(b"Host", b"a b")]]),
    "framing": st.sampled_from(
        [
            [(b"Content-Length", b"5"), (b"Content-Length", b"5")],
            [(b"Content-Length", b"5"), (b"Content-Length", b"6")],
            [(b"Content-Length", b"05")],
            [(b"Content-Length", b"5,5")],
            [(b"Content-Length", b"+5")],
            [(b"Content-Length", b"")],
            [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")],
            [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"5")],
            [(b"Transfer-Encoding", b"gzip, chunked")],
            [(b"Transfer-Encoding", b"gzip"), (b"Transfer-Encoding", b"chunked")],
            [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"identity")],
            [(b"transfer-encoding", b"Chunked")],
            [(b"Transfer-Encoding", b"xchunked")],
            [(b"Transfer-Encoding", b"chunked ")],
            [(b"Transfer-Encoding", b"\x0bchunked")],
            [(b"Transfer-Encoding ", b"chunked")],
        ]
    ),
    "size": st.sampled_from([b"%x ", b" %x", b"0x%x", b"+%x", b"%x_", b"%x;\r", b"%x;\n", b"1%x", b"%x\0"]),
}
_PLACES = st.sampled_from([*[""] * 10, *_WRONG])


@st.composite
def _chunked(draw: st.DrawFn, wrong: str) -> bytes:
    sizes: st.SearchStrategy[bytes] = _WRONG["size"] if wrong == "size" else _SIZES
    parts: list[bytes] = []
    for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3)):
        parts += [draw(sizes) % len(data), b"\r\n", data, b"\r\n"]
    trailers = [name + b": " + value for name, value in draw(_HEADERS)] if draw(st.booleans()) else []
    for line in (b"0", *trailers, b""):
        parts += [line, b"\r\n"]
    if wrong == "end":
        ends = [place for place, part in enumerate(parts) if part == b"\r\n"]
        parts[draw(st.sampled_from(ends))] = draw(_WRONG["end"])
    return b"".join(parts)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    wrong = draw(_PLACES)

    def of(place: str, right: st.SearchStrategy[Any]) -> Any:
        return draw(_WRONG[place] if place == wrong else right)

    line = b" ".join((of("method", _METHODS), of("target", _TARGETS), of("version", _VERSIONS)))
    framing = of("framing", _FRAMINGS)
    headers = draw(st.permutations([*of("host", st.just([(b"Host", b"a")])), *framing, *draw(_HEADERS)]))
    lines = [line, *(name + b":" + draw(_BLANKS) + value + draw(_BLANKS) for name, value in headers), b""]
    names = {name.lower() for name, _ in framing}
    is_chunked = b"transfer-encoding" in names
    odd = draw(st.integers(0, len(lines) - 1)) if wrong == "end" and not is_chunked else -1
    head = b"".join(line + (draw(_WRONG["end"]) if at == odd else b"\r\n") for at, line in enumerate(lines))
    if is_chunked:
        return head + draw(_chunked(wrong))
    return head + (b"hello" if names else b"")


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Up to four requests; one stream in four has a fault."""
    stream = b"".join(draw(st.lists(_requests(), min_size=1, max_size=4)))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(stream)))
        stream = stream[:at] + draw(st.sampled_from(INTERESTING)) + stream[at + draw(st.integers(0, 1)) :]
    return stream


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream and its pieces."""
    stream = draw(streams())
    places = sorted({0, len(stream), *draw(st.lists(st.integers(0, len(stream)), max_size=5))})
    return stream, [stream[start:end] for start, end in itertools.pairwise(places)]
