#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Test what wsrd shows: metrics, pages, history. Prints TAP.

Usage: test_web.py DIRECTORY [PATTERN]

DIRECTORY holds wsrd and wsrctl.
"""
import contextlib
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

from browser import DRAWN, Browser, find
from fleet import MIB, Fleet
from test_cgroup import Tree
from test_wsrtop import PATIENCE_S, TapResult, environment

BIN = None
GIB = 1 << 30
HERE = os.path.dirname(os.path.abspath(__file__))
ALERTS = os.path.join(HERE, "..", "wsrd", "alerts.yml")
OPENMETRICS = "application/openmetrics-text"
EVIL = "<img src=x onerror=document.title='owned'>"


# (bytes, idle seconds, kind)
MEMORY = [(600 * MIB, 0.5, "swap"), (300 * MIB, 40, "swap"),
          (500 * MIB, 3, "file"), (900 * MIB, 5000, "file")]


def part(node, nr, node_id):
    """One of nr equal nodes that a node is split into"""
    result = {"node-id": node_id}
    for key, value in node.items():
        if key == "bins":
            value = [{name: size // (nr if name.endswith("bytes") else 1)
                      for name, size in entry.items()} for entry in value]
        elif key.endswith("bytes"):
            value //= nr
        result[key] = value
    return result


def shape(guest):
    """Its reports have guest.memory, spread over guest.nodes."""
    def mangle(report):
        node, = report["nodes"]
        for entry in node["bins"]:
            entry["swap-backed-bytes"] = entry["file-backed-bytes"] = 0
        for size, idle_s, kind in guest.memory:
            place = sum(bound <= idle_s * 1000 for bound in guest.bounds)
            node["bins"][place][kind + "-backed-bytes"] += size
        used = sum(size for size, _, _ in guest.memory)
        node["free-bytes"] = max(guest.actual - used - guest.kernel, 0)
        node["total-bytes"] = used + guest.kernel + node["free-bytes"]
        nodes = guest.nodes or []
        if nodes:
            report["nodes"] = [part(node, len(nodes), i) for i in nodes]
    return mangle


def free_port(family=socket.AF_INET, host="127.0.0.1"):
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


class Case(unittest.TestCase):
    """A directory, guests, a wsrd, and ways to ask it."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="wsrweb")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name
        os.mkdir(self.path("qmp"))
        self.fleet = Fleet(self.path("qmp"), 0)
        self.addCleanup(self.fleet.close)
        self.port = free_port()
        self.log = self.path("log")
        self.daemon = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def guest(self, name, **attributes):
        guest = self.fleet.add(name, start=False, **{
            "size": 4096 * MIB, "memory": MEMORY, "nodes": None,
            **attributes})
        guest.actual = guest.target = guest.size
        guest.mangle = shape(guest)
        guest.start()
        return guest

    def configure(self, host="", rest=""):
        with open(self.path("conf"), "w", encoding="utf-8") as file:
            file.write("[host]\nmemory = 6G\npressure = off\nqmp = %s/*.qmp\n"
                       "control = %s\nstate = %s\n%s\n[policy]\ngrace = 0\n"
                       "[reports]\ninterval = 500ms\n%s\n" %
                       (self.path("qmp"), self.path("control"),
                        self.path("state.json"), host or
                        "http = 127.0.0.1:%d" % self.port, rest))

    def wsrd(self, host="", rest="", **kwargs):
        """Start it and wait until it answers wsrctl."""
        self.configure(host, rest)
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [os.path.join(BIN, "wsrd"), "-c", self.path("conf")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment("C.UTF-8"), **kwargs)
        self.addCleanup(self.end, self.daemon)
        self.wait_for(lambda: self.daemon.poll() is not None or
                      self.answers())
        self.assertIsNone(self.daemon.poll(), self.messages())
        return self.daemon

    def answers(self):
        """Then all that it listens on is open."""
        with socket.socket(socket.AF_UNIX) as client, \
                contextlib.suppress(OSError):
            client.connect(self.path("control"))
            client.sendall(b'{"command": "actions"}\n')
            return client.recv(1)
        return None

    def end(self, daemon):
        """SIGTERM must end it, and no sanitizer may have spoken."""
        if daemon.poll() is None:
            daemon.terminate()
        try:
            status = daemon.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            status = "did not end"
        self.assertEqual(status, 0, self.messages())
        self.assertNotIn("Sanitizer", self.messages())
        self.assertNotIn("runtime error", self.messages())

    def messages(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for(self, what, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while True:
            result = what()
            if result:
                return result
            self.assertLess(time.monotonic(), end,
                            "it did not happen\n" + self.messages())
            time.sleep(0.05)

    def wsrctl(self, *args, status=0, **kwargs):
        env = environment(kwargs.pop("locale", "C.UTF-8"))
        env.update(kwargs)
        done = subprocess.run(
            [os.path.join(BIN, "wsrctl"), "-s", self.path("control"), *args],
            stdin=subprocess.DEVNULL, capture_output=True, env=env,
            timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        self.assertNotIn(b"Sanitizer", done.stderr)
        return done.stdout.decode() + (done.stderr.decode() if status else "")

    def get(self, path, method="GET", headers=None, body=None,
            host="127.0.0.1"):
        """Status, headers, body."""
        connection = http.client.HTTPConnection(host, self.port,
                                                timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body=body,
                               headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()

    def api(self, path):
        status, _, body = self.get("/api/v1/" + path)
        self.assertEqual(status, 200, body)
        return json.loads(body)

    def vms(self):
        """By name, those that have reported."""
        return {vm["name"]: vm for vm in self.api("status")["vms"]
                if "working-set-bytes" in vm}

    def metrics(self, accept=OPENMETRICS):
        """Values by name with labels."""
        body = self.get("/metrics", headers={"Accept": accept})[2]
        return dict(line.rsplit(" ", 1) for line in body.splitlines()
                    if not line.startswith("#"))


class Metrics(Case):
    def start(self, names=("web1",), **kwargs):
        guests = [self.guest(name) for name in names]
        self.wsrd(**kwargs)
        self.wait_for(lambda: len(self.vms()) == len(names))
        return guests

    def test_values(self):
        guest, = self.start()
        guest.nodes = [0, 1]
        self.wait_for(lambda: any('node="1"' in key for key in self.metrics()))
        values = self.metrics()

        def ages(kind, node):
            return {key.split('le="')[1][:-2]: int(value)
                    for key, value in values.items() if key.startswith(
                        'wsr_vm_bytes{vm="web1",node="%d",type="%s"' %
                        (node, kind))}
        for node in 0, 1:
            self.assertEqual(ages("anon", node)["+Inf"], 450 * MIB)
            self.assertEqual(ages("file", node)["+Inf"], 700 * MIB)
        bounds = guest.bounds
        self.assertEqual(set(ages("anon", 0)),
                         {("%.3f" % (bound / 1000)).rstrip("0").rstrip(".")
                          for bound in bounds} | {"+Inf"})
        self.assertEqual(list(ages("file", 0).values()),
                         sorted(ages("file", 0).values()))
        self.assertEqual(values['wsr_vm_size_bytes{vm="web1"}'],
                         str(guest.size))
        self.assertEqual(
            int(values['wsr_vm_balloon_actual_bytes{vm="web1"}']),
            self.vms()["web1"]["actual-bytes"])
        self.assertEqual(values['wsr_vm_state{vm="web1",state="reporting"}'],
                         "1")
        self.assertEqual(int(values["wsr_host_total_bytes"]), 6 << 30)
        self.assertGreater(
            int(values['wsr_host_reclaimable_bytes{slo="0.002"}']), 0)
        self.assertEqual(values["wsr_host_deficit_bytes"], "0")
        self.assertNotIn("wsr_history_ok", values)
        self.assertLess(float(values['wsr_report_age_seconds{vm="web1"}']),
                        PATIENCE_S)
        self.assertGreater(float(values["wsr_plans_total"]), 0)

    def test_bounds_stay_apart(self):
        """Two samples with the same labels would end the whole scrape."""
        guest, = self.start()
        shaped = guest.mangle

        def mangle(report):
            shaped(report)
            *_, one, other, _ = report["nodes"][0]["bins"]
            one["idle-age-ms"] = 123456789
            other["idle-age-ms"] = 123456790
        guest.mangle = mangle
        self.wait_for(lambda: all(
            'wsr_vm_bytes{vm="web1",node="all",type="anon",le="%s"}' % bound
            in self.metrics() for bound in ("123456.789", "123456.79")))

    def test_deficit_and_actions(self):
        self.start(("a", "b"))
        self.configure(rest="[defaults]\nmin = 3500M")
        self.daemon.send_signal(signal.SIGHUP)
        self.wait_for(lambda: int(self.metrics()["wsr_host_deficit_bytes"]))
        values = self.wait_for(lambda: {
            key: value for key, value in self.metrics().items()
            if key.startswith('wsr_actions_total{kind="balloon"')})
        self.assertGreater(sum(int(value) for value in values.values()), 0)

    def test_stuck(self):
        a, _ = self.start(("a", "b"))
        self.assertEqual(self.metrics()['wsr_balloon_stuck{vm="a"}'], "0")
        a.stuck = True
        self.wait_for(
            lambda: self.metrics()['wsr_balloon_stuck{vm="a"}'] == "1", 60)
        self.assertEqual(self.metrics()['wsr_balloon_stall_total{vm="a"}'],
                         "1")

    def test_refused_report(self):
        guest, = self.start()

        guest.kernel = guest.size
        self.wait_for(lambda: self.metrics()[
            'wsr_refused_reports_total{vm="web1"}'] != "0")

    def test_containers(self):
        """What has no report of its own: estimates by the host"""
        tree = Tree(self.dir)
        self.addCleanup(tree.close)
        group = tree.add("pods/pod", hot=300 * MIB, cold=200 * MIB)
        group.write("pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 "
                    "total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 "
                    "total=1\n")
        self.wsrd("http = %d\ncgroup-root = %s\nlru-gen =" %
                  (self.port, tree.path), "[cgroup pod]\ncgroup = pods/pod")
        values = self.wait_for(lambda: [
            values for values in [self.metrics()]
            if 'wsr_vm_working_set_bytes{vm="pod"}' in values])[0]
        for kind, size in ("anon", 300 * MIB), ("file", 200 * MIB):
            self.assertAlmostEqual(int(values[
                'wsr_vm_bytes{vm="pod",node="all",type="%s",le="+Inf"}' %
                kind]), size, delta=MIB)
        self.assertEqual(values['wsr_vm_psi_some_seconds_total{vm="pod"}'],
                         "1.5")
        source, = [key for key in values if key.startswith("wsr_vm_source{")]
        self.assertNotIn('"guest', source)
        group.remove()
        self.wait_for(lambda: not any("psi_some" in key and "pod" in key
                                      for key in self.metrics()))

    def test_labels_are_escaped(self):
        self.start(('a"b',))
        self.assertIn('wsr_vm_size_bytes{vm="a\\"b"}', self.metrics())

    def test_formats(self):
        """OpenMetrics where it is asked for, else the older format."""
        self.start()
        _, headers, body = self.get("/metrics",
                                    headers={"Accept": OPENMETRICS})
        self.assertTrue(headers["Content-Type"].startswith(OPENMETRICS))
        self.assertTrue(body.endswith("# EOF\n"))
        self.assertIn("# TYPE wsr_plans counter\n", body)
        _, headers, body = self.get("/metrics")
        self.assertTrue(headers["Content-Type"].startswith("text/plain"))
        self.assertNotIn("# EOF", body)
        self.assertIn("# TYPE wsr_plans_total counter\n", body)
        families = re.findall(r"^# TYPE (\S+)", body, re.M)
        self.assertEqual(len(families), len(set(families)))
        for line in body.splitlines():
            if not line.startswith("#"):
                self.assertRegex(line, r'^[a-z_]+(\{[a-z]+="([^"\\]|\\.)*"'
                                 r'(,[a-z]+="([^"\\]|\\.)*")*\})? '
                                 r'([0-9.e+-]+|\+Inf)$')


@unittest.skipUnless(shutil.which("promtool") and shutil.which("prometheus"),
                     "package prometheus is not installed")
class Prometheus(Case):
    def test_check_metrics(self):
        self.guest("web1")
        self.guest('a"\\b')
        self.wsrd()
        self.wait_for(lambda: len(self.vms()) == 2)
        body = self.get("/metrics")[2]
        done = subprocess.run(["promtool", "check", "metrics"],
                              input=body.encode(), capture_output=True,
                              check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, b"", b""))

    def query(self, port, expression):
        url = "http://127.0.0.1:%d/api/v1/query?query=%s" % (
            port, urllib.parse.quote(expression))
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]["result"]

    def test_scrape(self):
        """A real one: what it scraped can be asked for."""
        self.guest("web1")
        self.guest(EVIL)
        self.wsrd()
        self.wait_for(lambda: len(self.vms()) == 2)
        port = free_port()
        with open(self.path("prometheus.yml"), "w", encoding="utf-8") as file:
            file.write("global: {scrape_interval: 1s, "
                       "evaluation_interval: 1s}\n"
                       "rule_files: ['%s']\n"
                       "scrape_configs:\n- job_name: wsrd\n"
                       "  static_configs:\n  - targets: ['127.0.0.1:%d']\n" %
                       (os.path.abspath(ALERTS), self.port))
        with open(self.path("prometheus.log"), "wb") as log:
            child = subprocess.Popen(
                ["prometheus", "--config.file=" + self.path("prometheus.yml"),
                 "--storage.tsdb.path=" + self.path("tsdb"),
                 "--web.listen-address=127.0.0.1:%d" % port],
                stdout=log, stderr=log)

        def end():
            child.terminate()
            child.wait()
        self.addCleanup(end)

        def up():
            try:
                return self.query(port, "up == 1")
            except OSError:
                return None
        self.wait_for(up, 120)
        for expression, count in (
                ("wsr_vm_balloon_actual_bytes", 2),
                ("wsr_host_reclaimable_bytes", 1),
                ("wsr_host_deficit_bytes == 0", 1),
                ("wsr_plans_total", 1),
                ('wsr_vm_size_bytes{vm="%s"}' % EVIL, 1),
                # Of the text for administrators
                ("histogram_quantile(0.9, sum by (vm, le) (wsr_vm_bytes))", 2),
                ("clamp(0.5 + 0.5 * (wsr_host_deficit_bytes - on (instance) "
                 "sum by (instance) (wsr_host_reclaimable_bytes)) "
                 "/ on (instance) wsr_host_total_bytes, 0, 1) < 0.5", 1),
                ("bottomk(1, abs(wsr_vm_working_set_bytes - on (instance) "
                 "group_left () wsr_host_deficit_bytes)) "
                 "and on (instance) wsr_host_deficit_bytes == 0", 1),
                # The ages are what this function wants.
                ("histogram_quantile(0.5, wsr_vm_bytes) > 0", 4)):
            with self.subTest(expression=expression):
                self.wait_for(lambda e=expression, c=count:
                              len(self.query(port, e)) == c)
        def rules():
            url = "http://127.0.0.1:%d/api/v1/rules" % port
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                group, = json.load(answer)["data"]["groups"]
            return group["rules"]
        self.wait_for(lambda: all(rule["health"] == "ok" for rule in rules()))
        self.assertEqual(len(rules()), 6)

    def test_rules(self):
        """The syntax, and that each alert comes when it should."""
        for args in (("check", "rules", ALERTS),
                     ("test", "rules",
                      os.path.join(HERE, "alerts_test.yml"))):
            done = subprocess.run(["promtool", *args], check=False,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
            self.assertEqual(done.returncode, 0, done.stdout.decode())


class Http(Case):
    def names(self, host, status=200, headers=None):
        """Ask with this as the header Host."""
        headers = {"Host": host, **(headers or {})}
        self.assertEqual(self.get("/healthz", headers=headers)[0], status,
                         host)

    def test_off_by_default(self):
        self.wsrd("on-stop = keep")
        links = set()
        for fd in os.listdir("/proc/%d/fd" % self.daemon.pid):
            with contextlib.suppress(FileNotFoundError):
                links.add(os.readlink("/proc/%d/fd/%s" % (self.daemon.pid,
                                                          fd)))
        for table in "tcp", "tcp6", "udp", "udp6":
            with open("/proc/net/" + table, encoding="ascii") as file:
                for line in file.readlines()[1:]:
                    self.assertNotIn("socket:[%s]" % line.split()[9], links)

    def test_addresses(self):
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:0", ":9911",
                        "127.0.0.1:65536", "127.0.0.1:1x", "[::1:9911",
                        "[::1]9911", "host.example:9911", "1.2.3:9911",
                        "127.0.0.1:-1", "[" + "1" * 99 + "]:1"):
            with self.subTest(address=address):
                self.configure("http = " + address)
                done = subprocess.run(
                    [os.path.join(BIN, "wsrd"), "--check", "-c",
                     self.path("conf")], capture_output=True, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(b"such as 127.0.0.1:9911", done.stderr)

    def test_port_alone_is_loopback(self):
        self.wsrd("http = %d" % self.port)
        self.assertEqual(self.get("/healthz")[0], 200)
        with open("/proc/net/tcp", encoding="ascii") as file:
            self.assertIn("0100007F:%04X" % self.port, file.read())
        self.assertNotIn("who reaches", self.messages())

    def test_ipv6(self):
        try:
            self.port = free_port(socket.AF_INET6, "::1")
        except OSError:
            self.skipTest("no IPv6 here")
        self.wsrd("http = [::1]:%d" % self.port)
        self.assertEqual(self.get("/healthz", host="::1")[0], 200)

    def test_everybody_is_warned_of(self):
        self.wsrd("http = 0.0.0.0:%d" % self.port)
        self.assertIn("who reaches this address", self.messages())

    def test_port_in_use(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.port))
            other.listen()
            self.wsrd()
            # Decisions do not need it.
            self.assertIn("can't listen there: Address already in use",
                          self.messages())

    def test_reload(self):
        self.wsrd()
        self.configure("http = %d\nhttp-names = a.example" % self.port)
        self.daemon.send_signal(signal.SIGHUP)
        self.wait_for(lambda: "read again" in self.messages())
        self.names("a.example")
        self.configure("on-stop = keep")
        self.daemon.send_signal(signal.SIGHUP)

        def refused():
            try:
                self.get("/healthz")
            except ConnectionRefusedError:
                return True
            except OSError:
                pass
            return False
        self.wait_for(refused)

    def test_security_headers(self):
        self.wsrd()
        for path in "/", "/metrics", "/healthz", "/api/v1/status", "/none":
            _, headers, _ = self.get(path)
            with self.subTest(path=path):
                self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
                self.assertEqual(headers["Cache-Control"], "no-store")
                self.assertTrue(headers["Content-Security-Policy"].startswith(
                    "default-src 'none'"))
                self.assertNotIn("unsafe",
                                 headers["Content-Security-Policy"])
                self.assertNotIn("Access-Control-Allow-Origin", headers)

    def test_nonce(self):
        self.wsrd()
        seen = set()
        for _ in range(3):
            _, headers, body = self.get("/")
            nonce = re.search("script-src 'nonce-([0-9a-f]{32})'",
                              headers["Content-Security-Policy"]).group(1)
            self.assertIn('<script nonce="%s">' % nonce, body)
            self.assertIn('<style nonce="%s">' % nonce, body)
            self.assertNotIn("@NONCE@", body)
            self.assertTrue(body.endswith("</html>\n"))
            seen.add(nonce)
        self.assertEqual(len(seen), 3)

    def test_page_needs_nobody_else(self):
        self.wsrd()
        _, _, body = self.get("/")
        self.assertEqual(set(re.findall("https?://[^\"' ]*", body)),
                         {"http://www.w3.org/2000/svg"})
        self.assertNotIn("innerHTML", body)

    def test_methods(self):
        self.wsrd()
        for method in "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW":
            with self.subTest(method=method):
                status, headers, _ = self.get("/api/v1/status", method,
                                              body="x" * 1000)
                self.assertEqual(status, 405)
                self.assertEqual(headers["Allow"], "GET, HEAD")
        status, headers, body = self.get("/", "HEAD")
        self.assertEqual((status, body), (200, ""))
        self.assertEqual(headers["Content-Type"], "text/html; charset=utf-8")

    def test_paths(self):
        self.wsrd()
        for path in ("/x", "//", "/metrics/", "/../etc/passwd",
                     "/api/v1/set?vm=a", "/api/v1/", "/page.html"):
            with self.subTest(path=path):
                self.assertEqual(self.get(path)[0], 404)

    def test_host_names(self):
        """A name that somebody gives our address is not ours."""
        self.wsrd("http = %d\nhttp-names = host1 Host1.example" % self.port)
        for host in ("127.0.0.1", "127.0.0.1:%d" % self.port, "[::1]:1",
                     "localhost", "LOCALHOST:1", "10.1.2.3", "host1:9911",
                     "host1.example"):
            self.names(host)
        for host in ("evil.example", "evil.example:%d" % self.port,
                     "localhost.evil.example", "127.0.0.1.evil.example",
                     "host1.evil.example", "host", "", "[evil]", ":", "[",
                     "a" * 300, "[::1", "host1 Host1.example"):
            if host != "[::1":
                self.names(host, 421)
        # Not from a browser
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            self.assertIn(b" 200 ", client.recv(100))

    def test_api(self):
        self.guest("web1")
        self.wsrd()
        self.wait_for(lambda: "web1" in self.vms())
        vm = self.api("vm?name=web1")
        self.assertEqual(vm["vm"]["name"], "web1")
        self.assertEqual(len(vm["ages"][0]), len(vm["ages-s"]) + 1)
        self.assertAlmostEqual(sum(vm["ages"][0]), 900 * MIB, delta=MIB)
        self.assertAlmostEqual(sum(vm["ages"][1]), 1400 * MIB, delta=MIB)
        # Younger than 16 s, and older than 1024 s
        self.assertGreater(sum(vm["ages"][0][:5]), 500 * MIB)
        self.assertGreater(sum(vm["ages"][1][11:]), 700 * MIB)
        for path, status in (("vm", 404), ("vm?name=", 404),
                             ("vm?name=web2", 404), ("vm?name=%00", 404),
                             ("history?vm=web1", 404),
                             ("history?vm=web1&since=x", 400),
                             ("history?vm=web1&since=0", 404)):
            with self.subTest(path=path):
                self.assertEqual(self.get("/api/v1/" + path)[0], status)

    def test_slow_clients(self):
        """They do not keep others out, and are cut off."""
        self.wsrd()
        idle = [socket.create_connection(("127.0.0.1", self.port))
                for _ in range(64)]
        # Accepted when these are gone
        self.assertEqual(self.get("/healthz")[0], 200)
        dripping = socket.create_connection(("127.0.0.1", self.port))
        dripping.sendall(b"GET / HTTP/1.1\r\nX: ")
        begin = time.monotonic()
        with self.assertRaises(OSError):
            while time.monotonic() < begin + 2 * PATIENCE_S:
                dripping.sendall(b"x")
                time.sleep(0.2)
        # Not because it was idle
        self.assertGreater(time.monotonic(), begin + 15)
        self.assertEqual(self.get("/healthz")[0], 200)
        for client in (*idle, dripping):
            client.close()
        self.assertEqual(self.get("/healthz")[0], 200)

    def test_large_headers(self):
        self.wsrd()
        for headers in ({"X": "y" * 40000},
                        {"X%d" % i: "y" * 100 for i in range(90)}):
            try:
                status = self.get("/healthz", headers=headers)[0]
                self.assertIn(status, (200, 413, 431, 414, 400))
            except (OSError, http.client.HTTPException):
                pass
        try:
            self.get("/healthz?" + "x=y&" * 10000)
        except (OSError, http.client.HTTPException):
            pass
        self.assertEqual(self.get("/healthz")[0], 200)

    def test_nonsense(self):
        self.guest("web1")
        self.wsrd("http = %d\nhistory = %s" % (self.port, self.path("h")))
        self.wait_for(lambda: "web1" in self.vms())
        good = (b"GET /api/v1/history?vm=web1&since=1h HTTP/1.1\r\n"
                b"Host: 127.0.0.1\r\nAccept: text/plain\r\n\r\n")
        noise = random.Random(1)
        for _ in range(300):
            data = bytearray(good)
            for _ in range(noise.randrange(1, 9)):
                place = noise.randrange(len(data))
                if noise.random() < 0.5:
                    data[place] = noise.randrange(256)
                else:
                    del data[place:place + noise.randrange(9)]
            with socket.create_connection(("127.0.0.1", self.port)) as client:
                with contextlib.suppress(OSError):
                    client.sendall(data)
                    # An answer, or it waits for more of the request
                    client.settimeout(0.05)
                    client.recv(65536)
        self.assertEqual(self.get("/healthz")[0], 200)


def pack(cells):
    """As ages_pack(), written a second time"""
    result = b""
    for size in cells:
        size >>= 16
        while size >= 0x80:
            result += bytes([size & 0x7f | 0x80])
            size >>= 7
        result += bytes([size])
    return result


class History(Case):
    COLUMNS = ("time, size, actual, target, desired, working_set, free, "
               "refault_rate, predicted_rate, psi, cut_age, reason, hold, "
               "ages")

    def setUp(self):
        super().setUp()
        self.file = self.path("history.db")
        self.host = "http = %d\nhistory = %s\nhistory-interval = 1s" % (
            self.port, self.file)

    def start(self, *names, **kwargs):
        guests = [self.guest(name) for name in names or ("web1",)]
        self.wsrd(self.host, **kwargs)
        self.wait_for(lambda: len(self.vms()) == len(guests))
        return guests

    def rows(self, vm="web1", since="5m"):
        return self.api("history?vm=%s&since=%s" % (vm, since))["rows"]

    def rows_now(self, vm="web1", nr=2):
        """Wait for some with data."""
        def enough():
            status, _, body = self.get("/api/v1/history?vm=%s&since=5m" % vm)
            rows = json.loads(body)["rows"] if status == 200 else []
            rows = [row for row in rows if "ages" in row]
            return rows if len(rows) >= nr else None
        return self.wait_for(enough)

    def database(self):
        database = sqlite3.connect(self.file, timeout=PATIENCE_S)
        self.addCleanup(database.close)
        return database

    def insert(self, database, name, time_s, cells=(MIB,) * 36, **values):
        database.execute("INSERT OR IGNORE INTO vm (name) VALUES (?)",
                         (name,))
        row = {"time": time_s, "size": 4 << 30, "actual": 3 << 30,
               "target": 3 << 30, "reason": "equal-age", "hold": "none",
               "ages": pack(cells), **values}
        database.execute(
            "INSERT INTO sample (vm, %s) SELECT id, %s FROM vm "
            "WHERE name = ?" % (", ".join(row), ", ".join("?" * len(row))),
            (*row.values(), name))

    def restart(self):
        """As after a change of the configuration"""
        before = self.messages().count("read again")
        self.daemon.send_signal(signal.SIGHUP)
        self.wait_for(lambda: self.messages().count("read again") > before)

    def test_rows(self):
        guest, = self.start()
        rows = self.rows_now(nr=3)
        now = time.time()
        for before, row in zip([{"time": 0}] + rows, rows):
            self.assertGreater(row["time"], before["time"])
            self.assertLess(abs(row["time"] - now), PATIENCE_S)
            self.assertEqual(row["size-bytes"], guest.size)
            self.assertAlmostEqual(sum(row["ages"][0]), 900 * MIB, delta=MIB)
            self.assertAlmostEqual(sum(row["ages"][1]), 1400 * MIB, delta=MIB)
        self.assertEqual({"time", "size-bytes", "actual-bytes",
                          "target-bytes", "working-set-bytes", "free-bytes",
                          "refault-bytes-per-s", "reason", "hold", "ages"} -
                         set(rows[-1]), set())
        answer = self.api("history?vm=web1")
        self.assertTrue(answer["host"])
        self.assertEqual(answer["interval-s"], 1)
        self.assertEqual(self.metrics()["wsr_history_ok"], "1")
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o640)

    def test_ages_as_the_policy_sees_them(self):
        """In the file is what the live answer says, to 64 KiB."""
        self.start()
        row = self.rows_now()[-1]
        live = self.api("vm?name=web1")["ages"]
        for kind in 0, 1:
            for a, b in zip(row["ages"][kind], live[kind]):
                self.assertLess(abs(a - b), 40 * MIB)
        database = self.database()
        packed, = database.execute("SELECT ages FROM sample ORDER BY time "
                                   "DESC LIMIT 1").fetchone()
        self.assertLess(len(packed), 100)

    def test_unpack(self):
        cells = [n << 16 for n in (0, 1, 127, 128, 16383, 16384, 1 << 30) +
                 (7,) * 29]
        self.start()
        self.rows_now()
        database = self.database()
        now = int(time.time())
        self.insert(database, "old", now - 60, cells)
        for i, bad in enumerate((b"", b"\x80", b"\xff" * 40, pack(cells[1:]),
                                 pack(cells) + b"\0", "text", 7)):
            self.insert(database, "bad", now - 60 + i, ages=bad)
        database.commit()
        row, = self.rows("old")
        self.assertEqual(row["ages"][0] + row["ages"][1], cells)
        rows = self.rows("bad", "5m")
        self.assertEqual(len(rows), 7)
        for row in rows:
            self.assertNotIn("ages", row)

    def test_since_and_steps(self):
        """At most some hundred points, the newest one among them."""
        self.start()
        self.rows_now()
        database = self.database()
        now = int(time.time()) - 100
        for i in range(3000):
            self.insert(database, "old", now - 60 * i, actual=i)
        database.commit()
        rows = self.rows("old", "50h")
        self.assertTrue(300 < len(rows) <= 402, len(rows))
        self.assertEqual(rows[-1]["actual-bytes"], 0)
        self.assertEqual([row["time"] for row in rows],
                         sorted(row["time"] for row in rows))
        self.assertEqual(len(self.rows("old", "10m")), 9)
        self.assertEqual(self.rows("nobody"), [])

    def test_retention(self):
        self.start()
        self.rows_now()
        database = self.database()
        now = int(time.time())
        self.insert(database, "gone", now - 15 * 86400)
        self.insert(database, "web1", now - 15 * 86400)
        self.insert(database, "web1", now - 13 * 86400)
        database.execute("INSERT INTO host (time) VALUES (?)",
                         (now - 15 * 86400,))
        database.commit()
        self.restart()
        self.wait_for(lambda: not database.execute(
            "SELECT * FROM sample WHERE time < ?",
            (now - 14 * 86400,)).fetchall())
        self.assertEqual([name for name, in database.execute(
            "SELECT name FROM vm")], ["web1"])
        self.assertEqual(len(database.execute(
            "SELECT * FROM sample WHERE time < ?",
            (now - 12 * 86400,)).fetchall()), 1)
        self.assertEqual(database.execute(
            "SELECT * FROM host WHERE time < ?",
            (now - 14 * 86400,)).fetchall(), [])

    def test_restart_keeps_it(self):
        self.start()
        first = self.rows_now()[0]["time"]
        self.end(self.daemon)
        self.wsrd(self.host)
        self.wait_for(lambda: len(self.vms()) == 1)
        self.assertEqual(self.rows_now()[0]["time"], first)

    def test_killed(self):
        self.start()
        first = self.rows_now()[0]["time"]
        self.daemon.kill()
        self.daemon.wait()
        self.daemon.returncode = 0      # as it should be
        self.wsrd(self.host)
        self.wait_for(lambda: len(self.vms()) == 1)
        self.assertEqual(self.rows_now()[0]["time"], first)

    def goes_on_without(self, words):
        """It says so once, and decides as before."""
        self.wait_for(lambda: words in self.messages())
        self.assertEqual(self.metrics()["wsr_history_ok"], "0")
        plans = int(self.metrics()["wsr_plans_total"])
        self.wait_for(lambda: int(self.metrics()["wsr_plans_total"]) >
                      plans + 2)
        self.assertEqual(self.messages().count(words), 1)
        self.assertEqual(self.get("/healthz")[0], 200)

    def test_not_a_database(self):
        with open(self.file, "wb") as file:
            file.write(b"nonsense " * 1000)
        self.start()
        self.goes_on_without("move the file away")
        self.assertEqual(self.get("/api/v1/history?vm=web1")[0], 404)
        self.assertIn("history", self.wsrctl("history", "web1", status=1))
        os.rename(self.file, self.file + ".bad")
        self.restart()
        self.rows_now()
        self.assertEqual(self.metrics()["wsr_history_ok"], "1")

    def test_damaged(self):
        self.start()
        self.rows_now(nr=3)
        self.end(self.daemon)
        size = os.path.getsize(self.file)
        with open(self.file, "r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        self.wsrd(self.host)
        self.wait_for(lambda: len(self.vms()) == 1)
        self.goes_on_without("malformed")

    def test_newer_version(self):
        database = self.database()
        database.execute("PRAGMA user_version = 99")
        database.commit()
        self.start()
        self.goes_on_without("a newer wsrd made it")

    def test_no_directory(self):
        self.file = self.path("sub/history.db")
        self.host = self.host.replace("/history.db", "/sub/history.db")
        self.start()
        self.goes_on_without("is the directory there?")
        os.mkdir(self.path("sub"))
        self.rows_now()
        self.wait_for(lambda: "kept again" in self.messages())

    def test_full_disk(self):
        """Files can't grow for a while."""
        def ignore():
            # Or it would end wsrd, which no full disk does
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.start(preexec_fn=ignore)
        first = self.rows_now()[0]["time"]
        pid = self.daemon.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, hard))
        self.goes_on_without("is the disk full")
        before = self.rows()[-1]["time"]
        self.assertEqual(self.rows()[0]["time"], first)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        self.wait_for(lambda: self.rows()[-1]["time"] > before)
        self.assertIn("kept again", self.messages())
        self.assertEqual(self.metrics()["wsr_history_ok"], "1")

    def test_locked(self):
        """Somebody else writes for long: only that is lost."""
        self.start()
        self.rows_now()
        database = self.database()
        database.isolation_level = None
        database.execute("BEGIN IMMEDIATE")
        self.goes_on_without("locked")
        database.execute("ROLLBACK")
        self.wait_for(lambda: "kept again" in self.messages())

    def test_wsrctl(self):
        self.start()
        self.rows_now()
        rows = self.rows(since="5m")
        answer = json.loads(self.wsrctl("--json", "history", "web1",
                                        "--since", "5m"))
        self.assertEqual(answer["since-s"], 300)
        self.assertIn(rows[-1], answer["rows"])
        database = self.database()
        now = int(time.time())
        for i in range(1, 3000):
            self.insert(database, "old", now - i * 60, working_set=1 << 30,
                        cells=[0] * 17 + [GIB] + [0] * 18)
        database.commit()
        out = self.wsrctl("history", "old", "--since=40h", COLUMNS="70")
        lines = out.splitlines()
        self.assertLessEqual(max(len(line) for line in lines), 70)
        older, = [line for line in lines if line.startswith("  older")]
        younger, = [line for line in lines if line.startswith("  < 1.0 s")]
        self.assertEqual(older.count("\u2588"), 52)
        self.assertEqual(younger.count("\u2588"), 0)
        actual, = [line for line in lines if line.startswith("  actual")]
        self.assertEqual(actual.count("\u2586"), 52)
        self.assertIn("equal-age", lines[-1])
        out = self.wsrctl("history", "old", locale="C")
        self.assertTrue(out.isascii())
        self.assertIn("####", out)
        self.assertIn("nothing in this time", self.wsrctl("history", "x"))
        for args, words in ((("history",), "usage"),
                            (("history", "a", "b"), "usage"),
                            (("history", "a", "--since", "x"), "such as"),
                            (("history", "a", "--since", "1ms"), "such as")):
            self.assertIn(words, self.wsrctl(*args, status=2))

    def test_none(self):
        self.host = "http = %d" % self.port
        self.start()
        self.assertIn("[host] history", self.wsrctl("history", "web1",
                                                    status=1))


