# SPDX-License-Identifier: GPL-2.0
"""wsrctl migrate-guard: a migration leaves the source's memory as small as it
was."""

import signal
import subprocess

import vm
from e2e import Skip, check

MIB = 1 << 20
SHARED = ("-object", "memory-backend-memfd,id=ram,size=512M,share=on",
          "-machine", "memory-backend=ram")


def resident_mib(guest):
    with open(f"/proc/{guest.process.pid}/smaps_rollup",
              encoding="ascii") as file:
        for line in file:
            if line.startswith("Rss:"):
                return int(line.split()[1]) >> 10
    raise AssertionError("no Rss")


def migrate(env, guarded):
    """Memory of the source's QEMU before and after a migration, in MiB"""
    source = env.start("source", memory="512M", extra=SHARED)
    target = env.start("target", memory="512M", boots=False,
                       extra=(*SHARED, "-incoming", "defer"))
    guard = None
    before = resident_mib(source)
    try:
        if guarded:
            guard = subprocess.Popen(
                [vm.OUT / "bin/wsrctl", "migrate-guard",
                 str(source.process.pid)], stdout=subprocess.PIPE, text=True)
            lines = iter(guard.stdout.readline, "")
            check(any("guarding" in line for line in lines), "no guard")
        uri = f"unix:{target.qmp_path.with_name('migration')}"
        target.qmp.command("migrate-incoming", uri=uri)
        source.qmp.command("migrate", uri=uri)
        vm.wait_for(lambda: source.qmp.command("query-migrate")["status"] ==
                    "completed", 120, "the end of the migration")
        if guarded:
            vm.wait_for(lambda: resident_mib(source) < before + 64, 30,
                        "small memory")
        return before, resident_mib(source)
    finally:
        if guard:
            guard.send_signal(signal.SIGINT)
            guard.communicate(timeout=30)
        env.close_guest("source")
        env.close_guest("target")


def test_memory_stays_small(env):
    try:
        with open("/proc/self/map_files", "rb"):
            pass
    except PermissionError as error:
        raise Skip("needs root") from error
    except OSError:
        pass
    before, after = migrate(env, guarded=False)
    check(after > before + 256, f"nothing to guard: {before}, then {after} MiB")
    small_before, small = migrate(env, guarded=True)
    return (f"{before} to {after} MiB without, {small_before} to {small} MiB "
            "with it")
