// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzes QEMU's check of working set reports, and their conversion to QAPI
 *
 * An input is one byte that selects how much memory the guest has, and a
 * report. Whether QEMU must take the report is found out here a second time,
 * from Documentation/virtio/working-set.rst and with nothing of QEMU's: offsets
 * are numbers, fields are put together from bytes, sums have 128 bits. Both
 * have to agree on each input, and what was taken has to be the same in QAPI.
 *
 * Another value of the first byte is for the device's settings, which are
 * checked when they arrive in a migration.
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-balloon-working-set.h"

#define HDR_SIZE	96
#define BIN_SIZE	24
#define MAX_RECORDS	128
#define MAX_BINS	16
#define NO_NODE		0xffff
#define TRY_LATER	2	/* the largest status */
#define MORE		1
#define WARMING_UP	2

static const uint64_t ram_sizes[] = {
	0, 4096, 1ull << 30, 1ull << 40, INT64_MAX, UINT64_MAX,
};

/* Of the first byte of an input; smaller ones are indices of ram_sizes. */
#define SETTINGS	ARRAY_SIZE(ram_sizes)
#define NR_FIRST_BYTES	(SETTINGS + 1)

/* Offsets of a field's first byte and of the byte after it */
struct field {
	size_t start, end;
};

/* of a header */
static const struct field at_cmd_id = { 0, 4 };
static const struct field at_node_id = { 4, 6 };
static const struct field at_nr_bins = { 6, 8 };
static const struct field at_status = { 8, 10 };
static const struct field at_flags = { 10, 12 };
static const struct field at_age_ms = { 12, 16 };
static const struct field at_sequence = { 16, 24 };
static const struct field at_total = { 24, 32 };
static const struct field at_free = { 32, 40 };
static const struct field at_unevictable = { 40, 48 };
static const struct field at_kernel = { 48, 56 };
static const struct field at_slab = { 56, 64 };
static const struct field at_swap_free = { 64, 72 };
static const struct field at_refaulted = { 72, 80 };
static const struct field at_reclaim_id = { 80, 84 };
static const struct field at_reclaim_status = { 84, 86 };
static const struct field at_reserved = { 86, 88 };
static const struct field at_reclaimed = { 88, 96 };

/* of a bin */
static const struct field at_idle_age_ms = { 0, 8 };
static const struct field at_swap_backed = { 8, 16 };
static const struct field at_file_backed = { 16, 24 };

static uint64_t get(const uint8_t *p, struct field f)
{
	uint64_t value = 0;

	while (f.end-- > f.start)
		value = value << 8 | p[f.end];
	return value;
}

static void put(uint8_t *p, struct field f, uint64_t value)
{
	for (; f.start < f.end; f.start++, value >>= 8)
		p[f.start] = value;
}

static const uint8_t *bin_of(const uint8_t *record, unsigned int i)
{
	return record + HDR_SIZE + i * BIN_SIZE;
}

/*
 * The starts of the records, which fill the report without gaps. Returns how
 * many, or 0 if they don't or if there are too many.
 */
static unsigned int split(const uint8_t *p, size_t size,
			  const uint8_t *records[MAX_RECORDS])
{
	unsigned int n;
	size_t length;
	bool more = true;

	for (n = 0; more; n++) {
		if (n == MAX_RECORDS || size < HDR_SIZE)
			return 0;
		length = HDR_SIZE + get(p, at_nr_bins) * BIN_SIZE;
		if (size < length)
			return 0;
		records[n] = p;
		more = get(p, at_flags) & MORE;
		p += length;
		size -= length;
	}
	return size ? 0 : n;
}

static bool bounds_are_good(const uint8_t *record)
{
	unsigned int i, nr_bins = get(record, at_nr_bins);

	if (nr_bins < 2 || nr_bins > MAX_BINS)
		return false;
	if (!get(bin_of(record, 0), at_idle_age_ms))
		return false;
	for (i = 1; i < nr_bins; i++)
		if (get(bin_of(record, i), at_idle_age_ms) <=
		    get(bin_of(record, i - 1), at_idle_age_ms))
			return false;
	return get(bin_of(record, nr_bins - 1), at_idle_age_ms) == UINT64_MAX;
}

