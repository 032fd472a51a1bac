// SPDX-License-Identifier: GPL-2.0
/*
 * A host with a few synthetic guests, second by second: what becomes of guests
 * that do as they are told, and of those that do not.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "policy.h"
#include "simguest.h"

#define MIB	(1024.0 * 1024)
#define GIB	(1024 * MIB)
#define MAX_VMS	6
#define MINUTES	60

struct world {
	struct wsr_config config;
	struct wsr_host host;
	size_t nr;
	struct wsr_vm_config vm_configs[MAX_VMS];
	struct wsr_vm vms[MAX_VMS];
	struct wsr_sim_guest guests[MAX_VMS];
	bool silent[MAX_VMS];
	int64_t now_ms;
	int64_t told_ms[MAX_VMS];	/* pressure */
	struct wsr_scratch scratch[MAX_VMS];
	struct wsr_action actions[MAX_VMS * WSR_MAX_ACTIONS];
	size_t nr_actions;
	unsigned int targets[MAX_VMS];	/* so many were set */
};

static void start_world(struct world *world, double total)
{
	memset(world, 0, sizeof(*world));
	wsr_config_init(&world->config);
	world->host.total_bytes = total;
	world->now_ms = 1000000;
}

/* 1 GiB used every few seconds, 1 GiB every few minutes, 1.5 GiB hardly ever */
static struct wsr_sim_guest *add_guest(struct world *world)
{
	size_t i = world->nr++;
	struct wsr_sim_guest *guest = &world->guests[i];

	*guest = (struct wsr_sim_guest) {
		.size_bytes = 4 * GIB,
		.kernel_bytes = 0.2 * GIB,
		.swap_bytes = 4 * GIB,
		.classes = {
			{ 1 * GIB, 1 / 5.0, WSR_SWAP_BACKED },
			{ 1 * GIB, 1 / 300.0, WSR_FILE_BACKED },
			{ 1 * GIB, 1 / 20000.0, WSR_FILE_BACKED },
			{ 0.5 * GIB, 1 / 20000.0, WSR_SWAP_BACKED },
		},
		.target_bytes = 4 * GIB,
		.inflate_rate = 500 * MIB,
		.deflate_rate = 1 * GIB,
	};
	wsr_sim_guest_boot(guest);
	/* It has been running for long. */
	guest->running_s = 100000;
	guest->cut_s = 100000;
	wsr_vm_config_init(&world->vm_configs[i]);
	world->vm_configs[i].slo = 1;
	wsr_vm_init(&world->vms[i], &world->vm_configs[i], guest->size_bytes,
		    guest->size_bytes, world->now_ms);
	return guest;
}

static void gather(struct world *world, size_t i)
{
	static const uint32_t bounds_ms[] = {
		1000, 2000, 5000, 10000, 20000, 40000, 80000, 120000, 240000,
		480000, 960000, 1920000, 3840000, 7680000, 15360000,
	};
	struct wsr_sim_guest *guest = &world->guests[i];
	struct wsr_vm *vm = &world->vms[i];
	struct report_node node;

	vm->actual_bytes = guest->actual_bytes;
	if (world->silent[i])
		return;
	vm->psi = guest->psi;
	if (world->now_ms % 5000 == 0) {
		wsr_sim_guest_report(guest, bounds_ms, 15, &node);
		wsr_vm_report(vm, &world->config, &node, world->now_ms);
	}
	if (wsr_sim_guest_pressed(guest) &&
	    world->now_ms - world->told_ms[i] >= 5000) {
		world->told_ms[i] = world->now_ms;
		wsr_vm_pressure(vm, world->now_ms);
	}
}

static double sum_actual(const struct world *world)
{
	double sum = 0;

	for (size_t i = 0; i < world->nr; i++)
		sum += world->guests[i].actual_bytes;
	return sum;
}

static void run_second(struct world *world)
{
	world->now_ms += 1000;
	for (size_t i = 0; i < world->nr; i++) {
		wsr_sim_guest_step(&world->guests[i], 1);
		gather(world, i);
	}
	/* What it does not have, it swaps. */
	world->host.pressed = sum_actual(world) > world->host.total_bytes;
	world->nr_actions = wsr_plan(&world->host, world->vms, world->nr,
				     &world->config, world->now_ms,
				     world->scratch, world->actions);
	for (size_t i = 0; i < world->nr_actions; i++) {
		const struct wsr_action *action = &world->actions[i];

		if (action->kind != WSR_SET_BALLOON)
			continue;
		world->guests[action->vm].target_bytes = action->bytes;
		world->targets[action->vm]++;
	}
}

static void run(struct world *world, unsigned int seconds)
{
	while (seconds--)
		run_second(world);
}

static unsigned int oom_kills(const struct world *world)
{
	unsigned int kills = 0;

	for (size_t i = 0; i < world->nr; i++)
		kills += world->guests[i].oom_kills;
	return kills;
}

#define assert_between(value, low, high) \
	do { \
		double _value = value, _low = low, _high = high; \
		\
		if (!(_value >= _low && _value <= _high)) \
			fail_msg("%s is %g, not from %g to %g", #value, \
				 _value, _low, _high); \
	} while (0)

static void test_cooperative(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 4; i++)
		add_guest(&world);
	run(&world, 30 * MINUTES);
	/* All memory is used, and no more. */
	assert_between(sum_actual(&world), world.host.capacity_bytes - 64 * MIB,
		       world.host.capacity_bytes + MIB);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(world.vms[i].why.reason, WSR_EQUAL_AGE);
		assert_between(world.guests[i].actual_bytes,
			       world.host.capacity_bytes / 4 - 64 * MIB,
			       world.host.capacity_bytes / 4 + 64 * MIB);
	}
	memset(world.targets, 0, sizeof(world.targets));
	run(&world, 30 * MINUTES);
	/* And then it is quiet. */
	for (int i = 0; i < 4; i++)
		assert_in_range(world.targets[i], 0, 10);
	assert_int_equal(oom_kills(&world), 0);
}

