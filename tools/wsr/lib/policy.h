/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a host decides about the memory of its guests and containers: plain
 * structures and pure functions. No I/O, no clock, no allocation: the caller
 * gathers facts, calls wsr_plan(), and does what the actions say. The same code
 * drives real guests, replays recorded traces and simulates a fleet.
 *
 *	facts of the host ──┐
 *	reports ─► curve ───┼─► wsr_plan() ─► targets ─► actions
 *	facts of each VM ───┘       │
 *	                            └─► why: numbers for wsrctl explain
 *
 * "VM" here is whatever memory can be taken from: a guest by its balloon or by
 * a request to reclaim, or a control group of containers.
 *
 * Times are monotonic milliseconds, sizes bytes, rates bytes per second.
 */
#ifndef WSR_POLICY_H
#define WSR_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "curve.h"
#include "promotions.h"

#define WSR_NEVER	INT64_MIN	/* of times: it did not happen yet */

/**
 * enum wsr_actuator - how memory is taken from a VM, and given back
 * @WSR_BALLOON:	the balloon gets a target
 * @WSR_REQUEST:	the guest is asked to reclaim, and frees what it reclaimed
 *			by free page reporting
 * @WSR_CGROUP:	memory.reclaim and memory.high of its control group
 */
enum wsr_actuator {
	WSR_BALLOON,
	WSR_REQUEST,
	WSR_CGROUP,
};

/**
 * struct wsr_vm_config - what the operator wants for a VM
 * @shares:	weight: with the double, pages are kept for twice as long, and
 *		there is the double in need. Greater than 0
 * @min_bytes:	never less than this, whatever happens
 * @max_bytes:	never more; 0: all that the VM has
 * @slo:	tolerated promotion rate: refaults per minute as a part of the
 *		working set (0.002 is what Google's far memory uses)
 * @actuator:	how
 * @trusted:	its reports are believed when there is a deficit. A guest that is
 *		not gets no more than its part by shares then, whatever it claims
 * @hands_off:	only watch; what it has counts as used
 */
struct wsr_vm_config {
	double shares;
	uint64_t min_bytes;
	uint64_t max_bytes;
	double slo;
	enum wsr_actuator actuator;
	bool trusted;
	bool hands_off;
};

/**
 * struct wsr_config - what the operator wants of the host
 * @buffer_bytes, @buffer_part: kept free for what comes next: the larger one;
 *		@buffer_part is a part of the host's memory
 * @headroom_part: free memory that a VM keeps, as a part of what it uses
 * @min_age_ms:	pages younger than this are never taken
 * @active_age_ms: in a deficit, pages younger than this stay with the VM, as far
 *		as they are within its part by shares
 * @wss_age_ms:	the working set is what is younger than this (120 s)
 * @psi_limit:	no shrinking while a VM stalls for more of its time than this
 * @shrink_rate: of a VM's size per second; five times that if others wait
 * @gate_bytes, @gate_part: changes below the larger one are not worth it; in
 *		small VMs @gate_bytes is no more than 2 % of their size
 * @grow_block_ms: no growing after a shrink, unless under pressure
 * @shrink_block_ms: no shrinking after a growth, unless others wait for memory
 * @grace_ms:	no shrinking of used memory so long after a VM's first report
 * @stale_ms:	a report older than this is not a reason to shrink
 * @up_ms, @down_ms: time constants of the smoothing of reports
 * @pressure_bytes, @pressure_part: what a VM gets at once when it is short: the
 *		larger one; the part is of its size
 * @pressure_again_ms: short again within this time: it gets all
 * @stall_rate:	a balloon that moves slower than this, bytes per second,
 * @stall_ms:	for so long, is stuck
 * @stall_retry_ms: then it is left alone for so long, doubled each time
 */
struct wsr_config {
	uint64_t buffer_bytes;
	double buffer_part;
	double headroom_part;
	uint32_t min_age_ms;
	uint32_t active_age_ms;
	uint32_t wss_age_ms;
	double psi_limit;
	double shrink_rate;
	uint64_t gate_bytes;
	double gate_part;
	uint32_t grow_block_ms;
	uint32_t shrink_block_ms;
	uint32_t grace_ms;
	uint32_t stale_ms;
	uint32_t up_ms;
	uint32_t down_ms;
	uint64_t pressure_bytes;
	double pressure_part;
	uint32_t pressure_again_ms;
	uint64_t stall_rate;
	uint32_t stall_ms;
	uint32_t stall_retry_ms;
};

