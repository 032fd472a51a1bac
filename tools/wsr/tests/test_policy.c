// SPDX-License-Identifier: GPL-2.0
/*
 * What holds for curves and plans whatever the facts are: random facts, and the
 * properties that a user relies on.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "policy.h"
#include "random.h"

#define MIB	(1024.0 * 1024)
#define GIB	(1024 * MIB)
#define MAX_VMS	12

static uint64_t seed;

/* Which random case it was, for whoever has to find out */
static uint64_t current_case;

#define check(condition) \
	do { \
		if (!(condition)) \
			fail_msg("case %llu: %s", \
				 (unsigned long long)current_case, \
				 #condition); \
	} while (0)

static void start_case(struct random *random, uint64_t number)
{
	current_case = number;
	random_seed(random, seed ^ (number << 20));
}

/* From @low to @high, all orders of magnitude alike */
static double log_between(struct random *random, double low, double high)
{
	return low * pow(high / low, random_part(random));
}

static double between(struct random *random, double low, double high)
{
	return low + (high - low) * random_part(random);
}

/* --- reports and curves --------------------------------------------------- */

static void make_bins(struct random *random, struct report_node *node,
		      double bytes)
{
	double weight[REPORT_MAX_BINS][WSR_NR_KINDS], sum = 0;
	double bound_ms = log_between(random, 100, 20000);

	node->nr_bins = 2 + random_below(random, REPORT_MAX_BINS - 1);
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
			weight[i][kind] = random_chance(random, 0.2) ? 0 :
					  log_between(random, 0.001, 1);
			sum += weight[i][kind];
		}
	}
	if (!sum) {
		weight[0][0] = 1;
		sum = 1;
	}
	node->lru_bytes = 0;
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		struct report_bin *bin = &node->bins[i];
		double scale = bytes / sum;

		bin->idle_age_ms = i == node->nr_bins - 1 ? REPORT_OPEN_BIN :
							    bound_ms;
		bound_ms = fmin(bound_ms * log_between(random, 1.2, 6) + 1,
				4e9 + i);
		bin->swap_backed_bytes = weight[i][WSR_SWAP_BACKED] * scale;
		bin->file_backed_bytes = weight[i][WSR_FILE_BACKED] * scale;
		node->lru_bytes += bin->swap_backed_bytes +
				   bin->file_backed_bytes;
	}
}

/* A report that is as it should be */
static void make_report(struct random *random, struct report_node *node,
			double total)
{
	double kernel = between(random, 0.01, 0.2) * total;
	double unevictable = random_chance(random, 0.3) ?
			     between(random, 0, 0.1) * total : 0;
	double lru = between(random, 0, 1) * (total - kernel - unevictable);

	*node = (struct report_node) {
		.node_id = REPORT_ALL_NODES,
		.warming_up = random_chance(random, 0.05),
		.total_bytes = total,
		.kernel_bytes = kernel,
		.unevictable_bytes = unevictable,
		.free_bytes = total - kernel - unevictable - lru,
		.swap_free_bytes = random_chance(random, 0.3) ? 0 :
				   between(random, 0, 2) * total,
		.refaulted_bytes = random_below(random, 1 << 30),
	};
	make_bins(random, node, lru);
}

static void check_curve(const struct wsr_curve *curve)
{
	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		double before = 0;

		for (int x = 0; x < WSR_GRID_POINTS; x++) {
			check(curve->younger[kind][x] >= before);
			before = curve->younger[kind][x];
		}
		check(curve->total[kind] >= before);
	}
}

static void test_curve_keeps_all_memory(void **state)
{
	struct report_node node;
	struct wsr_curve curve;
	struct random random;

	(void)state;
	for (int i = 0; i < 5000; i++) {
		double younger = 0, lru;

		start_case(&random, i);
		make_report(&random, &node, log_between(&random, MIB, 64 * GIB));
		wsr_curve_from_report(&curve, &node);
		check_curve(&curve);
		lru = node.lru_bytes;
		check(fabs(curve.total[0] + curve.total[1] - lru) <= 1);
		/* All is younger than any age there is. */
		check(wsr_curve_all_younger(&curve, 2.0 * WSR_GRID_MAX_X) ==
		      curve.total[0] + curve.total[1]);
		check(wsr_curve_all_younger(&curve, wsr_x_of_ms(0)) <=
		      lru / 1e5);
		/* At a bound, exactly the bins before it; cells blur at most. */
		for (unsigned int b = 0; b + 1 < node.nr_bins; b++) {
			double x = wsr_x_of_ms(node.bins[b].idle_age_ms);

			younger += node.bins[b].swap_backed_bytes +
				   node.bins[b].file_backed_bytes;
			if (x < 0 || x > WSR_GRID_MAX_X)
				continue;
			check(wsr_curve_all_younger(&curve, floor(x)) <=
			      younger + 1);
			check(wsr_curve_all_younger(&curve, ceil(x)) >=
			      younger - 1);
		}
	}
}

