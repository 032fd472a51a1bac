// SPDX-License-Identifier: GPL-2.0
/*
 * A trace of all that goes into decisions, and what came out.
 */
#include <json-c/json.h>

#include "trace.h"

const char *action_kind_name(enum wsr_action_kind kind)
{
	static const char * const names[] = {
		[WSR_SET_BALLOON] = "balloon",
		[WSR_RECLAIM_GUEST] = "reclaim-request",
		[WSR_RECLAIM_CGROUP] = "memory.reclaim",
		[WSR_SET_HIGH] = "memory.high",
	};

	return names[kind];
}

static struct json_object *new_line(int64_t now_ms, const char *vm)
{
	struct json_object *line = json_object_new_object();

	json_object_object_add(line, "t", json_object_new_int64(now_ms));
	if (vm)
		json_object_object_add(line, "vm", json_object_new_string(vm));
	return line;
}

static void put_bytes(struct json_object *line, const char *name,
		      uint64_t bytes)
{
	json_object_object_add(line, name, json_object_new_uint64(bytes));
}

static void put_number(struct json_object *line, const char *name,
		       double number)
{
	json_object_object_add(line, name, json_object_new_double(number));
}

static void put_bool(struct json_object *line, const char *name, bool value)
{
	json_object_object_add(line, name, json_object_new_boolean(value));
}

static void write_line(struct manager *manager, struct json_object *line)
{
	manager->trace->line(manager->trace->arg, line);
}

void trace_host(struct manager *manager)
{
	const struct wsr_host *host = &manager->host;
	struct json_object *line, *object;

	if (!manager->trace)
		return;
	line = new_line(monotonic_ms(), NULL);
	object = json_object_new_object();
	put_bytes(object, "total", host->total_bytes);
	put_bytes(object, "other", host->other_bytes);
	put_bytes(object, "reserved", host->reserved_bytes);
	put_bytes(object, "swap", host->swap_bytes);
	put_bool(object, "pressed", host->pressed);
	json_object_object_add(line, "host", object);
	write_line(manager, line);
}

void trace_vm(struct manager *manager, const struct managed *managed)
{
	const struct wsr_vm *plan = manager_plan(manager, managed);
	struct json_object *line;

	if (!manager->trace || !plan)
		return;
	line = new_line(monotonic_ms(), managed->vm->name);
	put_bytes(line, "size", plan->size_bytes);
	put_bytes(line, "actual", plan->actual_bytes);
	put_bytes(line, "swapped", plan->swapped_bytes);
	put_number(line, "psi", plan->psi);
	put_bool(line, "migrating", plan->migrating);
	put_bool(line, "doubted", plan->doubted);
	put_number(line, "shares", managed->policy.shares);
	put_bytes(line, "min", managed->policy.min_bytes);
	put_bytes(line, "max", managed->policy.max_bytes);
	put_number(line, "slo", managed->policy.slo);
	put_bool(line, "trusted", managed->policy.trusted);
	put_bool(line, "hands-off", managed->policy.hands_off);
	json_object_object_add(line, "actuator",
			       json_object_new_int(managed->policy.actuator));
	write_line(manager, line);
}

void trace_report(struct manager *manager, const struct managed *managed,
		  const struct report_node *node, int64_t data_ms)
{
	struct report report;
	struct json_object *line;

	if (!manager->trace)
		return;
	report = (struct report) { .status = REPORT_OK, .nr_nodes = 1 };
	report.nodes[0] = *node;
	line = new_line(data_ms, managed->vm->name);
	json_object_object_add(line, "report", report_to_json(&report));
	write_line(manager, line);
}

void trace_pressure(struct manager *manager, const struct managed *managed)
{
	struct json_object *line;

	if (!manager->trace)
		return;
	line = new_line(monotonic_ms(), managed->vm->name);
	put_bool(line, "pressure", true);
	write_line(manager, line);
}

void trace_gone(struct manager *manager, const char *name)
{
	struct json_object *line;

	if (!manager->trace)
		return;
	line = new_line(monotonic_ms(), name);
	put_bool(line, "gone", true);
	write_line(manager, line);
}

void trace_plan(struct manager *manager, const struct wsr_action *actions,
		size_t nr)
{
	int64_t now_ms = monotonic_ms();
	struct json_object *line;

	if (!manager->trace)
		return;
	line = new_line(now_ms, NULL);
	put_bool(line, "plan", true);
	write_line(manager, line);
	for (size_t i = 0; i < nr; i++) {
		const struct wsr_action *action = &actions[i];

		line = new_line(now_ms,
				manager->plan_vms[action->vm]->vm->name);
		json_object_object_add(line, "action",
			json_object_new_string(action_kind_name(action->kind)));
		put_bytes(line, "bytes", action->bytes);
		json_object_object_add(line, "reason",
			json_object_new_string(wsr_reason_name(action->reason)));
		write_line(manager, line);
	}
}

void trace_all(struct manager *manager)
{
	trace_host(manager);
	for (size_t i = 0; i < manager->nr_vms; i++)
		trace_vm(manager, manager->vms[i]);
}
