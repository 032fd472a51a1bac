/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest's report, or wsrd's decision, looks like as text. Pure: from
 * structs into a struct text, whose width, character set and styles decide the
 * form.
 */
#ifndef WSR_VIEW_H
#define WSR_VIEW_H

#include "history.h"
#include "report.h"
#include "text.h"

/**
 * struct view_plan - what wsrd gives a VM
 * @has_report:	@working_set_bytes, @free_bytes, @refault_rate and @source are
 *		known
 * @cut_ms:	it keeps what is younger, less than 0: all
 * @refault_rate: bytes per second
 * @why:	the reason, and what holds it, in a word each
 * @source:	who says how old its memory is
 */
struct view_plan {
	uint64_t size_bytes;
	uint64_t actual_bytes;
	uint64_t target_bytes;
	uint64_t desired_bytes;
	bool has_report;
	uint64_t working_set_bytes;
	uint64_t free_bytes;
	double cut_ms;
	uint64_t refault_rate;
	const char *why;
	const char *source;
};

/**
 * struct view_guest - all that is shown of one guest
 * @name:	printable name
 * @where:	printable socket, or NULL
 * @state:	the state in a word or two
 * @healthy:	the state is as it should be
 * @why:	the state explained, NULL if there is nothing to say
 * @plan:	what wsrd decided, or NULL
 * @node:	its memory by idle age, or NULL
 * @report:	the last good report of the guest itself, or NULL
 * @data_age_ms: how old the data of @node are now
 * @received:	when @report came, for people
 * @history:	of @node
 * @now_ms:	monotonic time
 */
struct view_guest {
	const char *name;
	const char *where;
	const char *state;
	bool healthy;
	const char *why;
	const struct view_plan *plan;
	const struct report_node *node;
	const struct report *report;
	uint64_t data_age_ms;
	const char *received;
	const struct history *history;
	int64_t now_ms;
};

/** view_guest_line - one line for a list of guests */
void view_guest_line(struct text *text, const struct view_guest *guest,
		     bool selected);

/**
 * view_list_header - the heads of the columns of view_guest_line()
 * @plans:	of guests with a plan
 */
void view_list_header(struct text *text, bool plans);

/** view_guest_full - state, figures, bars */
void view_guest_full(struct text *text, const struct view_guest *guest);

/** view_heatmap - the reports over time, nothing if there are fewer than 2 */
void view_heatmap(struct text *text, const struct view_guest *guest);

/** view_help - the keys and what the screen shows */
void view_help(struct text *text);

#endif