static void test_curve_bound_on_the_grid_is_exact(void **state)
{
	struct report_node node = {
		.nr_bins = 3,
		.lru_bytes = 1100,
		.bins = {
			{ .idle_age_ms = 4000, .swap_backed_bytes = 100 },
			{ .idle_age_ms = 64000, .file_backed_bytes = 400 },
			{ .idle_age_ms = REPORT_OPEN_BIN,
			  .swap_backed_bytes = 600 },
		},
	};
	struct wsr_curve curve;

	(void)state;
	wsr_curve_from_report(&curve, &node);
	assert_float_equal(wsr_x_of_ms(4000), 4, 1e-9);
	assert_float_equal(wsr_ms_of_x(12), 64000, 1e-6);
	assert_float_equal(wsr_curve_all_younger(&curve, 4), 100, 1e-6);
	assert_float_equal(wsr_curve_all_younger(&curve, 12), 500, 1e-6);
	assert_float_equal(wsr_curve_younger(&curve, WSR_FILE_BACKED, 8), 200,
			   1e-6);
	/* Evenly over time in the first bin: a quarter of it in 1 s */
	assert_float_equal(wsr_curve_all_younger(&curve, 0), 25, 1e-6);
	assert_float_equal(wsr_curve_all_younger(&curve, -2), 12.5, 1e-6);
}

static void test_smoothing_keeps_a_curve(void **state)
{
	struct wsr_curve curve, latest, before;
	struct report_node node;
	struct random random;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		double up, down;

		start_case(&random, i);
		make_report(&random, &node, log_between(&random, GIB, 8 * GIB));
		wsr_curve_from_report(&curve, &node);
		make_report(&random, &node, log_between(&random, GIB, 8 * GIB));
		wsr_curve_from_report(&latest, &node);
		up = random_part(&random);
		down = random_part(&random);
		before = curve;
		wsr_curve_smooth(&curve, &latest, up, down);
		check_curve(&curve);
		for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
			for (int x = 0; x < WSR_GRID_POINTS; x++) {
				double a = before.younger[kind][x];
				double b = latest.younger[kind][x];
				double new = curve.younger[kind][x];
				double part = b > a ? up : down;
				double all = latest.total[kind];

				check(fabs(new - fmin(a + (b - a) * part, all))
				      <= 1e-6 * (a + b));
			}
		}
		wsr_curve_smooth(&curve, &latest, 1, 1);
		for (int x = 0; x < WSR_GRID_POINTS; x++)
			check(fabs(wsr_curve_all_younger(&curve, x) -
				   wsr_curve_all_younger(&latest, x)) < 1);
	}
}

static void test_recentred_bounds(void **state)
{
	struct random random;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint32_t bounds[REPORT_MAX_BINS], first[REPORT_MAX_BINS];
		unsigned int nr, close = 0;
		double cut_x, keep_x;
		bool known = false;

		start_case(&random, i);
		nr = 1 + i % (REPORT_MAX_BINS - 1);
		cut_x = between(&random, -50, 120);
		keep_x = random_chance(&random, 0.3) ? cut_x :
			 between(&random, -50, 120);
		wsr_first_bounds(first, nr);
		memcpy(bounds, first, sizeof(bounds));
		for (unsigned int b = 0; b < nr; b++) {
			check(first[b] >= (b ? first[b - 1] + 1 : 4000));
			check(first[b] <= 16384000);
			known |= fabs(wsr_x_of_ms(first[b]) - cut_x) < 0.9;
		}
		check(wsr_recentre(bounds, nr, cut_x, keep_x) == !known);
		if (known) {
			check(!memcmp(bounds, first, nr * sizeof(*first)));
			continue;
		}
		check(bounds[0] >= 100);
		for (unsigned int b = 1; b < nr; b++)
			check(bounds[b] > bounds[b - 1]);
		/* Half of them are where it matters. */
		cut_x = fmin(fmax(cut_x, 2), WSR_GRID_MAX_X - 2);
		for (unsigned int b = 0; b < nr; b++)
			close += fabs(wsr_x_of_ms(bounds[b]) - cut_x) <=
				 nr / 2 + 0.1;
		check(close >= nr / 2);
	}
}

