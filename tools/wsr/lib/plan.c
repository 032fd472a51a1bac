// SPDX-License-Identifier: GPL-2.0
/*
 * Share-weighted equal idle age. No I/O.
 *
 * If every VM keeps what is younger than the same age, then the next byte to be
 * reclaimed would be missed equally soon wherever it was taken from: no other
 * distribution has fewer refaults, as long as pages that were not used for a
 * time T are used again at a rate of about 1/T. Shares multiply the age.
 *
 *	1. Capacity: what the host has, less all else and a buffer.
 *	2. Each VM has a floor (its min, its kernel, pages too young to take), a
 *	   floor for its SLO (refaults that its operator tolerates) and a ceiling.
 *	3. If all ceilings fit: everybody gets all. Else the largest age T so
 *	   that the memory younger than T (times shares) fits, between the SLO
 *	   floor and the ceiling. If not even the SLO floors fit, nobody gets
 *	   more than that, and nobody less than what it can't do without and the
 *	   pages that it uses all the time; if those do not fit: by shares.
 *	4. From there to actions: who shrinks goes first and slowly, who grows
 *	   gets what is really free, and what the host may swap out until the
 *	   others have shrunk. Guards keep a VM from being shrunk that
 *	   waits for memory, is unknown, has just grown, or does not respond.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

#define MIB		(1024.0 * 1024)

/*
 * The common cut: up to WSR_GRID_MAX_X an age, then memory that is older than
 * the grid, then memory that is free.
 */
#define CUT_MIN		(-24.0)
#define CUT_OLD		(2.0 * WSR_GRID_MAX_X)
#define CUT_ALL		(3.0 * WSR_GRID_MAX_X)
/* Shares of 0.001 to 1000 move it by less than 20. */
#define CUT_SHARES	20.0
#define CUT_STEPS	40	/* of bisection: 160 / 2^40 */

/* The balloon must not be left further behind than this part of the VM. */
#define MAX_AHEAD	0.1
/* If others wait for memory, steps of this part of the gate count, */
#define WAIT_PART	0.125
/* and a VM shrinks so much faster. */
#define WAIT_HURRY	5
/* MGLRU leaves some old pages while it reclaims younger ones. */
#define OLDEST_PART	0.95
/* The gate is not more than this part of a VM, by default */
#define SMALL_GATE_PART	0.02
/* Time without a call does not allow larger steps than this. */
#define MAX_STEP_MS	10000
/* Slower than this part of the rate of shrinking is too slow. */
#define STALL_PART	0.25
/* Less is nothing. */
#define ROUNDING	4096
/* Worth it to read what the host has swapped out: so much more is gained. */
#define SWAPPED_GAIN	4
/* A retry has to move this part of what it is asked for. */
#define RETRY_PART	0.1
#define MAX_RETRY_MS	3600000
/* memory.high leaves this to QEMU, and to what was not measured. */
#define HIGH_SLACK_PART	0.1
#define HIGH_SLACK	(64 * MIB)

static double gate(const struct wsr_vm *vm, const struct wsr_config *config)
{
	return fmax(fmin(config->gate_bytes, SMALL_GATE_PART * vm->size_bytes),
		    config->gate_part * vm->size_bytes);
}

static double lowest(const struct wsr_vm *vm)
{
	return fmin(vm->config->min_bytes, wsr_vm_ceiling(vm));
}

/*
 * Is it worth going from @from to @to? Steps below @gate are not, unless they
 * are out of what the operator does not allow.
 */
static bool worth(const struct wsr_vm *vm, double gate, double from, double to)
{
	double high = wsr_vm_ceiling(vm), low = lowest(vm);

	return fabs(from - to) >= gate ||
	       (from < low && to > from) || (from > high && to < from) ||
	       (from < high && to >= high);
}

static bool within(int64_t since_ms, uint32_t for_ms, int64_t now_ms)
{
	return since_ms != WSR_NEVER && now_ms - since_ms < for_ms;
}

/* What there is of it to shrink */
static double held(const struct wsr_vm *vm)
{
	return vm->config->actuator == WSR_BALLOON ? vm->target_bytes :
						     vm->actual_bytes;
}

/*
 * Is its target what it will use at most? Not if nothing but a request was made,
 * and nobody told us the targets of what we only watch.
 */
static bool limited(const struct wsr_vm *vm)
{
	return !vm->config->hands_off && vm->config->actuator != WSR_REQUEST;
}

/* What the VM may use up at any time, without asking us */
static double committed(const struct wsr_vm *vm)
{
	return limited(vm) ? fmax(vm->actual_bytes, vm->target_bytes) :
			     vm->actual_bytes;
}

static double sum_committed(const struct wsr_vm *vms, size_t nr)
{
	double sum = 0;

	for (size_t i = 0; i < nr; i++)
		sum += committed(&vms[i]);
	return sum;
}

/* What has to be free so that it can get to @target: less than 0 if it may */
static double missing(const struct wsr_vm *vm, double target)
{
	return limited(vm) ? target - committed(vm) : 0;
}

/* The part of what it has that is in swap space; memory.current is without. */
static double swapped(const struct wsr_vm *vm)
{
	return vm->config->actuator == WSR_CGROUP ? 0 : vm->swapped_bytes;
}

