// SPDX-License-Identifier: GPL-2.0
/*
 * What the host itself sees of the age of memory. No I/O.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "estimate.h"

/* No machine has so much memory; sums of some thousands still fit. */
#define MAX_BYTES	(UINT64_C(1) << 50)
#define MAX_GENERATIONS	8
/* Cache of unknown age is taken for this old. */
#define CACHE_AGE_MS	600000
/* The end of the ages that libwsr tells apart: 2^16 s */
#define LAST_MS		65536000.0
/* If more than this part of the memory is not tracked, ages say nothing. */
#define UNTRACKED_PART	4
/* Working sets that differ by this part of the memory contradict each other. */
#define CHECK_PART	4

static const char * const source_names[ESTIMATE_NR_SOURCES] = {
	[ESTIMATE_NONE]		= "none",
	[ESTIMATE_GUEST]	= "guest",
	[ESTIMATE_WORKING_SET]	= "memory.working_set",
	[ESTIMATE_LRU_GEN]	= "lru_gen",
	[ESTIMATE_IDLE]		= "idle-pages",
	[ESTIMATE_BALLOON]	= "balloon-statistics",
	[ESTIMATE_STAT]		= "memory.stat",
};

static const char * const check_names[] = {
	[CHECK_UNKNOWN]		= "unknown",
	[CHECK_AGREES]		= "agrees",
	[CHECK_USES_MORE]	= "uses-more",
	[CHECK_USES_LESS]	= "uses-less",
};

const char *estimate_source_name(enum estimate_source source)
{
	return source_names[source];
}

const char *estimate_check_name(enum estimate_check check)
{
	return check_names[check];
}

uint64_t estimate_bound_ms(unsigned int i)
{
	return (uint64_t)ESTIMATE_FIRST_MS << i;
}

/* Digits and nothing else before it; *@text moves behind them. */
static int take_number(const char **text, uint64_t *number)
{
	char *end;

	while (**text == ' ')
		(*text)++;
	if (**text < '0' || **text > '9')
		return -1;
	errno = 0;
	*number = strtoull(*text, &end, 10);
	if (errno)
		return -1;
	*text = end;
	return 0;
}

static uint64_t bounded(uint64_t bytes)
{
	return bytes < MAX_BYTES ? bytes : MAX_BYTES;
}

static uint64_t pages_to_bytes(uint64_t pages, uint64_t page_size)
{
	return pages < MAX_BYTES / page_size ? pages * page_size : MAX_BYTES;
}

/* The start of the next line, or NULL */
static const char *next_line(const char *text)
{
	text = strchr(text, '\n');
	return text ? text + 1 : NULL;
}

/* "key value" at the start of a line: the value, at most MAX_BYTES; or 0 */
static uint64_t value_of(const char *text, const char *key, bool *found)
{
	size_t len = strlen(key);
	uint64_t number;

	for (; text; text = next_line(text)) {
		if (strncmp(text, key, len) || text[len] != ' ')
			continue;
		text += len;
		if (take_number(&text, &number))
			return 0;
		if (found)
			*found = true;
		return bounded(number);
	}
	return 0;
}

/* Of a line "VmSwap:	     1 kB", in bytes; or 0 */
static uint64_t status_bytes(const char *status, const char *key)
{
	size_t len = strlen(key);
	uint64_t kib;

	for (; status; status = next_line(status)) {
		if (strncmp(status, key, len))
			continue;
		status += len;
		status += strspn(status, " \t");
		if (take_number(&status, &kib))
			return 0;
		return kib < MAX_BYTES / 1024 ? kib * 1024 : MAX_BYTES;
	}
	return 0;
}

uint64_t estimate_swapped(const char *status, uint64_t group)
{
	uint64_t private = status_bytes(status, "VmSwap:");
	uint64_t again = status_bytes(status, "RssAnon:");

	group = bounded(group);
	group -= again < group ? again : group;
	return group > private ? group : private;
}

int estimate_parse_stat(const char *text, uint64_t page_size,
			struct memory_stat *stat)
{
	uint64_t refaults = value_of(text, "workingset_refault_anon", NULL) +
			    value_of(text, "workingset_refault_file", NULL);
	uint64_t inactive_file;
	bool found = false;

	inactive_file = value_of(text, "inactive_file", &found);
	*stat = (struct memory_stat) {
		.swap_backed = value_of(text, "inactive_anon", NULL) +
			       value_of(text, "active_anon", NULL),
		.file_backed = inactive_file +
			       value_of(text, "active_file", NULL),
		.cache = inactive_file,
		.unevictable = value_of(text, "unevictable", NULL),
		.slab_reclaimable = value_of(text, "slab_reclaimable", NULL),
		.refaulted = pages_to_bytes(refaults, page_size),
	};
	return found ? 0 : -1;
}

