# SPDX-License-Identifier: GPL-2.0
"""Many guests behind QMP sockets, for tests of wsrd: each has memory that is
hot, cold and free, and a balloon that moves at some rate.

    with Fleet(directory, 1000) as fleet:
        fleet["vm7"].stuck = True

All run in one thread. Attributes of a guest can be changed while it runs.
"""
import asyncio
import json
import os
import threading
import time

MIB = 1 << 20
GREETING = {"version": {"qemu": {"micro": 0, "minor": 2, "major": 11},
                        "package": ""}, "capabilities": ["oob"]}
DEVICE = "/machine/peripheral/balloon0"


class CommandError(Exception):
    """An answer that says that a command failed."""


class Guest:
    """One guest. Sizes are in bytes, rates in bytes per second."""

    def __init__(self, fleet, name, size=1024 * MIB):
        self.fleet = fleet
        self.name = name
        self.path = os.path.join(fleet.directory, name + ".qmp")
        self.size = size
        self.actual = size
        self.target = size
        self.rate = 512 * MIB
        self.stuck = False              # the balloon does not move
        self.silent = False             # QEMU does not answer any more
        self.feature = True             # has working set reports
        self.statistics = None          # guest-stats: {name: bytes}
        # The guest counts the balloon as its kernel's memory then.
        self.deflate_on_oom = False
        self.kernel = 32 * MIB
        self.hot = 256 * MIB            # accessed all the time
        self.cold = 512 * MIB           # not accessed for hours
        self.refaulted = 0
        self.mangle = None              # changes a report before it is sent
        self.migration = None           # status, as in query-migrate
        self.interval = None            # seconds between unasked reports
        self.bounds = [1000, 5000, 15000, 60000, 300000, 1800000]
        self.greeting = GREETING
        self.request_id = 0
        self.sequence = 0
        self.commands = []              # (time, name, arguments)
        self.connections = 0
        self.writer = None
        self.server = None
        self._balloon_task = None

    # What a test does

    def event(self, name, data=None):
        """Sends an event."""
        self.fleet.call(self._event, name, data)

    def report(self, request_id=0):
        """Sends a report that nobody asked for."""
        self.fleet.call(self._report, request_id)

    def stop(self):
        """Ends, as a QEMU that was killed."""
        self.fleet.run(self._stop())

    def start(self):
        """Starts again, with all of its memory."""
        self.actual = self.target = self.size
        self.request_id = 0
        self.sequence = 0
        self.fleet.run(self._start())

    def balloon_commands(self):
        """All targets that were asked for: (time, bytes)"""
        return [(when, arguments["value"])
                for when, name, arguments in self.commands if name == "balloon"]

    # The guest

    def free(self):
        """Memory of the guest that is neither used nor in the balloon"""
        return max(self.actual - self.kernel - self.hot - self.cold_now(), 0)

    def cold_now(self):
        """Cold memory goes when the balloon takes it."""
        return max(min(self.cold, self.actual - self.kernel - self.hot), 0)

    def make_report(self, request_id):
        """A report, as the device shows it"""
        self.sequence += 1
        bins = [{"swap-backed-bytes": 0, "file-backed-bytes": 0,
                 "idle-age-ms": bound} for bound in self.bounds]
        bins.append({"swap-backed-bytes": 0, "file-backed-bytes": 0})
        hot = min(self.hot, self.actual - self.kernel)
        kernel = self.kernel
        if self.deflate_on_oom:
            kernel += self.size - self.actual
        bins[0]["swap-backed-bytes"] = hot
        bins[-1]["file-backed-bytes"] = self.cold_now()
        node = {"warming-up": False, "age-ms": 0, "free-bytes": self.free(),
                "unevictable-bytes": 0, "kernel-bytes": kernel,
                "slab-reclaimable-bytes": 0, "swap-free-bytes": 0,
                "refaulted-bytes": self.refaulted,
                "total-bytes": kernel + hot + self.cold_now() +
                self.free(), "bins": bins}
        report = {"request-id": request_id, "sequence": self.sequence,
                  "status": "ok", "nodes": [node]}
        if self.mangle:
            self.mangle(report)
        return report

    async def _start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = await asyncio.start_unix_server(self._serve, self.path)

    async def _stop(self):
        if self.server:
            self.server.close()
            self.server = None
        if self.writer:
            self.writer.close()
        if self._balloon_task:
            self._balloon_task.cancel()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def _send(self, message):
        if self.writer and not self.writer.is_closing():
            self.writer.write(json.dumps(message).encode() + b"\r\n")

    def _event(self, name, data=None):
        message = {"timestamp": {"seconds": int(time.time()),
                                 "microseconds": 0}, "event": name}
        if data is not None:
            message["data"] = data
        self._send(message)

    def _report(self, request_id):
        self._event("BALLOON_WORKING_SET", self.make_report(request_id))

    async def _reports(self):
        while self.interval:
            await asyncio.sleep(self.interval)
            if self.request_id:
                self._report(0)

    async def _move_balloon(self):
        """The device tells of a change once in a second at most."""
        while self.actual != self.target:
            await asyncio.sleep(0.1)
            if self.stuck and self.actual > self.target:
                continue
            step = self.rate / 10
            self.actual = int(max(self.actual - step, self.target)
                              if self.actual > self.target else self.target)
            self._event("BALLOON_CHANGE", {"actual": self.actual})

    async def _serve(self, reader, writer):
        if self.writer:
            writer.close()
            return
        self.writer = writer
        self.connections += 1
        writer.write(json.dumps({"QMP": self.greeting}).encode() + b"\r\n")
        reports = asyncio.ensure_future(self._reports())
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError):
            pass
        reports.cancel()
        self.writer = None
        writer.close()

    def _take(self, message):
        name, arguments = message["execute"], message.get("arguments", {})
        self.commands.append((time.monotonic(), name, arguments))
        if self.silent:
            return
        try:
            answer = {"return": self._execute(name, arguments)}
        except CommandError as error:
            answer = {"error": {"class": "GenericError", "desc": str(error)}}
        self._send({**answer, "id": message["id"]})
        if arguments.get("property") == "guest-working-set-request-id" and \
                name == "qom-set" and self.request_id:
            self._report(self.request_id)

    def _execute(self, name, arguments):
        if name == "qmp_capabilities":
            return {}
        if name == "query-name":
            return {"name": self.name}
        if name == "query-status":
            return {"running": True, "status": "running"}
        if name == "query-memory-size-summary":
            return {"base-memory": self.size, "plugged-memory": 0}
        if name == "query-balloon":
            return {"actual": self.actual}
        if name == "query-migrate":
            return {"status": self.migration} if self.migration else {}
        if name == "balloon":
            self.target = max(min(arguments["value"], self.size), 0)
            if not self._balloon_task or self._balloon_task.done():
                self._balloon_task = asyncio.ensure_future(self._move_balloon())
            return {}
        if name == "qom-list":
            return [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}] \
                if DEVICE.startswith(arguments["path"]) else []
        return self._property(name, arguments)

    def _property(self, name, arguments):
        what = arguments.get("property", "").removeprefix("guest-working-set")
        if name not in ("qom-get", "qom-set"):
            raise CommandError(f"The command {name} has not been found")
        if self.statistics and what.startswith("guest-stats"):
            return {"stats": self.statistics, "last-update": 1}
        if what == "deflate-on-oom":
            return self.deflate_on_oom
        if not self.feature:
            raise CommandError("start QEMU with working-set-reporting=on")
        if name == "qom-get":
            return {"": lambda: {"active": True, "last-update": 0},
                    "-request-id": lambda: self.request_id,
                    "-config": lambda: {
                        "idle-age-ms": self.bounds, "refresh-ms": 1000,
                        "report-ms": 0}}[what]()
        if what == "-request-id":
            self.request_id = arguments["value"]
        elif what == "-config":
            self.bounds = arguments["value"]["idle-age-ms"]
        return {}


class Fleet:
    """Guests vm0 to vm{nr - 1}, in a thread of their own"""

    def __init__(self, directory, nr, **attributes):
        self.directory = str(directory)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever,
                                       daemon=True)
        self.thread.start()
        self.guests = {}
        for number in range(nr):
            guest = self.add(f"vm{number}", start=False)
            for name, value in attributes.items():
                setattr(guest, name, value)
            guest.actual = guest.target = guest.size
        for guest in self.guests.values():
            self.run(guest._start())

    def __getitem__(self, name):
        return self.guests[name]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, name, start=True, **attributes):
        """Another guest"""
        guest = self.guests[name] = Guest(self, name)
        for key, value in attributes.items():
            setattr(guest, key, value)
        guest.actual = guest.target = guest.size
        if start:
            self.run(guest._start())
        return guest

    def call(self, function, *arguments):
        """Calls a function in the fleet's thread."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def run(self, coroutine):
        """Waits for a coroutine in the fleet's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine,
                                                self.loop).result(30)

    def close(self):
        """Ends all guests."""
        for guest in self.guests.values():
            self.run(guest._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
