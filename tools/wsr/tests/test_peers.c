// SPDX-License-Identifier: GPL-2.0
/*
 * The rules of other controllers, each with figures worked out by hand.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "policy.h"

#define MIB	(1024.0 * 1024)
#define GIB	(1024 * MIB)
#define NR	2

static struct wsr_config config;
static struct wsr_host host;
static struct wsr_vm_config vm_configs[NR];
static struct wsr_vm vms[NR];
static struct wsr_scratch scratch[NR];
static struct wsr_action actions[NR * WSR_MAX_ACTIONS];
static size_t nr_actions;

static void start_host(double total)
{
	wsr_config_init(&config);
	host = (struct wsr_host){ .total_bytes = total };
}

static void start_vm(int i, double size, double free, double min)
{
	wsr_vm_config_init(&vm_configs[i]);
	vm_configs[i].min_bytes = min;
	wsr_vm_init(&vms[i], &vm_configs[i], size, size, 0);
	vms[i].has_report = true;
	vms[i].free = free;
}

static void plan(const char *name, int64_t now_ms)
{
	const struct wsr_policy *policy = wsr_policy_find(name);

	assert_non_null(policy);
	nr_actions = policy->plan(&host, vms, NR, &config, now_ms, scratch,
				  actions);
}

static void obey(void)
{
	for (int i = 0; i < NR; i++)
		vms[i].actual_bytes = vms[i].target_bytes;
}

#define assert_target(i, bytes) \
	assert_float_equal(vms[i].target_bytes / MIB, (bytes) / MIB, 0.01)

static void test_mom(void **state)
{
	(void)state;
	start_host(9.5 * GIB);
	start_vm(0, 4 * GIB, 2 * GIB, GIB);
	start_vm(1, 4 * GIB, 0, GIB);
	/* Not before a round has passed */
	plan("mom", 9000);
	assert_int_equal(nr_actions, 0);
	/* 16 % of the host are free: by 5 %, if 20 % of the guest are free. */
	plan("mom", 10000);
	assert_int_equal(nr_actions, 1);
	assert_target(0, 3.8 * GIB);
	plan("mom", 10000);
	assert_int_equal(nr_actions, 0);
	/* 2 %: even from a guest that has nothing free */
	obey();
	host.total_bytes = 8 * GIB;
	plan("mom", 20000);
	assert_target(0, 3.61 * GIB);
	assert_target(1, 3.8 * GIB);
	/* Enough: all grow. */
	obey();
	host.total_bytes = 20 * GIB;
	vms[1].free = 0.9 * 3.8 * GIB;
	plan("mom", 30000);
	assert_target(0, 3.61 * 1.05 * GIB);
	assert_target(1, 3.8 * 1.05 * GIB);
	assert_true(actions[0].grows);
}

static void test_proxmox(void **state)
{
	(void)state;
	start_host(10 * GIB);
	start_vm(0, 4.5 * GIB, 1 * GIB, GIB);
	start_vm(1, 4.5 * GIB, 0.2 * GIB, GIB);
	/* 1 GiB too much: from the one that has more than a quarter of its min */
	plan("proxmox", 10000);
	assert_int_equal(nr_actions, 1);
	assert_target(0, 4.5 * GIB - 100 * MIB);
	plan("proxmox", 10000);
	assert_int_equal(nr_actions, 0);
	/* None has: from all. */
	obey();
	vms[0].free = 0;
	plan("proxmox", 20000);
	assert_target(0, 4.5 * GIB - 200 * MIB);
	assert_target(1, 4.5 * GIB - 100 * MIB);
	/*
	 * Towards mins of 1 GiB and 6 GiB divided by 1 to 2, but it stops as
	 * soon as the host's goal is met.
	 */
	vm_configs[1].shares = 2;
	vms[0].free = GIB;
	vms[1].free = GIB;
	for (int round = 3; round < 100; round++) {
		obey();
		plan("proxmox", round * 10000);
	}
	assert_target(0, 8 * GIB - (4.5 * GIB - 100 * MIB));
	assert_target(1, 4.5 * GIB - 100 * MIB);
	/* To grow: the max of one comes before, to the other what is left. */
	host.total_bytes = 10.2 * GIB;
	vms[0].actual_bytes = 3.3 * GIB;
	for (int round = 100; round < 200; round++) {
		plan("proxmox", round * 10000);
		obey();
	}
	assert_target(0, 10.2 * 0.8 * GIB - 4.5 * GIB);
	assert_target(1, 4.5 * GIB);
}

