// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: tests of the arithmetic and of the life of receivers.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/nodemask.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "../internal.h"

/* Arithmetic */

static void wsr_bounds_test(struct kunit *test)
{
	u32 bounds[WSR_MAX_BOUNDS + 1];

	for (u32 i = 0; i < ARRAY_SIZE(bounds); i++)
		bounds[i] = i + 1;

	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, 0), 0);
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, 1), 0);
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, WSR_MAX_BOUNDS), 0);
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, WSR_MAX_BOUNDS + 1),
			-EINVAL);

	bounds[2] = bounds[1];
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, 2), 0);
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, 3), -EINVAL);
	bounds[2] = U32_MAX;
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, 3), 0);
	bounds[0] = 0;
	KUNIT_EXPECT_EQ(test, wsr_check_bounds(bounds, 1), -EINVAL);
}

static void wsr_config_test(struct kunit *test)
{
	struct wsr_config config = {
		.nr_bounds = 1,
		.idle_age_ms = { 1000 },
		.refresh_ms = WSR_MIN_REFRESH_MS,
	};

	KUNIT_EXPECT_EQ(test, wsr_check_config(&config), 0);
	config.refresh_ms--;
	KUNIT_EXPECT_EQ(test, wsr_check_config(&config), -EINVAL);
	/* Without bounds nothing is looked at, so the interval is free. */
	config.nr_bounds = 0;
	KUNIT_EXPECT_EQ(test, wsr_check_config(&config), 0);
}

static void wsr_bin_of_test(struct kunit *test)
{
	static const u32 bounds[] = { 1000, 5000, U32_MAX };

	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, 0), 0);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, 999), 0);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, 1000), 1);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, 4999), 1);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, 5000), 2);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, U32_MAX), 3);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 3, U64_MAX), 3);
	KUNIT_EXPECT_EQ(test, wsr_bin_of(bounds, 0, 0), 0);
}

static void wsr_middle_test(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, wsr_middle(10, 20), 15);
	KUNIT_EXPECT_EQ(test, wsr_middle(10, 11), 10);
	KUNIT_EXPECT_EQ(test, wsr_middle(10, 10), 10);
	KUNIT_EXPECT_EQ(test, wsr_middle(20, 10), 10);
	KUNIT_EXPECT_EQ(test, wsr_middle(U64_MAX - 2, U64_MAX), U64_MAX - 1);
}

static u64 wsr_sum(const u64 *values, unsigned int nr)
{
	u64 sum = 0;

	while (nr--)
		sum += values[nr];
	return sum;
}

static void wsr_scale_test(struct kunit *test)
{
	u64 n[WSR_MAX_BINS] = { 1, 0, 2, 1 };
	u64 out[WSR_MAX_BINS];

	wsr_scale(n, 4, 4096, out);
	KUNIT_EXPECT_EQ(test, out[0], 1024);
	KUNIT_EXPECT_EQ(test, out[1], 0);
	KUNIT_EXPECT_EQ(test, out[2], 2048);
	KUNIT_EXPECT_EQ(test, out[3], 1024);

	/* Memory of which no sample was seen counts as the coldest. */
	memset(n, 0, sizeof(n));
	wsr_scale(n, 4, 4096, out);
	KUNIT_EXPECT_EQ(test, out[3], 4096);
	KUNIT_EXPECT_EQ(test, wsr_sum(out, 4), 4096);

	/* Samples without memory: both were not read at the same moment. */
	n[1] = 7;
	wsr_scale(n, 4, 0, out);
	KUNIT_EXPECT_EQ(test, wsr_sum(out, 4), 0);
}

