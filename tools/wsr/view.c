// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest's report, or wsrd's decision, looks like as text. Pure.
 */
#include <inttypes.h>
#include <stdio.h>

#include "view.h"

/* Columns of the table of bins. */
#define AGE_COLUMN	2
#define SWAP_COLUMN	13
#define FILE_COLUMN	22
#define BYTES_WIDTH	8	/* "1023 MiB" */
#define BAR_COLUMN	32
#define IDLE_WIDTH	28	/* "idle >= 30s: 1023 MiB 100 %" */
#define LEAST_BAR	8	/* a shorter bar says nothing */

/* Columns of the list of guests. */
#define LIST_STATE	18
#define LIST_TOTAL	38
#define LIST_FREE	49
#define LIST_IDLE	60

/* Columns of the list of VMs of wsrd. */
#define PLAN_SIZE	16
#define PLAN_ACTUAL	25
#define PLAN_TARGET	34
#define PLAN_WORKING	43
#define PLAN_BAR	53
#define PLAN_WHY	24	/* "equal-age, held: no-free" */

static const char *bar_swap(const struct text *text)
{
	return text->utf8 ? "█" : "#";
}

static const char *bar_file(const struct text *text)
{
	return text->utf8 ? "▒" : "=";
}

static void add_bytes(struct text *text, uint64_t bytes, unsigned int width)
{
	char number[TEXT_SHORT];

	text_printf(text, "%*s", (int)width, text_bytes(number, bytes));
}

static void bin_label(char out[2 * TEXT_SHORT + 8],
		      const struct report_node *node, unsigned int bin)
{
	char start[TEXT_SHORT], end[TEXT_SHORT];

	text_bound(start, report_bin_start_ms(node, bin));
	if (bin + 1 == node->nr_bins)
		snprintf(out, 2 * TEXT_SHORT + 8, ">= %s", start);
	else if (bin == 0)
		snprintf(out, 2 * TEXT_SHORT + 8, "< %s",
			 text_bound(end, node->bins[bin].idle_age_ms));
	else
		snprintf(out, 2 * TEXT_SHORT + 8, "%s - %s", start,
			 text_bound(end, node->bins[bin].idle_age_ms));
}

/* @part of @whole in columns of a bar, rounded to the nearest. */
static unsigned int cells(uint64_t part, uint64_t whole, unsigned int width)
{
	return whole ? (double)part / whole * width + 0.5 : 0;
}

static void add_bar(struct text *text, const struct report_bin *bin,
		    uint64_t whole, unsigned int width)
{
	uint64_t both = bin->swap_backed_bytes + bin->file_backed_bytes;
	unsigned int all = cells(both, whole, width);
	unsigned int swap = cells(bin->swap_backed_bytes, both, all);

	/* A little is not nothing. */
	if (both && !all) {
		swap = cells(bin->swap_backed_bytes, both, 1);
		text_style(text, swap ? TEXT_SWAP : TEXT_FILE);
		text_add(text, text->utf8 ? "▏" : ".");
		text_style(text, TEXT_NORMAL);
		return;
	}
	text_style(text, TEXT_SWAP);
	text_repeat(text, bar_swap(text), swap);
	text_style(text, TEXT_FILE);
	text_repeat(text, bar_file(text), all - swap);
	text_style(text, TEXT_NORMAL);
}

static void add_idle(struct text *text, const struct report_node *node,
		     unsigned int bin)
{
	uint64_t idle = report_idle_bytes(node, bin);
	char bound[TEXT_SHORT], bytes[TEXT_SHORT];

	if (bin == 0)
		return;
	text_printf(text, "idle >= %s: %s %u %%",
		    text_bound(bound, report_bin_start_ms(node, bin)),
		    text_bytes(bytes, idle),
		    report_percent(idle, node->lru_bytes));
}

