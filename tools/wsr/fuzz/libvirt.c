// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: what comes over a socket of wsr-libvirt, what QEMU and libvirt say
 * to that, and events.
 *
 * '.' begins a line of the input after which the session does a command. Its
 * calls take the next lines that begin with '<' and '-': an answer of QEMU, an
 * error of libvirt. '!' begins the data of an event; all other lines come from
 * the client. Nothing but what has to do with the balloon may get to libvirt, and
 * whatever is said, the client gets lines of QMP, in the order of its commands.
 */
#include <pthread.h>

/* The session is served here instead. */
static int no_thread(pthread_t *thread, const pthread_attr_t *attributes,
		     void *(*function)(void *), void *arg)
{
	(void)thread;
	(void)attributes;
	(void)function;
	(void)arg;
	return 0;
}

#define pthread_create		no_thread
#define pthread_join(...)	((void)0)

#include "../wsr-libvirt/relay.c"
#include "../wsr-libvirt/session.c"

#define ANSWER_SIZE	(1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	const char *rest;
	const char *end;
	char *error;			/* of the last call to libvirt */
	bool greets;
	struct json_object *ids;	/* of commands, in their order */
	unsigned int unanswered;
} input;

static void check(bool good)
{
	if (!good)
		abort();
}

/* Return the next line if it begins with @mark, or any for 0; NULL: not so. */
static const char *next_input(char mark, size_t *len)
{
	const char *line = input.rest, *end;

	if (line == input.end || (mark && *line != mark))
		return NULL;
	end = memchr(line, '\n', input.end - line);
	*len = (end ? end : input.end) - line;
	input.rest = end ? end + 1 : input.end;
	return line;
}

/* What is behind the mark, to be freed */
static char *marked_input(char mark)
{
	size_t len;
	const char *line = next_input(mark, &len);

	return line ? strndup(line + 1, len - 1) : NULL;
}

/* libvirt */

virConnectPtr watch_connect(const char *uri)
{
	(void)uri;
	return NULL;
}

virDomainPtr virDomainLookupByUUIDString(virConnectPtr connection,
					 const char *uuid)
{
	(void)connection;
	(void)uuid;
	return NULL;
}

int virDomainGetState(virDomainPtr domain, int *state, int *reason,
		      unsigned int flags)
{
	(void)domain;
	(void)state;
	(void)reason;
	(void)flags;
	return -1;
}

int virDomainFree(virDomainPtr domain)
{
	(void)domain;
	return 0;
}

int virConnectClose(virConnectPtr connection)
{
	(void)connection;
	return 0;
}

int virConnectIsAlive(virConnectPtr connection)
{
	(void)connection;
	return 1;
}

virErrorPtr virGetLastError(void)
{
	return NULL;
}

const char *virGetLastErrorMessage(void)
{
	return input.error ? input.error : "no error";
}

/* Return what a call returns. */
static int call(void)
{
	free(input.error);
	input.error = marked_input('-');
	return input.error ? -1 : 0;
}

static bool is_among(const char *words, const char *word)
{
	char pattern[64];

	return (size_t)snprintf(pattern, sizeof(pattern), " %s ", word) <
	       sizeof(pattern) && *word && strstr(words, pattern);
}

static void check_command(const char *command)
{
	struct json_object *json = json_tokener_parse(command);
	struct json_object *arguments = NULL, *name, *property;
	const char *words = " deflate-on-oom guest-stats guest-stats-polling-interval guest-working-set guest-working-set-config guest-working-set-request-id ";

	check(json_object_object_get_ex(json, "execute", &name));
	check(json_object_object_length(json) ==
	      1 + json_object_object_get_ex(json, "arguments", &arguments));
	if (is_among(input.greets ? " query-version query-cpus-fast " :
		     " balloon qom-list query-balloon query-memory-size-summary query-migrate query-name query-status ",
		     json_object_get_string(name))) {
		json_object_put(json);
		return;
	}
	if (strcmp(json_object_get_string(name), "qom-get")) {
		check(!strcmp(json_object_get_string(name), "qom-set"));
		words = " guest-stats-polling-interval guest-working-set-config guest-working-set-reclaim guest-working-set-request-id ";
	}
	check(json_object_object_get_ex(arguments, "property", &property));
	check(is_among(words, json_object_get_string(property)));
	json_object_put(json);
}

int virDomainQemuMonitorCommand(virDomainPtr domain, const char *command,
				char **result, unsigned int flags)
{
	(void)domain;
	check_command(command);
	check(!flags);
	if (call())
		return -1;
	*result = marked_input('<');
	if (!*result)
		*result = strdup("{\"return\": {}, \"id\": \"libvirt-1\"}");
	return 0;
}

int virDomainSetMemoryFlags(virDomainPtr domain, unsigned long memory,
			    unsigned int flags)
{
	(void)domain;
	check(memory && flags == VIR_DOMAIN_AFFECT_LIVE);
	return call();
}

/* The client */

