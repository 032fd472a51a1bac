/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of mm/wsr share. See node.c for how they play together.
 */
#ifndef _MM_WSR_INTERNAL_H
#define _MM_WSR_INTERNAL_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/wsr.h>

struct folio;
struct mm_struct;

/* histogram.c: arithmetic, no locks, no state */

enum wsr_type {
	WSR_SWAP_BACKED,	/* folio_is_file_lru() is 0: anon and shmem */
	WSR_FILE_BACKED,
	NR_WSR_TYPES
};

/* For each bin of a histogram, one more to count in. */
#define WSR_COUNT_BINS	(2 * WSR_MAX_BINS)

/**
 * struct wsr_counts - what samples say, in pages
 * @bounds_ms: bounds of the bins that are counted in, in ms: those of the
 *	       histogram, and ages that some samples have at least
 * @nr_bounds: their number
 * @known: pages by type and bin
 * @unknown: pages whose age is not known but that it is at least in this bin
 */
struct wsr_counts {
	u32 bounds_ms[WSR_COUNT_BINS - 1];
	unsigned int nr_bounds;
	u64 known[NR_WSR_TYPES][WSR_COUNT_BINS];
	u64 unknown[NR_WSR_TYPES][WSR_COUNT_BINS];
};

/**
 * struct wsr_pages - the same for the bins of a histogram, with all ages guessed
 * @n: pages by type and bin
 */
struct wsr_pages {
	u64 n[NR_WSR_TYPES][WSR_MAX_BINS];
};

int wsr_check_bounds(const u32 *idle_age_ms, unsigned int nr);
int wsr_check_config(const struct wsr_config *config);
unsigned int wsr_bin_of(const u32 *idle_age_ms, unsigned int nr, u64 age_ms);
u64 wsr_middle(u64 from_ms, u64 to_ms);
void wsr_counts_init(struct wsr_counts *counts, const u32 *idle_age_ms,
		     unsigned int nr_bounds);
void wsr_counts_split(struct wsr_counts *counts, u64 age_ms);
void wsr_counts_finish(struct wsr_counts *counts, const u32 *idle_age_ms,
		       unsigned int nr_bounds, struct wsr_pages *pages);
void wsr_place_unknown(u64 *known, const u64 *unknown, unsigned int nr_bins);
void wsr_scale(const u64 *n, unsigned int nr_bins, u64 bytes, u64 *out);
void wsr_fill_bins(struct wsr_scope_report *report, const u32 *idle_age_ms,
		   unsigned int nr_bounds, const struct wsr_pages *pages,
		   const u64 *then, const u64 *now);
unsigned int wsr_level(unsigned long pfn, unsigned int order);
unsigned long wsr_level_pfn(unsigned long block, unsigned int level);
unsigned int wsr_choose_level(unsigned int level, u64 pages);

/* access.c: was a folio accessed? */

/* More address spaces than this are flushed all at once. */
#define WSR_MAX_MMS	16

/**
 * struct wsr_walk - what a look takes from page tables
 * @young: the folio had an accessed bit
 * @mms: where accessed bits were cleared, with a reference (mmgrab())
 * @nr_mms: number of entries in @mms
 * @more_mms: there were more
 */
struct wsr_walk {
	bool young;
	struct mm_struct *mms[WSR_MAX_MMS];
	unsigned int nr_mms;
	bool more_mms;
};

enum wsr_answer {
	WSR_ACCESSED,
	WSR_IDLE,
	WSR_UNKNOWN,	/* somebody holds a lock that is needed to tell */
};

enum wsr_answer wsr_folio_accessed(struct folio *folio, struct wsr_walk *walk);
void wsr_walk_end(struct wsr_walk *walk);

/* scope.c: memory that somebody wants reports of */

/* No block of page frames is larger than this many pages, as a power of 2. */
#define WSR_MAX_LEVEL	30
/* As the level of a scope: nothing of it is sampled. */
#define WSR_NO_LEVEL	31

