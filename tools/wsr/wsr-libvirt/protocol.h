/* SPDX-License-Identifier: GPL-2.0 */
/*
 * QMP as a server speaks it: which commands are let through, and lines to
 * clients. Pure: no sockets, no libvirt.
 *
 * All that return a line return it with its end, to be freed by the caller, or
 * NULL without memory.
 */
#ifndef WSR_LIBVIRT_PROTOCOL_H
#define WSR_LIBVIRT_PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct json_object;

/* Regular expression of the events that wsrd listens to */
#define PROTOCOL_EVENTS \
	"^(BALLOON_CHANGE|BALLOON_WORKING_SET|MIGRATION|RESET|RESUME|SHUTDOWN|STOP)$"

/* What a QMP client knows as the class of an error */
#define CLASS_GENERIC	"GenericError"
#define CLASS_NOT_FOUND	"CommandNotFound"

/** request_name - the command of @request, NULL if it is none */
const char *request_name(struct json_object *request);

/**
 * request_refused - is this a command that is not for us to relay?
 * @class:	set to the class of the error
 *
 * A client may read and write what has to do with the balloon, nothing else: a
 * QMP monitor can do all that QEMU can.
 *
 * Return: why not, or NULL if it may go to QEMU.
 */
const char *request_refused(struct json_object *request, const char **class);

/**
 * request_balloon - is this the command balloon?
 * @bytes:	set to what it asks for
 */
bool request_balloon(struct json_object *request, uint64_t *bytes);

/** line_answer - to @request: it has worked and returns nothing */
char *line_answer(struct json_object *request);

/**
 * line_error - to @request, which may be NULL for a line that is no command
 * @description:	what is no printable ASCII in it may be escaped
 */
char *line_error(struct json_object *request, const char *class,
		 const char *description);

/**
 * line_relayed - to @request: what QEMU has said
 * @reply:	as libvirt hands it out, with an id of its own
 */
char *line_relayed(struct json_object *request, const char *reply);

/**
 * line_event - an event
 * @details:	its data as JSON or NULL
 *
 * Return: NULL also if @details are no JSON.
 */
char *line_event(const char *event, long long seconds, unsigned int micros,
		 const char *details);

/**
 * line_greeting - the first line to a client
 * @version:	answer of QEMU to query-version
 * @pid:	of QEMU, 0: not known; wsrd can't see it from the socket
 */
char *line_greeting(const char *version, pid_t pid);

/** reply_thread - first thread-id in the @reply to query-cpus-fast, or 0 */
pid_t reply_thread(const char *reply);

#endif