/** wsr_config_init, wsr_vm_config_init - the defaults */
void wsr_config_init(struct wsr_config *config);
void wsr_vm_config_init(struct wsr_vm_config *config);

/**
 * wsr_config_check - are the values in range?
 * Return: NULL, or what is wrong, in words that name the value.
 */
const char *wsr_config_check(const struct wsr_config *config);
const char *wsr_vm_config_check(const struct wsr_vm_config *config);

/* Why a VM's target is what it is; the first reason that applied. */
enum wsr_reason {
	WSR_NO_REASON,		/* nothing was decided yet */
	WSR_HANDS_OFF,		/* configured */
	WSR_NO_DATA,		/* no report, no estimate */
	WSR_STALE,		/* the last report is too old */
	WSR_MIGRATING,
	WSR_STUCK,		/* the balloon does not move */
	WSR_PRESSURE,		/* short of memory: it got some at once */
	WSR_ENOUGH,		/* no shortage: it has all it may have */
	WSR_EQUAL_AGE,		/* cut at the common age, by its shares */
	WSR_USED_FITS,		/* all that it uses is younger than that */
	WSR_AT_MIN,		/* its min, or pages too young to take */
	WSR_AT_MAX,
	WSR_AT_SLO,		/* less would cost more refaults than its SLO */
	WSR_DEFICIT,		/* not even the SLOs fit: it has less */
	WSR_NR_REASONS,
};

/* What keeps a VM from getting to what it should have, at the moment. */
enum wsr_hold {
	WSR_FREE_TO_MOVE,
	WSR_SETTLED,		/* the difference is not worth it */
	WSR_HOLD_STALLS,	/* PSI: it waits for memory already */
	WSR_HOLD_GRACE,		/* has only been seen for a short time */
	WSR_HOLD_GREW,		/* grew a moment ago */
	WSR_HOLD_SHRANK,	/* shrank a moment ago */
	WSR_HOLD_RATE,		/* shrinks as fast as it may */
	WSR_HOLD_NO_FREE,	/* grows when others have shrunk */
	WSR_HOLD_STUCK,
	WSR_HOLD_SWAPPED,	/* most of what there is to take is in host swap */
	WSR_NR_HOLDS,
};

/**
 * struct wsr_why - the numbers behind a target
 * @needed:	fixed parts and headroom; can't be taken at any age
 * @floor:	@needed, pages younger than min_age_ms, min_bytes: not less
 *		unless there is a deficit
 * @slo_floor:	not less if SLOs are to hold
 * @ceiling:	not more
 * @desired:	what it should have
 * @wss:	its working set, see wsr_vm_working_set()
 * @slo_x, @cut_x: ages (positions on the grid) of @slo_floor and @desired
 * @refault_rate: predicted for @desired
 */
struct wsr_why {
	enum wsr_reason reason;
	enum wsr_hold hold;
	uint64_t needed;
	uint64_t floor;
	uint64_t slo_floor;
	uint64_t ceiling;
	uint64_t desired;
	uint64_t wss;
	double slo_x;
	double cut_x;
	double refault_rate;
};

enum wsr_stall {
	WSR_MOVES,
	WSR_STALLED,	/* left alone until stall_until_ms */
	WSR_RETRIES,	/* tries again, and has to prove itself */
};

/**
 * struct wsr_vm - one VM
 *
 * Facts, by the caller:
 * @config:	what the operator wants
 * @size_bytes:	the memory that it was given at its start
 * @actual_bytes: what it has: with a balloon, @size_bytes less the balloon;
 *		else what it uses
 * @swapped_bytes: what the host has swapped out of it
 * @psi:	part of the time that it stalls for memory, less than 0: unknown
 * @has_cgroup:	a guest whose QEMU is alone in a control group: memory.high
 *		follows the balloon, and memory.reclaim helps a stuck one
 * @deflate_on_oom: the balloon has this feature, so that the guest counts the
 *		balloon's memory as its kernel's
 * @migrating:	leave it alone
 * @doubted:	the host sees that it uses less than it says: it is not trusted
 *
 * Facts, by wsr_vm_report() and wsr_vm_pressure(): @has_report to
 * @pressure_before_ms. @fixed is memory that can't be reclaimed, with @hidden,
 * that the VM has and its kernel does not report. @peak_x is the age that its SLO
 * asks for: what it asked for before decays by 5 % a minute,
 * so that a quiet minute is not taken for a quiet VM.
 *
 * Decisions, by wsr_plan(): the rest. @target_bytes is what it may have;
 * wsr_vm_init() starts with @actual_bytes, and so should the caller when
 * somebody else has changed the balloon.
 */
