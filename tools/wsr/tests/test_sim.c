// SPDX-License-Identifier: GPL-2.0
/*
 * How good plans are, and what they cost: refaults in simulated hosts, beside
 * those of other controllers, and the time of large plans.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "random.h"
#include "sim.h"

#define GIB	(1024.0 * 1024 * 1024)

/* With sanitizers, what is slow runs less, and times mean nothing. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#define MIXES	10
#else
#define SANITIZED 0
#define MIXES	100
#endif

static uint64_t seed;
static const double overcommits[] = { 1.25, 1.5, 2.0 };

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct ratios {
	double median;
	double p95;
	double median_of_used;
	double used;
};

static struct ratios run_mixes(struct wsr_sim_options *options)
{
	double ratios[MIXES], of_used[MIXES], used = 0;
	struct wsr_sim_result result;

	for (int i = 0; i < MIXES; i++) {
		options->seed = seed + i;
		assert_int_equal(wsr_sim_run(options, &result), 0);
		ratios[i] = result.refault_rate / result.optimum;
		of_used[i] = result.refault_rate / result.optimum_of_used;
		used += result.used_bytes / result.capacity_bytes / MIXES;
	}
	qsort(ratios, MIXES, sizeof(*ratios), compare);
	qsort(of_used, MIXES, sizeof(*of_used), compare);
	return (struct ratios) {
		ratios[MIXES / 2], ratios[MIXES * 95 / 100],
		of_used[MIXES / 2], used,
	};
}

/*
 * Guests that never change, 16 bins, re-centred. There are no SLOs here: they
 * ask for another distribution than that with the fewest refaults.
 */
static void test_near_the_optimum(void **state)
{
	struct wsr_sim_options options;

	(void)state;
	print_message("# refaults by those of the optimum: median (95 %%), "
		      "memory used; %d mixes\n", MIXES);
	for (const struct wsr_policy *p = wsr_policies; p->name; p++) {
		if (!strcmp(p->name, "static"))
			continue;
		print_message("# %-10s", p->name);
		for (int i = 0; i < 3; i++) {
			struct ratios r;

			wsr_sim_options_init(&options, WSR_SIM_STATIONARY);
			options.policy = p;
			options.overcommit = overcommits[i];
			options.seconds = 2000;
			r = run_mixes(&options);
			print_message(" | %.2fx: %.3f (%.3f), %.0f %%; "
				      "of what it uses %.3f", overcommits[i],
				      r.median, r.p95, r.used * 100,
				      r.median_of_used);
			if (p != wsr_policies)
				continue;
			assert_true(r.used > 0.99 && r.used < 1.01);
			assert_true(r.median >= 1);
			assert_true(r.median <= (SANITIZED ? 1.1 : 1.05));
		}
		print_message("\n");
	}
}

/* The optimum is one: nobody is better with the same memory. */
static void test_optimum_is_the_least(void **state)
{
	struct wsr_sim_options options;
	struct wsr_sim_result result;

	(void)state;
	for (const struct wsr_policy *p = wsr_policies; p->name; p++) {
		for (int i = 0; i < 10; i++) {
			wsr_sim_options_init(&options, WSR_SIM_STATIONARY);
			options.policy = p;
			options.seed = seed + i;
			options.seconds = 600;
			assert_int_equal(wsr_sim_run(&options, &result), 0);
			/* But for a byte, where there are none */
			assert_true(result.refault_rate + 1 >=
				    0.9999 * result.optimum_of_used);
			assert_true(result.optimum > 0);
		}
	}
}

/* Few bins will do if they are where they matter; noise is smoothed. */
static void test_bins_and_noise(void **state)
{
	static const struct {
		unsigned int nr_bins;
		bool recentre;
		double noise;
		double limit;
	} cases[] = {
		{ 8, true, 0, 1.1 },
		{ 4, true, 0, 1.35 },
		{ 16, true, 0.09, 1.15 },
	};

	(void)state;
	for (int c = 0; c < 3; c++) {
		struct wsr_sim_options options;
		struct ratios r;

		wsr_sim_options_init(&options, WSR_SIM_STATIONARY);
		options.nr_bins = cases[c].nr_bins;
		options.recentre = cases[c].recentre;
		options.noise = cases[c].noise;
		r = run_mixes(&options);
		print_message("# 1.5x, %u bins, noise %.0f %%: %.3f (%.3f)\n",
			      options.nr_bins, options.noise * 100, r.median,
			      r.p95);
		assert_true(r.median <= cases[c].limit);
	}
}

static double unmet(const struct wsr_policy *policy, bool events,
		    double buffer_part)
{
	struct wsr_sim_options options;
	struct wsr_sim_result result;
	double sum = 0;

	for (int i = 0; i < 2; i++) {
		wsr_sim_options_init(&options, WSR_SIM_PHASES);
		options.policy = policy;
		options.events = events;
		options.config.buffer_part = buffer_part;
		options.seed = seed + i;
		assert_int_equal(wsr_sim_run(&options, &result), 0);
		sum += result.unmet_bytes / GIB * 3600 / 2;
	}
	return sum;
}