/* Whatever the numbers, nothing is lost and each bin is right to a byte. */
static void wsr_scale_sum_test(struct kunit *test)
{
	static const u64 sizes[] = {
		1, 4095, 4096, SZ_1M + 1, 3ULL * SZ_1G, 1ULL << 52, 1ULL << 62,
	};
	u64 out[WSR_MAX_BINS];

	for (unsigned int s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (unsigned int seed = 1; seed < 200; seed++) {
			u64 n[WSR_MAX_BINS];
			u64 total = 0;

			for (unsigned int i = 0; i < WSR_MAX_BINS; i++) {
				n[i] = (seed * 2654435761U >> i) % 8192;
				total += n[i];
			}
			wsr_scale(n, WSR_MAX_BINS, sizes[s], out);
			KUNIT_ASSERT_EQ(test, wsr_sum(out, WSR_MAX_BINS),
					sizes[s]);
			for (unsigned int i = 0; i < WSR_MAX_BINS; i++) {
				u64 want = mul_u64_u64_div_u64(sizes[s], n[i],
							       total);

				KUNIT_ASSERT_LE(test, out[i], want + 1);
				KUNIT_ASSERT_GE(test, out[i] + 1, want);
			}
		}
	}
}

static void wsr_fill_bins_test(struct kunit *test)
{
	static const u32 bounds[WSR_MAX_BOUNDS] = { 1000, 5000 };
	static const struct wsr_pages pages = {
		.n = { [WSR_SWAP_BACKED] = { 3, 0, 1 },
		       [WSR_FILE_BACKED] = { 0, 1, 1 } },
	};
	u64 then[NR_WSR_TYPES] = { 4000, 300 };
	u64 more[NR_WSR_TYPES] = { 5000, 150 };
	struct wsr_scope_report *report;

	report = kunit_kzalloc(test, sizeof(*report), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, report);
	wsr_fill_bins(report, bounds, 2, &pages, then, then);

	KUNIT_EXPECT_EQ(test, report->nr_bins, 3);
	KUNIT_EXPECT_EQ(test, report->bins[0].idle_age_ms, 1000);
	KUNIT_EXPECT_EQ(test, report->bins[1].idle_age_ms, 5000);
	KUNIT_EXPECT_EQ(test, report->bins[2].idle_age_ms, WSR_IDLE_AGE_MAX);
	KUNIT_EXPECT_EQ(test, report->bins[0].swap_backed_bytes, 3000);
	KUNIT_EXPECT_EQ(test, report->bins[2].swap_backed_bytes, 1000);
	KUNIT_EXPECT_EQ(test, report->bins[1].file_backed_bytes, 150);
	KUNIT_EXPECT_EQ(test, report->bins[2].file_backed_bytes, 150);

	/* What was added since the look is young, what went away was any. */
	report->age_ms = 1999;
	wsr_fill_bins(report, bounds, 2, &pages, then, more);
	KUNIT_EXPECT_EQ(test, report->bins[0].swap_backed_bytes, 4000);
	KUNIT_EXPECT_EQ(test, report->bins[2].swap_backed_bytes, 1000);
	KUNIT_EXPECT_EQ(test, report->bins[1].file_backed_bytes, 75);
	KUNIT_EXPECT_EQ(test, report->bins[2].file_backed_bytes, 75);
	report->age_ms = 2000;
	wsr_fill_bins(report, bounds, 2, &pages, then, more);
	KUNIT_EXPECT_EQ(test, report->bins[0].swap_backed_bytes, 3000);
	KUNIT_EXPECT_EQ(test, report->bins[1].swap_backed_bytes, 1000);
}

/* Unknown ages are like those of the known that are at least as old. */
static void wsr_place_unknown_test(struct kunit *test)
{
	u64 known[4] = { 50, 10, 0, 30 };
	static const u64 unknown[4] = { 9, 8, 3, 0 };
	static const u64 nothing[4];
	u64 none[4] = {};

	/* 5, 1, 0, 3; then of 11 and 33: 2, 0, 6; then all 3 */
	wsr_place_unknown(known, unknown, 4);
	KUNIT_EXPECT_EQ(test, known[0], 55);
	KUNIT_EXPECT_EQ(test, known[1], 13);
	KUNIT_EXPECT_EQ(test, known[2], 0);
	KUNIT_EXPECT_EQ(test, known[3], 42);

	/* Nothing known that is as old: the bound is all there is. */
	wsr_place_unknown(none, unknown, 4);
	KUNIT_EXPECT_EQ(test, none[0], 9);
	KUNIT_EXPECT_EQ(test, none[1], 8);
	KUNIT_EXPECT_EQ(test, none[2], 3);
	KUNIT_EXPECT_EQ(test, none[3], 0);

	wsr_place_unknown(none, nothing, 4);
	KUNIT_EXPECT_EQ(test, wsr_sum(none, 4), 20);
}

