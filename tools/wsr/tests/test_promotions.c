// SPDX-License-Identifier: GPL-2.0
/*
 * Are promotions counted right? A guest of some thousand pages, each with the
 * time of its last use, reports as a kernel does; what was really used again is
 * known.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "curve.h"
#include "promotions.h"
#include "random.h"

#define PAGES		4096
#define NR_BOUNDS	12	/* 1 s to 2048 s */
#define GONE		INT64_MIN

struct guest {
	int64_t used_ms[PAGES];
	int64_t now_ms;
	/* Pages used again that were older than each bound */
	double promoted[NR_BOUNDS];
	struct wsr_promotions promotions;
};

static uint64_t bound_ms(unsigned int i)
{
	return 1000ul << i;
}

static void start(struct guest *guest)
{
	memset(guest, 0, sizeof(*guest));
	guest->now_ms = 5000000;
	for (int page = 0; page < PAGES; page++)
		guest->used_ms[page] = guest->now_ms;
}

static void use(struct guest *guest, int page)
{
	int64_t age_ms = guest->now_ms - guest->used_ms[page];

	for (unsigned int i = 0; i < NR_BOUNDS; i++) {
		if (guest->used_ms[page] != GONE &&
		    age_ms >= (int64_t)bound_ms(i))
			guest->promoted[i]++;
	}
	guest->used_ms[page] = guest->now_ms;
}

static void use_all(struct guest *guest, int first, int end)
{
	for (int page = first; page < end; page++)
		use(guest, page);
}

/* @noise: by that part pages seem to be older, as if the kernel looked rarely */
static void report(struct guest *guest, double noise)
{
	struct report_node node = { .nr_bins = NR_BOUNDS + 1 };

	for (unsigned int i = 0; i <= NR_BOUNDS; i++)
		node.bins[i].idle_age_ms = i < NR_BOUNDS ? bound_ms(i) :
							   REPORT_OPEN_BIN;
	for (int page = 0; page < PAGES; page++) {
		int64_t age_ms = guest->now_ms - guest->used_ms[page];
		unsigned int bin = 0;

		if (guest->used_ms[page] == GONE)
			continue;
		age_ms *= 1 + noise;
		while (bin < NR_BOUNDS && age_ms >= (int64_t)bound_ms(bin))
			bin++;
		node.bins[bin].swap_backed_bytes++;
	}
	wsr_promotions_report(&guest->promotions, &node, guest->now_ms);
}

/* Bytes per second that were promoted lately from above bound @i */
static double rate(const struct guest *guest, unsigned int i)
{
	return wsr_promotions_rate(&guest->promotions,
				   wsr_x_of_ms(bound_ms(i)) + 0.01);
}

/* Left behind at once, and never used again: that is no promotion at any age. */
static void test_block_gets_cold(void **state)
{
	static const int every_ms[] = { 500, 1000, 2000, 5000, 7300 };
	static struct guest guest;

	(void)state;
	for (int c = 0; c < 5; c++) {
		struct random random;

		random_seed(&random, c);
		start(&guest);
		while (guest.now_ms < 5000000 + 3600000) {
			use_all(&guest, 0, PAGES / 2);
			report(&guest, random_part(&random) / 64);
			/* Where reports are rare, short bins can't be told. */
			for (unsigned int i = 0; i < NR_BOUNDS; i++) {
				if (bound_ms(i) >= 3u * every_ms[c] &&
				    rate(&guest, i) > 100.0 * PAGES / bound_ms(i))
					fail_msg("%g pages/s above %u s when the block is idle for %g s",
						 rate(&guest, i), 1u << i,
						 guest.now_ms / 1000.0 - 5000);
			}
			guest.now_ms += every_ms[c];
		}
		assert_true(wsr_promotions_x(&guest.promotions, 0.5) <=
			    wsr_x_of_ms(3 * every_ms[c]) + 2);
	}
}

/* Used at random times: as many are counted as there are. */
static void test_steady(void **state)
{
	static struct guest guest;
	double counted[NR_BOUNDS] = { 0 }, before[NR_BOUNDS] = { 0 };
	double seconds = 0;
	struct random random;

	(void)state;
	random_seed(&random, 1);
	start(&guest);
	for (int s = 0; s < 12000; s++) {
		guest.now_ms += 1000;
		for (int page = 0; page < PAGES; page++) {
			/* From every second to every hour */
			double every_s = pow(3600, page / (PAGES - 1.0));

			if (random_chance(&random, -expm1(-1 / every_s)))
				use(&guest, page);
		}
		report(&guest, 0);
		/* Once it is steady */
		if (s == 6000)
			memcpy(before, guest.promoted, sizeof(before));
		if (s < 6000)
			continue;
		seconds++;
		for (unsigned int i = 0; i < NR_BOUNDS; i++)
			counted[i] += rate(&guest, i);
	}
	for (unsigned int i = 2; i < NR_BOUNDS - 2; i++) {
		/* Of a bin it is the average age that counts. */
		double most = (guest.promoted[i] - before[i]) / seconds;
		double least = (guest.promoted[i + 1] - before[i + 1]) /
			       seconds;

		counted[i] /= seconds;
		if (!(counted[i] > 0.9 * least && counted[i] < most))
			fail_msg("%g pages/s above %u s, really %g to %g",
				 counted[i], 1u << i, least, most);
	}
}

