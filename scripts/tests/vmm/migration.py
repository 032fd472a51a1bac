# SPDX-License-Identifier: GPL-2.0
"""Migration between two QEMUs, and snapshots."""

import dataclasses

import vm
from e2e import Skip, check, near
from e2e.coexistence import check_balloon
from e2e.lifecycle import set_balloon
from vmm import (ON, Row, Table, ask_to_reclaim, boot_id, check_no_reporting,
                 check_report, check_reporting, start)

SETTINGS = {"idle-age-ms": [1234, 5678, 9999], "refresh-ms": 777,
            "report-ms": 1000}


@dataclasses.dataclass
class Side:
    """A QEMU with a balloon that has the feature, or not."""
    name: str
    qemu: str
    balloon: str

    def start(self, env, name, **options):
        qemu = vm.qemu_binary(self.qemu)
        if not qemu.exists():
            raise Skip(f"no {qemu}: see scripts/build-qemu")
        return start(env, name, **{"qemu": qemu, "balloon": self.balloon,
                                   "swap": "256M", **options})

    def expect(self, env, **options):
        """A QEMU that waits for the guest."""
        extra = (*options.pop("extra", ()), "-incoming", "defer")
        return self.start(env, "target", boots=False, extra=extra, **options)


PATCHED_ON = Side("on", "qemu", ON)
REPORTING_ONLY = Side("reporting", "qemu", "working-set-reporting=on")
PATCHED_OFF = Side("off", "qemu", "")
UNPATCHED = Side("unpatched", "qemu-stock", "")
QEMU_10_2 = Side("10.2", "qemu-10.2", ON)


def begin(source, target):
    """Starts a migration. As with libvirt, the source hears what became of it,
    and a target that fails stays to be asked why."""
    for guest in (source, target):
        guest.qmp.command("migrate-set-capabilities", capabilities=[
            {"capability": "return-path", "state": True}])
    uri = f"unix:{target.qmp_path.with_name('migration')}"
    target.qmp.command("migrate-incoming", uri=uri, **{"exit-on-error": False})
    source.qmp.command("migrate", uri=uri)


def status(guest):
    return guest.qmp.command("query-migrate").get("status")


def end(guest, expected):
    """Waits for the end of a migration and checks what became of it."""
    ends = ("completed", "failed", "cancelled")
    vm.wait_for(lambda: status(guest) in ends, 120, "the end of the migration")
    found = guest.qmp.command("query-migrate")
    check(found["status"] == expected,
          f"migration {found['status']}: {found.get('error-desc')}")


def wait_running(guest):
    vm.wait_for(lambda: guest.qmp.command("query-status")["running"], 30,
                "the guest to run")


def migrate(source, target):
    begin(source, target)
    end(source, "completed")
    wait_running(target)


def migrate_in_vain(env, source, target, words):
    """The target has to refuse the guest, in these words of its log; the source
    has to go on. Returns the line of the log."""
    before = boot_id(source)
    begin(source, target)
    end(source, "failed")
    end(target, "failed")
    wait_running(source)
    log = target.qemu_log_path.read_text()
    check(words in log, f"not \"{words}\" but:\n{log}")
    env.close_guest("target")
    check(boot_id(source) == before, "the source has restarted")
    return next(line for line in log.splitlines() if words in line)


def source_with_settings(env, side=PATCHED_ON, **options):
    """A guest that reports with SETTINGS, which are not the default."""
    source = side.start(env, "source", **options)
    source.set("guest-working-set-config", SETTINGS)
    source.request_report()
    return source


def run_short(guest):
    """Makes kswapd run, which is when a guest reports by itself: more than its
    memory is written to tmpfs. Swap takes it, as compressed zeros."""
    guest.sh("mount -o remount,size=400M /tmp && "
             "dd if=/dev/zero of=/tmp/fill bs=1M count=280 && rm /tmp/fill")


def check_arrived(source, target):
    """Settings and request id are the same, and the guest goes on reporting,
    with and without being asked."""
    for name in ("guest-working-set-config", "guest-working-set-request-id"):
        check(target.get(name) == source.get(name),
              f"{name} was {source.get(name)}, is {target.get(name)}")
    check(target.get("guest-working-set")["active"], "not active")
    last = source.get("guest-working-set")["report"]["sequence"]
    asked = target.request_report()
    check_report(asked)
    ages = [b.get("idle-age-ms") for b in asked["nodes"][0]["bins"]]
    check(ages == [*SETTINGS["idle-age-ms"], None], f"bins {ages}")
    check(asked["sequence"] > last,
          f"sequence {last}, then {asked['sequence']}")
    mark = target.qmp.mark()
    run_short(target)
    unasked = target.qmp.wait_event(
        "BALLOON_WORKING_SET", mark, lambda data: data["request-id"] == 0)
    check(unasked["data"]["sequence"] > asked["sequence"],
          f"sequence {asked['sequence']}, then {unasked['data']['sequence']}")
    return f"sequence {last}, then {asked['sequence']}"


