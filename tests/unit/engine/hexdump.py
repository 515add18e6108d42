"""Objects as the format pages print them: sixteen bytes a line, lines of zeros left out."""

from pathlib import Path

from tests.docs.pages import code_blocks

LINE_BYTES = 16


def dump(data: bytes) -> str:
    """Prints an object."""
    lines = []
    for start in range(0, len(data), LINE_BYTES):
        part = data[start : start + LINE_BYTES]
        if any(part):
            lines.append(f"{start:04x}  {part.hex(' ')}\n")
    return "".join(lines)


def parse(text: str) -> bytes:
    """Reads what `dump` prints."""
    data = bytearray()
    for line in text.splitlines():
        offset, _, content = line.partition("  ")
        data += bytes(int(offset, 16) - len(data)) + bytes.fromhex(content)
    return bytes(data)


def blocks_of(page: Path) -> list[bytes]:
    """Returns the objects that a page prints, in order."""
    return [parse(block.text) for block in code_blocks(page) if block.language == "hex"]
