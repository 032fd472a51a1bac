/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A growing buffer of lines of bounded width, and the formatting of
 * sizes, times and foreign strings. No I/O.
 */
#ifndef WSR_TEXT_H
#define WSR_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A style is one byte in the text. Foreign text is escaped before it gets
 * here, so that no such byte can come from outside.
 */
enum text_style {
	TEXT_NORMAL = 1,
	TEXT_TITLE,		/* headings, the selected guest */
	TEXT_SWAP,		/* swap-backed bytes */
	TEXT_FILE,		/* file-backed bytes */
	TEXT_HEAT,		/* the heatmap */
	TEXT_GOOD,
	TEXT_BAD,
	TEXT_LAST_STYLE = TEXT_BAD,
};

/**
 * struct text - lines of at most @width columns; what is longer is cut
 * @data:	the text, always terminated by a NUL once anything was added
 * @len:	bytes in @data without the NUL
 * @size:	bytes allocated
 * @column:	columns used in the current line
 * @width:	columns per line, 0: no limit
 * @utf8:	the output understands UTF-8
 * @styled:	the output understands enum text_style
 * @failed:	memory ran out, @data is incomplete
 */
struct text {
	char *data;
	size_t len;
	size_t size;
	unsigned int column;
	unsigned int width;
	bool utf8;
	bool styled;
	bool failed;
};

void text_clear(struct text *text);
void text_free(struct text *text);
void text_add(struct text *text, const char *string);
void text_printf(struct text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void text_repeat(struct text *text, const char *string, unsigned int count);
void text_pad(struct text *text, unsigned int column);
void text_style(struct text *text, enum text_style style);
void text_newline(struct text *text);
void text_wrapped(struct text *text, unsigned int indent, const char *string);

/* Long enough for each of the texts below. */
#define TEXT_SHORT	32

const char *text_bytes(char out[TEXT_SHORT], uint64_t bytes);
const char *text_bound(char out[TEXT_SHORT], uint64_t ms);
const char *text_ago(char out[TEXT_SHORT], uint64_t ms);

/**
 * text_escape - make a foreign string safe to print
 * @out:	receives the result, always terminated
 * @size:	bytes in @out
 * @string:	any bytes
 * @utf8:	keep printable UTF-8 characters instead of escaping them
 *
 * Control characters, invalid UTF-8 and characters without width (combining,
 * direction marks) become \xNN.
 */
void text_escape(char *out, size_t size, const char *string, bool utf8);

/**
 * text_parse_ms - read a time such as 500ms, 5s, 1.5m, 2h; no unit means s
 * Return: 0, or -1 if it is none or does not fit in 32 bits of milliseconds.
 */
int text_parse_ms(const char *string, uint32_t *ms);

#endif