/* Whatever the numbers, no sample is lost. */
static void wsr_place_unknown_sum_test(struct kunit *test)
{
	for (unsigned int seed = 1; seed < 500; seed++) {
		u64 known[WSR_MAX_BINS], unknown[WSR_MAX_BINS];
		u64 total;

		for (unsigned int i = 0; i < WSR_MAX_BINS; i++) {
			known[i] = (seed * 2654435761U >> i) % 3 ? 0 :
				   (seed * 40503U >> i) % 1000;
			unknown[i] = (seed * 2246822519U >> i) % 1000;
		}
		total = wsr_sum(known, WSR_MAX_BINS) +
			wsr_sum(unknown, WSR_MAX_BINS);
		wsr_place_unknown(known, unknown, WSR_MAX_BINS);
		KUNIT_ASSERT_EQ(test, wsr_sum(known, WSR_MAX_BINS), total);
	}
}

/* An age that is at least 3 s is not guessed from those of less than 3 s. */
static void wsr_counts_test(struct kunit *test)
{
	static const u32 bounds[] = { 1000, 5000 };
	struct wsr_counts *counts;
	struct wsr_pages pages;

	counts = kunit_kzalloc(test, sizeof(*counts), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, counts);
	wsr_counts_init(counts, bounds, 2);
	wsr_counts_split(counts, 3000);
	/* These change nothing. */
	wsr_counts_split(counts, 0);
	wsr_counts_split(counts, 1000);
	wsr_counts_split(counts, 3000);
	wsr_counts_split(counts, 5000);
	wsr_counts_split(counts, 6000);
	wsr_counts_split(counts, 1ULL << 40);
	KUNIT_ASSERT_EQ(test, counts->nr_bounds, 3);
	KUNIT_EXPECT_EQ(test, counts->bounds_ms[0], 1000);
	KUNIT_EXPECT_EQ(test, counts->bounds_ms[1], 3000);
	KUNIT_EXPECT_EQ(test, counts->bounds_ms[2], 5000);

	counts->known[WSR_FILE_BACKED][1] = 100;
	counts->known[WSR_FILE_BACKED][2] = 20;
	counts->known[WSR_FILE_BACKED][3] = 60;
	counts->unknown[WSR_FILE_BACKED][2] = 40;
	wsr_counts_finish(counts, bounds, 2, &pages);
	KUNIT_EXPECT_EQ(test, pages.n[WSR_SWAP_BACKED][0], 0);
	KUNIT_EXPECT_EQ(test, pages.n[WSR_FILE_BACKED][0], 0);
	KUNIT_EXPECT_EQ(test, pages.n[WSR_FILE_BACKED][1], 130);
	KUNIT_EXPECT_EQ(test, pages.n[WSR_FILE_BACKED][2], 90);

	/* As many as there is room for: always in order, nothing is lost. */
	wsr_counts_init(counts, bounds, 2);
	for (unsigned int i = 0; i < 100; i++)
		wsr_counts_split(counts, 1 + i * 2971 % 4999);
	KUNIT_EXPECT_EQ(test, counts->nr_bounds, WSR_COUNT_BINS - 1);
	for (unsigned int i = 0; i <= counts->nr_bounds; i++) {
		counts->known[WSR_SWAP_BACKED][i] = 2;
		counts->unknown[WSR_SWAP_BACKED][i] = 1;
	}
	for (unsigned int i = 1; i < counts->nr_bounds; i++)
		KUNIT_EXPECT_LT(test, counts->bounds_ms[i - 1],
				counts->bounds_ms[i]);
	wsr_counts_finish(counts, bounds, 2, &pages);
	KUNIT_EXPECT_EQ(test, wsr_sum(pages.n[WSR_SWAP_BACKED], 3),
			3 * WSR_COUNT_BINS);
	KUNIT_EXPECT_EQ(test, pages.n[WSR_SWAP_BACKED][2] >= 3, true);
}

