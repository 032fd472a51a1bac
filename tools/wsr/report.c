// SPDX-License-Identifier: GPL-2.0
/*
 * Check a working set report and turn it into plain numbers.
 * No I/O.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "report.h"

static const char * const status_name[] = {
	[REPORT_OK]		= "ok",
	[REPORT_UNSUPPORTED]	= "unsupported",
	[REPORT_TRY_LATER]	= "try-later",
};

/* json-c turns what is larger into UINT64_MAX: that is not accepted. */
#define NUMBER_MAX	(UINT64_MAX - 1)

#define NR_STATUS (sizeof(status_name) / sizeof(status_name[0]))

/* The fields of a node that are plain counts of bytes. */
static const struct {
	const char *name;
	size_t offset;
} node_fields[] = {
	{ "total-bytes", offsetof(struct report_node, total_bytes) },
	{ "free-bytes", offsetof(struct report_node, free_bytes) },
	{ "unevictable-bytes",
	  offsetof(struct report_node, unevictable_bytes) },
	{ "kernel-bytes", offsetof(struct report_node, kernel_bytes) },
	{ "slab-reclaimable-bytes",
	  offsetof(struct report_node, slab_reclaimable_bytes) },
	{ "swap-free-bytes", offsetof(struct report_node, swap_free_bytes) },
	{ "refaulted-bytes", offsetof(struct report_node, refaulted_bytes) },
};

#define NR_NODE_FIELDS (sizeof(node_fields) / sizeof(node_fields[0]))

static uint64_t *node_field(struct report_node *node, size_t i)
{
	return (uint64_t *)((char *)node + node_fields[i].offset);
}

static uint64_t node_value(const struct report_node *node, size_t i)
{
	return *(const uint64_t *)((const char *)node + node_fields[i].offset);
}

static int get_number(struct json_object *object, const char *name,
		      uint64_t max, uint64_t *value, char *error)
{
	struct json_object *field;

	if (!json_object_object_get_ex(object, name, &field) ||
	    !json_object_is_type(field, json_type_int) ||
	    json_object_get_int64(field) < 0 ||
	    json_object_get_uint64(field) > max) {
		snprintf(error, REPORT_ERROR,
			 "\"%s\" is missing or not a number from 0 to %" PRIu64,
			 name, max);
		return -1;
	}
	*value = json_object_get_uint64(field);
	return 0;
}

static int get_bool(struct json_object *object, const char *name, bool *value,
		    char *error)
{
	struct json_object *field;

	if (!json_object_object_get_ex(object, name, &field) ||
	    !json_object_is_type(field, json_type_boolean)) {
		snprintf(error, REPORT_ERROR,
			 "\"%s\" is missing or neither true nor false", name);
		return -1;
	}
	*value = json_object_get_boolean(field);
	return 0;
}

static int get_array(struct json_object *object, const char *name, size_t max,
		     struct json_object **array, char *error)
{
	if (!json_object_object_get_ex(object, name, array) ||
	    !json_object_is_type(*array, json_type_array)) {
		snprintf(error, REPORT_ERROR, "\"%s\" is missing or no list",
			 name);
		return -1;
	}
	if (json_object_array_length(*array) > max) {
		snprintf(error, REPORT_ERROR,
			 "\"%s\" has more than %zu entries", name, max);
		return -1;
	}
	return 0;
}

static int add(uint64_t *sum, uint64_t bytes, char *error)
{
	if (__builtin_add_overflow(*sum, bytes, sum)) {
		snprintf(error, REPORT_ERROR,
			 "the sizes add up to more than 2^64 bytes");
		return -1;
	}
	return 0;
}

