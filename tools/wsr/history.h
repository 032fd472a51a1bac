/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bins of the last reports, for the heatmap. No I/O.
 */
#ifndef WSR_HISTORY_H
#define WSR_HISTORY_H

#include "report.h"

#define HISTORY_COLUMNS	512	/* more than a terminal is wide */

/* One report. */
struct history_column {
	int64_t time_ms;	/* monotonic, when it was received */
	bool warming_up;
	uint64_t lru_bytes;
	uint64_t bin_bytes[REPORT_MAX_BINS];
};

/**
 * struct history - a ring of reports that all have the same bins
 * @bounds:	a record with these bins, for labels
 * @next:	where the next report goes
 * @count:	reports in the ring
 */
struct history {
	struct report_node bounds;
	unsigned int next;
	unsigned int count;
	struct history_column columns[HISTORY_COLUMNS];
};

/**
 * history_add - append a report; with other bins than before, start anew
 * @now_ms:	monotonic time
 */
void history_add(struct history *history, const struct report_node *guest,
		 int64_t now_ms);

/** history_get - the report @back before the newest; @back < @count */
const struct history_column *history_get(const struct history *history,
					 unsigned int back);

#endif
