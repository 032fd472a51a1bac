// SPDX-License-Identifier: GPL-2.0
/*
 * What other controllers do, for comparison: their published rules on our
 * facts. Written from descriptions of the rules; only what decides about sizes
 * is here, not how they talk to guests. No I/O.
 *
 * They set balloons of VMs that report; other VMs stay as they are. Memory that
 * a VM has counts as used, since a guest uses all that it has in the end.
 */
#include <math.h>
#include <string.h>

#include "policy.h"

#define MIB		(1024.0 * 1024)
#define ROUND_MS	10000

struct peer {
	struct wsr_vm *vms;
	size_t nr;
	int64_t now_ms;
	double total;		/* of the host, for VMs */
	double used;		/* by VMs */
	struct wsr_action *actions;
	size_t nr_actions;
};

static bool takes_part(const struct wsr_vm *vm)
{
	return vm->has_report && !vm->config->hands_off && !vm->migrating &&
	       vm->config->actuator == WSR_BALLOON;
}

static double clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

static double min_of(const struct wsr_vm *vm)
{
	return fmin(vm->config->min_bytes, wsr_vm_ceiling(vm));
}

static struct peer start(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
			 int64_t now_ms, struct wsr_action *actions)
{
	struct peer peer = {
		.vms = vms,
		.nr = nr,
		.now_ms = now_ms,
		.total = (double)host->total_bytes - host->other_bytes -
			 host->reserved_bytes,
		.actions = actions,
	};

	for (size_t i = 0; i < nr; i++)
		peer.used += vms[i].actual_bytes;
	host->capacity_bytes = fmax(peer.total, 0);
	host->buffer_bytes = 0;
	host->used_bytes = peer.used;
	return peer;
}

/* Is it time for another round? Then all VMs note that there was one. */
static bool round_is_due(const struct peer *peer, uint32_t every_ms)
{
	for (size_t i = 0; i < peer->nr; i++) {
		if (peer->now_ms - peer->vms[i].rate_ms < every_ms)
			return false;
	}
	for (size_t i = 0; i < peer->nr; i++)
		peer->vms[i].rate_ms = peer->now_ms;
	return true;
}

static void set_target(struct peer *peer, size_t i, double target,
		       enum wsr_reason reason)
{
	struct wsr_vm *vm = &peer->vms[i];
	uint64_t bytes = clamp(target, min_of(vm), wsr_vm_ceiling(vm));

	vm->why = (struct wsr_why) {
		.reason = reason,
		.desired = bytes,
		.ceiling = wsr_vm_ceiling(vm),
	};
	if (bytes == vm->target_bytes)
		return;
	peer->actions[peer->nr_actions++] = (struct wsr_action) {
		.vm = i,
		.kind = WSR_SET_BALLOON,
		.grows = bytes > vm->target_bytes,
		.bytes = bytes,
		.reason = reason,
	};
	vm->target_bytes = bytes;
}

/* --- MOM (oVirt): its balloon rules --------------------------------------- */

/*
 * Every 10 s. With less than 20 % of the host free, all guests shrink: to what
 * they use and 20 % of their size free, by 5 % at most; with less than 5 %, to
 * less than they use. Else all grow, by 5 %, or to what they use and 20 %.
 * Changes of less than 0.25 % are not made. How far below its use a guest goes
 * is not published; 5 % here.
 */
#define MOM_FREE	0.2
#define MOM_CRITICAL	0.05
#define MOM_STEP	0.05
#define MOM_GATE	0.0025

static size_t plan_mom(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
		       const struct wsr_config *config, int64_t now_ms,
		       struct wsr_scratch *scratch, struct wsr_action *actions)
{
	struct peer peer = start(host, vms, nr, now_ms, actions);
	double host_free = (peer.total - peer.used) / host->total_bytes;
	double keep = host_free < MOM_CRITICAL ? -MOM_CRITICAL : MOM_FREE;

