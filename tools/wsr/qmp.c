// SPDX-License-Identifier: GPL-2.0
/*
 * One connection to a QEMU Machine Protocol socket. Never blocks.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "qmp.h"

#define LINE_MAX_BYTES	(1024 * 1024)	/* of one line from QEMU */
#define READ_BYTES	(64 * 1024)	/* taken per call of qmp_io() */
#define OUT_MAX_BYTES	(64 * 1024)	/* commands that QEMU did not take */
#define JSON_MAX_DEPTH	32

static int init_unix(struct qmp *qmp, const char *path)
{
	if (!*path || strlen(path) >= sizeof(qmp->path)) {
		snprintf(qmp->error, sizeof(qmp->error),
			 "the path of a socket has 1 to %zu characters; use a shorter one, for example relative to the current directory",
			 sizeof(qmp->path) - 1);
		return -1;
	}
	strcpy(qmp->path, path);
	return 0;
}

static int init_tcp(struct qmp *qmp, const char *where, const char *colon)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	const char *start = where;
	size_t len = colon - where;
	char host[256];
	int error;

	/* [::1]:4444 */
	if (len >= 2 && where[0] == '[' && colon[-1] == ']') {
		start++;
		len -= 2;
	}
	if (len >= sizeof(host)) {
		snprintf(qmp->error, sizeof(qmp->error),
			 "the host name is too long");
		return -1;
	}
	memcpy(host, start, len);
	host[len] = '\0';
	error = getaddrinfo(host, colon + 1, &hints, &qmp->addresses);
	if (error) {
		snprintf(qmp->error, sizeof(qmp->error),
			 "the host name can't be resolved: %s",
			 gai_strerror(error));
		return -1;
	}
	return 0;
}

int qmp_init(struct qmp *qmp, const char *where)
{
	const char *colon = strrchr(where, ':');

	memset(qmp, 0, sizeof(*qmp));
	qmp->fd = -1;
	/* host:port has no slash and a number at the end. */
	if (colon && colon > where && colon[1] && !strchr(where, '/') &&
	    !colon[1 + strspn(colon + 1, "0123456789")] &&
	    access(where, F_OK))
		return init_tcp(qmp, where, colon);
	return init_unix(qmp, where);
}

void qmp_close(struct qmp *qmp)
{
	if (qmp->fd >= 0)
		close(qmp->fd);
	qmp->fd = -1;
	qmp->state = QMP_CLOSED;
	free(qmp->in);
	free(qmp->out);
	qmp->in = NULL;
	qmp->out = NULL;
	qmp->in_start = 0;
	qmp->in_len = 0;
	qmp->in_size = 0;
	qmp->out_len = 0;
}

void qmp_destroy(struct qmp *qmp)
{
	qmp_close(qmp);
	if (qmp->addresses)
		freeaddrinfo(qmp->addresses);
	qmp->addresses = NULL;
}

static void fail(struct qmp *qmp, enum qmp_failure failure, const char *error)
{
	qmp_close(qmp);
	qmp->failure = failure;
	snprintf(qmp->error, sizeof(qmp->error), "%s", error);
}

static void fail_connect(struct qmp *qmp, int error)
{
	struct stat st;
	char text[QMP_ERROR];

	if (error == EAGAIN) {
		fail(qmp, QMP_FAIL_BUSY,
		     "the queue for connections is full");
		return;
	}
	if (error == ENOENT)
		snprintf(text, sizeof(text),
			 "the socket does not exist: is the guest running, and was QEMU started with -qmp unix:PATH,server=on,wait=off for this path?");
	else if (error == EACCES || error == EPERM)
		snprintf(text, sizeof(text),
			 "no permission to connect: run wsrtop as the user that runs QEMU, or as root");
	else if (*qmp->path && !stat(qmp->path, &st) && !S_ISSOCK(st.st_mode))
		snprintf(text, sizeof(text),
			 "this file is not a socket: give the path of QEMU's -qmp unix:PATH,server=on,wait=off");
	else if (error == ECONNREFUSED && *qmp->path)
		snprintf(text, sizeof(text),
			 "nobody listens on this socket: is the guest running? The file may be left over from a QEMU that has ended");
	else if (error == ECONNREFUSED)
		snprintf(text, sizeof(text),
			 "nobody listens on this port: is the guest running, and was QEMU started with -qmp tcp:HOST:PORT,server=on,wait=off?");
	else
		snprintf(text, sizeof(text), "can't connect: %s",
			 strerror(error));
	fail(qmp, QMP_FAIL_CONNECT, text);
}

