// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: from counted samples to a histogram. Pure arithmetic,
 * tested by tests/wsr_kunit.c.
 */
#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/hash.h>
#include <linux/math64.h>
#include <linux/string.h>

#include "internal.h"

/**
 * wsr_check_bounds - check the bounds of a histogram
 * @idle_age_ms: the bounds, in ms
 * @nr: how many
 *
 * Return: 0, or -EINVAL unless there are at most WSR_MAX_BOUNDS, strictly
 * increasing and greater than 0.
 */
int wsr_check_bounds(const u32 *idle_age_ms, unsigned int nr)
{
	u32 last = 0;

	if (nr > WSR_MAX_BOUNDS)
		return -EINVAL;

	for (unsigned int i = 0; i < nr; i++) {
		if (idle_age_ms[i] <= last)
			return -EINVAL;
		last = idle_age_ms[i];
	}
	return 0;
}

/**
 * wsr_check_config - check what a receiver wants
 * @config: the configuration
 *
 * Return: 0, or -EINVAL if a value is out of its range (struct wsr_config).
 */
int wsr_check_config(const struct wsr_config *config)
{
	if (config->nr_bounds && config->refresh_ms < WSR_MIN_REFRESH_MS)
		return -EINVAL;

	return wsr_check_bounds(config->idle_age_ms, config->nr_bounds);
}

/**
 * wsr_bin_of - find the bin of an age
 * @idle_age_ms: bounds of the bins, in ms
 * @nr: number of bounds
 * @age_ms: the age, in ms
 *
 * Return: the first bin whose bound is greater than the age, or @nr.
 */
unsigned int wsr_bin_of(const u32 *idle_age_ms, unsigned int nr, u64 age_ms)
{
	unsigned int bin = 0;

	while (bin < nr && age_ms >= idle_age_ms[bin])
		bin++;
	return bin;
}

/**
 * wsr_middle - best guess of when an access happened
 * @from_ms: start of the interval it happened in, in ms
 * @to_ms: end of the interval, in ms
 *
 * With nothing else known, each moment is as likely as the other; the middle
 * makes the expected error zero.
 *
 * Return: the middle of the interval, or @to_ms if it is not after @from_ms.
 */
u64 wsr_middle(u64 from_ms, u64 to_ms)
{
	return from_ms < to_ms ? from_ms + (to_ms - from_ms) / 2 : to_ms;
}

/**
 * wsr_place_unknown - guess the ages of samples of which only a bound is known
 * @known: pages in each bin; the others are added
 * @unknown: pages whose age is not known but that it is at least in this bin
 * @nr_bins: number of bins
 *
 * They are spread in the ratio of the known ones that are at least as old, from
 * the youngest bin to the oldest (Kaplan and Meier's estimate of a distribution
 * from censored data). Without any known ones they are in the bin of the bound.
 */
void wsr_place_unknown(u64 *known, const u64 *unknown, unsigned int nr_bins)
{
	u64 older = 0;

	for (unsigned int i = 0; i < nr_bins; i++)
		older += known[i];

	for (unsigned int i = 0; i < nr_bins; i++) {
		u64 left = unknown[i], rest = older;

		older -= known[i];
		if (!rest)
			known[i] += left;
		/* The rest of the rounding is for the oldest. */
		for (unsigned int j = i; j < nr_bins && left && rest; j++) {
			u64 share = mul_u64_u64_div_u64(left, known[j], rest);

			rest -= known[j];
			left -= share;
			known[j] += share;
			older += j > i ? share : 0;
		}
	}
}

/**
 * wsr_counts_init - begin to count samples
 * @counts: set up with nothing counted
 * @idle_age_ms: bounds of the histogram, in ms
 * @nr_bounds: number of bounds, at most WSR_MAX_BOUNDS
 */
