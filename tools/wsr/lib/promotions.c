// SPDX-License-Identifier: GPL-2.0
/*
 * How much memory that was idle for some time was used again. No I/O.
 */
#include <math.h>
#include <string.h>

#include "curve.h"
#include "promotions.h"

/* What is tolerated is tolerated per minute. */
#define AVERAGE_MS	60000.0
/* Samples are so much of a bin's width apart, */
#define SPACING		0.125
/*
 * and what happened as much earlier or later is not told from it: kernels look
 * at a page from time to time.
 */
#define JITTER		0.15

void wsr_promotions_init(struct wsr_promotions *promotions)
{
	memset(promotions, 0, sizeof(*promotions));
}

static bool same_bounds(const struct wsr_promotions *promotions,
			const struct report_node *node)
{
	if (promotions->nr != node->nr_bins - 1)
		return false;
	for (unsigned int i = 0; i < promotions->nr; i++) {
		if (promotions->bounds_ms[i] != node->bins[i].idle_age_ms)
			return false;
	}
	return true;
}

/* The time that a page takes through the bin above bound @i */
static double width_ms(const struct wsr_promotions *promotions, unsigned int i)
{
	return promotions->bounds_ms[i + 1] - promotions->bounds_ms[i];
}

static void add_sample(struct wsr_promotions *promotions, unsigned int i,
		       double older, double total, int64_t now_ms)
{
	unsigned int last = (promotions->next[i] + WSR_PROMOTIONS_SAMPLES - 1) %
			    WSR_PROMOTIONS_SAMPLES;
	const struct wsr_promotions_sample *newest =
		&promotions->samples[i][last];

	if (now_ms - newest->ms < SPACING * width_ms(promotions, i) &&
	    now_ms > promotions->first_ms)
		return;
	promotions->samples[i][promotions->next[i]] =
		(struct wsr_promotions_sample) {
			.ms = now_ms,
			.older = older,
			.total = total,
		};
	promotions->next[i] = (promotions->next[i] + 1) %
			      WSR_PROMOTIONS_SAMPLES;
}

/*
 * Bytes promoted from above bound @i while the bin's width passed; 0 if it did
 * not pass yet. Reports that are too rare to tell: as in a steady state, in which
 * a bin holds what is promoted meanwhile.
 */
static double promoted(const struct wsr_promotions *promotions, unsigned int i,
		       double in_bin, double older_now, double total_now,
		       int64_t now_ms)
{
	double width = width_ms(promotions, i), least = -1;

	if (now_ms - promotions->first_ms < width)
		return 0;
	for (unsigned int s = 0; s < WSR_PROMOTIONS_SAMPLES; s++) {
		const struct wsr_promotions_sample *sample =
			&promotions->samples[i][s];
		double ago = now_ms - sample->ms, missing;

		if (!sample->ms || fabs(ago - width) > JITTER * width)
			continue;
		missing = fmax(sample->older - older_now -
			       fmax(sample->total - total_now, 0), 0);
		if (least < 0 || missing < least)
			least = missing;
	}
	return least < 0 ? in_bin : least;
}

void wsr_promotions_report(struct wsr_promotions *promotions,
			   const struct report_node *node, int64_t now_ms)
{
	double older[REPORT_MAX_BINS], total = 0, part;

	if (!same_bounds(promotions, node)) {
		wsr_promotions_init(promotions);
		promotions->nr = node->nr_bins - 1;
		for (unsigned int i = 0; i < promotions->nr; i++)
			promotions->bounds_ms[i] = node->bins[i].idle_age_ms;
		promotions->first_ms = now_ms;
		promotions->last_ms = now_ms;
	}
	/* older[i]: above bound i */
	for (unsigned int i = node->nr_bins; i--;) {
		if (i < promotions->nr)
			older[i] = total;
		total += (double)node->bins[i].swap_backed_bytes +
			 node->bins[i].file_backed_bytes;
	}
	part = 1 - exp((promotions->last_ms - now_ms) / AVERAGE_MS);
	promotions->last_ms = now_ms;
	for (unsigned int i = 0; i + 1 < promotions->nr; i++) {
		double seconds = width_ms(promotions, i) / 1000;
		double bytes = promoted(promotions, i, older[i] - older[i + 1],
					older[i + 1], total, now_ms);

		promotions->rates[i] += (bytes / seconds -
					 promotions->rates[i]) * part;
		add_sample(promotions, i, older[i], total, now_ms);
	}
}

double wsr_promotions_rate(const struct wsr_promotions *promotions, double x)
{
	double rate = 0;

	for (unsigned int i = 0; i < promotions->nr; i++) {
		if (wsr_x_of_ms(promotions->bounds_ms[i]) > x && i)
			break;
		rate = promotions->rates[i];
	}
	return rate;
}

double wsr_promotions_x(const struct wsr_promotions *promotions, double limit)
{
	for (unsigned int i = promotions->nr; i > 1; i--) {
		double x = wsr_x_of_ms(promotions->bounds_ms[i - 1]);

		if (promotions->rates[i - 2] > limit)
			return fmin(fmax(x, 0), WSR_GRID_MAX_X);
	}
	return 0;
}