/*
 * What VMs may have beside memory. What is out of control groups takes a part of
 * it: reclaim of those is what put it there.
 */
static double swap_for_vms(const struct wsr_host *host,
			   const struct wsr_vm *vms, size_t nr)
{
	double left = host->swap_bytes;

	for (size_t i = 0; i < nr; i++)
		left -= vms[i].swapped_bytes - swapped(&vms[i]);
	return fmax(left, 0);
}

/*
 * Reports tell nothing of pages that had to go. The slope of the working set at
 * the age of the oldest page is the rate of refaults (Denning and Schwartz,
 * 1972), so that is what is missing up to the age @x; not more than can be told.
 */
static double missed(const struct wsr_scratch *s, double x)
{
	double ms;

	if (!(s->missed_rate > 0))
		return 0;
	ms = fmin(fmax(wsr_ms_of_x(x) - s->oldest_ms, 0), s->missed_ms);
	return fmin(s->missed_rate * ms / 1000, s->missed_most);
}

/* Memory that it should have if the common cut is at @x */
static double wanted(const struct wsr_vm *vm, const struct wsr_scratch *s,
		     double x)
{
	double swap_backed, file_backed, free = 0;

	x += s->weight_x;
	if (x > CUT_OLD) {
		free = (x - CUT_OLD) / (CUT_ALL - CUT_OLD);
		x = CUT_OLD;
	}
	swap_backed = wsr_curve_younger(&vm->curve, WSR_SWAP_BACKED, x);
	file_backed = wsr_curve_younger(&vm->curve, WSR_FILE_BACKED, x);
	if (swap_backed < s->kept_swap_backed)
		swap_backed = s->kept_swap_backed;
	swap_backed += s->needed + file_backed + missed(s, x);
	if (free > 0 && swap_backed < s->ceiling)
		swap_backed += (s->ceiling - swap_backed) * fmin(free, 1);
	return swap_backed;
}

static double clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

/* @x without the weight of the shares: an age of this VM */
static double wanted_at_age(const struct wsr_vm *vm,
			    const struct wsr_scratch *s, double x)
{
	return wanted(vm, s, x - s->weight_x);
}

/* The age of the youngest page that has to go for @bytes */
static double age_of(const struct wsr_vm *vm, const struct wsr_scratch *s,
		     double bytes)
{
	int x = 0;

	while (x < WSR_GRID_MAX_X && wanted_at_age(vm, s, x + 1) <= bytes)
		x++;
	return x;
}

/* Why @vm stays what it is, or WSR_NO_REASON */
static enum wsr_reason fixed_reason(const struct wsr_vm *vm,
				    const struct wsr_config *config,
				    int64_t now_ms)
{
	if (vm->config->hands_off)
		return WSR_HANDS_OFF;
	if (vm->migrating)
		return WSR_MIGRATING;
	if (!vm->has_report)
		return WSR_NO_DATA;
	if (!within(vm->report_ms, config->stale_ms, now_ms))
		return WSR_STALE;
	if (vm->stall == WSR_STALLED && now_ms < vm->stall_until_ms)
		return WSR_STUCK;
	return WSR_NO_REASON;
}

/* What a VM should have that is short of memory now */
static double relief(const struct wsr_vm *vm, const struct wsr_scratch *s,
		     const struct wsr_config *config)
{
	double more = fmax(config->pressure_bytes,
			   config->pressure_part * vm->size_bytes);

	if (vm->pressure_before_ms != WSR_NEVER &&
	    vm->pressure_ms - vm->pressure_before_ms <
	    config->pressure_again_ms)
		return s->entitled;
	return fmin(vm->actual_bytes + more, s->entitled);
}

/* The age of the oldest pages that it has, but for some that are left over */
static double oldest_ms(const struct wsr_vm *vm, double lru)
{
	int x = 0;

	while (x < WSR_GRID_MAX_X &&
	       wsr_curve_all_younger(&vm->curve, x) < OLDEST_PART * lru)
		x++;
	return wsr_ms_of_x(x);
}

static void set_missed(const struct wsr_vm *vm, struct wsr_scratch *s,
		       const struct wsr_config *config, double lru)
{
	double tolerated = vm->config->slo * wsr_vm_working_set(vm, config) / 60;

	s->missed_rate = fmax(vm->missed_rate - tolerated, 0);
	if (!(s->missed_rate > 0))
		return;
	s->oldest_ms = oldest_ms(vm, lru);
	s->missed_ms = config->active_age_ms;
	s->missed_most = config->pressure_part * vm->size_bytes;
}