static void test_no_shortage(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 9 * GIB);
	add_guest(&world);
	add_guest(&world);
	run(&world, 10 * MINUTES);
	assert_int_equal(world.vms[0].why.reason, WSR_ENOUGH);
	/* Unused memory is no reason to do anything. */
	assert_int_equal(world.targets[0] + world.targets[1], 0);
	assert_between(world.host.reclaimable_bytes, 1 * GIB, 9 * GIB);
	assert_int_equal(world.host.deficit_bytes, 0);
}

static void test_shares(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 10 * GIB);
	for (int i = 0; i < 4; i++)
		add_guest(&world);
	world.vm_configs[0].shares = 4;
	run(&world, 60 * MINUTES);
	assert_between(world.guests[0].cut_s / world.guests[1].cut_s, 3, 5.5);
	assert_between(world.guests[2].cut_s / world.guests[1].cut_s, 0.8, 1.2);
}

/* What refaults a guest has within its means is what its operator tolerates. */
static void test_slo(void **state)
{
	struct world world;
	double before, wss;

	(void)state;
	start_world(&world, 10.5 * GIB);
	for (int i = 0; i < 4; i++)
		add_guest(&world);
	world.vm_configs[0].slo = 0.002;
	run(&world, 60 * MINUTES);
	assert_int_equal(world.vms[0].why.reason, WSR_AT_SLO);
	assert_int_equal(world.host.deficit_bytes, 0);
	before = world.guests[0].refaulted_bytes;
	run(&world, 10 * MINUTES);
	wss = world.guests[0].kernel_bytes +
	      wsr_sim_guest_younger(&world.guests[0], WSR_SWAP_BACKED, 120) +
	      wsr_sim_guest_younger(&world.guests[0], WSR_FILE_BACKED, 120);
	assert_between((world.guests[0].refaulted_bytes - before) / 10 / wss,
		       0, 0.0021);
	assert_true(world.guests[0].actual_bytes >
		    world.guests[1].actual_bytes);
}

/* A small guest on a slow disk gets there in its own time. */
static void test_slow(void **state)
{
	struct wsr_sim_guest *guest;
	struct world world;

	(void)state;
	start_world(&world, 5 * GIB);
	add_guest(&world);
	guest = add_guest(&world);
	guest->size_bytes = 1 * GIB;
	guest->target_bytes = 1 * GIB;
	guest->kernel_bytes = 0.1 * GIB;
	for (int i = 0; i < WSR_SIM_CLASSES; i++)
		guest->classes[i].bytes /= 4;
	guest->inflate_rate = 4 * MIB;
	wsr_sim_guest_boot(guest);
	wsr_vm_init(&world.vms[1], &world.vm_configs[1], 1 * GIB, 1 * GIB,
		    world.now_ms);
	for (int i = 0; i < 30 * MINUTES; i++) {
		run_second(&world);
		assert_int_equal(world.vms[1].stall, WSR_MOVES);
		/* The target does not run away from it. */
		assert_between(world.guests[1].actual_bytes -
			       world.guests[1].target_bytes, -2 * GIB,
			       0.11 * GIB);
	}
	assert_between(guest->actual_bytes,
		       world.vms[1].why.desired - 20 * MIB,
		       world.vms[1].why.desired + 20 * MIB);
	assert_true(guest->actual_bytes < 0.99 * GIB);
}

static void test_stuck(void **state)
{
	int64_t asked_ms[4] = { 0 };
	struct world world;
	unsigned int asked = 0;
	bool behind = false;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++)
		add_guest(&world);
	world.guests[0].inflate_rate = 0;
	while (asked < 4) {
		bool is_behind;

		run_second(&world);
		is_behind = world.guests[0].target_bytes < 4 * GIB;
		if (is_behind && !behind)
			asked_ms[asked++] = world.now_ms;
		/* A target that it can't reach does not stay for long. */
		if (asked)
			assert_true(!is_behind || world.now_ms -
				    asked_ms[asked - 1] <= 6000);
		behind = is_behind;
	}
	/* Tried again ever more rarely */
	assert_between(asked_ms[1] - asked_ms[0], 35000, 60000);
	assert_between(asked_ms[2] - asked_ms[1], 65000, 90000);
	assert_between(asked_ms[3] - asked_ms[2], 125000, 150000);
	run(&world, 6);
	assert_int_equal(world.vms[0].why.reason, WSR_STUCK);
	assert_int_equal(world.vms[0].why.hold, WSR_HOLD_STUCK);
	run(&world, 10 * MINUTES);
	/* The others make do with the rest, by the same age. */
	assert_between(sum_actual(&world), world.host.capacity_bytes - 64 * MIB,
		       world.host.capacity_bytes + MIB);
	assert_between(world.guests[1].actual_bytes -
		       world.guests[2].actual_bytes, -64 * MIB, 64 * MIB);

	/* One day it works again. */
	world.guests[0].inflate_rate = 500 * MIB;
	run(&world, 3 * 3600);
	assert_int_equal(world.vms[0].stall, WSR_MOVES);
	assert_between(world.guests[0].actual_bytes -
		       world.guests[1].actual_bytes, -64 * MIB, 64 * MIB);
}

/* What the host reclaims from a stuck guest */
static double reclaimed_by_host(double total, double slo)
{
	double reclaimed = 0;
	struct world world;

	start_world(&world, total);
	for (int i = 0; i < 3; i++) {
		add_guest(&world);
		world.vm_configs[i].slo = slo;
	}
	world.guests[0].inflate_rate = 0;
	world.vms[0].has_cgroup = true;
	for (int i = 0; i < 20 * MINUTES; i++) {
		run_second(&world);
		for (size_t a = 0; a < world.nr_actions; a++) {
			const struct wsr_action *action = &world.actions[a];

			if (action->kind != WSR_RECLAIM_CGROUP)
				continue;
			assert_int_equal(action->vm, 0);
			assert_between(action->bytes, MIB, 0.11 * 4 * GIB);
			reclaimed += action->bytes;
		}
	}
	assert_int_equal(world.host.deficit_bytes > 0, slo < 1);
	return reclaimed;
}

/* Of the 1.5 GiB that are used every five hours, what is idle for long */
static void test_stuck_with_cgroup(void **state)
{
	(void)state;
	assert_between(reclaimed_by_host(9 * GIB, 1), 0.3 * GIB, 10 * GIB);
	/* In a deficit, too */
	assert_between(reclaimed_by_host(8.5 * GIB, 0.002), 0.3 * GIB, 10 * GIB);
}

