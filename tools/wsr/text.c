// SPDX-License-Identifier: GPL-2.0
/*
 * A growing buffer of lines of bounded width, and the formatting of
 * sizes, times and foreign strings. No I/O.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "text.h"

void text_clear(struct text *text)
{
	text->len = 0;
	text->column = 0;
	text->failed = false;
	if (text->data)
		text->data[0] = '\0';
}

void text_free(struct text *text)
{
	free(text->data);
	text->data = NULL;
	text->size = 0;
	text_clear(text);
}

static void append(struct text *text, const char *bytes, size_t len)
{
	size_t size = text->size;
	char *data;

	while (size < text->len + len + 1)
		size = size ? size * 2 : 4096;
	if (size != text->size) {
		data = realloc(text->data, size);
		if (!data) {
			text->failed = true;
			return;
		}
		text->data = data;
		text->size = size;
	}
	memcpy(text->data + text->len, bytes, len);
	text->len += len;
	text->data[text->len] = '\0';
}

/*
 * Decode one character. Return its length in bytes, 0 if the bytes are not
 * valid UTF-8 (overlong forms, surrogates and the like included).
 */
static size_t utf8_decode(const char *string, wchar_t *code)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *s = (const unsigned char *)string;
	uint32_t value;
	size_t len, i;

	if (s[0] < 0x80) {
		*code = s[0];
		return 1;
	}
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;

	value = s[0] & (0xff >> (len + 1));
	for (i = 1; i < len; i++) {
		/* The NUL at the end of the string stops here, too. */
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (s[i] & 0x3f);
	}
	if (value < smallest[len] || value > 0x10ffff ||
	    (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*code = value;
	return len;
}

/* The columns of one character that text_escape() or we ourselves made. */
static unsigned int char_width(const char *string, size_t *len)
{
	wchar_t code;
	int width;

	*len = utf8_decode(string, &code);
	if (!*len) {
		*len = 1;
		return 1;
	}
	width = code < 0x80 ? 1 : wcwidth(code);
	return width > 0 ? width : 1;
}

void text_add(struct text *text, const char *string)
{
	unsigned int width;
	size_t len;

	for (; *string; string += len) {
		width = char_width(string, &len);
		if (text->width && text->column + width > text->width)
			return;
		append(text, string, len);
		text->column += width;
	}
}

void text_printf(struct text *text, const char *format, ...)
{
	char *string;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&string, format, args);
	va_end(args);
	if (len < 0) {
		text->failed = true;
		return;
	}
	text_add(text, string);
	free(string);
}

void text_repeat(struct text *text, const char *string, unsigned int count)
{
	while (count--)
		text_add(text, string);
}

/* Add blanks up to @column, at least one if the line is not empty. */
void text_pad(struct text *text, unsigned int column)
{
	if (text->column >= column) {
		if (text->column)
			text_add(text, " ");
		return;
	}
	text_repeat(text, " ", column - text->column);
}

void text_style(struct text *text, enum text_style style)
{
	char byte = style;

	if (text->styled)
		append(text, &byte, 1);
}

void text_newline(struct text *text)
{
	/* No blanks at the end of a line. */
	while (text->len && text->data[text->len - 1] == ' ')
		text->len--;
	append(text, "\n", 1);
	text->column = 0;
}

/* Add @string as whole lines, broken at blanks, each indented by @indent. */
void text_wrapped(struct text *text, unsigned int indent, const char *string)
{
	unsigned int columns;
	size_t len, word;

	while (*string) {
		columns = 0;
		word = 0;
		while (string[word] && string[word] != ' ') {
			columns += char_width(string + word, &len);
			word += len;
		}
		if (text->column > indent && text->width &&
		    text->column + 1 + columns > text->width)
			text_newline(text);
		if (text->column)
			text_add(text, " ");
		else
			text_pad(text, indent);
		text_printf(text, "%.*s", (int)word, string);
		string += word;
		while (*string == ' ')
			string++;
	}
	text_newline(text);
}