/* Used again after @idle_s: the SLO asks for just the bin above. */
static void test_block_comes_back(void **state)
{
	static const int idle_s[] = { 20, 60, 100, 300, 700 };
	static struct guest guest;

	(void)state;
	for (int c = 0; c < 5; c++) {
		double x = 0, needed_x = wsr_x_of_ms(idle_s[c] * 1000);
		double most[NR_BOUNDS] = { 0 };

		start(&guest);
		for (int s = 0; s < 2 * idle_s[c] + 100; s++) {
			guest.now_ms += 1000;
			use_all(&guest, 0, PAGES / 2);
			if (s == 2 * idle_s[c])
				use_all(&guest, PAGES / 2, PAGES);
			else if (s == idle_s[c])
				use_all(&guest, PAGES / 2, PAGES);
			report(&guest, 0);
			x = fmax(x, wsr_promotions_x(&guest.promotions,
						     PAGES / 1000.0));
			for (unsigned int i = 0; i < NR_BOUNDS; i++)
				most[i] = fmax(most[i], rate(&guest, i));
		}
		/* A page that was in a bin for short is in the one before. */
		if (!(x >= needed_x - 1 && x <= needed_x + 2.1))
			fail_msg("idle for %d s, but cut at %g s", idle_s[c],
				 wsr_ms_of_x(x) / 1000);
	}
}

/* A process ends, a balloon takes the oldest pages: nobody used them. */
static void test_freed(void **state)
{
	static struct guest guest;

	(void)state;
	start(&guest);
	report(&guest, 0);
	for (int s = 0; s < 1000; s++) {
		guest.now_ms += 1000;
		use_all(&guest, 0, PAGES / 2);
		for (int page = PAGES / 2; page < PAGES; page++) {
			/* Half of them at once, the others one by one */
			if (s == 300 ? page < PAGES * 3 / 4 :
			    s > 400 && page < PAGES * 3 / 4 + (s - 400) * 4)
				guest.used_ms[page] = GONE;
		}
		report(&guest, 0);
		for (unsigned int i = 3; i < NR_BOUNDS; i++) {
			if (rate(&guest, i) > 0.1)
				fail_msg("%g pages/s above %u s after %d s",
					 rate(&guest, i), 1u << i, s);
		}
	}
}

/* Old memory of which nobody knows yet whether it will be used is no promotion. */
static void test_first_report(void **state)
{
	static struct guest guest;

	(void)state;
	start(&guest);
	for (int page = 0; page < PAGES; page++)
		guest.used_ms[page] -= 100000;
	for (int s = 0; s < 60; s++) {
		guest.now_ms += 1000;
		report(&guest, 0);
		assert_float_equal(rate(&guest, 6), 0, 0);
		assert_float_equal(wsr_promotions_x(&guest.promotions, 0), 0,
				   0);
	}
}

/* Other bins: what was counted is forgotten, and nothing is mixed up. */
static void test_other_bounds(void **state)
{
	struct report_node node = {
		.nr_bins = 3,
		.bins = {
			{ .idle_age_ms = 10000, .swap_backed_bytes = 1000 },
			{ .idle_age_ms = 70000, .swap_backed_bytes = 600 },
			{ .idle_age_ms = REPORT_OPEN_BIN },
		},
	};
	static struct guest guest;

	(void)state;
	start(&guest);
	for (int s = 0; s < 200; s++) {
		guest.now_ms += 1000;
		report(&guest, 0);
	}
	wsr_promotions_report(&guest.promotions, &node, guest.now_ms);
	assert_int_equal(guest.promotions.nr, 2);
	assert_float_equal(guest.promotions.rates[0], 0, 0);
	node.bins[1].swap_backed_bytes = 0;
	wsr_promotions_report(&guest.promotions, &node, guest.now_ms + 70000);
	node.bins[0].idle_age_ms++;
	wsr_promotions_report(&guest.promotions, &node, guest.now_ms + 71000);
	assert_float_equal(guest.promotions.rates[0], 0, 0);
	/* A single bound has no bin above it that ends. */
	node.nr_bins = 2;
	wsr_promotions_report(&guest.promotions, &node, guest.now_ms + 72000);
	assert_float_equal(wsr_promotions_x(&guest.promotions, 1), 0, 0);
	assert_float_equal(wsr_promotions_rate(&guest.promotions, 20), 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block_gets_cold),
		cmocka_unit_test(test_steady),
		cmocka_unit_test(test_block_comes_back),
		cmocka_unit_test(test_freed),
		cmocka_unit_test(test_first_report),
		cmocka_unit_test(test_other_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