static void set_limits(struct wsr_vm *vm, struct wsr_scratch *s,
		       const struct wsr_config *config, int64_t now_ms)
{
	double lru = vm->curve.total[WSR_SWAP_BACKED] +
		     vm->curve.total[WSR_FILE_BACKED];
	/*
	 * A guest that has used up all it has got can't report what it misses:
	 * it grows into its headroom. A step of that size must be worth it.
	 */
	double headroom = fmax(config->headroom_part * (vm->fixed + lru),
			       2 * gate(vm, config));

	*s = (struct wsr_scratch) {
		.weight_x = 2 * log2(vm->config->shares),
		.ceiling = wsr_vm_ceiling(vm),
	};
	s->entitled = s->ceiling;
	vm->why = (struct wsr_why) {
		.reason = fixed_reason(vm, config, now_ms),
		.ceiling = s->ceiling,
	};
	s->fixed = vm->why.reason;
	if (s->fixed) {
		if (vm->why.reason == WSR_STUCK)
			vm->why.hold = WSR_HOLD_STUCK;
		s->floor = committed(vm);
		/* See restore_min(). */
		if (!vm->config->hands_off && !vm->migrating)
			s->floor = fmax(s->floor, lowest(vm));
		s->must = fmin(vm->config->min_bytes, s->ceiling);
		s->slo_floor = s->floor;
		s->desired = s->floor;
		return;
	}
	s->needed = vm->fixed + headroom;
	set_missed(vm, s, config, lru);
	s->kept_swap_backed = fmax(vm->curve.total[WSR_SWAP_BACKED] -
				   vm->swap_free, 0);
	s->must = clamp(fmax(s->needed + s->kept_swap_backed,
			     vm->config->min_bytes), 0, s->ceiling);
	s->floor = wanted_at_age(vm, s, wsr_x_of_ms(config->min_age_ms));
	/* Ages are not known yet: only what is free can go. */
	if (vm->warming_up ||
	    within(vm->first_report_ms, config->grace_ms, now_ms)) {
		s->floor = s->needed + lru;
		vm->why.hold = WSR_HOLD_GRACE;
	}
	s->floor = clamp(fmax(s->floor, vm->config->min_bytes), 0, s->ceiling);
	s->slo_floor = clamp(wanted_at_age(vm, s, vm->peak_x), s->floor,
			     s->ceiling);
	/* What it had to give up is in no report. */
	if (within(vm->pressure_ms, config->pressure_again_ms, now_ms))
		s->slo_floor = clamp(relief(vm, s, config), s->slo_floor,
				     s->ceiling);
	s->least = s->slo_floor;
	s->most = s->ceiling;
	vm->why.needed = s->needed;
	vm->why.floor = s->floor;
	vm->why.slo_floor = s->slo_floor;
	vm->why.slo_x = vm->peak_x;
	vm->why.wss = wsr_vm_working_set(vm, config);
}

static bool trusted(const struct wsr_vm *vm)
{
	return vm->config->trusted && !vm->doubted;
}

/* Up to its cap by shares, but what it can't do without */
static double fair_part(const struct wsr_vm *vm, const struct wsr_scratch *s,
			double level)
{
	return clamp(level * vm->config->shares, s->must, fmax(s->cap, s->must));
}

/* In a deficit: pages that are in use all the time, and nobody else's */
static double active(const struct wsr_vm *vm, const struct wsr_scratch *s,
		     const struct wsr_config *config)
{
	return fmin(wanted_at_age(vm, s, wsr_x_of_ms(config->active_age_ms)),
		    s->slo_floor);
}

/* The part of a VM with shares of 1, so that all parts fit */
static double deficit_level(const struct wsr_vm *vms,
			    const struct wsr_scratch *scratch, size_t nr,
			    double capacity)
{
	double low = 0, high = 0;

	for (size_t i = 0; i < nr; i++)
		high = fmax(high, scratch[i].slo_floor / vms[i].config->shares);
	for (int step = 0; step < CUT_STEPS; step++) {
		double level = (low + high) / 2, sum = 0;

		for (size_t i = 0; i < nr; i++) {
			if (!scratch[i].fixed)
				sum += fair_part(&vms[i], &scratch[i], level);
		}
		if (sum <= capacity)
			low = level;
		else
			high = level;
	}
	return low;
}

/*
 * There is not enough for all SLOs. What a VM can't do without comes first,
 * since less would kill processes; if not even that fits, only the min is kept.
 * Then pages that are active, by shares: who leaves its part unused gets no more
 * of it than it uses, and who uses more can't take that from the others (ESX'
 * idle memory tax, Waldspurger 2002, with ages). What is left goes by age.
 *
 * A VM whose word is not trusted gets no more than its part, and so does its cry
 * for more if @buffer is not enough for all. Nor has it a part of @swap, which
 * the others have beside @capacity: others' memory would go there.
 *
 * Return: what there is to share, @capacity and what is needed of @swap.
 */
