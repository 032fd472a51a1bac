// SPDX-License-Identifier: GPL-2.0
/*
 * A socket for each domain that runs, and its client.
 *
 * As QEMU's own, a socket serves one client, and others wait for their greeting
 * until it has gone. The same happens while libvirt is away: connections are
 * closed, and sockets wait. They go when the domain does.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "../qmp.h"
#include "../wsrd/log.h"
#include "protocol.h"
#include "relay.h"
#include "session.h"

#define MAX_LINE	(64 << 10)	/* from a client */
#define MAX_OUT		(4 << 20)	/* that a client did not take */
#define MAX_WAITING	32		/* commands that QEMU did not answer */
#define FULL_US		1000000		/* until a client is accepted again */
#define SUN_PATH_BYTES	sizeof(((struct sockaddr_un *)0)->sun_path)

struct relay;

/* Lives for as long as its session does, which may be longer than both ends. */
struct client {
	struct relay *relay;
	struct domain *domain;	/* NULL: it has stopped */
	struct session *session;
	unsigned int waiting;	/* commands of the session */
	int fd;			/* -1: it has left */
	sd_event_source *io;
	bool greeted;
	bool negotiated;
	char in[MAX_LINE];
	size_t in_len;
	char *out;
	size_t out_len;
};

struct domain {
	struct domain *next;
	struct relay *relay;
	struct running running;
	bool seen;		/* in the newest list */
	char file[NAME_MAX + 1];
	int fd;
	sd_event_source *io;
	struct client *client;	/* or NULL */
};

struct relay {
	sd_event *event;
	sd_event_source *io;
	const struct relay_options *options;
	struct mailbox *mailbox;
	int directory_fd;
	sd_event_source *room;	/* a timer, for as long as @full */
	bool full;		/* no client can be accepted */
	bool up;		/* libvirt is there */
	struct domain *domains;
};

/* Clients */

static void domain_update(struct domain *domain);
static void client_lines(struct client *client);

static void client_close(struct client *client)
{
	if (client->fd < 0)
		return;
	sd_event_source_unref(client->io);
	client->io = NULL;
	close(client->fd);
	client->fd = -1;
	free(client->out);
	client->out = NULL;
	client->out_len = 0;
	session_close(client->session);
}

/* Its session has ended. */
static void client_free(struct client *client)
{
	struct domain *domain = client->domain;

	client_close(client);
	session_free(client->session);
	free(client);
	if (domain) {
		domain->client = NULL;
		domain_update(domain);
	}
}

/* Who sends faster than QEMU answers is not listened to for a while. */
static void client_watch(struct client *client)
{
	uint32_t events = 0;

	if (client->fd < 0)
		return;
	if (client->waiting < MAX_WAITING)
		events |= EPOLLIN;
	if (client->out_len)
		events |= EPOLLOUT;
	sd_event_source_set_io_events(client->io, events);
}

static void client_flush(struct client *client)
{
	ssize_t sent = send(client->fd, client->out, client->out_len,
			    MSG_NOSIGNAL);

	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_close(client);
		return;
	}
	client->out_len -= sent;
	memmove(client->out, client->out + sent, client->out_len);
}

static void client_send(struct client *client, const char *line)
{
	size_t len;
	char *out;

	/* Without memory for it, there is no line. */
	if (client->fd < 0 || !line)
		return;
	len = strlen(line);
	out = client->out_len + len > MAX_OUT ? NULL :
		realloc(client->out, client->out_len + len);
	if (!out) {
		client_close(client);
		return;
	}
	client->out = out;
	memcpy(client->out + client->out_len, line, len);
	client->out_len += len;
	client_flush(client);
	client_watch(client);
}

/* Takes @line over. */
static void client_say(struct client *client, char *line)
{
	client_send(client, line);
	free(line);
}

static void negotiate(struct client *client, struct json_object *request)
{
	const char *name = request_name(request);

	if (name && !strcmp(name, "qmp_capabilities")) {
		client->negotiated = true;
		client_say(client, line_answer(request));
		return;
	}
	client_say(client, line_error(request, CLASS_NOT_FOUND,
				      "Expecting capabilities negotiation with 'qmp_capabilities'"));
}