	(void)config;
	(void)scratch;
	if (!round_is_due(&peer, ROUND_MS))
		return 0;
	for (size_t i = 0; i < nr; i++) {
		double size = vms[i].actual_bytes;
		double enough = size - vms[i].free + keep * size;
		double target = host_free < MOM_FREE ?
				fmin(fmax(size * (1 - MOM_STEP), enough), size) :
				fmax(size * (1 + MOM_STEP), enough);

		if (!takes_part(&vms[i]) ||
		    fabs(target - size) < MOM_GATE * size)
			continue;
		set_target(&peer, i, target, WSR_EQUAL_AGE);
	}
	return peer.nr_actions;
}

/* --- Proxmox VE ------------------------------------------------------------ */

/*
 * Every 10 s. The host's goal is to use 80 % of its memory. What is used by VMs
 * now and what is missing for the goal, less the mins of all, is a pool that is
 * divided by shares; what is above a VM's max goes to the others. Each VM moves
 * 100 MiB at most in its direction. To grow come first those that have at most a
 * quarter of their min free, and to shrink the others; all, if those can't.
 * A goal of less than 10 MiB is none.
 */
#define PVE_TARGET	0.8
#define PVE_GATE	(10 * MIB)
#define PVE_STEP	(100 * MIB)
#define PVE_PRESSED	0.25

static void pve_divide(const struct peer *peer, struct wsr_scratch *scratch,
		       double pool)
{
	bool again = true;

	for (size_t i = 0; i < peer->nr; i++) {
		scratch[i].fixed = !takes_part(&peer->vms[i]);
		scratch[i].desired = peer->vms[i].actual_bytes;
	}
	while (again) {
		double shares = 0, rest = pool;

		again = false;
		for (size_t i = 0; i < peer->nr; i++) {
			if (!scratch[i].fixed)
				shares += peer->vms[i].config->shares;
		}
		for (size_t i = 0; i < peer->nr; i++) {
			const struct wsr_vm *vm = &peer->vms[i];
			struct wsr_scratch *s = &scratch[i];
			double range = wsr_vm_ceiling(vm) - min_of(vm);
			double part = rest * vm->config->shares / shares;

			if (s->fixed)
				continue;
			s->desired = min_of(vm) + fmax(part, 0);
			if (part < range)
				continue;
			/* It has its max; divide the rest anew. */
			s->desired = wsr_vm_ceiling(vm);
			s->fixed = true;
			pool -= range;
			again = true;
		}
	}
}

static bool pve_pressed(const struct wsr_vm *vm)
{
	return vm->free <= PVE_PRESSED * min_of(vm);
}

/* Move VMs towards what they should have; return what is left of the goal. */
static double pve_move(struct peer *peer, const struct wsr_scratch *scratch,
		       double goal, bool all)
{
	for (size_t i = 0; i < peer->nr; i++) {
		const struct wsr_vm *vm = &peer->vms[i];
		double change = scratch[i].desired - vm->actual_bytes;

		if (!takes_part(vm) || (!all && pve_pressed(vm) != (goal > 0)))
			continue;
		if (goal > 0)
			change = fmin(clamp(change, 0, PVE_STEP), goal);
		else
			change = fmax(clamp(change, -PVE_STEP, 0), goal);
		if (!change)
			continue;
		set_target(peer, i, vm->actual_bytes + change, WSR_EQUAL_AGE);
		goal -= change;
	}
	return goal;
}

static size_t plan_proxmox(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
			   const struct wsr_config *config, int64_t now_ms,
			   struct wsr_scratch *scratch,
			   struct wsr_action *actions)
{
	struct peer peer = start(host, vms, nr, now_ms, actions);
	double goal = PVE_TARGET * host->total_bytes - host->other_bytes -
		      peer.used;
	double pool = goal;

	(void)config;
	if (!round_is_due(&peer, ROUND_MS) || fabs(goal) < PVE_GATE)
		return 0;
	for (size_t i = 0; i < nr; i++) {
		if (takes_part(&vms[i]))
			pool += vms[i].actual_bytes - min_of(&vms[i]);
	}
	pve_divide(&peer, scratch, pool);
	if (pve_move(&peer, scratch, goal, false) == goal)
		pve_move(&peer, scratch, goal, true);
	return peer.nr_actions;
}

/* --- squeezed (XAPI) ------------------------------------------------------- */

