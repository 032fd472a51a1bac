#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Test wsrtop against QMP servers with scripted guests. Prints TAP.

Usage: test_wsrtop.py WSRTOP [PATTERN]
"""
import copy
import fcntl
import json
import os
import pathlib
import pty
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

import test_wsrd
from fleet import MIB
from qmp_server import QmpError, Server

WSRTOP = None
# Far above what is needed, for slow machines and sanitizers.
PATIENCE_S = 30
UTF8 = "C.UTF-8"
# What wsrd says of one VM
STATUS = {
    "host": {"total-bytes": 2 << 30, "other-bytes": 0, "buffer-bytes": 1 << 26,
             "capacity-bytes": 1 << 30, "reclaimable-bytes": 0,
             "deficit-bytes": 1 << 20, "cut-age-s": 12.5, "dry-run": True},
    "vms": [{"name": "vm0", "state": "reporting", "why": "", "error": "",
             "size-bytes": 1 << 30, "actual-bytes": 1 << 29,
             "target-bytes": 1 << 29, "desired-bytes": 1 << 29,
             "reason": "at-min", "hold": "rate", "source": "guest",
             "report-age-s": 1.5, "working-set-bytes": 1 << 28,
             "free-bytes": 0, "cut-age-s": 7.5, "refault-bytes-per-s": 1e6,
             "bins": [{"idle-age-ms": 5000, "swap-backed-bytes": 1 << 28,
                       "file-backed-bytes": 0},
                      {"swap-backed-bytes": 0, "file-backed-bytes": 1 << 20}]}],
}


def environment(locale):
    """Our environment with a locale and a terminal that is known."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("LC_") and k not in ("LANG", "COLUMNS")}
    here = os.path.dirname(os.path.abspath(__file__))
    env.update(LC_ALL=locale, TERM="xterm-256color",
               LSAN_OPTIONS="print_suppressions=0:suppressions=" +
               os.path.join(here, "lsan.supp"))
    return env


