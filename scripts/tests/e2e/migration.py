# SPDX-License-Identifier: GPL-2.0
"""The two most important rows of the tables that scripts/check-vmm runs."""

from vmm import migration


def run(env, row):
    note = row(env)
    env.check_logs()
    for name in ("source", "target"):
        env.close_guest(name)
    return note


def test_migration_keeps_reports_going(env):
    return run(env, migration.on_to_on)


def test_migration_without_the_property_is_refused(env):
    run(env, migration.on_to_off)