/*
 * Every VM gets the same part of the range from its min to its max, so that all
 * but 9 MiB of the host are used. First those that have too much give, then the
 * others get what is really free. A VM that has not moved for 5 s towards its
 * target is inactive: it counts with what it has until it moves again. Looks
 * every 10 s; changes of less than 1 MiB are not made.
 */
#define SQUEEZED_SLUSH	(9 * MIB)
#define SQUEEZED_GATE	MIB
#define SQUEEZED_MS	5000

static bool squeezed_active(struct wsr_vm *vm, int64_t now_ms)
{
	double missing = (double)vm->actual_bytes - vm->target_bytes;

	if (fabs(missing) < SQUEEZED_GATE ||
	    vm->actual_bytes != vm->moved_bytes) {
		vm->moved_bytes = vm->actual_bytes;
		vm->moved_ms = now_ms;
	}
	return takes_part(vm) && now_ms - vm->moved_ms < SQUEEZED_MS;
}

static void squeezed_divide(const struct peer *peer,
			    struct wsr_scratch *scratch)
{
	double surplus = peer->total - SQUEEZED_SLUSH, range = 0, gamma;

	for (size_t i = 0; i < peer->nr; i++) {
		struct wsr_vm *vm = &peer->vms[i];
		struct wsr_scratch *s = &scratch[i];

		s->fixed = !squeezed_active(vm, peer->now_ms);
		s->desired = vm->actual_bytes;
		surplus -= s->fixed ? s->desired : min_of(vm);
		if (!s->fixed)
			range += wsr_vm_ceiling(vm) - min_of(vm);
	}
	gamma = range > 0 ? clamp(surplus / range, 0, 1) : 1;
	for (size_t i = 0; i < peer->nr; i++) {
		const struct wsr_vm *vm = &peer->vms[i];

		if (!scratch[i].fixed)
			scratch[i].desired = min_of(vm) + gamma *
				(wsr_vm_ceiling(vm) - min_of(vm));
	}
}

static size_t plan_squeezed(struct wsr_host *host, struct wsr_vm *vms,
			    size_t nr, const struct wsr_config *config,
			    int64_t now_ms, struct wsr_scratch *scratch,
			    struct wsr_action *actions)
{
	struct peer peer = start(host, vms, nr, now_ms, actions);
	double free = peer.total - SQUEEZED_SLUSH - peer.used;

	(void)config;
	squeezed_divide(&peer, scratch);
	if (!round_is_due(&peer, ROUND_MS))
		return 0;
	for (size_t i = 0; i < nr; i++) {
		double change = scratch[i].desired - vms[i].actual_bytes;

		if (!scratch[i].fixed && change <= -SQUEEZED_GATE)
			set_target(&peer, i, scratch[i].desired, WSR_EQUAL_AGE);
	}
	for (size_t i = 0; i < nr; i++) {
		double change = scratch[i].desired - vms[i].actual_bytes;

		change = fmin(change, fmax(free, 0));
		if (scratch[i].fixed || change < SQUEEZED_GATE)
			continue;
		free -= change;
		set_target(&peer, i, vms[i].actual_bytes + change,
			   WSR_EQUAL_AGE);
	}
	return peer.nr_actions;
}

/* --- equal age, as ChromeOS does it --------------------------------------- */

/*
 * Every 30 s: of all contexts, which are the host and its VMs, each has an
 * oldest generation; the youngest of those is the age. All that is older goes,
 * of files, everywhere; less than 1 MiB is nothing. The host's oldest
 * generation is as old as lets the rest fit, if memory is short. A VM that is
 * short of memory gets what it asks for, 256 MiB here, as far as it is free. No
 * shares, no price of swapping.
 */
#define CHROMEOS_MS	30000
#define CHROMEOS_GATE	MIB
#define CHROMEOS_STEP	(256 * MIB)
#define OLDEST_X	(2.0 * WSR_GRID_MAX_X)
#define STEPS		40

static double older_files(const struct wsr_vm *vm, double x)
{
	return vm->curve.total[WSR_FILE_BACKED] -
	       wsr_curve_younger(&vm->curve, WSR_FILE_BACKED, x);
}