/* Not enough for three guests, and the first one says that it needs all. */
static void start_with_liar(struct world *world)
{
	start_world(world, 8 * GIB);
	for (int i = 0; i < 3; i++) {
		add_guest(world);
		world->vm_configs[i].slo = 0.0001;
	}
	world->guests[0].honesty = WSR_SIM_ALL_HOT;
}

/*
 * Who is not trusted and claims to need all gets no more than its part when not
 * all can have it.
 */
static void test_liar_all_hot(void **state)
{
	struct world world;

	(void)state;
	start_with_liar(&world);
	world.vm_configs[0].trusted = false;
	run(&world, 60 * MINUTES);
	assert_int_equal(world.vms[0].why.reason, WSR_DEFICIT);
	assert_true(world.host.deficit_bytes > 0);
	assert_between(world.guests[0].actual_bytes, 1 * GIB,
		       world.host.capacity_bytes / 3 + 32 * MIB);
	for (int i = 1; i < 3; i++)
		assert_between(world.guests[i].actual_bytes,
			       world.host.capacity_bytes / 3 - 32 * MIB,
			       4 * GIB);
	assert_int_equal(oom_kills(&world), 0);
}

/*
 * Who is trusted can have what others do not use, but nothing that they use all
 * the time.
 */
static void test_trusted_liar(void **state)
{
	struct world world;

	(void)state;
	start_with_liar(&world);
	run(&world, 30 * MINUTES);
	assert_true(world.host.deficit_bytes > 0);
	for (int i = 0; i < 60 * MINUTES; i++) {
		run_second(&world);
		for (int v = 1; v < 3; v++)
			assert_true(world.guests[v].cut_s > 20);
	}
	assert_between(world.guests[0].actual_bytes,
		       world.host.capacity_bytes / 3, 4 * GIB);
	assert_int_equal(oom_kills(&world), 0);
}

/* The same, and it shouts all the time. */
static void test_liar_under_pressure(void **state)
{
	struct world world;

	(void)state;
	start_with_liar(&world);
	/* All of it is used every few minutes: the SLO asks for it. */
	for (int i = 0; i < 3; i++)
		world.guests[i].classes[2].rate = 1 / 300.0;
	world.vms[0].doubted = true;
	for (int i = 0; i < 60 * MINUTES; i++) {
		if (i % 5 == 0)
			wsr_vm_pressure(&world.vms[0], world.now_ms);
		run_second(&world);
	}
	/* Its part of the buffer, too */
	assert_between(world.guests[0].actual_bytes, 1 * GIB,
		       8 * GIB / 3 + 256 * MIB);
	for (int i = 1; i < 3; i++)
		assert_between(world.guests[i].actual_bytes,
			       world.host.capacity_bytes / 3 - 128 * MIB,
			       4 * GIB);
}

/* Almost nothing free: @cold was last used a minute ago, the rest just now. */
static void report_block(struct wsr_vm *vm, const struct world *world,
			 double cold)
{
	double lru = vm->actual_bytes - 25 * MIB;
	struct report_node node = {
		.total_bytes = vm->actual_bytes,
		.kernel_bytes = 5 * MIB,
		.free_bytes = 4 * MIB,
		.lru_bytes = lru,
		.swap_free_bytes = 0.5 * GIB,
		.nr_bins = 4,
		.bins = {
			{ .idle_age_ms = 10000,
			  .swap_backed_bytes = lru - cold },
			{ .idle_age_ms = 40000 },
			{ .idle_age_ms = 80000, .swap_backed_bytes = cold },
			{ .idle_age_ms = REPORT_OPEN_BIN },
		},
	};

	wsr_vm_report(vm, &world->config, &node, world->now_ms);
}

/*
 * What a guest had to swap out is in no report: it has no more to ask for than
 * what it has. That it is short of memory must count, or another one keeps what
 * it has got for ever, since so much memory of one age looks as if it would be
 * used again soon.
 */
static void test_pressure_is_a_demand(void **state)
{
	struct world world;

	(void)state;
	/* Nothing is missing for the SLOs, and all is in use. */
	start_world(&world, 482 * MIB);
	for (int i = 0; i < 2; i++) {
		add_guest(&world);
		wsr_vm_config_init(&world.vm_configs[i]);
		wsr_vm_init(&world.vms[i], &world.vm_configs[i], 384 * MIB,
			    i ? 160 * MIB : 310 * MIB, world.now_ms);
	}
	for (int i = 0; i < 5 * MINUTES; i++) {
		world.now_ms += 1000;
		report_block(&world.vms[0], &world,
			     world.vms[0].actual_bytes - 95 * MIB);
		report_block(&world.vms[1], &world, 0);
		if (i % 5 == 0)
			wsr_vm_pressure(&world.vms[1], world.now_ms);
		world.nr_actions = wsr_plan(&world.host, world.vms, world.nr,
					    &world.config, world.now_ms,
					    world.scratch, world.actions);
		for (int j = 0; j < 2; j++)
			world.vms[j].actual_bytes = world.vms[j].target_bytes;
	}
	assert_between(world.vms[1].target_bytes, 290 * MIB, 384 * MIB);
	assert_between(world.vms[0].target_bytes, 128 * MIB, 192 * MIB);
}

/* It asks for more bytes, but hardly for an age that nothing can tell. */
static void test_pressure_and_age(void **state)
{
	struct wsr_vm_config config;
	struct wsr_vm vm;

	(void)state;
	wsr_vm_config_init(&config);
	wsr_vm_init(&vm, &config, GIB, GIB / 2, 0);
	vm.peak_x = 3;
	vm.why.cut_x = WSR_GRID_MAX_X;
	wsr_vm_pressure(&vm, 1000);
	assert_true(vm.peak_x == 3);
	vm.why.cut_x = 4;
	wsr_vm_pressure(&vm, 2000);
	assert_true(vm.peak_x == 6);
	for (int i = 0; i < 100; i++)
		wsr_vm_pressure(&vm, 3000 + i);
	assert_true(vm.peak_x <= wsr_x_of_ms(3600000));
}

/*
 * @hot bytes in use all the time, @cold bytes not used for long; all the rest,
 * but for its kernel, is free.
 */