static void add_bins(struct text *text, const struct report_node *node)
{
	unsigned int width = text->width ? text->width : 80;
	unsigned int idle_column = 0, bar = 0, i;
	char label[2 * TEXT_SHORT + 8];

	/* What does not fit is left out: first "idle", then the bar. */
	if (width >= BAR_COLUMN + LEAST_BAR + 2 + IDLE_WIDTH) {
		idle_column = width - IDLE_WIDTH;
		bar = idle_column - 2 - BAR_COLUMN;
	} else if (width >= BAR_COLUMN + LEAST_BAR) {
		bar = width - BAR_COLUMN;
	}

	text_style(text, TEXT_TITLE);
	text_pad(text, AGE_COLUMN);
	text_add(text, "idle age");
	text_pad(text, SWAP_COLUMN);
	text_add(text, "    swap");
	text_pad(text, FILE_COLUMN);
	text_add(text, "    file");
	text_pad(text, BAR_COLUMN);
	if (bar)
		text_printf(text, "share");
	if (idle_column) {
		text_pad(text, idle_column);
		text_add(text, "idle for longer (sum)");
	}
	text_style(text, TEXT_NORMAL);
	text_newline(text);

	for (i = 0; i < node->nr_bins; i++) {
		bin_label(label, node, i);
		text_pad(text, AGE_COLUMN);
		text_add(text, label);
		text_pad(text, SWAP_COLUMN);
		add_bytes(text, node->bins[i].swap_backed_bytes,
			  BYTES_WIDTH);
		text_pad(text, FILE_COLUMN);
		add_bytes(text, node->bins[i].file_backed_bytes,
			  BYTES_WIDTH);
		text_pad(text, BAR_COLUMN);
		if (bar)
			add_bar(text, &node->bins[i], node->lru_bytes, bar);
		if (idle_column) {
			text_pad(text, idle_column);
			add_idle(text, node, i);
		}
		text_newline(text);
	}
	if (!bar)
		return;
	text_pad(text, AGE_COLUMN);
	text_style(text, TEXT_SWAP);
	text_repeat(text, bar_swap(text), 2);
	text_style(text, TEXT_NORMAL);
	text_add(text, " swap-backed  ");
	text_style(text, TEXT_FILE);
	text_repeat(text, bar_file(text), 2);
	text_style(text, TEXT_NORMAL);
	text_add(text, " file-backed  full bar: all LRU memory, ");
	add_bytes(text, node->lru_bytes, 0);
	text_newline(text);
}

struct figure {
	const char *name;
	uint64_t bytes;
};

/* "total 1.95 GiB  free ...", broken between figures where the line ends. */
static void add_figures(struct text *text, const struct figure *figures,
			size_t nr)
{
	char bytes[TEXT_SHORT], figure[2 * TEXT_SHORT];
	int len;

	for (size_t i = 0; i < nr; i++) {
		len = snprintf(figure, sizeof(figure), "%s %s",
			       figures[i].name,
			       text_bytes(bytes, figures[i].bytes));
		if (text->width && text->column > AGE_COLUMN &&
		    text->column + 2 + len > text->width)
			text_newline(text);
		text_pad(text, text->column ? text->column + 2 : AGE_COLUMN);
		text_add(text, figure);
	}
	text_newline(text);
}

static void add_node_figures(struct text *text, const struct report_node *node)
{
	const struct figure figures[] = {
		{ "total", node->total_bytes },
		{ "LRU", node->lru_bytes },
		{ "free", node->free_bytes },
		{ "unevictable", node->unevictable_bytes },
		{ "kernel", node->kernel_bytes },
		{ "reclaimable slab", node->slab_reclaimable_bytes },
		{ "swap free", node->swap_free_bytes },
		{ "refaulted", node->refaulted_bytes },
	};

	add_figures(text, figures, sizeof(figures) / sizeof(figures[0]));
}

static void add_plan(struct text *text, const struct view_plan *plan,
		     uint64_t data_age_ms)
{
	const struct figure sizes[] = {
		{ "size", plan->size_bytes },
		{ "actual", plan->actual_bytes },
		{ "target", plan->target_bytes },
		{ "desired", plan->desired_bytes },
	}, usage[] = {
		{ "working set", plan->working_set_bytes },
		{ "free", plan->free_bytes },
		{ "refaults per second", plan->refault_rate },
	};
	char age[TEXT_SHORT];

	add_figures(text, sizes, sizeof(sizes) / sizeof(sizes[0]));
	if (plan->has_report)
		add_figures(text, usage, sizeof(usage) / sizeof(usage[0]));
	text_pad(text, AGE_COLUMN);
	text_add(text, plan->why);
	if (plan->cut_ms >= 0)
		text_printf(text, "; keeps what is younger than %s",
			    text_ago(age, plan->cut_ms));
	if (plan->has_report)
		text_printf(text, "; ages: %s, %s old", plan->source,
			    text_ago(age, data_age_ms));
	text_newline(text);
}

