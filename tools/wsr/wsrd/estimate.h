/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the host itself sees of the age of memory: for containers, for guests
 * that send no reports, and to cross-check those that do. Texts of the kernel
 * and numbers of QEMU in, a struct report_node out. No I/O.
 *
 * In the order of how much is known:
 *
 *	memory.working_set.*	of kernels with working set reporting
 *	lru_gen			generations of the multi-gen LRU: four ages
 *	idle pages		a sample of a VM's pages, see idle.h
 *	statistics		memory.stat or the balloon's: cache is old,
 *				all else is in use
 *
 * A text may be cut, or be of another kernel: what is not understood is left
 * out, and never more than a bounded number of entries is taken.
 */
#ifndef WSRD_ESTIMATE_H
#define WSRD_ESTIMATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../report.h"

/* 1 s, 2 s, 4 s, ... 4.5 h: what we ask of the kernel, and sort others into */
#define ESTIMATE_BOUNDS		(REPORT_MAX_BINS - 1)
#define ESTIMATE_FIRST_MS	1000
#define ESTIMATE_MAX_TARGETS	64

enum estimate_source {
	ESTIMATE_NONE,		/* nothing is known */
	ESTIMATE_GUEST,		/* the guest's own report */
	ESTIMATE_WORKING_SET,
	ESTIMATE_LRU_GEN,
	ESTIMATE_IDLE,
	ESTIMATE_BALLOON,
	ESTIMATE_STAT,
	ESTIMATE_NR_SOURCES,
};

const char *estimate_source_name(enum estimate_source source);

/**
 * struct memory_stat - of memory.stat, in bytes
 * @swap_backed, @file_backed: on LRU lists
 * @cache:	the part of @file_backed that was not used twice
 * @refaulted:	read back soon after their reclaim, ever
 */
struct memory_stat {
	uint64_t swap_backed;
	uint64_t file_backed;
	uint64_t cache;
	uint64_t unevictable;
	uint64_t slab_reclaimable;
	uint64_t refaulted;
};

/** estimate_parse_stat - Return: 0, or -1: this is no memory.stat */
int estimate_parse_stat(const char *text, uint64_t page_size,
			struct memory_stat *stat);

/**
 * estimate_parse_psi - avg10 of "some", a part of the time from 0 to 1
 * Return: less than 0 if there is none.
 */
double estimate_parse_psi(const char *text);

/** estimate_parse_number - of one line; "max" is UINT64_MAX. Return: 0 or -1 */
int estimate_parse_number(const char *text, uint64_t *number);

/**
 * estimate_swapped - what the host has swapped out of a process
 * @status:	text of /proc/PID/status
 * @group:	memory.swap.current of its control group, if it has one, else 0
 *
 * The kernel counts that of private memory only. The rest is what its group has
 * in swap space beside that, but for what was read again and still is there.
 */
uint64_t estimate_swapped(const char *status, uint64_t group);

/** estimate_bound_ms - bound @i of ours, 0 to ESTIMATE_BOUNDS - 1 */
uint64_t estimate_bound_ms(unsigned int i);

/**
 * estimate_working_set - from memory.working_set.histogram and .stat
 * Return: 0, or -1: no histogram, the kernel is not asked to make one.
 */
int estimate_working_set(const char *histogram, const char *stat,
			 struct report_node *node);

/**
 * struct lru_gen_target - a control group's memory on a node
 * @generation:	the youngest
 * @age_ms:	of it: when it was made
 */
struct lru_gen_target {
	uint64_t memcg;
	uint64_t node;
	uint64_t generation;
	uint64_t age_ms;
};

/** struct lru_gen_targets - those that can be given a new generation */
struct lru_gen_targets {
	unsigned int nr;
	struct lru_gen_target list[ESTIMATE_MAX_TARGETS];
};

/**
 * estimate_lru_gen - from the file lru_gen
 * @path:	control group, "/a/b"; those below it belong to it
 * @stat:	exact sums; ages are scaled to them
 * @targets:	receives where there was something
 *
 * A generation's pages were last used between its own start and that of the
 * next one; those of the oldest one then or before.
 *
 * Return: 0, or -1: the group is not there, or has never aged.
 */
int estimate_lru_gen(const char *text, const char *path, uint64_t page_size,
		     const struct memory_stat *stat, struct report_node *node,
		     struct lru_gen_targets *targets);

/**
 * struct idle_facts - what sampling of idle pages says beside ages
 * @resident:	bytes in memory
 * @untracked:	a part of that, of whose use nothing is known
 * @swapped, @empty: bytes in swap space; never touched or given back
 * @since_ms:	no age is longer than this
 */
struct idle_facts {
	uint64_t resident;
	uint64_t untracked;
	uint64_t swapped;
	uint64_t empty;
	uint64_t since_ms;
};

/**
 * estimate_idle - from the text of idle.h
 * @node:	receives the ages; what is in swap space is in the last bin
 *
 * Return: 0, or -1: this is no such text, or says nothing about most of it.
 */
int estimate_idle(const char *text, struct report_node *node,
		  struct idle_facts *facts);

/** estimate_stat - inactive page cache is old, all else is in use */
void estimate_stat(const struct memory_stat *stat, struct report_node *node);

/**
 * estimate_group - fill in the rest of a control group's record
 * @current:	memory.current
 * @swap_free:	swap space that it may still use
 */
void estimate_group(struct report_node *node, const struct memory_stat *stat,
		    uint64_t current, uint64_t swap_free);

/**
 * struct balloon_stat - the guest's statistics, in bytes; UINT64_MAX: unknown
 */
struct balloon_stat {
	uint64_t total;
	uint64_t free;
	uint64_t caches;
	uint64_t swap_in;	/* since boot */
};

/**
 * estimate_guest - a record as the guest would have sent it
 * @actual:	memory that it has
 * @stat:	of its balloon, or NULL
 * @group:	record of its QEMU's control group, or of its pages, with ages, or
 *		NULL
 * @node:	receives the record
 *
 * What the host sees idle is taken for the guest's page cache first, as far as
 * it has some: that is what a guest gives up first. Its swap space is not known:
 * other memory is taken for what it can't give up. What it swaps in counts as
 * refaults.
 *
 * Return: the source, ESTIMATE_NONE if nothing is known.
 */
enum estimate_source estimate_guest(struct report_node *node, uint64_t actual,
				    const struct balloon_stat *stat,
				    const struct report_node *group,
				    enum estimate_source group_source);

/* What the host's numbers say of a guest's report */
enum estimate_check {
	CHECK_UNKNOWN,
	CHECK_AGREES,
	CHECK_USES_MORE,	/* it uses more than it says */
	CHECK_USES_LESS,	/* it uses less than it says */
};

/**
 * estimate_check - compare
 * @total:	of the guest
 * @claimed:	its working set as it says
 * @seen:	the same as the host sees it
 */
enum estimate_check estimate_check(uint64_t total, uint64_t claimed,
				   uint64_t seen);

const char *estimate_check_name(enum estimate_check check);

#endif
