/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One connection to a QEMU Machine Protocol socket: connect, greeting,
 * lines in and out. Never blocks; the caller polls the descriptor.
 *
 * Life: qmp_connect() -> QMP_CONNECTING -> QMP_GREETING -> QMP_READY, and back
 * to QMP_CLOSED by qmp_close() or by any failure, which leaves its reason in
 * @error. In QMP_READY the capabilities are negotiated and commands can go.
 */
#ifndef WSR_QMP_H
#define WSR_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addrinfo;
struct json_object;

enum qmp_state {
	QMP_CLOSED,
	QMP_CONNECTING,
	QMP_GREETING,		/* connected, QEMU has not said a word yet */
	QMP_NEGOTIATING,	/* waiting for the answer to qmp_capabilities */
	QMP_READY,
};

/**
 * enum qmp_failure - why a connection is closed
 * @QMP_FAIL_CONNECT: it never came about
 * @QMP_FAIL_BUSY: the queue of connections is full: others wait in it
 * @QMP_FAIL_PROTOCOL: what came is not QMP
 * @QMP_FAIL_LOST: QEMU closed it, or it broke
 */
enum qmp_failure {
	QMP_FAIL_NONE,
	QMP_FAIL_CONNECT,
	QMP_FAIL_BUSY,
	QMP_FAIL_PROTOCOL,
	QMP_FAIL_LOST,
};

/**
 * struct qmp_message - one line from QEMU
 * @json:	the whole line
 * @is_event:	an event with the name @event and @data, which may be NULL
 * @id:		else: the command that is answered, see qmp_command()
 * @data:	what the command returns, NULL if it failed
 * @error:	why it failed, else NULL
 */
struct qmp_message {
	struct json_object *json;
	bool is_event;
	const char *event;
	uint32_t id;
	struct json_object *data;
	const char *error;
};

#define QMP_ERROR	320	/* bytes for the texts of errors */

struct qmp {
	/* Set by qmp_init(): a path, or the addresses of a host. */
	char path[108];
	struct addrinfo *addresses;
	const struct addrinfo *address;	/* the one that is tried */

	enum qmp_state state;
	int fd;
	enum qmp_failure failure;
	char error[QMP_ERROR];
	uint32_t last_id;
	int64_t pid;		/* of QEMU if a proxy's greeting tells, else 0 */

	char *in;		/* received, not yet handed out */
	size_t in_start;
	size_t in_len;
	size_t in_size;
	char *out;		/* to be sent */
	size_t out_len;
};

/**
 * qmp_init - prepare for the socket @where: a path, or host:port
 *
 * A host name is resolved here and only here, which is the one thing that may
 * block.
 *
 * Return: 0, or -1 with the reason in @qmp->error.
 */
int qmp_init(struct qmp *qmp, const char *where);

void qmp_connect(struct qmp *qmp);
void qmp_close(struct qmp *qmp);

/** qmp_destroy - close, and release what qmp_init() took */
void qmp_destroy(struct qmp *qmp);

/** qmp_poll_events - the events to wait for on @qmp->fd */
short qmp_poll_events(const struct qmp *qmp);

/**
 * qmp_io - send and receive what is possible now
 * @revents:	what poll() said
 *
 * Takes a bounded amount of data, so that a flood from one guest leaves time
 * for the others. Call qmp_next() until it returns false afterwards.
 */
void qmp_io(struct qmp *qmp, short revents);

/**
 * qmp_next - take the next message
 *
 * The greeting and the answer to qmp_capabilities are dealt with here and not
 * handed out. Release the message with qmp_message_put().
 *
 * Return: whether there was one.
 */
bool qmp_next(struct qmp *qmp, struct qmp_message *message);
void qmp_message_put(struct qmp_message *message);

/**
 * qmp_command - queue a command
 * @name:	the command
 * @arguments:	its arguments or NULL; the reference is taken over
 *
 * Return: the id that the answer will carry, 0 if the connection is not ready
 * or QEMU has not taken earlier commands for long.
 */
uint32_t qmp_command(struct qmp *qmp, const char *name,
		     struct json_object *arguments);

/**
 * qmp_parse - a line of QMP, from either side
 *
 * Return: an object, NULL if it is anything else or nested too deeply.
 */
struct json_object *qmp_parse(const char *line, size_t len);

#endif