/* Return 0, EINPROGRESS, or why it failed. */
static int try_to_connect(struct qmp *qmp, const struct sockaddr *address,
			  socklen_t len)
{
	int error;

	qmp->fd = socket(address->sa_family,
			 SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (qmp->fd < 0)
		return errno;
	if (!connect(qmp->fd, address, len))
		return 0;
	error = errno;
	if (error != EINPROGRESS) {
		close(qmp->fd);
		qmp->fd = -1;
	}
	return error;
}

/*
 * Begin with the first, or go on to the next address of the host: "localhost"
 * may have two, and QEMU may listen on only one of them.
 */
static void connect_tcp(struct qmp *qmp, const struct addrinfo *address,
			int error)
{
	for (; address; address = address->ai_next) {
		qmp->address = address;
		error = try_to_connect(qmp, address->ai_addr,
				       address->ai_addrlen);
		if (!error || error == EINPROGRESS)
			break;
	}
	if (!error)
		qmp->state = QMP_GREETING;
	else if (address)
		qmp->state = QMP_CONNECTING;
	else
		fail_connect(qmp, error);
}

void qmp_connect(struct qmp *qmp)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int error;

	qmp_close(qmp);
	qmp->failure = QMP_FAIL_NONE;
	qmp->error[0] = '\0';
	if (qmp->addresses) {
		connect_tcp(qmp, qmp->addresses, 0);
		return;
	}
	strcpy(address.sun_path, qmp->path);
	error = try_to_connect(qmp, (struct sockaddr *)&address,
			       sizeof(address));
	if (error)
		fail_connect(qmp, error);
	else
		qmp->state = QMP_GREETING;
}

short qmp_poll_events(const struct qmp *qmp)
{
	if (qmp->state == QMP_CONNECTING)
		return POLLOUT;
	return POLLIN | (qmp->out_len ? POLLOUT : 0);
}

static void finish_connect(struct qmp *qmp)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(qmp->fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!error) {
		qmp->state = QMP_GREETING;
		return;
	}
	close(qmp->fd);
	qmp->fd = -1;
	connect_tcp(qmp, qmp->address->ai_next, error);
}

static void do_send(struct qmp *qmp)
{
	ssize_t sent;

	sent = send(qmp->fd, qmp->out, qmp->out_len, MSG_NOSIGNAL);
	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			fail(qmp, QMP_FAIL_LOST, strerror(errno));
		return;
	}
	qmp->out_len -= sent;
	memmove(qmp->out, qmp->out + sent, qmp->out_len);
}

static int make_room(struct qmp *qmp)
{
	size_t size = qmp->in_size;
	char *in;

	if (qmp->in_start) {
		qmp->in_len -= qmp->in_start;
		memmove(qmp->in, qmp->in + qmp->in_start, qmp->in_len);
		qmp->in_start = 0;
	}
	while (size < qmp->in_len + READ_BYTES)
		size = size ? size * 2 : READ_BYTES;
	if (size == qmp->in_size)
		return 0;
	in = realloc(qmp->in, size);
	if (!in)
		return -1;
	qmp->in = in;
	qmp->in_size = size;
	return 0;
}

static void do_receive(struct qmp *qmp)
{
	ssize_t received;

	if (make_room(qmp)) {
		fail(qmp, QMP_FAIL_LOST, strerror(ENOMEM));
		return;
	}
	received = recv(qmp->fd, qmp->in + qmp->in_len, READ_BYTES, 0);
	if (received < 0) {
		if (errno != EAGAIN && errno != EINTR)
			fail(qmp, QMP_FAIL_LOST, strerror(errno));
		return;
	}
	if (received == 0) {
		fail(qmp, QMP_FAIL_LOST, qmp->state == QMP_GREETING ?
		     "QEMU closed the connection without a greeting" :
		     "QEMU closed the connection: has the guest ended?");
		return;
	}
	qmp->in_len += received;
}

void qmp_io(struct qmp *qmp, short revents)
{
	if (qmp->state == QMP_CONNECTING) {
		finish_connect(qmp);
		return;
	}
	if (qmp->state != QMP_CLOSED && (revents & POLLOUT) && qmp->out_len)
		do_send(qmp);
	if (qmp->state != QMP_CLOSED &&
	    (revents & (POLLIN | POLLHUP | POLLERR)))
		do_receive(qmp);
}

/* Take one line, without its end. Return NULL if there is no whole line. */
static char *next_line(struct qmp *qmp, size_t *len)
{
	char *start = qmp->in + qmp->in_start;
	size_t available = qmp->in_len - qmp->in_start;
	char *end;

	end = available ? memchr(start, '\n', available) : NULL;
	*len = end ? (size_t)(end - start) : available;
	if (*len > LINE_MAX_BYTES) {
		fail(qmp, QMP_FAIL_PROTOCOL,
		     "this is no QMP socket: a line longer than 1 MiB came");
		return NULL;
	}
	if (!end)
		return NULL;
	qmp->in_start += *len + 1;
	while (*len && start[*len - 1] == '\r')
		(*len)--;
	return start;
}

struct json_object *qmp_parse(const char *line, size_t len)
{
	struct json_tokener *tokener;
	struct json_object *json;