static double limit_in_deficit(struct wsr_vm *vms, struct wsr_scratch *scratch,
			       size_t nr, const struct wsr_config *config,
			       double capacity, double deficit, double buffer,
			       double swap)
{
	double musts = 0, needs = 0, level, part, cry, doubted_cry;
	bool covered = deficit <= swap;

	for (size_t i = 0; i < nr; i++) {
		if (!scratch[i].fixed)
			musts += scratch[i].must;
	}
	for (size_t i = 0; i < nr; i++) {
		if (musts > capacity + (trusted(&vms[i]) ? swap : 0))
			scratch[i].must = lowest(&vms[i]);
	}

	for (size_t i = 0; i < nr; i++) {
		if (!scratch[i].fixed)
			scratch[i].cap = active(&vms[i], &scratch[i], config);
	}
	level = deficit_level(vms, scratch, nr, capacity + swap);
	for (size_t i = 0; i < nr; i++) {
		scratch[i].least = fair_part(&vms[i], &scratch[i], level);
		scratch[i].cap = scratch[i].slo_floor;
	}
	part = deficit_level(vms, scratch, nr, capacity);
	doubted_cry = deficit_level(vms, scratch, nr, capacity + buffer);
	cry = swap > 0 ? deficit_level(vms, scratch, nr, capacity + swap +
				       buffer) : doubted_cry;
	for (size_t i = 0; i < nr; i++) {
		struct wsr_scratch *s = &scratch[i];

		if (!trusted(&vms[i]))
			s->entitled = clamp(doubted_cry * vms[i].config->shares,
					    s->must, s->ceiling);
		else if (deficit > buffer + swap)
			s->entitled = clamp(cry * vms[i].config->shares,
					    s->must, s->ceiling);
		if (s->fixed)
			continue;
		if (covered && trusted(&vms[i])) {
			s->least = s->slo_floor;
			needs += s->least;
			continue;
		}
		s->most = trusted(&vms[i]) ? s->slo_floor :
					     fair_part(&vms[i], s, part);
		/* If that is all there is, age does not matter. */
		if (musts > capacity + swap)
			s->most = s->least;
		s->least = fmin(s->least, s->most);
		needs += s->most;
	}
	return covered ? needs : capacity + swap;
}

static void share_by_age(struct wsr_host *host, struct wsr_vm *vms,
			 struct wsr_scratch *scratch, size_t nr,
			 double capacity)
{
	double low = CUT_MIN - CUT_SHARES, high = CUT_ALL + CUT_SHARES;

	for (int step = 0; step < CUT_STEPS; step++) {
		double x = (low + high) / 2, sum = 0;

		for (size_t i = 0; i < nr; i++) {
			const struct wsr_scratch *s = &scratch[i];

			if (!s->fixed)
				sum += clamp(wanted(&vms[i], s, x), s->least,
					     s->most);
		}
		if (sum <= capacity)
			low = x;
		else
			high = x;
	}
	host->cut_x = low;
	for (size_t i = 0; i < nr; i++) {
		struct wsr_scratch *s = &scratch[i];
		double unclamped = wanted(&vms[i], s, low);

		if (s->fixed)
			continue;
		s->desired = clamp(unclamped, s->least, s->most);
		if (s->desired < s->slo_floor)
			vms[i].why.reason = WSR_DEFICIT;
		else if (unclamped >= s->ceiling)
			vms[i].why.reason = WSR_AT_MAX;
		else if (unclamped > s->slo_floor && s->most > s->slo_floor)
			vms[i].why.reason = low + s->weight_x > CUT_OLD ?
				WSR_USED_FITS : WSR_EQUAL_AGE;
		else if (s->slo_floor > s->floor)
			vms[i].why.reason = WSR_AT_SLO;
		else
			vms[i].why.reason = WSR_AT_MIN;
	}
}

static void set_capacity(struct wsr_host *host, const struct wsr_config *config)
{
	double buffer = fmax(config->buffer_bytes,
			     config->buffer_part * host->total_bytes);
	double capacity = (double)host->total_bytes - host->other_bytes -
			  host->reserved_bytes;

	/* If others use all there is, there is no buffer either. */
	capacity = fmax(capacity, 0);
	host->buffer_bytes = fmin(buffer, capacity);
	host->capacity_bytes = capacity - host->buffer_bytes;
}

/* What each VM should have */
static void share(struct wsr_host *host, struct wsr_vm *vms,
		  struct wsr_scratch *scratch, size_t nr,
		  const struct wsr_config *config, int64_t now_ms)
{
	double capacity = host->capacity_bytes;
	double swap = swap_for_vms(host, vms, nr), fixed_swap = 0;
	double ceilings = 0, slo_floors = 0, fixed = 0, deficit;

	for (size_t i = 0; i < nr; i++) {
		set_limits(&vms[i], &scratch[i], config, now_ms);
		if (scratch[i].fixed) {
			fixed += scratch[i].desired;
			fixed_swap += fmin(swapped(&vms[i]),
					   scratch[i].desired);
			continue;
		}
		ceilings += scratch[i].ceiling;
		slo_floors += scratch[i].slo_floor;
	}
	/* The host may have swapped out more, or others. */
	fixed_swap = fmin(fixed_swap, swap);
	capacity -= fixed - fixed_swap;
	deficit = slo_floors - capacity;
	host->deficit_bytes = fmax(deficit, 0);
	host->reclaimable_bytes = fmax(-deficit, 0);
	host->cut_x = CUT_ALL;
	/*
	 * Before anybody gets less, the host swaps what is the coldest of all,
	 * also of VMs that can't be shrunk or whose ages are not known.
	 */
	swap = clamp(deficit, 0, swap - fixed_swap);
	if (ceilings <= capacity) {
		for (size_t i = 0; i < nr; i++) {
			if (scratch[i].fixed)
				continue;
			scratch[i].desired = scratch[i].ceiling;
			vms[i].why.reason = WSR_ENOUGH;
		}
	} else {
		double all = capacity;

		if (deficit > 0)
			all = limit_in_deficit(vms, scratch, nr, config,
					       capacity, deficit,
					       host->buffer_bytes, swap);
		share_by_age(host, vms, scratch, nr, all);
		swap = clamp(all - capacity, 0, swap);
	}
	host->used_swap_bytes = fixed_swap + swap;
	for (size_t i = 0; i < nr; i++) {
		struct wsr_vm *vm = &vms[i];

		vm->why.desired = scratch[i].desired;
		if (!vm->has_report)
			continue;
		vm->why.cut_x = age_of(vm, &scratch[i], scratch[i].desired);
		vm->why.refault_rate = vm->alpha *
			wsr_promotions_rate(&vm->promotions, vm->why.cut_x);
	}
}

