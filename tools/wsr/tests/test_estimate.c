// SPDX-License-Identifier: GPL-2.0
/*
 * What the host sees of the age of memory: texts of kernels, and texts that no
 * kernel would write. Prints TAP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../wsrd/estimate.h"

#define MIB	(UINT64_C(1) << 20)
#define PAGE	4096

static const char stat_text[] =
	"anon 53309440\n"
	"file 10747904\n"
	"kernel 1146880\n"
	"inactive_anon 42823680\n"
	"active_anon 10485760\n"
	"inactive_file 6553600\n"
	"active_file 4194304\n"
	"unevictable 8192\n"
	"slab_reclaimable 69632\n"
	"slab_unreclaimable 163840\n"
	"workingset_refault_anon 3\n"
	"workingset_refault_file 17\n";

/* Two nodes, groups whose names begin alike, and one that was removed */
static const char lru_gen_text[] =
	"memcg     0 /pods/a\n"
	" node     0\n"
	"          0      90000    1000000    1000000 \n"
	"          1      10000    1000000    1000000 \n"
	"memcg     1 /\n"
	" node     0\n"
	"          0      61000         10        200 \n"
	"          1      50000          0          0 \n"
	" node     1\n"
	"          0      61000          0          0 \n"
	"memcg    39 /pods/a\n"
	" node     0\n"
	"          2      40000       2560       1280 \n"
	"          3      20000          0       1280 \n"
	"          4      10000       1000          0 \n"
	"          5       3000       4120          0 \n"
	" node     1\n"
	"          2      40000          0         64 \n"
	"          3      40000          0          0 \n"
	"memcg    57 /pods/a/x\n"
	" node     0\n"
	"          0      90000       5280          0 \n"
	"          1      10000         55          0 \n"
	"memcg    60 /pods/a b\n"
	" node     0\n"
	"          0      90000    1000000    1000000 \n"
	"          1      10000    1000000    1000000 \n"
	"memcg    61 /pods/ab\n"
	" node     0\n"
	"          0      90000    1000000    1000000 \n"
	"          1      10000    1000000    1000000 \n";

static uint64_t older(const struct report_node *node, uint64_t age_ms)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < node->nr_bins; i++) {
		if (report_bin_start_ms(node, i) >= age_ms)
			bytes += report_bin_bytes(node, i);
	}
	return bytes;
}

static void assert_about(uint64_t value, uint64_t expected)
{
	uint64_t difference = value > expected ? value - expected :
						 expected - value;

	if (difference > expected / 100 + 16)
		fail_msg("%llu instead of %llu", (unsigned long long)value,
			 (unsigned long long)expected);
}

/* What every record has to keep to */
static void assert_sane(const struct report_node *node)
{
	uint64_t sum = 0;

	assert_in_range(node->nr_bins, 2, REPORT_MAX_BINS);
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		sum += report_bin_bytes(node, i);
		if (i)
			assert_true(node->bins[i].idle_age_ms >
				    node->bins[i - 1].idle_age_ms);
	}
	assert_int_equal(sum, node->lru_bytes);
	assert_true(node->bins[node->nr_bins - 1].idle_age_ms ==
		    REPORT_OPEN_BIN);
}

static struct memory_stat parse_stat(void)
{
	struct memory_stat stat;

	assert_int_equal(estimate_parse_stat(stat_text, PAGE, &stat), 0);
	return stat;
}

static void test_stat(void **state)
{
	struct memory_stat stat = parse_stat();
	struct report_node node;

	(void)state;
	assert_int_equal(stat.swap_backed, 53309440);
	assert_int_equal(stat.file_backed, 10747904);
	assert_int_equal(stat.cache, 6553600);
	assert_int_equal(stat.unevictable, 8192);
	assert_int_equal(stat.slab_reclaimable, 69632);
	assert_int_equal(stat.refaulted, 20 * PAGE);
	assert_int_equal(estimate_parse_stat("", PAGE, &stat), -1);
	assert_int_equal(estimate_parse_stat("inactive_file x\n", PAGE, &stat),
			 -1);

	stat = parse_stat();
	estimate_stat(&stat, &node);
	estimate_group(&node, &stat, 66 * MIB, 5 * MIB);
	assert_sane(&node);
	assert_int_equal(older(&node, 600000), stat.cache);
	assert_int_equal(older(&node, 1000), stat.cache);
	assert_int_equal(node.total_bytes, 66 * MIB);
	assert_int_equal(node.kernel_bytes + node.unevictable_bytes +
			 node.lru_bytes, node.total_bytes);
	assert_int_equal(node.swap_free_bytes, 5 * MIB);
	/* memory.current was read when there was less. */
	estimate_group(&node, &stat, MIB, 0);
	assert_int_equal(node.total_bytes, node.lru_bytes + stat.unevictable);
}