static void client_line(struct client *client, const char *line, size_t len)
{
	struct json_object *request = qmp_parse(line, len);

	if (!request) {
		client_say(client, line_error(NULL, CLASS_GENERIC,
					      "this line is no JSON object"));
		return;
	}
	if (!client->negotiated) {
		negotiate(client, request);
		json_object_put(request);
		return;
	}
	client->waiting++;
	session_submit(client->session, request);
}

/* All whole lines, as long as they may go to QEMU */
static void client_lines(struct client *client)
{
	size_t start = 0, len;
	char *end;

	while (client->fd >= 0 && client->waiting < MAX_WAITING) {
		end = memchr(client->in + start, '\n', client->in_len - start);
		if (!end)
			break;
		len = end - (client->in + start);
		/* A line of blanks is none. */
		if (strspn(client->in + start, " \t\r") < len)
			client_line(client, client->in + start, len);
		start += len + 1;
	}
	client->in_len -= start;
	memmove(client->in, client->in + start, client->in_len);
}

static void client_receive(struct client *client)
{
	ssize_t received = recv(client->fd, client->in + client->in_len,
				MAX_LINE - client->in_len, 0);

	if (received < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (received <= 0) {
		client_close(client);
		return;
	}
	client->in_len += received;
	client_lines(client);
	if (client->in_len == MAX_LINE && client->waiting < MAX_WAITING) {
		log_message(LOG_WARNING, "a client sent a line of more than %d KiB",
			    MAX_LINE >> 10);
		client_close(client);
	}
}

static int on_client(sd_event_source *source, int fd, uint32_t events,
		     void *arg)
{
	struct client *client = arg;

	(void)source;
	(void)fd;
	if (events & EPOLLOUT)
		client_flush(client);
	if (client->fd >= 0 && (events & EPOLLIN))
		client_receive(client);
	else if (client->fd >= 0 && (events & (EPOLLHUP | EPOLLERR)))
		client_close(client);
	client_watch(client);
	return 0;
}

static struct client *client_new(struct domain *domain, int fd)
{
	struct relay *relay = domain->relay;
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client->relay = relay;
	client->domain = domain;
	client->fd = fd;
	/* It is not listened to before it was greeted. */
	if (sd_event_add_io(relay->event, &client->io, fd, 0, on_client,
			    client) < 0) {
		free(client);
		return NULL;
	}
	client->session = session_start(relay->options->uri,
					domain->running.uuid, relay->mailbox,
					client);
	if (!client->session) {
		sd_event_source_unref(client->io);
		free(client);
		return NULL;
	}
	return client;
}

/* Domains */

static int on_room(sd_event_source *source, uint64_t usec, void *arg)
{
	struct relay *relay = arg;

	(void)source;
	(void)usec;
	relay->full = false;
	for (struct domain *domain = relay->domains; domain;
	     domain = domain->next)
		domain_update(domain);
	return 0;
}

/* Who waits would wake us again and again. */
static void pause_listening(struct relay *relay, int error)
{
	log_message(LOG_WARNING, "no client can be accepted: %s",
		    strerror(error));
	relay->full = true;
	sd_event_source_set_time_relative(relay->room, FULL_US);
	sd_event_source_set_enabled(relay->room, SD_EVENT_ONESHOT);
	for (struct domain *domain = relay->domains; domain;
	     domain = domain->next)
		domain_update(domain);
}

static int on_connect(sd_event_source *source, int fd, uint32_t events,
		      void *arg)
{
	struct domain *domain = arg;
	int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	if (client_fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_listening(domain->relay, errno);
		return 0;
	}
	domain->client = client_new(domain, client_fd);
	if (!domain->client) {
		log_message(LOG_WARNING, "%s: no memory or no thread for a client",
			    domain->running.name);
		close(client_fd);
	}
	domain_update(domain);
	return 0;
}

/* One client at a time, and only if libvirt and a descriptor are there */
static void domain_update(struct domain *domain)
{
	const struct relay *relay = domain->relay;
	bool wanted = relay->up && !relay->full && !domain->client;

	sd_event_source_set_enabled(domain->io, wanted ? SD_EVENT_ON :
						SD_EVENT_OFF);
}

/* The name, or what is left if that is no name for a file */
static void name_file(struct domain *domain, const char *directory)
{
	const char *name = domain->running.name;

	/* wsrd's pattern would not find a name that begins with a dot. */
	if (!*name || *name == '.' || strchr(name, '/') ||
	    strlen(directory) + 1 + strlen(name) >= SUN_PATH_BYTES)
		name = domain->running.uuid;
	snprintf(domain->file, sizeof(domain->file), "%s", name);
}

/* Nobody else comes in before it has its owner. Return -1 with errno. */
static int bind_for_owner(int fd, const char *path, uid_t owner)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t mask;
	int failed;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	mask = umask(0177);
	failed = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (failed)
		return -1;
	if ((owner == geteuid() || !chown(path, owner, -1)) && !listen(fd, 1))
		return 0;
	failed = errno;
	unlink(path);
	errno = failed;
	return -1;
}