/* --- what is believed ----------------------------------------------------- */

static void test_nonsense_is_refused(void **state)
{
	struct wsr_config config;
	struct wsr_vm_config vm_config;
	struct report_node good, bad;
	struct wsr_vm vm, before;
	struct random random;

	(void)state;
	wsr_config_init(&config);
	wsr_vm_config_init(&vm_config);
	assert_null(wsr_config_check(&config));
	assert_null(wsr_vm_config_check(&vm_config));
	for (int i = 0; i < 1000; i++) {
		start_case(&random, i);
		wsr_vm_init(&vm, &vm_config, 4 * GIB, 4 * GIB, 0);
		make_report(&random, &good, 3.9 * GIB);
		check(!wsr_vm_report(&vm, &config, &good, 1000));
		before = vm;

		bad = good;
		bad.kernel_bytes += 0.11 * bad.total_bytes;
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		/* Bins count, not the sum that came with them. */
		bad = good;
		bad.bins[0].swap_backed_bytes += 0.11 * bad.total_bytes;
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		bad.bins[0].swap_backed_bytes = UINT64_MAX;
		bad.bins[0].file_backed_bytes = UINT64_MAX;
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		/* More than it was given */
		make_report(&random, &bad, 4.1 * GIB);
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		bad = good;
		bad.nr_bins = 1;
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		bad = good;
		bad.nr_bins = REPORT_MAX_BINS + 1;
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		bad = good;
		bad.bins[1].idle_age_ms = bad.bins[0].idle_age_ms;
		check(wsr_vm_report(&vm, &config, &bad, 2000));
		/* The past */
		check(wsr_vm_report(&vm, &config, &good, 999));
		check(!memcmp(&vm, &before, sizeof(vm)));
		check(!wsr_vm_report(&vm, &config, &good, 2000));
	}
}

/* A VM as configured by default, and a report of it */
struct one {
	struct wsr_config config;
	struct wsr_vm_config vm_config;
	struct wsr_vm vm;
	struct report_node node;
};

static void start_one(struct one *one, double size, double actual,
		      double reported)
{
	struct random random;

	wsr_config_init(&one->config);
	wsr_vm_config_init(&one->vm_config);
	wsr_vm_init(&one->vm, &one->vm_config, size, actual, 0);
	random_seed(&random, seed);
	make_report(&random, &one->node, reported);
}

static void send_report(struct one *one, int64_t now_ms)
{
	assert_null(wsr_vm_report(&one->vm, &one->config, &one->node, now_ms));
}

/* What it reports that no reclaim can take */
static uint64_t fixed(const struct one *one)
{
	return one->node.kernel_bytes + one->node.unevictable_bytes;
}

static void test_balloon_is_not_the_kernels(void **state)
{
	struct one one;

	(void)state;
	start_one(&one, 4 * GIB, GIB, GIB);
	send_report(&one, 0);
	assert_int_equal(one.vm.fixed, fixed(&one));

	/* With deflate-on-oom the same guest has 3 GiB more of both. */
	one.node.total_bytes += 3 * GIB;
	one.node.kernel_bytes += 3 * GIB;
	one.vm.deflate_on_oom = true;
	send_report(&one, 0);
	assert_int_equal(one.vm.fixed, fixed(&one) - (uint64_t)(3 * GIB));
	/* What it claims may be less than the balloon. */
	one.vm.actual_bytes = 0;
	send_report(&one, 0);
	assert_int_equal(one.vm.fixed, one.node.unevictable_bytes);
}

/* Firmware and the kernel itself: what its page allocator never had is used. */
static void test_hidden_memory_is_used(void **state)
{
	struct one one;

	(void)state;
	start_one(&one, GIB, GIB, GIB - 16 * MIB);
	send_report(&one, 1000);
	assert_int_equal(one.vm.fixed - fixed(&one),
			 GIB - one.node.total_bytes);
	/* A balloon that moved since the report says nothing of that. */
	one.vm.actual_bytes -= 100 * MIB;
	send_report(&one, 2000);
	assert_int_equal(one.vm.fixed - fixed(&one),
			 GIB - one.node.total_bytes);
}

/* A busy loop reads two of them in the same millisecond. */
static void test_reports_at_once(void **state)
{
	struct one one;

	(void)state;
	start_one(&one, 4 * GIB, GIB, GIB);
	one.node.refaulted_bytes = 0;
	send_report(&one, 1000);
	send_report(&one, 2000);
	assert_true(one.vm.refault_rate == 0);
	one.node.refaulted_bytes = GIB;
	send_report(&one, 2000);
	assert_true(one.vm.refault_rate >= GIB);
	/* Another one with the same does not take that back. */
	send_report(&one, 2000);
	assert_true(one.vm.refault_rate >= GIB);
	send_report(&one, 3000);
	send_report(&one, 4000);
	assert_true(one.vm.refault_rate == 0);
}

