// SPDX-License-Identifier: GPL-2.0
/*
 * What is known of one VM: reports, pressure, defaults. No I/O.
 */
#include <math.h>
#include <string.h>

#include "policy.h"

#define MIB	(1024.0 * 1024)

/* Shares from one thousandth to a thousand times the default */
#define MIN_SHARES	0.001
#define MAX_SHARES	1000.0

/*
 * Measured refaults by predicted ones; streams have few, thrashing many. Even a
 * hundredth of a fast stream would be more than an SLO tolerates.
 */
#define MIN_ALPHA	0.001
#define MAX_ALPHA	1.5
#define ALPHA_WEIGHT	0.2

/* Pressure does not make pages be kept for longer than this. */
#define MAX_RAISED_MS	3600000.0

/*
 * Of the SLO's age, in x per ms: 5 % of the age a minute; and up to twice as old
 * in a minute while there are too many refaults
 */
#define PEAK_DECAY	(0.148 / 60000)
#define PEAK_RAISE	(2.0 / 60000)
/* Refaults are averaged over this time, and react before it is too late. */
#define REFAULT_MS	60000
#define REFAULT_STEP_MS	1000
#define REFAULT_PART	0.8	/* of what is tolerated */

/* Not more than this part of a VM is out of its kernel's sight. */
#define MAX_HIDDEN_PART	0.125

/* The sum of the parts may be off by this part of the total. */
#define SUM_ERROR	0.1

void wsr_config_init(struct wsr_config *config)
{
	*config = (struct wsr_config) {
		.buffer_part = 0.04,
		.headroom_part = 0.05,
		.min_age_ms = 10000,
		.active_age_ms = 20000,
		.wss_age_ms = 120000,
		.psi_limit = 0.01,
		.shrink_rate = 0.01,
		.gate_bytes = 16 * MIB,
		.gate_part = 0.005,
		.grow_block_ms = 10000,
		.shrink_block_ms = 100000,
		.grace_ms = 60000,
		.stale_ms = 60000,
		.up_ms = 5000,
		.down_ms = 10000,
		.pressure_bytes = 256 * MIB,
		.pressure_part = 0.2,
		.pressure_again_ms = 10000,
		.stall_rate = 15 * MIB,
		.stall_ms = 5000,
		.stall_retry_ms = 30000,
	};
}

void wsr_vm_config_init(struct wsr_vm_config *config)
{
	*config = (struct wsr_vm_config) {
		.shares = 1,
		.min_bytes = 128 * MIB,
		.slo = 0.002,
		.actuator = WSR_BALLOON,
		.trusted = true,
	};
}

static bool part(double value)
{
	return value >= 0 && value <= 1;
}

const char *wsr_config_check(const struct wsr_config *config)
{
	if (!part(config->buffer_part))
		return "the buffer must be a part from 0 to 1 of the host's memory";
	if (!part(config->headroom_part))
		return "the headroom must be a part from 0 to 1";
	if (!config->min_age_ms || !config->wss_age_ms)
		return "ages must be greater than 0";
	if (!part(config->psi_limit))
		return "the PSI limit must be a part from 0 to 1 of the time";
	if (!(config->shrink_rate > 0 && config->shrink_rate <= 1))
		return "the shrink rate must be greater than 0 and at most 1 per second";
	if (!part(config->gate_part) || !part(config->pressure_part))
		return "parts of a VM must be from 0 to 1";
	if (!config->up_ms || !config->down_ms)
		return "time constants must be greater than 0";
	if (!config->stall_ms || !config->stall_retry_ms)
		return "times for a stuck balloon must be greater than 0";
	return NULL;
}

const char *wsr_vm_config_check(const struct wsr_vm_config *config)
{
	if (!(config->shares >= MIN_SHARES && config->shares <= MAX_SHARES))
		return "shares must be from 0.001 to 1000";
	if (config->max_bytes && config->max_bytes < config->min_bytes)
		return "max must not be less than min";
	if (!(config->slo > 0 && config->slo <= 1))
		return "the SLO must be greater than 0 and at most 1 of the working set per minute";
	return NULL;
}

static void forget(struct wsr_vm *vm)
{
	vm->has_report = false;
	vm->warming_up = true;
	vm->first_report_ms = WSR_NEVER;
	vm->report_ms = WSR_NEVER;
	vm->fixed = 0;
	vm->hidden = 0;
	vm->seen_actual_bytes = 0;
	vm->free = 0;
	vm->swap_free = 0;
	vm->refaulted = 0;
	vm->refault_rate = 0;
	vm->refault_average = 0;
	vm->missed_rate = 0;
	vm->alpha = 1;
	vm->peak_x = 0;
	memset(&vm->curve, 0, sizeof(vm->curve));
	wsr_promotions_init(&vm->promotions);
}