void wsr_counts_init(struct wsr_counts *counts, const u32 *idle_age_ms,
		     unsigned int nr_bounds)
{
	*counts = (struct wsr_counts) { .nr_bounds = nr_bounds };
	for (unsigned int i = 0; i < nr_bounds; i++)
		counts->bounds_ms[i] = idle_age_ms[i];
}

/**
 * wsr_counts_split - count what is younger than an age apart from what is older
 * @counts: nothing was counted yet
 * @age_ms: the age, in ms
 *
 * To be called for the ages that some samples have at least: what is younger
 * must not tell about them. If there are too many of such ages, some are left
 * out; then the same is true for what is in other bins.
 */
void wsr_counts_split(struct wsr_counts *counts, u64 age_ms)
{
	u32 *bounds = counts->bounds_ms;
	unsigned int bin;

	bin = wsr_bin_of(bounds, counts->nr_bounds, age_ms);
	if (!age_ms || (bin && bounds[bin - 1] == age_ms) ||
	    bin == counts->nr_bounds ||
	    counts->nr_bounds == ARRAY_SIZE(counts->bounds_ms))
		return;

	memmove(&bounds[bin + 1], &bounds[bin],
		(counts->nr_bounds - bin) * sizeof(*bounds));
	bounds[bin] = age_ms;
	counts->nr_bounds++;
}

/**
 * wsr_counts_finish - sort what was counted into the bins of a histogram
 * @counts: what was counted; ages that are not known are guessed
 * @idle_age_ms: bounds of the histogram, as given to wsr_counts_init()
 * @nr_bounds: number of bounds
 * @pages: the result
 */
void wsr_counts_finish(struct wsr_counts *counts, const u32 *idle_age_ms,
		       unsigned int nr_bounds, struct wsr_pages *pages)
{
	*pages = (struct wsr_pages) {};
	for (int type = 0; type < NR_WSR_TYPES; type++) {
		u64 *known = counts->known[type];
		unsigned int bin = 0;

		wsr_place_unknown(known, counts->unknown[type],
				  counts->nr_bounds + 1);
		for (unsigned int i = 0; i <= counts->nr_bounds; i++) {
			pages->n[type][bin] += known[i];
			if (bin < nr_bounds &&
			    counts->bounds_ms[i] == idle_age_ms[bin])
				bin++;
		}
	}
}

/**
 * wsr_scale - spread an exact size over bins in the ratio of the samples
 * @n: what the samples in each bin speak for, in any unit
 * @nr_bins: number of bins
 * @bytes: the exact size of what was sampled, in bytes
 * @out: the result for each bin, in bytes
 *
 * The results add up to @bytes: rounding is done on the running sum, so no bin
 * is wrong by more than a byte. Without a sample everything is in the last bin:
 * nobody has seen it accessed.
 */
void wsr_scale(const u64 *n, unsigned int nr_bins, u64 bytes,
	       u64 *out)
{
	u64 total = 0, sum = 0, before = 0;

	for (unsigned int i = 0; i < nr_bins; i++)
		total += n[i];

	for (unsigned int i = 0; i < nr_bins; i++) {
		u64 end;

		sum += n[i];
		if (total)
			end = mul_u64_u64_div_u64(bytes, sum, total);
		else
			end = i == nr_bins - 1 ? bytes : 0;
		out[i] = end - before;
		before = end;
	}
}

/**
 * wsr_fill_bins - make the histogram of a report
 * @report: its @nr_bins and @bins are set; its @age_ms is used
 * @idle_age_ms: bounds of the bins, in ms
 * @nr_bounds: number of bounds
 * @pages: what the samples of the last look say
 * @then: exact size of the memory of each type at the last look, in bytes
 * @now: the same now
 *
 * The samples speak for the memory of then. What was added since is younger
 * than the look; of what went away, no bin is more likely than its share.
 */