static struct report_node make_report(const struct wsr_vm *vm, double hot,
				      double cold)
{
	return (struct report_node) {
		.total_bytes = vm->actual_bytes,
		.kernel_bytes = 32 * MIB,
		.free_bytes = vm->actual_bytes - 32 * MIB - hot - cold,
		.lru_bytes = hot + cold,
		.swap_free_bytes = GIB,
		.nr_bins = 3,
		.bins = {
			{ .idle_age_ms = 10000, .swap_backed_bytes = hot },
			{ .idle_age_ms = 600000 },
			{ .idle_age_ms = REPORT_OPEN_BIN,
			  .file_backed_bytes = cold },
		},
	};
}

static void add_known_vm(struct world *world, double size, double actual)
{
	size_t i = world->nr;

	add_guest(world);
	world->config.grace_ms = 0;
	wsr_vm_init(&world->vms[i], &world->vm_configs[i], size, actual,
		    world->now_ms);
}

static void report(struct world *world, size_t i,
		   const struct report_node *node)
{
	assert_null(wsr_vm_report(&world->vms[i], &world->config, node,
				  world->now_ms));
}

static void plan(struct world *world)
{
	wsr_plan(&world->host, world->vms, world->nr, &world->config,
		 world->now_ms, world->scratch, world->actions);
}

/*
 * What a guest should have that uses all it has all the time, and reads back
 * @rate bytes per second, beside one that has memory to give.
 */
static double desired_with_refaults(double rate)
{
	struct report_node node;
	struct world world;

	start_world(&world, 1200 * MIB);
	add_known_vm(&world, GIB, 320 * MIB);
	add_known_vm(&world, GIB, 832 * MIB);
	/* 2.6 MiB/s of its working set */
	world.vm_configs[0].slo = 0.5;
	for (int i = 1; i <= MINUTES; i++) {
		world.now_ms += 1000;
		node = make_report(&world.vms[0], 284 * MIB, 0);
		node.refaulted_bytes = i * rate;
		report(&world, 0, &node);
		node = make_report(&world.vms[1], 100 * MIB,
				   world.vms[1].actual_bytes - 132 * MIB);
		report(&world, 1, &node);
		plan(&world);
		world.vms[1].actual_bytes = world.vms[1].target_bytes;
	}
	assert_int_equal(world.host.deficit_bytes, 0);
	return world.vms[0].why.desired;
}

/* What it misses is in no report. */
static void test_refaults_are_a_demand(void **state)
{
	double without = desired_with_refaults(0);

	(void)state;
	assert_between(desired_with_refaults(2 * MIB), without, without);
	/* Of 20 s, the age that is safe in a deficit */
	assert_between(desired_with_refaults(5 * MIB) - without, 45 * MIB,
		       52 * MIB);
	/* A fifth of its size at most */
	assert_between(desired_with_refaults(100 * MIB) - without,
		       0.2 * GIB - MIB, 0.2 * GIB + MIB);
}

/* What one with much more than its max gives in 5 s, step by step */
static double given_in_5_s(bool others_wait)
{
	struct report_node node;
	struct world world;

	start_world(&world, others_wait ? 5 * GIB : 20 * GIB);
	world.config.buffer_part = 0;
	add_known_vm(&world, 4 * GIB, 4 * GIB);
	world.vm_configs[0].max_bytes = 2 * GIB;
	add_known_vm(&world, 8 * GIB, 1 * GIB);
	for (int i = 0; i < 5; i++) {
		world.now_ms += 1000;
		node = make_report(&world.vms[0], 0.5 * GIB, 0.5 * GIB);
		report(&world, 0, &node);
		node = make_report(&world.vms[1],
				   world.vms[1].actual_bytes - 32 * MIB, 0);
		report(&world, 1, &node);
		plan(&world);
		for (size_t v = 0; v < world.nr; v++)
			world.vms[v].actual_bytes = world.vms[v].target_bytes;
	}
	return 4 * GIB - world.vms[0].target_bytes;
}

/* Slowly, but not while somebody needs it */
static void test_hurry(void **state)
{
	(void)state;
	assert_between(given_in_5_s(false), 0.05 * 4 * GIB - MIB,
		       0.05 * 4 * GIB + MIB);
	assert_between(given_in_5_s(true), 0.25 * 4 * GIB - MIB,
		       0.25 * 4 * GIB + MIB);
}

/*
 * Three guests have a little cold memory, and a fourth one, that has so much
 * free, uses the rest of its memory all the time.
 */
static void start_with_little(struct world *world, double free)
{
	struct report_node node;

	start_world(world, 4 * 600 * MIB);
	world->config.buffer_part = 0;
	for (int i = 0; i < 4; i++)
		add_known_vm(world, GIB, 600 * MIB);
	for (int second = 0; second < 10; second++) {
		world->now_ms += 1000;
		for (int i = 0; i < 3; i++) {
			node = make_report(&world->vms[i], 400 * MIB,
					   world->vms[i].actual_bytes -
					   432 * MIB);
			report(world, i, &node);
		}
		node = make_report(&world->vms[3], 568 * MIB - free, 0);
		report(world, 3, &node);
		plan(world);
		for (int i = 0; i < 4; i++)
			world->vms[i].actual_bytes = world->vms[i].target_bytes;
	}
}

/*
 * A change that is not worth it for one alone is, if all such changes together
 * are what somebody waits for.
 */
static void test_many_give_a_little(void **state)
{
	struct world world;

	(void)state;
	/* It wants 8 MiB, which is not worth it for anybody. */
	start_with_little(&world, 24 * MIB);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(world.vms[i].target_bytes, 600 * MIB);
		assert_int_equal(world.vms[i].why.hold, WSR_SETTLED);
	}
	/* 32 MiB, from each of the others less than the 16 MiB of the gate */
	start_with_little(&world, 0);
	for (int i = 0; i < 3; i++)
		assert_between(world.vms[i].target_bytes, 588 * MIB, 591 * MIB);
	assert_between(world.vms[3].target_bytes, 631 * MIB, 632 * MIB);
}