def on_to_on(env, sides=(PATCHED_ON, PATCHED_ON), **options):
    source = source_with_settings(env, sides[0], **options)
    target = sides[1].expect(env, **options)
    before = boot_id(source)
    migrate(source, target)
    note = check_arrived(source, target)
    target.configure(idle_age_ms=[4321])
    check(len(target.request_report()["nodes"][0]["bins"]) == 2,
          "the guest does not see settings of the target")
    check_balloon(target)
    check(boot_id(target) == before, "the guest has restarted")
    return note


def all_queues(env):
    return on_to_on(env, balloon=(
        f"{ON},free-page-reporting=on,free-page-hint=on,iothread=hint"),
        extra=("-object", "iothread,id=hint"))


def between_versions(*sides):
    def run(env):
        # The newest machine that both have
        return on_to_on(env, sides, extra=("-machine", "pc-q35-10.0"))
    return run


def incoming_without_defer(env):
    source = source_with_settings(env)
    path = source.qmp_path.with_name("migration")
    target = PATCHED_ON.start(env, "target", boots=False,
                              extra=("-incoming", f"unix:{path}"))
    source.qmp.command("migrate", uri=f"unix:{path}")
    end(source, "completed")
    wait_running(target)
    return check_arrived(source, target)


def without_reporting(env):
    """Request id 0 stays 0: no reports are wanted."""
    source = PATCHED_ON.start(env, "source")
    source.set("guest-working-set-config", SETTINGS)
    target = PATCHED_ON.expect(env)
    migrate(source, target)
    check(target.get("guest-working-set-request-id") == 0, "another id")
    run_short(target)
    check_balloon(target)
    check(not target.qmp.events_since(0, "BALLOON_WORKING_SET"),
          "reports although none are wanted")
    check_reporting(target)


def driver_without_feature(env):
    """What the host has set is for the driver that comes next."""
    kernel = vm.kernel_image(env.base, wsr=False)
    source = PATCHED_ON.start(env, "source", kernel=kernel)
    source.set("guest-working-set-config", SETTINGS)
    target = PATCHED_ON.expect(env, kernel=kernel)
    migrate(source, target)
    check(target.get("guest-working-set-config") == SETTINGS, "settings lost")
    check_no_reporting(target)


def reclaim_request(env):
    """The guest has not even seen the request when it migrates."""
    source = PATCHED_ON.start(env, "source")
    asked = ask_to_reclaim(source)
    target = PATCHED_ON.expect(env)
    begin(source, target)
    end(source, "completed")
    found = target.get("guest-working-set-reclaim")
    check(found == asked, f"{asked} arrived as {found}")
    target.qmp.command("cont")
    target.reclaim_result(asked["id"])


def reclaim_to_reporting(env):
    return migrate_in_vain(env, PATCHED_ON.start(env, "source"),
                           REPORTING_ONLY.expect(env),
                           "start this QEMU with working-set-reclaim=on")


def on_to_off(env):
    source = source_with_settings(env)
    line = migrate_in_vain(env, source, PATCHED_OFF.expect(env),
                           "start this QEMU with working-set-reporting=on")
    check_reporting(source)
    # The source can still go where the feature is.
    target = PATCHED_ON.expect(env)
    migrate(source, target)
    check_arrived(source, target)
    return line


def on_to_unpatched(env, **options):
    """An unpatched QEMU can't know why, but has to say which device it is."""
    source = PATCHED_ON.start(env, "source", **options)
    return source, migrate_in_vain(
        env, source, UNPATCHED.expect(env, **options),
        "error while loading state for instance 0x0 of device "
        "'0000:00:01.0/virtio-balloon'")


def reporting_to_unpatched(env):
    source, line = on_to_unpatched(env)
    check_reporting(source)
    return line


def not_reporting_to_unpatched(env):
    source, line = on_to_unpatched(
        env, kernel=vm.kernel_image(env.base, wsr=False))
    check_no_reporting(source)
    return line


def to_on(side):
    """The guest's driver can't learn of the feature before it starts anew."""
    def run(env):
        source = side.start(env, "source")
        target = PATCHED_ON.expect(env)
        migrate(source, target)
        check_no_reporting(target)
        target.reboot()
        check_reporting(target)
        return "off, on after a reboot of the guest"
    return run


