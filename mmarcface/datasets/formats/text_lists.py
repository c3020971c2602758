"""Lists in text files of any program and system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def read_lines(path: str | Path) -> list[str]:
    """All lines of a list; see :func:`iterate_lines`.

    Args:
        path: path of the file.
    """
    return list(iterate_lines(path))


def iterate_lines(path: str | Path) -> Iterator[str]:
    """The lines of a list in UTF-8, one at a time.

    A byte order mark, blanks around a line and blank lines at the end of the file are left out.
    Lines end in LF, CRLF or CR, whatever the system's locale. Blank lines before the last line are
    kept, as something may be missing there.

    Args:
        path: path of the file.

    Yields:
        Lines in their order; the first is line 1 in errors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is not UTF-8; it names file and line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} does not exist')
    blank = 0
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line:
                blank += 1
                continue
            try:
                line.isascii() or line.encode()
            except UnicodeEncodeError as error:
                # surrogateescape has made a character above 0xDC00 of the byte.
                byte = ord(line[error.start]) - 0xDC00
                raise ValueError(
                    f'{path}:{number}: a list must be text in UTF-8, got the byte {byte:#x}: save '
                    'it in this encoding'
                ) from None
            yield from [''] * blank
            blank = 0
            yield line


def split_fields(line: str, *counts: int) -> list[str]:
    """The fields of a line, which may contain blanks where tabs separate them.

    Args:
        line: line of :func:`read_lines`.
        counts: allowed numbers of fields; where tabs do not give one of these numbers, blanks of
            any kind separate the fields.
    """
    by_tabs = [field for field in map(str.strip, line.split('\t')) if field]
    return by_tabs if len(by_tabs) in counts else line.split()


def delimiter_of(header: str) -> str:
    """The delimiter of a CSV file: a comma, or a semicolon or tab in its place.

    Args:
        header: first line, with the names of the columns.
    """
    return next((delimiter for delimiter in ',;\t' if delimiter in header), ',')