/* Where next to nothing of its memory is older */
static double oldest_x(const struct wsr_vm *vm)
{
	double all = vm->curve.total[WSR_SWAP_BACKED] +
		     vm->curve.total[WSR_FILE_BACKED];
	double low = -OLDEST_X, high = OLDEST_X;

	for (int step = 0; step < STEPS; step++) {
		double x = (low + high) / 2;

		if (wsr_curve_all_younger(&vm->curve, x) < (1 - 1e-6) * all)
			low = x;
		else
			high = x;
	}
	return high;
}

/* What files are older than this has to go for the rest to fit. */
static double host_x(const struct peer *peer)
{
	double low = -OLDEST_X, high = OLDEST_X;

	for (int step = 0; step < STEPS; step++) {
		double x = (low + high) / 2, used = peer->used;

		for (size_t i = 0; i < peer->nr; i++) {
			if (takes_part(&peer->vms[i]))
				used -= peer->vms[i].free +
					older_files(&peer->vms[i], x);
		}
		if (used <= peer->total)
			low = x;
		else
			high = x;
	}
	return low;
}

static void chromeos_give(struct peer *peer)
{
	double free = peer->total - peer->used;

	for (size_t i = 0; i < peer->nr; i++) {
		struct wsr_vm *vm = &peer->vms[i];
		double grant = fmin(CHROMEOS_STEP, free);

		if (!takes_part(vm) || vm->pressure_ms == vm->served_ms ||
		    grant < CHROMEOS_GATE)
			continue;
		vm->served_ms = vm->pressure_ms;
		vm->grew_ms = peer->now_ms;
		free -= grant;
		set_target(peer, i, vm->actual_bytes + grant, WSR_PRESSURE);
	}
}

static size_t plan_equal_age(struct wsr_host *host, struct wsr_vm *vms,
			     size_t nr, const struct wsr_config *config,
			     int64_t now_ms, struct wsr_scratch *scratch,
			     struct wsr_action *actions)
{
	struct peer peer = start(host, vms, nr, now_ms, actions);
	double x = OLDEST_X;

	(void)config;
	(void)scratch;
	if (round_is_due(&peer, CHROMEOS_MS)) {
		if (peer.used > peer.total)
			x = host_x(&peer);
		for (size_t i = 0; i < nr; i++) {
			if (takes_part(&vms[i]))
				x = fmin(x, oldest_x(&vms[i]));
		}
		host->cut_x = x;
		for (size_t i = 0; i < nr; i++) {
			double older = 0;

			if (oldest_x(&vms[i]) > x)
				older = older_files(&vms[i], x);
			if (peer.used > peer.total)
				older += vms[i].free;
			/* Who was short of memory is left alone for 100 s. */
			if (!takes_part(&vms[i]) || older < CHROMEOS_GATE ||
			    (vms[i].grew_ms != WSR_NEVER &&
			     now_ms - vms[i].grew_ms < 100000))
				continue;
			set_target(&peer, i, vms[i].actual_bytes - older,
				   WSR_EQUAL_AGE);
		}
	}
	chromeos_give(&peer);
	return peer.nr_actions;
}

/* --- static balloons -------------------------------------------------------- */

static size_t plan_static(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
			  const struct wsr_config *config, int64_t now_ms,
			  struct wsr_scratch *scratch,
			  struct wsr_action *actions)
{
	(void)config;
	(void)scratch;
	start(host, vms, nr, now_ms, actions);
	return 0;
}

const struct wsr_policy wsr_policies[] = {
	{ "wsr", "equal idle age by shares, within SLOs", wsr_plan },
	{ "mom", "oVirt MOM: free memory of host and guests", plan_mom },
	{ "proxmox", "Proxmox VE: a host in use by 80 %, by shares",
	  plan_proxmox },
	{ "squeezed", "XAPI squeezed: the same part of each VM's range",
	  plan_squeezed },
	{ "equal-age", "ChromeOS: files of the same age", plan_equal_age },
	{ "static", "balloons stay as they are", plan_static },
	{ 0 },
};

const struct wsr_policy *wsr_policy_find(const char *name)
{
	const struct wsr_policy *policy;

	for (policy = wsr_policies; policy->name; policy++) {
		if (!strcmp(policy->name, name))
			return policy;
	}
	return NULL;
}