/* One line for each NUMA node; the table shows their sum. */
static void add_nodes(struct text *text, const struct report *report)
{
	char bound[TEXT_SHORT];
	unsigned int i;

	if (report->nr_nodes < 2)
		return;
	for (i = 0; i < report->nr_nodes; i++) {
		const struct report_node *node = &report->nodes[i];
		unsigned int last = node->nr_bins - 1;

		text_pad(text, AGE_COLUMN);
		if (node->node_id == REPORT_ALL_NODES)
			text_add(text, "all nodes: total ");
		else
			text_printf(text, "node %d: total ", node->node_id);
		add_bytes(text, node->total_bytes, 0);
		text_add(text, "  free ");
		add_bytes(text, node->free_bytes, 0);
		text_printf(text, "  idle >= %s: ",
			    text_bound(bound, report_bin_start_ms(node, last)));
		add_bytes(text, report_bin_bytes(node, last), 0);
		text_newline(text);
	}
}

static void add_state(struct text *text, const struct view_guest *guest)
{
	text_style(text, guest->healthy ? TEXT_GOOD : TEXT_BAD);
	text_add(text, guest->state);
	text_style(text, TEXT_NORMAL);
}

static void add_report(struct text *text, const struct view_guest *guest)
{
	const struct report *report = guest->report;
	char ago[TEXT_SHORT];

	text_pad(text, AGE_COLUMN);
	text_printf(text, "data %s old, report %" PRIu64 " %s at %s",
		    text_ago(ago, guest->data_age_ms), report->sequence,
		    report->request_id ? "(requested)" : "(unsolicited)",
		    guest->received);
	text_newline(text);
	if (report->guest.warming_up)
		text_wrapped(text, AGE_COLUMN,
			     "The guest has not watched its memory for long enough: the ages are estimates.");
	add_node_figures(text, &report->guest);
	add_nodes(text, report);
}

void view_guest_full(struct text *text, const struct view_guest *guest)
{
	const struct report *report = guest->report;

	text_style(text, TEXT_TITLE);
	text_add(text, guest->name);
	text_style(text, TEXT_NORMAL);
	text_add(text, ": ");
	add_state(text, guest);
	if (report && report->guest.warming_up) {
		text_style(text, TEXT_BAD);
		text_add(text, ", warming up");
		text_style(text, TEXT_NORMAL);
	}
	if (guest->where)
		text_printf(text, "  (%s)", guest->where);
	text_newline(text);
	if (guest->why)
		text_wrapped(text, AGE_COLUMN, guest->why);
	if (guest->plan)
		add_plan(text, guest->plan, guest->data_age_ms);
	if (report)
		add_report(text, guest);
	if (!guest->node)
		return;
	text_newline(text);
	add_bins(text, guest->node);
}
/* Shades by the least share in percent. */
static const struct {
	unsigned int percent;
	const char *utf8;
	const char *ascii;
} shades[] = {
	{ 0, " ", " " },
	{ 1, "·", "." },
	{ 5, "░", ":" },
	{ 15, "▒", "+" },
	{ 35, "▓", "%" },
	{ 60, "█", "#" },
};

#define NR_SHADES (sizeof(shades) / sizeof(shades[0]))

static const char *shade(const struct text *text, unsigned int i)
{
	return text->utf8 ? shades[i].utf8 : shades[i].ascii;
}

static void add_shade(struct text *text, uint64_t part, uint64_t whole)
{
	unsigned int percent = report_percent(part, whole);
	unsigned int i = NR_SHADES - 1;

	while (i && percent < shades[i].percent)
		i--;
	text_add(text, shade(text, i));
}

