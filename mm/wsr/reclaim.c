// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: reclaim of memory that was not accessed for a time.
 *
 * The samples tell how much memory is idle, but not which pages are. The LRU
 * knows pages, but not how long they were not accessed: all that was touched
 * once since the LRU was sorted last looks the same. So the samples limit how
 * much is taken of each type of memory, and the LRU is made to tell used pages
 * from others: two generations with some time in between, then whatever was not
 * accessed in this time can go.
 *
 *                  watch
 *     |<------------------------->|
 *   generation                 generation, reclaim
 *
 * The generation made for the last request, or by reclaim, serves as the first
 * one if it is old enough. Then there is nothing to wait for.
 *
 * No lock is held, so requests for the same memory can run at a time. Each
 * looks how much is idle before each round, so together they hardly take more
 * than that. A round of proactive reclaim of a node excludes others of that
 * node, as it does for the file nodeN/reclaim. No report is made for a request
 * itself; receivers of a cgroup hear of it as of all reclaim, at most once in
 * report_ms.
 */
#include <linux/atomic.h>
#include <linux/ctype.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/kstrtox.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/swap.h>

#include "../internal.h"
#include "internal.h"

/*
 * A page that was not accessed for this long is taken if as much is idle for
 * long enough: nobody wants to wait for an hour.
 */
#define WSR_MAX_WATCH_MS	10000

/*
 * The first round takes what is old already, the second one what it had to wait
 * for, the third one what could not be taken then: under writeback, say.
 */
#define WSR_RECLAIM_ROUNDS	3

/*
 * Reclaim itself only heeds signals. Between parts of this size it is seen that
 * a request is cancelled.
 */
#define WSR_RECLAIM_STEP	(SZ_32M >> PAGE_SHIFT)

/* How much of a node is idle for at least @idle_ms and can be reclaimed. */
static int wsr_add_idle_bytes(struct wsr_scope *scope, int nid, u32 idle_ms,
			      u64 *bytes, u64 *swap_free_bytes)
{
	struct wsr_config config = {
		.nr_bounds = 1,
		.idle_age_ms = { idle_ms },
	};
	struct wsr_scope_report report;
	int err;

	err = wsr_node_report(nid, scope, &config, &report, NULL);
	if (err)
		return err;
	if (report.warming_up)
		return -EAGAIN;

	bytes[WSR_SWAP_BACKED] += report.bins[1].swap_backed_bytes;
	bytes[WSR_FILE_BACKED] += report.bins[1].file_backed_bytes;
	*swap_free_bytes = report.swap_free_bytes;
	return 0;
}

/* The same for a cgroup, or for one node; by type. */
static int wsr_idle_bytes(struct mem_cgroup *memcg, int nid, u32 idle_ms,
			  u64 *bytes)
{
	u64 swap_free_bytes = 0;
	struct wsr_scope *scope;
	int err = -ENODATA;
	int each;

	guard(rwsem_read)(&wsr_scopes_sem);

	bytes[WSR_SWAP_BACKED] = 0;
	bytes[WSR_FILE_BACKED] = 0;
	scope = wsr_scope_find(memcg);
	if (!scope)
		return -ENODATA;

	for_each_node_state(each, N_MEMORY) {
		if (!memcg && each != nid)
			continue;
		err = wsr_add_idle_bytes(scope, each, idle_ms, bytes,
					 &swap_free_bytes);
		if (err)
			break;
	}
	bytes[WSR_SWAP_BACKED] = min(bytes[WSR_SWAP_BACKED], swap_free_bytes);
	return err;
}

/* Should the request end early? */
static bool wsr_cancelled(const bool *cancel)
{
	return signal_pending(current) || (cancel && READ_ONCE(*cancel));
}

/*
 * Sleep for @left jiffies. Whoever removes the cgroup or node waits for writers
 * of its files, so end early then. Returns false in this case, or if cancelled.
 */
static bool wsr_watch(struct mem_cgroup *memcg, int nid, const bool *cancel,
		      unsigned long left)
{
	while (left && !wsr_cancelled(cancel)) {
		unsigned long slice = min(left, HZ / 10UL);

		schedule_timeout_interruptible(slice);
		left -= slice;
#ifdef CONFIG_MEMCG
		if (memcg && memcg->css.flags & CSS_DYING)
			return false;
#endif
		if (!memcg && !node_online(nid))
			return false;
	}
	return !left;
}

/* What is idle is an estimate, so a request can't be taken to the byte. */
static bool wsr_reclaimed_enough(const struct wsr_reclaim_result *result)
{
	return result->reclaimed_bytes >= result->requested_bytes -
					  result->requested_bytes / 32;
}

/* Returns how many bytes of a type were reclaimed, about @bytes or less. */
static u64 wsr_reclaim_type(struct mem_cgroup *memcg, int nid,
			    const bool *cancel, enum wsr_type type, u64 bytes)
{
	int swappiness = type == WSR_FILE_BACKED ? MIN_SWAPPINESS :
						   SWAPPINESS_ANON_ONLY;
	unsigned int options = MEMCG_RECLAIM_MAY_SWAP |
			       MEMCG_RECLAIM_PROACTIVE |
			       MEMCG_RECLAIM_IDLE_ONLY;
	pg_data_t *pgdat = memcg ? NULL : NODE_DATA(nid);
	u64 done = 0;

	while (done < bytes && !wsr_cancelled(cancel)) {
		/* Small steps at the end, since a round can take too much. */
		unsigned long pages = ((bytes - done) >> PAGE_SHIFT) / 4;
		long reclaimed;

		pages = min(pages, WSR_RECLAIM_STEP);
		reclaimed = proactive_reclaim(memcg, pgdat, pages, options,
					      &swappiness);
		if (reclaimed <= 0)
			break;
		done += (u64)reclaimed << PAGE_SHIFT;
	}
	return done;
}