/* --- plans ---------------------------------------------------------------- */

struct fleet {
	struct wsr_config config;
	struct wsr_host host;
	size_t nr;
	struct wsr_vm_config vm_configs[MAX_VMS];
	struct wsr_vm vms[MAX_VMS];
	struct wsr_scratch scratch[MAX_VMS];
	struct wsr_action actions[MAX_VMS * WSR_MAX_ACTIONS];
	size_t nr_actions;
};

static void plan(struct fleet *fleet, int64_t now_ms)
{
	fleet->nr_actions = wsr_plan(&fleet->host, fleet->vms, fleet->nr,
				     &fleet->config, now_ms, fleet->scratch,
				     fleet->actions);
	check(fleet->nr_actions <= fleet->nr * WSR_MAX_ACTIONS);
}

static void copy_fleet(struct fleet *to, const struct fleet *from)
{
	*to = *from;
	for (size_t i = 0; i < to->nr; i++)
		to->vms[i].config = &to->vm_configs[i];
}

static void make_vm_config(struct random *random, struct wsr_vm_config *config,
			   double size)
{
	wsr_vm_config_init(config);
	config->shares = log_between(random, 0.125, 8);
	config->min_bytes = between(random, 0, 0.5) * size;
	if (random_chance(random, 0.3))
		config->max_bytes = between(random, 0.5, 1.1) * size;
	config->slo = random_chance(random, 0.5) ? 1 :
		      log_between(random, 0.001, 1);
	config->actuator = random_chance(random, 0.7) ? WSR_BALLOON :
			   random_below(random, 3);
	config->hands_off = random_chance(random, 0.05);
	check(!wsr_vm_config_check(config));
}

static void report_vm(struct random *random, struct fleet *fleet, size_t i,
		      int64_t now_ms)
{
	struct wsr_vm *vm = &fleet->vms[i];
	struct report_node node;

	make_report(random, &node,
		    vm->actual_bytes * between(random, 0.95, 1));
	check(!wsr_vm_report(vm, &fleet->config, &node, now_ms));
}

static void make_fleet(struct random *random, struct fleet *fleet,
		       int64_t now_ms)
{
	double sizes = 0;

	memset(fleet, 0, sizeof(*fleet));
	wsr_config_init(&fleet->config);
	fleet->config.buffer_part = random_chance(random, 0.2) ? 0 : 0.04;
	if (random_chance(random, 0.2))
		fleet->config.buffer_bytes = GIB;
	fleet->nr = 1 + random_below(random, MAX_VMS);
	for (size_t i = 0; i < fleet->nr; i++) {
		struct wsr_vm *vm = &fleet->vms[i];
		double size = log_between(random, GIB / 4, 64 * GIB);
		double actual = random_chance(random, 0.3) ? size :
				size * between(random, 0.3, 1);

		make_vm_config(random, &fleet->vm_configs[i], size);
		wsr_vm_init(vm, &fleet->vm_configs[i], size, actual, now_ms);
		vm->has_cgroup = random_chance(random, 0.3);
		vm->psi = random_chance(random, 0.8) ? 0 : -1;
		sizes += size;
	}
	fleet->host.total_bytes = sizes * between(random, 0.3, 1.3);
	fleet->host.other_bytes = fleet->host.total_bytes *
				  between(random, 0, 0.2);
	if (random_chance(random, 0.2))
		fleet->host.reserved_bytes = fleet->host.total_bytes / 10;
	if (random_chance(random, 0.4))
		fleet->host.swap_bytes = sizes * between(random, 0, 0.5);
}

/* All have reported, some time after they were first seen. */
static void make_known_fleet(struct random *random, struct fleet *fleet,
			     int64_t now_ms)
{
	make_fleet(random, fleet, now_ms - 1000000);
	for (size_t i = 0; i < fleet->nr; i++) {
		report_vm(random, fleet, i, now_ms - 900000);
		report_vm(random, fleet, i, now_ms);
	}
}