class Case(unittest.TestCase):
    """A directory for sockets, and ways to run wsrtop."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="wsrtop")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name

    def path(self, name="vm.sock"):
        return os.path.join(self.dir, name)

    def server(self, file="vm.sock", /, **attributes):
        server = Server(self.path(file), attributes.pop("name", "testvm"))
        for key, value in attributes.items():
            setattr(server, key, value)
        self.addCleanup(server.stop)
        return server

    def start(self, *args, locale=UTF8, **kwargs):
        child = subprocess.Popen([WSRTOP, *args], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE,
                                 env=environment(locale), **kwargs)
        self.addCleanup(self.reap, child)
        return child

    @staticmethod
    def reap(child):
        if child.poll() is None:
            child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()

    def run_it(self, *args, status=0, locale=UTF8):
        """Run to the end. Return what was printed."""
        child = self.start(*args, locale=locale)
        out, err = child.communicate(timeout=PATIENCE_S)
        self.assertEqual(child.returncode, status, err.decode())
        # A sanitizer's finding must not hide behind an expected status.
        self.assertNotIn(b"Sanitizer", err)
        self.assertNotIn(b"runtime error", err)
        return out.decode(), err.decode()

    def once(self, *args, **kwargs):
        return self.run_it("--once", *args, **kwargs)

    def fails(self, words, *args, timeout="20s"):
        """Run with --once: status 1, these words, nothing on stdout."""
        out, err = self.once("--timeout", timeout, *args, status=1)
        self.assertEqual(out, "")
        self.assertIn(words, err)
        return err

    def wait_for(self, what):
        end = time.monotonic() + PATIENCE_S
        while not what():
            self.assertLess(time.monotonic(), end, "it did not happen")
            time.sleep(0.02)


    def read_pipes(self, child, word):
        end = time.monotonic() + PATIENCE_S
        text = b""
        while word.encode() not in text:
            self.assertLess(time.monotonic(), end, text.decode())
            ready, _, _ = select.select([child.stdout, child.stderr], [], [],
                                        0.5)
            for stream in ready:
                data = os.read(stream.fileno(), 65536)
                self.assertTrue(data, "it ended: " + text.decode())
                text += data
        return text.decode()

    def end(self, child, number=signal.SIGTERM):
        child.send_signal(number)
        out, err = child.communicate(timeout=PATIENCE_S)
        self.assertEqual(child.returncode, 0, err.decode())
        return out.decode()


class CommandLine(Case):
    def test_help(self):
        out, _ = self.run_it("--help")
        for word in ("Usage:", "working-set-reporting=on", "--bounds",
                     "--once", "--json", "--no-set", "--socket", "Exit status", "Keys"):
            self.assertIn(word, out)
        self.assertLessEqual(max(len(x) for x in out.splitlines()), 80)

    def test_version(self):
        self.assertRegex(self.run_it("--version")[0], r"^wsrtop \d")

    def test_wrong(self):
        for args, words in (
                (("--socket", "x", "y"), "--socket"),
                (("--no-set",), "QMP sockets"),
                (("--leave-on", "--refresh", "1s"), "QMP sockets"),
                (("--nonsense", "x"), "--help"),
                (("--bounds", "5s,1s", "x"), "not above"),
                (("--bounds", "1s,1s", "x"), "not above"),
                (("--bounds", "0", "x"), "at least"),
                (("--bounds", "1s,,2s", "x"), "not a time"),
                (("--bounds", "1d", "x"), "not a time"),
                (("--bounds", "2000h", "x"), "not a time"),
                (("--bounds", ",".join(str(i) for i in range(1, 17)), "x"),
                 "at most 15"),
                (("--interval", "1ms", "x"), "at least 100 ms"),
                (("--interval", "-1", "x"), "not a time"),
                (("--timeout", "1.0001s", "x"), "not a time"),
                (("--count", "0", "x"), "above 0"),
                (("--count", "-1", "x"), "above 0"),
                (("--once", "--count", "2", "x"), "--count 1"),
                (("--no-set", "--bounds", "1s", "x"), "--no-set"),
                (("x" * 200,), "shorter"),
                (("",), "shorter"),
                (("no.such.host.invalid:4444",), "resolved")):
            with self.subTest(args=args):
                _, err = self.run_it(*args, status=2)
                self.assertIn(words, err)


class Once(Case):
    def test_plain(self):
        server = self.server()
        out, err = self.once(server.path)
        self.assertEqual(err, "")
        for word in ("testvm: reporting", "total 3.90 GiB", "free 512 MiB",
                     "unevictable 16.0 MiB", "kernel 96.0 MiB",
                     "reclaimable slab 24.0 MiB", "swap free 1.00 GiB",
                     "15s - 1m", "idle >= 30m: 240 MiB", "swap-backed",
                     "file-backed", "(requested)", "█", "▒"):
            self.assertIn(word, out)
        self.assertNotIn("\x1b", out)
        self.assertNotIn("warming up", out)
        self.assertLessEqual(max(len(x) for x in out.splitlines()), 80)

    def test_ascii(self):
        out, _ = self.once(self.server(name="b\u00fcro").path, locale="C")
        self.assertTrue(out.isascii())
        self.assertIn("#", out)
        self.assertIn("b\\xc3\\xbcro", out)

    def test_stops_reports(self):
        server = self.server()
        self.once(server.path)
        requests = server.set_requests()
        self.assertEqual(len(requests), 2)
        self.assertNotEqual(requests[0], 0)
        self.assertEqual(requests[1], 0)

    def test_exit_as_found(self):
        for option, found, stopped in (
                (None, 7, False), (None, 0, True),
                ("--stop-on-exit", 7, True), ("--leave-on", 0, False)):
            with self.subTest(option=option, found=found):
                server = self.server("%s%d.sock" % (option, found),
                                     request_id=found)
                self.once(*([option] if option else []), server.path)
                self.assertEqual(server.request_id == 0, stopped)

    def test_config(self):
        server = self.server()
        out, _ = self.once("--bounds", "500ms,2s,1.5m,1h", "--refresh", "3s",
                           "--report", "1m", server.path)
        self.assertEqual(server.config, {
            "idle-age-ms": [500, 2000, 90000, 3600000],
            "refresh-ms": 3000, "report-ms": 60000})
        self.assertIn("< 500ms", out)
        self.assertIn("2s - 90s", out)
        self.assertIn(">= 1h", out)

    def test_config_refused(self):
        server = self.server()
        server.config["something-new"] = 1
        self.once("--bounds", "1s", server.path)
        self.assertEqual(server.config["something-new"], 1)

        def refuse(_):
            raise QmpError("no more than 3 bounds, please")
        setattr(server, "_qom_set_guest_working_set_config", refuse)
        self.fails("no more than 3 bounds", "--bounds", "1s", server.path)

    def test_config_untouched(self):
        server = self.server()
        self.once(server.path)
        self.assertNotIn("guest-working-set-config",
                         json.dumps(server.commands))

    def test_without_events(self):
        server = self.server(events=False)
        out, _ = self.once(server.path)
        self.assertIn("(requested)", out)

    def test_old_report_is_no_answer(self):
        server = self.server()
        server.make_report(3)
        server.running = False
        self.fails("paused", server.path, timeout="2s")

    def test_tcp(self):
        server = self.server()
        relay = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(relay.close)

        def serve():
            client, _ = relay.accept()
            server.client = client
            try:
                server._talk(client)
            except OSError:
                pass
            client.close()
        threading.Thread(target=serve, daemon=True).start()
        # This name may have an IPv6 address, too, which refuses.
        out, _ = self.once("localhost:%d" % relay.getsockname()[1])
        self.assertIn("testvm: reporting", out)

    def test_names(self):
        server = self.server("web.sock", name=None)
        self.assertIn("web: ", self.once(server.path)[0])
        self.assertIn("db: ", self.once("db=" + server.path)[0])
        server.name = "real"
        self.assertIn("real: ", self.once(server.path)[0])
        self.assertIn("db: ", self.once("db=" + server.path)[0])

    def test_nodes(self):
        server = self.server(nodes=[0, 2])
        out, _ = self.once(server.path)
        self.assertIn("node 0: total 3.90 GiB", out)
        self.assertIn("node 2: total 3.90 GiB", out)
        self.assertIn("total 7.79 GiB", out)
        self.assertIn("swap free 1.00 GiB", out)

    def test_warming_up(self):
        out, _ = self.once(self.server(warming_up=True).path)
        self.assertIn("reporting, warming up", out)
        self.assertIn("estimates", out)


class Json(Case):
    def test_once(self):
        server = self.server(nodes=[0, 1], warming_up=True)
        out, _ = self.once("--json", server.path)
        self.assertEqual(out.count("\n"), 1)
        line = json.loads(out)
        self.assertEqual(line["guest"], "testvm")
        self.assertEqual(line["socket"], server.path)
        self.assertLess(abs(line["time-ms"] / 1000 - time.time()), PATIENCE_S)
        self.assertEqual(line["report"], server.report)

    def test_count(self):
        server = self.server()
        out, _ = self.run_it("--json", "--count", "3", "--interval", "200ms",
                             server.path)
        reports = [json.loads(x)["report"] for x in out.splitlines()]
        self.assertEqual([r["sequence"] for r in reports], [1, 2, 3])
        self.assertEqual(len({r["request-id"] for r in reports}), 3)

    def test_large_numbers(self):
        def mangle(report):
            for entry in report["nodes"][0]["bins"]:
                entry["swap-backed-bytes"] = 0
                entry["file-backed-bytes"] = 0
            report["nodes"][0]["bins"][0]["file-backed-bytes"] = 2 ** 64 - 2
            report["sequence"] = 2 ** 64 - 2
        server = self.server(mangle=mangle)
        out, _ = self.once("--json", server.path)
        self.assertEqual(json.loads(out)["report"], server.report)
        out, _ = self.once(server.path)
        self.assertIn("16.0 EiB", out)


class Live(Case):
    """Plain text without a limit, until it is told to end."""

    def test_heatmap_at_the_end(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=number):
                server = self.server("vm%d.sock" % number)
                child = self.start("--interval", "100ms", server.path)
                self.wait_for(lambda: len(server.set_requests()) > 3)
                out = self.end(child, number)
                self.assertRegex(out, r"testvm: last \d+ reports, from ")
                self.assertIn("share of LRU memory:", out)
                self.assertEqual(server.request_id, 0)

    def test_reader_goes_away(self):
        server = self.server()
        child = self.start("--interval", "100ms", server.path)
        self.read_pipes(child, "reporting")
        child.stdout.close()
        self.assertEqual(child.wait(PATIENCE_S), 0)
        self.assertEqual(server.request_id, 0)
        child.stdout = open(os.devnull, "rb")

    def test_lost_and_back(self):
        server = self.server()
        child = self.start("--json", "--interval", "200ms", server.path)
        self.read_pipes(child, '"sequence":2')
        server.stop()
        self.read_pipes(child, "connection lost")
        server.start()
        server.request_id = 0
        server.sequence = 0
        self.read_pipes(child, '"sequence":1,')
        self.end(child)
        self.assertEqual(server.request_id, 0)

    def test_appears_later(self):
        child = self.start("--json", self.path())
        self.read_pipes(child, "does not exist")
        server = self.server()
        self.read_pipes(child, '"sequence":1')
        self.end(child)
        self.assertEqual(server.request_id, 0)

    def test_reboot(self):
        server = self.server()
        child = self.start("--interval", "200ms", server.path)
        self.read_pipes(child, "report 2 ")
        server.active = False
        server.event("RESET", {"guest": True, "reason": "guest-reset"})
        self.read_pipes(child, "the guest was reset")
        server.sequence = 0
        server.active = True
        self.read_pipes(child, "report 1 ")
        self.end(child)

    def test_shut_down(self):
        server = self.server()
        child = self.start("--interval", "200ms", server.path)
        self.read_pipes(child, "report 1 ")
        server.event("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
        self.read_pipes(child, "the guest has shut down")
        self.end(child)

    def test_paused(self):
        server = self.server()
        child = self.start("--interval", "200ms", server.path)
        self.read_pipes(child, "report 1 ")
        server.running = False
        server.event("STOP")
        self.read_pipes(child, "the guest is paused")
        server.running = True
        server.event("RESUME")
        self.read_pipes(child, "report ")
        self.end(child)

    def test_overtaken_status(self):
        """Through wsr-libvirt, an event may come before an older answer."""
        server = self.server()
        execute = server._execute

        def overtaken(name, arguments):
            if name == "query-status":
                server.event("RESUME")
                return {"running": False, "status": "paused"}
            return execute(name, arguments)
        server._execute = overtaken
        child = self.start("--interval", "200ms", server.path)
        self.assertNotIn("paused", self.read_pipes(child, "report 2 "))
        self.end(child)

    def test_unsolicited(self):
        server = self.server()
        child = self.start("--interval", "1h", server.path)
        self.read_pipes(child, "report 1 (requested)")
        server.event("BALLOON_WORKING_SET", server.make_report(0))
        self.read_pipes(child, "report 2 (unsolicited)")
        # The same report again, as after a reset of the monitor.
        server.event("BALLOON_WORKING_SET", server.report)
        server.event("BALLOON_WORKING_SET", server.make_report(0))
        text = self.read_pipes(child, "report 3 (unsolicited)")
        self.assertNotIn("report 2 ", text)
        self.end(child)

    def test_unplugged_and_plugged(self):
        server = self.server()
        child = self.start("--interval", "200ms", server.path)
        self.read_pipes(child, "report 1 ")
        device, server.device = server.device, None
        server.events = False
        self.read_pipes(child, "no balloon device")
        server.device = device
        server.events = True
        self.read_pipes(child, "reporting")
        self.end(child)

    def test_no_set(self):
        server = self.server(request_id=5)
        server.make_report(5)
        child = self.start("--no-set", "--interval", "200ms", server.path)
        self.read_pipes(child, "report 1 ")
        server.event("BALLOON_WORKING_SET", server.make_report(0))
        self.read_pipes(child, "report 2 ")
        server.make_report(5)
        self.read_pipes(child, "report 3 ")
        self.end(child)
        self.assertNotIn("qom-set", json.dumps(server.commands))

    def test_bounds_change(self):
        """The heatmap starts anew: its rows mean something else."""
        server = self.server()
        child = self.start("--interval", "200ms", server.path)
        self.read_pipes(child, "report 3 ")
        server.config = dict(server.config, **{"idle-age-ms": [7000]})
        self.read_pipes(child, "idle >= 7s")
        self.wait_for(lambda: server.sequence > 6)
        out = self.end(child)
        heatmap = out[out.index(": last "):]
        self.assertIn(">= 7s", heatmap)
        self.assertNotIn("30m", heatmap)


class Trouble(Case):
    def test_no_socket(self):
        err = self.fails("does not exist: is the guest running", self.path(),
                         timeout="1h")
        self.assertIn(self.path(), err)

    def test_nobody_listens(self):
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(self.path())
            self.fails("nobody listens", self.path())

    def test_no_socket_but_a_file(self):
        with open(self.path(), "w", encoding="ascii"):
            pass
        self.fails("not a socket", self.path())

    def test_port_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        self.fails("nobody listens", "localhost:%d" % port)

    def test_property_off(self):
        self.fails("start QEMU with -device virtio-balloon-pci,"
                   "working-set-reporting=on",
                   self.server(feature="off").path)

    def test_old_qemu(self):
        self.fails("This QEMU has no working set reporting",
                   self.server(feature="missing").path)

    def test_no_device(self):
        self.fails("no balloon device", self.server(device=None).path)

    def test_device_places(self):
        for device, kind, args in (
                ("/machine/peripheral-anon/device[1]",
                 "virtio-balloon-pci", ()),
                ("/machine/peripheral/b/virtio-backend", "x",
                 ("--device", "/machine/peripheral/b")),
                ("/machine/elsewhere/b", "x",
                 ("--device", "/machine/elsewhere/b"))):
            with self.subTest(device=device):
                server = self.server(device=device,
                                     device_type="child<%s>" % kind)
                if device.endswith("backend"):
                    execute = server._execute

                    def proxy(name, arguments, execute=execute):
                        if arguments.get("path") == "/machine/peripheral/b":
                            raise QmpError("Property 'ccw.%s' not found" %
                                           arguments["property"])
                        return execute(name, arguments)
                    server._execute = proxy
                self.once(*args, server.path)
                server.stop()

    def test_wrong_device(self):
        self.fails("no usable device at /machine/nowhere", "--device",
                   "/machine/nowhere", self.server().path)

    def test_inactive(self):
        err = self.fails("CONFIG_VIRTIO_BALLOON_WSR",
                         self.server(active=False).path, timeout="2s")
        self.assertIn("no report within 2s", err)

    def test_active_later(self):
        server = self.server(active=False)
        child = self.start("--once", "--timeout", "25s", server.path)
        self.wait_for(server.set_requests)
        server.active = True
        # The driver takes the id that it finds for a request.
        server.make_report(server.request_id)
        out, err = child.communicate(timeout=PATIENCE_S)
        self.assertEqual(child.returncode, 0, err)
        self.assertIn(b"reporting", out)

    def test_unsupported(self):
        self.fails("does not accept the bounds",
                   self.server(status="unsupported").path)

    def test_try_later(self):
        server = self.server(status="try-later")
        self.fails("no data yet", server.path, timeout="2s")
        server.sequence = 0
        child = self.start("--once", "--json", "-i", "200ms", server.path)
        self.wait_for(lambda: server.sequence > 1)
        server.status = "ok"
        out, _ = child.communicate(timeout=PATIENCE_S)
        self.assertEqual(child.returncode, 0)
        last = json.loads(out.splitlines()[-1])["report"]
        self.assertEqual(last["status"], "ok")

    def test_event_before_greeting(self):
        server = self.server()
        server.greeting = b'{"event": "RESUME"}\r\n' + server.greeting
        out, _ = self.once("--json", server.path)
        self.assertEqual(json.loads(out)["report"], server.report)

    def test_no_greeting(self):
        self.fails("another client", self.server(greeting=None).path,
                   timeout="2s")

    def test_second_client(self):
        """As QEMU does it: the second client is connected but not served."""
        server = self.server()
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(server.path)
            first.recv(100)
            self.fails("another client", server.path, timeout="2s")

    def test_full_queue(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path())
            listener.listen(0)
            with socket.socket(socket.AF_UNIX) as waiting:
                waiting.connect(self.path())
                self.fails("another client", self.path(), timeout="2s")

    def test_not_qmp(self):
        for greeting, words in (
                (b"\x00\xff\x1b[31mgarbage\n", "not JSON"),
                (b"login: \r\n", "not JSON"),
                (b"[1, 2]\n", "not JSON"),
                (b"[" * 5000 + b"\n", "not JSON"),
                (b"{\"QMP\": \n", "not JSON"),
                (b"{\"return\": {}}\n", "greeting is missing"),
                (b"QEMU 11.2.0 monitor - type 'help'\r\n(qemu) ",
                 "monitor for people"),
                (b"x" * (3 << 20), "longer than 1 MiB"),
                (b"x" * (3 << 20) + b"\n", "longer than 1 MiB")):
            with self.subTest(greeting=greeting[:30]):
                server = self.server("vm%d.sock" % hash(greeting[:30]),
                                     greeting=greeting)
                self.fails(words, server.path)

    def test_garbage_later(self):
        for garbage, words in ((b"garbage\n", "not JSON"),
                               (b"{\"x\": 1}\n", "neither an answer"),
                               (b" " * (2 << 20), "longer than 1 MiB")):
            with self.subTest(garbage=garbage[:10]):
                server = self.server("vm%d.sock" % len(garbage),
                                     raw_after_setup=garbage)
                self.fails(words, server.path)

    def test_senseless_reports(self):
        def node(report):
            return report["nodes"][0]

        def bins(report):
            return node(report)["bins"]

        changes = {
            "no status": lambda r: r.pop("status"),
            "new status": lambda r: r.update(status="perhaps"),
            "no nodes": lambda r: r.pop("nodes"),
            "empty nodes": lambda r: r.update(nodes=[]),
            "nodes no list": lambda r: r.update(nodes={}),
            "node no object": lambda r: r.update(nodes=[7]),
            "node null": lambda r: r.update(nodes=[None]),
            "too many nodes": lambda r: r.update(nodes=r["nodes"] * 65),
            "large id": lambda r: r.update({"request-id": 1 << 32}),
            "negative": lambda r: node(r).update({"total-bytes": -1}),
            "text": lambda r: node(r).update({"free-bytes": "12"}),
            "fraction": lambda r: node(r).update({"free-bytes": 1.5}),
            "huge": lambda r: node(r).update({"free-bytes": 1 << 64}),
            "no age": lambda r: node(r).pop("age-ms"),
            "flag": lambda r: node(r).update({"warming-up": 1}),
            "node id": lambda r: node(r).update({"node-id": 65536}),
            "one bin": lambda r: node(r).update(bins=bins(r)[-1:]),
            "17 bins": lambda r: node(r).update(bins=bins(r) * 3),
            "no bound": lambda r: bins(r)[0].pop("idle-age-ms"),
            "bound 0": lambda r: bins(r)[0].update({"idle-age-ms": 0}),
            "bounds fall": lambda r: bins(r)[1].update({"idle-age-ms": 9}),
            "sum of bins": lambda r: [b.update({"swap-backed-bytes": 1 << 63})
                                      for b in bins(r)],
            "sum of nodes": lambda r: (
                node(r).update({"total-bytes": 1 << 63}),
                r.update(nodes=r["nodes"] * 2)),
            "different bins": lambda r: r["nodes"].append(
                dict(node(r), bins=bins(r)[2:])),
        }
        servers = {}
        for name, change in changes.items():
            path = name.replace(" ", "-") + ".sock"
            servers[name] = self.server(path, mangle=change, name=None)
        # One run for all, which also shows that they do not disturb a guest.
        good = self.server("good.sock", name="good")
        out, err = self.once("--timeout", "6s", good.path,
                             *(s.path for s in servers.values()), status=1)
        reporting = [x.split(":")[0] for x in out.splitlines()
                     if ": reporting" in x]
        self.assertEqual(reporting, ["good"])
        for name, server in servers.items():
            with self.subTest(change=name):
                self.assertRegex(err, r"%s \(.*\): .*the report makes no sense"
                                 % name.replace(" ", "-"))
                self.assertEqual(server.request_id, 0)

    def test_random_damage(self):
        """Reports in which random values were replaced, always the same."""
        random_ = random.Random(1)
        values = (None, True, -1, 0, 1 << 63, 1 << 64, 1e308, "", "ok", "x" *
                  5000, [], {}, [[]], [None] * 20, {"bins": 1})

        def damage(thing):
            keys = list(thing if isinstance(thing, dict)
                        else range(len(thing)))
            key = random_.choice(keys) if keys else None
            if key is None:
                return
            if isinstance(thing[key], (dict, list)) and random_.random() < .8:
                damage(thing[key])
            elif random_.random() < .2:
                del thing[key]
            else:
                thing[key] = copy.deepcopy(random_.choice(values))

        server = self.server(active=False, nodes=[0, 1, 2])
        child = self.start("--once", "--timeout", "25s", "--json",
                           "--interval", "1h", server.path)
        self.wait_for(server.set_requests)
        for _ in range(1000):
            report = server.make_report(7)
            # Never complete, whatever the damage is.
            server.report = None
            for node in report["nodes"]:
                del node["bins"][0]["idle-age-ms"]
            damage(report)
            damage(report)
            report["status"] = random_.choice(("ok", "ok", None, "try-later"))
            server.event("BALLOON_WORKING_SET", report)
        for name in ("STOP", "RESET", "SHUTDOWN", "X" * 1000, "RESUME"):
            server.event(name, random_.choice(values))
        server.active = True
        server.event("BALLOON_WORKING_SET", server.make_report(0))
        out, err = child.communicate(timeout=PATIENCE_S)
        self.assertEqual(child.returncode, 0, err)
        last = json.loads(out.splitlines()[-1])["report"]
        self.assertEqual(last, server.report)

    def test_control_characters(self):
        def unfriendly(_):
            raise QmpError("\x1b]0;owned\x07 \u202etxet \u0301")
        server = self.server(name="vm\x1b[2J\n\u202ee\u00e9")
        out, _ = self.once(server.path)
        self.assertIn("vm\\x1b[2J\\x0a\\xe2\\x80\\xaee\u00e9: ", out)
        setattr(server, "_qom_set_guest_working_set_config", unfriendly)
        err = self.fails("\\x1b]0;owned\\x07", "--bounds", "1s", server.path)
        self.assertNotIn("\x1b", err)
        self.assertNotIn("\u202e", err)

    def test_hung_guest_delays_nobody(self):
        hung = self.server("hung.sock", greeting=None)
        silent = self.server("silent.sock", answer=False)
        good = self.server("good.sock", name="good")
        child = self.start("--once", "--timeout", "8s", hung.path,
                           silent.path, good.path)
        begin = time.monotonic()
        line = child.stdout.readline()
        self.assertLess(time.monotonic() - begin, 6)
        self.assertIn(b"good: reporting", line)
        _, err = child.communicate(timeout=PATIENCE_S)
        silent.answer = True
        self.assertEqual(child.returncode, 1)
        self.assertRegex(err.decode(), r"hung .*another client")
        self.assertRegex(err.decode(), r"silent .*no report within 8s")
        self.assertEqual(good.request_id, 0)

    def test_qemu_hangs(self):
        server = self.server()
        child = self.start("--once", "--timeout", "12s", "--no-set",
                           server.path)
        self.wait_for(lambda: len(server.commands) > 5)
        server.answer = False
        _, err = child.communicate(timeout=PATIENCE_S)
        server.answer = True
        self.assertEqual(child.returncode, 1)
        self.assertIn(b"QEMU has not answered", err)


class Terminal(Case):
    """A pseudo terminal, and what one does there."""

    def setUp(self):
        super().setUp()
        self.text = ""
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        self.before = termios.tcgetattr(self.slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))

    def open(self, *args, locale=UTF8, term="xterm-256color"):
        env = environment(locale)
        env["TERM"] = term

        def lead():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.child = subprocess.Popen(
            [WSRTOP, *args], stdin=self.slave, stdout=self.slave,
            stderr=self.slave, env=env, preexec_fn=lead)
        self.addCleanup(self.kill)

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def read(self, seconds):
        """What is drawn within this time."""
        text = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self.master], [], [], 0.05)
            if ready:
                text += os.read(self.master, 65536)
        return text.decode(errors="replace")

    def read_until(self, word):
        """Curses draws only what has changed, which may cut a word in two:
        asks for the whole screen (^L) now and then."""
        text = ""
        start = time.monotonic()
        whole = start + 1
        while word not in text:
            now = time.monotonic()
            self.assertLess(now, start + PATIENCE_S,
                            "no %r in %r" % (word, text[-500:]))
            if now > whole:
                self.type(b"\x0c")
                whole = now + 1
            text += self.read(0.1)
        return text

    def type(self, keys):
        os.write(self.master, keys)

    def ended_well(self):
        text = ""
        end = time.monotonic() + PATIENCE_S
        while self.child.poll() is None and time.monotonic() < end:
            text += self.read(0.1)
        text += self.read(0.2)
        self.assertEqual(self.child.returncode, 0, text)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
        # Out of the alternate screen, cursor visible.
        self.assertIn("\x1b[?1049l", text)
        self.assertRegex(text, r"\x1b\[\?(12;|12l\x1b\[\?)?25h")


class Screen(Terminal):
    """The full screen, of guests"""

    def test_resize_and_quit(self):
        server = self.server()
        self.resize(30, 38)
        self.open("--interval", "300ms", server.path)
        text = self.read_until("30m")
        self.assertNotIn("idle for longer", text)
        self.resize(40, 100)
        self.read_until("idle for longer")
        for rows, columns in ((5, 10), (1, 1), (2, 300)):
            self.resize(rows, columns)
            self.read(0.5)
            self.assertIsNone(self.child.poll())
        self.resize(24, 80)
        self.read_until("idle for longer")
        self.type(b"q")
        self.ended_well()
        self.assertEqual(server.request_id, 0)

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=number):
                server = self.server("vm%d.sock" % number)
                self.resize(30, 80)
                self.open(server.path)
                self.read_until("idle for longer")
                self.child.send_signal(number)
                self.ended_well()
                self.assertEqual(server.request_id, 0)

    def test_keys(self):
        one = self.server("one.sock", name="one")
        self.server("two.sock", name="two", feature="off")
        self.resize(50, 100)
        self.open("--interval", "200ms", one.path, self.path("two.sock"))
        text = self.read_until("switched off")
        self.assertNotIn("start QEMU with", text)
        self.type(b"\t")
        self.read_until("start QEMU with")
        self.type(b"\x1bOA")
        self.read_until("idle for longer")
        self.type(b"?")
        self.read_until("anonymous and shared memory")
        self.type(b"?")
        self.read_until("idle for longer")
        self.type(b"p")
        self.read_until("paused")
        requests = len(one.set_requests())
        self.read(1)
        self.assertLessEqual(len(one.set_requests()), requests + 1)
        self.type(b"p")
        self.wait_for(lambda: len(one.set_requests()) > requests + 2)
        self.read(0.2)
        self.type(b"\x1bOB")
        self.read_until("start QEMU with")
        self.type(b"q")
        self.ended_well()

    def test_ascii(self):
        server = self.server()
        self.resize(40, 80)
        self.open("--interval", "200ms", server.path, locale="C")
        text = self.read_until("LRU memory:")
        self.assertTrue(text.isascii())
        self.type(b"q")
        self.ended_well()

    def test_no_screen(self):
        self.server()
        self.open("--count", "1", self.path(), term="nonsense")
        self.read_until("going on with plain text")
        self.child.wait(PATIENCE_S)
        self.assertEqual(self.child.returncode, 0)

    def test_count(self):
        self.open("--count", "2", self.path())
        self.read_until("does not exist: is the guest running")
        self.child.wait(PATIENCE_S)
        self.assertEqual(self.child.returncode, 1)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def test_terminal_goes_away(self):
        """A closed window must not leave wsrtop behind."""
        server = self.server()
        master, slave = pty.openpty()

        def lead():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.child = subprocess.Popen(
            [WSRTOP, server.path], stdin=slave, stdout=slave, stderr=slave,
            env=environment(UTF8), preexec_fn=lead)
        self.addCleanup(self.kill)
        os.close(slave)
        self.wait_for(server.set_requests)
        os.close(master)
        self.child.wait(PATIENCE_S)
        self.assertEqual(server.request_id, 0)


class Wsrd(Case):
    """All VMs of a wsrd"""

    def wsrd(self, nr, **attributes):
        """nr guests, and a wsrd that has told them what they get"""
        fleet, daemon = self.enterContext(test_wsrd.setup(
            nr, {"memory": "2G"}, **attributes))
        self.wait_for(lambda: all("reason" in vm and vm["reason"] !=
                                  "undecided" for vm in
                                  daemon.ask("status")["vms"]))
        return fleet, daemon

    def test_plain(self):
        fleet, daemon = self.wsrd(3)
        self.wait_for(lambda: test_wsrd.total(fleet) <= 2048 * MIB * 0.96)
        out, err = self.once("-s", str(daemon.control))
        self.assertEqual(err, "")
        for word in ("host 2.00 GiB: others", "more would fit", "new..old",
                     "vm0: reporting", "vm2: reporting", "size 1.00 GiB",
                     "working set 288 MiB", "equal-age", "ages: guest",
                     "30m - 2h", "idle >= 2h: ", "swap-backed", "file-backed",
                     "\u2588\u2588\u2588"):
            self.assertIn(word, out)
        self.assertLessEqual(max(len(x) for x in out.splitlines()), 80)
        # 256 MiB of some 650 are hot: the left half of the bar, at most.
        bar = re.search(r"^  vm1 .* (\u2588+\u00b7+)  equal-age", out, re.M)
        self.assertLess(2 * bar[1].count("\u2588") - 1, len(bar[1]))
        self.assertFalse(any(c[1] == "qom-set" and "7200000" in json.dumps(c[2])
                             for c in fleet["vm0"].commands))
        out, _ = self.once("-s", str(daemon.control), locale="C")
        self.assertTrue(out.isascii())

    def test_json(self):
        fleet, daemon = self.wsrd(2)
        out, _ = self.run_it("-s", str(daemon.control), "--json", "-i", "100ms",
                             "--count", "2", "--bounds", "5s,1h")
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(lines), 2)
        self.assertLess(lines[0]["time-ms"], lines[1]["time-ms"])
        status = daemon.ask("status")
        self.assertEqual(lines[1]["host"].keys() - {"cut-age-s"},
                         status["host"].keys() - {"cut-age-s"})
        for vm in lines[1]["vms"]:
            guest = fleet[vm["name"]]
            self.assertEqual([b.get("idle-age-ms") for b in vm["bins"]],
                             [5000, 3600000, None])
            self.assertEqual([b["swap-backed-bytes"] for b in vm["bins"]],
                             [guest.hot, 0, 0])
            self.assertLess(abs(vm["bins"][2]["file-backed-bytes"] -
                                guest.cold), 128 * MIB)
        # Nobody else pays for them.
        self.assertNotIn("bins", status["vms"][0])
        for bad in ([], [0], [5, 5], [-1], ["1"], [1 << 32], {}, 7,
                    list(range(1, 17))):
            answer = daemon.ask("status", **{"idle-ages-ms": bad})
            self.assertIn("1 to 15 numbers", answer.get("error", ""), bad)

    def test_troubled_guest(self):
        fleet, daemon = self.wsrd(1)
        fleet["vm0"].stop()
        fleet.add("late", feature=False)
        self.wait_for(lambda: daemon.vm("late"))
        self.wait_for(lambda: "not connected" in
                      (daemon.vm("vm0") or {"state": "not connected"})["state"])
        out, _ = self.once("-s", str(daemon.control))
        self.assertIn("late", out)
        self.assertNotIn("vm0: reporting", out)

    def test_not_running(self):
        for option in ("--once", "--json", "--timeout=1h"):
            out, err = self.run_it("-s", self.path(), "--count", "1", option,
                                   status=1)
            self.assertEqual(out, "")
            self.assertIn("wsrd is not running", err)
            self.assertIn(self.path(), err)

    def test_appears_later(self):
        child = self.start("-s", self.path("control"), "--json", "-i", "200ms")
        self.read_pipes(child, "wsrd is not running")
        self.answer(self.path("control"), STATUS)
        self.read_pipes(child, '"time-ms"')
        self.end(child)

    def test_restart(self):
        _, daemon = self.wsrd(1)
        child = self.start("-s", str(daemon.control), "-i", "200ms")
        self.read_pipes(child, "vm0: reporting")
        daemon.kill()
        self.read_pipes(child, "wsrd has closed the connection")
        daemon.start()
        self.read_pipes(child, "wsrd answers again")
        self.read_pipes(child, "vm0: reporting")
        self.assertIn("share of LRU memory:", self.end(child))

    def test_hangs(self):
        _, daemon = self.wsrd(1)
        child = self.start("-s", str(daemon.control), "-i", "200ms")
        self.read_pipes(child, "vm0: reporting")
        daemon.process.send_signal(signal.SIGSTOP)
        self.read_pipes(child, "wsrd does not answer")
        daemon.process.send_signal(signal.SIGCONT)
        self.read_pipes(child, "wsrd answers again")
        self.end(child)

    def answer(self, path, *answers):
        """Somebody at a socket who gives these answers, the last one for
        ever. None: does not answer."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        self.addCleanup(listener.close)
        left = list(answers)

        def talk():
            try:
                while True:
                    client, _ = listener.accept()
                    with client, client.makefile("rb") as lines:
                        for _ in lines:
                            answer = left.pop(0) if len(left) > 1 else left[0]
                            if answer is None:
                                continue
                            if not isinstance(answer, bytes):
                                answer = json.dumps(answer).encode() + b"\n"
                            client.sendall(answer)
            except OSError:
                pass
        threading.Thread(target=talk, daemon=True).start()

    def test_not_wsrd(self):
        for number, (answer, words) in enumerate((
                (b"\x00\xff\x1b[31mgarbage\n", "not JSON"),
                (b"{]\n", "not JSON"),
                ({}, "this is no status"), ([], "this is no status"),
                ({"host": {}, "vms": {}}, "this is no status"),
                ({"host": [], "vms": []}, "this is no status"),
                ({"error": "no\x1b[2J way"}, "no\\x1b[2J way"),
                (None, "no answer within 1s"))):
            with self.subTest(answer=answer):
                path = self.path("c%d" % number)
                self.answer(path, answer)
                out, err = self.once("-s", path, "--timeout", "1s", status=1)
                self.assertEqual(out, "")
                self.assertIn(words, err)
                self.assertNotIn("\x1b", err)

    def test_senseless_answers(self):
        """Answers in which random values were replaced, always the same"""
        random_ = random.Random(2)
        values = (None, True, -1, 0, 1 << 63, 1 << 64, 1e308, "", "\x1b[2J\x03",
                  "x" * 5000, [], {}, [[]], [None] * 20, {"bins": 1})

        def damage(thing):
            keys = list(thing if isinstance(thing, dict)
                        else range(len(thing)))
            if not keys:
                return
            key = random_.choice(keys)
            if isinstance(thing[key], (dict, list)) and random_.random() < .9:
                damage(thing[key])
            else:
                thing[key] = copy.deepcopy(random_.choice(values))
        answers = []
        for _ in range(40):
            answer = copy.deepcopy(STATUS)
            for _ in range(4):
                damage(answer)
            answers.append(answer)
        last = copy.deepcopy(STATUS)
        last["vms"][0]["name"] = "end\x1b\u202e"
        self.answer(self.path(), *answers, last)
        child = self.start("-s", self.path(), "-i", "100ms")
        text = self.read_pipes(child, "end\\x1b\\xe2\\x80\\xae: reporting")
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\x03", text)
        self.end(child)


