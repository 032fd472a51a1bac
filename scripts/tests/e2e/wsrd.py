# SPDX-License-Identifier: GPL-2.0
"""wsrd with real guests: memory goes from the one that does not use it to the
one that does."""

import json
import pathlib
import re
import socket
import subprocess
import tempfile

import vm
from e2e import check

MIB = 1 << 20
HOST_MIB = 600
CONFIG = """\
[host]
memory = {memory}M
control = {directory}/control
state = {directory}/state.json
pressure = off
[policy]
grace = 5s
shrink-rate = 10%
[defaults]
slo = 100%
[reports]
interval = 2s
[vm idle]
qmp = {idle}
[vm busy]
qmp = {busy}
"""


class Wsrd:
    """A running wsrd for these guests: {name: guest}"""

    def __init__(self, directory, **guests):
        self.control = pathlib.Path(directory) / "control"
        self.log = pathlib.Path(directory) / "log"
        config = pathlib.Path(directory) / "wsrd.conf"
        config.write_text(CONFIG.format(
            memory=HOST_MIB, directory=directory,
            **{name: guest.qmp_path for name, guest in guests.items()}))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [vm.OUT / "bin/wsrd", "-c", config], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        vm.wait_for(self.control.exists, 30, "wsrd")

    def vm(self, name):
        """What it says of a VM"""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.control))
            client.sendall(b'{"command": "status"}\n')
            answer = json.loads(client.makefile().readline())
        return next(each for each in answer["vms"] if each["name"] == name)

    def close(self):
        self.process.terminate()
        self.process.wait(30)


def test_memory_goes_where_it_is_used(env):
    guests = {name: env.start(name, memory="512M", swap="300M",
                              boot_timeout=300) for name in ("idle", "busy")}
    with tempfile.TemporaryDirectory(prefix="wsrd-") as directory:
        bands = [vm.Bands(guests["idle"], "", "300M:never:anon"),
                 vm.Bands(guests["busy"], "", "300M:0.5:anon")]
        wsrd = Wsrd(directory, **guests)
        try:
            def moved():
                idle, busy = (wsrd.vm(name).get("actual-bytes", 0)
                              for name in ("idle", "busy"))
                fits = idle and idle + busy <= HOST_MIB * MIB
                return busy - idle if fits and busy > idle + 64 * MIB else None
            difference = vm.wait_for(moved, 240, "memory of the idle guest")
            words = subprocess.run(
                [vm.OUT / "bin/wsrctl", "-s", wsrd.control, "explain", "idle"],
                check=True, stdout=subprocess.PIPE, text=True).stdout
            check(re.search(r"keeps what is younger than", words), words)
        finally:
            wsrd.close()
            for band in bands:
                band.quit()
        # After the end of wsrd they have what they had without it.
        for guest in guests.values():
            vm.wait_for(lambda guest=guest: guest.qmp.command(
                "query-balloon")["actual"] == 512 * MIB, 60,
                "all memory back")
    for name in guests:
        env.close_guest(name)
    return f"{difference >> 20} MiB more for the busy guest"
