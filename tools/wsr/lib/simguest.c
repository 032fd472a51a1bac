// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that exists only as numbers. No I/O.
 *
 * A page that is used at random times, @rate times a second, was last used
 * longer than T ago with a probability of exp(-rate * T). That is all there is:
 * the pages that an LRU of a given size holds are those younger than some age,
 * and what is older faults when it is used again. While there is free memory,
 * the oldest page just gets older.
 */
#include <math.h>
#include <string.h>

#include "simguest.h"

#define MIB		(1024.0 * 1024)
#define PAGE_SIZE	4096.0
#define FAULT_S		100e-6	/* from a fast disk */
#define PSI_S		10.0	/* averaged over */
#define OLDEST_S	1e7
/* Ages are estimates for so long. */
#define WARM_UP_S	30
/* The least that a guest's kernel keeps free, from the balloon as well */
#define RESERVE		(16 * MIB)

static double least(double a, double b)
{
	return a < b ? a : b;
}

static double most(double a, double b)
{
	return a > b ? a : b;
}

double wsr_sim_guest_younger(const struct wsr_sim_guest *guest,
			     enum wsr_kind kind, double age_s)
{
	double bytes = 0;

	for (int i = 0; i < WSR_SIM_CLASSES; i++) {
		const struct wsr_sim_class *class = &guest->classes[i];

		if (class->kind == kind)
			bytes += class->bytes * -expm1(-class->rate * age_s);
	}
	if (kind == WSR_FILE_BACKED)
		bytes += guest->stream_rate * least(age_s, guest->running_s);
	else
		bytes += least(guest->leak_rate * age_s, guest->leaked_bytes);
	return bytes;
}

/* Swap-backed memory that there is no swap space for */
static double kept(const struct wsr_sim_guest *guest)
{
	double all = wsr_sim_guest_younger(guest, WSR_SWAP_BACKED,
					   guest->running_s);

	return most(all - guest->swap_bytes, 0);
}

static double resident(const struct wsr_sim_guest *guest, enum wsr_kind kind,
		       double cut_s)
{
	double bytes = wsr_sim_guest_younger(guest, kind, cut_s);

	return kind == WSR_SWAP_BACKED ? most(bytes, kept(guest)) : bytes;
}

static double used(const struct wsr_sim_guest *guest, double cut_s)
{
	return guest->kernel_bytes + RESERVE +
	       resident(guest, WSR_SWAP_BACKED, cut_s) +
	       resident(guest, WSR_FILE_BACKED, cut_s);
}

void wsr_sim_guest_boot(struct wsr_sim_guest *guest)
{
	guest->actual_bytes = guest->size_bytes;
	guest->leaked_bytes = 0;
	guest->cut_s = 0;
	guest->running_s = 0;
	guest->refault_rate = 0;
	guest->refaulted_bytes = 0;
	guest->psi = 0;
}

static void move_balloon(struct wsr_sim_guest *guest, double seconds)
{
	double change = guest->target_bytes - guest->actual_bytes;
	/* It takes what can be reclaimed, but nothing by force. */
	double floor = least(used(guest, 0), guest->actual_bytes);

	change = most(change, -guest->inflate_rate * seconds);
	change = least(change, guest->deflate_rate * seconds);
	guest->actual_bytes = most(guest->actual_bytes + change, floor);
}

/* Reclaim the oldest pages until what is left fits. */
static void reclaim(struct wsr_sim_guest *guest)
{
	double low = 0, high = guest->cut_s;

	if (used(guest, high) <= guest->actual_bytes)
		return;
	if (used(guest, 0) > guest->actual_bytes) {
		guest->oom_kills++;
		guest->leaked_bytes = 0;
		guest->cut_s = 0;
		return;
	}
	for (int step = 0; step < 50; step++) {
		double middle = (low + high) / 2;

		if (used(guest, middle) <= guest->actual_bytes)
			low = middle;
		else
			high = middle;
	}
	guest->cut_s = low;
}