int report_parse_bins(struct json_object *json, struct report_node *node,
		      char error[REPORT_ERROR])
{
	struct json_object *array, *entry;
	uint64_t previous_ms = 0;
	struct report_bin *bin;
	unsigned int i;

	if (get_array(json, "bins", REPORT_MAX_BINS, &array, error))
		return -1;
	node->lru_bytes = 0;
	node->nr_bins = json_object_array_length(array);
	if (node->nr_bins < 2) {
		snprintf(error, REPORT_ERROR, "fewer than 2 bins");
		return -1;
	}
	for (i = 0; i < node->nr_bins; i++) {
		bin = &node->bins[i];
		entry = json_object_array_get_idx(array, i);
		if (get_number(entry, "swap-backed-bytes", NUMBER_MAX,
			       &bin->swap_backed_bytes, error) ||
		    get_number(entry, "file-backed-bytes", NUMBER_MAX,
			       &bin->file_backed_bytes, error) ||
		    add(&node->lru_bytes, bin->swap_backed_bytes, error) ||
		    add(&node->lru_bytes, bin->file_backed_bytes, error))
			return -1;

		bin->idle_age_ms = REPORT_OPEN_BIN;
		if (i + 1 == node->nr_bins)
			break;
		if (get_number(entry, "idle-age-ms", NUMBER_MAX,
			       &bin->idle_age_ms, error))
			return -1;
		if (bin->idle_age_ms <= previous_ms) {
			snprintf(error, REPORT_ERROR,
				 "the bounds of the bins do not increase");
			return -1;
		}
		previous_ms = bin->idle_age_ms;
	}
	return 0;
}

static int parse_node(struct json_object *json, struct report_node *node,
		      char *error)
{
	uint64_t value;
	size_t i;

	memset(node, 0, sizeof(*node));
	node->node_id = REPORT_ALL_NODES;
	if (json_object_object_get_ex(json, "node-id", NULL)) {
		if (get_number(json, "node-id", UINT16_MAX, &value, error))
			return -1;
		node->node_id = value;
	}
	if (get_bool(json, "warming-up", &node->warming_up, error) ||
	    get_number(json, "age-ms", UINT32_MAX, &value, error))
		return -1;
	node->age_ms = value;
	for (i = 0; i < NR_NODE_FIELDS; i++) {
		if (get_number(json, node_fields[i].name, NUMBER_MAX,
			       node_field(node, i), error))
			return -1;
	}
	return report_parse_bins(json, node, error);
}

/* Add @node to @guest, the sum so far, which has seen at least one node. */
static int add_node(struct report_node *guest, const struct report_node *node,
		    char *error)
{
	unsigned int i;

	if (!report_same_bounds(guest, node)) {
		snprintf(error, REPORT_ERROR, "nodes with different bins");
		return -1;
	}
	guest->node_id = REPORT_ALL_NODES;
	guest->warming_up |= node->warming_up;
	if (node->age_ms > guest->age_ms)
		guest->age_ms = node->age_ms;
	for (i = 0; i < NR_NODE_FIELDS; i++) {
		/* Swap belongs to the whole guest, each node says the same. */
		if (node_field(guest, i) == &guest->swap_free_bytes)
			continue;
		if (add(node_field(guest, i), node_value(node, i), error))
			return -1;
	}
	if (add(&guest->lru_bytes, node->lru_bytes, error))
		return -1;
	/* No bin is larger than lru_bytes: these sums cannot overflow. */
	for (i = 0; i < guest->nr_bins; i++) {
		guest->bins[i].swap_backed_bytes +=
			node->bins[i].swap_backed_bytes;
		guest->bins[i].file_backed_bytes +=
			node->bins[i].file_backed_bytes;
	}
	return 0;
}

static int parse_status(struct json_object *json, enum report_status *status,
			char *error)
{
	struct json_object *field;
	size_t i;

	if (json_object_object_get_ex(json, "status", &field) &&
	    json_object_is_type(field, json_type_string)) {
		for (i = 0; i < NR_STATUS; i++) {
			if (strcmp(json_object_get_string(field),
				   status_name[i]))
				continue;
			*status = i;
			return 0;
		}
	}
	snprintf(error, REPORT_ERROR, "\"status\" is missing or not known");
	return -1;
}

int report_parse(struct json_object *json, struct report *report,
		 char error[REPORT_ERROR])
{
	struct json_object *array;
	unsigned int i;
	uint64_t value;

	memset(report, 0, sizeof(*report));
	if (get_number(json, "request-id", UINT32_MAX, &value, error) ||
	    get_number(json, "sequence", NUMBER_MAX, &report->sequence,
		       error) ||
	    parse_status(json, &report->status, error))
		return -1;
	report->request_id = value;
	if (report->status != REPORT_OK)
		return 0;

	if (get_array(json, "nodes", REPORT_MAX_NODES, &array, error))
		return -1;
	report->nr_nodes = json_object_array_length(array);
	if (!report->nr_nodes) {
		snprintf(error, REPORT_ERROR, "no node in it");
		return -1;
	}
	for (i = 0; i < report->nr_nodes; i++) {
		if (parse_node(json_object_array_get_idx(array, i),
			       &report->nodes[i], error))
			return -1;
		if (i == 0)
			report->guest = report->nodes[0];
		else if (add_node(&report->guest, &report->nodes[i], error))
			return -1;
	}
	return 0;
}

