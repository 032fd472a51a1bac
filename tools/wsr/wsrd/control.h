/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What wsrctl talks to: a unix socket with one JSON object per line in each
 * direction.
 *
 *	{"command": "status"}
 *	{"command": "status", "idle-ages-ms": [5000, 60000]}
 *	{"command": "explain", "vm": "web1"}
 *	{"command": "set", "vm": "web1", "key": "shares", "value": "2"}
 *
 * With "idle-ages-ms", status has the "bins" of each VM with these bounds, as in
 * a report, out of what wsrd makes of all its reports.
 *
 * The answer has "error" with a text, or what control_answer() puts into it.
 */
#ifndef WSRD_CONTROL_H
#define WSRD_CONTROL_H

#include <systemd/sd-event.h>

#include "manager.h"

struct control;
struct json_object;

/**
 * control_start - listen
 *
 * Who may connect: the owner of the process, and the group that the
 * configuration names.
 *
 * Return: NULL with the reason in @error (CONFIG_ERROR bytes) on failure.
 */
struct control *control_start(struct manager *manager, char *error);
void control_stop(struct control *control);

/**
 * control_answer - the answer to one request, a new object
 * @request:	any JSON
 */
struct json_object *control_answer(struct manager *manager,
				   struct json_object *request);

#endif