void wsr_fill_bins(struct wsr_scope_report *report, const u32 *idle_age_ms,
		   unsigned int nr_bounds, const struct wsr_pages *pages,
		   const u64 *then, const u64 *now)
{
	unsigned int youngest = wsr_bin_of(idle_age_ms, nr_bounds,
					   report->age_ms / 2);
	u64 bytes[NR_WSR_TYPES][WSR_MAX_BINS];
	unsigned int nr_bins = nr_bounds + 1;

	for (int type = 0; type < NR_WSR_TYPES; type++) {
		u64 old = min(then[type], now[type]);

		wsr_scale(pages->n[type], nr_bins, old, bytes[type]);
		bytes[type][youngest] += now[type] - old;
	}

	report->nr_bins = nr_bins;
	for (unsigned int i = 0; i < nr_bins; i++) {
		report->bins[i] = (struct wsr_bin) {
			.idle_age_ms = i < nr_bounds ? idle_age_ms[i] :
						       WSR_IDLE_AGE_MAX,
			.swap_backed_bytes = bytes[WSR_SWAP_BACKED][i],
			.file_backed_bytes = bytes[WSR_FILE_BACKED][i],
		};
	}
}

/* Which half of a block of 2^(level + 1) pages its sample is in: 0 or 1. */
static unsigned int wsr_better_half(unsigned long block, unsigned int level)
{
	u64 mixed = (u64)block * GOLDEN_RATIO_64 ^ level;

	return hash_64(mixed ^ (mixed >> 32), 1);
}

/**
 * wsr_level - the coarsest level at which a folio is a sample
 * @pfn: its first page frame
 * @order: its order; @pfn is a multiple of its size
 *
 * At a level there is one sample in each block of 2^level pages. The samples of
 * the first levels are regular inside of a block of 2^WSR_HASHED_LEVELS pages:
 * for most page frames one hash tells that they are none. Above, a sample is
 * that of the better half of its block. A folio is a sample if one of its pages
 * is.
 *
 * Return: the level, at least @order. A level is reached by half as many page
 * frames as the one below it.
 */
unsigned int wsr_level(unsigned long pfn, unsigned int order)
{
	unsigned int level = order;

	if (level < WSR_HASHED_LEVELS) {
		unsigned long difference = wsr_difference(pfn) >> level;

		if (difference)
			return level + __ffs(difference);
		level = WSR_HASHED_LEVELS;
	}
	while (level < WSR_MAX_LEVEL &&
	       ((pfn >> level) & 1) == wsr_better_half(pfn >> (level + 1), level))
		level++;
	return level;
}

/**
 * wsr_level_pfn - the sample of a block
 * @block: number of the block of 2^level pages
 * @level: the level
 *
 * Return: the page frame in the block whose level is at least @level.
 */
unsigned long wsr_level_pfn(unsigned long block, unsigned int level)
{
	unsigned long pfn;

	while (level > WSR_HASHED_LEVELS)
		block = 2 * block + wsr_better_half(block, --level);
	pfn = block << level;
	return pfn ^ (wsr_difference(pfn) & (BIT(level) - 1));
}

/*
 * With n samples, the share of memory below a bound has a standard error of at
 * most 0.5 / sqrt(n): 1.1 % for 2048. The cost of a look is in proportion to n.
 */
#define WSR_MAX_SAMPLES	3072
/* Much less than half, so that the level does not go up and down. */
#define WSR_MIN_SAMPLES	1280

/**
 * wsr_choose_level - how densely to sample memory
 * @level: the level until now; above WSR_MAX_LEVEL: none
 * @pages: the size of the memory
 *
 * Return: a level with at most WSR_MAX_SAMPLES samples, and not much less than
 * WSR_MIN_SAMPLES, unless that is all. @level if it is good enough.
 */
unsigned int wsr_choose_level(unsigned int level, u64 pages)
{
	if (level > WSR_MAX_LEVEL)
		level = 0;
	while (level && pages >> level < WSR_MIN_SAMPLES)
		level--;
	while (level < WSR_MAX_LEVEL && pages >> level > WSR_MAX_SAMPLES)
		level++;
	return level;
}