/* End of a chain of samples. */
#define WSR_NO_SAMPLE	U32_MAX

/**
 * struct wsr_look - what a look at the samples found
 * @samples: number of samples in memory that can be reclaimed
 * @folios: number of folios that were looked at
 * @young: number of these that had been accessed
 * @find_us: CPU time of a search for samples, in us, 0 if there was none
 * @find_more: the search goes on with the next look
 */
struct wsr_look {
	unsigned int samples;
	unsigned int folios;
	unsigned int young;
	unsigned int find_us;
	bool find_more;
};

/* What is to be searched for: folios that are no samples yet, but should be. */
enum wsr_search {
	WSR_SEARCH_NONE,
	WSR_SEARCH_NEW,		/* they came since the look before the search */
	WSR_SEARCH_ALL,		/* they may be there for long */
};

/**
 * struct wsr_scope_node - the part of a scope that is on one node
 * @wanted: number of receivers that want reports of it; protected by
 *	    wsr_scopes_sem
 * @search: the next search has to find these
 * @searching: the search that goes on finds these, or it ended with this look
 * @goal: the level of which that search finds all samples
 * @own_level: there is one sample in 2^own_level pages
 * @level: the finest level that the scope or one around it needs; read without
 *	   a lock by wsr_folio_added() and wsr_folio_moved()
 * @found_level: the finest level of which all samples were found; WSR_NO_LEVEL
 *		 until the first search has ended
 * @looks: number of looks since @wanted was set
 * @first: the first sample that is in this scope, but in none inside it
 * @look: numbers about the last look at these samples
 * @bytes: size of the memory at the last look, by type; with all inside it
 *
 * Protected by the lock of the node, or by wsr_scopes_sem held for writing, but
 * for what is said above.
 */
struct wsr_scope_node {
	unsigned int wanted;
	enum wsr_search search;
	enum wsr_search searching;
	u8 goal;
	u8 own_level;
	u8 level;
	u8 found_level;
	u64 looks;
	u32 first;
	struct wsr_look look;
	u64 bytes[NR_WSR_TYPES];
};

/**
 * struct wsr_scope - memory that somebody wants reports of
 * @list: in wsr_scopes; a scope comes after the one around it
 * @memcg: the cgroup, with a reference; NULL: all memory
 * @parent: the smallest scope around this one; NULL if @memcg is
 * @users: number of receivers that are configured for it
 * @offline: the cgroup was removed
 * @receivers: the receivers (struct wsr_receiver_state.in_scope); walked under RCU
 * @rcu: frees it
 * @node: by node number
 *
 * The lists, @memcg, @parent, @users and @offline are protected by
 * wsr_scopes_sem. Exists while @users is not 0; the scope of all memory always.
 */
struct wsr_scope {
	struct list_head list;
	struct mem_cgroup *memcg;
	struct wsr_scope *parent;
	unsigned int users;
	bool offline;
	struct list_head receivers;
	struct rcu_head rcu;
	struct wsr_scope_node node[];
};

extern struct rw_semaphore wsr_scopes_sem;
extern struct list_head wsr_scopes;
extern struct wsr_scope *wsr_whole;

int wsr_scopes_init(void);
struct wsr_scope *wsr_scope_get(struct mem_cgroup *memcg);
void wsr_scope_put(struct wsr_scope *scope);
struct wsr_scope *wsr_scope_find(struct mem_cgroup *memcg);
struct wsr_scope *wsr_scope_of(struct folio *folio);
void wsr_scope_inherit(struct mem_cgroup *memcg);
bool wsr_scope_own(struct mem_cgroup *memcg);
void wsr_scope_remove(struct mem_cgroup *memcg);
bool wsr_scope_inside(const struct wsr_scope *scope,
		      const struct wsr_scope *around);