static void refault(struct wsr_sim_guest *guest, double seconds)
{
	double stalled;

	guest->refault_rate = 0;
	for (int i = 0; i < WSR_SIM_CLASSES; i++) {
		const struct wsr_sim_class *class = &guest->classes[i];

		/* What can't be swapped out does not come back either. */
		if (class->kind == WSR_SWAP_BACKED && !guest->swap_bytes)
			continue;
		/* What was never read yet is no refault. */
		if (guest->cut_s < guest->running_s)
			guest->refault_rate += class->bytes * class->rate *
				exp(-class->rate * guest->cut_s);
	}
	guest->refaulted_bytes += guest->refault_rate * seconds;
	stalled = least(guest->refault_rate / PAGE_SIZE * FAULT_S, 1);
	guest->psi += (stalled - guest->psi) * least(seconds / PSI_S, 1);
}

void wsr_sim_guest_step(struct wsr_sim_guest *guest, double seconds)
{
	guest->running_s += seconds;
	guest->cut_s = least(guest->cut_s + seconds, OLDEST_S);
	guest->leaked_bytes += guest->leak_rate * seconds;
	/* The kernel serves processes first, and the balloon from the rest. */
	reclaim(guest);
	move_balloon(guest, seconds);
	reclaim(guest);
	refault(guest, seconds);
}

bool wsr_sim_guest_pressed(const struct wsr_sim_guest *guest)
{
	return guest->refault_rate / PAGE_SIZE * FAULT_S > 0.1;
}

static void lie(const struct wsr_sim_guest *guest, struct report_node *node)
{
	struct report_bin all = { 0 };
	unsigned int bin;

	if (guest->honesty == WSR_SIM_NONSENSE)
		node->kernel_bytes += node->total_bytes;
	if (guest->honesty != WSR_SIM_ALL_HOT &&
	    guest->honesty != WSR_SIM_ALL_COLD)
		return;
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		all.swap_backed_bytes += node->bins[i].swap_backed_bytes;
		all.file_backed_bytes += node->bins[i].file_backed_bytes;
		node->bins[i].swap_backed_bytes = 0;
		node->bins[i].file_backed_bytes = 0;
	}
	/* Nothing is free in a guest that wants more. */
	if (guest->honesty == WSR_SIM_ALL_HOT) {
		all.swap_backed_bytes += node->free_bytes;
		node->lru_bytes += node->free_bytes;
		node->free_bytes = 0;
	}
	bin = guest->honesty == WSR_SIM_ALL_HOT ? 0 : node->nr_bins - 1;
	node->bins[bin].swap_backed_bytes = all.swap_backed_bytes;
	node->bins[bin].file_backed_bytes = all.file_backed_bytes;
}

void wsr_sim_guest_report(const struct wsr_sim_guest *guest,
			  const uint32_t *bounds_ms, unsigned int nr_bounds,
			  struct report_node *node)
{
	double before[WSR_NR_KINDS] = { 0 };

	*node = (struct report_node) {
		.node_id = REPORT_ALL_NODES,
		.warming_up = guest->running_s < WARM_UP_S,
		.total_bytes = guest->actual_bytes,
		.kernel_bytes = guest->kernel_bytes,
		.refaulted_bytes = guest->refaulted_bytes,
		.nr_bins = nr_bounds + 1,
	};
	for (unsigned int i = 0; i <= nr_bounds; i++) {
		struct report_bin *bin = &node->bins[i];
		double young[WSR_NR_KINDS];

		for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
			double all = resident(guest, kind, guest->cut_s);

			if (i < nr_bounds)
				all = least(all, wsr_sim_guest_younger(guest,
					kind, bounds_ms[i] / 1000.0));
			young[kind] = all;
		}
		bin->idle_age_ms = i == nr_bounds ? REPORT_OPEN_BIN :
						    bounds_ms[i];
		bin->swap_backed_bytes = young[WSR_SWAP_BACKED] -
					 before[WSR_SWAP_BACKED];
		bin->file_backed_bytes = young[WSR_FILE_BACKED] -
					 before[WSR_FILE_BACKED];
		memcpy(before, young, sizeof(before));
		node->lru_bytes += bin->swap_backed_bytes +
				   bin->file_backed_bytes;
	}
	node->free_bytes = most(guest->actual_bytes - guest->kernel_bytes -
				node->lru_bytes, 0);
	node->swap_free_bytes = most(guest->swap_bytes -
		most(wsr_sim_guest_younger(guest, WSR_SWAP_BACKED,
					   guest->running_s) -
		     before[WSR_SWAP_BACKED], 0), 0);
	lie(guest, node);
}