@unittest.skipUnless(find(), "package chromium is not installed")
class Page(Case):
    CARD = "[...document.querySelectorAll('.vm')].find((vm) => " \
           "vm.querySelector('.name').textContent === %s)"

    def setUp(self):
        super().setUp()
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        self.url = "http://127.0.0.1:%d/" % self.port

    def host(self):
        return "http = %d\nhistory = %s\nhistory-interval = 1s" % (
            self.port, self.path("history.db"))

    def start(self, *names, **kwargs):
        guests = [self.guest(name) for name in names]
        self.wsrd(self.host(), **kwargs)
        self.wait_for(lambda: len(self.vms()) == len(names))
        self.browser.open(self.url)
        self.browser.wait_for("document.querySelectorAll('.vm').length === %d"
                              % len(names))
        return guests

    def value(self, name, expression):
        """Of the card of a VM, which is called vm"""
        return self.browser.value("((vm) => %s)(%s)" % (
            expression, self.CARD % json.dumps(name)))

    def wait_card(self, name, expression):
        return self.browser.wait_for("((vm) => %s)(%s)" % (
            expression, self.CARD % json.dumps(name)))

    def quiet(self):
        """Nothing on the page's console"""
        self.assertEqual(self.browser.trouble, [])

    def test_heatmap(self):
        self.start("web1", "db")
        self.browser.wait_for(DRAWN)
        for name in "web1", "db":
            self.wait_card(name, "vm.querySelectorAll('.cell').length > 4")
        self.assertIn("reporting",
                      self.value("web1", "vm.innerText"))
        rows = self.value("db", "[...new Set([...vm.querySelectorAll('.cell')]"
                          ".map((c) => +c.getAttribute('y') / 9))]")
        # Idle 0.5 s, and 3 s, 40 s, 5000 s with what is beside it in bins
        self.assertIn(0, rows)
        self.assertTrue(any(row > 10 for row in rows))
        self.assertFalse(any(row > 17 for row in rows))
        self.assertIn("more would fit", self.browser.value(
            "document.getElementById('verdict').textContent"))
        self.wait_card("web1", "vm.querySelectorAll('.lines .path').length "
                       ">= 2")
        self.quiet()

    def test_it_goes_on(self):
        """What changes is seen without a reload."""
        guest, = self.start("web1")
        self.browser.wait_for(DRAWN)
        self.fleet.add("late", size=1024 * MIB)
        self.browser.wait_for("document.querySelectorAll('.vm').length === 2")
        guest.stuck = True
        guest.stop()
        self.browser.wait_for("document.querySelectorAll('.vm').length === 1")
        self.quiet()

    def test_deficit(self):
        self.start("a", "b", rest="[defaults]\nmin = 3500M")
        self.browser.wait_for(
            "document.getElementById('verdict').className === 'bad'")
        self.assertIn("are missing for the SLOs", self.browser.value(
            "document.body.innerText"))
        self.wait_card("a", "vm.querySelector('.why').textContent.startsWith("
                       "'It is at its floor')")
        self.quiet()

    def test_evil_name(self):
        """It is text, wherever it is shown."""
        self.start(EVIL, "web1")
        self.browser.wait_for(DRAWN)
        self.assertEqual(self.value(EVIL, "vm.querySelector('.name')"
                                    ".childElementCount"), 0)
        self.assertEqual(self.browser.value(
            "document.querySelectorAll('img, a, iframe').length"), 0)
        self.assertEqual(self.browser.value("document.title"), "wsrd")
        self.quiet()

    def test_policy_stops_scripts(self):
        """If it were not text, it would still do nothing."""
        self.start("web1")
        self.browser.value("document.body.insertAdjacentHTML('beforeend', %s)"
                           % json.dumps(EVIL))
        self.browser.value("document.body.append(Object.assign(document."
                           "createElement('script'), {textContent: "
                           "'document.title = 1'}))")
        self.browser.wait_for("document.images.length === 1 && "
                              "document.images[0].complete")
        self.wait_for(lambda: self.browser.value("1") and
                      len(self.browser.trouble) >= 2)
        self.assertEqual(self.browser.value("document.title"), "wsrd")

    def test_settings(self):
        self.start("web1")
        self.browser.wait_for(DRAWN)
        count = "vm.querySelectorAll('.cell').length"

        def choose(select, value):
            self.browser.value(
                "(() => { const s = document.getElementById('%s'); s.value = "
                "'%s'; s.dispatchEvent(new Event('change')); })()" %
                (select, value))
        rows = ("[...new Set([...vm.querySelectorAll('.cell')].map((c) => "
                "c.getAttribute('y')))].length")
        both = self.value("web1", rows)
        choose("kind", "1")
        self.assertLess(self.value("web1", rows), both)
        # A shorter time: wider columns, so more of them have something
        before = self.value("web1", count)
        choose("range", "900")
        self.wait_card("web1", count + " !== %d" % before)
        self.assertEqual(self.browser.value("location.hash"), "#900")
        self.value("web1", "vm.querySelector('summary').click()")
        self.wait_card("web1", "!vm.open")
        self.quiet()

    def test_address(self):
        """A link says which time is shown; nonsense in it does no harm."""
        self.start("web1")
        chosen = "document.getElementById('range').value"
        for address, seconds in (("#300", 300), ("#86400", 86400),
                                 ("#<b>7", 86400)):
            self.browser.open(self.url + address)
            self.browser.wait_for("%s === '%d' && range_s === %d" %
                                  (chosen, seconds, seconds))
            self.browser.wait_for("performance.getEntriesByType('resource')"
                                  ".some((r) => r.name.includes('since=%d'))"
                                  % seconds)
        self.browser.open("about:blank")
        self.browser.open(self.url + "#7")
        self.browser.wait_for(DRAWN)
        self.assertEqual(self.browser.value(chosen), "3600")
        self.quiet()

    def test_pointer(self):
        self.start("web1")
        self.browser.wait_for(DRAWN)
        self.value("web1", """(() => {
            const cell = vm.querySelector('.cell').getBoundingClientRect();
            vm.querySelector('.heatmap').dispatchEvent(new PointerEvent(
                'pointermove', {clientX: cell.x + cell.width / 2,
                                clientY: cell.y + 4}));
        })()""")
        self.assertRegex(self.value("web1", "vm.querySelector('p')"
                                    ".textContent"),
                         r"^\d\d:\d\d, idle .*: [\d.]+ [MG]iB$")
        self.quiet()

    def test_phone(self):
        """Nothing is wider than the screen."""
        self.browser.size(360, 740)
        self.start(EVIL, "a" * 60)
        self.browser.wait_for(DRAWN)
        self.assertLessEqual(self.browser.value(
            "document.documentElement.scrollWidth"), 360)
        self.browser.screenshot(self.path("phone.png"))
        with open(self.path("phone.png"), "rb") as file:
            self.assertTrue(file.read(8).startswith(b"\x89PNG"))
        self.quiet()

    def test_without_history(self):
        self.guest("web1")
        self.wsrd()
        self.wait_for(lambda: len(self.vms()) == 1)
        self.browser.open(self.url)
        self.browser.wait_for(DRAWN)
        self.assertIn("Only since this page was opened",
                      self.value("web1", "vm.innerText"))

    def test_wsrd_ends(self):
        self.start("web1")
        self.browser.wait_for(DRAWN)
        self.end(self.daemon)
        self.browser.wait_for("document.getElementById('trouble')"
                              ".textContent.startsWith('wsrd does not')")


def main():
    global BIN
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    BIN = os.path.abspath(sys.argv[1])
    loader = unittest.TestLoader()
    if len(sys.argv) > 2:
        loader.testNamePatterns = ["*%s*" % sys.argv[2]]
    suite = loader.loadTestsFromModule(sys.modules[__name__])
    print("TAP version 13")
    print("1..%d" % suite.countTestCases())
    result = Result()
    suite.run(result)
    print("# %d passed, %d failed, %d skipped" % (
        result.testsRun - len(result.failures) - len(result.errors) -
        len(result.skipped), len(result.failures) + len(result.errors),
        len(result.skipped)))
    sys.exit(not result.wasSuccessful())


class Result(TapResult):
    """Also says what was skipped, and why."""

    def startTest(self, test):
        super().startTest(test)
        self.why_skipped = None

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.why_skipped = reason

    def stopTest(self, test):
        if self.why_skipped is None:
            super().stopTest(test)
            return
        print("ok %d - %s # SKIP %s" % (
            self.testsRun, test.id().split(".", 1)[1], self.why_skipped))


if __name__ == "__main__":
    main()
