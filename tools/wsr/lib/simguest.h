/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that exists only as numbers: classes of pages that are used again at
 * random, an ideal LRU, swap space, and a balloon that follows its target more
 * or less well. For simulations and tests.
 */
#ifndef WSR_SIMGUEST_H
#define WSR_SIMGUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "curve.h"

#define WSR_SIM_CLASSES	16

/**
 * struct wsr_sim_class - pages that are alike
 * @rate:	each is used so often per second, at random times
 */
struct wsr_sim_class {
	double bytes;
	double rate;
	enum wsr_kind kind;
};

/* What it tells in its reports */
enum wsr_sim_honesty {
	WSR_SIM_HONEST,
	WSR_SIM_ALL_HOT,	/* everything was used just now */
	WSR_SIM_ALL_COLD,	/* nothing is ever used */
	WSR_SIM_NONSENSE,	/* sums that are not sums */
};

/**
 * struct wsr_sim_guest - one guest
 *
 * What it is:
 * @size_bytes:	its memory with an empty balloon
 * @leak_rate:	bytes per second of swap-backed memory that is never used again
 * @stream_rate: bytes per second of files that are read once
 * @inflate_rate, @deflate_rate: of the balloon, bytes per second
 *
 * How it is:
 * @actual_bytes: @size_bytes less the balloon
 * @cut_s:	the age of the oldest page that is in memory
 * @running_s:	since it was started
 * @refault_rate: bytes per second that are read back
 * @psi:	part of the time that it waits for them, over some seconds
 * @oom_kills:	so often there was nothing left to reclaim
 */
struct wsr_sim_guest {
	double size_bytes;
	double kernel_bytes;
	double swap_bytes;
	struct wsr_sim_class classes[WSR_SIM_CLASSES];
	double leak_rate;
	double stream_rate;
	double inflate_rate;
	double deflate_rate;
	enum wsr_sim_honesty honesty;

	double actual_bytes;
	double target_bytes;
	double leaked_bytes;
	double cut_s;
	double running_s;
	double refault_rate;
	double refaulted_bytes;
	double psi;
	unsigned int oom_kills;
};

/**
 * wsr_sim_guest_boot - start it, also once more
 *
 * The caller has set what it is. Its balloon is empty, and so is its memory.
 */
void wsr_sim_guest_boot(struct wsr_sim_guest *guest);

/** wsr_sim_guest_step - let @seconds pass, a few at most */
void wsr_sim_guest_step(struct wsr_sim_guest *guest, double seconds);

/** wsr_sim_guest_pressed - would its kernel say that it is short of memory? */
bool wsr_sim_guest_pressed(const struct wsr_sim_guest *guest);

/**
 * wsr_sim_guest_report - what it reports now
 * @bounds_ms:	of the bins, strictly increasing
 * @nr_bounds:	1 to REPORT_MAX_BINS - 1
 */
void wsr_sim_guest_report(const struct wsr_sim_guest *guest,
			  const uint32_t *bounds_ms, unsigned int nr_bounds,
			  struct report_node *node);

/** wsr_sim_guest_younger - memory used within @age_s, were there enough of it */
double wsr_sim_guest_younger(const struct wsr_sim_guest *guest,
			     enum wsr_kind kind, double age_s);

#endif