double estimate_parse_psi(const char *text)
{
	static const char start[] = "some avg10=";
	double percent;
	char *end;

	if (strncmp(text, start, strlen(start)))
		return -1;
	text += strlen(start);
	percent = strtod(text, &end);
	return end != text && percent >= 0 && percent <= 100 ?
	       percent / 100 : -1;
}

int estimate_parse_number(const char *text, uint64_t *number)
{
	if (!strncmp(text, "max", 3)) {
		*number = UINT64_MAX;
		return 0;
	}
	if (take_number(&text, number))
		return -1;
	return *text && *text != '\n' ? -1 : 0;
}

/* One line "1000 anon=1 file=2" or "max anon=1 file=2" */
static int parse_bin(const char *line, struct report_bin *bin)
{
	if (!strncmp(line, "max", 3)) {
		bin->idle_age_ms = REPORT_OPEN_BIN;
		line += 3;
	} else if (take_number(&line, &bin->idle_age_ms)) {
		return -1;
	}
	if (strncmp(line, " anon=", 6))
		return -1;
	line += 6;
	if (take_number(&line, &bin->swap_backed_bytes) ||
	    strncmp(line, " file=", 6))
		return -1;
	line += 6;
	if (take_number(&line, &bin->file_backed_bytes))
		return -1;
	bin->swap_backed_bytes = bounded(bin->swap_backed_bytes);
	bin->file_backed_bytes = bounded(bin->file_backed_bytes);
	return 0;
}

static void sum_up(struct report_node *node)
{
	node->lru_bytes = 0;
	for (unsigned int i = 0; i < node->nr_bins; i++)
		node->lru_bytes += report_bin_bytes(node, i);
}

int estimate_working_set(const char *histogram, const char *stat,
			 struct report_node *node)
{
	uint64_t last_ms = 0;

	*node = (struct report_node) { .node_id = REPORT_ALL_NODES };
	for (; histogram && *histogram; histogram = next_line(histogram)) {
		struct report_bin *bin = &node->bins[node->nr_bins];

		if (node->nr_bins == REPORT_MAX_BINS ||
		    parse_bin(histogram, bin) || bin->idle_age_ms <= last_ms)
			return -1;
		last_ms = bin->idle_age_ms;
		node->nr_bins++;
	}
	if (node->nr_bins < 2 || last_ms != REPORT_OPEN_BIN)
		return -1;
	sum_up(node);
	node->total_bytes = value_of(stat, "total", NULL);
	node->unevictable_bytes = value_of(stat, "unevictable", NULL);
	node->kernel_bytes = value_of(stat, "kernel", NULL);
	node->slab_reclaimable_bytes = value_of(stat, "slab_reclaimable", NULL);
	node->swap_free_bytes = value_of(stat, "swap_free", NULL);
	node->refaulted_bytes = value_of(stat, "refaulted", NULL);
	node->age_ms = value_of(stat, "age_ms", NULL) % UINT32_MAX;
	node->warming_up = value_of(stat, "warming_up", NULL);
	return node->total_bytes ? 0 : -1;
}

int estimate_idle(const char *text, struct report_node *node,
		  struct idle_facts *facts)
{
	const char *histogram = strstr(text, "\n\n");

	if (!histogram || estimate_working_set(histogram + 2, text, node))
		return -1;
	*facts = (struct idle_facts) {
		.resident = value_of(text, "resident", NULL),
		.untracked = value_of(text, "untracked", NULL),
		.swapped = value_of(text, "swapped", NULL),
		.empty = value_of(text, "empty", NULL),
		.since_ms = value_of(text, "since_ms", NULL),
	};
	node->bins[node->nr_bins - 1].swap_backed_bytes += facts->swapped;
	sum_up(node);
	return facts->untracked > facts->resident / UNTRACKED_PART ? -1 : 0;
}

static void make_bins(struct report_node *node)
{
	*node = (struct report_node) {
		.node_id = REPORT_ALL_NODES,
		.nr_bins = REPORT_MAX_BINS,
	};
	for (unsigned int i = 0; i < ESTIMATE_BOUNDS; i++)
		node->bins[i].idle_age_ms = estimate_bound_ms(i);
	node->bins[ESTIMATE_BOUNDS].idle_age_ms = REPORT_OPEN_BIN;
}

struct generation {
	uint64_t number;
	uint64_t age_ms;
	uint64_t swap_backed;
	uint64_t file_backed;
};

/* The part of ages from @from to @to that lies below @age */
static double part_below(double from, double to, double age)
{
	if (age >= to)
		return 1;
	if (age <= from)
		return 0;
	/* What was used since the last look is spread evenly over time. */
	if (from <= 0)
		return age / to;
	return log(age / from) / log(to / from);
}

