/* SPDX-License-Identifier: GPL-2.0 */
#ifndef WSRCTL_MIGRATE_H
#define WSRCTL_MIGRATE_H

/**
 * migrate_guard - keep a guest's memory small while it is migrated
 * @arguments:	the process id of its QEMU
 *
 * See wsrctl(1). Runs until QEMU ends or the user stops it.
 *
 * Return: exit status.
 */
int migrate_guard(char **arguments);

#endif