void wsr_vm_init(struct wsr_vm *vm, const struct wsr_vm_config *config,
		 uint64_t size_bytes, uint64_t actual_bytes, int64_t now_ms)
{
	*vm = (struct wsr_vm) {
		.config = config,
		.size_bytes = size_bytes,
		.actual_bytes = actual_bytes,
		.psi = -1,
		.pressure_ms = WSR_NEVER,
		.pressure_before_ms = WSR_NEVER,
		.served_ms = WSR_NEVER,
		.target_bytes = actual_bytes,
		.high_bytes = UINT64_MAX,
		.grew_ms = WSR_NEVER,
		.shrank_ms = WSR_NEVER,
		.rate_ms = now_ms,
		.moved_ms = now_ms,
		.moved_bytes = actual_bytes,
	};
	forget(vm);
}

void wsr_vm_rebooted(struct wsr_vm *vm, int64_t now_ms)
{
	forget(vm);
	vm->pressure_ms = WSR_NEVER;
	vm->pressure_before_ms = WSR_NEVER;
	vm->served_ms = WSR_NEVER;
	vm->rate_ms = now_ms;
	/* A new driver: what the old one did is no reason to wait for long. */
	vm->stall = WSR_MOVES;
	vm->stall_wait_ms = 0;
	vm->moved_ms = now_ms;
	vm->moved_bytes = vm->actual_bytes;
}

uint64_t wsr_vm_ceiling(const struct wsr_vm *vm)
{
	uint64_t max_bytes = vm->config->max_bytes;

	return max_bytes && max_bytes < vm->size_bytes ? max_bytes :
							 vm->size_bytes;
}

void wsr_vm_pressure(struct wsr_vm *vm, int64_t now_ms)
{
	vm->pressure_before_ms = vm->pressure_ms;
	vm->pressure_ms = now_ms;
	vm->relief_bytes = 0;
	/* At its ceiling it is not our doing. */
	if (vm->target_bytes >= wsr_vm_ceiling(vm))
		return;
	/* Nothing that it uses was to go: the age of its pages is not the point. */
	if (vm->why.cut_x >= WSR_GRID_MAX_X)
		return;
	/* What it has is not enough: keep pages for twice as long, to some limit. */
	vm->peak_x = fmax(vm->peak_x, fmin(vm->why.cut_x + 2,
					   wsr_x_of_ms(MAX_RAISED_MS)));
}

static const char *check_report(const struct wsr_vm *vm,
				const struct report_node *node)
{
	double parts = (double)node->free_bytes + node->unevictable_bytes +
		       node->kernel_bytes;
	double total = node->total_bytes;

	if (node->nr_bins < 2 || node->nr_bins > REPORT_MAX_BINS)
		return "it has no bins, or too many";
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		const struct report_bin *bin = &node->bins[i];

		parts += (double)bin->swap_backed_bytes +
			 bin->file_backed_bytes;
		if (i && bin->idle_age_ms <= bin[-1].idle_age_ms)
			return "the bounds of its bins do not increase";
	}
	if (total > vm->size_bytes)
		return "it claims more memory than it was given";
	if (fabs(parts - total) > total * SUM_ERROR)
		return "its parts do not add up to its total";
	return NULL;
}

/* Part of a difference that is taken over after @elapsed_ms */
static double weight(int64_t elapsed_ms, uint32_t constant_ms)
{
	return 1 - exp(-(double)elapsed_ms / constant_ms);
}

/*
 * How many of the pages that are gone from above the cut come back? Only to be
 * seen where reclaim goes on: where there is almost no free memory.
 */
