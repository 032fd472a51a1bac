/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What browsers and Prometheus talk to. Only reads: GET and HEAD of
 *
 *	/metrics			see metrics.h
 *	/healthz			"ok" while decisions are made
 *	/api/v1/status			as wsrctl --json status
 *	/api/v1/vm?name=VM		as wsrctl --json explain VM
 *	/api/v1/history?vm=VM&since=2h	as wsrctl --json history VM
 *	/				a page that shows all that
 */
#ifndef WSRD_HTTP_H
#define WSRD_HTTP_H

#include "manager.h"

struct http;

/**
 * http_start - listen on the address that the configuration gives
 *
 * All is done on the manager's event loop.
 *
 * Return: 0 and @http, which is NULL if no address is configured; or -1 with
 * the reason in @error (CONFIG_ERROR bytes).
 */
int http_start(struct manager *manager, struct http **http, char *error);
void http_stop(struct http *http);

#endif