static void spread(struct report_node *node, double from_ms, double to_ms,
		   const struct generation *generation)
{
	double below = 0;

	for (unsigned int i = 0; i < node->nr_bins; i++) {
		struct report_bin *bin = &node->bins[i];
		double next = i == node->nr_bins - 1 ? 1 :
			part_below(from_ms, to_ms, bin->idle_age_ms);

		bin->swap_backed_bytes =
			fmin(bin->swap_backed_bytes +
			     generation->swap_backed * (next - below),
			     MAX_BYTES);
		bin->file_backed_bytes =
			fmin(bin->file_backed_bytes +
			     generation->file_backed * (next - below),
			     MAX_BYTES);
		below = next;
	}
}

/* A group's generations on one node, from the oldest to the youngest */
static void add_generations(struct report_node *node,
			    const struct generation *list, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		double from_ms = i + 1 < nr ? list[i + 1].age_ms : 0;
		double to_ms = i ? list[i].age_ms : fmax(LAST_MS, 2 * from_ms);

		/* Ages that do not decrease are not ages. */
		if (to_ms <= from_ms)
			to_ms = from_ms + 1;
		spread(node, from_ms, to_ms, &list[i]);
	}
}

/*
 * "memcg     2 /a/b": is it @path or below? A group that was removed has the
 * number 0 as long as it has pages; another one may have its path now.
 */
static bool takes_part(const char *line, const char *path, uint64_t *memcg)
{
	size_t len = strlen(path);

	line += strlen("memcg");
	if (take_number(&line, memcg) || !*memcg || *line++ != ' ' ||
	    strncmp(line, path, len))
		return false;
	return line[len] == '\n' || line[len] == '/';
}

static int parse_generation(const char *line, uint64_t page_size,
			    struct generation *generation)
{
	if (take_number(&line, &generation->number) ||
	    take_number(&line, &generation->age_ms) ||
	    take_number(&line, &generation->swap_backed) ||
	    take_number(&line, &generation->file_backed))
		return -1;
	generation->swap_backed = pages_to_bytes(generation->swap_backed,
						 page_size);
	generation->file_backed = pages_to_bytes(generation->file_backed,
						 page_size);
	return 0;
}

/* What is known of the group and node whose lines are read */
struct lru_gen_reader {
	struct report_node *node;
	struct lru_gen_targets *targets;
	struct lru_gen_target target;
	struct generation list[MAX_GENERATIONS];
	unsigned int nr;
	bool aged;
};

static void end_node(struct lru_gen_reader *reader)
{
	struct lru_gen_targets *targets = reader->targets;
	const struct generation *youngest;
	uint64_t bytes = 0;

	if (!reader->nr)
		return;
	youngest = &reader->list[reader->nr - 1];
	add_generations(reader->node, reader->list, reader->nr);
	for (unsigned int i = 0; i < reader->nr; i++)
		bytes += reader->list[i].swap_backed +
			 reader->list[i].file_backed;
	/* Those that a group begins with are all of one age, and say nothing. */
	reader->aged |= bytes && youngest->age_ms < reader->list[0].age_ms;
	reader->target.generation = youngest->number;
	reader->target.age_ms = youngest->age_ms;
	if (bytes && targets->nr < ESTIMATE_MAX_TARGETS)
		targets->list[targets->nr++] = reader->target;
	reader->nr = 0;
}

/* The sums are those of @stat; what has no age is in use. */
static void scale(struct report_node *node, const struct memory_stat *stat)
{
	double swap_backed = 0, file_backed = 0;

	for (unsigned int i = 0; i < node->nr_bins; i++) {
		swap_backed += node->bins[i].swap_backed_bytes;
		file_backed += node->bins[i].file_backed_bytes;
	}
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		struct report_bin *bin = &node->bins[i];

		if (swap_backed > 0)
			bin->swap_backed_bytes *= stat->swap_backed /
						  swap_backed;
		if (file_backed > 0)
			bin->file_backed_bytes *= stat->file_backed /
						  file_backed;
	}
	if (!(swap_backed > 0))
		node->bins[0].swap_backed_bytes = stat->swap_backed;
	if (!(file_backed > 0))
		node->bins[0].file_backed_bytes = stat->file_backed;
	sum_up(node);
}

int estimate_lru_gen(const char *text, const char *path, uint64_t page_size,
		     const struct memory_stat *stat, struct report_node *node,
		     struct lru_gen_targets *targets)
{
	struct lru_gen_reader reader = { .node = node, .targets = targets };
	bool ours = false;

