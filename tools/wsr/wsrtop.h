/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of wsrtop share: what the user wants, and where guests come
 * from: QMP sockets (source_qmp.c) or wsrd (source_wsrd.c).
 */
#ifndef WSR_WSRTOP_H
#define WSR_WSRTOP_H

#include <stdbool.h>
#include <stdint.h>

#include "guest.h"
#include "screen.h"
#include "text.h"

struct json_object;
struct pollfd;

enum output {
	OUTPUT_SCREEN,
	OUTPUT_PLAIN,
	OUTPUT_JSON,
};

/**
 * struct wsrtop - the running program
 * @options:	of the command line; bounds and interval are for wsrd, too
 * @control:	path of wsrd's control socket
 * @output:	where to
 * @count:	reports to wait for, 0: no limit
 * @width:	of plain text
 * @paused:	nothing is asked for
 * @redraw:	the screen is no longer true
 * @quit:	the loop ends
 * @start_ms:	when it began
 */
struct wsrtop {
	struct guest_options options;
	const char *control;
	enum output output;
	uint64_t count;
	unsigned int width;
	bool paused;
	bool redraw;
	bool quit;
	int64_t start_ms;
};

/**
 * struct source - where guests come from
 * @open:	prepare for what @nr words of the command line name; returns the
 *		number of descriptors to poll, which stays. Ends the program if
 *		the words make no sense
 * @poll:	fill them in
 * @io:		poll() has set their revents
 * @tick:	do what is due, about every 100 ms unless paused
 * @waiting:	with --count: is there something to wait for?
 * @content:	fill in the guests and what is above them. What it points to
 *		stays until the next call of any of these
 * @tell:	tell of guests that did not report; returns whether all did
 * @stop:	leave the guests as the user wants them
 * @stopping:	not done yet: go on polling
 * @close:	release all
 */
struct source {
	unsigned int (*open)(char **words, unsigned int nr);
	void (*poll)(struct pollfd *fds);
	void (*io)(const struct pollfd *fds, int64_t now_ms);
	void (*tick)(int64_t now_ms);
	bool (*waiting)(int64_t now_ms);
	void (*content)(struct screen_content *content, int64_t now_ms);
	bool (*tell)(void);
	void (*stop)(void);
	bool (*stopping)(void);
	void (*close)(void);
};

extern const struct source source_qmp;
extern const struct source source_wsrd;

/* wsrtop.c */

extern struct wsrtop app;

enum {
	EXIT_NO_REPORT = 1,
	EXIT_USAGE = 2,
};

void __attribute__((noreturn, format(printf, 1, 2)))
usage_error(const char *format, ...);

/** allocate - zeroed memory; ends the program if there is none */
void *allocate(size_t nr, size_t size);

int64_t monotonic_ms(void);

/** clock_text - the time of day of @seconds since the epoch */
const char *clock_text(char out[TEXT_SHORT], int64_t seconds);

/** plain_text - an empty text for standard output */
struct text plain_text(void);

/** print_text - to standard output, and release it */
void print_text(struct text *text);

/** print_json_line - to standard output; the reference is taken over */
void print_json_line(struct json_object *json);

/** put_time - the field "time-ms": now */
void put_time(struct json_object *json);

#endif