/* The first has @cold bytes to give, the second uses all that it has. */
static void start_with_needy(struct world *world, double cold)
{
	struct report_node node;

	start_world(world, 5 * GIB);
	world->config.buffer_part = 0;
	add_known_vm(world, 4 * GIB, 4 * GIB);
	add_known_vm(world, 8 * GIB, GIB);
	world->now_ms += 1000;
	node = make_report(&world->vms[0], 4 * GIB - 32 * MIB - cold, cold);
	report(world, 0, &node);
	node = make_report(&world->vms[1], GIB - 32 * MIB, 0);
	report(world, 1, &node);
}

/* What the host may swap is there at once, and balloons follow. */
static void test_swap_bridges(void **state)
{
	double target, relief;
	struct world world;

	(void)state;
	start_with_needy(&world, 3 * GIB);
	relief = GIB + world.config.pressure_part * 8 * GIB;
	wsr_vm_pressure(&world.vms[1], world.now_ms);
	plan(&world);
	assert_int_equal(world.vms[1].target_bytes, GIB);

	start_with_needy(&world, 3 * GIB);
	world.host.swap_bytes = GIB;
	wsr_vm_pressure(&world.vms[1], world.now_ms);
	plan(&world);
	assert_int_equal(world.vms[1].target_bytes, 2 * GIB);

	start_with_needy(&world, 3 * GIB);
	world.host.swap_bytes = 4 * GIB;
	wsr_vm_pressure(&world.vms[1], world.now_ms);
	plan(&world);
	assert_between(world.vms[1].target_bytes, relief - MIB, relief + MIB);
	target = world.vms[0].target_bytes;
	world.vms[0].grew_ms = world.now_ms;
	world.now_ms += 1000;
	plan(&world);
	/* In a hurry: the host has given more than there is. */
	assert_between(target - world.vms[0].target_bytes,
		       0.05 * 4 * GIB - MIB, 0.05 * 4 * GIB + MIB);
}

static void follow(struct world *world, unsigned int seconds)
{
	while (seconds--) {
		world->now_ms += 1000;
		for (size_t i = 0; i < world->nr; i++) {
			world->vms[i].report_ms = world->now_ms;
			world->vms[i].actual_bytes = world->vms[i].target_bytes;
		}
		plan(world);
	}
}

/* The guest would have to read what the host has swapped out, to write it. */
static void test_swapped_is_not_taken_twice(void **state)
{
	static const struct {
		double swapped, swap, max, others_min;
		bool shrinks;
	} cases[] = {
		{ 0.1 * GIB, 3.5 * GIB, 0, 0, true },
		{ 0.7 * GIB, 3.5 * GIB, 0, 0, false },
		/* There is no room in swap space, and others take memory, */
		{ 0.7 * GIB, 1.0 * GIB, 0, 0, true },
		/* or want it. */
		{ 0.9 * GIB, 1.9 * GIB, 0, 0, false },
		{ 0.9 * GIB, 1.9 * GIB, 0, 2 * GIB, true },
		/* The operator wants it. */
		{ 0.7 * GIB, 3.5 * GIB, 2 * GIB, 0, true },
	};
	struct world world;

	(void)state;
	for (int i = 0; i < 6; i++) {
		double swapped = cases[i].swapped, before;

		start_with_needy(&world, 3 * GIB);
		world.host.total_bytes = 3.2 * GIB;
		world.host.swap_bytes = cases[i].swap;
		world.vm_configs[0].max_bytes = cases[i].max;
		world.vm_configs[1].max_bytes = GIB;
		if (cases[i].others_min) {
			world.vm_configs[1].min_bytes = cases[i].others_min;
			world.vm_configs[1].max_bytes = 0;
		}
		world.vms[0].swapped_bytes = swapped;
		before = world.vms[0].target_bytes;
		follow(&world, 1);
		assert_int_equal(world.vms[0].target_bytes < before,
				 cases[i].shrinks);
		assert_int_equal(world.vms[0].why.hold == WSR_HOLD_SWAPPED,
				 !cases[i].shrinks);
	}
	/* And not all the way: it ends where most of it would be in swap space. */
	start_with_needy(&world, 3 * GIB);
	world.host.total_bytes = 3.2 * GIB;
	world.host.swap_bytes = 3 * GIB;
	world.vm_configs[1].max_bytes = GIB;
	world.vms[0].swapped_bytes = 0.1 * GIB;
	follow(&world, 2 * MINUTES);
	assert_true(world.vms[0].target_bytes >=
		    world.vms[0].why.desired + 0.1 * GIB);
	assert_true(world.vms[0].target_bytes < 3 * GIB);
}

/* memory.current is without what is in swap space, and reclaim puts it there. */
static void test_swapped_of_containers(void **state)
{
	struct world world;

	(void)state;
	start_with_needy(&world, 3 * GIB);
	world.vm_configs[0].actuator = WSR_CGROUP;
	world.vm_configs[0].max_bytes = 2 * GIB;
	world.host.swap_bytes = 2 * GIB;
	world.vms[0].swapped_bytes = 1.5 * GIB;
	wsr_vm_pressure(&world.vms[1], world.now_ms);
	plan(&world);
	assert_true(world.vms[0].target_bytes < 4 * GIB);
	assert_int_equal(world.host.used_bytes,
			 4 * GIB + world.vms[1].target_bytes);
	assert_true(world.vms[1].target_bytes > GIB);
	assert_true(world.host.used_bytes <= 5.5 * GIB + 1);
}

/* Memory that the host has swapped out is there for others, but not twice. */
static void test_swap_is_a_limit(void **state)
{
	struct world world;

	(void)state;
	start_with_needy(&world, 3 * GIB);
	world.host.swap_bytes = GIB;
	world.vms[0].swapped_bytes = 3 * GIB;
	wsr_vm_pressure(&world.vms[1], world.now_ms);
	plan(&world);
	assert_int_equal(world.vms[1].target_bytes, 2 * GIB);

	/* One that nobody can shrink */
	for (int out = 0; out <= 1; out++) {
		start_with_needy(&world, 0);
		world.vm_configs[0].hands_off = true;
		world.host.total_bytes = 4.5 * GIB;
		world.host.swap_bytes = 2 * GIB;
		world.vms[0].swapped_bytes = out * 2 * GIB;
		plan(&world);
		assert_true(world.vms[1].why.desired >=
			    world.vms[1].why.slo_floor);
		if (!out)
			continue;
		/* There is more than it needs for its SLO. */
		assert_true(world.vms[1].why.desired > 1.5 * GIB);
		assert_int_equal(world.host.deficit_bytes, 0);
	}
}