int report_parse_state(struct json_object *json, struct report_state *state,
		       char error[REPORT_ERROR])
{
	struct json_object *field;

	memset(state, 0, sizeof(*state));
	/* The limit leaves room for the date in milliseconds. */
	if (get_bool(json, "active", &state->active, error) ||
	    get_number(json, "last-update", INT64_MAX / 1000,
		       &state->last_update_s, error))
		return -1;
	if (!json_object_object_get_ex(json, "report", &field))
		return 0;
	state->has_report = true;
	return report_parse(field, &state->report, error);
}

static void put_number(struct json_object *object, const char *name,
		       uint64_t value)
{
	json_object_object_add(object, name, json_object_new_uint64(value));
}

struct json_object *report_bins_to_json(const struct report_node *node)
{
	struct json_object *bins = json_object_new_array();
	struct json_object *bin;
	size_t i;

	for (i = 0; i < node->nr_bins; i++) {
		bin = json_object_new_object();
		if (node->bins[i].idle_age_ms != REPORT_OPEN_BIN)
			put_number(bin, "idle-age-ms",
				   node->bins[i].idle_age_ms);
		put_number(bin, "swap-backed-bytes",
			   node->bins[i].swap_backed_bytes);
		put_number(bin, "file-backed-bytes",
			   node->bins[i].file_backed_bytes);
		json_object_array_add(bins, bin);
	}
	return bins;
}

static struct json_object *node_to_json(const struct report_node *node)
{
	struct json_object *json = json_object_new_object();
	size_t i;

	if (node->node_id != REPORT_ALL_NODES)
		put_number(json, "node-id", node->node_id);
	json_object_object_add(json, "warming-up",
			       json_object_new_boolean(node->warming_up));
	put_number(json, "age-ms", node->age_ms);
	for (i = 0; i < NR_NODE_FIELDS; i++)
		put_number(json, node_fields[i].name, node_value(node, i));
	json_object_object_add(json, "bins", report_bins_to_json(node));
	return json;
}

struct json_object *report_to_json(const struct report *report)
{
	struct json_object *json = json_object_new_object();
	struct json_object *nodes = json_object_new_array();
	const char *status = status_name[report->status];
	unsigned int i;

	put_number(json, "request-id", report->request_id);
	put_number(json, "sequence", report->sequence);
	json_object_object_add(json, "status",
			       json_object_new_string(status));
	for (i = 0; i < report->nr_nodes; i++)
		json_object_array_add(nodes, node_to_json(&report->nodes[i]));
	json_object_object_add(json, "nodes", nodes);
	return json;
}

uint64_t report_bin_start_ms(const struct report_node *node, unsigned int bin)
{
	return bin ? node->bins[bin - 1].idle_age_ms : 0;
}

uint64_t report_bin_bytes(const struct report_node *node, unsigned int bin)
{
	return node->bins[bin].swap_backed_bytes +
	       node->bins[bin].file_backed_bytes;
}

uint64_t report_idle_bytes(const struct report_node *node, unsigned int first)
{
	uint64_t bytes = 0;
	unsigned int i;

	for (i = first; i < node->nr_bins; i++)
		bytes += report_bin_bytes(node, i);
	return bytes;
}

bool report_same_bounds(const struct report_node *a,
			const struct report_node *b)
{
	unsigned int i;

	if (a->nr_bins != b->nr_bins)
		return false;
	for (i = 0; i < a->nr_bins; i++) {
		if (a->bins[i].idle_age_ms != b->bins[i].idle_age_ms)
			return false;
	}
	return true;
}

unsigned int report_percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * part / whole + 0.5 : 0;
}

void report_copy(struct report *to, const struct report *from)
{
	memcpy(to, from, offsetof(struct report, nodes) +
	       from->nr_nodes * sizeof(from->nodes[0]));
}