static struct domain *new_domain(void)
{
	static const struct relay_options options = { .uri = "fuzz:///" };
	static struct mailbox mailbox;
	static struct relay relay = { .options = &options, .up = true };
	static struct domain domain = {
		.relay = &relay, .fd = -1,
		.running.uuid = "00000000-0000-0000-0000-000000000001",
	};

	if (relay.event)
		return &domain;
	check(sd_event_new(&relay.event) >= 0 && !mailbox_init(&mailbox));
	relay.mailbox = &mailbox;
	check(sd_event_add_io(relay.event, &relay.io, mailbox.fd, EPOLLIN,
			      on_notes, &relay) >= 0);
	relay.domains = &domain;
	return &domain;
}

static void settle(struct domain *domain)
{
	while (sd_event_run(domain->relay->event, 0) > 0)
		;
}

/* Return whether there was a command. */
static bool serve_one(struct domain *domain, struct session *session)
{
	struct json_object *request;

	settle(domain);
	if (!json_object_array_length(session->requests))
		return false;
	request = next_request(session);
	serve(session, NULL, NULL, request);
	json_object_put(request);
	settle(domain);
	return true;
}

static void post_event(const char *uuid, const char *details)
{
	struct note *note = note_new(NOTE_EVENT);

	strcpy(note->uuid, uuid);
	note->text = line_event("RESET", 1, 2, details);
	if (note->text)
		mailbox_post(new_domain()->relay->mailbox, note);
	else
		note_free(note);
}

/* Commands are done if there is no room otherwise. */
static void send_bytes(struct domain *domain, int fd, const char *bytes,
		       size_t len)
{
	ssize_t sent;

	while (len) {
		sent = send(fd, bytes, len, MSG_NOSIGNAL);
		if (sent < 0) {
			check(errno == EAGAIN);
			serve_one(domain, domain->client->session);
			continue;
		}
		bytes += sent;
		len -= sent;
	}
}

static void send_line(struct domain *domain, int fd, const char *line,
		      size_t len)
{
	struct json_object *json = qmp_parse(line, len), *id;

	if (json_object_object_get_ex(json, "id", &id))
		json_object_array_add(input.ids, json_object_get(id));
	json_object_put(json);
	for (size_t i = 0; i < len; i++) {
		if (!memchr(" \t\r", line[i], 3)) {
			input.unanswered++;
			break;
		}
	}
	send_bytes(domain, fd, line, len / 2);
	/* Reads end in the middle of long ones, and have many of the others. */
	if (len > 64)
		settle(domain);
	send_bytes(domain, fd, line + len / 2, len - len / 2);
	send_bytes(domain, fd, "\n", 1);
}

static void check_line(const char *line, size_t len, bool first)
{
	struct json_object *json = qmp_parse(line, len), *id;

	check(json && len && line[len - 1] == '\r');
	check(json_object_object_get_ex(json, "QMP", NULL) == first);
	if (json_object_object_get_ex(json, "return", NULL) ||
	    json_object_object_get_ex(json, "error", NULL))
		check(input.unanswered--);
	else
		check(first || json_object_object_get_ex(json, "event", NULL));
	if (json_object_object_get_ex(json, "id", &id)) {
		check(json_object_array_length(input.ids));
		check(json_object_equal(id, json_object_array_get_idx(
			input.ids, 0)));
		json_object_array_del_idx(input.ids, 0, 1);
	}
	json_object_put(json);
}

static void check_answers(struct domain *domain, int fd)
{
	static char answer[ANSWER_SIZE];
	const char *line = answer, *end;
	size_t len = 0;
	ssize_t got;

	while ((got = recv(fd, answer + len, ANSWER_SIZE - len, 0)) > 0) {
		len += got;
		settle(domain);
	}
	for (; line < answer + len; line = end + 1) {
		end = memchr(line, '\n', answer + len - line);
		check(end);
		check_line(line, end - line, line == answer);
	}
	check(!input.unanswered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct domain *domain = new_domain();
	struct session *session;
	const char *line;
	char *details;
	int sockets[2];
	size_t len;

	input.rest = (const char *)data;
	input.end = input.rest + size;
	input.ids = json_object_new_array();
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets));
	domain->client = client_new(domain, sockets[0]);
	check(domain->client);
	session = domain->client->session;
	input.greets = true;
	if (!greet(session, NULL))
		input.rest = input.end;
	input.greets = false;
	settle(domain);
	while (input.rest < input.end) {
		details = marked_input('!');
		if (details)
			post_event(domain->running.uuid, details);
		else if (next_input('.', &len))
			serve_one(domain, session);
		else if ((line = next_input(0, &len)))
			send_line(domain, sockets[1], line, len);
		free(details);
	}
	while (serve_one(domain, session))
		;
	check_answers(domain, sockets[1]);
	close(sockets[1]);
	settle(domain);
	mailbox_post(session->mailbox, session->ended);
	settle(domain);
	check(!domain->client);
	json_object_put(input.ids);
	free(input.error);
	input.error = NULL;
	return 0;
}