	make_bins(node);
	targets->nr = 0;
	for (; text && *text; text = next_line(text)) {
		const char *line = text;

		if (!strncmp(line, "memcg", 5)) {
			end_node(&reader);
			ours = takes_part(line, path, &reader.target.memcg);
		} else if (!strncmp(line, " node", 5)) {
			end_node(&reader);
			line += strlen(" node");
			if (take_number(&line, &reader.target.node))
				ours = false;
		} else if (ours && reader.nr < MAX_GENERATIONS &&
			   !parse_generation(line, page_size,
					     &reader.list[reader.nr])) {
			reader.nr++;
		}
	}
	end_node(&reader);
	scale(node, stat);
	return reader.aged ? 0 : -1;
}

void estimate_stat(const struct memory_stat *stat, struct report_node *node)
{
	*node = (struct report_node) {
		.node_id = REPORT_ALL_NODES,
		.nr_bins = 3,
		.bins = {
			{ .idle_age_ms = ESTIMATE_FIRST_MS,
			  .swap_backed_bytes = stat->swap_backed,
			  .file_backed_bytes = stat->file_backed - stat->cache },
			{ .idle_age_ms = CACHE_AGE_MS },
			{ .idle_age_ms = REPORT_OPEN_BIN,
			  .file_backed_bytes = stat->cache },
		},
	};
	sum_up(node);
}

void estimate_group(struct report_node *node, const struct memory_stat *stat,
		    uint64_t current, uint64_t swap_free)
{
	uint64_t known = node->lru_bytes + stat->unevictable;

	current = bounded(current);
	node->unevictable_bytes = stat->unevictable;
	/* The files are not read at the same moment. */
	node->total_bytes = current > known ? current : known;
	node->kernel_bytes = node->total_bytes - known;
	node->slab_reclaimable_bytes = stat->slab_reclaimable;
	node->swap_free_bytes = bounded(swap_free);
	node->refaulted_bytes = stat->refaulted;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The host's ages for @used bytes of the guest, @caches of them page cache */
static void take_ages(struct report_node *node, const struct report_node *group,
		      uint64_t used, uint64_t caches)
{
	uint64_t resident = group->lru_bytes;
	/* The guest has freed it, and the host does not know. */
	uint64_t excess = resident > used ? resident - used : 0;

	node->nr_bins = group->nr_bins;
	for (unsigned int i = group->nr_bins; i-- > 0;) {
		uint64_t bytes = report_bin_bytes(group, i);
		uint64_t part = smaller(bytes, excess);

		excess -= part;
		bytes -= part;
		/* The host has swapped it out: nobody missed it for long. */
		if (i == group->nr_bins - 1 && used > resident)
			bytes += used - resident;
		part = smaller(bytes, caches);
		caches -= part;
		node->bins[i] = (struct report_bin) {
			.idle_age_ms = group->bins[i].idle_age_ms,
			.swap_backed_bytes = bytes - part,
			.file_backed_bytes = part,
		};
	}
}

enum estimate_source estimate_guest(struct report_node *node, uint64_t actual,
				    const struct balloon_stat *stat,
				    const struct report_node *group,
				    enum estimate_source group_source)
{
	bool has_stat = stat && stat->total && stat->total <= actual &&
			stat->free <= stat->total;
	uint64_t total = has_stat ? stat->total : actual, used, caches;

	if (!has_stat && !group)
		return ESTIMATE_NONE;
	/* What it never touched, or gave back, is not in the host's memory. */
	used = has_stat ? total - stat->free :
			  smaller(total, group->lru_bytes);
	caches = has_stat && stat->caches != UINT64_MAX ?
		 smaller(stat->caches, used) : 0;
	if (group) {
		*node = (struct report_node) { .node_id = REPORT_ALL_NODES };
		take_ages(node, group, used, caches);
		node->warming_up = group->warming_up;
	} else {
		estimate_stat(&(struct memory_stat) {
			.swap_backed = used - caches,
			.file_backed = caches,
			.cache = caches,
		}, node);
	}
	sum_up(node);
	node->total_bytes = total;
	node->free_bytes = total - used;
	if (has_stat && stat->swap_in != UINT64_MAX)
		node->refaulted_bytes = stat->swap_in;
	return group ? group_source : ESTIMATE_BALLOON;
}

enum estimate_check estimate_check(uint64_t total, uint64_t claimed,
				   uint64_t seen)
{
	uint64_t tolerated = total / CHECK_PART;

	if (!total)
		return CHECK_UNKNOWN;
	if (seen > claimed && seen - claimed > tolerated)
		return CHECK_USES_MORE;
	if (claimed > seen && claimed - seen > tolerated)
		return CHECK_USES_LESS;
	return CHECK_AGREES;
}
