"""Tells whether a folder lies on a network file system, where neither mmap nor locks hold.

Read from /proc/self/mountinfo (proc(5)); where that is missing the answer is "no".
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

#: Types that another machine serves; a FUSE type is "fuse.<what>".
NETWORK_TYPES = frozenset(
    re.findall(
        r"\S+",
        "9p afs beegfs ceph cifs coda gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs "
        "panfs pvfs2 smb3 smbfs wekafs",
    )
)
_NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|s3|gcs|glusterfs|ceph|blobfuse|goofys|rclone|mount-s3|juicefs|alluxio|lustre|"
    r"davfs|curlftpfs|hdfs|cvmfs|seaweedfs|moosefs|mfs|beegfs|cpfs|afs)"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def network_type(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> Optional[str]:
    """Return the type of the network file system that a path lies (or would lie) on, else None."""
    found = file_system_type(path, mountinfo)
    if found in NETWORK_TYPES or _NETWORK_FUSE.match(found):
        return found
    return None


def file_system_type(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system a path lies on; "" where that cannot be told."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(path)
    best, found = -1, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        names = fields.split(" ")
        if len(names) < 5 or not rest:
            continue
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), names[4])
        # Of two mounts on one point the later one is on top.
        if _is_below(place, point) and len(point) >= best:
            best, found = len(point), rest.split(" ", 1)[0]
    return found


def _is_below(place: str, point: str) -> bool:
    return place == point or place.startswith(point.rstrip("/") + "/")