/* What can happen to one VM in a second */
static void disturb_vm(struct random *random, struct fleet *fleet, size_t i,
		       int64_t now_ms)
{
	struct wsr_vm *vm = &fleet->vms[i];
	bool balloon = vm->config->actuator == WSR_BALLOON;
	double target = balloon ? vm->target_bytes :
			vm->size_bytes * between(random, 0.3, 1);

	/* A fifth never moves, the others do by parts. */
	if (i % 5 && random_chance(random, balloon ? 0.8 : 0.1))
		vm->actual_bytes += (target - vm->actual_bytes) *
				    (random_chance(random, 0.5) ? 1 :
				     random_part(random));
	if (fleet->host.swap_bytes && random_chance(random, 0.1))
		vm->swapped_bytes = random_chance(random, 0.5) ? 0 :
			fleet->host.swap_bytes / fleet->nr *
			between(random, 0, 1.2);
	/* Some fall silent. */
	if (random_chance(random, 0.2) && (now_ms / 200000 + i) % 4)
		report_vm(random, fleet, i, now_ms);
	if (random_chance(random, 0.01))
		wsr_vm_pressure(vm, now_ms);
	if (random_chance(random, 0.05))
		vm->psi = between(random, -0.01, 0.02);
	if (random_chance(random, 0.01))
		vm->migrating = !vm->migrating;
	if (random_chance(random, 0.002)) {
		vm->actual_bytes = vm->size_bytes;
		wsr_vm_rebooted(vm, now_ms);
	}
}

static void disturb(struct random *random, struct fleet *fleet, int64_t now_ms)
{
	for (size_t i = 0; i < fleet->nr; i++)
		disturb_vm(random, fleet, i, now_ms);
	if (random_chance(random, 0.02))
		fleet->host.other_bytes = fleet->host.total_bytes *
					  between(random, 0, 0.4);
	fleet->host.pressed = random_chance(random, 0.05);
}

static double committed(const struct wsr_vm *vm)
{
	return vm->config->actuator != WSR_REQUEST && !vm->config->hands_off ?
	       fmax(vm->actual_bytes, vm->target_bytes) : vm->actual_bytes;
}

static double lowest(const struct wsr_vm *vm)
{
	return fmin(vm->config->min_bytes, wsr_vm_ceiling(vm));
}

static double sum_committed(const struct fleet *fleet)
{
	double sum = 0;

	for (size_t i = 0; i < fleet->nr; i++)
		sum += committed(&fleet->vms[i]);
	return sum;
}

static bool stale(const struct fleet *fleet, const struct wsr_vm *vm,
		  int64_t now_ms)
{
	return !vm->has_report ||
	       now_ms - vm->report_ms >= fleet->config.stale_ms;
}

static bool recent(int64_t since_ms, uint32_t within_ms, int64_t now_ms)
{
	return since_ms != WSR_NEVER && now_ms - since_ms < within_ms;
}

/* What VMs may have beside memory: reclaim of containers takes a part of it. */
static double swap_for_vms(const struct fleet *fleet)
{
	double left = fleet->host.swap_bytes;

	for (size_t i = 0; i < fleet->nr; i++) {
		if (fleet->vms[i].config->actuator == WSR_CGROUP)
			left -= fleet->vms[i].swapped_bytes;
	}
	return fmax(left, 0);
}

/* Nothing is given that is not there. */
static void check_budget(const struct fleet *fleet, const struct fleet *before)
{
	double capacity = fleet->host.capacity_bytes + swap_for_vms(fleet);
	double was = sum_committed(before), is = sum_committed(fleet);
	bool relieved = false;

	for (size_t i = 0; i < fleet->nr; i++)
		relieved |= fleet->vms[i].why.reason == WSR_PRESSURE ||
			    before->vms[i].target_bytes <
			    lowest(&before->vms[i]);
	if (relieved)
		capacity += fleet->host.buffer_bytes;
	check(is <= fmax(was, capacity) + fleet->nr);
	check(fleet->host.used_bytes <= is + fleet->nr);
	check((double)fleet->host.capacity_bytes + fleet->host.buffer_bytes +
	      fleet->host.other_bytes + fleet->host.reserved_bytes <=
	      fmax(fleet->host.total_bytes, fleet->host.buffer_bytes +
		   fleet->host.other_bytes + fleet->host.reserved_bytes) + 1);
}

