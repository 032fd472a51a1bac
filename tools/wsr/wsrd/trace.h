/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A trace of all that goes into decisions, and what came out: one JSON object
 * per line, for wsrctl record and replay.
 *
 *	{"t": MS, "host": {"total": ..., "other": ..., "reserved": ...,
 *			"swap": ..., "pressed": ...}}
 *	{"t": MS, "vm": NAME, "size": ..., "actual": ..., "swapped": ..., ...}
 *	{"t": MS, "vm": NAME, "report": {...}}	as in QMP; the sums over all nodes
 *	{"t": MS, "vm": NAME, "pressure": true}
 *	{"t": MS, "vm": NAME, "gone": true}
 *	{"t": MS, "plan": true}			decide now
 *	{"t": MS, "vm": NAME, "action": KIND, "bytes": ..., "reason": ...}
 *
 * Facts are only written when they have changed.
 */
#ifndef WSRD_TRACE_H
#define WSRD_TRACE_H

#include "manager.h"

struct json_object;

/**
 * struct trace - somebody records
 * @line:	takes over a line
 */
struct trace {
	void (*line)(void *arg, struct json_object *line);
	void *arg;
};

/** trace_all - all facts that are known now: how a trace begins */
void trace_all(struct manager *manager);

/* All of these do nothing unless somebody records. */
void trace_host(struct manager *manager);
void trace_vm(struct manager *manager, const struct managed *managed);
void trace_report(struct manager *manager, const struct managed *managed,
		  const struct report_node *node, int64_t data_ms);
void trace_pressure(struct manager *manager, const struct managed *managed);
void trace_gone(struct manager *manager, const char *name);
void trace_plan(struct manager *manager, const struct wsr_action *actions,
		size_t nr);

const char *action_kind_name(enum wsr_action_kind kind);

#endif