/* What it has swapped out beyond that is not counted on for ever. */
static void test_more_is_swapped_than_may(void **state)
{
	struct world world;

	(void)state;
	start_with_needy(&world, 0);
	world.vm_configs[0].hands_off = true;
	world.host.total_bytes = 5 * GIB;
	world.host.swap_bytes = GIB;
	world.vms[0].swapped_bytes = 3 * GIB;
	follow(&world, 2 * MINUTES);
	assert_true(world.host.used_swap_bytes <= GIB);
	assert_true(world.vms[1].target_bytes > 1.5 * GIB);
	assert_int_not_equal(world.vms[1].why.hold, WSR_HOLD_NO_FREE);
	assert_false(world.host.waits);
	assert_false(world.host.unmet);
}

/* The host knows better what is the coldest of those that all need theirs. */
static void test_swap_before_deficit(void **state)
{
	static const struct {
		double swap, swapped;
		bool deficit;
	} cases[] = {
		{ 0, 0, true }, { 2 * GIB, 0, false },
		{ 2 * GIB, 1.5 * GIB, false },
	};
	struct world world;

	(void)state;
	for (int i = 0; i < 3; i++) {
		start_with_needy(&world, 0);
		world.host.total_bytes = 4 * GIB;
		world.host.swap_bytes = cases[i].swap;
		world.vms[0].swapped_bytes = cases[i].swapped;
		plan(&world);
		assert_true(world.host.deficit_bytes > 0.9 * GIB);
		for (int v = 0; v < 2; v++) {
			const struct wsr_why *why = &world.vms[v].why;

			assert_true(cases[i].deficit ||
				    why->desired >= why->slo_floor);
		}
		assert_int_equal(world.vms[0].why.reason == WSR_DEFICIT ||
				 world.vms[1].why.reason == WSR_DEFICIT,
				 cases[i].deficit);
	}
}

/* Others' memory does not go to swap space because of its word. */
static void test_liar_and_swap(void **state)
{
	(void)state;
	/* Also if all say that they need all that they may have */
	for (int all = 0; all <= 1; all++) {
		double desired[2];

		for (int swap = 0; swap <= 1; swap++) {
			struct world world;

			start_with_needy(&world, 0);
			world.host.total_bytes = 4 * GIB;
			world.vm_configs[0].trusted = false;
			world.vm_configs[1].min_bytes = 1.9 * GIB;
			if (all) {
				world.vm_configs[0].max_bytes = 3.9 * GIB;
				world.vm_configs[1].max_bytes = 1.9 * GIB;
			}
			world.host.swap_bytes = swap * 3 * GIB;
			plan(&world);
			desired[swap] = world.vms[0].why.desired;
			assert_int_equal(world.vms[0].why.reason, WSR_DEFICIT);
		}
		assert_int_equal(desired[0], desired[1]);
	}
}

/* Nor because others may keep what they do not need, if it gets no more */
static void test_liar_makes_no_swap(void **state)
{
	struct report_node node;
	struct world world;

	(void)state;
	start_world(&world, 4 * GIB);
	world.host.swap_bytes = 3 * GIB;
	for (int i = 0; i < 2; i++) {
		add_known_vm(&world, 4 * GIB, 4 * GIB);
		node = make_report(&world.vms[i], i ? 0.5 * GIB : 3.9 * GIB,
				   i ? 3 * GIB : 0);
		node.swap_free_bytes = 4 * GIB;
		report(&world, i, &node);
	}
	world.vm_configs[0].trusted = false;
	plan(&world);
	assert_true(world.host.deficit_bytes > 0.5 * GIB);
	assert_true(world.vms[1].why.desired >= world.vms[1].why.slo_floor);
	assert_true(world.vms[1].why.desired < GIB);
	assert_true(world.vms[0].why.desired > 2.5 * GIB);
	assert_true(world.host.used_swap_bytes < MIB);
}

/* With enough memory, host swap changes nothing. */
static void test_swap_is_no_hurry(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 100 * GIB);
	world.host.swap_bytes = 10 * GIB;
	add_known_vm(&world, 4 * GIB, 4 * GIB);
	world.vm_configs[0].max_bytes = 2 * GIB;
	world.vms[0].grew_ms = world.now_ms;
	world.now_ms += 3000;
	follow(&world, 1);
	assert_false(world.host.waits);
	start_with_needy(&world, 3 * GIB);
	world.host.total_bytes = 20 * GIB;
	world.host.swap_bytes = 10 * GIB;
	world.vm_configs[0].max_bytes = 2 * GIB;
	world.vms[0].grew_ms = world.now_ms;
	follow(&world, 1);
	assert_int_equal(world.vms[0].why.hold, WSR_HOLD_GREW);

	/* It swaps as was agreed: no reason to take from one that stalls. */
	start_with_needy(&world, 0);
	world.host.total_bytes = 4 * GIB;
	world.host.swap_bytes = 2 * GIB;
	world.host.pressed = true;
	world.vm_configs[0].max_bytes = 3.9 * GIB;
	world.vm_configs[1].min_bytes = 1.2 * GIB;
	world.vms[0].psi = 0.5;
	follow(&world, 1);
	assert_int_equal(world.vms[0].why.hold, WSR_HOLD_STALLS);
}

/* Who is still short says so again. */
static void test_pressure_is_over(void **state)
{
	struct report_node node;
	struct world world;

	(void)state;
	for (int reports = 0; reports <= 1; reports++) {
		start_with_needy(&world, 0);
		wsr_vm_pressure(&world.vms[1], world.now_ms);
		plan(&world);
		assert_int_equal(world.vms[1].target_bytes, GIB);
		world.now_ms += 15 * 1000;
		node = make_report(&world.vms[1], GIB - 32 * MIB, 0);
		if (reports)
			report(&world, 1, &node);
		/* So much is free now, but others could use it as well. */
		world.host.total_bytes += GIB;
		world.vm_configs[0].max_bytes = 4 * GIB;
		world.vm_configs[1].max_bytes = GIB;
		plan(&world);
		assert_int_equal(world.vms[1].why.reason == WSR_PRESSURE,
				 !reports);
	}
}

