// SPDX-License-Identifier: GPL-2.0
/*
 * The live view on a terminal, with ncurses.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <ncurses.h>

#include "screen.h"

static SCREEN *terminal;
static bool utf8_locale;
static unsigned int first_in_list;	/* what the list has scrolled to */

static int style_attr[TEXT_LAST_STYLE + 1];

static void set_up_styles(void)
{
	static const struct {
		enum text_style style;
		short colour;
		int attr;
	} styles[] = {
		{ TEXT_TITLE, -1, A_BOLD },
		{ TEXT_SWAP, COLOR_YELLOW, A_NORMAL },
		{ TEXT_FILE, COLOR_CYAN, A_NORMAL },
		{ TEXT_HEAT, COLOR_MAGENTA, A_NORMAL },
		{ TEXT_GOOD, COLOR_GREEN, A_NORMAL },
		{ TEXT_BAD, COLOR_RED, A_BOLD },
	};
	bool colours = has_colors() && !getenv("NO_COLOR");
	unsigned int i;

	if (colours) {
		start_color();
		use_default_colors();
	}
	for (i = 0; i < sizeof(styles) / sizeof(styles[0]); i++) {
		style_attr[styles[i].style] = styles[i].attr;
		if (!colours || styles[i].colour < 0)
			continue;
		init_pair(styles[i].style, styles[i].colour, -1);
		style_attr[styles[i].style] |= COLOR_PAIR(styles[i].style);
	}
}

int screen_open(bool utf8)
{
	terminal = newterm(NULL, stdout, stdin);
	if (!terminal)
		return -1;
	utf8_locale = utf8;
	set_up_styles();
	set_escdelay(25);
	cbreak();
	noecho();
	nonl();
	curs_set(0);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	return 0;
}

void screen_close(void)
{
	if (!terminal)
		return;
	endwin();
	delscreen(terminal);
	terminal = NULL;
}

void screen_resize(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row ||
	    !size.ws_col)
		return;
	resizeterm(size.ws_row, size.ws_col);
	clear();
}

static int count_lines(const struct text *text)
{
	int lines = 0;
	size_t i;

	for (i = 0; i < text->len; i++)
		lines += text->data[i] == '\n';
	return lines;
}

/*
 * Print @text from @row on, @rows lines at most, without the empty ones if
 * they do not all fit. Return the next free row.
 */
static int put_text(const struct text *text, int row, int rows)
{
	bool dense = count_lines(text) > rows;
	const char *s = text->data;
	int end = row + rows;
	size_t run;

	if (!s)
		return row;
	attrset(A_NORMAL);
	move(row, 0);
	while (*s && row < end) {
		if (*s == '\n') {
			if (!dense || s == text->data || s[-1] != '\n')
				row++;
			move(row, 0);
			s++;
			continue;
		}
		if (*s <= TEXT_LAST_STYLE && *s > 0) {
			attrset(style_attr[(int)*s]);
			s++;
			continue;
		}
		for (run = 0; s[run] && s[run] != '\n' &&
		     !(s[run] > 0 && s[run] <= TEXT_LAST_STYLE); run++)
			;
		addnstr(s, run);
		s += run;
	}
	attrset(A_NORMAL);
	return row;
}

/* The list has @rows rows at most. */
static int draw_list(struct text *text, const struct screen_content *content,
		     int row, int rows)
{
	unsigned int shown = rows - 1, i;

	if (shown > content->nr_guests)
		shown = content->nr_guests;
	if (content->selected < first_in_list)
		first_in_list = content->selected;
	if (content->selected >= first_in_list + shown)
		first_in_list = content->selected - shown + 1;

	text_clear(text);
	view_list_header(text, content->host);
	for (i = first_in_list; i < first_in_list + shown; i++)
		view_guest_line(text, &content->guests[i],
				i == content->selected);
	return put_text(text, row, rows);
}

static void draw_title(struct text *text, const struct screen_content *content)
{
	text_style(text, TEXT_TITLE);
	text_add(text, "wsrtop");
	text_style(text, TEXT_NORMAL);
	text_printf(text, "  %u guest%s, %s  %s",
		    content->nr_guests, content->nr_guests == 1 ? "" : "s",
		    content->activity, content->clock);
	if (content->paused) {
		text_style(text, TEXT_BAD);
		text_add(text, "  paused, p goes on");
		text_style(text, TEXT_NORMAL);
	}
	text_newline(text);
}

static void
draw_guests(struct text *text, const struct screen_content *content, int row,
	    int rows)
{
	const struct view_guest *guest = &content->guests[content->selected];
	bool list = content->host || content->nr_guests > 1;
	int third = rows / 3 > 3 ? rows / 3 : 3;

	if (list && content->nr_guests)
		row = draw_list(text, content, row, third);
	if (rows > 24)
		row++;
	text_clear(text);
	if (content->nr_guests) {
		view_guest_full(text, guest);
		text_newline(text);
		view_heatmap(text, guest);
	}
	put_text(text, row, rows - row);
}

void screen_draw(const struct screen_content *content)
{
	struct text text = { .utf8 = utf8_locale, .styled = true };
	int rows = LINES - 1;	/* the last one is for the keys */
	int row;

	text.width = COLS;
	erase();
	draw_title(&text, content);
	row = put_text(&text, 0, rows);
	if (content->help) {
		text_clear(&text);
		view_help(&text);
		put_text(&text, row + 1, rows - row - 1);
	} else {
		if (content->host)
			row = put_text(content->host, row, rows - row);
		draw_guests(&text, content, row, rows);
	}
	text_clear(&text);
	text_style(&text, TEXT_TITLE);
	text_add(&text, content->nr_guests > 1 ?
		 "q quit  p pause  up/down/tab select  ? help" :
		 "q quit  p pause  ? help");
	put_text(&text, rows, 1);
	text_free(&text);
	refresh();
}

enum screen_key screen_get_key(void)
{
	switch (getch()) {
	case ERR:
		return SCREEN_NO_KEY;
	case 'q':
	case 'Q':
		return SCREEN_QUIT;
	case 'p':
	case 'P':
	case ' ':
		return SCREEN_PAUSE;
	case '?':
	case 'h':
		return SCREEN_HELP;
	case KEY_UP:
	case 'k':
		return SCREEN_UP;
	case KEY_DOWN:
	case 'j':
		return SCREEN_DOWN;
	case '\t':
		return SCREEN_NEXT;
	case 'L' & 0x1f:
		/* the terminal may show what somebody else wrote */
		clearok(curscr, TRUE);
		return SCREEN_OTHER_KEY;
	default:
		return SCREEN_OTHER_KEY;
	}
}