/* At each level, each block has one sample, and it is one of those below. */
static void wsr_level_test(struct kunit *test)
{
	for (unsigned int level = 0; level < 12; level++) {
		for (unsigned long block = 1000; block < 1016; block++) {
			unsigned long first = block << level;
			unsigned long pfn = wsr_level_pfn(block, level);
			unsigned int n = 0;

			KUNIT_ASSERT_EQ(test, pfn >> level, block);
			for (unsigned long i = 0; i < 1UL << level; i++)
				n += wsr_level(first + i, 0) >= level;
			KUNIT_ASSERT_EQ(test, n, 1);
			KUNIT_ASSERT_GE(test, wsr_level(pfn, 0), level);
			/* of a folio, the level is that of its best page */
			KUNIT_ASSERT_EQ(test, wsr_level(first, level),
					wsr_level(pfn, 0));
		}
	}
	KUNIT_EXPECT_LE(test, wsr_level(0, 0), WSR_MAX_LEVEL);
	KUNIT_EXPECT_LE(test, wsr_level(ULONG_MAX, 0), WSR_MAX_LEVEL);
}

/* Samples are not in step with anything regular: each stride gets its share. */
static void wsr_level_stride_test(struct kunit *test)
{
	for (unsigned int shift = 0; shift < 10; shift++) {
		unsigned int n = 0;

		for (unsigned long i = 0; i < 16384; i++)
			n += wsr_level((i << shift) + (i & 1), 0) >= 4;
		KUNIT_EXPECT_GT(test, n, 1024 - 200);
		KUNIT_EXPECT_LT(test, n, 1024 + 200);
	}

	/* 64 regions of 1 MiB each: the same one of them holds its share. */
	for (unsigned int level = 9; level < 15; level++) {
		unsigned int n[64] = {};

		for (unsigned long block = 0; block < 4096; block++)
			n[(wsr_level_pfn(block, level) >> 8) & 63]++;
		for (unsigned int i = 0; i < 64; i++) {
			KUNIT_EXPECT_GT(test, n[i], 64 - 40);
			KUNIT_EXPECT_LT(test, n[i], 64 + 40);
		}
	}
}

static void wsr_choose_level_test(struct kunit *test)
{
	unsigned int level;

	KUNIT_EXPECT_EQ(test, wsr_choose_level(WSR_NO_LEVEL, 0), 0);
	KUNIT_EXPECT_EQ(test, wsr_choose_level(WSR_NO_LEVEL, 3072), 0);
	KUNIT_EXPECT_EQ(test, wsr_choose_level(WSR_NO_LEVEL, 3073), 1);
	KUNIT_EXPECT_EQ(test, wsr_choose_level(WSR_NO_LEVEL, 6144), 1);
	KUNIT_EXPECT_EQ(test, wsr_choose_level(1, 2700), 1);
	KUNIT_EXPECT_EQ(test, wsr_choose_level(1, 2500), 0);
	KUNIT_EXPECT_LE(test, wsr_choose_level(0, U64_MAX), WSR_MAX_LEVEL);

	/* A size that changes a bit does not change the level. */
	for (u64 pages = 1; pages < 1ULL << 40; pages = pages * 5 / 4 + 1) {
		level = wsr_choose_level(WSR_NO_LEVEL, pages);
		KUNIT_ASSERT_EQ(test, wsr_choose_level(level, pages * 7 / 8),
				level);
	}
}

static struct kunit_case wsr_histogram_cases[] = {
	KUNIT_CASE(wsr_bounds_test),
	KUNIT_CASE(wsr_config_test),
	KUNIT_CASE(wsr_bin_of_test),
	KUNIT_CASE(wsr_middle_test),
	KUNIT_CASE(wsr_scale_test),
	KUNIT_CASE(wsr_scale_sum_test),
	KUNIT_CASE(wsr_fill_bins_test),
	KUNIT_CASE(wsr_place_unknown_test),
	KUNIT_CASE(wsr_place_unknown_sum_test),
	KUNIT_CASE(wsr_counts_test),
	KUNIT_CASE(wsr_level_test),
	KUNIT_CASE(wsr_level_stride_test),
	KUNIT_CASE(wsr_choose_level_test),
	{}
};

static struct kunit_suite wsr_histogram_suite = {
	.name = "wsr_histogram",
	.test_cases = wsr_histogram_cases,
};

/* Receivers */

#define WSR_TEST_TIMEOUT	(30 * HZ)

