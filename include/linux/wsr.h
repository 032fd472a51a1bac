/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Working set reporting: how many bytes of memory were not accessed for how
 * long, for those who want to know.
 */
#ifndef _LINUX_WSR_H
#define _LINUX_WSR_H

#include <linux/hash.h>
#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/types.h>

struct mem_cgroup;
struct node;

/* A histogram has one bin for each bound and an open last one. */
#define WSR_MAX_BOUNDS		15
#define WSR_MAX_BINS		(WSR_MAX_BOUNDS + 1)

/* Looking at memory more often than this tells nothing that is worth it. */
#define WSR_MIN_REFRESH_MS	20

/* Idle age of the last bin: without an upper bound. */
#define WSR_IDLE_AGE_MAX	U64_MAX

/**
 * struct wsr_config - what a receiver wants
 * @memcg: the cgroup it wants to hear of; NULL for all memory. The caller has a
 *	   reference, the receiver takes one of its own.
 * @nodes: the NUMA nodes it wants to hear of; NULL for all that have memory at
 *	   that time
 * @nr_bounds: number of entries in @idle_age_ms, 0 (no reports) to
 *             WSR_MAX_BOUNDS
 * @idle_age_ms: strictly increasing bounds of the bins in ms, none of them 0
 * @refresh_ms: data that are not older than this are good enough, in ms, at
 *              least WSR_MIN_REFRESH_MS; also the resolution of the ages
 * @report_ms: minimum distance of reports made because of reclaim, in ms; 0 for
 *             none
 * @period_ms: make a report this often, in ms; 0 for never. The timer does not
 *             wake an idle CPU.
 */
struct wsr_config {
	struct mem_cgroup *memcg;
	const nodemask_t *nodes;
	unsigned int nr_bounds;
	u32 idle_age_ms[WSR_MAX_BOUNDS];
	u32 refresh_ms;
	u32 report_ms;
	u32 period_ms;
};

/**
 * struct wsr_bin - memory whose idle age is below a bound
 * @idle_age_ms: the bound in ms; WSR_IDLE_AGE_MAX in the last bin
 * @swap_backed_bytes: anonymous and shared (shmem, tmpfs) memory
 * @file_backed_bytes: page cache that can be dropped or written back
 */
struct wsr_bin {
	u64 idle_age_ms;
	u64 swap_backed_bytes;
	u64 file_backed_bytes;
};

/**
 * struct wsr_scope_report - the memory of one NUMA node, or of a cgroup
 * @nid: the node; NUMA_NO_NODE: the whole cgroup
 * @nr_bins: number of valid entries in @bins
 * @warming_up: memory has not been watched for long enough, ages are estimates
 * @age_ms: time since the look at memory that @bins come from
 * @total_bytes: memory managed by the page allocator; of a cgroup: charged to it
 * @free_bytes: memory on free lists; 0 for a cgroup
 * @unevictable_bytes: memory that is locked
 * @kernel_bytes: all that is neither free nor on an LRU list. With this, the
 *                bins and the fields before it add up to @total_bytes.
 * @slab_reclaimable_bytes: the part of @kernel_bytes shrinkers can free:
 *			    dentries, inodes, ...
 * @slab_unreclaimable_bytes: another part of @kernel_bytes
 * @kernel_stack_bytes: another part of @kernel_bytes
 * @page_table_bytes: another part of @kernel_bytes
 * @hugetlb_bytes: another part of @kernel_bytes; not for cgroups, which do not
 *		   have it
 * @swap_free_bytes: swap space that is left, for all memory or for the cgroup
 * @refaulted_bytes: bytes read back soon after their reclaim, since boot or since
 *		     the cgroup was made
 * @bins: the histogram, by increasing idle age
 */
struct wsr_scope_report {
	int nid;
	unsigned int nr_bins;
	bool warming_up;
	u64 age_ms;
	u64 total_bytes;
	u64 free_bytes;
	u64 unevictable_bytes;
	u64 kernel_bytes;
	u64 slab_reclaimable_bytes;
	u64 slab_unreclaimable_bytes;
	u64 kernel_stack_bytes;
	u64 page_table_bytes;
	u64 hugetlb_bytes;
	u64 swap_free_bytes;
	u64 refaulted_bytes;
	struct wsr_bin bins[WSR_MAX_BINS];
};

/* Why a report was made; a report may have several reasons. */
enum wsr_reason {
	WSR_REASON_REQUEST,	/* wsr_receiver_request() */
	WSR_REASON_RECLAIM,	/* kswapd ran, or a cgroup was reclaimed */
	WSR_REASON_PERIOD,	/* period_ms passed */
	NR_WSR_REASONS
};

/**
 * struct wsr_report - what a receiver is given
 * @reasons: mask of BIT(enum wsr_reason)
 * @nr_scopes: number of entries in @scopes
 * @scopes: one for each node, by increasing node number; if the receiver is
 *	    configured for a cgroup, before them one for the whole cgroup. None
 *	    if the cgroup was removed.
 */
struct wsr_report {
	unsigned long reasons;
	unsigned int nr_scopes;
	struct wsr_scope_report scopes[] __counted_by(nr_scopes);
};

