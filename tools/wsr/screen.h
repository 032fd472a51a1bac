/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The live view on a terminal, with ncurses.
 */
#ifndef WSR_SCREEN_H
#define WSR_SCREEN_H

#include <stdbool.h>

#include "view.h"

enum screen_key {
	SCREEN_NO_KEY,		/* nothing was pressed */
	SCREEN_OTHER_KEY,
	SCREEN_QUIT,
	SCREEN_PAUSE,
	SCREEN_HELP,
	SCREEN_UP,
	SCREEN_DOWN,
	SCREEN_NEXT,
};

/**
 * struct screen_content - what to draw
 * @host:	lines about the host, NULL: guests have no plans
 * @guests:	@nr_guests of them
 * @selected:	which one is shown in full
 * @activity:	what is being done, for people
 * @clock:	the time, for people
 */
struct screen_content {
	const struct text *host;
	const struct view_guest *guests;
	unsigned int nr_guests;
	unsigned int selected;
	bool paused;
	bool help;
	const char *activity;
	const char *clock;
};

/**
 * screen_open - take over the terminal
 * @utf8:	the locale's character set is UTF-8
 *
 * Return: 0, or -1 if the terminal can't do it.
 */
int screen_open(bool utf8);

/** screen_close - give the terminal back as it was; harmless if not open */
void screen_close(void);

void screen_draw(const struct screen_content *content);

/** screen_resize - adapt to the terminal's new size; draw afterwards */
void screen_resize(void);

enum screen_key screen_get_key(void);

#endif
