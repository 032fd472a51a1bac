# SPDX-License-Identifier: GPL-2.0
"""A Chromium without a window, driven over a pair of pipes.

    with Browser() as browser:
        browser.open("http://127.0.0.1:9911/")
        browser.wait_for("document.title == 'wsrd'")
        browser.screenshot("page.png")

Usage: browser.py URL FILE [WIDTH [HEIGHT [dark]]]

takes a picture of wsrd's page once all VMs are drawn.
"""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

# Far above what is needed, for slow machines.
PATIENCE_S = 180
FLAGS = ["--headless", "--remote-debugging-pipe", "--disable-gpu",
         "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         "--disable-default-apps", "--disable-extensions", "--disable-sync",
         "--no-proxy-server"]
# Each VM that is open shows its memory by age.
DRAWN = """document.querySelectorAll(".vm[open]").length > 0 &&
           [...document.querySelectorAll(".vm[open]")].every(
               (vm) => vm.querySelector(".cell"))"""


def find():
    """The program, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def pipe():
    """Not with the numbers 3 and 4, which the browser wants to have."""
    ends = os.pipe()
    result = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return result


class Browser:
    """One page. trouble collects what the page's console says of errors."""

    def __init__(self, width=1280, height=1000, dark=False):
        self.trouble = []
        self.buffer = b""
        self.number = 0
        self.session = None
        self.profile = tempfile.mkdtemp(prefix="wsrweb")
        their_in, self.out = pipe()
        self.inp, their_out = pipe()
        flags = FLAGS + ["--user-data-dir=" + self.profile]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        self.child = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&%d 4>&%d' % (their_in, their_out),
             "bash", find(), *flags], pass_fds=(their_in, their_out),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(their_in)
        os.close(their_out)
        target = self.call("Target.createTarget", url="about:blank")
        self.session = self.call("Target.attachToTarget", flatten=True,
                                 targetId=target["targetId"])["sessionId"]
        for domain in "Runtime", "Log", "Page":
            self.call(domain + ".enable")
        self.size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{
            "name": "prefers-color-scheme",
            "value": "dark" if dark else "light"}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End it, and all that it has left."""
        os.close(self.out)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        os.close(self.inp)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _message(self):
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.inp], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.inp, 1 << 16)
            if not data:
                raise ConnectionError("the browser has ended")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(line)

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.trouble.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and \
                params["type"] in ("error", "warning", "assert"):
            self.trouble.append(params["args"])
        elif method == "Log.entryAdded" and \
                params["entry"]["level"] in ("error", "warning"):
            self.trouble.append(params["entry"])

    def call(self, method, **params):
        """A command of the DevTools protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") != self.number:
                self._note(answer)
                continue
            if "error" in answer:
                raise RuntimeError("%s: %s" % (method, answer["error"]))
            return answer["result"]

    def size(self, width, height):
        """Of the window, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width,
                  height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url):
        """Go to a page. Does not wait for anything on it."""
        self.call("Page.navigate", url=url)

    def value(self, expression):
        """What an expression has as its value in the page."""
        answer = self.call("Runtime.evaluate", expression=expression,
                           returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Wait until it is true; return its value."""
        end = time.monotonic() + PATIENCE_S
        while True:
            value = self.value(expression)
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError("never true: %s\n%s" % (
                    expression, self.value("document.body.innerText")))
            time.sleep(0.1)

    def screenshot(self, path):
        """The whole page as PNG."""
        picture = self.call("Page.captureScreenshot", format="png",
                            captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))


def main():
    if len(sys.argv) not in (3, 4, 5, 6):
        sys.exit(__doc__)
    if not find():
        sys.exit("browser.py: there is no chromium: apt-get install chromium")
    width, height = [int(n) for n in sys.argv[3:5]] + [1280, 1000][
        len(sys.argv[3:5]):]
    with Browser(width, height, sys.argv[5:] == ["dark"]) as browser:
        browser.open(sys.argv[1])
        browser.wait_for(DRAWN)
        browser.screenshot(sys.argv[2])


if __name__ == "__main__":
    main()
