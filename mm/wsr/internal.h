/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of mm/wsr share. See node.c for how they play together.
 */
#ifndef _MM_WSR_INTERNAL_H
#define _MM_WSR_INTERNAL_H

#include <linux/wsr.h>

/* histogram.c: arithmetic, no locks, no state */

enum wsr_type {
	WSR_SWAP_BACKED,	/* folio_is_file_lru() is 0: anon and shmem */
	WSR_FILE_BACKED,
	NR_WSR_TYPES
};

/**
 * struct wsr_counts - how many samples fell into which bin
 * @n: samples by type and bin
 */
struct wsr_counts {
	unsigned int n[NR_WSR_TYPES][WSR_MAX_BINS];
};

int wsr_check_bounds(const u32 *idle_age_ms, unsigned int nr);
int wsr_check_config(const struct wsr_config *config);
unsigned int wsr_bin_of(const u32 *idle_age_ms, unsigned int nr, u64 age_ms);
u64 wsr_middle(u64 from_ms, u64 to_ms);
void wsr_scale(const unsigned int *n, unsigned int nr_bins, u64 bytes,
	       u64 *out);
void wsr_fill_bins(struct wsr_scope_report *report, const u32 *idle_age_ms,
		   unsigned int nr_bounds, const struct wsr_counts *counts,
		   const u64 *then, const u64 *now);

/* ages.c: the sampled folios of one node */

struct wsr_ages;

/**
 * struct wsr_look - what a look at the samples found
 * @samples: number of samples in memory that can be reclaimed
 * @folios: number of folios whose mappings were looked at
 * @young: number of these that had been accessed
 */
struct wsr_look {
	unsigned int samples;
	unsigned int folios;
	unsigned int young;
};

struct wsr_ages *wsr_ages_alloc(int nid);
void wsr_ages_free(struct wsr_ages *ages);
bool wsr_ages_fit(const struct wsr_ages *ages);
bool wsr_ages_adopt(struct wsr_ages *ages, const struct wsr_ages *old);
void wsr_ages_look(struct wsr_ages *ages, u64 last_ms, u64 now_ms,
		   struct wsr_look *look);
void wsr_ages_count(const struct wsr_ages *ages, const u32 *idle_age_ms,
		    unsigned int nr_bounds, u64 now_ms,
		    struct wsr_counts *counts);

/* node.c: when to look, and reports of a node */

/**
 * struct wsr_node_stat - numbers about the watching itself
 * @look: the last look
 * @looks: number of looks since watching began
 * @cost_us: CPU time of the last look, in us
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
int wsr_node_report(int nid, const struct wsr_config *config,
		    struct wsr_scope_report *report,
		    struct wsr_node_stat *stat);

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

#endif /* _MM_WSR_INTERNAL_H */
