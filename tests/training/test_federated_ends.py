"""A client that is stopped, or killed, leaves nothing behind that would go on learning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOIN = """
import sys
from pathlib import Path

from whence.training.federated.plans import ClientPlan
from whence.training.federated.processes import Flower, Secured

here = Path(sys.argv[1])
plan = ClientPlan("mine", "photos", "")
Flower.find(str(here)).join(plan, folder=here / "out", server="localhost:1", secured=Secured())
"""
NODE = f"""#!{sys.executable}
import os, pathlib, time
pathlib.Path({{file!r}}).write_text(str(os.getpid()))
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_flower_started_ends_with_the_client(tmp_path: Path, number: signal.Signals) -> None:
    programs, file = tmp_path / "bin", tmp_path / "pid"
    programs.mkdir()
    (programs / "flower-superlink").touch()
    node = programs / "flower-supernode"
    node.write_text(NODE.format(file=str(file)))
    node.chmod(0o755)
    client = subprocess.Popen(
        [sys.executable, "-c", JOIN, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if file.is_file() and file.read_text():
                break
            assert client.poll() is None, client.communicate()[1]
            time.sleep(0.05)
        pid = int(file.read_text())
        assert is_running(pid)
        client.send_signal(number)
        assert client.wait(30) != 0
        for _ in range(200):
            if not is_running(pid):
                break
            time.sleep(0.05)
        assert not is_running(pid)
    finally:
        client.kill()
        client.communicate()
        if file.is_file() and is_running(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)