static void test_liar_all_cold(void **state)
{
	struct world honest, world;

	(void)state;
	start_world(&honest, 9 * GIB);
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++) {
		add_guest(&honest);
		add_guest(&world);
	}
	world.guests[0].honesty = WSR_SIM_ALL_COLD;
	run(&honest, 20 * MINUTES);
	run(&world, 20 * MINUTES);
	/* It only hurts itself. */
	for (int i = 1; i < 3; i++)
		assert_true(world.guests[i].actual_bytes >
			    honest.guests[i].actual_bytes - 32 * MIB);
	assert_true(world.guests[0].actual_bytes >=
		    world.vm_configs[0].min_bytes);
	assert_int_equal(oom_kills(&world), 0);
}

static void test_liar_nonsense(void **state)
{
	struct world world;
	double was;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++)
		add_guest(&world);
	run(&world, 20 * MINUTES);
	world.guests[0].honesty = WSR_SIM_NONSENSE;
	run(&world, 2 * MINUTES);
	was = world.guests[0].actual_bytes;
	world.host.total_bytes -= 1 * GIB;
	run(&world, 20 * MINUTES);
	/* Nothing is known of it, so it stays as it is. */
	assert_int_equal(world.vms[0].why.reason, WSR_STALE);
	assert_between(world.guests[0].actual_bytes, was, was);
	assert_between(sum_actual(&world), 0,
		       world.host.capacity_bytes + 32 * MIB);
}

static void test_leaking(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 10 * GIB);
	for (int i = 0; i < 4; i++) {
		add_guest(&world);
		world.vm_configs[i].min_bytes = 1.5 * GIB;
	}
	world.guests[0].leak_rate = 20 * MIB;
	world.guests[0].swap_bytes = 2 * GIB;
	world.vm_configs[0].max_bytes = 3 * GIB;
	for (int i = 0; i < 60 * MINUTES; i++) {
		run_second(&world);
		/* The others keep what they use every few seconds. */
		for (int v = 1; v < 4; v++)
			assert_true(world.guests[v].cut_s > 20);
		if (i > 10 * MINUTES)
			assert_true(world.guests[0].actual_bytes <= 3 * GIB);
	}
	/* That is its own kernel's decision. */
	assert_true(world.guests[0].oom_kills > 0);
	assert_int_equal(oom_kills(&world), world.guests[0].oom_kills);
}

static void test_no_swap(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 8.5 * GIB);
	for (int i = 0; i < 4; i++)
		add_guest(&world);
	world.guests[0].swap_bytes = 0;
	world.guests[0].classes[0].bytes = 2.5 * GIB;
	world.guests[0].classes[1].bytes = 0.3 * GIB;
	world.guests[0].classes[2].bytes = 0.3 * GIB;
	for (int i = 0; i < 4; i++)
		world.vm_configs[i].slo = 0.0001;
	run(&world, 60 * MINUTES);
	/* 3 GiB can't be reclaimed, and 0.2 GiB are its kernel's. */
	assert_true(world.host.deficit_bytes > 0);
	assert_between(world.vms[0].target_bytes, 3.2 * GIB, 3.7 * GIB);
	assert_int_equal(oom_kills(&world), 0);
	/* All are short of memory: the buffer may be in use. */
	assert_between(sum_actual(&world), 0, 8.5 * GIB);
}

/* What is read only once does not come back, and others do not pay for it. */
static void test_streaming(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 9.5 * GIB);
	for (int i = 0; i < 3; i++) {
		add_guest(&world);
		world.vm_configs[i].slo = 0.002;
	}
	memset(world.guests[0].classes, 0, sizeof(world.guests[0].classes));
	world.guests[0].classes[0] = (struct wsr_sim_class) {
		0.5 * GIB, 1 / 5.0, WSR_SWAP_BACKED };
	world.guests[0].stream_rate = 20 * MIB;
	run(&world, 60 * MINUTES);
	assert_between(world.vms[0].alpha, 0, 0.01);
	assert_int_equal(world.host.deficit_bytes, 0);
	for (int i = 1; i < 3; i++)
		assert_true(world.guests[i].cut_s > 5000);
}

/* An idle guest starts to work. */
static void test_phase_change(void **state)
{
	struct world world;
	double before;
	int waited = 0;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++)
		add_guest(&world);
	for (int i = 0; i < WSR_SIM_CLASSES; i++)
		world.guests[0].classes[i].rate = 1 / 50000.0;
	run(&world, 60 * MINUTES);
	before = world.guests[0].actual_bytes;
	assert_between(before, 0, 2.5 * GIB);

	/* All of it is in use now. */
	for (int i = 0; i < WSR_SIM_CLASSES; i++)
		world.guests[0].classes[i].rate = 1 / 10.0;
	while (world.told_ms[0] < world.now_ms && waited++ < 60)
		run_second(&world);
	assert_true(waited < 60);
	/* The second that it says so: a fifth, and that is there. */
	assert_true(world.vms[0].target_bytes >= before + 0.3 * GIB);
	assert_int_equal(world.vms[0].why.reason, WSR_PRESSURE);
	run(&world, 4 * MINUTES);
	assert_true(world.guests[0].actual_bytes > 3.4 * GIB);
	/* The others have paid for it, with what they use least. */
	for (int i = 1; i < 3; i++)
		assert_true(world.guests[i].cut_s > 60);
	assert_int_equal(oom_kills(&world), 0);
}

/* Short of memory twice within ten seconds: it gets all. */
static void test_second_event_gives_all(void **state)
{
	struct world world;
	double before;

	(void)state;
	start_world(&world, 40 * GIB);
	world.config.buffer_bytes = 4 * GIB;
	world.config.pressure_part = 0.1;
	add_guest(&world);
	world.host.other_bytes = 33.5 * GIB;
	run(&world, 10 * MINUTES);
	before = world.guests[0].actual_bytes;
	assert_between(before, 2.4 * GIB, 2.6 * GIB);
	wsr_vm_pressure(&world.vms[0], world.now_ms + 1000);
	run_second(&world);
	assert_between(world.vms[0].target_bytes - before,
		       0.1 * 4 * GIB - MIB, 0.1 * 4 * GIB + MIB);
	run(&world, 5);
	wsr_vm_pressure(&world.vms[0], world.now_ms + 1000);
	run_second(&world);
	assert_int_equal(world.vms[0].target_bytes, 4 * GIB);
	/* It is not taken away again before some time has passed. */
	for (int i = 0; i < 95; i++) {
		run_second(&world);
		assert_int_equal(world.vms[0].target_bytes, 4 * GIB);
	}
	run(&world, 5 * MINUTES);
	assert_true(world.vms[0].target_bytes < 3 * GIB);
}

