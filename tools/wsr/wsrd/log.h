/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Messages of a daemon: to the journal with their level, else to stderr.
 */
#ifndef WSRD_LOG_H
#define WSRD_LOG_H

#include <syslog.h>

/** log_message - one line; @level as in syslog(3), @format without a newline */
void log_message(int level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