/**
 * struct wsr_receiver - somebody who wants reports
 * @report: called with a report, which is valid and does not change until it
 *	    returns. Process context, may sleep; never runs twice at a time for
 *	    one receiver; no lock is held that others wait for. It may call
 *	    wsr_receiver_configure() and wsr_receiver_request(), but not
 *	    wsr_receiver_free().
 * @private_data: for the owner of the receiver
 *
 * Life: wsr_receiver_alloc(), fill in @report and @private_data,
 * wsr_receiver_register(), then wsr_receiver_configure() and
 * wsr_receiver_request() as often as wanted, in the end wsr_receiver_free(),
 * after which @report is not called any more. The owner has to make sure that
 * none of its own calls for the receiver are under way when it frees it.
 */
struct wsr_receiver {
	void (*report)(struct wsr_receiver *receiver,
		       const struct wsr_report *report);
	void *private_data;

	/* private: mm/wsr only */
	struct wsr_receiver_state *state;
};

/**
 * struct wsr_reclaim_result - what wsr_reclaim() did
 * @requested_bytes: what was asked for, or what was idle if that was less
 * @reclaimed_bytes: what was reclaimed
 */
struct wsr_reclaim_result {
	u64 requested_bytes;
	u64 reclaimed_bytes;
};

#ifdef CONFIG_WSR

__printf(1, 2) struct wsr_receiver *wsr_receiver_alloc(const char *fmt, ...);
int wsr_receiver_register(struct wsr_receiver *receiver);
int wsr_receiver_configure(struct wsr_receiver *receiver,
			   const struct wsr_config *config);
void wsr_receiver_request(struct wsr_receiver *receiver);
void wsr_receiver_free(struct wsr_receiver *receiver);

int wsr_reclaim(struct mem_cgroup *memcg, int nid, u64 max_bytes, u32 idle_ms,
		const bool *cancel, struct wsr_reclaim_result *result);

void wsr_reclaimed(int nid);
void wsr_memcg_reclaimed(struct mem_cgroup *memcg);
void wsr_register_node(struct node *node);
void wsr_unregister_node(struct node *node);
void wsr_memcg_online(struct mem_cgroup *memcg);
void wsr_memcg_offline(struct mem_cgroup *memcg);

/*
 * Which page frames are samples is fixed (mm/wsr/ages.c). This many levels
 * follow from one multiplication, which tells most page frames apart inline.
 */
#define WSR_HASHED_LEVELS	3

/* Differences that matter at the finest level in use; read without a lock. */
extern unsigned long wsr_sample_mask;

DECLARE_STATIC_KEY_FALSE(wsr_log_key);
void __wsr_folio_added(struct folio *folio);
bool __wsr_sampled(unsigned long pfn, unsigned int order);
void __wsr_folio_moved(struct folio *to, struct page *from);

/**
 * wsr_difference - how a page frame differs from the sample of its block
 * @pfn: page frame number
 *
 * Blocks are of 2^WSR_HASHED_LEVELS page frames.
 *
 * Return: the differing bits of the two numbers: 0 if it is the sample.
 */
static inline unsigned long wsr_difference(unsigned long pfn)
{
	u64 block = pfn >> WSR_HASHED_LEVELS;

	return (pfn & (BIT(WSR_HASHED_LEVELS) - 1)) ^
	       hash_64(block, WSR_HASHED_LEVELS);
}

/**
 * wsr_folio_added - a folio is new on an LRU list
 * @folio: the folio
 *
 * Context: LRU lock held. Does nothing unless somebody wants reports.
 */
static inline void wsr_folio_added(struct folio *folio)
{
	if (static_branch_unlikely(&wsr_log_key) &&
	    (folio_test_large(folio) ||
	     !(wsr_difference(folio_pfn(folio)) & READ_ONCE(wsr_sample_mask))))
		__wsr_folio_added(folio);
}

/**
 * wsr_sampled - may accessed bits of this memory have been cleared?
 * @pfn: page frame number
 * @order: order of what is mapped there
 *
 * If so, what they were is in PG_young.
 *
 * Context: any.
 * Return: false if working set reporting has nothing to do with it.
 */
static inline bool wsr_sampled(unsigned long pfn, unsigned int order)
{
	return static_branch_unlikely(&wsr_log_key) &&
	       __wsr_sampled(pfn, order);
}

/**
 * wsr_folio_moved - the contents of a folio are in another one now
 * @to: the new folio; there may be several calls with different parts of it
 * @from: the old folio, still charged to its cgroup, or a page of it
 *
 * Context: any; both folios have references. Does nothing unless somebody wants
 * reports.
 */
static inline void wsr_folio_moved(struct folio *to, struct page *from)
{
	if (static_branch_unlikely(&wsr_log_key))
		__wsr_folio_moved(to, from);
}

#else /* !CONFIG_WSR */

static inline void wsr_reclaimed(int nid)
{
}

static inline void wsr_memcg_reclaimed(struct mem_cgroup *memcg)
{
}

static inline void wsr_register_node(struct node *node)
{
}

static inline void wsr_unregister_node(struct node *node)
{
}

static inline void wsr_memcg_online(struct mem_cgroup *memcg)
{
}

static inline void wsr_memcg_offline(struct mem_cgroup *memcg)
{
}

static inline void wsr_folio_added(struct folio *folio)
{
}

static inline bool wsr_sampled(unsigned long pfn, unsigned int order)
{
	return false;
}

static inline void wsr_folio_moved(struct folio *to, struct page *from)
{
}

#endif /* CONFIG_WSR */

#endif /* _LINUX_WSR_H */
