// SPDX-License-Identifier: GPL-2.0
/*
 * Messages of wsrd and wsr-libvirt.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"

void log_message(int level, const char *format, ...)
{
	va_list args;

	/* systemd reads the level off the line, see sd-daemon(3). */
	if (getenv("JOURNAL_STREAM"))
		fprintf(stderr, "<%d>", level);
	else
		fprintf(stderr, "%s: %s", program_invocation_short_name,
			level <= LOG_ERR ? "error: " :
			level == LOG_WARNING ? "warning: " : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}
