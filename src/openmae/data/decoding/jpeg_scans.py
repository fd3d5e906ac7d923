"""Check, by its markers, that a JPEG holds all of its pixels. The decoders themselves do not check this."""

from collections.abc import Iterator
from typing import NamedTuple

from openmae.data.decoding.opened import DAMAGED, BadImage

# Start-of-frame markers: 0xC0 … 0xCF without those of tables (Huffman, extension, arithmetic conditioning).
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE, ARITHMETIC = 0xC2, range(0xC9, 0xD0)
SCAN, END = b"\xff\xda", b"\xff\xd9"
COEFFICIENTS = 64


class Frame(NamedTuple):
    """A frame header: its marker, the number of components, and the position of the first scan."""

    marker: int
    components: int
    scans: int

    @property
    def progressive(self) -> bool:
        return self.marker == PROGRESSIVE


def require_all_scans(data: bytes) -> Frame:
    """The frame header; raises BadImage when pixels are missing, or when missing pixels could not be noticed."""
    frame = _frame(data)
    if frame.marker in ARITHMETIC:  # a gap decodes as zeros, like the end of the data (T.81, D.2.6)
        raise BadImage("a JPEG with arithmetic coding, in which missing data cannot be noticed")
    if frame.progressive and _lacks_scans(data, frame):
        raise BadImage(f"{DAMAGED} (scans are missing)")
    return frame


def _lacks_scans(data: bytes, frame: Frame) -> bool:
    """Whether a progressive JPEG lacks scans. Cut between two scans and given an end marker, it decodes blurred."""
    # Inside coded data these two bytes occur only as markers.
    end = data.find(END, frame.scans)
    complete: dict[int, set[int]] = {}
    place = data.find(SCAN, frame.scans, end)
    while place >= 0:
        count = int.from_bytes(data[place + 4 : place + 5])
        components = data[place + 5 : place + 5 + 2 * count : 2]
        spectrum = data[place + 5 + 2 * count : place + 8 + 2 * count]
        if len(spectrum) == 3 and spectrum[2] & 15 == 0:  # a scan with the lowest bits of these coefficients
            for component in components:
                complete.setdefault(component, set()).update(range(spectrum[0], spectrum[1] + 1))
        place = data.find(SCAN, place + 2, end)
    return len(complete) < frame.components or any(len(found) < COEFFICIENTS for found in complete.values())


def _frame(data: bytes) -> Frame:
    marker, components, start = 0, 0, len(data)
    for kind, payload, place in _segments(data):
        if kind in FRAMES:
            marker, components = kind, len(payload[6:]) // 3
        start = place
    return Frame(marker, components, start)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, payload, place) of the segments down to the header of the first scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4])
        yield marker, data[place + 4 : place + 2 + length], place
        if marker == SCAN[1]:
            return
        place += 2 + length
