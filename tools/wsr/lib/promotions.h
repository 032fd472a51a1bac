/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How much memory that was idle for some time was used again: counted from
 * reports, not guessed from one of them. No I/O.
 *
 * With the bounds b[0] < b[1] < ... of the bins: what is older than b[i] at some
 * time and is not used, is older than b[i + 1] when b[i + 1] - b[i] have passed.
 * What is missing then was used again (Google's cold memory calls it promoted),
 * or it is gone: freed, or reclaimed.
 *
 *	promoted(i) = older than b[i], b[i + 1] - b[i] ago
 *		    - older than b[i + 1], now
 *		    - what all ages together have become less
 *
 * Memory that an application left behind at once, and that gets old in one
 * piece, is not a promotion at any age. One report alone can't tell: nothing is
 * known of a bin until its width has passed for the first time.
 */
#ifndef WSR_PROMOTIONS_H
#define WSR_PROMOTIONS_H

#include <stdint.h>

#include "../report.h"

/* Samples for a bin, an eighth of its width apart: one and a half widths */
#define WSR_PROMOTIONS_SAMPLES	12
#define WSR_PROMOTIONS_BOUNDS	(REPORT_MAX_BINS - 1)

struct wsr_promotions_sample {
	int64_t ms;
	float older;	/* bytes above the bound */
	float total;	/* of any age */
};

/**
 * struct wsr_promotions - of one VM
 * @nr:		bounds; 0: nothing was reported yet
 * @bounds_ms:	of the bins
 * @first_ms:	when the first report with these bounds was made
 * @last_ms:	and the newest
 * @rates:	bytes per second that were promoted from above each bound; of the
 *		last minute or so, since what is tolerated is a rate per minute
 * @next:	where the next sample goes
 */
struct wsr_promotions {
	unsigned int nr;
	uint64_t bounds_ms[WSR_PROMOTIONS_BOUNDS];
	int64_t first_ms, last_ms;
	double rates[WSR_PROMOTIONS_BOUNDS];
	unsigned int next[WSR_PROMOTIONS_BOUNDS];
	struct wsr_promotions_sample
		samples[WSR_PROMOTIONS_BOUNDS][WSR_PROMOTIONS_SAMPLES];
};

/** wsr_promotions_init - nothing is known */
void wsr_promotions_init(struct wsr_promotions *promotions);

/**
 * wsr_promotions_report - take over a report
 * @node:	with bins whose bounds increase. Other bounds than before: all
 *		that was counted is forgotten
 * @now_ms:	when its data were gathered, not before the last one
 */
void wsr_promotions_report(struct wsr_promotions *promotions,
			   const struct report_node *node, int64_t now_ms);

/**
 * wsr_promotions_rate - bytes per second that were promoted from about that age
 * @x:		position of the age on the grid, see curve.h
 */
double wsr_promotions_rate(const struct wsr_promotions *promotions, double x);

/**
 * wsr_promotions_x - the youngest age to cut at for a rate of promotions
 * @limit:	bytes per second that are tolerated
 *
 * Return: position on the grid of the lowest bound above which no more than
 * @limit is promoted; 0 if it is so everywhere, at most WSR_GRID_MAX_X.
 */
double wsr_promotions_x(const struct wsr_promotions *promotions, double limit);

#endif