static void test_numbers(void **state)
{
	uint64_t number;

	(void)state;
	assert_int_equal(estimate_parse_number("4096\n", &number), 0);
	assert_int_equal(number, 4096);
	assert_int_equal(estimate_parse_number("max\n", &number), 0);
	assert_true(number == UINT64_MAX);
	assert_int_equal(estimate_parse_number("", &number), -1);
	assert_int_equal(estimate_parse_number("-1\n", &number), -1);
	assert_int_equal(estimate_parse_number("12x\n", &number), -1);
	assert_int_equal(estimate_parse_number("99999999999999999999\n",
					       &number), -1);
	assert_true(estimate_parse_psi("some avg10=12.50 avg60=1.00 avg300=0.10 total=5\nfull avg10=1.00") ==
		    0.125);
	assert_true(estimate_parse_psi("full avg10=1.00") < 0);
	assert_true(estimate_parse_psi("some avg10=nan") < 0);
	assert_true(estimate_parse_psi("some avg10=120") < 0);
	assert_true(estimate_parse_psi("") < 0);
}

static void test_working_set(void **state)
{
	static const char stat[] = "total 65011712\nfree 0\nunevictable 8192\n"
		"kernel 1146880\nslab_reclaimable 69632\nswap_free 104857600\n"
		"refaulted 12288\nage_ms 412\nwarming_up 1\nsamples 2048\n";
	static const char * const bad[] = {
		"", "\n", "max anon=1 file=1\n", "1000 anon=1 file=1\n",
		"1000 anon=1 file=1\n1000 anon=1 file=1\nmax anon=1 file=1\n",
		"2000 anon=1 file=1\n1000 anon=1 file=1\nmax anon=1 file=1\n",
		"1000 anon=-1 file=1\nmax anon=1 file=1\n",
		"1000 anon=1\nmax anon=1 file=1\n",
		"1000 file=1 anon=1\nmax anon=1 file=1\n",
	};
	struct report_node node;
	char many[4096] = "";

	(void)state;
	assert_int_equal(estimate_working_set(
		"1000 anon=20971520 file=0\n2000 anon=0 file=4096\n"
		"max anon=32337920 file=10743808\n", stat, &node), 0);
	assert_sane(&node);
	assert_int_equal(node.nr_bins, 3);
	assert_int_equal(node.total_bytes, 65011712);
	assert_int_equal(node.kernel_bytes, 1146880);
	assert_int_equal(node.swap_free_bytes, 100 * MIB);
	assert_int_equal(node.refaulted_bytes, 12288);
	assert_int_equal(node.age_ms, 412);
	assert_true(node.warming_up);
	assert_int_equal(older(&node, 2000), 32337920 + 10743808);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(estimate_working_set(bad[i], stat, &node), -1);
	assert_int_equal(estimate_working_set(
		"1000 anon=1 file=0\nmax anon=1 file=1\n", "", &node), -1);
	for (int i = 1; i < 40; i++)
		sprintf(many + strlen(many), "%d anon=1 file=1\n", i);
	strcat(many, "max anon=1 file=1\n");
	assert_int_equal(estimate_working_set(many, stat, &node), -1);
}

