"""Whether a data file has all the pages that its newest meta page counts on.

For: opening a store. LMDB reads its file as memory, so a page behind the file's end is a bus error, not an exception.
Not for: what stands on the pages (verify).
Runs in: every process that opens a store, before LMDB does.
Promises: changes nothing; refuses no sound file: LMDB leaves free pages at the end unwritten, so a file that is shorter
than its count is held against its list of free pages, and one that is written meanwhile is not judged; what is no
data file of LMDB 0.9 is left for LMDB to name.

A page begins with 16 bytes of head (its number, two unused, flags, the ends of its free space); pages 0 and 1 are the
meta pages, and the one with the higher transaction holds. All numbers are in the order of the machine.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import NamedTuple

_HEAD = 16
_META = struct.Struct("=IIQQI36xQ48xQQ")
"""Magic, version, address, map size, page size (in the record of the free list), root of the free list, last page, transaction."""
_PAGE = struct.Struct("=QHHHH")
_NODE = struct.Struct("=HHHH")
_U16 = struct.Struct("=H")
_U64 = struct.Struct("=Q")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_NO_PAGE = (1 << 64) - 1
_BRANCH, _LEAF = 1, 2
_BIG = 1
_TRIES = 5


class _Meta(NamedTuple):
    page_size: int
    free_root: int
    last_page: int
    transaction: int


class _CutShort(Exception):
    """A page of the list of free pages is not there, or not one."""


def cut_short(path: Path) -> str | None:
    """What the data file at ``path`` lacks, in words; None if nothing that LMDB may read."""
    if sys.byteorder != "little":
        return None  # halves of numbers lie the other way round within a page there
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            meta = _newest(fd)
            if meta is None:
                return None
            pages = os.fstat(fd).st_size // meta.page_size
            if meta.last_page < pages:
                return None
            lacks = not _all_free(fd, meta, pages)
            if _newest(fd) == meta:
                return f"expected {meta.last_page + 1} pages of {meta.page_size} bytes, got {pages}" if lacks else None
        return None
    finally:
        os.close(fd)


def _meta(fd: int, at: int) -> _Meta | None:
    data = os.pread(fd, _META.size, at + _HEAD)
    if len(data) < _META.size:
        return None
    magic, version, _, _, size, root, last, transaction = _META.unpack(data)
    if magic != _MAGIC or version != _VERSION or not 256 <= size <= 65536 or size & (size - 1):
        return None
    return _Meta(size, root, last, transaction)


def _newest(fd: int) -> _Meta | None:
    first = _meta(fd, 0)
    second = _meta(fd, first.page_size) if first is not None else None
    if first is None or second is None:
        return None
    return second if second.transaction > first.transaction else first


def _all_free(fd: int, meta: _Meta, pages: int) -> bool:
    """Whether every page from number ``pages`` on is in the list of free pages."""
    try:
        return len(_free_from(fd, meta, pages)) == meta.last_page + 1 - pages
    except (_CutShort, struct.error):
        return False


def _free_from(fd: int, meta: _Meta, pages: int) -> set[int]:
    """The free pages from number ``pages`` on: a tree whose values are lists, a count and so many page numbers."""
    free: set[int] = set()
    seen: set[int] = set()
    todo = [] if meta.free_root == _NO_PAGE else [meta.free_root]
    while todo:
        number = todo.pop()
        if number >= pages or number in seen:
            raise _CutShort
        seen.add(number)
        page = os.pread(fd, meta.page_size, number * meta.page_size)
        _, _, flags, lower, _ = _PAGE.unpack_from(page)
        for place in range(_HEAD, lower, 2):
            (at,) = _U16.unpack_from(page, place)
            low, high, node_flags, key_size = _NODE.unpack_from(page, at)
            if flags & _BRANCH:
                todo.append(low | high << 16 | node_flags << 32)
            elif flags & _LEAF:
                size, start = low | high << 16, at + _NODE.size + key_size
                data = page[start : start + size]
                if node_flags & _BIG:  # the list has pages of its own
                    (first,) = _U64.unpack_from(page, start)
                    data = os.pread(fd, size, first * meta.page_size + _HEAD)
                (count,) = _U64.unpack_from(data)
                numbers = struct.unpack_from(f"={count}Q", data, 8)
                free.update(each for each in numbers if pages <= each <= meta.last_page)
            else:
                raise _CutShort
    return free
