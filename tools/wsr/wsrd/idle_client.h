/* SPDX-License-Identifier: GPL-2.0 */
/*
 * wsrd's end of the conversation with the child that samples idle pages.
 */
#ifndef WSRD_IDLE_CLIENT_H
#define WSRD_IDLE_CLIENT_H

#include <systemd/sd-event.h>

#include "privileged.h"

/**
 * idle_text - something was found out about a process
 * @text:	see idle_print(), or NULL: it is not looked after any more
 */
typedef void (*idle_text)(void *owner, pid_t pid, const char *text);

/** struct idle_client - @fd is -1 until sampling can begin */
struct idle_client {
	struct privileged *privileged;
	sd_event *event;
	sd_event_source *io;
	int fd;
	idle_text handler;
	void *owner;
};

/**
 * idle_client_start - ask for the child; the log says if there can't be one
 */
void idle_client_start(struct idle_client *client, sd_event *event,
		       struct privileged *privileged, idle_text handler,
		       void *owner);

void idle_client_stop(struct idle_client *client);

/**
 * idle_client_watch - look after a process, or no more
 * @interval_ms: between texts; 0: no more
 *
 * Return: 0, or -1: not now, try again later.
 */
int idle_client_watch(struct idle_client *client, pid_t pid,
		      uint64_t size_bytes, uint32_t interval_ms);

#endif