static void test_lru_gen(void **state)
{
	struct memory_stat stat = parse_stat();
	struct lru_gen_targets targets;
	struct report_node node;

	(void)state;
	/* As much as there is in the text: nothing is scaled. */
	stat.swap_backed = (2560 + 1000 + 4120 + 5280 + 55) * PAGE;
	stat.file_backed = (1280 + 1280 + 64) * PAGE;
	assert_int_equal(estimate_lru_gen(lru_gen_text, "/pods/a", PAGE, &stat,
					  &node, &targets), 0);
	assert_sane(&node);
	assert_about(node.lru_bytes, stat.swap_backed + stat.file_backed);
	/* The youngest generation of the group: up to 3 s; x: up to 10 s */
	assert_true(node.bins[0].swap_backed_bytes > 4120 / 3 * PAGE);
	/* From 10 s to 20 s and older: what is not young */
	assert_true(older(&node, 8000) >= (2560 + 2 * 1280 + 64 + 5280) * PAGE);
	/* The oldest has no end: it is spread up to the end of all ages. */
	assert_true(older(&node, 16384000) > 0);
	assert_int_equal(targets.nr, 3);
	assert_int_equal(targets.list[0].memcg, 39);
	assert_int_equal(targets.list[0].node, 0);
	assert_int_equal(targets.list[0].generation, 5);
	assert_int_equal(targets.list[0].age_ms, 3000);
	assert_int_equal(targets.list[1].node, 1);
	assert_int_equal(targets.list[2].memcg, 57);

	/* The sums are those of memory.stat. */
	stat.swap_backed /= 2;
	assert_int_equal(estimate_lru_gen(lru_gen_text, "/pods/a", PAGE, &stat,
					  &node, &targets), 0);
	assert_about(node.lru_bytes, stat.swap_backed + stat.file_backed);
}

static void test_lru_gen_without_ages(void **state)
{
	static const char new_group[] = "memcg     7 /new\n node     0\n"
		"          0      40000          1          2 \n"
		"          1      40000          3          4 \n";
	struct memory_stat stat = parse_stat();
	struct lru_gen_targets targets;
	struct report_node node;

	(void)state;
	assert_int_equal(estimate_lru_gen(new_group, "/new", PAGE, &stat, &node,
					  &targets), -1);
	/* It can be aged, and has ages then. */
	assert_int_equal(targets.nr, 1);
	assert_int_equal(estimate_lru_gen(new_group, "/none", PAGE, &stat,
					  &node, &targets), -1);
	assert_int_equal(targets.nr, 0);
	/* Not known to the LRU: in use */
	assert_int_equal(node.bins[0].swap_backed_bytes, stat.swap_backed);
	assert_int_equal(estimate_lru_gen("", "/a", PAGE, &stat, &node,
					  &targets), -1);
	assert_int_equal(estimate_lru_gen(NULL, "/a", PAGE, &stat, &node,
					  &targets), -1);
}

/* Cut anywhere, or with any byte changed: sane, and never outside the text */
static void test_lru_gen_garbage(void **state)
{
	struct memory_stat stat = parse_stat();
	struct lru_gen_targets targets;
	struct report_node node;
	size_t size = sizeof(lru_gen_text);
	unsigned int seed = 1;

	(void)state;
	for (size_t len = 0; len < size; len++) {
		char *text = strndup(lru_gen_text, len);

		estimate_lru_gen(text, "/pods/a", PAGE, &stat, &node, &targets);
		assert_sane(&node);
		free(text);
	}
	for (int i = 0; i < 20000; i++) {
		char *text = strdup(lru_gen_text);

		for (int j = rand_r(&seed) % 8; j >= 0; j--)
			text[rand_r(&seed) % (size - 1)] =
				"0123456789 \n\t-/mn\xff"[rand_r(&seed) % 18];
		estimate_lru_gen(text, "/pods/a", PAGE, &stat, &node, &targets);
		assert_sane(&node);
		assert_true(node.lru_bytes <= 2 * (stat.swap_backed +
						   stat.file_backed));
		assert_true(targets.nr <= ESTIMATE_MAX_TARGETS);
		free(text);
	}
}

static void test_many_groups(void **state)
{
	struct memory_stat stat = parse_stat();
	struct lru_gen_targets targets;
	struct report_node node;
	size_t size = 200 * 200;
	char *text = malloc(size), *end = text;

	(void)state;
	for (int i = 0; i < 200; i++)
		end += sprintf(end, "memcg %d /a/%d\n node 0\n 1 9000 5 5\n 2 10 5 5\n",
			       i, i);
	assert_int_equal(estimate_lru_gen(text, "/a", PAGE, &stat, &node,
					  &targets), 0);
	assert_int_equal(targets.nr, ESTIMATE_MAX_TARGETS);
	assert_sane(&node);
	free(text);
}