static void check_shrink(const struct fleet *fleet, const struct fleet *before,
			 size_t i, int64_t now_ms)
{
	const struct wsr_vm *vm = &fleet->vms[i], *old = &before->vms[i];
	const struct wsr_host *host = &fleet->host;
	double from = vm->config->actuator == WSR_BALLOON ? old->target_bytes :
							    old->actual_bytes;
	double seconds = fmin(now_ms - old->rate_ms, 10000) / 1000.0;
	bool host_swaps = host->pressed && sum_committed(before) >
			  (double)host->capacity_bytes + host->buffer_bytes;

	check(!stale(fleet, vm, now_ms));
	check(vm->psi <= fleet->config.psi_limit || host_swaps);
	/* Its own word does not get it more than its part, nor than its max. */
	check(!recent(vm->pressure_ms, host->waits ?
		      fleet->config.grow_block_ms :
		      fleet->config.shrink_block_ms, now_ms) ||
	      host->deficit_bytes > 0 || from > wsr_vm_ceiling(vm));
	check(!recent(old->grew_ms, fleet->config.shrink_block_ms, now_ms) ||
	      host->pressed || host->waits);
	check(vm->target_bytes >= floor(lowest(vm)));
	check(vm->target_bytes >= vm->why.desired - 1);
	check(from - vm->target_bytes <=
	      5 * fleet->config.shrink_rate * vm->size_bytes * seconds + 1);
}

static void check_action(const struct fleet *fleet, const struct fleet *before,
			 const struct wsr_action *action, int64_t now_ms)
{
	const struct wsr_vm *vm = &fleet->vms[action->vm];
	const struct wsr_vm *old = &before->vms[action->vm];
	double max = wsr_vm_ceiling(vm);

	check(!vm->config->hands_off);
	check(!vm->migrating);
	switch (action->kind) {
	case WSR_SET_BALLOON:
		check(vm->config->actuator == WSR_BALLOON);
		/* One that is stuck may get relief in the same call. */
		check(action->bytes == vm->target_bytes ||
		      action->reason == WSR_STUCK);
		check(action->bytes != old->target_bytes);
		if (action->bytes < old->target_bytes) {
			check(!action->grows);
			check_shrink(fleet, before, action->vm, now_ms);
			break;
		}
		check(action->bytes <= fmax(max, vm->actual_bytes));
		/* Growing gives what it should have, in need a bit more. */
		check(action->reason == WSR_PRESSURE ||
		      action->reason == WSR_STUCK ||
		      action->bytes <= fmax(fmax(vm->why.desired, lowest(vm)),
					    vm->actual_bytes));
		check(!recent(old->shrank_ms, fleet->config.grow_block_ms,
			      now_ms) ||
		      old->target_bytes < lowest(vm) ||
		      action->reason == WSR_PRESSURE ||
		      action->reason == WSR_STUCK);
		break;
	case WSR_RECLAIM_CGROUP:
		check(vm->config->actuator == WSR_CGROUP || vm->has_cgroup);
		check(action->bytes > 0);
		check(vm->psi <= fleet->config.psi_limit || fleet->host.pressed);
		check(!stale(fleet, vm, now_ms));
		if (vm->config->actuator == WSR_CGROUP)
			check_shrink(fleet, before, action->vm, now_ms);
		break;
	case WSR_RECLAIM_GUEST:
		check(vm->config->actuator == WSR_REQUEST);
		check(action->age_ms >= fleet->config.min_age_ms);
		check(action->bytes > 0);
		check_shrink(fleet, before, action->vm, now_ms);
		break;
	case WSR_SET_HIGH:
		check(vm->config->actuator == WSR_CGROUP || vm->has_cgroup);
		check(action->bytes > vm->target_bytes || !action->grows);
		/* A limit below what it has would stall it. */
		check(action->bytes >= vm->actual_bytes || action->grows);
		check(vm->psi <= fleet->config.psi_limit || action->grows);
		check(action->bytes == vm->high_bytes || !action->grows);
		break;
	}
}

static void check_why(const struct fleet *fleet, size_t i)
{
	const struct wsr_vm *vm = &fleet->vms[i];
	const struct wsr_why *why = &vm->why;

	check(why->reason != WSR_NO_REASON);
	check(vm->high_bytes > vm->target_bytes || vm->migrating);
	check(*wsr_reason_name(why->reason) && *wsr_hold_name(why->hold));
	if (why->reason < WSR_ENOUGH)
		return;
	check(why->desired <= why->ceiling);
	check(why->floor <= why->slo_floor);
	check(why->desired >= why->slo_floor || why->reason == WSR_DEFICIT);
	check(why->desired >= lowest(vm));
	check(why->refault_rate >= 0);
}