/* What each record tells about the report as a whole */
static bool tell_the_same(const uint8_t *a, const uint8_t *b)
{
	return get(a, at_cmd_id) == get(b, at_cmd_id) &&
	       get(a, at_sequence) == get(b, at_sequence) &&
	       get(a, at_status) == get(b, at_status) &&
	       get(a, at_reclaim_id) == get(b, at_reclaim_id) &&
	       get(a, at_reclaim_status) == get(b, at_reclaim_status) &&
	       get(a, at_reclaimed) == get(b, at_reclaimed);
}

static bool is_good(const uint8_t *const records[], unsigned int n,
		    uint64_t ram)
{
	unsigned __int128 total = 0, parts = 0;
	const uint8_t *r, *first = records[0];
	uint64_t status = get(first, at_status);
	unsigned int i, j;

	if (status > TRY_LATER || get(first, at_reclaim_status) > TRY_LATER ||
	    get(first, at_reserved))
		return false;
	if (status)
		return n == 1 && get(first, at_node_id) == NO_NODE &&
		       !get(first, at_nr_bins);

	for (i = 0; i < n; i++) {
		r = records[i];
		if (!bounds_are_good(r) || !tell_the_same(r, first) ||
		    get(r, at_reserved))
			return false;
		if (i && get(r, at_node_id) <= get(records[i - 1], at_node_id))
			return false;
		if (n > 1 && get(r, at_node_id) == NO_NODE)
			return false;
		if (get(r, at_slab) > get(r, at_total))
			return false;
		total += get(r, at_total);
		parts += get(r, at_free);
		parts += get(r, at_unevictable);
		parts += get(r, at_kernel);
		for (j = 0; j < get(r, at_nr_bins); j++) {
			parts += get(bin_of(r, j), at_swap_backed);
			parts += get(bin_of(r, j), at_file_backed);
		}
	}
	return total <= ram && parts <= ram;
}

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "report_fuzz: %s\n", what);
	abort();
}

static void compare_bins(const BalloonWorkingSetBinList *bins,
			 const uint8_t *record)
{
	unsigned int i, nr_bins = get(record, at_nr_bins);

	for (i = 0; i < nr_bins; i++, bins = bins->next) {
		const uint8_t *bin = bin_of(record, i);

		expect(bins, "QAPI has too few bins");
		expect(bins->value->has_idle_age_ms == (i < nr_bins - 1),
		       "a bin has a bound and must not, or the reverse");
		expect(!bins->value->has_idle_age_ms ||
		       bins->value->idle_age_ms == get(bin, at_idle_age_ms),
		       "idle-age-ms differs");
		expect(bins->value->swap_backed_bytes == get(bin, at_swap_backed),
		       "swap-backed-bytes differs");
		expect(bins->value->file_backed_bytes == get(bin, at_file_backed),
		       "file-backed-bytes differs");
	}
	expect(!bins, "QAPI has too many bins");
}

static void compare_node(const BalloonWorkingSetNode *node, const uint8_t *r)
{
	expect(node->has_node_id == (get(r, at_node_id) != NO_NODE),
	       "a record has a node-id and must not, or the reverse");
	expect(!node->has_node_id || node->node_id == get(r, at_node_id),
	       "node-id differs");
	expect(node->warming_up == !!(get(r, at_flags) & WARMING_UP),
	       "warming-up differs");
	expect(node->age_ms == get(r, at_age_ms), "age-ms differs");
	expect(node->total_bytes == get(r, at_total), "total-bytes differs");
	expect(node->free_bytes == get(r, at_free), "free-bytes differs");
	expect(node->unevictable_bytes == get(r, at_unevictable),
	       "unevictable-bytes differs");
	expect(node->kernel_bytes == get(r, at_kernel), "kernel-bytes differs");
	expect(node->slab_reclaimable_bytes == get(r, at_slab),
	       "slab-reclaimable-bytes differs");
	expect(node->swap_free_bytes == get(r, at_swap_free),
	       "swap-free-bytes differs");
	expect(node->refaulted_bytes == get(r, at_refaulted),
	       "refaulted-bytes differs");
	compare_bins(node->bins, r);
}