static void test_guest_of_statistics(void **state)
{
	struct balloon_stat stat = {
		.total = 1000 * MIB, .free = 300 * MIB, .caches = 200 * MIB,
		.swap_in = 70 * MIB,
	};
	struct report_node node;

	(void)state;
	assert_int_equal(estimate_guest(&node, 1024 * MIB, &stat, NULL,
					ESTIMATE_NONE), ESTIMATE_BALLOON);
	assert_sane(&node);
	assert_int_equal(node.total_bytes, 1000 * MIB);
	assert_int_equal(node.free_bytes, 300 * MIB);
	assert_int_equal(node.lru_bytes, 700 * MIB);
	assert_int_equal(older(&node, 1000), 200 * MIB);
	assert_int_equal(node.swap_free_bytes, 0);
	assert_int_equal(node.refaulted_bytes, 70 * MIB);
	stat.swap_in = UINT64_MAX;
	estimate_guest(&node, 1024 * MIB, &stat, NULL, ESTIMATE_NONE);
	assert_int_equal(node.refaulted_bytes, 0);
	/* More cache than there is, or none that is known */
	stat.caches = 900 * MIB;
	estimate_guest(&node, 1024 * MIB, &stat, NULL, ESTIMATE_NONE);
	assert_int_equal(older(&node, 1000), 700 * MIB);
	stat.caches = UINT64_MAX;
	estimate_guest(&node, 1024 * MIB, &stat, NULL, ESTIMATE_NONE);
	assert_int_equal(older(&node, 1000), 0);
	/* Numbers that can't be true */
	stat.free = 2000 * MIB;
	assert_int_equal(estimate_guest(&node, 1024 * MIB, &stat, NULL,
					ESTIMATE_NONE), ESTIMATE_NONE);
	stat = (struct balloon_stat) { .total = 2000 * MIB };
	assert_int_equal(estimate_guest(&node, 1024 * MIB, &stat, NULL,
					ESTIMATE_NONE), ESTIMATE_NONE);
	assert_int_equal(estimate_guest(&node, 1024 * MIB, NULL, NULL,
					ESTIMATE_NONE), ESTIMATE_NONE);
}

static void test_guest_with_ages(void **state)
{
	struct report_node group = {
		.nr_bins = 3,
		.bins = {
			{ .idle_age_ms = 10000, .swap_backed_bytes = 300 * MIB },
			{ .idle_age_ms = 60000, .swap_backed_bytes = 100 * MIB },
			{ .idle_age_ms = REPORT_OPEN_BIN,
			  .swap_backed_bytes = 400 * MIB },
		},
		.lru_bytes = 800 * MIB,
	};
	struct balloon_stat stat = {
		.total = 1000 * MIB, .free = 300 * MIB, .caches = 350 * MIB,
	};
	struct report_node node;

	(void)state;
	assert_int_equal(estimate_guest(&node, 1024 * MIB, &stat, &group,
					ESTIMATE_LRU_GEN), ESTIMATE_LRU_GEN);
	assert_sane(&node);
	/* 100 MiB of the 800 are free in the guest: the oldest */
	assert_int_equal(node.lru_bytes, 700 * MIB);
	assert_int_equal(older(&node, 60000), 300 * MIB);
	/* Cache is the oldest of what is used. */
	assert_int_equal(node.bins[2].file_backed_bytes, 300 * MIB);
	assert_int_equal(node.bins[1].file_backed_bytes, 50 * MIB);
	assert_int_equal(node.bins[1].swap_backed_bytes, 50 * MIB);

	/* The host has swapped out 100 MiB. */
	stat.free = 100 * MIB;
	estimate_guest(&node, 1024 * MIB, &stat, &group, ESTIMATE_LRU_GEN);
	assert_sane(&node);
	assert_int_equal(node.lru_bytes, 900 * MIB);
	assert_int_equal(older(&node, 60000), 500 * MIB);

	/* Without statistics nothing is known to be cache. */
	estimate_guest(&node, 1024 * MIB, NULL, &group, ESTIMATE_LRU_GEN);
	assert_sane(&node);
	assert_int_equal(node.free_bytes, 224 * MIB);
	assert_int_equal(node.bins[2].swap_backed_bytes, 400 * MIB);
	assert_int_equal(node.swap_free_bytes, 0);
}