/**
 * struct wsr_test_state - what the callback of a test saw
 * @called: completed by each call
 * @go_on: if @block, the callback waits for it
 * @block: make the callback wait
 * @running: callbacks that are running at this moment
 * @overlaps: callbacks that found another one running
 * @last: a copy of the last report's head
 * @first: a copy of its first scope
 */
struct wsr_test_state {
	struct completion called;
	struct completion go_on;
	bool block;
	atomic_t running;
	atomic_t overlaps;
	struct wsr_report last;
	struct wsr_scope_report first;
};

static void wsr_test_report(struct wsr_receiver *receiver,
			    const struct wsr_report *report)
{
	struct wsr_test_state *state = receiver->private_data;

	if (atomic_inc_return(&state->running) > 1)
		atomic_inc(&state->overlaps);
	state->last.reasons = report->reasons;
	state->last.nr_scopes = report->nr_scopes;
	if (report->nr_scopes)
		state->first = report->scopes[0];
	complete(&state->called);
	if (READ_ONCE(state->block))
		wait_for_completion(&state->go_on);
	atomic_dec(&state->running);
}

static const struct wsr_config wsr_test_config = {
	.nr_bounds = 2,
	.idle_age_ms = { 1000, 60000 },
	.refresh_ms = 1000,
};

KUNIT_DEFINE_ACTION_WRAPPER(wsr_test_free_action, wsr_receiver_free,
			    struct wsr_receiver *);

/* Frees a receiver, which otherwise happens when the test ends or fails. */
static void wsr_test_free(struct kunit *test, struct wsr_receiver *receiver)
{
	kunit_release_action(test, wsr_test_free_action, receiver);
}

static struct wsr_receiver *wsr_test_receiver(struct kunit *test,
					      struct wsr_test_state **statep)
{
	struct wsr_test_state *state;
	struct wsr_receiver *receiver;

	state = kunit_kzalloc(test, sizeof(*state), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, state);
	init_completion(&state->called);
	init_completion(&state->go_on);
	receiver = wsr_receiver_alloc("kunit-%s", test->name);
	KUNIT_ASSERT_NOT_NULL(test, receiver);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test,
							wsr_test_free_action,
							receiver), 0);
	receiver->private_data = state;
	receiver->report = wsr_test_report;
	*statep = state;
	return receiver;
}

static bool wsr_test_wait(struct wsr_test_state *state)
{
	return wait_for_completion_timeout(&state->called, WSR_TEST_TIMEOUT);
}

static void wsr_receiver_errors_test(struct kunit *test)
{
	struct wsr_config config = wsr_test_config;
	struct wsr_test_state *state;
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);
	nodemask_t none = NODE_MASK_NONE;

	/* not registered yet */
	KUNIT_EXPECT_EQ(test, wsr_receiver_configure(receiver, &config),
			-EINVAL);
	receiver->report = NULL;
	KUNIT_EXPECT_EQ(test, wsr_receiver_register(receiver), -EINVAL);
	receiver->report = wsr_test_report;
	KUNIT_EXPECT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_EXPECT_EQ(test, wsr_receiver_register(receiver), -EINVAL);

	KUNIT_EXPECT_EQ(test, wsr_receiver_configure(receiver, &config), 0);
	config.idle_age_ms[1] = config.idle_age_ms[0];
	KUNIT_EXPECT_EQ(test, wsr_receiver_configure(receiver, &config),
			-EINVAL);
	config = wsr_test_config;
	config.nodes = &none;
	KUNIT_EXPECT_EQ(test, wsr_receiver_configure(receiver, &config),
			-EINVAL);

	/* the configuration from before the errors is still in force */
	wsr_receiver_request(receiver);
	KUNIT_EXPECT_TRUE(test, wsr_test_wait(state));
	KUNIT_EXPECT_EQ(test, state->first.nr_bins, 3);
	KUNIT_EXPECT_EQ(test, state->first.bins[1].idle_age_ms, 60000);

	wsr_test_free(test, receiver);
	wsr_receiver_free(NULL);
}

static void wsr_receiver_free_unregistered_test(struct kunit *test)
{
	struct wsr_test_state *state;

	wsr_test_free(test, wsr_test_receiver(test, &state));
}

