"""Text of files: encodings, HTML, PDF, and what is no text."""

import io
import sys

import pytest

from whimbrel.documents import DocumentError, Kind, kind_of
from whimbrel.documents.html_text import text_of_html
from whimbrel.documents.reading import READ_BYTES, read_text


def read(data: bytes, kind=Kind.TEXT) -> str:
    return "".join(read_text(io.BytesIO(data), kind))


def test_kinds_follow_names():
    found = [kind_of(name) for name in ("a.MD", "a.htm", "a.pdf", "a.py", "README")]
    assert found == [Kind.MARKDOWN, Kind.HTML, Kind.PDF, Kind.TEXT, Kind.TEXT]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encodings(encoding):
    assert read("Zürich € café".encode(encoding)) == "Zürich € café"


def test_a_character_may_lie_across_two_reads():
    text = "x" * (READ_BYTES - 1) + "é" * READ_BYTES
    assert read(text.encode()) == text


def test_a_stray_byte_behind_the_beginning_costs_a_character():
    text = read(b"x" * READ_BYTES + b"good \xff text")
    assert text.endswith("good \N{REPLACEMENT CHARACTER} text")


def test_what_holds_zero_bytes_is_no_text():
    with pytest.raises(DocumentError, match="no text"):
        read(b"\x89PNG\r\n\0\0")


def test_an_empty_file_has_no_text():
    assert read(b"") == ""


def test_html_is_what_a_reader_sees():
    page = """<html><head><title>No</title><style>p {}</style></head><body>
    <h1>Birds</h1><p>A <b>whim</b>brel
    flies.</p><script>alert("no")</script><h2>Food &amp; drink</h2><ul><li>Crabs<li>Worms</ul>
    <pre>a
  b</pre><!-- no --></body></html>"""
    assert text_of_html(page) == (
        "# Birds\n\nA whimbrel flies.\n\n## Food & drink\n\nCrabs\n\nWorms\n\na\n b"
    )


@pytest.mark.parametrize(
    "page", ["", "<", "<p", "</", "<!--", "<head>a<body>b", "</script>x", "a<b>c</i></b>"]
)
def test_no_html_fails(page):
    assert "head" not in text_of_html(page)


def test_a_head_that_nobody_closes_ends_with_the_body():
    assert text_of_html("<head><title>a<body>b") in ("b", "a b", "")
    assert text_of_html("<head><meta x>\n<body>b</body>") == "b"


def test_html_is_bounded(monkeypatch):
    monkeypatch.setattr("whimbrel.documents.reading.HTML_BYTES_MAX", 10)
    with pytest.raises(DocumentError, match="10 characters"):
        read(b"<p>too long</p>", Kind.HTML)


def pdf_of(text: str) -> bytes:
    """Returns a PDF of one page."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(data)
    data += b"xref\n0 7\n0000000000 65535 f \n" + table
    return data + b"trailer << /Size 7 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start


def test_pdf():
    assert read(pdf_of("The whimbrel eats crabs"), Kind.PDF).strip() == "The whimbrel eats crabs"


def test_a_damaged_pdf_is_refused():
    for damaged in (b"", b"no PDF", pdf_of("x")[:200], b"%PDF-1.4\n" + b"\0" * 100):
        with pytest.raises(DocumentError, match="PDF cannot be read"):
            read(damaged, Kind.PDF)


def test_pdf_without_the_package_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(DocumentError, match="pypdf, which is not installed") as refused:
        read(pdf_of("x"), Kind.PDF)
    assert "whimbrel[embeddings]" in refused.value.hint
