// SPDX-License-Identifier: GPL-2.0
/*
 * How much memory is younger than which idle age. No I/O.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "curve.h"

#define GRID_START_MS	1000.0
/* Ages below the first point: proportional to the age, at most so far left */
#define MIN_X		(-40.0)
/* At first, from 4 s to 2^14 s */
#define FIRST_BOUND_X	4.0
#define LAST_BOUND_X	28.0
/* What is decided at a known age: within a factor of 1.4 of a bound */
#define KNOWN_X		0.9

double wsr_x_of_ms(double age_ms)
{
	double x;

	if (!(age_ms > 0))
		return MIN_X;
	x = 2 * log2(age_ms / GRID_START_MS);
	return x < MIN_X ? MIN_X : x;
}

double wsr_ms_of_x(double x)
{
	return GRID_START_MS * exp2(x / 2);
}

/* Bytes of bins that are younger than @x, and the part of the bin around it. */
static double bins_younger(const struct report_node *node, enum wsr_kind kind,
			   const double *bound_x, double x)
{
	double bytes = 0, start_x = MIN_X;

	for (unsigned int i = 0; i < node->nr_bins; i++) {
		const struct report_bin *bin = &node->bins[i];
		double in_bin = kind == WSR_FILE_BACKED ?
				bin->file_backed_bytes : bin->swap_backed_bytes;
		/* What has no upper bound is spread to the end of the grid. */
		double end_x = i == node->nr_bins - 1 ?
			       fmax(WSR_GRID_MAX_X, start_x + 2) : bound_x[i];

		if (x >= end_x) {
			bytes += in_bin;
			start_x = end_x;
			continue;
		}
		if (x <= start_x)
			break;
		/* The youngest bin starts at an age of 0: even over time. */
		if (i == 0)
			bytes += in_bin * exp2((x - end_x) / 2);
		else
			bytes += in_bin * (x - start_x) / (end_x - start_x);
		break;
	}
	return bytes;
}

void wsr_curve_from_report(struct wsr_curve *curve,
			   const struct report_node *node)
{
	double bound_x[REPORT_MAX_BINS] = { 0 };

	memset(curve, 0, sizeof(*curve));
	for (unsigned int i = 0; i + 1 < node->nr_bins; i++)
		bound_x[i] = wsr_x_of_ms(node->bins[i].idle_age_ms);
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		curve->total[WSR_SWAP_BACKED] += node->bins[i].swap_backed_bytes;
		curve->total[WSR_FILE_BACKED] += node->bins[i].file_backed_bytes;
	}
	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		for (int x = 0; x < WSR_GRID_POINTS; x++)
			curve->younger[kind][x] =
				fmin(bins_younger(node, kind, bound_x, x),
				     curve->total[kind]);
	}
}

void wsr_curve_smooth(struct wsr_curve *curve, const struct wsr_curve *latest,
		      double up, double down)
{
	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		double total = latest->total[kind];

		curve->total[kind] = total;
		for (int x = 0; x < WSR_GRID_POINTS; x++) {
			double old = curve->younger[kind][x];
			double difference = latest->younger[kind][x] - old;

			old += difference * (difference > 0 ? up : down);
			curve->younger[kind][x] = fmin(old, total);
		}
	}
}

double wsr_curve_younger(const struct wsr_curve *curve, enum wsr_kind kind,
			 double x)
{
	const double *younger = curve->younger[kind];
	int cell;

	if (x < 0)
		return younger[0] * exp2(x / 2);
	if (x >= WSR_GRID_MAX_X) {
		double last = younger[WSR_GRID_MAX_X];
		double part = (x - WSR_GRID_MAX_X) / WSR_GRID_MAX_X;

		return last + (curve->total[kind] - last) * fmin(part, 1);
	}
	cell = x;
	return younger[cell] + (younger[cell + 1] - younger[cell]) * (x - cell);
}

double wsr_curve_all_younger(const struct wsr_curve *curve, double x)
{
	return wsr_curve_younger(curve, WSR_SWAP_BACKED, x) +
	       wsr_curve_younger(curve, WSR_FILE_BACKED, x);
}

void wsr_first_bounds(uint32_t *bounds_ms, unsigned int nr)
{
	double step_x = (LAST_BOUND_X - FIRST_BOUND_X) / (nr > 1 ? nr - 1 : 2);

	for (unsigned int i = 0; i < nr; i++)
		bounds_ms[i] = wsr_ms_of_x(round(FIRST_BOUND_X +
						 (nr > 1 ? i : 1) * step_x));
}

static int compare_bounds(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

bool wsr_recentre(uint32_t *bounds_ms, unsigned int nr, double cut_x,
		  double keep_x)
{
	unsigned int near = nr / 2, n = 0;

	for (unsigned int i = 0; i < nr; i++) {
		if (fabs(cut_x - wsr_x_of_ms(bounds_ms[i])) < KNOWN_X)
			return false;
	}

	cut_x = fmin(fmax(cut_x, 2), WSR_GRID_MAX_X - 2);
	keep_x = fmin(fmax(keep_x, 0), WSR_GRID_MAX_X);
	/* Around the cut, a factor of 2 in time apart */
	for (unsigned int i = 0; i < near; i++)
		bounds_ms[n++] = wsr_ms_of_x(cut_x + 2 * (i - (near - 1) / 2.0));
	if (n < nr)
		bounds_ms[n++] = wsr_ms_of_x(keep_x);
	/* 1 s to some hours */
	for (unsigned int i = 0; n < nr; i++)
		bounds_ms[n++] = wsr_ms_of_x((i + 0.5) * (WSR_GRID_MAX_X - 4) /
					     (nr - near - 1));
	qsort(bounds_ms, nr, sizeof(*bounds_ms), compare_bounds);
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t least = i ? bounds_ms[i - 1] + 1 : 100;

		if (bounds_ms[i] < least)
			bounds_ms[i] = least;
	}
	return true;
}