static void wsr_receiver_request_test(struct kunit *test)
{
	struct wsr_test_state *state;
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);
	const struct wsr_scope_report *first = &state->first;
	u64 sum = 0;

	KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver,
						     &wsr_test_config), 0);
	wsr_receiver_request(receiver);
	KUNIT_ASSERT_TRUE(test, wsr_test_wait(state));

	KUNIT_EXPECT_EQ(test, state->last.reasons, BIT(WSR_REASON_REQUEST));
	KUNIT_EXPECT_EQ(test, state->last.nr_scopes,
			num_node_state(N_MEMORY));
	KUNIT_EXPECT_EQ(test, first->nid, first_node(node_states[N_MEMORY]));
	for (unsigned int i = 0; i < first->nr_bins; i++)
		sum += first->bins[i].swap_backed_bytes +
		       first->bins[i].file_backed_bytes;
	sum += first->free_bytes + first->unevictable_bytes +
	       first->kernel_bytes;
	KUNIT_EXPECT_GT(test, first->total_bytes, 0);
	KUNIT_EXPECT_EQ(test, sum, first->total_bytes);

	wsr_test_free(test, receiver);
}

/* Without bounds nothing is reported, and then again. */
static void wsr_receiver_off_test(struct kunit *test)
{
	struct wsr_config off = {};
	struct wsr_test_state *state;
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);
	struct wsr_receiver_stat stat;

	KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver, &off), 0);
	wsr_receiver_request(receiver);
	flush_workqueue(wsr_wq);
	wsr_receiver_stat(receiver, &stat);
	KUNIT_EXPECT_EQ(test, stat.reports, 0);

	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver,
						     &wsr_test_config), 0);
	wsr_receiver_request(receiver);
	KUNIT_EXPECT_TRUE(test, wsr_test_wait(state));
	wsr_test_free(test, receiver);
}

static void wsr_receiver_reclaim_test(struct kunit *test)
{
	struct wsr_config config = wsr_test_config;
	struct wsr_test_state *state;
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);
	int nid = first_node(node_states[N_MEMORY]);
	struct wsr_receiver_stat stat;
	unsigned long start;

	config.report_ms = 500;
	KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver, &config), 0);

	wsr_reclaimed(nid);
	KUNIT_ASSERT_TRUE(test, wsr_test_wait(state));
	KUNIT_EXPECT_EQ(test, state->last.reasons, BIT(WSR_REASON_RECLAIM));

	/* The next one keeps its distance, however often reclaim runs. */
	start = jiffies;
	for (int i = 0; i < 100; i++)
		wsr_reclaimed(nid);
	KUNIT_ASSERT_TRUE(test, wsr_test_wait(state));
	KUNIT_EXPECT_GE(test, jiffies_to_msecs(jiffies - start), 450);
	wsr_receiver_stat(receiver, &stat);
	KUNIT_EXPECT_EQ(test, stat.reports, 2);
	KUNIT_EXPECT_GE(test, stat.merged, 99);

	/* 0: none at all */
	config.report_ms = 0;
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver, &config), 0);
	wsr_reclaimed(nid);
	flush_workqueue(wsr_wq);
	wsr_receiver_stat(receiver, &stat);
	KUNIT_EXPECT_EQ(test, stat.reports, 2);

	wsr_test_free(test, receiver);
}

static void wsr_receiver_period_test(struct kunit *test)
{
	struct wsr_config config = wsr_test_config;
	struct wsr_test_state *state;
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);

	config.period_ms = 50;
	KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver, &config), 0);
	for (int i = 0; i < 3; i++)
		KUNIT_EXPECT_TRUE(test, wsr_test_wait(state));
	KUNIT_EXPECT_EQ(test, state->last.reasons, BIT(WSR_REASON_PERIOD));
	wsr_test_free(test, receiver);
}