struct wsr_vm {
	const struct wsr_vm_config *config;
	uint64_t size_bytes;
	uint64_t actual_bytes;
	uint64_t swapped_bytes;
	double psi;
	bool has_cgroup;
	bool deflate_on_oom;
	bool migrating;
	bool doubted;

	bool has_report;
	bool warming_up;
	int64_t first_report_ms;
	int64_t report_ms;
	struct wsr_curve curve;
	struct wsr_promotions promotions;
	uint64_t fixed;
	uint64_t hidden;
	uint64_t seen_actual_bytes;	/* at the last report */
	uint64_t free;
	uint64_t swap_free;
	uint64_t refaulted;	/* in total, at refaulted_ms */
	int64_t refaulted_ms;
	double refault_rate;	/* measured, bytes per second */
	double refault_average;	/* of the last minute or so */
	double missed_rate;	/* of the last seconds, see plan.c */
	double alpha;		/* measured by predicted */
	int64_t pressure_ms;
	int64_t pressure_before_ms;
	double peak_x;

	uint64_t target_bytes;
	uint64_t high_bytes;	/* memory.high, UINT64_MAX: max */
	int64_t grew_ms;
	int64_t shrank_ms;
	int64_t rate_ms;	/* until when shrinking is accounted for */
	int64_t served_ms;	/* the pressure that was answered last */
	uint64_t relief_bytes;	/* what it gets for the newest, 0: not known */
	enum wsr_stall stall;
	int64_t stall_until_ms;
	uint32_t stall_wait_ms;
	int64_t moved_ms;	/* the balloon was last seen to move */
	uint64_t moved_bytes;	/* and where it was */
	uint64_t retry_bytes;	/* where the retry began */
	uint64_t stuck_reclaimed; /* by the host, since it is stuck */
	struct wsr_why why;
};

/** wsr_vm_init - a VM of which nothing is known but its size */
void wsr_vm_init(struct wsr_vm *vm, const struct wsr_vm_config *config,
		 uint64_t size_bytes, uint64_t actual_bytes, int64_t now_ms);

/**
 * wsr_vm_report - take over a report, or an estimate by the host
 * @node:	the sums over all nodes
 * @now_ms:	when its data were gathered
 *
 * The report is the VM's own word. What can't be true is refused: sums that do
 * not fit the total within a tenth, a total that the VM can't have, bins in
 * disorder. So is a report that is older than the one before.
 *
 * Return: NULL, or what is wrong; then nothing has changed.
 */
const char *wsr_vm_report(struct wsr_vm *vm, const struct wsr_config *config,
			  const struct report_node *node, int64_t now_ms);

/**
 * wsr_vm_pressure - the VM is short of memory now
 *
 * It says so itself (a report because it had to reclaim, and refaults), or the
 * host sees it stall. For a while it is not shrunk because of its own word, but
 * when there is a deficit its word does not get it more than its part by
 * shares.
 */
void wsr_vm_pressure(struct wsr_vm *vm, int64_t now_ms);

/** wsr_vm_rebooted - forget what it reported, its memory is empty */
void wsr_vm_rebooted(struct wsr_vm *vm, int64_t now_ms);

/**
 * wsr_vm_working_set - memory younger than wss_age_ms, and what can't be
 * reclaimed, since an idle VM has a working set as well
 */
double wsr_vm_working_set(const struct wsr_vm *vm,
			  const struct wsr_config *config);

/** wsr_vm_ceiling - the most that it may have */
uint64_t wsr_vm_ceiling(const struct wsr_vm *vm);

