/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest's working set report as QEMU hands it out, checked and
 * turned into plain numbers. No I/O.
 *
 * The numbers come from the guest and are not to be trusted: counts are
 * bounded here, and every sum that report_parse() lets pass fits in 64 bits.
 */
#ifndef WSR_REPORT_H
#define WSR_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;

#define REPORT_MAX_BINS		16
#define REPORT_MAX_NODES	64
#define REPORT_ALL_NODES	(-1)
#define REPORT_OPEN_BIN		UINT64_MAX	/* bound of the last bin */

enum report_status {
	REPORT_OK,
	REPORT_UNSUPPORTED,	/* the guest refuses the parameters */
	REPORT_TRY_LATER,	/* no data can be had now */
};

/**
 * struct report_bin - memory whose idle age is below @idle_age_ms and not
 * below that of the bin before
 */
struct report_bin {
	uint64_t idle_age_ms;		/* the last bin: REPORT_OPEN_BIN */
	uint64_t swap_backed_bytes;
	uint64_t file_backed_bytes;
};

/**
 * struct report_node - one NUMA node of the guest, or the whole guest
 * @node_id:	the guest's number of the node, or REPORT_ALL_NODES
 * @age_ms:	how old the data were when the guest made the report
 * @lru_bytes:	sum of all bins
 */
struct report_node {
	int node_id;
	bool warming_up;
	uint32_t age_ms;
	uint64_t total_bytes;
	uint64_t free_bytes;
	uint64_t unevictable_bytes;
	uint64_t kernel_bytes;
	uint64_t slab_reclaimable_bytes;
	uint64_t swap_free_bytes;
	uint64_t refaulted_bytes;
	uint64_t lru_bytes;
	unsigned int nr_bins;
	struct report_bin bins[REPORT_MAX_BINS];
};

/**
 * struct report - one report
 * @request_id:	the request it answers, 0: unsolicited
 * @sequence:	counts the reports since the guest's driver started
 * @guest:	the sum of @nodes, valid if status is REPORT_OK
 * @nr_nodes:	entries in @nodes, 0 if status is not REPORT_OK
 */
struct report {
	uint32_t request_id;
	uint64_t sequence;
	enum report_status status;
	struct report_node guest;
	unsigned int nr_nodes;
	struct report_node nodes[REPORT_MAX_NODES];
};

/**
 * struct report_state - the device's property guest-working-set
 * @active:	the guest's driver has accepted the feature
 * @last_update_s: when QEMU received @report, in seconds since the epoch
 */
struct report_state {
	bool active;
	uint64_t last_update_s;
	bool has_report;
	struct report report;
};

#define REPORT_ERROR	160	/* bytes for the texts of errors */

/**
 * report_parse - check a BalloonWorkingSetReport and take it over
 * @json:	the object, may be NULL
 * @report:	receives the numbers
 * @error:	receives what is wrong, in words
 *
 * Return: 0 or -1.
 */
int report_parse(struct json_object *json, struct report *report,
		 char error[REPORT_ERROR]);

/**
 * report_parse_bins - only the bins of a node
 * @json:	an object with "bins"
 * @node:	its bins and lru_bytes are set
 *
 * Return: 0 or -1, as report_parse().
 */
int report_parse_bins(struct json_object *json, struct report_node *node,
		      char error[REPORT_ERROR]);

/** report_copy - assign, but only touch the nodes that @from has */
void report_copy(struct report *to, const struct report *from);

/** report_parse_state - the same for a BalloonWorkingSet */
int report_parse_state(struct json_object *json, struct report_state *state,
		       char error[REPORT_ERROR]);

/**
 * report_to_json - the report with QEMU's own names
 * Return: a new object, to be released with json_object_put().
 */
struct json_object *report_to_json(const struct report *report);

/** report_bins_to_json - only the bins of a node: a list */
struct json_object *report_bins_to_json(const struct report_node *node);

/** report_bin_start_ms - the least idle age of a page in bin @bin */
uint64_t report_bin_start_ms(const struct report_node *node, unsigned int bin);

/** report_bin_bytes - both kinds of memory in bin @bin */
uint64_t report_bin_bytes(const struct report_node *node, unsigned int bin);

/** report_idle_bytes - memory in bin @first and all older bins */
uint64_t report_idle_bytes(const struct report_node *node, unsigned int first);

/** report_same_bounds - do two records speak of the same bins? */
bool report_same_bounds(const struct report_node *a,
			const struct report_node *b);

/** report_percent - @part of @whole, rounded; 0 if @whole is 0 */
unsigned int report_percent(uint64_t part, uint64_t whole);

#endif