void wsr_scopes_forget(int nid);
void wsr_scope_sizes(const struct wsr_scope *scope, int nid, u64 *bytes);
u64 wsr_scope_total(const struct wsr_scope *scope);
void wsr_scope_fill(const struct wsr_scope *scope, int nid,
		    struct wsr_scope_report *report, u64 lru_bytes);

/* log.c: folios that came or moved between looks */

/**
 * struct wsr_event - something that happened to a folio
 * @to: its page frame number
 * @from: where its contents were before; WSR_ELSEWHERE: on another node
 * @born: the contents are new
 * @order: the order of the folio, if @born
 */
struct wsr_event {
	u64 to : 58;
	u64 born : 1;
	u64 order : 5;
	unsigned long from;
};

#define WSR_ELSEWHERE	ULONG_MAX

int wsr_log_start(int nid);
void wsr_log_stop(int nid);
void wsr_log_level(int nid, unsigned int level);
void wsr_log_watch(bool wanted);
bool wsr_log_ready(void);
bool wsr_log_drain(int nid, void (*event)(const struct wsr_event *event,
					  void *arg), void *arg);

/* ages.c: the sampled folios of one node */

struct wsr_ages;

struct wsr_ages *wsr_ages_alloc(int nid);
void wsr_ages_free(struct wsr_ages *ages);
void wsr_ages_look(struct wsr_ages *ages, u64 last_ms, u64 now_ms,
		   struct wsr_look *look);
void wsr_ages_count(struct wsr_ages *ages, const struct wsr_scope *scope,
		    const u32 *idle_age_ms, unsigned int nr_bounds, u64 now_ms,
		    struct wsr_pages *pages, struct wsr_look *look);
void wsr_ages_splice(struct wsr_ages *ages, u32 from, u32 *to);

/* node.c: when to look, and reports */

/**
 * struct wsr_node_stat - numbers about the watching itself
 * @look: the last look at the scope
 * @looks: number of looks since watching the scope began
 * @cost_us: CPU time of the last look at the node, in us
 * @refresh_ms: the distance of looks that is in force, in ms: what was asked
 *		for, or more if the CPU budget demands it
 */
struct wsr_node_stat {
	struct wsr_look look;
	u64 looks;
	u64 cost_us;
	u32 refresh_ms;
};

extern struct workqueue_struct *wsr_wq;

int wsr_node_prepare(int nid);
void wsr_node_watch(int nid, u32 refresh_ms);
void wsr_node_unwatch(int nid);
void wsr_set_tick(u32 tick_ms);
void wsr_node_splice(int nid, struct wsr_scope_node *from,
		     struct wsr_scope_node *to);
int wsr_node_report(int nid, struct wsr_scope *scope,
		    const struct wsr_config *config,
		    struct wsr_scope_report *report,
		    struct wsr_node_stat *stat);
u64 wsr_now_ms(void);

/* receiver.c */

/**
 * struct wsr_receiver_stat - numbers about a receiver
 * @reports: reports it was given
 * @merged: reasons for a report that found one already on its way
 */
struct wsr_receiver_stat {
	u64 reports;
	u64 merged;
};

void wsr_receiver_stat(struct wsr_receiver *receiver,
		       struct wsr_receiver_stat *stat);
int wsr_receiver_make(struct wsr_receiver *receiver,
		      struct wsr_report *report, struct wsr_node_stat *stat);
struct wsr_report *wsr_report_alloc(void);

/* reclaim.c */

/**
 * struct wsr_reclaim_stat - sums over all requests through a file
 * @requests: requests
 * @requested_bytes: sum of struct wsr_reclaim_result.requested_bytes
 * @reclaimed_bytes: sum of struct wsr_reclaim_result.reclaimed_bytes
 */
struct wsr_reclaim_stat {
	atomic64_t requests;
	atomic64_t requested_bytes;
	atomic64_t reclaimed_bytes;
};

int wsr_reclaim_write(const char *buf, struct mem_cgroup *memcg, int nid,
		      struct wsr_reclaim_stat *stat);

#endif /* _MM_WSR_INTERNAL_H */