static void measure_refaults(struct wsr_vm *vm, const struct wsr_config *config,
			     const struct report_node *node, int64_t now_ms)
{
	double predicted = vm->why.refault_rate / vm->alpha;
	int64_t elapsed_ms = now_ms - vm->refaulted_ms;
	double measured, more, refaulted = 0;

	if (node->refaulted_bytes > vm->refaulted)
		refaulted = node->refaulted_bytes - vm->refaulted;
	/*
	 * A report that comes a few milliseconds after another one can be a call
	 * for help, but they make no rate.
	 */
	if (elapsed_ms < REFAULT_STEP_MS) {
		vm->refault_rate = fmax(vm->refault_rate, refaulted /
					(REFAULT_STEP_MS / 1000.0));
		return;
	}
	vm->refaulted_ms = now_ms;
	vm->refault_rate = refaulted / (elapsed_ms / 1000.0);
	vm->refaulted = node->refaulted_bytes;
	vm->refault_average += (vm->refault_rate - vm->refault_average) *
			       weight(elapsed_ms, REFAULT_MS);
	more = vm->refault_rate - vm->missed_rate;
	vm->missed_rate += more * weight(elapsed_ms, more > 0 ?
					 config->up_ms : config->down_ms);
	if (!(predicted > 0) || vm->why.cut_x >= WSR_GRID_MAX_X ||
	    node->free_bytes > node->total_bytes / 8)
		return;
	measured = vm->refault_rate / predicted;
	vm->alpha += (measured - vm->alpha) * ALPHA_WEIGHT;
	vm->alpha = fmin(fmax(vm->alpha, MIN_ALPHA), MAX_ALPHA);
}

double wsr_vm_working_set(const struct wsr_vm *vm,
			  const struct wsr_config *config)
{
	return vm->fixed +
	       wsr_curve_all_younger(&vm->curve,
				     wsr_x_of_ms(config->wss_age_ms));
}

/*
 * The age that its SLO asks for: above it, no more is promoted than is tolerated.
 * What is gone can't be seen to be promoted, but it refaults. An age that was
 * needed a moment ago is likely to be needed again.
 */
static void set_slo_age(struct wsr_vm *vm, const struct wsr_config *config,
			int64_t elapsed_ms)
{
	/* The SLO is per minute. */
	double limit = vm->config->slo * wsr_vm_working_set(vm, config) / 60;
	double x = wsr_promotions_x(&vm->promotions, limit / vm->alpha);

	if (fmin(vm->refault_average, vm->refault_rate) >
	    REFAULT_PART * limit && vm->why.cut_x < WSR_GRID_MAX_X)
		x = fmax(x, fmin(vm->peak_x + elapsed_ms * PEAK_RAISE,
				 vm->why.cut_x + 2));
	vm->peak_x = fmax(vm->peak_x - elapsed_ms * PEAK_DECAY, x);
}

/*
 * What the VM has, and its kernel's page allocator never had: firmware, the
 * kernel itself. To be seen while the balloon is where it was at the report
 * before.
 */
static void measure_hidden(struct wsr_vm *vm, double total)
{
	double hidden = vm->actual_bytes - total;

	if (vm->config->actuator == WSR_BALLOON &&
	    (vm->actual_bytes == vm->seen_actual_bytes || !vm->has_report))
		vm->hidden = fmin(fmax(hidden, 0),
				  MAX_HIDDEN_PART * vm->size_bytes);
	vm->seen_actual_bytes = vm->actual_bytes;
}

const char *wsr_vm_report(struct wsr_vm *vm, const struct wsr_config *config,
			  const struct report_node *node, int64_t now_ms)
{
	const char *wrong = check_report(vm, node);
	struct wsr_curve latest;
	int64_t elapsed_ms = 0;
	double balloon;

	if (wrong)
		return wrong;
	if (vm->has_report && now_ms < vm->report_ms)
		return "it is older than the one before";

	wsr_curve_from_report(&latest, node);
	wsr_promotions_report(&vm->promotions, node, now_ms);
	if (vm->has_report) {
		elapsed_ms = now_ms - vm->report_ms;
		measure_refaults(vm, config, node, now_ms);
		wsr_curve_smooth(&vm->curve, &latest,
				 weight(elapsed_ms, config->up_ms),
				 weight(elapsed_ms, config->down_ms));
	} else {
		vm->curve = latest;
		vm->first_report_ms = now_ms;
		vm->refaulted = node->refaulted_bytes;
		vm->refaulted_ms = now_ms;
	}
	balloon = 0;
	if (vm->deflate_on_oom && vm->size_bytes > vm->actual_bytes)
		balloon = fmin(vm->size_bytes - vm->actual_bytes,
			       node->kernel_bytes);
	measure_hidden(vm, node->total_bytes - balloon);
	vm->has_report = true;
	vm->warming_up = node->warming_up;
	vm->report_ms = now_ms;
	vm->fixed = node->unevictable_bytes + node->kernel_bytes - balloon +
		    vm->hidden;
	vm->free = node->free_bytes;
	vm->swap_free = node->swap_free_bytes;
	set_slo_age(vm, config, elapsed_ms);
	return NULL;
}
