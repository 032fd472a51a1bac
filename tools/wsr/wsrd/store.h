/* SPDX-License-Identifier: GPL-2.0 */
/*
 * History: what each VM had and used, once a minute or so, in an sqlite file.
 *
 *	manager ─► a batch ─► thread ─► file ─► store_history()
 *
 * Only the thread writes: a disk may be slow, most of all on a host that is
 * short of memory, and decisions must not wait for it. It is given copies, and
 * shares nothing else with the rest of wsrd.
 */
#ifndef WSRD_STORE_H
#define WSRD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "manager.h"

struct store;
struct json_object;

/**
 * store_start - begin to keep the history that the configuration asks for
 *
 * What goes wrong later is logged, and there is no history then: a full disk
 * is tried again with the next batch, a damaged file is left alone.
 *
 * Return: NULL if none is configured, or it can't be kept (logged).
 */
struct store *store_start(struct manager *manager);

/** store_stop - write what is under way, and end */
void store_stop(struct store *store);

/** store_ok - was the last batch written? True before the first one. */
bool store_ok(const struct store *store);

#define STORE_POINTS	400	/* at most, in one answer */

/**
 * store_history - the rows of a VM
 * @name:	of the VM
 * @since_s:	how far back
 *
 * If there are more than STORE_POINTS rows, the newest one of each interval.
 *
 * Return: a new object with the rows, or with "error".
 */
struct json_object *store_history(struct store *store, const char *name,
				  uint32_t since_s);

#endif