/* As idle.c prints it; @untracked MiB of 300 MiB in memory */
static const char *idle_text(unsigned int untracked)
{
	static char text[1024];

	snprintf(text, sizeof(text),
		 "pid 42\ntotal 536870912\nresident 314572800\n"
		 "untracked %u\nswapped 104857600\nempty 117440512\n"
		 "since_ms 70000\n\n1000 anon=209715200 file=0\n"
		 "2000 anon=0 file=0\nmax anon=104857600 file=0\n",
		 untracked << 20);
	return text;
}

static void test_idle(void **state)
{
	struct report_node node, guest;
	struct idle_facts facts;

	(void)state;
	assert_int_equal(estimate_idle(idle_text(2), &node, &facts), 0);
	assert_int_equal(node.total_bytes, 512 * MIB);
	assert_int_equal(node.lru_bytes, 400 * MIB);
	assert_int_equal(older(&node, 2000), 200 * MIB);
	assert_int_equal(facts.resident, 300 * MIB);
	assert_int_equal(facts.untracked, 2 * MIB);
	assert_int_equal(facts.swapped, 100 * MIB);
	assert_int_equal(facts.empty, 112 * MIB);
	assert_int_equal(facts.since_ms, 70000);

	/* What it never touched is free. */
	assert_int_equal(estimate_guest(&guest, 512 * MIB, NULL, &node,
					ESTIMATE_IDLE), ESTIMATE_IDLE);
	assert_int_equal(guest.free_bytes, 112 * MIB);
	assert_int_equal(older(&guest, 2000), 200 * MIB);
	assert_false(guest.warming_up);
	/* Ages that are not known yet are not known by that. */
	node.warming_up = true;
	estimate_guest(&guest, 512 * MIB, NULL, &node, ESTIMATE_IDLE);
	assert_true(guest.warming_up);

	/* Nothing is known of most of it. */
	assert_int_equal(estimate_idle(idle_text(200), &node, &facts), -1);
	assert_int_equal(estimate_idle("", &node, &facts), -1);
	assert_int_equal(estimate_idle("pid 42\nerror 3\n", &node, &facts),
			 -1);
	assert_int_equal(estimate_idle("total 1\n\n", &node, &facts), -1);
}

static void test_swapped(void **state)
{
	static const char status[] =
		"Name:\tqemu-system-x86\nVmRSS:\t  700000 kB\n"
		"RssAnon:\t  102400 kB\nRssFile:\t    2048 kB\n"
		"RssShmem:\t  614400 kB\nVmSwap:\t    4096 kB\nThreads:\t5\n";

	(void)state;
	assert_int_equal(estimate_swapped("", 0), 0);
	assert_int_equal(estimate_swapped(status, 0), 4 * MIB);
	/* Private memory that was read again is in swap space as well. */
	assert_int_equal(estimate_swapped(status, 100 * MIB), 4 * MIB);
	/* Its guest's memory is shared. */
	assert_int_equal(estimate_swapped(status, 2100 * MIB), 2000 * MIB);
	assert_int_equal(estimate_swapped("", 3 * MIB), 3 * MIB);
	assert_int_equal(estimate_swapped("VmSwap:\t-1 kB\n", 0), 0);
	assert_int_equal(estimate_swapped("VmSwap:\t18446744073709551615 kB\n",
					  UINT64_MAX), UINT64_C(1) << 50);
}

static void test_check(void **state)
{
	(void)state;
	assert_int_equal(estimate_check(0, 0, 0), CHECK_UNKNOWN);
	assert_int_equal(estimate_check(1000, 500, 600), CHECK_AGREES);
	assert_int_equal(estimate_check(1000, 600, 500), CHECK_AGREES);
	assert_int_equal(estimate_check(1000, 100, 900), CHECK_USES_MORE);
	assert_int_equal(estimate_check(1000, 900, 100), CHECK_USES_LESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_working_set),
		cmocka_unit_test(test_lru_gen),
		cmocka_unit_test(test_lru_gen_without_ages),
		cmocka_unit_test(test_lru_gen_garbage),
		cmocka_unit_test(test_many_groups),
		cmocka_unit_test(test_guest_of_statistics),
		cmocka_unit_test(test_guest_with_ages),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_swapped),
		cmocka_unit_test(test_check),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("wsr estimate", tests, NULL, NULL);
}