/* The same again at the same time must change nothing. */
static void check_idempotent(const struct fleet *fleet, int64_t now_ms)
{
	struct fleet again;

	for (size_t i = 0; i < fleet->nr; i++) {
		const struct wsr_vm *vm = &fleet->vms[i];

		/*
		 * Relief comes from the buffer, and growth from what the host
		 * may swap. Others may then have to shrink for it.
		 */
		if (vm->grew_ms == now_ms &&
		    (vm->why.reason == WSR_PRESSURE || fleet->host.swap_bytes))
			return;
	}
	copy_fleet(&again, fleet);
	plan(&again, now_ms);
	if (again.nr_actions)
		print_message("# %zu: %d of %zu, %s\n", again.actions[0].vm,
			      again.actions[0].kind, again.nr_actions,
			      wsr_reason_name(again.actions[0].reason));
	check(!again.nr_actions);
}

static void check_plan(const struct fleet *fleet, const struct fleet *before,
		       int64_t now_ms)
{
	bool grows = false;

	check_budget(fleet, before);
	for (size_t i = 0; i < fleet->nr_actions; i++) {
		check(fleet->actions[i].vm < fleet->nr);
		check(!grows || fleet->actions[i].grows);
		grows = fleet->actions[i].grows;
		check_action(fleet, before, &fleet->actions[i], now_ms);
	}
	for (size_t i = 0; i < fleet->nr; i++)
		check_why(fleet, i);
	check_idempotent(fleet, now_ms);
}

static void test_invariants_of_plans(void **state)
{
	static unsigned int kinds[WSR_SET_HIGH + 1], reasons[WSR_NR_REASONS];
	static unsigned int holds[WSR_NR_HOLDS];
	struct fleet fleet, before;
	struct random random;

	(void)state;
	for (int i = 0; i < 300; i++) {
		int64_t now_ms = 5000000;

		start_case(&random, i);
		make_fleet(&random, &fleet, now_ms);
		for (int step = 0; step < 1000; step++) {
			now_ms += random_chance(&random, 0.01) ? 30000 : 1000;
			disturb(&random, &fleet, now_ms);
			copy_fleet(&before, &fleet);
			plan(&fleet, now_ms);
			check_plan(&fleet, &before, now_ms);
			for (size_t a = 0; a < fleet.nr_actions; a++)
				kinds[fleet.actions[a].kind]++;
			for (size_t v = 0; v < fleet.nr; v++) {
				reasons[fleet.vms[v].why.reason]++;
				holds[fleet.vms[v].why.hold]++;
			}
		}
	}
	/* What never happened was not tested. */
	for (int i = 0; i <= WSR_SET_HIGH; i++)
		assert_true(kinds[i] > 100);
	for (int i = WSR_HANDS_OFF; i < WSR_NR_REASONS; i++) {
		if (!reasons[i])
			fail_msg("no plan was made because of %s",
				 wsr_reason_name(i));
	}
	for (int i = 0; i < WSR_NR_HOLDS; i++) {
		if (!holds[i])
			fail_msg("nothing was held because of %s",
				 wsr_hold_name(i));
	}
}

static void shuffle(struct random *random, size_t *order, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		order[i] = i;
	for (size_t i = nr; i > 1; i--) {
		size_t other = random_below(random, i), swap = order[i - 1];

		order[i - 1] = order[other];
		order[other] = swap;
	}
}

/* The order in which VMs are listed must not matter. */
static void test_order_does_not_matter(void **state)
{
	struct fleet fleet, shuffled;
	struct random random;
	size_t order[MAX_VMS];

	(void)state;
	for (int i = 0; i < 500; i++) {
		int64_t now_ms = 5000000;

		start_case(&random, i);
		make_known_fleet(&random, &fleet, now_ms);
		for (int step = 0; step < 20; step++) {
			now_ms += 1000;
			disturb(&random, &fleet, now_ms);
			copy_fleet(&shuffled, &fleet);
			shuffle(&random, order, fleet.nr);
			for (size_t v = 0; v < fleet.nr; v++) {
				shuffled.vms[v] = fleet.vms[order[v]];
				shuffled.vms[v].config =
					&fleet.vm_configs[order[v]];
			}
			plan(&fleet, now_ms);
			plan(&shuffled, now_ms);
			check(fleet.nr_actions == shuffled.nr_actions);
			for (size_t v = 0; v < fleet.nr; v++)
				check(fabs((double)shuffled.vms[v].target_bytes -
					   fleet.vms[order[v]].target_bytes)
				      < MIB);
		}
	}
}