def there_and_back(first, second):
    def run(env):
        guest = first.start(env, "source")
        before = boot_id(guest)
        for hop, side in enumerate((second, first)):
            target = side.start(env, f"target{hop}", boots=False,
                                extra=("-incoming", "defer"))
            migrate(guest, target)
            check_balloon(target)
            guest = target
        check(boot_id(guest) == before, "the guest has restarted")
    return run


def requested_while_stopped(env):
    """The guest has not even seen the request when it migrates."""
    source = source_with_settings(env)
    target = PATCHED_ON.expect(env)
    source.qmp.command("stop")
    source.set("guest-working-set-request-id", 4711)
    begin(source, target)
    end(source, "completed")
    target.qmp.command("cont")
    event = target.qmp.wait_event(
        "BALLOON_WORKING_SET",
        predicate=lambda data: data["request-id"] == 4711)
    check_report(event["data"])
    return check_arrived(source, target)


def answered(guest, request):
    state = guest.get("guest-working-set")
    return state.get("report", {}).get("request-id") == request


def requested_just_before(env):
    """Whichever side the answer comes to: it is not lost."""
    guest = PATCHED_ON.start(env, "source")
    there = 0
    for hop in range(6):
        target = PATCHED_ON.start(env, f"target{hop}", boots=False,
                                  extra=("-incoming", "defer"))
        request = 100 * (hop + 1)
        guest.set("guest-working-set-request-id", request)
        migrate(guest, target)
        vm.wait_for(lambda: answered(guest, request) or
                    answered(target, request), 30,
                    f"the answer to {request} on either side")
        there += answered(target, request)
        check_report(target.request_report())
        guest = target
    return f"{there} of 6 answers came to the target"


def slow_down(source, bytes_per_second):
    source.qmp.command("migrate-set-parameters",
                       **{"max-bandwidth": bytes_per_second})


def settings_during_migration(env):
    """What the host sets last is what arrives."""
    source = PATCHED_ON.start(env, "source")
    target = PATCHED_ON.expect(env)
    slow_down(source, 1 << 20)
    begin(source, target)
    vm.wait_for(lambda: status(source) == "active", 30, "the migration")
    source.set("guest-working-set-config", SETTINGS)
    source.request_report()
    check(status(source) == "active", "over before the settings changed")
    slow_down(source, 1 << 34)
    end(source, "completed")
    wait_running(target)
    return check_arrived(source, target)


def cancelled(env):
    source = source_with_settings(env)
    slow_down(source, 1 << 20)
    begin(source, PATCHED_ON.expect(env))
    vm.wait_for(lambda: status(source) == "active", 30, "the migration")
    source.set("guest-working-set-request-id", 4711)
    source.qmp.command("migrate_cancel")
    end(source, "cancelled")
    vm.wait_for(lambda: answered(source, 4711), 30, "the answer to 4711")
    check_reporting(source)
    env.close_guest("target")
    # and now in earnest
    slow_down(source, 1 << 34)
    target = PATCHED_ON.expect(env)
    migrate(source, target)
    return check_arrived(source, target)


def inflated(env):
    source = source_with_settings(env)
    full = source.request_report()["nodes"][0]["total-bytes"]
    set_balloon(source, 192 << 20)
    target = PATCHED_ON.expect(env)
    migrate(source, target)
    small = target.request_report()["nodes"][0]["total-bytes"]
    near(full - small, 64 << 20, 4 << 20, "total without the balloon's pages")
    set_balloon(target, 256 << 20)
    near(target.request_report()["nodes"][0]["total-bytes"], full, 4 << 20,
         "total after the balloon has gone")


def job(guest, command, **arguments):
    """Runs a command that makes a job, to the end of the job."""
    guest.qmp.command(command, **{"job-id": command, **arguments})

    def concluded():
        found = [j for j in guest.qmp.command("query-jobs")
                 if j["id"] == command]
        return found[0] if found[0]["status"] == "concluded" else None

    error = vm.wait_for(concluded, 60, command).get("error")
    guest.qmp.command("job-dismiss", id=command)
    check(not error, f"{command}: {error}")


def add_image(guest, path, create):
    """A disk that takes snapshots, "vmstate"; the guest does not see it."""
    if create:
        job(guest, "blockdev-create", options={
            "driver": "file", "filename": str(path), "size": 0})
    guest.qmp.command("blockdev-add", driver="file", filename=str(path),
                      **{"node-name": "file"})
    if create:
        job(guest, "blockdev-create", options={
            "driver": "qcow2", "file": "file", "size": 1 << 20})
    guest.qmp.command("blockdev-add", driver="qcow2", file="file",
                      **{"node-name": "vmstate"})


SNAPSHOT = {"tag": "one", "vmstate": "vmstate", "devices": ["vmstate"]}