class WsrdScreen(Terminal):
    """The full screen, of all VMs of a wsrd"""

    def test_vms(self):
        fleet, daemon = self.enterContext(test_wsrd.setup(
            3, {"memory": "2G"}))
        self.resize(45, 100)
        self.open("-s", str(daemon.control), "--interval", "200ms")
        self.read_until("vm0: last")
        self.read_until("host 2.00 GiB")
        self.type(b"\t")
        self.read_until("vm1: last")
        self.type(b"\x1bOB")
        self.read_until("vm2: last")
        # Its place is another one then, and it stays selected.
        fleet["vm0"].stop()
        self.read_until("2 guests")
        self.read_until("> vm2")
        self.type(b"\t")
        self.read_until("> vm1")
        self.type(b"?")
        self.read_until("what keeps it from moving")
        self.type(b"?")
        daemon.kill()
        self.read_until("wsrd is not running")
        self.read_until("What follows is")
        self.read_until("vm1: last")
        daemon.start()
        text = ""
        while "What follows" in text or "more would fit" not in text:
            self.type(b"\x0c")
            text = self.read(1)
        self.type(b"p")
        self.read_until("paused")
        self.type(b"q")
        self.ended_well()

    def test_no_vms(self):
        _, daemon = self.enterContext(test_wsrd.setup(0, {"memory": "2G"}))
        self.resize(10, 60)
        self.open("-s", str(daemon.control))
        self.read_until("There are no VMs")
        self.type(b"\t\x1bOB\x1bOA")
        self.resize(3, 20)
        self.read_until("wsrtop")
        self.type(b"q")
        self.ended_well()


