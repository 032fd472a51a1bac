/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The facts and decisions of wsrd as text for Prometheus and its relatives.
 */
#ifndef WSRD_METRICS_H
#define WSRD_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#include "manager.h"

#define METRICS_OPENMETRICS \
	"application/openmetrics-text; version=1.0.0; charset=utf-8"
#define METRICS_PROMETHEUS	"text/plain; version=0.0.4; charset=utf-8"

/**
 * metrics_text - all metrics
 * @openmetrics: in the format of METRICS_OPENMETRICS, else in that of
 *		METRICS_PROMETHEUS, which names counters differently
 * @size:	receives the length
 *
 * Return: text to be released with free(), or NULL: out of memory.
 */
char *metrics_text(struct manager *manager, bool openmetrics, size_t *size);

#endif
