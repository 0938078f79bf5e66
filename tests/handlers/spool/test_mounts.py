"""Network file systems are recognised by what the kernel says of the mounts."""

from pathlib import Path

import pytest

from loghaul.spool.mounts import file_system_type, network_type

MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /home rw - nfs4 server:/home rw
31 30 0:27 / /home/local\040disk rw - xfs /dev/sdb rw
32 22 0:28 / /data rw - fuse.sshfs host:/ rw
33 22 0:29 / /bucket rw shared:4 master:2 - fuse.s3fs s3fs rw
34 22 0:30 / /mnt rw - ext4 /dev/sdc rw
35 34 0:31 / /mnt rw - lustre mgs:/ rw
36 22 0:32 / /fuse rw - fuse.bindfs x rw
a line that is not one
"""


@pytest.fixture
def mountinfo(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/", None),
        ("/homeless", None),
        ("/home", "nfs4"),
        ("/home/user/not/there", "nfs4"),
        ("/home/local disk/spool", None),
        ("/data/x", "fuse.sshfs"),
        ("/bucket/x", "fuse.s3fs"),
        ("/mnt/x", "lustre"),
        ("/fuse/x", None),
    ],
)
def test_the_innermost_mount_decides(mountinfo, place, expected):
    assert network_type(Path(place), mountinfo) == expected


def test_a_link_is_followed(mountinfo, tmp_path):
    (tmp_path / "link").symlink_to("/home/user")
    assert network_type(tmp_path / "link" / "spool", mountinfo) == "nfs4"


def test_without_the_kernels_word_nothing_is_a_network(tmp_path):
    assert network_type(tmp_path, tmp_path / "none") is None
    assert file_system_type(tmp_path, tmp_path / "none") == ""


def test_the_temporary_folder_of_this_machine_is_known(tmp_path):
    if Path("/proc/self/mountinfo").exists():
        assert file_system_type(tmp_path) != ""
