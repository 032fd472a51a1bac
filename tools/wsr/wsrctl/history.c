// SPDX-License-Identifier: GPL-2.0
/*
 * A VM's history as a picture of characters.
 */
#include <getopt.h>
#include <langinfo.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "../text.h"
#include "answer.h"
#include "client.h"
#include "history.h"

#define LABEL		18	/* columns in front of the pictures */
#define MAX_COLUMNS	200
#define TABLE_ROWS	12
#define SHADES		5	/* of the heatmap, nothing included */
#define LEVELS		9	/* of a line, nothing included */
#define LEAST_SHARE	0.002	/* less is nothing */

/* What is drawn: a row of the answer for each column, or NULL */
struct picture {
	struct json_object *rows;
	struct json_object *columns[MAX_COLUMNS];
	size_t width;
	int64_t start_s;
	double step_s;
	bool utf8;
};

static size_t terminal_width(void)
{
	const char *text = getenv("COLUMNS");
	struct winsize size;
	long width = text ? atol(text) : 0;

	if (width <= 0 && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
		width = size.ws_col;
	if (width <= 0)
		width = 80;
	if (width < LABEL + 12)
		width = LABEL + 12;
	return width > MAX_COLUMNS ? MAX_COLUMNS : width;
}

/* The last row before the end of each column, as long as it holds */
static void choose_columns(struct picture *picture, struct json_object *answer)
{
	double since_s = get_bytes(answer, "since-s"), holds_s;
	size_t nr = json_object_array_length(picture->rows), next = 0;
	struct json_object *last = NULL;
	int64_t last_s = 0;

	picture->width = terminal_width() - LABEL;
	picture->step_s = since_s / picture->width;
	picture->start_s = get_bytes(answer, "until") - (int64_t)since_s;
	holds_s = fmax(2 * fmax(get_bytes(answer, "interval-s"),
				get_bytes(answer, "step-s")), picture->step_s);
	for (size_t i = 0; i < picture->width; i++) {
		double end_s = picture->start_s + (i + 1) * picture->step_s;

		for (; next < nr; next++) {
			struct json_object *row =
				json_object_array_get_idx(picture->rows, next);
			int64_t time_s = get_bytes(row, "time");

			if (time_s > end_s)
				break;
			last = row;
			last_s = time_s;
		}
		picture->columns[i] = last && end_s - last_s <= holds_s ?
				      last : NULL;
	}
}

/* Bytes of both kinds in a cell, or the sum of all cells if @cell is -1 */
static double cell_bytes(struct json_object *row, int cell)
{
	struct json_object *kinds = get(row, "ages");
	double sum = 0;

	for (size_t kind = 0; kind < 2 && kinds; kind++) {
		struct json_object *cells =
			json_object_array_get_idx(kinds, kind);
		size_t nr = cells ? json_object_array_length(cells) : 0;

		for (size_t i = 0; i < nr; i++) {
			if (cell < 0 || i == (size_t)cell)
				sum += json_object_get_double(
					json_object_array_get_idx(cells, i));
		}
	}
	return sum;
}

static double share(const struct picture *picture, size_t column, int cell)
{
	struct json_object *row = picture->columns[column];
	double sum = row ? cell_bytes(row, -1) : 0;

	return sum > 0 ? cell_bytes(row, cell) / sum : 0;
}

static void print_heatmap(const struct picture *picture,
			  struct json_object *bounds)
{
	static const char * const shades[2][SHADES] = {
		{ " ", ".", ":", "*", "#" },
		{ " ", "░", "▒", "▓", "█" },
	};
	int cells = json_object_array_length(bounds) + 1;
	double most = 0.01;

	for (int cell = 0; cell < cells; cell++) {
		for (size_t i = 0; i < picture->width; i++)
			most = fmax(most, share(picture, i, cell));
	}
	for (int cell = 0; cell < cells; cell++) {
		char age[TEXT_SHORT], label[TEXT_SHORT + 8];

		if (cell < cells - 1)
			snprintf(label, sizeof(label), "< %s",
				 age_text(age, json_object_get_int64(
					json_object_array_get_idx(bounds, cell))));
		else
			snprintf(label, sizeof(label), "older");
		printf("  %-*s", LABEL - 2, label);
		for (size_t i = 0; i < picture->width; i++) {
			double part = share(picture, i, cell);
			int shade = part < LEAST_SHARE ? 0 :
				    ceil(sqrt(part / most) * (SHADES - 1));

			fputs(shades[picture->utf8][shade], stdout);
		}
		putchar('\n');
	}
}

/* Of @most, which is the size of the VM */
static void print_line(const struct picture *picture, const char *label,
		       const char *name, double most)
{
	static const char * const levels[2][LEVELS] = {
		{ " ", "_", ".", "-", "-", "=", "=", "#", "#" },
		{ " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" },
	};

	printf("  %-*s", LABEL - 2, label);
	for (size_t i = 0; i < picture->width; i++) {
		struct json_object *row = picture->columns[i];
		int level = 0;

		if (row && get(row, name) && most > 0)
			level = fmin(fmax(ceil(get_bytes(row, name) / most *
					       (LEVELS - 1)), 1), LEVELS - 1);
		fputs(levels[picture->utf8][level], stdout);
	}
	putchar('\n');
}

static void print_times(const struct picture *picture)
{
	const char *format = picture->step_s * picture->width > 86400 ?
			     "%m-%d %H:%M" : "%H:%M";
	time_t start = picture->start_s;
	time_t end = start + picture->step_s * picture->width;
	char left[32], right[32];
	struct tm tm;

	strftime(left, sizeof(left), format, localtime_r(&start, &tm));
	strftime(right, sizeof(right), format, localtime_r(&end, &tm));
	printf("%*s%-*s%s\n", LABEL, "",
	       (int)(picture->width - strlen(right)), left, right);
}

static void print_table(const struct picture *picture)
{
	size_t nr = json_object_array_length(picture->rows);
	size_t step = nr > TABLE_ROWS ? nr / TABLE_ROWS : 1;

	printf("\n  %-12s %9s %9s %9s %9s  %s\n", "time", "actual", "target",
	       "working", "refaults", "why");
	for (size_t i = (nr - 1) % step; i < nr; i += step) {
		struct json_object *row =
			json_object_array_get_idx(picture->rows, i);
		char actual[TEXT_SHORT], target[TEXT_SHORT], clock[32];
		char working[TEXT_SHORT] = "-", refaults[TEXT_SHORT] = "-";
		time_t time = get_bytes(row, "time");
		struct tm tm;

		strftime(clock, sizeof(clock), "%m-%d %H:%M",
			 localtime_r(&time, &tm));
		text_bytes(actual, get_bytes(row, "actual-bytes"));
		text_bytes(target, get_bytes(row, "target-bytes"));
		if (get(row, "working-set-bytes"))
			text_bytes(working,
				   get_bytes(row, "working-set-bytes"));
		if (get_number(row, "refault-bytes-per-s") >= 0)
			text_bytes(refaults,
				   get_number(row, "refault-bytes-per-s"));
		printf("  %-12s %9s %9s %9s %9s  %s\n", clock, actual, target,
		       working, refaults, get_text(row, "reason"));
	}
}

static void print_history(struct json_object *answer)
{
	struct picture picture = {
		.rows = get(answer, "rows"),
		.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8"),
	};
	size_t nr = json_object_array_length(picture.rows);
	char size[TEXT_SHORT];
	double most = 0;

	if (!nr) {
		printf("%s: nothing in this time\n", get_text(answer, "vm"));
		return;
	}
	for (size_t i = 0; i < nr; i++)
		most = fmax(most, get_bytes(
			json_object_array_get_idx(picture.rows, i),
			"size-bytes"));
	choose_columns(&picture, answer);
	printf("%s: memory by idle age (darker: more)\n",
	       get_text(answer, "vm"));
	print_heatmap(&picture, get(answer, "ages-s"));
	print_times(&picture);
	printf("\nof %s\n", text_bytes(size, most));
	print_line(&picture, "actual", "actual-bytes", most);
	print_line(&picture, "target", "target-bytes", most);
	print_line(&picture, "working set", "working-set-bytes", most);
	print_table(&picture);
}

static int usage(void)
{
	fputs("wsrctl: usage: wsrctl history [--since TIME] VM\n", stderr);
	return 2;
}

int history_main(int argc, char **argv, const char *socket, bool as_json)
{
	static const struct option options[] = {
		{ "since", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ }
	};
	struct json_object *request, *answer;
	uint32_t since_ms = 3600000;
	int option;

	optind = 0;
	while ((option = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		if (option == '?')
			return usage();
		if (option == 'j') {
			as_json = true;
		} else if (text_parse_ms(optarg, &since_ms) || since_ms < 1000) {
			fprintf(stderr, "wsrctl: --since %s: this must be a time such as 90s, 20m or 48h\n",
				optarg);
			return 2;
		}
	}
	if (argc - optind != 1)
		return usage();
	request = client_request("history");
	json_object_object_add(request, "vm",
			       json_object_new_string(argv[optind]));
	json_object_object_add(request, "since-s",
			       json_object_new_int64(since_ms / 1000));
	answer = client_ask(socket, request);
	if (as_json)
		print_json(answer);
	else
		print_history(answer);
	json_object_put(answer);
	return 0;
}