/* Two receivers with different bounds; one that sleeps delays only itself. */
static void wsr_receiver_two_test(struct kunit *test)
{
	struct wsr_config config = wsr_test_config;
	struct wsr_test_state *slow_state, *state;
	struct wsr_receiver *slow = wsr_test_receiver(test, &slow_state);
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);

	KUNIT_ASSERT_EQ(test, wsr_receiver_register(slow), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(slow, &config), 0);
	config.nr_bounds = 1;
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver, &config), 0);

	slow_state->block = true;
	wsr_receiver_request(slow);
	KUNIT_EXPECT_TRUE(test, wsr_test_wait(slow_state));
	for (int i = 0; i < 10; i++) {
		wsr_receiver_request(slow);
		wsr_receiver_request(receiver);
		KUNIT_EXPECT_TRUE(test, wsr_test_wait(state));
	}
	KUNIT_EXPECT_EQ(test, state->first.nr_bins, 2);
	KUNIT_EXPECT_EQ(test, slow_state->first.nr_bins, 3);

	/* The sleeper gets one more report for the requests it slept through. */
	slow_state->block = false;
	complete(&slow_state->go_on);
	KUNIT_EXPECT_TRUE(test, wsr_test_wait(slow_state));
	KUNIT_EXPECT_EQ(test, atomic_read(&slow_state->overlaps), 0);

	wsr_test_free(test, receiver);
	wsr_test_free(test, slow);
}

static int wsr_test_free_thread(void *data)
{
	wsr_receiver_free(data);
	return 0;
}

/* Freeing waits for a callback that is running, and none comes afterwards. */
static void wsr_receiver_free_waits_test(struct kunit *test)
{
	struct wsr_test_state *state;
	struct wsr_receiver *receiver = wsr_test_receiver(test, &state);
	struct task_struct *thread;

	KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
	KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver,
						     &wsr_test_config), 0);
	state->block = true;
	wsr_receiver_request(receiver);
	KUNIT_ASSERT_TRUE(test, wsr_test_wait(state));

	/* another one would follow if it were not freed */
	wsr_receiver_request(receiver);
	kunit_remove_action(test, wsr_test_free_action, receiver);
	thread = kthread_create(wsr_test_free_thread, receiver, "wsr_free");
	KUNIT_ASSERT_FALSE(test, IS_ERR(thread));
	get_task_struct(thread);
	wake_up_process(thread);
	msleep(100);
	KUNIT_EXPECT_EQ(test, atomic_read(&state->running), 1);
	complete(&state->go_on);
	kthread_stop_put(thread);

	KUNIT_EXPECT_EQ(test, atomic_read(&state->running), 0);
	KUNIT_EXPECT_FALSE(test, completion_done(&state->called));
}

/* Register, request, reclaim and free, as fast as it goes. */
static void wsr_receiver_churn_test(struct kunit *test)
{
	struct wsr_config config = wsr_test_config;
	struct wsr_test_state *state;

	config.report_ms = 1;
	config.period_ms = 1;
	for (int i = 0; i < 100; i++) {
		struct wsr_receiver *receiver = wsr_test_receiver(test, &state);

		KUNIT_ASSERT_EQ(test, wsr_receiver_register(receiver), 0);
		KUNIT_ASSERT_EQ(test, wsr_receiver_configure(receiver, &config),
				0);
		wsr_receiver_request(receiver);
		wsr_reclaimed(first_node(node_states[N_MEMORY]));
		wsr_test_free(test, receiver);
		KUNIT_EXPECT_EQ(test, atomic_read(&state->running), 0);
	}
}

static struct kunit_case wsr_receiver_cases[] = {
	KUNIT_CASE(wsr_receiver_errors_test),
	KUNIT_CASE(wsr_receiver_free_unregistered_test),
	KUNIT_CASE(wsr_receiver_request_test),
	KUNIT_CASE(wsr_receiver_off_test),
	KUNIT_CASE(wsr_receiver_reclaim_test),
	KUNIT_CASE(wsr_receiver_period_test),
	KUNIT_CASE(wsr_receiver_two_test),
	KUNIT_CASE(wsr_receiver_free_waits_test),
	KUNIT_CASE(wsr_receiver_churn_test),
	{}
};

static struct kunit_suite wsr_receiver_suite = {
	.name = "wsr_receiver",
	.test_cases = wsr_receiver_cases,
};

kunit_test_suites(&wsr_histogram_suite, &wsr_receiver_suite);

MODULE_DESCRIPTION("KUnit tests of working set reporting");
MODULE_LICENSE("GPL");
