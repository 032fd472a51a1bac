/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VM's history as a picture of characters.
 */
#ifndef WSRCTL_HISTORY_H
#define WSRCTL_HISTORY_H

#include <stdbool.h>

/**
 * history_main - wsrctl history [--since TIME] [--json] VM
 * @argv:	from "history" on
 * @socket:	of wsrd
 * @as_json:	print the answer as it is
 *
 * A heatmap of idle ages, lines of sizes, and a table; as wide as the terminal,
 * in ASCII where the locale has nothing else.
 *
 * Return: exit status.
 */
int history_main(int argc, char **argv, const char *socket, bool as_json);

#endif
