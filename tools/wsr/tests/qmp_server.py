# SPDX-License-Identifier: GPL-2.0
"""A QMP server with a balloon device behind it, for testing QMP clients.

It speaks the protocol of a QEMU whose balloon device reports working sets:
one client at a time, greeting, capabilities, qom-list, qom-get, qom-set and
events. What a guest would do is set by attributes of Server.
"""
import json
import os
import socket
import threading
import time

MIB = 1 << 20
GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 11},
                                "package": ""}, "capabilities": ["oob"]}}
OFF = ("guest-working-set is not available: start QEMU with "
       "working-set-reporting=on")


class QmpError(Exception):
    """An answer that says that a command failed."""


class Server:
    """One guest. Attributes may be changed while it runs."""

    def __init__(self, path, name="testvm"):
        self.path = path
        self.name = name
        self.greeting = (json.dumps(GREETING) + "\r\n").encode()
        self.device = "/machine/peripheral/balloon0"
        self.device_type = "child<virtio-balloon-pci>"
        self.feature = "on"             # on, off, or missing
        self.active = True
        self.running = True
        self.events = True              # send BALLOON_WORKING_SET
        self.answer = True              # answer commands at all
        self.status = "ok"
        self.nodes = None               # node ids, None: one for all
        self.warming_up = False
        self.mangle = None              # changes a report before it is sent
        self.raw_after_setup = None     # bytes sent after the first request
        self.config = {"idle-age-ms": [1000, 5000, 15000, 60000, 300000,
                                       1800000],
                       "refresh-ms": 1000, "report-ms": 0}
        self.request_id = 0
        self.sequence = 0
        self.last_update = 0
        self.report = None
        self.commands = []              # (name, arguments) received
        self.connections = 0
        self.client = None
        self.lock = threading.RLock()
        self.listener = None
        self.start()

    # What the test does to the guest

    def start(self):
        """Listen, as a QEMU that was just started."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        threading.Thread(target=self._serve, args=(self.listener,),
                         daemon=True).start()

    def stop(self):
        """End, as a QEMU that was killed."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.disconnect()

    def disconnect(self):
        """Close the connection of the client, if there is one."""
        client = self.client
        if client:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def event(self, name, data=None):
        """Send an event."""
        message = {"timestamp": {"seconds": int(time.time()),
                                 "microseconds": 0}, "event": name}
        if data is not None:
            message["data"] = data
        self._send((json.dumps(message) + "\r\n").encode())

    def set_requests(self):
        """All values that guest-working-set-request-id was set to."""
        return [a["value"] for n, a in self.commands
                if n == "qom-set" and a["property"].endswith("request-id")]

    # The guest

    def make_report(self, request_id):
        """A report with sizes that depend on the sequence number."""
        self.sequence += 1
        self.last_update = int(time.time())
        self.report = {"request-id": request_id, "sequence": self.sequence,
                       "status": self.status, "nodes": []}
        if self.status == "ok":
            ids = [None] if self.nodes is None else self.nodes
            self.report["nodes"] = [self._node(i) for i in ids]
        if self.mangle:
            self.mangle(self.report)
        return self.report

    def _node(self, node_id):
        bounds = self.config["idle-age-ms"]
        bins = [{"swap-backed-bytes": (100 + 10 * i) * MIB,
                 "file-backed-bytes": (50 + 5 * i) * MIB}
                for i in range(len(bounds) + 1)]
        hot = self.sequence % len(bins)
        bins[hot]["swap-backed-bytes"] += 2000 * MIB
        for entry, bound in zip(bins, bounds):
            entry["idle-age-ms"] = bound
        used = sum(b["swap-backed-bytes"] + b["file-backed-bytes"]
                   for b in bins)
        node = {"warming-up": self.warming_up, "age-ms": 120,
                "free-bytes": 512 * MIB, "unevictable-bytes": 16 * MIB,
                "kernel-bytes": 96 * MIB, "slab-reclaimable-bytes": 24 * MIB,
                "swap-free-bytes": 1024 * MIB, "refaulted-bytes": 3 * MIB,
                "total-bytes": used + (512 + 16 + 96) * MIB, "bins": bins}
        if node_id is not None:
            node["node-id"] = node_id
        return node

    # The protocol

    def _serve(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self.client = client
            try:
                self._talk(client)
            except (OSError, ValueError):
                pass
            self.client = None
            client.close()

    def _send(self, data):
        client = self.client
        if client:
            with self.lock:
                try:
                    client.sendall(data)
                except OSError:
                    pass

    def _talk(self, client):
        if self.greeting is None:
            while client.recv(4096):
                pass
            return
        self._send(self.greeting)
        negotiated = False
        with client.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                name = message["execute"]
                arguments = message.get("arguments", {})
                self.commands.append((name, arguments))
                while not self.answer:
                    time.sleep(0.05)
                if not negotiated and name != "qmp_capabilities":
                    raise ValueError("command before qmp_capabilities")
                negotiated = True
                try:
                    answer = {"return": self._execute(name, arguments)}
                except QmpError as error:
                    answer = {"error": {"class": "GenericError",
                                        "desc": str(error)}}
                answer["id"] = message["id"]
                self._send((json.dumps(answer) + "\r\n").encode())
                self._after(name, arguments, "error" not in answer)

    def _after(self, name, arguments, done):
        """What the guest does once a command was answered."""
        if not (done and name == "qom-set" and self.request_id and
                arguments["property"].endswith("request-id")):
            return
        if self.raw_after_setup is not None:
            self._send(self.raw_after_setup)
        elif self.active and self.running:
            report = self.make_report(self.request_id)
            if self.events:
                self.event("BALLOON_WORKING_SET", report)

    def _execute(self, name, arguments):
        if name == "qmp_capabilities":
            return {}
        if name == "query-name":
            return {"name": self.name} if self.name else {}
        if name == "query-status":
            return {"running": self.running,
                    "status": "running" if self.running else "paused"}
        if name == "qom-list":
            parent = arguments["path"]
            answer = [{"name": "type", "type": "string"},
                      {"name": "net0", "type": "child<virtio-net-pci>"}]
            if self.device and os.path.dirname(self.device) == parent:
                answer.append({"name": os.path.basename(self.device),
                               "type": self.device_type})
            return answer
        if name not in ("qom-get", "qom-set"):
            raise QmpError("The command %s has not been found" % name)
        if arguments["path"] != self.device:
            raise QmpError("Device '%s' not found" % arguments["path"])
        if self.feature == "missing":
            raise QmpError("Property 'virtio-balloon-pci.%s' not found" %
                           arguments["property"])
        if self.feature == "off":
            raise QmpError(OFF)
        method = "_%s_%s" % (name.replace("-", "_"),
                             arguments["property"].replace("-", "_"))
        return getattr(self, method)(arguments.get("value"))

    def _qom_get_guest_working_set(self, _):
        answer = {"active": self.active, "last-update": self.last_update}
        if self.report:
            answer["report"] = self.report
        return answer

    def _qom_get_guest_working_set_config(self, _):
        return self.config

    def _qom_set_guest_working_set_config(self, value):
        bounds = value["idle-age-ms"]
        if not bounds or len(bounds) > 15 or bounds[0] == 0 or \
                bounds != sorted(set(bounds)):
            raise QmpError("idle-age-ms must strictly increase")
        if set(value) != set(self.config):
            raise QmpError("the whole struct is needed")
        self.config = value
        return {}

    def _qom_get_guest_working_set_request_id(self, _):
        return self.request_id

    def _qom_set_guest_working_set_request_id(self, value):
        if value and value == self.request_id:
            raise QmpError("the request id must differ from the current one")
        self.request_id = value
        return {}
