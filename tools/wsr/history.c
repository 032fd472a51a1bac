// SPDX-License-Identifier: GPL-2.0
/*
 * The bins of the last reports, for the heatmap. No I/O.
 */
#include "history.h"

void history_add(struct history *history, const struct report_node *guest,
		 int64_t now_ms)
{
	struct history_column *column;
	unsigned int i;

	if (!report_same_bounds(&history->bounds, guest)) {
		history->bounds = *guest;
		history->count = 0;
		history->next = 0;
	}
	column = &history->columns[history->next];
	history->next = (history->next + 1) % HISTORY_COLUMNS;
	if (history->count < HISTORY_COLUMNS)
		history->count++;

	column->time_ms = now_ms;
	column->warming_up = guest->warming_up;
	column->lru_bytes = guest->lru_bytes;
	for (i = 0; i < guest->nr_bins; i++)
		column->bin_bytes[i] = report_bin_bytes(guest, i);
}

const struct history_column *history_get(const struct history *history,
					 unsigned int back)
{
	return &history->columns[(history->next + HISTORY_COLUMNS - 1 - back) %
				 HISTORY_COLUMNS];
}