static void test_rebooting(void **state)
{
	struct world world;
	double before;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++)
		add_guest(&world);
	run(&world, 30 * MINUTES);
	before = world.guests[0].actual_bytes;
	wsr_sim_guest_boot(&world.guests[0]);
	world.guests[0].inflate_rate = 0;	/* no driver yet */
	world.silent[0] = true;
	world.vms[0].actual_bytes = world.guests[0].actual_bytes;
	world.vms[0].stall_wait_ms = 3600000;
	wsr_vm_rebooted(&world.vms[0], world.now_ms);
	/* What an old driver did is forgotten, too. */
	assert_int_equal(world.vms[0].stall_wait_ms, 0);
	for (int i = 0; i < 40; i++) {
		run_second(&world);
		/* It has got all by itself; the others do not lose theirs. */
		assert_int_equal(world.vms[0].why.reason, WSR_NO_DATA);
	}
	world.guests[0].inflate_rate = 500 * MIB;
	world.silent[0] = false;
	for (int i = 0; i < 60; i++) {
		run_second(&world);
		/* Only what is free goes while little is known of it. */
		assert_true(world.guests[0].cut_s >=
			    world.guests[0].running_s - 1);
	}
	run(&world, 60 * MINUTES);
	assert_int_equal(world.vms[0].stall, WSR_MOVES);
	assert_between(world.guests[0].actual_bytes - before, -0.3 * GIB,
		       0.3 * GIB);
	assert_between(sum_actual(&world), 0,
		       world.host.capacity_bytes + 32 * MIB);
}

static void test_migrating(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++)
		add_guest(&world);
	run(&world, 80);
	/* In the middle of its way down, for a minute */
	assert_true(world.vms[0].target_bytes < 4 * GIB);
	world.vms[0].migrating = true;
	world.guests[0].inflate_rate = 0;
	world.vms[0].target_bytes -= 0.2 * GIB;
	memset(world.targets, 0, sizeof(world.targets));
	run(&world, 60);
	assert_int_equal(world.targets[0], 0);
	assert_int_equal(world.vms[0].why.reason, WSR_MIGRATING);
	/* It does not count as stuck because of that. */
	world.vms[0].migrating = false;
	run_second(&world);
	assert_int_equal(world.vms[0].stall, WSR_MOVES);
	world.guests[0].inflate_rate = 500 * MIB;
	run(&world, 20 * MINUTES);
	assert_between(world.guests[0].actual_bytes -
		       world.guests[1].actual_bytes, -64 * MIB, 64 * MIB);
}

static void test_vanishing(void **state)
{
	struct world world;
	double was, others;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 3; i++)
		add_guest(&world);
	run(&world, 20 * MINUTES);
	/* First it falls silent, then it is gone. */
	world.silent[2] = true;
	run(&world, 70);
	was = world.guests[2].actual_bytes;
	run(&world, 10 * MINUTES);
	assert_int_equal(world.vms[2].why.reason, WSR_STALE);
	assert_between(world.guests[2].actual_bytes, was, was);
	others = sum_actual(&world) - was;
	world.nr = 2;
	run(&world, 30);
	assert_int_equal(world.vms[0].why.reason, WSR_ENOUGH);
	assert_true(sum_actual(&world) > others + 1.5 * GIB);
}

/* Guests that do not fit when they start: the host swaps, all of them stall. */
static void test_host_swaps(void **state)
{
	struct world world;

	(void)state;
	start_world(&world, 9 * GIB);
	for (int i = 0; i < 4; i++)
		add_guest(&world);
	for (int i = 0; i < 30 * MINUTES; i++) {
		run_second(&world);
		for (int v = 0; v < 4 && world.host.pressed; v++)
			world.guests[v].psi = 0.2;
	}
	assert_between(sum_actual(&world), 0,
		       world.host.capacity_bytes + 32 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cooperative),
		cmocka_unit_test(test_no_shortage),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_slo),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_stuck),
		cmocka_unit_test(test_stuck_with_cgroup),
		cmocka_unit_test(test_liar_all_hot),
		cmocka_unit_test(test_trusted_liar),
		cmocka_unit_test(test_liar_under_pressure),
		cmocka_unit_test(test_pressure_is_a_demand),
		cmocka_unit_test(test_pressure_and_age),
		cmocka_unit_test(test_refaults_are_a_demand),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_many_give_a_little),
		cmocka_unit_test(test_swap_bridges),
		cmocka_unit_test(test_swapped_is_not_taken_twice),
		cmocka_unit_test(test_swapped_of_containers),
		cmocka_unit_test(test_swap_is_a_limit),
		cmocka_unit_test(test_more_is_swapped_than_may),
		cmocka_unit_test(test_swap_before_deficit),
		cmocka_unit_test(test_liar_and_swap),
		cmocka_unit_test(test_liar_makes_no_swap),
		cmocka_unit_test(test_swap_is_no_hurry),
		cmocka_unit_test(test_pressure_is_over),
		cmocka_unit_test(test_liar_all_cold),
		cmocka_unit_test(test_liar_nonsense),
		cmocka_unit_test(test_leaking),
		cmocka_unit_test(test_no_swap),
		cmocka_unit_test(test_streaming),
		cmocka_unit_test(test_phase_change),
		cmocka_unit_test(test_second_event_gives_all),
		cmocka_unit_test(test_rebooting),
		cmocka_unit_test(test_migrating),
		cmocka_unit_test(test_vanishing),
		cmocka_unit_test(test_host_swaps),
	};

	return cmocka_run_group_tests_name("scenarios", tests, NULL, NULL);
}