/* Return a socket that listens, or -1 with errno. */
static int listen_at(const struct relay_options *options, const char *file)
{
	char path[PATH_MAX];
	int fd, failed;

	snprintf(path, sizeof(path), "%s/%s", options->directory, file);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || !bind_for_owner(fd, path, options->owner))
		return fd;
	failed = errno;
	close(fd);
	errno = failed;
	return -1;
}

static void domain_free(struct domain *domain)
{
	struct client *client = domain->client;

	/* First, as the client will try to come back. */
	sd_event_source_unref(domain->io);
	if (domain->fd >= 0) {
		close(domain->fd);
		unlinkat(domain->relay->directory_fd, domain->file, 0);
	}
	if (client) {
		client->domain = NULL;
		session_cancel(client->session);
		client_close(client);
	}
	free(domain->running.name);
	free(domain);
}

/* Takes the name of @running over. */
static void domain_add(struct relay *relay, struct running *running)
{
	struct domain *domain = calloc(1, sizeof(*domain));

	if (!domain)
		return;
	domain->relay = relay;
	domain->running = *running;
	running->name = NULL;
	name_file(domain, relay->options->directory);
	domain->seen = true;
	domain->fd = listen_at(relay->options, domain->file);
	if (domain->fd < 0 ||
	    sd_event_add_io(relay->event, &domain->io, domain->fd, EPOLLIN,
			    on_connect, domain) < 0) {
		log_message(LOG_ERR, "%s: no socket %s/%s: %s",
			    domain->running.name, relay->options->directory,
			    domain->file, strerror(errno));
		domain_free(domain);
		return;
	}
	log_message(LOG_INFO, "%s: there", domain->running.name);
	domain->next = relay->domains;
	relay->domains = domain;
}

static struct domain *find(struct relay *relay, const char *uuid)
{
	struct domain *domain = relay->domains;

	while (domain && strcmp(domain->running.uuid, uuid))
		domain = domain->next;
	return domain;
}

/* Those that were not @seen have stopped. */
static void forget(struct relay *relay)
{
	struct domain **link = &relay->domains, *domain;

	while ((domain = *link)) {
		if (domain->seen) {
			link = &domain->next;
			continue;
		}
		*link = domain->next;
		log_message(LOG_INFO, "%s: gone", domain->running.name);
		domain_free(domain);
	}
}

static void take_domains(struct relay *relay, struct note *note)
{
	struct domain *domain;

	for (domain = relay->domains; domain; domain = domain->next)
		domain->seen = false;
	for (size_t i = 0; i < note->nr_domains; i++) {
		domain = find(relay, note->domains[i].uuid);
		if (domain && domain->running.id == note->domains[i].id)
			domain->seen = true;
	}
	/* First, for the names of those that were started again */
	forget(relay);
	relay->up = true;
	for (size_t i = 0; i < note->nr_domains; i++) {
		if (!find(relay, note->domains[i].uuid))
			domain_add(relay, &note->domains[i]);
	}
	for (domain = relay->domains; domain; domain = domain->next)
		domain_update(domain);
}