struct actions {
	struct wsr_action *list;
	size_t nr;
	size_t vm;
};

static struct wsr_action *act(struct actions *actions, struct wsr_vm *vm,
			      enum wsr_action_kind kind, uint64_t bytes,
			      bool grows)
{
	struct wsr_action *action = &actions->list[actions->nr++];

	*action = (struct wsr_action) {
		.vm = actions->vm,
		.kind = kind,
		.grows = grows,
		.bytes = bytes,
		.reason = vm->why.reason,
	};
	return action;
}

/* Bytes per second; a small VM is never asked for as much as a large one. */
static double stall_rate(const struct wsr_vm *vm,
			 const struct wsr_config *config)
{
	return fmin(config->stall_rate,
		    config->shrink_rate * vm->size_bytes * STALL_PART);
}

static void stall(struct wsr_vm *vm, const struct wsr_config *config,
		  struct actions *actions, int64_t now_ms)
{
	vm->stall = WSR_STALLED;
	vm->stall_wait_ms = fmin(fmax(2.0 * vm->stall_wait_ms,
				      config->stall_retry_ms), MAX_RETRY_MS);
	vm->stall_until_ms = now_ms + vm->stall_wait_ms;
	vm->stuck_reclaimed = 0;
	/* A guest burns CPU time as long as it has a target that it can't reach. */
	vm->target_bytes = vm->actual_bytes;
	vm->why.reason = WSR_STUCK;
	act(actions, vm, WSR_SET_BALLOON, vm->target_bytes, false);
}

/* Does the balloon follow its target? */
static void watch_balloon(struct wsr_vm *vm, const struct wsr_config *config,
			  struct actions *actions, int64_t now_ms)
{
	double behind = (double)vm->actual_bytes - vm->target_bytes;
	double moved = (double)vm->moved_bytes - vm->actual_bytes;
	double due = stall_rate(vm, config) * (now_ms - vm->moved_ms) / 1000;
	double retried = (double)vm->retry_bytes - vm->actual_bytes;
	double asked = (double)vm->retry_bytes - vm->why.desired;

	if (vm->stall == WSR_STALLED && now_ms >= vm->stall_until_ms) {
		vm->stall = WSR_RETRIES;
		vm->retry_bytes = vm->actual_bytes;
		moved = fmax(due, 1);
	} else if (vm->stall == WSR_RETRIES &&
		   retried >= fmax(RETRY_PART * asked, gate(vm, config))) {
		vm->stall = WSR_MOVES;
		vm->stall_wait_ms = 0;
	}
	if (vm->config->actuator != WSR_BALLOON || vm->config->hands_off ||
	    vm->migrating || behind <= gate(vm, config) ||
	    moved >= fmax(due, 1)) {
		vm->moved_ms = now_ms;
		vm->moved_bytes = vm->actual_bytes;
		return;
	}
	if (vm->stall != WSR_STALLED && now_ms - vm->moved_ms >= config->stall_ms)
		stall(vm, config, actions, now_ms);
}

/*
 * The host takes what a stuck balloon does not give, slowly: only memory that
 * is idle for at least twice the age that others are cut at, so that guest and
 * host do not swap the same pages.
 */
static void help_stuck(struct wsr_vm *vm, const struct wsr_host *host,
		       const struct wsr_config *config,
		       struct actions *actions, int64_t now_ms)
{
	double x = fmax(host->cut_x, vm->peak_x) + 2;
	double idle = vm->curve.total[WSR_SWAP_BACKED] +
		      vm->curve.total[WSR_FILE_BACKED] -
		      wsr_curve_all_younger(&vm->curve, x);
	double ms = fmin(now_ms - vm->rate_ms, MAX_STEP_MS);
	double step = fmin(config->shrink_rate * vm->size_bytes * ms / 1000,
			   idle - vm->stuck_reclaimed);

	if (!vm->has_cgroup || vm->psi > config->psi_limit ||
	    step < gate(vm, config))
		return;
	vm->rate_ms = now_ms;
	vm->stuck_reclaimed += step;
	act(actions, vm, WSR_RECLAIM_CGROUP, step, false);
}

/* memory.high for the present target */
static uint64_t high_for(const struct wsr_vm *vm)
{
	if (vm->target_bytes >= wsr_vm_ceiling(vm))
		return UINT64_MAX;
	return vm->target_bytes * (1 + HIGH_SLACK_PART) + HIGH_SLACK;
}

/* Before the balloon lets the guest grow, its control group must. */
static void raise_high(struct wsr_vm *vm, struct actions *actions)
{
	uint64_t high = high_for(vm);

	if (high <= vm->high_bytes)
		return;
	vm->high_bytes = high;
	act(actions, vm, WSR_SET_HIGH, high, true);
}