static void test_more_shares_never_harm(void **state)
{
	struct fleet fleet, more;
	struct random random;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		size_t lucky;

		start_case(&random, i);
		make_known_fleet(&random, &fleet, 5000000);
		lucky = random_below(&random, fleet.nr);
		copy_fleet(&more, &fleet);
		more.vm_configs[lucky].shares *= between(&random, 1, 8);
		plan(&fleet, 5000000);
		plan(&more, 5000000);
		for (size_t v = 0; v < fleet.nr; v++) {
			double with = more.vms[v].why.desired;
			double without = fleet.vms[v].why.desired;

			check(v == lucky ? with >= without - MIB :
					   with <= without + MIB);
		}
	}
}

/* No more is counted on than may be used, whatever is in swap space already. */
static void test_swap_is_a_limit(void **state)
{
	struct random random;
	struct fleet fleet;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		double sum = 0, least = 0, left;
		size_t fixed = 0;

		start_case(&random, i);
		make_known_fleet(&random, &fleet, 5000000);
		fleet.host.swap_bytes = fleet.host.total_bytes *
					between(&random, 0, 0.6);
		for (size_t v = 0; v < fleet.nr; v++) {
			struct wsr_vm *vm = &fleet.vms[v];

			fleet.vm_configs[v].trusted =
				random_chance(&random, 0.7);
			if (random_chance(&random, 0.5))
				vm->swapped_bytes = vm->actual_bytes *
						    between(&random, 0, 0.6);
		}
		plan(&fleet, 5000000);
		left = swap_for_vms(&fleet);
		for (size_t v = 0; v < fleet.nr; v++) {
			const struct wsr_vm *vm = &fleet.vms[v];
			const struct wsr_why *why = &vm->why;

			sum += why->desired;
			least += why->reason < WSR_ENOUGH ? why->desired :
							    lowest(vm);
			if (why->reason >= WSR_ENOUGH)
				continue;
			fixed++;
			left -= vm->swapped_bytes;
		}
		/* If the SLOs just fit, there is a common age as well. */
		check(fixed == fleet.nr || fleet.host.deficit_bytes > left ||
		      fleet.host.cut_x >= -24);
		check(sum <= fmax(fleet.host.capacity_bytes +
				  swap_for_vms(&fleet), least) + MIB);
		check(fleet.host.used_swap_bytes <= swap_for_vms(&fleet) + 1);
	}
}

/* Guests that do as they are told get what was decided, and then it is quiet. */
static void test_fixed_point(void **state)
{
	struct random random;
	struct fleet fleet;

	(void)state;
	for (int i = 0; i < 200; i++) {
		int64_t now_ms = 5000000, quiet_ms = now_ms;
		double mins = 0;
		bool mins_fit;

		start_case(&random, i);
		make_known_fleet(&random, &fleet, now_ms);
		fleet.config.stale_ms = UINT32_MAX;
		for (size_t v = 0; v < fleet.nr; v++) {
			fleet.vm_configs[v].hands_off = false;
			mins += lowest(&fleet.vms[v]);
		}
		for (int step = 0; step < 1000; step++) {
			now_ms += 1000;
			plan(&fleet, now_ms);
			if (fleet.nr_actions)
				quiet_ms = now_ms;
			for (size_t v = 0; v < fleet.nr; v++)
				fleet.vms[v].actual_bytes =
					fleet.vms[v].target_bytes;
		}
		check(now_ms - quiet_ms > 500000);
		mins_fit = mins <= fleet.host.capacity_bytes;
		for (size_t v = 0; v < fleet.nr; v++) {
			const struct wsr_vm *vm = &fleet.vms[v];
			double gate = fmax(fmin(fleet.config.gate_bytes,
						0.02 * vm->size_bytes),
					   fleet.config.gate_part *
					   vm->size_bytes);

			check(fabs((double)vm->target_bytes - vm->why.desired) <
			      gate || vm->why.hold == WSR_HOLD_NO_FREE);
			check(vm->target_bytes <= wsr_vm_ceiling(vm));
			check(vm->target_bytes >= lowest(vm) || !mins_fit ||
			      !fleet.host.buffer_bytes);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_curve_keeps_all_memory),
		cmocka_unit_test(test_curve_bound_on_the_grid_is_exact),
		cmocka_unit_test(test_smoothing_keeps_a_curve),
		cmocka_unit_test(test_recentred_bounds),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_balloon_is_not_the_kernels),
		cmocka_unit_test(test_hidden_memory_is_used),
		cmocka_unit_test(test_reports_at_once),
		cmocka_unit_test(test_invariants_of_plans),
		cmocka_unit_test(test_order_does_not_matter),
		cmocka_unit_test(test_more_shares_never_harm),
		cmocka_unit_test(test_swap_is_a_limit),
		cmocka_unit_test(test_fixed_point),
	};

	seed = random_test_seed();
	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