def snapshot_in_place(env):
    """Back to an earlier state: the settings of then, not those of now."""
    guest = source_with_settings(env)
    request = guest.get("guest-working-set-request-id")
    add_image(guest, guest.qmp_path.with_name("image"), create=True)
    job(guest, "snapshot-save", **SNAPSHOT)
    guest.sh("touch /run/later")
    guest.configure(idle_age_ms=[100, 200])
    guest.request_report()
    job(guest, "snapshot-load", **SNAPSHOT)
    wait_running(guest)
    check(guest.get("guest-working-set-config") == SETTINGS, "other settings")
    check(guest.get("guest-working-set-request-id") == request, "another id")
    check(guest.run("[ -e /run/later ]")[0] != 0, "not the state of then")
    check_reporting(guest)
    ages = [b.get("idle-age-ms")
            for b in guest.request_report()["nodes"][0]["bins"]]
    check(ages == [*SETTINGS["idle-age-ms"], None], f"bins {ages}")


def snapshot_elsewhere(side, words=None):
    """The snapshot goes into a new QEMU; words: why that does not take it."""
    def run(env):
        source = source_with_settings(env)
        path = source.qmp_path.with_name("image")
        add_image(source, path, create=True)
        job(source, "snapshot-save", **SNAPSHOT)
        source.qmp.command("stop")
        source.qmp.command("blockdev-del", **{"node-name": "vmstate"})
        target = side.start(env, "target", boots=False, extra=("-S",))
        add_image(target, path, create=False)
        if words:
            try:
                job(target, "snapshot-load", **SNAPSHOT)
            except AssertionError:
                check(words in target.qemu_log_path.read_text(),
                      target.qemu_log_path.read_text())
                env.close_guest("target")
                return words
            raise AssertionError("the snapshot was loaded")
        job(target, "snapshot-load", **SNAPSHOT)
        target.qmp.command("cont")
        return check_arrived(source, target)
    return run


TABLES = [
    Table("migration: working-set-reporting on, off, or a QEMU without it",
          ("from", "to", "what", "expected"), [
        Row(("on", "on", "settings, id, sequence", "reports go on"), on_to_on),
        Row(("on", "on", "all queues", "reports go on"), all_queues),
        Row(("on", "on", "-incoming without defer", "reports go on"),
            incoming_without_defer),
        Row(("on", "on", "balloon inflated", "reports go on"), inflated),
        Row(("on", "on", "request id 0", "stays silent"), without_reporting),
        Row(("on", "on", "driver without feature", "settings arrive"),
            driver_without_feature),
        Row(("on", "on", "request to reclaim", "arrives"), reclaim_request),
        Row(("on", "on", "requested while stopped", "answered there"),
            requested_while_stopped),
        Row(("on", "on", "requested just before, 6 times", "answered"),
            requested_just_before),
        Row(("on", "on", "settings change meanwhile", "the last arrive"),
            settings_during_migration),
        Row(("on", "on", "cancelled, then again", "reports go on"), cancelled),
        Row(("on", "on without reclaim", "", "refused"), reclaim_to_reporting),
        Row(("on", "off", "", "refused, source goes on"), on_to_off),
        Row(("on", "unpatched", "", "refused, source goes on"),
            reporting_to_unpatched),
        Row(("on", "unpatched", "driver without feature",
             "refused, source goes on"), not_reporting_to_unpatched),
        Row(("off", "on", "", "off until the driver restarts"),
            to_on(PATCHED_OFF)),
        Row(("unpatched", "on", "", "off until the driver restarts"),
            to_on(UNPATCHED)),
        Row(("off", "unpatched", "and back", "works"),
            there_and_back(PATCHED_OFF, UNPATCHED)),
        Row(("unpatched", "off", "and back", "works"),
            there_and_back(UNPATCHED, PATCHED_OFF)),
    ]),
    Table("migration between QEMU 10.0 and 10.2, machine pc-q35-10.0",
          ("from", "to", "what", "expected"), [
        Row(("10.0", "10.2", "settings, id, sequence", "reports go on"),
            between_versions(PATCHED_ON, QEMU_10_2)),
        Row(("10.2", "10.0", "settings, id, sequence", "reports go on"),
            between_versions(QEMU_10_2, PATCHED_ON)),
    ]),
    Table("snapshots", ("from", "to", "what", "expected"), [
        Row(("on", "on", "same QEMU", "settings of then"), snapshot_in_place),
        Row(("on", "on", "new QEMU", "reports go on"),
            snapshot_elsewhere(PATCHED_ON)),
        Row(("on", "off", "new QEMU", "refused"), snapshot_elsewhere(
            PATCHED_OFF, "start this QEMU with working-set-reporting=on")),
    ]),
]