/* It may have @target from now on. */
static void grow_to(struct wsr_vm *vm, uint64_t target,
		    struct actions *actions, int64_t now_ms)
{
	vm->target_bytes = target;
	vm->grew_ms = now_ms;
	vm->rate_ms = now_ms;
	raise_high(vm, actions);
	if (vm->config->actuator == WSR_BALLOON)
		act(actions, vm, WSR_SET_BALLOON, target, true);
}

/*
 * Was it short of memory, and did not get what it needs? It is over if a later
 * report says nothing of it.
 */
static bool needs_relief(const struct wsr_vm *vm,
			 const struct wsr_config *config)
{
	return vm->pressure_ms != vm->served_ms &&
	       vm->report_ms <= vm->pressure_ms + config->pressure_again_ms &&
	       !vm->config->hands_off && !vm->migrating;
}

/* Short of memory: some at once, and all if that was not enough. */
static void relieve(struct wsr_vm *vm, const struct wsr_scratch *s,
		    const struct wsr_config *config, double *budget,
		    struct actions *actions, int64_t now_ms)
{
	double grant;

	if (!needs_relief(vm, config))
		return;
	vm->why.reason = WSR_PRESSURE;
	if (!vm->relief_bytes)
		vm->relief_bytes = relief(vm, s, config);
	grant = missing(vm, vm->relief_bytes);
	if (grant <= fmax(*budget, 0)) {
		vm->served_ms = vm->pressure_ms;
	} else {
		/* The rest when others have shrunk */
		vm->why.hold = WSR_HOLD_NO_FREE;
		grant = *budget >= gate(vm, config) ? *budget : 0;
	}
	if (grant > 0) {
		*budget -= grant;
		vm->why.desired = fmax(vm->why.desired, vm->relief_bytes);
		grow_to(vm, committed(vm) + grant, actions, now_ms);
	} else if (vm->target_bytes < vm->actual_bytes &&
		   vm->actual_bytes <= s->entitled) {
		/* It shall at least not lose what it has. */
		grow_to(vm, vm->actual_bytes, actions, now_ms);
	}
}

/* The min is a promise: to be kept from the buffer if need be. */
static void restore_min(struct wsr_vm *vm, const struct wsr_config *config,
			double *budget, struct actions *actions, int64_t now_ms)
{
	double target = lowest(vm), grant = missing(vm, target);

	if (vm->target_bytes >= target || vm->config->hands_off ||
	    vm->migrating || vm->grew_ms == now_ms)
		return;
	if (grant > fmax(*budget, 0)) {
		vm->why.hold = WSR_HOLD_NO_FREE;
		if (*budget < gate(vm, config))
			return;
		grant = *budget;
		target = committed(vm) + grant;
	}
	if (grant > 0)
		*budget -= grant;
	grow_to(vm, target, actions, now_ms);
}

static enum wsr_hold may_shrink(const struct wsr_vm *vm,
				const struct wsr_scratch *s,
				const struct wsr_host *host,
				const struct wsr_config *config,
				int64_t now_ms)
{
	/* The host itself swaps. VMs stall until one of them has shrunk. */
	bool host_swaps = host->pressed && host->used_bytes >
		host->capacity_bytes + host->used_swap_bytes +
		host->buffer_bytes;

	if (vm->psi > config->psi_limit && !host_swaps)
		return WSR_HOLD_STALLS;
	/* Others may be worse off by now. */
	if (within(vm->pressure_ms, host->waits ? config->grow_block_ms :
						  config->shrink_block_ms,
		   now_ms) && held(vm) <= s->entitled)
		return WSR_HOLD_STALLS;
	if (within(vm->grew_ms, config->shrink_block_ms, now_ms) &&
	    !host->pressed && !host->waits)
		return WSR_HOLD_GREW;
	return WSR_FREE_TO_MOVE;
}

static void shrink(struct wsr_vm *vm, const struct wsr_scratch *s,
		   const struct wsr_host *host, const struct wsr_config *config,
		   bool hurry, struct actions *actions, int64_t now_ms)
{
	double from = held(vm), desired = vm->why.desired, out = swapped(vm);
	double least = gate(vm, config) * (hurry ? WAIT_PART : 1);
	double ms = fmin(now_ms - vm->rate_ms, MAX_STEP_MS);
	double step = config->shrink_rate * (hurry ? WAIT_HURRY : 1) *
		      vm->size_bytes * ms / 1000;
	enum wsr_hold hold;
	double target;

	if (from <= desired)
		return;
	if (!worth(vm, least, from, desired)) {
		if (!vm->why.hold)
			vm->why.hold = WSR_SETTLED;
		return;
	}
	hold = may_shrink(vm, s, host, config, now_ms);
	if (hold) {
		vm->why.hold = hold;
		return;
	}
	/*
	 * The guest's oldest pages are those that the host has swapped out: the
	 * guest would have to read them to write them.
	 */
	if (from - desired < SWAPPED_GAIN * out && from <= s->ceiling + out &&
	    !host->unmet) {
		vm->why.hold = WSR_HOLD_SWAPPED;
		return;
	}
	/* Nor may the target run away from a balloon that is slow. */
	target = fmax(desired, from - step);
	target = fmax(target, vm->actual_bytes - MAX_AHEAD * vm->size_bytes);
	if (target > desired)
		vm->why.hold = WSR_HOLD_RATE;
	if (from - target < fmin(gate(vm, config), from - desired))
		return;
	vm->rate_ms = now_ms;
	vm->shrank_ms = now_ms;
	vm->target_bytes = target;
	/* It was short of memory once, but that is over. */
	vm->served_ms = vm->pressure_ms;
	if (vm->config->actuator == WSR_BALLOON)
		act(actions, vm, WSR_SET_BALLOON, target, false);
	else if (vm->config->actuator == WSR_CGROUP)
		act(actions, vm, WSR_RECLAIM_CGROUP, from - target, false);
	else
		act(actions, vm, WSR_RECLAIM_GUEST, from - target,
		    false)->age_ms = fmax(wsr_ms_of_x(vm->why.cut_x),
					  config->min_age_ms);
}