static void add_heat_legend(struct text *text)
{
	unsigned int i;

	text_pad(text, AGE_COLUMN);
	text_add(text, "share of LRU memory:");
	for (i = 1; i < NR_SHADES; i++)
		text_printf(text, "  %s >= %u %%", shade(text, i),
			    shades[i].percent);
	text_newline(text);
}

void view_heatmap(struct text *text, const struct view_guest *guest)
{
	const struct history *history = guest->history;
	const struct history_column *column;
	const char *edge = text->utf8 ? "│" : "|";
	unsigned int width, columns, bin, back;
	char label[2 * TEXT_SHORT + 8];
	char oldest[TEXT_SHORT];
	bool warming_up = false;

	if (!history || history->count < 2)
		return;
	width = text->width ? text->width : 80;
	/* The label and an edge on both sides. */
	if (width < SWAP_COLUMN + 2 + 4)
		return;
	columns = width - SWAP_COLUMN - 2;
	if (columns > history->count)
		columns = history->count;

	column = history_get(history, columns - 1);
	text_style(text, TEXT_TITLE);
	text_printf(text, "%s: last %u reports", guest->name, columns);
	text_style(text, TEXT_NORMAL);
	text_printf(text, ", from %s ago (left) to the newest (right)",
		    text_ago(oldest, guest->now_ms - column->time_ms));
	text_newline(text);
	for (bin = 0; bin < history->bounds.nr_bins; bin++) {
		bin_label(label, &history->bounds, bin);
		text_pad(text, AGE_COLUMN);
		text_add(text, label);
		text_pad(text, SWAP_COLUMN);
		text_add(text, edge);
		text_style(text, TEXT_HEAT);
		for (back = columns; back--;) {
			column = history_get(history, back);
			add_shade(text, column->bin_bytes[bin],
				  column->lru_bytes);
			warming_up |= column->warming_up;
		}
		text_style(text, TEXT_NORMAL);
		text_add(text, edge);
		text_newline(text);
	}
	if (warming_up) {
		text_pad(text, AGE_COLUMN);
		text_add(text, "warming up");
		text_pad(text, SWAP_COLUMN + 1);
		for (back = columns; back--;) {
			column = history_get(history, back);
			text_add(text, column->warming_up ? "w" : " ");
		}
		text_newline(text);
	}
	add_heat_legend(text);
}

/* Where the reason begins in the list of VMs, behind the bar */
static unsigned int why_column(const struct text *text)
{
	unsigned int width = text->width ? text->width : 80;

	return width > PLAN_BAR + LEAST_BAR + 2 + PLAN_WHY ?
	       width - PLAN_WHY : PLAN_BAR + LEAST_BAR + 2;
}

static void list_plan_header(struct text *text)
{
	text_style(text, TEXT_TITLE);
	text_add(text, "  VM");
	text_pad(text, PLAN_SIZE);
	text_add(text, "    size");
	text_pad(text, PLAN_ACTUAL);
	text_add(text, "  actual");
	text_pad(text, PLAN_TARGET);
	text_add(text, "  target");
	text_pad(text, PLAN_WORKING);
	text_add(text, " working");
	text_pad(text, PLAN_BAR);
	text_add(text, "new..old");
	text_pad(text, why_column(text));
	text_add(text, "why");
	text_style(text, TEXT_NORMAL);
	text_newline(text);
}

void view_list_header(struct text *text, bool plans)
{
	if (plans) {
		list_plan_header(text);
		return;
	}
	text_style(text, TEXT_TITLE);
	text_add(text, "  guest");
	text_pad(text, LIST_STATE);
	text_add(text, "state");
	text_pad(text, LIST_TOTAL);
	text_add(text, "     total");
	text_pad(text, LIST_FREE);
	text_add(text, "      free");
	text_pad(text, LIST_IDLE);
	text_add(text, "idle longest");
	text_style(text, TEXT_NORMAL);
	text_newline(text);
}

/* Add at most as much of @string as fits before @column. */
static void add_until(struct text *text, const char *string,
		      unsigned int column)
{
	unsigned int width = text->width;

	if (!width || column < width)
		text->width = column;
	text_add(text, string);
	text->width = width;
}