static void compare(const BalloonWorkingSetReport *report,
		    const uint8_t *const records[], unsigned int n)
{
	static const BalloonWorkingSetStatus statuses[] = {
		BALLOON_WORKING_SET_STATUS_OK,
		BALLOON_WORKING_SET_STATUS_UNSUPPORTED,
		BALLOON_WORKING_SET_STATUS_TRY_LATER,
	};
	const BalloonWorkingSetNodeList *nodes = report->nodes;
	uint64_t status = get(records[0], at_status);
	unsigned int i;

	expect(report->request_id == get(records[0], at_cmd_id),
	       "request-id differs");
	expect(report->sequence == get(records[0], at_sequence),
	       "sequence differs");
	expect(report->status == statuses[status], "status differs");
	expect(!report->reclaim == !get(records[0], at_reclaim_id),
	       "there is a result of reclaim and must not be, or the reverse");
	if (report->reclaim) {
		expect(report->reclaim->id == get(records[0], at_reclaim_id),
		       "id of reclaim differs");
		expect(report->reclaim->status ==
		       statuses[get(records[0], at_reclaim_status)],
		       "status of reclaim differs");
		expect(report->reclaim->bytes == get(records[0], at_reclaimed),
		       "bytes of reclaim differ");
	}
	/* A record that says why there are no data is not a node. */
	for (i = 0; i < n && !status; i++, nodes = nodes->next) {
		expect(nodes, "QAPI has too few nodes");
		compare_node(nodes->value, records[i]);
	}
	expect(!nodes, "QAPI has too many nodes");
}

static void fuzz_report(const uint8_t *data, size_t size, uint64_t ram)
{
	const uint8_t *records[MAX_RECORDS];
	BalloonWorkingSetReport *report;
	const char *why;
	unsigned int n;

	n = split(data, size, records);
	why = virtio_balloon_working_set_check(data, size, ram);
	if (why) {
		expect(!n || !is_good(records, n, ram), why);
		return;
	}
	expect(n && is_good(records, n, ram), "a bad report was taken");

	report = virtio_balloon_working_set_to_qapi(data);
	compare(report, records, n);
	qapi_free_BalloonWorkingSetReport(report);
}

static bool settings_are_good(const VirtIOBalloonWorkingSetConfig *c)
{
	unsigned int i;

	if (c->nr_bins < 2 || c->nr_bins > MAX_BINS || !c->idle_age_ms[0])
		return false;
	for (i = 1; i < MAX_BINS - 1; i++) {
		if (i < c->nr_bins - 1u ?
		    c->idle_age_ms[i] <= c->idle_age_ms[i - 1] :
		    c->idle_age_ms[i] != 0)
			return false;
	}
	return true;
}

static void fuzz_settings(const uint8_t *data, size_t size)
{
	VirtIOBalloonWorkingSetConfig c;
	VirtIOBalloonWorkingSetReclaim r = {};
	size_t length = MIN(size, sizeof(c));

	virtio_balloon_working_set_config_init(&c);
	expect(settings_are_good(&c), "the default settings are bad");
	memcpy(&c, data, length);
	expect(virtio_balloon_working_set_config_valid(&c) ==
	       settings_are_good(&c), "bad settings taken, or good ones not");

	memcpy(&r, data + length, MIN(size - length, sizeof(r)));
	expect(virtio_balloon_working_set_reclaim_valid(&r) ==
	       (r.id == 0 || (r.max_bytes > 0 && r.idle_age_ms > 0)),
	       "a bad request was taken, or a good one not");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int first;

	if (!size)
		return 0;
	first = data[0] % NR_FIRST_BYTES;
	if (first == SETTINGS)
		fuzz_settings(data + 1, size - 1);
	else
		fuzz_report(data + 1, size - 1, ram_sizes[first]);
	return 0;
}

/* --- Mutations -------------------------------------------------------------
 *
 * Random changes hardly ever leave a report that passes the first checks. So
 * most mutants are put right again, but for one rule that is left as it is, or
 * broken by little.
 */

enum rule {
	RULE_MORE, RULE_NR_BINS, RULE_STATUS, RULE_CMD_ID, RULE_SEQUENCE,
	RULE_RECLAIM_ID, RULE_RECLAIM_STATUS, RULE_RECLAIMED, RULE_RESERVED,
	RULE_NODE_ID, RULE_BOUNDS, RULE_LAST_BOUND, RULE_TOTAL, RULE_PARTS,
	RULE_SLAB, RULE_END,
	NR_RULES,
};

static uint64_t smaller(uint64_t value, uint64_t limit)
{
	return value > limit ? value % (limit + 1) : value;
}