/*
 * Once it is as small as it should be, memory.high keeps it from growing behind
 * our back. Before, it would stall.
 */
static void follow_with_high(struct wsr_vm *vm, const struct wsr_config *config,
			     struct actions *actions, int64_t now_ms)
{
	uint64_t high;

	if (!vm->has_cgroup && vm->config->actuator != WSR_CGROUP)
		return;
	if (vm->target_bytes + gate(vm, config) < vm->why.desired ||
	    vm->shrank_ms == now_ms ||
	    within(vm->grew_ms, config->grow_block_ms, now_ms) ||
	    vm->psi > config->psi_limit ||
	    vm->actual_bytes > vm->target_bytes + HIGH_SLACK)
		return;
	high = high_for(vm);
	/* Whoever raises a target raises this, too. */
	if ((double)vm->high_bytes - high < gate(vm, config))
		return;
	vm->high_bytes = high;
	act(actions, vm, WSR_SET_HIGH, high, false);
}

static void grow(struct wsr_vm *vm, const struct wsr_config *config,
		 double *budget, struct actions *actions, int64_t now_ms)
{
	double desired = vm->why.desired;
	double grant = missing(vm, desired);
	double target = desired;

	/* Once in a call is enough. */
	if (desired <= vm->target_bytes || vm->grew_ms == now_ms)
		return;
	if (!worth(vm, gate(vm, config), vm->target_bytes, desired)) {
		if (!vm->why.hold)
			vm->why.hold = WSR_SETTLED;
		return;
	}
	if (within(vm->shrank_ms, config->grow_block_ms, now_ms)) {
		vm->why.hold = WSR_HOLD_SHRANK;
		return;
	}
	if (grant > fmax(*budget, 0)) {
		vm->why.hold = WSR_HOLD_NO_FREE;
		grant = fmax(*budget, 0);
		target = committed(vm) + grant;
		if (target - vm->target_bytes < gate(vm, config))
			return;
	}
	if (grant > 0)
		*budget -= grant;
	grow_to(vm, target, actions, now_ms);
}

/* Below its SLO before all others, then the most needy by its shares. */
static double need(const struct wsr_vm *vm, const struct wsr_scratch *s)
{
	double target = vm->target_bytes;
	double below_slo = s->slo_floor - target;

	/* Gets nothing but relief from pressure: the smallest is worst off. */
	if (s->fixed)
		return MIB / (MIB + vm->size_bytes);
	if (below_slo > 0)
		return 1 + below_slo / s->slo_floor * vm->config->shares;
	return (s->desired - target) / fmax(s->desired, 1) *
	       fmin(vm->config->shares / 1000, 1);
}

static int by_need(const void *a, const void *b)
{
	const struct wsr_scratch *x = a, *y = b;

	if (x->need != y->need)
		return x->need < y->need ? 1 : -1;
	return (x->vm > y->vm) - (x->vm < y->vm);
}

/*
 * Do VMs want to grow by more than is free, or is the buffer in use? Then the
 * others give even the little that they have too much, since all of them
 * together may have a lot, and they do so faster. If it is VMs that want it,
 * host->waits.
 */
static bool is_short(struct wsr_host *host, const struct wsr_vm *vms,
		     const struct wsr_scratch *scratch, size_t nr,
		     const struct wsr_config *config)
{
	double free_now = (double)host->capacity_bytes + host->used_swap_bytes -
			  sum_committed(vms, nr);
	double more_swap = swap_for_vms(host, vms, nr) - host->used_swap_bytes;
	double free = free_now;
	bool wanted = false;

	for (size_t i = 0; i < nr; i++) {
		double more = missing(&vms[i], scratch[i].desired);

		if (scratch[i].fixed || more > 0)
			free -= more;
		wanted |= more >= gate(&vms[i], config) && !scratch[i].fixed;
	}
	host->waits |= wanted && free < 0;
	/* The host swaps for what was given and is not there. */
	if (host->swap_bytes && free_now + host->buffer_bytes < 0)
		host->waits = true;
	/* Others than VMs may have taken memory, too. */
	host->unmet |= (wanted ? free : free_now + host->buffer_bytes) +
		       more_swap < -ROUNDING;
	return free < 0 && (wanted || free_now < 0);
}