const char *text_bytes(char out[TEXT_SHORT], uint64_t bytes)
{
	static const char * const unit[] = {
		"KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
	};
	double value = bytes / 1024.0;
	size_t i = 0;
	int digits;

	/* 1023.5 would be printed as 1024. */
	while (value >= 1023.5 && i + 1 < sizeof(unit) / sizeof(unit[0])) {
		value /= 1024;
		i++;
	}
	if (value < 9.995 && bytes)
		digits = 2;
	else if (value < 99.95 && bytes)
		digits = 1;
	else
		digits = 0;
	/* Memory comes in pages: fractions of a KiB say nothing. */
	if (i == 0)
		digits = 0;
	snprintf(out, TEXT_SHORT, "%.*f %s", digits, value, unit[i]);
	return out;
}

/* A bound as short as it is exact: 1500ms, 5s, 30m, 2h. */
const char *text_bound(char out[TEXT_SHORT], uint64_t ms)
{
	if (ms % 1000)
		snprintf(out, TEXT_SHORT, "%" PRIu64 "ms", ms);
	else if (ms % 60000)
		snprintf(out, TEXT_SHORT, "%" PRIu64 "s", ms / 1000);
	else if (ms % 3600000 || !ms)
		snprintf(out, TEXT_SHORT, ms ? "%" PRIu64 "m" : "0",
			 ms / 60000);
	else
		snprintf(out, TEXT_SHORT, "%" PRIu64 "h", ms / 3600000);
	return out;
}

/* A time span for people: 0.3 s, 12 s, 3 min 05 s, 2 h 10 min, 3 days. */
const char *text_ago(char out[TEXT_SHORT], uint64_t ms)
{
	uint64_t s = ms / 1000;

	if (ms < 10000)
		snprintf(out, TEXT_SHORT, "%.1f s", ms / 1000.0);
	else if (s < 60)
		snprintf(out, TEXT_SHORT, "%" PRIu64 " s", s);
	else if (s < 3600)
		snprintf(out, TEXT_SHORT, "%" PRIu64 " min %02" PRIu64 " s",
			 s / 60, s % 60);
	else if (s < 48 * 3600)
		snprintf(out, TEXT_SHORT, "%" PRIu64 " h %02" PRIu64 " min",
			 s / 3600, s / 60 % 60);
	else
		snprintf(out, TEXT_SHORT, "%" PRIu64 " days", s / 86400);
	return out;
}

void text_escape(char *out, size_t size, const char *string, bool utf8)
{
	size_t used = 0, len;
	wchar_t code;
	bool plain;

	if (!size)
		return;
	for (; *string; string += len) {
		len = utf8_decode(string, &code);
		if (len == 1)
			plain = code >= 0x20 && code < 0x7f;
		else
			plain = len && utf8 && wcwidth(code) > 0;
		if (plain) {
			if (used + len >= size)
				break;
			memcpy(out + used, string, len);
			used += len;
		} else {
			if (used + 4 >= size)
				break;
			len = 1;
			used += snprintf(out + used, size - used, "\\x%02x",
					 (unsigned char)*string);
		}
	}
	out[used] = '\0';
}

int text_parse_ms(const char *string, uint32_t *ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {
		{ "", 1000 }, { "ms", 1 }, { "s", 1000 },
		{ "m", 60000 }, { "min", 60000 }, { "h", 3600000 },
	};
	uint64_t value = 0, scale = 1;
	size_t i, digits = 0;
	bool point = false;

	/* By hand: strtod() depends on the locale and takes "inf", "0x1". */
	for (; (*string >= '0' && *string <= '9') || *string == '.'; string++) {
		if (*string == '.') {
			if (point)
				return -1;
			point = true;
			continue;
		}
		if (++digits > 10)
			return -1;
		value = value * 10 + (*string - '0');
		if (point)
			scale *= 10;
	}
	if (!digits)
		return -1;
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(string, units[i].name))
			continue;
		/* At most 10^10 * 3.6 * 10^6, far below 2^64. */
		value *= units[i].ms;
		if (value % scale || value / scale > UINT32_MAX)
			return -1;
		*ms = value / scale;
		return 0;
	}
	return -1;
}