/**
 * wsr_reclaim - reclaim memory that was not accessed for a time
 * @memcg: reclaim from this memory cgroup and its descendants, or
 * @nid: from this node if @memcg is NULL
 * @max_bytes: how much at most; a bit more may be reclaimed
 * @idle_ms: only if it was not accessed for this long, in ms, not 0
 * @cancel: end early when this becomes true, or NULL
 * @result: how much was asked for and reclaimed; set also on error
 *
 * What is asked for is @max_bytes, or what is idle for @idle_ms and can be
 * reclaimed, if that is less. Of each type of memory as much is reclaimed as it
 * has a share in this. Waits up to twice for @idle_ms, or for 10 s if
 * @idle_ms is longer.
 *
 * Context: may sleep; must not be called in memory reclaim. Ends early on a
 * signal or if cancelled: within 0.1 s, or when it has reclaimed the next 32 MiB.
 * Calls may run concurrently.
 * Return: 0 if 31/32 of what was asked for was reclaimed, -EAGAIN if not, or if
 * memory was not watched for long enough to tell, -EINVAL if @idle_ms is 0,
 * -EOPNOTSUPP if MGLRU is off, -ENODATA if nobody watches this memory, -EINTR on
 * a signal or if cancelled, -ENODEV if the cgroup or node is being removed.
 */
int wsr_reclaim(struct mem_cgroup *memcg, int nid, u64 max_bytes, u32 idle_ms,
		const bool *cancel, struct wsr_reclaim_result *result)
{
	unsigned long watch = msecs_to_jiffies(min_t(u32, idle_ms,
						     WSR_MAX_WATCH_MS));
	pg_data_t *pgdat = memcg ? NULL : NODE_DATA(nid);
	int err;

	*result = (struct wsr_reclaim_result) {};
	if (!idle_ms)
		return -EINVAL;
	/* Only MGLRU can tell what is idle. */
	if (!lru_gen_enabled())
		return -EOPNOTSUPP;

	for (int round = 0; round < WSR_RECLAIM_ROUNDS; round++) {
		u64 idle[NR_WSR_TYPES], sum, left;

		err = wsr_idle_bytes(memcg, nid, idle_ms, idle);
		if (err)
			return err;
		sum = idle[WSR_SWAP_BACKED] + idle[WSR_FILE_BACKED];
		if (!round)
			result->requested_bytes = min(max_bytes, sum);
		if (wsr_reclaimed_enough(result))
			return 0;
		if (!sum)
			return -EAGAIN;
		left = min(sum, result->requested_bytes -
				result->reclaimed_bytes);

		if (round && !wsr_watch(memcg, nid, cancel, watch))
			return wsr_cancelled(cancel) ? -EINTR : -ENODEV;
		/* A new generation can hide what was read, but not mapped. */
		result->reclaimed_bytes +=
			wsr_reclaim_type(memcg, nid, cancel, WSR_FILE_BACKED,
					 mul_u64_u64_div_u64(left,
							     idle[WSR_FILE_BACKED],
							     sum));
		lru_gen_age(memcg, pgdat, watch);
		result->reclaimed_bytes +=
			wsr_reclaim_type(memcg, nid, cancel, WSR_SWAP_BACKED,
					 mul_u64_u64_div_u64(left,
							     idle[WSR_SWAP_BACKED],
							     sum));
		if (wsr_cancelled(cancel))
			return -EINTR;
	}
	return wsr_reclaimed_enough(result) ? 0 : -EAGAIN;
}
EXPORT_SYMBOL_GPL(wsr_reclaim);

/**
 * wsr_reclaim_write - do what was written into a file "reclaim"
 * @buf: "<bytes> <idle_ms>", ends with a NUL
 * @memcg: as for wsr_reclaim()
 * @nid: as for wsr_reclaim()
 * @stat: sums up what was done for this file
 *
 * Context: as for wsr_reclaim(); call it without locks.
 * Return: as for wsr_reclaim(); -EINVAL if @buf has another format.
 */
int wsr_reclaim_write(const char *buf, struct mem_cgroup *memcg, int nid,
		      struct wsr_reclaim_stat *stat)
{
	struct wsr_reclaim_result result;
	u64 max_bytes;
	u32 idle_ms;
	char *rest;
	int err;

	buf = skip_spaces(buf);
	max_bytes = memparse(buf, &rest);
	if (!isdigit(*buf) || *rest != ' ' ||
	    kstrtou32(skip_spaces(rest), 10, &idle_ms))
		return -EINVAL;

	err = wsr_reclaim(memcg, nid, max_bytes, idle_ms, NULL, &result);
	if (err != -EINVAL)
		atomic64_inc(&stat->requests);
	atomic64_add(result.requested_bytes, &stat->requested_bytes);
	atomic64_add(result.reclaimed_bytes, &stat->reclaimed_bytes);
	return err;
}
