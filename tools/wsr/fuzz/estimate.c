// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: texts of files of control groups and processes, and of the child that
 * samples idle pages. The first byte says which.
 */
#include <stdlib.h>
#include <string.h>

#include "../wsrd/estimate.h"
#include "../wsrd/idle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct report_node *node)
{
	uint64_t sum = 0;

	if (node->nr_bins < 2 || node->nr_bins > REPORT_MAX_BINS)
		abort();
	for (unsigned int i = 0; i < node->nr_bins; i++)
		sum += report_bin_bytes(node, i);
	if (sum != node->lru_bytes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory_stat stat = { .swap_backed = 1 << 30, .file_backed = 1 };
	struct lru_gen_targets targets;
	struct report_node node, guest;
	struct idle_region regions[IDLE_MAX_REGIONS];
	struct idle_facts facts;
	uint64_t number;
	char *text;

	if (!size)
		return 0;
	text = strndup((const char *)data + 1, size - 1);
	switch (data[0] % 6) {
	case 0:
		estimate_lru_gen(text, "/a", 4096, &stat, &node, &targets);
		check(&node);
		estimate_guest(&guest, 1 << 29, NULL, &node, ESTIMATE_LRU_GEN);
		check(&guest);
		break;
	case 1:
		if (!estimate_parse_stat(text, 4096, &stat)) {
			estimate_stat(&stat, &node);
			estimate_group(&node, &stat, stat.cache, UINT64_MAX);
			check(&node);
		}
		break;
	case 2:
		if (!estimate_working_set(text, text, &node))
			check(&node);
		break;
	case 3:
		estimate_parse_psi(text);
		estimate_parse_number(text, &number);
		estimate_swapped(text, size);
		break;
	case 4:
		if (!estimate_idle(text, &node, &facts)) {
			check(&node);
			estimate_guest(&guest, 1 << 29, NULL, &node,
				       ESTIMATE_IDLE);
			check(&guest);
		}
		break;
	case 5:
		if (idle_parse_maps(text, 1 << 29, regions) > IDLE_MAX_REGIONS)
			abort();
		break;
	}
	free(text);
	return 0;
}