/* Who needs memory soon gets it, if there is some and somebody listens. */
static void test_phases(void **state)
{
	const struct wsr_policy *ours = &wsr_policies[0];
	double best = unmet(ours, true, 0.05);

	(void)state;
	print_message("# unmet working set, GiB s per hour, every 10 s: "
		      "events %.0f; no buffer %.0f; no events %.0f", best,
		      unmet(ours, true, 0), unmet(ours, false, 0.05));
	assert_true(unmet(ours, true, 0) > best);
	assert_true(unmet(ours, false, 0.05) > best);
	for (const struct wsr_policy *p = ours + 1; p->name; p++) {
		double theirs;

		/* It would not fit without anybody doing something. */
		if (!strcmp(p->name, "static"))
			continue;
		theirs = unmet(p, true, 0);
		print_message("; %s %.0f", p->name, theirs);
		assert_true(theirs > best);
	}
	print_message("\n");
}

/* --- time ------------------------------------------------------------------ */

struct fleet {
	struct wsr_host host;
	struct wsr_config config;
	struct wsr_vm_config *vm_configs;
	struct wsr_vm *vms;
	struct wsr_scratch *scratch;
	struct wsr_action *actions;
	size_t nr;
};

static void make_fleet(struct fleet *fleet, size_t nr)
{
	static const uint32_t bounds_ms[] = {
		1000, 4000, 16000, 64000, 256000, 1024000, 4096000,
	};
	struct random random;

	fleet->nr = nr;
	fleet->vm_configs = calloc(nr, sizeof(*fleet->vm_configs));
	fleet->vms = calloc(nr, sizeof(*fleet->vms));
	fleet->scratch = calloc(nr, sizeof(*fleet->scratch));
	fleet->actions = calloc(nr * WSR_MAX_ACTIONS, sizeof(*fleet->actions));
	assert_non_null(fleet->vm_configs);
	assert_non_null(fleet->vms);
	assert_non_null(fleet->scratch);
	assert_non_null(fleet->actions);
	wsr_config_init(&fleet->config);
	random_seed(&random, seed);
	for (size_t i = 0; i < nr; i++) {
		double size = 4 * GIB * (1 + random_below(&random, 8));
		struct wsr_sim_guest guest = {
			.size_bytes = size,
			.kernel_bytes = 0.05 * size,
			.swap_bytes = size,
		};
		struct report_node node;

		for (int c = 0; c < WSR_SIM_CLASSES; c++)
			guest.classes[c] = (struct wsr_sim_class) {
				.bytes = size * random_part(&random) /
					 WSR_SIM_CLASSES,
				.rate = pow(10, -5 * random_part(&random)),
				.kind = c % WSR_NR_KINDS,
			};
		wsr_sim_guest_boot(&guest);
		guest.cut_s = 100000;
		guest.running_s = 100000;
		wsr_vm_config_init(&fleet->vm_configs[i]);
		/* The way through ages takes longer than that of a deficit. */
		fleet->vm_configs[i].slo = 1;
		wsr_vm_init(&fleet->vms[i], &fleet->vm_configs[i], size, size,
			    0);
		wsr_sim_guest_report(&guest, bounds_ms, 7, &node);
		assert_null(wsr_vm_report(&fleet->vms[i], &fleet->config,
					  &node, 0));
		fleet->host.total_bytes += size / 1.7;
	}
}

static void free_fleet(struct fleet *fleet)
{
	free(fleet->vm_configs);
	free(fleet->vms);
	free(fleet->scratch);
	free(fleet->actions);
}

/* CPU time of one plan, in ms: the best of a few, since others disturb us */
static double time_plan(size_t nr)
{
	struct fleet fleet = { .nr = 0 };
	double best = INFINITY;
	size_t actions = 0;

	make_fleet(&fleet, nr);
	for (int i = 0; i < 7; i++) {
		int64_t now_ms = 100000 + 5000 * i;
		clock_t before;

		for (size_t v = 0; v < nr; v++) {
			fleet.vms[v].report_ms = now_ms;
			fleet.vms[v].actual_bytes = fleet.vms[v].target_bytes;
		}
		before = clock();
		actions += wsr_plan(&fleet.host, fleet.vms, nr, &fleet.config,
				    now_ms, fleet.scratch, fleet.actions);
		best = fmin(best, (clock() - before) * 1000.0 / CLOCKS_PER_SEC);
	}
	/* There was something to do. */
	assert_true(actions > nr);
	assert_int_equal(fleet.host.deficit_bytes, 0);
	free_fleet(&fleet);
	return best;
}

static void test_time(void **state)
{
	static const size_t sizes[] = { 1000, 3000, 10000, 30000, 100000 };
	double ms[5];
	int last = SANITIZED ? 2 : 4;

	(void)state;
	print_message("# CPU time of one plan:");
	for (int i = 0; i <= last; i++) {
		ms[i] = time_plan(sizes[i]);
		print_message(" %zu VMs %.2f ms;", sizes[i], ms[i]);
	}
	print_message("\n");
	if (SANITIZED)
		return;
	assert_true(ms[2] < 50);
	/* n log n, and room for caches that become too small; n^2 is 10000. */
	assert_true(ms[4] / ms[0] < 4 * (1e5 * log(1e5)) / (1e3 * log(1e3)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_near_the_optimum),
		cmocka_unit_test(test_optimum_is_the_least),
		cmocka_unit_test(test_bins_and_noise),
		cmocka_unit_test(test_phases),
		cmocka_unit_test(test_time),
	};

	seed = random_test_seed();
	return cmocka_run_group_tests_name("simulation", tests, NULL, NULL);
}
