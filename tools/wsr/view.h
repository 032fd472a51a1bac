/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest's report looks like as text. Pure: from structs into
 * a struct text, whose width, character set and styles decide the form.
 */
#ifndef WSR_VIEW_H
#define WSR_VIEW_H

#include "history.h"
#include "report.h"
#include "text.h"

/**
 * struct view_guest - all that is shown of one guest
 * @name:	printable name
 * @where:	printable socket
 * @state:	the state in a word or two
 * @healthy:	the state is as it should be
 * @why:	the state explained, NULL if there is nothing to say
 * @report:	the last good report or NULL
 * @data_age_ms: how old its data are now
 * @received:	when it came, for people
 * @history:	of the good reports
 * @now_ms:	monotonic time
 */
struct view_guest {
	const char *name;
	const char *where;
	const char *state;
	bool healthy;
	const char *why;
	const struct report *report;
	uint64_t data_age_ms;
	const char *received;
	const struct history *history;
	int64_t now_ms;
};

/** view_guest_line - one line for a list of guests */
void view_guest_line(struct text *text, const struct view_guest *guest,
		     bool selected);

/** view_list_header - the heads of the columns of view_guest_line() */
void view_list_header(struct text *text);

/** view_guest_full - state, figures, bars */
void view_guest_full(struct text *text, const struct view_guest *guest);

/** view_heatmap - the reports over time, nothing if there are fewer than 2 */
void view_heatmap(struct text *text, const struct view_guest *guest);

/** view_help - the keys and what the screen shows */
void view_help(struct text *text);

#endif
