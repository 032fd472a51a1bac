/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How much memory is younger than which idle age: what all decisions start
 * from. Reports with any bins are turned into values on one fixed grid of ages,
 * so that they can be smoothed and compared while the bins change. No I/O.
 *
 * An age is handled as its position on the grid, which is logarithmic:
 *
 *	x = 2 * log2(age / 1 s)
 *
 * so that an age multiplied by a weight is an x with a constant added. Between
 * points of the grid, memory is taken to be spread evenly over x: page classes
 * whose rates of access have all orders of magnitude look like that.
 */
#ifndef WSR_CURVE_H
#define WSR_CURVE_H

#include <stdbool.h>
#include <stdint.h>

#include "../report.h"

enum wsr_kind {
	WSR_SWAP_BACKED,
	WSR_FILE_BACKED,
	WSR_NR_KINDS,
};

/* From 1 s (x = 0) to 2^16 s, which are 18 hours; then all that is older. */
#define WSR_GRID_MAX_X	32
#define WSR_GRID_POINTS	(WSR_GRID_MAX_X + 1)

/**
 * struct wsr_curve - memory by idle age
 * @younger:	bytes with an idle age below that of the grid's point x
 * @total:	bytes of any age
 *
 * Never decreasing in x, never negative, and @total is not below the last
 * point. All functions here keep it like that.
 */
struct wsr_curve {
	double younger[WSR_NR_KINDS][WSR_GRID_POINTS];
	double total[WSR_NR_KINDS];
};

/** wsr_x_of_ms - position of an age on the grid; 0 ms is very far left */
double wsr_x_of_ms(double age_ms);

/** wsr_ms_of_x - the age at a position of the grid, in ms */
double wsr_ms_of_x(double x);

/**
 * wsr_curve_from_report - the curve of one report
 * @node:	its sums over all nodes, with bins whose bounds increase
 */
void wsr_curve_from_report(struct wsr_curve *curve,
			   const struct report_node *node);

/**
 * wsr_curve_smooth - let @curve follow @latest
 * @up:		part of an increase that is taken over at once, 0 to 1
 * @down:	the same of a decrease
 *
 * Totals are exact in each report and taken over as they are; what is younger
 * than an age can't be more than the total.
 */
void wsr_curve_smooth(struct wsr_curve *curve, const struct wsr_curve *latest,
		      double up, double down);

/**
 * wsr_curve_younger - bytes of @kind that are younger than the age at @x
 *
 * Ages below the grid get their part of its first point in proportion to the
 * age. Those above it get a part of what is older that grows to all of it at
 * twice the logarithm of the grid's end.
 */
double wsr_curve_younger(const struct wsr_curve *curve, enum wsr_kind kind,
			 double x);

/** wsr_curve_all_younger - the same for both kinds */
double wsr_curve_all_younger(const struct wsr_curve *curve, double x);

/**
 * wsr_first_bounds - bounds for the first reports
 * @bounds_ms:	receives them, strictly increasing from 4 s to 4.5 hours, on points
 *		of the grid, with about the same factor from each to the next: 1.4
 *		or 2 for 15 bounds
 * @nr:		how many, 1 to REPORT_MAX_BINS - 1
 */
void wsr_first_bounds(uint32_t *bounds_ms, unsigned int nr);

/**
 * wsr_recentre - bounds for the next reports
 * @bounds_ms:	the present ones; receives the next, strictly increasing
 * @nr:		how many, 1 to REPORT_MAX_BINS - 1
 * @cut_x:	the age that decisions are made at now
 * @keep_x:	an age that must stay known well (that of the working set)
 *
 * As long as one of the present bounds is within a factor of 1.4 of the cut they
 * stay: what was counted with them is only comparable with what is counted with
 * the same ones. Otherwise:
 * Half of the bounds lie around the cut, closer to it than to each other
 * further out; the rest is spread over the grid, so that a wrong cut can still
 * be recognised as wrong.
 *
 * Return: have they changed?
 */
bool wsr_recentre(uint32_t *bounds_ms, unsigned int nr, double cut_x,
		  double keep_x);

#endif