class TapResult(unittest.TestResult):
    """Prints a line of TAP for each test."""

    def _line(self, word, test, details=""):
        print("%s %d - %s" % (word, self.testsRun,
                              test.id().split(".", 1)[1]))
        for line in details.splitlines():
            print("# " + line)
        sys.stdout.flush()

    def startTest(self, test):
        super().startTest(test)
        self.bad = ""

    def addError(self, test, err):
        super().addError(test, err)
        self.bad += self.errors[-1][1]

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.bad += self.failures[-1][1]

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            found = self.failures + self.errors
            self.bad += "%s\n%s" % (subtest, found[-1][1])

    def stopTest(self, test):
        self._line("not ok" if self.bad else "ok", test, self.bad)
        super().stopTest(test)


def main():
    global WSRTOP
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    WSRTOP = os.path.abspath(sys.argv[1])
    test_wsrd.PROGRAMS = pathlib.Path(WSRTOP).parent
    loader = unittest.TestLoader()
    if len(sys.argv) > 2:
        loader.testNamePatterns = ["*%s*" % sys.argv[2]]
    suite = loader.loadTestsFromModule(sys.modules[__name__])
    print("TAP version 13")
    print("1..%d" % suite.countTestCases())
    result = TapResult()
    suite.run(result)
    print("# %d passed, %d failed" % (
        result.testsRun - len(result.failures) - len(result.errors),
        len(result.failures) + len(result.errors)))
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