/* 60 MiB to give: no more, though the second is below its part by more. */
static void test_proxmox_goal(void **state)
{
	(void)state;
	start_host((8.2 * GIB + 60 * MIB) / 0.8);
	start_vm(0, 6 * GIB, GIB, GIB);
	start_vm(1, 6 * GIB, GIB, GIB);
	vms[0].actual_bytes = 4.2 * GIB;
	vms[1].actual_bytes = 4 * GIB;
	plan("proxmox", 10000);
	assert_int_equal(nr_actions, 1);
	assert_target(1, 4 * GIB + 60 * MIB);
}

static void test_squeezed(void **state)
{
	(void)state;
	start_host(5 * GIB + 9 * MIB);
	start_vm(0, 4 * GIB, 0, 1 * GIB);
	start_vm(1, 4 * GIB, 0, 2 * GIB);
	/* 2 of 5 GiB of the ranges */
	plan("squeezed", 10000);
	assert_target(0, 2.2 * GIB);
	assert_target(1, 2.8 * GIB);
	/* The first does not move: inactive after 5 s, and the second pays. */
	vms[1].actual_bytes = vms[1].target_bytes;
	plan("squeezed", 14000);
	assert_int_equal(nr_actions, 0);
	plan("squeezed", 20000);
	assert_target(1, 2 * GIB);
	/* It moves again: first it gives, then the second takes. */
	vms[1].actual_bytes = vms[1].target_bytes;
	vms[0].actual_bytes -= GIB;
	plan("squeezed", 30000);
	assert_target(0, 2.2 * GIB);
	assert_target(1, 2 * GIB);
	obey();
	plan("squeezed", 40000);
	assert_target(1, 2.8 * GIB);
}

/* All older than 1 s: half files; @oldest_x: no page is older */
static void fill(int i, double bytes, int oldest_x)
{
	struct wsr_curve *curve = &vms[i].curve;

	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		curve->total[kind] = bytes / 2;
		for (int x = 0; x < WSR_GRID_POINTS; x++)
			curve->younger[kind][x] =
				bytes / 2 * fmin(x / (double)oldest_x, 1);
	}
}

static void test_equal_age(void **state)
{
	(void)state;
	start_host(10 * GIB);
	start_vm(0, 4 * GIB, 0, GIB);
	start_vm(1, 4 * GIB, 0, GIB);
	fill(0, 4 * GIB, 10);
	fill(1, 4 * GIB, 20);
	/* What is older than the oldest page of the first: half of the files */
	plan("equal-age", 30000);
	assert_int_equal(nr_actions, 1);
	assert_float_equal(host.cut_x, 10, 0.01);
	assert_float_equal(vms[1].target_bytes / GIB,
			   3, 0.01);
	/* Who is short of memory gets 256 MiB of what is free. */
	obey();
	wsr_vm_pressure(&vms[0], 31000);
	vms[0].size_bytes = 5 * GIB;
	plan("equal-age", 31000);
	assert_target(0, 4 * GIB + 256 * MIB);
	plan("equal-age", 31000);
	assert_int_equal(nr_actions, 0);
	/* The host is short of 1 GiB. */
	start_host(7 * GIB);
	start_vm(0, 4 * GIB, 0, GIB);
	start_vm(1, 4 * GIB, 0, GIB);
	fill(0, 4 * GIB, 20);
	fill(1, 4 * GIB, 20);
	plan("equal-age", 60000);
	assert_target(0, 3.5 * GIB);
	assert_target(1, 3.5 * GIB);
}

static void test_static(void **state)
{
	(void)state;
	start_host(1 * GIB);
	start_vm(0, 4 * GIB, 0, GIB);
	start_vm(1, 4 * GIB, 0, GIB);
	plan("static", 100000);
	assert_int_equal(nr_actions, 0);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(wsr_policies[0].name, "wsr");
	assert_ptr_equal(wsr_policy_find("wsr"), &wsr_policies[0]);
	assert_null(wsr_policy_find("none"));
}

/* None of them touches what it may not. */
static void test_hands_off(void **state)
{
	(void)state;
	for (const struct wsr_policy *p = wsr_policies; p->name; p++) {
		start_host(4 * GIB);
		start_vm(0, 4 * GIB, 2 * GIB, GIB);
		start_vm(1, 4 * GIB, 2 * GIB, GIB);
		fill(0, 2 * GIB, 20);
		fill(1, 2 * GIB, 20);
		vms[0].migrating = true;
		vm_configs[1].hands_off = true;
		plan(p->name, 100000);
		assert_int_equal(nr_actions, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mom),
		cmocka_unit_test(test_proxmox),
		cmocka_unit_test(test_proxmox_goal),
		cmocka_unit_test(test_squeezed),
		cmocka_unit_test(test_equal_age),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hands_off),
	};

	return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