/**
 * struct wsr_host - facts of the host, and what follows from them
 * @total_bytes:	of its memory, or of the control group of all VMs
 * @other_bytes:	used by other than the VMs
 * @reserved_bytes:	held for VMs that are to start
 * @swap_bytes:	how much of all VMs the host may swap out so that a VM that
 *			needs memory need not wait for others to shrink
 * @pressed:		the host itself is short now (its PSI trigger fired)
 *
 * By wsr_plan():
 * @capacity_bytes:	what VMs may have together
 * @buffer_bytes:	what is kept free beside that
 * @used_bytes:		what the VMs may use up together without asking us; it
 *			can be more than there is, also because of @swap_bytes
 * @waits:		a VM under pressure has not got enough yet, or VMs should
 *			grow by more than there is, or the host swaps for them
 * @unmet:		the same, and the host may not swap as much
 * @used_swap_bytes:	part of @swap_bytes that VMs should have beside
 *			@capacity_bytes, so that SLOs hold, or that VMs which
 *			can't be changed have there
 * @cut_x:		the common age at shares of 1
 * @reclaimable_bytes:	how much more would fit with all SLOs held
 * @deficit_bytes:	how much is missing for the SLOs
 */
struct wsr_host {
	uint64_t total_bytes;
	uint64_t other_bytes;
	uint64_t reserved_bytes;
	uint64_t swap_bytes;
	bool pressed;

	uint64_t capacity_bytes;
	uint64_t buffer_bytes;
	uint64_t used_bytes;
	bool waits;
	bool unmet;
	uint64_t used_swap_bytes;
	double cut_x;
	uint64_t reclaimable_bytes;
	uint64_t deficit_bytes;
};

enum wsr_action_kind {
	WSR_SET_BALLOON,	/* @bytes: what the guest is to have */
	WSR_RECLAIM_GUEST,	/* ask it to reclaim @bytes idle for @age_ms */
	WSR_RECLAIM_CGROUP,	/* memory.reclaim of @bytes */
	WSR_SET_HIGH,		/* memory.high, UINT64_MAX: max */
};

/**
 * struct wsr_action - what the caller should do, in this order
 * @vm:		index
 * @grows:	it gives memory; those that take come first
 */
struct wsr_action {
	size_t vm;
	enum wsr_action_kind kind;
	bool grows;
	uint64_t bytes;
	uint32_t age_ms;
	enum wsr_reason reason;
};

/* At most so many for a VM in one call */
#define WSR_MAX_ACTIONS	4

/**
 * struct wsr_policy - a way to decide
 * @plan:	returns the number of actions; @actions has room for
 *		WSR_MAX_ACTIONS times @nr. @scratch has room for @nr entries of
 *		struct wsr_scratch
 *
 * Called again without new facts at the same time, a policy returns no
 * actions. (Unless memory went to a VM under pressure: that comes from the
 * buffer, and the others may then have to refill it.)
 */
struct wsr_scratch;
struct wsr_policy {
	const char *name;
	const char *summary;
	size_t (*plan)(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
		       const struct wsr_config *config, int64_t now_ms,
		       struct wsr_scratch *scratch, struct wsr_action *actions);
};

/* What a policy notes of a VM while it runs */
struct wsr_scratch {
	bool fixed;		/* nothing is to be decided */
	double weight_x;	/* of the shares: added to the common cut */
	double needed, floor, slo_floor, ceiling, desired;
	/* Refaults beyond the SLO, see missed() */
	double missed_rate, missed_ms, missed_most, oldest_ms;
	double kept_swap_backed;	/* that there is no swap space for */
	double must;		/* can't be taken, or not be less: in a deficit */
	double cap;		/* of its part by shares, in a deficit */
	double least, most;	/* what the cut by age stays between */
	double entitled;	/* all that its own word can get it */
	double need;		/* order of growth */
	size_t vm;
};

/** wsr_plan - share-weighted equal idle age; see plan.c */
size_t wsr_plan(struct wsr_host *host, struct wsr_vm *vms, size_t nr,
		const struct wsr_config *config, int64_t now_ms,
		struct wsr_scratch *scratch, struct wsr_action *actions);

/** wsr_policies - ours, and what others do, for comparison; ends with no name */
extern const struct wsr_policy wsr_policies[];

/** wsr_policy_find - by name, or NULL */
const struct wsr_policy *wsr_policy_find(const char *name);

const char *wsr_reason_name(enum wsr_reason reason);
const char *wsr_hold_name(enum wsr_hold hold);

#endif
