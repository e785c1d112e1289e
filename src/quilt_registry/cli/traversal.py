"""Traversal of directories by one system user, with POSIX access control lists (acl(5)).

`chmod o+x` would let all users reach what is below, if they know its name.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import struct
from pathlib import Path

ATTRIBUTE = "system.posix_acl_access"  # the list, in the form of linux/posix_acl_xattr.h
HEADER, ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # the version; tag, permissions, ID
VERSION = 2
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
MASKED_TAGS = (USER, GROUP_OBJ, GROUP)  # whose permissions MASK limits
NO_ID = 0xFFFFFFFF  # of the tags that are not for one user or group
EXECUTE = 1

AccessList = dict[tuple[int, int], int]  # permissions by tag and ID


def let_traverse(user: pwd.struct_passwd, directory: Path) -> None:
    """Let a user traverse, but not read, a directory and its parents. Raise OSError."""
    for each in (directory, *directory.parents):
        if not _may_traverse(user, each.stat()):
            _add_execute(each, user.pw_uid)


def _may_traverse(user: pwd.struct_passwd, directory: os.stat_result) -> bool:
    by_group = directory.st_gid == user.pw_gid and directory.st_mode & stat.S_IXGRP
    return bool(by_group or directory.st_mode & stat.S_IXOTH)


def _add_execute(directory: Path, uid: int) -> None:
    entries = _read(directory)
    mask = entries.pop((MASK, NO_ID), 0o7)
    # The mask must allow the new entry, and the entries that it limited must not gain by that.
    entries = {key: perm & mask if key[0] in MASKED_TAGS else perm for key, perm in entries.items()}
    entries[USER, uid] = entries.get((USER, uid), 0) | EXECUTE
    entries[MASK, NO_ID] = 0
    for key, perm in entries.items():
        entries[MASK, NO_ID] |= perm if key[0] in MASKED_TAGS else 0
    data = HEADER.pack(VERSION) + b"".join(ENTRY.pack(tag, entries[tag, id_], id_) for tag, id_ in sorted(entries))
    os.setxattr(directory, ATTRIBUTE, data)


def _read(directory: Path) -> AccessList:
    """Return the access control list of a directory, or that which its mode stands for."""
    with contextlib.suppress(OSError):
        data = os.getxattr(directory, ATTRIBUTE)
        return {(tag, id_): perm for tag, perm, id_ in ENTRY.iter_unpack(data[HEADER.size :])}
    mode = directory.stat().st_mode
    return {(USER_OBJ, NO_ID): mode >> 6 & 7, (GROUP_OBJ, NO_ID): mode >> 3 & 7, (OTHER, NO_ID): mode & 7}