/* All of @node's memory, new at the left, the older the lighter. */
static void add_age_bar(struct text *text, const struct report_node *node,
			unsigned int width)
{
	uint64_t younger = report_bin_bytes(node, 0);
	unsigned int bin = 0, i;

	text_style(text, TEXT_HEAT);
	for (i = 0; i < width && node->lru_bytes; i++) {
		/* The bin that the middle of this column lies in */
		while (bin + 1 < node->nr_bins &&
		       younger <= (i + 0.5) / width * node->lru_bytes)
			younger += report_bin_bytes(node, ++bin);
		text_add(text, shade(text, NR_SHADES - 1 - bin *
				     (NR_SHADES - 2) / (node->nr_bins - 1)));
	}
	text_style(text, TEXT_NORMAL);
}

static void add_plan_line(struct text *text, const struct view_guest *guest)
{
	const struct view_plan *plan = guest->plan;
	unsigned int why = why_column(text);

	text_pad(text, PLAN_SIZE);
	add_bytes(text, plan->size_bytes, BYTES_WIDTH);
	text_pad(text, PLAN_ACTUAL);
	add_bytes(text, plan->actual_bytes, BYTES_WIDTH);
	text_pad(text, PLAN_TARGET);
	add_bytes(text, plan->target_bytes, BYTES_WIDTH);
	text_pad(text, PLAN_WORKING);
	if (plan->has_report)
		add_bytes(text, plan->working_set_bytes, BYTES_WIDTH);
	text_pad(text, PLAN_BAR);
	if (guest->node)
		add_age_bar(text, guest->node, why - 2 - PLAN_BAR);
	text_pad(text, why);
	if (guest->healthy)
		text_add(text, plan->why);
	else
		add_state(text, guest);
}

static void add_report_line(struct text *text, const struct view_guest *guest)
{
	char bound[TEXT_SHORT];

	text_pad(text, LIST_STATE);
	text_style(text, guest->healthy ? TEXT_GOOD : TEXT_BAD);
	add_until(text, guest->state, LIST_TOTAL - 1);
	text_style(text, TEXT_NORMAL);
	if (guest->node) {
		const struct report_node *node = guest->node;
		unsigned int last = node->nr_bins - 1;

		text_pad(text, LIST_TOTAL);
		add_bytes(text, node->total_bytes, 10);
		text_pad(text, LIST_FREE);
		add_bytes(text, node->free_bytes, 10);
		text_pad(text, LIST_IDLE);
		text_printf(text, ">= %s: ",
			    text_bound(bound, report_bin_start_ms(node, last)));
		add_bytes(text, report_bin_bytes(node, last), 0);
	}
}

void view_guest_line(struct text *text, const struct view_guest *guest,
		     bool selected)
{
	text_style(text, selected ? TEXT_TITLE : TEXT_NORMAL);
	text_add(text, selected ? "> " : "  ");
	add_until(text, guest->name,
		  (guest->plan ? PLAN_SIZE : LIST_STATE) - 1);
	text_style(text, TEXT_NORMAL);
	if (guest->plan)
		add_plan_line(text, guest);
	else
		add_report_line(text, guest);
	text_newline(text);
}

void view_help(struct text *text)
{
	static const char * const lines[] = {
		"  up, down, tab   select a guest",
		"  p               pause: ask for no reports, freeze the screen",
		"  ? or h          this help",
		"  ^L              draw the screen anew",
		"  q               quit",
		"",
		"idle age: the time since a page was last accessed. Each row is the",
		"memory whose idle age lies in that range.",
		"swap-backed: anonymous and shared memory, needs swap to be reclaimed.",
		"file-backed: page cache, can be dropped or written back.",
		"LRU: all memory that has an idle age. kernel: all the rest in use.",
		"idle for longer (sum): how much could be taken from the guest if",
		"pages idle for at least this long are given up.",
		"warming up: the guest has watched too short a time, ages are guesses.",
		"heatmap: one column for each report, newest at the right.",
		"list of wsrd: new..old is all LRU memory, the older the lighter;",
		"why: the reason for the target, and what keeps it from moving.",
	};
	unsigned int i;

	text_style(text, TEXT_TITLE);
	text_add(text, "Keys");
	text_style(text, TEXT_NORMAL);
	text_newline(text);
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		text_add(text, lines[i]);
		text_newline(text);
	}
}