static void take(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
		 const struct wsr_config *config, int64_t now_ms,
		 struct wsr_scratch *scratch, struct actions *actions)
{
	bool hurry;

	for (size_t i = 0; i < nr; i++) {
		struct wsr_vm *vm = &vms[i];

		actions->vm = i;
		if (scratch[i].fixed)
			continue;
		/* It has no more than that anyway. */
		if (vm->config->actuator != WSR_BALLOON &&
		    vm->actual_bytes <= vm->why.desired &&
		    vm->target_bytes > vm->why.desired &&
		    !may_shrink(vm, &scratch[i], host, config, now_ms))
			vm->target_bytes = vm->why.desired;
		follow_with_high(vm, config, actions, now_ms);
	}
	hurry = is_short(host, vms, scratch, nr, config);
	for (size_t i = 0; i < nr; i++) {
		struct wsr_vm *vm = &vms[i];

		actions->vm = i;
		if (vm->why.reason == WSR_STUCK)
			help_stuck(vm, host, config, actions, now_ms);
		if (scratch[i].fixed)
			continue;
		shrink(vm, &scratch[i], host, config, hurry, actions, now_ms);
	}
}

static void give(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
		 const struct wsr_config *config, int64_t now_ms,
		 struct wsr_scratch *scratch, struct actions *actions)
{
	double budget;

	for (size_t i = 0; i < nr; i++) {
		scratch[i].vm = i;
		scratch[i].need = need(&vms[i], &scratch[i]);
	}
	if (nr)
		qsort(scratch, nr, sizeof(*scratch), by_need);

	/* What was just taken is not free yet. */
	budget = (double)host->capacity_bytes - sum_committed(vms, nr);
	budget += swap_for_vms(host, vms, nr);
	/* The buffer is for those that can't wait. */
	budget += host->buffer_bytes;
	for (size_t i = 0; i < nr; i++) {
		struct wsr_vm *vm = &vms[scratch[i].vm];

		actions->vm = scratch[i].vm;
		relieve(vm, &scratch[i], config, &budget, actions, now_ms);
		restore_min(vm, config, &budget, actions, now_ms);
		/* The target of a stuck balloon went back up. */
		if (vm->high_bytes <= vm->target_bytes && !vm->migrating)
			raise_high(vm, actions);
	}
	budget -= host->buffer_bytes;
	for (size_t i = 0; i < nr; i++) {
		struct wsr_vm *vm = &vms[scratch[i].vm];

		actions->vm = scratch[i].vm;
		if (!scratch[i].fixed)
			grow(vm, config, &budget, actions, now_ms);
	}
	host->used_bytes = sum_committed(vms, nr);
}

size_t wsr_plan(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
		const struct wsr_config *config, int64_t now_ms,
		struct wsr_scratch *scratch, struct wsr_action *list)
{
	struct actions actions = { .list = list };

	set_capacity(host, config);
	for (size_t i = 0; i < nr; i++) {
		actions.vm = i;
		watch_balloon(&vms[i], config, &actions, now_ms);
	}
	host->used_bytes = sum_committed(vms, nr);
	host->unmet = false;
	for (size_t i = 0; i < nr; i++)
		host->unmet |= vms[i].pressure_ms < now_ms &&
			       needs_relief(&vms[i], config);
	host->waits = host->unmet;
	share(host, vms, scratch, nr, config, now_ms);
	take(host, vms, nr, config, now_ms, scratch, &actions);
	give(host, vms, nr, config, now_ms, scratch, &actions);
	return actions.nr;
}

static const char * const reason_names[WSR_NR_REASONS] = {
	[WSR_NO_REASON]		= "undecided",
	[WSR_HANDS_OFF]		= "hands-off",
	[WSR_NO_DATA]		= "no-data",
	[WSR_STALE]		= "stale",
	[WSR_MIGRATING]		= "migrating",
	[WSR_STUCK]		= "stuck",
	[WSR_PRESSURE]		= "pressure",
	[WSR_ENOUGH]		= "enough",
	[WSR_EQUAL_AGE]		= "equal-age",
	[WSR_USED_FITS]		= "used-fits",
	[WSR_AT_MIN]		= "at-min",
	[WSR_AT_MAX]		= "at-max",
	[WSR_AT_SLO]		= "at-slo",
	[WSR_DEFICIT]		= "deficit",
};

static const char * const hold_names[WSR_NR_HOLDS] = {
	[WSR_FREE_TO_MOVE]	= "none",
	[WSR_SETTLED]		= "settled",
	[WSR_HOLD_STALLS]	= "stalls",
	[WSR_HOLD_GRACE]	= "grace",
	[WSR_HOLD_GREW]		= "grew",
	[WSR_HOLD_SHRANK]	= "shrank",
	[WSR_HOLD_RATE]		= "rate",
	[WSR_HOLD_NO_FREE]	= "no-free",
	[WSR_HOLD_STUCK]	= "stuck",
	[WSR_HOLD_SWAPPED]	= "swapped",
};

const char *wsr_reason_name(enum wsr_reason reason)
{
	return reason_names[reason];
}

const char *wsr_hold_name(enum wsr_hold hold)
{
	return hold_names[hold];
}