static void repair_bins(uint8_t *record, uint64_t share, enum rule left)
{
	unsigned int i, nr_bins = get(record, at_nr_bins);
	uint64_t previous = 0;

	for (i = 0; i < nr_bins; i++) {
		uint8_t *bin = (uint8_t *)bin_of(record, i);

		if (left != RULE_BOUNDS && get(bin, at_idle_age_ms) <= previous)
			put(bin, at_idle_age_ms, previous + 1);
		if (left != RULE_BOUNDS &&
		    get(bin, at_idle_age_ms) > UINT64_MAX - MAX_BINS)
			put(bin, at_idle_age_ms, previous + 1);
		if (left != RULE_LAST_BOUND && i == nr_bins - 1)
			put(bin, at_idle_age_ms, UINT64_MAX);
		if (left != RULE_PARTS) {
			put(bin, at_swap_backed,
			    smaller(get(bin, at_swap_backed), share));
			put(bin, at_file_backed,
			    smaller(get(bin, at_file_backed), share));
		}
		previous = get(bin, at_idle_age_ms);
	}
}

static void repair_hdr(uint8_t *r, const uint8_t *first, unsigned int n,
		       uint64_t share, enum rule left)
{
	if (left == RULE_STATUS)
		put(r, at_status, get(r, at_status) % (TRY_LATER + 2));
	else
		put(r, at_status, 0);
	if (left != RULE_CMD_ID)
		put(r, at_cmd_id, get(first, at_cmd_id));
	if (left != RULE_SEQUENCE)
		put(r, at_sequence, get(first, at_sequence));
	if (left != RULE_RECLAIM_ID)
		put(r, at_reclaim_id, get(first, at_reclaim_id));
	if (left == RULE_RECLAIM_STATUS)
		put(r, at_reclaim_status,
		    get(r, at_reclaim_status) % (TRY_LATER + 2));
	else
		put(r, at_reclaim_status,
		    smaller(get(first, at_reclaim_status), TRY_LATER));
	if (left != RULE_RECLAIMED)
		put(r, at_reclaimed, get(first, at_reclaimed));
	if (left != RULE_RESERVED)
		put(r, at_reserved, 0);
	if (left != RULE_NODE_ID)
		put(r, at_node_id, n);
	if (left != RULE_TOTAL)
		put(r, at_total, smaller(get(r, at_total), share));
	if (left != RULE_SLAB)
		put(r, at_slab, smaller(get(r, at_slab), get(r, at_total)));
	if (left != RULE_PARTS) {
		put(r, at_free, smaller(get(r, at_free), share));
		put(r, at_unevictable, smaller(get(r, at_unevictable), share));
		put(r, at_kernel, smaller(get(r, at_kernel), share));
	}
}

/* Returns the new size of the report. */
static size_t repair(uint8_t *report, size_t size, uint64_t ram,
		     enum rule left)
{
	/* If all amounts are within their share they are within ram. */
	uint64_t share = ram / (MAX_RECORDS * (2 * MAX_BINS + 3));
	uint8_t *r = report, *end = report + size;
	unsigned int n = 0;

	while (end - r >= HDR_SIZE) {
		size_t space = (end - r - HDR_SIZE) / BIN_SIZE;
		unsigned int nr_bins = get(r, at_nr_bins);
		size_t length;
		bool last;

		if (left == RULE_NR_BINS)
			nr_bins %= MAX_BINS + 2;
		else if (nr_bins < 2 || nr_bins > MAX_BINS)
			nr_bins = 2 + nr_bins % (MAX_BINS - 1);
		if (nr_bins > space)
			break;
		length = HDR_SIZE + nr_bins * BIN_SIZE;
		last = end - r - length < HDR_SIZE + 2 * BIN_SIZE;
		put(r, at_nr_bins, nr_bins);
		if (left != RULE_MORE)
			put(r, at_flags,
			    (get(r, at_flags) & ~MORE) | (last ? 0 : MORE));
		repair_hdr(r, report, n, share, left);
		repair_bins(r, share, left);
		r += length;
		n++;
	}
	return left == RULE_END ? size : (size_t)(r - report);
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	size_t report_size;
	unsigned int first;

	size = LLVMFuzzerMutate(data, size, max_size);
	if (seed % 4 == 0 || size < 2)
		return size;
	first = data[0] % NR_FIRST_BYTES;
	if (first == SETTINGS)
		return size;
	report_size = size - 1;
	/* Twice as many records */
	if (seed % 16 == 1 && size + report_size <= max_size) {
		memcpy(data + size, data + 1, report_size);
		report_size *= 2;
	}
	return 1 + repair(data + 1, report_size, ram_sizes[first],
			  seed / 16 % (NR_RULES + 1));
}