static void take_down(struct relay *relay)
{
	relay->up = false;
	for (struct domain *domain = relay->domains; domain;
	     domain = domain->next) {
		if (domain->client)
			client_close(domain->client);
		domain_update(domain);
	}
}

static void take_event(struct relay *relay, const struct note *note)
{
	struct domain *domain = find(relay, note->uuid);

	if (domain && domain->client && domain->client->negotiated)
		client_send(domain->client, note->text);
}

static void take_line(struct client *client, const struct note *note)
{
	if (client->greeted)
		client->waiting--;
	client->greeted = true;
	client_send(client, note->text);
	client_lines(client);
	client_watch(client);
}

static int on_notes(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct relay *relay = arg;
	struct note *note = mailbox_take(relay->mailbox), *next;

	(void)source;
	(void)fd;
	(void)events;
	for (; note; note = next) {
		next = note->next;
		switch (note->type) {
		case NOTE_DOMAINS:
			take_domains(relay, note);
			break;
		case NOTE_DOWN:
			take_down(relay);
			break;
		case NOTE_EVENT:
			take_event(relay, note);
			break;
		case NOTE_LINE:
			take_line(note->owner, note);
			break;
		case NOTE_ENDED:
			client_free(note->owner);
			break;
		}
		note_free(note);
	}
	return 0;
}

/* Sockets that a crash has left: who finds them takes them for hung guests. */
static void clean(int directory_fd)
{
	int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	if (!directory) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(directory))) {
		if (!fstatat(directory_fd, entry->d_name, &st,
			     AT_SYMLINK_NOFOLLOW) && S_ISSOCK(st.st_mode))
			unlinkat(directory_fd, entry->d_name, 0);
	}
	closedir(directory);
}

/* Return a descriptor, or -1 with @error. */
static int take_directory(const char *path, char *error)
{
	int fd;

	/* UUIDs must fit, and a name of a fair length. */
	if (strlen(path) + 1 + UUID_BYTES > SUN_PATH_BYTES) {
		snprintf(error, RELAY_ERROR, "--directory %s: the path is too long for sockets in it",
			 path);
		return -1;
	}
	if (mkdir(path, 0755) && errno != EEXIST) {
		snprintf(error, RELAY_ERROR, "--directory %s: %s", path,
			 strerror(errno));
		return -1;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB))
		return fd;
	snprintf(error, RELAY_ERROR, "--directory %s: %s", path,
		 fd >= 0 && errno == EWOULDBLOCK ?
		 "another wsr-libvirt uses it" : strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

struct relay *relay_start(sd_event *event, const struct relay_options *options,
			  struct mailbox *mailbox, char *error)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	if (!relay) {
		snprintf(error, RELAY_ERROR, "out of memory");
		return NULL;
	}
	relay->event = event;
	relay->options = options;
	relay->mailbox = mailbox;
	relay->directory_fd = take_directory(options->directory, error);
	if (relay->directory_fd < 0) {
		free(relay);
		return NULL;
	}
	clean(relay->directory_fd);
	/* The timer is made now: it needs a descriptor. */
	if (sd_event_add_io(event, &relay->io, mailbox->fd, EPOLLIN, on_notes,
			    relay) < 0 ||
	    sd_event_add_time_relative(event, &relay->room, CLOCK_MONOTONIC,
				       FULL_US, 0, on_room, relay) < 0) {
		snprintf(error, RELAY_ERROR, "the event loop takes no sources");
		close(relay->directory_fd);
		free(relay);
		return NULL;
	}
	return relay;
}

void relay_stop(struct relay *relay)
{
	struct domain *domain;

	while ((domain = relay->domains)) {
		relay->domains = domain->next;
		domain_free(domain);
	}
	sd_event_source_unref(relay->room);
	sd_event_source_unref(relay->io);
	close(relay->directory_fd);
	free(relay);
}
