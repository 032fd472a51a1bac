/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The commands of one client to one domain: a thread with a connection of its
 * own to libvirt, because libvirt's calls wait for as long as QEMU does, and
 * libvirtd takes only a few calls (max_client_requests) over one connection at
 * a time. A domain that hangs holds up nobody else, see also calls.h.
 */
#ifndef WSR_LIBVIRT_SESSION_H
#define WSR_LIBVIRT_SESSION_H

#include <stdbool.h>

#include "mailbox.h"

struct json_object;
struct session;

/**
 * session_start - begin a session
 * @uri:	of libvirt; has to stay there
 * @uuid:	of the domain
 * @mailbox:	gets a NOTE_LINE with the greeting once QEMU answers, one for
 *		each command, in their order, and at last NOTE_ENDED
 * @owner:	for the notes
 *
 * Return: NULL if there is no thread to be had.
 */
struct session *session_start(const char *uri, const char *uuid,
			      struct mailbox *mailbox, void *owner);

/**
 * session_submit - queue a command
 * @request:	any object; taken over
 */
void session_submit(struct session *session, struct json_object *request);

/**
 * session_close - nobody waits for answers any more
 *
 * What was submitted is still done, if QEMU lets that happen at once.
 */
void session_close(struct session *session);

/**
 * session_cancel - the domain has stopped
 *
 * What was submitted is not for the one that may be started with its UUID.
 */
void session_cancel(struct session *session);

/** session_free - after NOTE_ENDED */
void session_free(struct session *session);

#endif
