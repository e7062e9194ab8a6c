"""One process at a time in a folder, however the process ends; file systems without locks are named."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from wm.store import lock

HOLD = """
import sys, time
from wm.store import lock
held = lock.hold(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_is_held_until_it_is_let_go(tmp_path):
    with lock.hold(tmp_path), pytest.raises(lock.FolderBusy, match=str(tmp_path)):
        lock.hold(tmp_path)
    lock.hold(str(tmp_path)).close()


def test_a_killed_process_lets_go(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(lock.FolderBusy):
            lock.hold(tmp_path)
        other.send_signal(signal.SIGKILL)
    lock.hold(tmp_path).close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(lock.NoLocks) as caught:
        lock.hold(tmp_path)
    assert str(caught.value) == (
        f"the file system of {tmp_path} does not lock files ({os.strerror(number)}), so two processes could "
        "write there at once: choose a folder on another one, or mount it with locks"
    )


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock.hold(tmp_path / "missing")