	tokener = json_tokener_new_ex(JSON_MAX_DEPTH);
	if (!tokener)
		return NULL;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT |
			       JSON_TOKENER_VALIDATE_UTF8);
	json = json_tokener_parse_ex(tokener, line, len);
	/* A number at the end of the line would wait for more digits. */
	if (json_tokener_get_error(tokener) != json_tokener_success ||
	    !json_object_is_type(json, json_type_object)) {
		json_object_put(json);
		json = NULL;
	}
	json_tokener_free(tokener);
	return json;
}

static const char *get_string(struct json_object *json, const char *name)
{
	struct json_object *field;

	if (!json_object_object_get_ex(json, name, &field) ||
	    !json_object_is_type(field, json_type_string))
		return NULL;
	return json_object_get_string(field);
}

/* Return false if @json is no message at all. */
static bool classify(struct json_object *json, struct qmp_message *message)
{
	struct json_object *field;

	memset(message, 0, sizeof(*message));
	message->json = json;
	message->event = get_string(json, "event");
	if (message->event) {
		message->is_event = true;
		json_object_object_get_ex(json, "data", &message->data);
		return true;
	}
	if (json_object_object_get_ex(json, "id", &field) &&
	    json_object_is_type(field, json_type_int) &&
	    json_object_get_int64(field) > 0 &&
	    json_object_get_int64(field) <= UINT32_MAX)
		message->id = json_object_get_int64(field);
	if (json_object_object_get_ex(json, "error", &field)) {
		message->error = get_string(field, "desc");
		if (!message->error)
			message->error = "(no reason given)";
		return true;
	}
	return json_object_object_get_ex(json, "return", &message->data);
}

static void queue_command(struct qmp *qmp, uint32_t id, const char *name,
			  struct json_object *arguments)
{
	struct json_object *json = json_object_new_object();
	const char *line;
	size_t len;
	char *out;

	json_object_object_add(json, "execute", json_object_new_string(name));
	if (arguments)
		json_object_object_add(json, "arguments", arguments);
	json_object_object_add(json, "id", json_object_new_int64(id));
	line = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
	len = strlen(line);
	out = realloc(qmp->out, qmp->out_len + len + 1);
	if (out) {
		qmp->out = out;
		memcpy(qmp->out + qmp->out_len, line, len);
		qmp->out[qmp->out_len + len] = '\n';
		qmp->out_len += len + 1;
	}
	json_object_put(json);
}

/* The first line, and the answer to qmp_capabilities. */
static void negotiate(struct qmp *qmp, struct json_object *json)
{
	struct json_object *greeting, *pid = NULL;
	struct qmp_message message;

	/* While QEMU starts, one can come before the greeting. */
	if (classify(json, &message) && message.is_event)
		return;

	if (qmp->state == QMP_GREETING) {
		if (!json_object_object_get_ex(json, "QMP", &greeting)) {
			fail(qmp, QMP_FAIL_PROTOCOL,
			     "this is no QMP socket: the greeting is missing (is it the socket of a guest agent?)");
			return;
		}
		/* wsr-libvirt's: the process at this socket is not QEMU. */
		json_object_object_get_ex(greeting, "pid", &pid);
		qmp->pid = json_object_is_type(pid, json_type_int) ?
			   json_object_get_int64(pid) : 0;
		qmp->last_id = 0;
		queue_command(qmp, ++qmp->last_id, "qmp_capabilities", NULL);
		qmp->state = QMP_NEGOTIATING;
	} else if (classify(json, &message)) {
		if (message.error)
			fail(qmp, QMP_FAIL_PROTOCOL,
			     "QEMU refused qmp_capabilities");
		else
			qmp->state = QMP_READY;
	}
}

bool qmp_next(struct qmp *qmp, struct qmp_message *message)
{
	struct json_object *json;
	size_t len;
	char *line;

	while (qmp->state >= QMP_GREETING) {
		line = next_line(qmp, &len);
		if (!line)
			return false;
		if (!len)
			continue;
		json = qmp_parse(line, len);
		if (!json) {
			fail(qmp, QMP_FAIL_PROTOCOL, strncmp(line, "QEMU ", 5) ?
			     "this is no QMP socket: what came is not JSON (is it a serial console?)" :
			     "this is a monitor for people, not for programs: start QEMU with -qmp instead of -monitor");
			return false;
		}
		if (qmp->state < QMP_READY) {
			negotiate(qmp, json);
			json_object_put(json);
			continue;
		}
		if (classify(json, message))
			return true;
		json_object_put(json);
		fail(qmp, QMP_FAIL_PROTOCOL,
		     "this is no QMP socket: neither an answer nor an event came");
	}
	return false;
}

void qmp_message_put(struct qmp_message *message)
{
	json_object_put(message->json);
	message->json = NULL;
}

uint32_t qmp_command(struct qmp *qmp, const char *name,
		     struct json_object *arguments)
{
	if (qmp->state != QMP_READY || qmp->out_len > OUT_MAX_BYTES) {
		json_object_put(arguments);
		return 0;
	}
	/* The id of 0 says "not sent". */
	if (!++qmp->last_id)
		++qmp->last_id;
	queue_command(qmp, qmp->last_id, name, arguments);
	return qmp->last_id;
}
