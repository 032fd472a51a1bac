// SPDX-License-Identifier: GPL-2.0
/*
 * The commands of one client to one domain.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "../wsrd/log.h"
#include "calls.h"
#include "protocol.h"
#include "session.h"
#include "watch.h"

#define BUSY_S		3
#define ARRIVAL_S	1
#define STACK_BYTES	(256 << 10)	/* there may be a thousand of them */

struct session {
	const char *uri;
	char uuid[UUID_BYTES];
	struct mailbox *mailbox;
	void *owner;
	struct note *ended;		/* must not fail for lack of memory */
	pthread_t thread;

	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t changed;
	struct json_object *requests;	/* an array */
	bool closed;
	bool cancelled;
};

/* Takes @line over. */
static void tell(struct session *session, char *line)
{
	struct note *note = note_new(NOTE_LINE);

	if (!note) {
		free(line);
		return;
	}
	note->owner = session->owner;
	note->text = line;
	mailbox_post(session->mailbox, note);
}

/* @closed or @cancelled */
static bool is_set(struct session *session, const bool *flag)
{
	bool set;

	pthread_mutex_lock(&session->lock);
	set = *flag;
	pthread_mutex_unlock(&session->lock);
	return set;
}

/* Return the next command, NULL if no more will come. */
static struct json_object *next_request(struct session *session)
{
	struct json_object *request = NULL;

	pthread_mutex_lock(&session->lock);
	while (!json_object_array_length(session->requests) && !session->closed)
		pthread_cond_wait(&session->changed, &session->lock);
	if (json_object_array_length(session->requests) &&
	    !session->cancelled) {
		request = json_object_get(
			json_object_array_get_idx(session->requests, 0));
		json_object_array_del_idx(session->requests, 0, 1);
	}
	pthread_mutex_unlock(&session->lock);
	return request;
}

/*
 * After a call that failed: another job of libvirt's (a migration, a dump) may
 * keep the domain for itself. To the client that is a QEMU that is silent, not
 * one that refuses.
 */
static bool try_again(struct session *session)
{
	const virError *error = virGetLastError();

	if (!error || error->code != VIR_ERR_OPERATION_TIMEOUT ||
	    is_set(session, &session->closed))
		return false;
	/* libvirt has waited for 30 s already; let others have its worker. */
	sleep(BUSY_S);
	return true;
}

/* Through libvirt's own function: it checks the size and keeps its audit. */
static int set_balloon(struct session *session, virDomainPtr domain,
		       uint64_t bytes)
{
	uint64_t call;
	int result;

	do {
		call = calls_begin();
		/* That may have taken long. */
		result = is_set(session, &session->cancelled) ? -1 :
			virDomainSetMemoryFlags(domain, (bytes + 1023) / 1024,
						VIR_DOMAIN_AFFECT_LIVE);
		calls_end(call);
	} while (result < 0 && try_again(session));
	return result;
}

/* Return what QEMU says to @command, NULL if it did not get it. */
static char *ask(struct session *session, virDomainPtr domain,
		 const char *command)
{
	char *reply = NULL;
	uint64_t call;
	int result;

	do {
		call = calls_begin();
		result = is_set(session, &session->cancelled) ? -1 :
			virDomainQemuMonitorCommand(domain, command, &reply, 0);
		calls_end(call);
	} while (result < 0 && try_again(session));
	return result < 0 ? NULL : reply;
}

/* libvirt wants to give commands ids of its own. */
static char *relay(struct session *session, virDomainPtr domain,
		   struct json_object *request)
{
	struct json_object *command = json_object_new_object(), *arguments;
	char *reply, *line = NULL;

	json_object_object_add(command, "execute",
			       json_object_new_string(request_name(request)));
	if (json_object_object_get_ex(request, "arguments", &arguments))
		json_object_object_add(command, "arguments",
				       json_object_get(arguments));
	reply = ask(session, domain, json_object_to_json_string(command));
	json_object_put(command);
	if (reply)
		line = line_relayed(request, reply);
	free(reply);
	return line;
}

/* Return false if there is no sense in going on: libvirt is away. */
static bool serve(struct session *session, virConnectPtr connection,
		  virDomainPtr domain, struct json_object *request)
{
	char description[1024];
	const char *refused, *class;
	char *line = NULL;
	uint64_t bytes;

	refused = request_refused(request, &class);
	if (refused)
		line = line_error(request, class, refused);
	else if (!request_balloon(request, &bytes))
		line = relay(session, domain, request);
	else if (set_balloon(session, domain, bytes) >= 0)
		line = line_answer(request);
	if (!line) {
		/* The next call forgets it. */
		snprintf(description, sizeof(description), "libvirt: %s",
			 virGetLastErrorMessage());
		if (virConnectIsAlive(connection) != 1)
			return false;
		line = line_error(request, CLASS_GENERIC, description);
	}
	tell(session, line);
	return true;
}

/* The process of a thread; libvirt does not tell the one of QEMU. */
static pid_t process_of_thread(pid_t thread)
{
	char path[64], line[128];
	int pid = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (!pid && fgets(line, sizeof(line), file))
		sscanf(line, "Tgid: %d", &pid);
	fclose(file);
	return pid;
}

/*
 * Calls for a domain that comes by migration wait until it is there, and ten of
 * those would hold up all others; libvirt tells its state at once.
 */
static bool wait_for_arrival(struct session *session, virDomainPtr domain)
{
	int state, reason;

	while (!is_set(session, &session->closed)) {
		if (virDomainGetState(domain, &state, &reason, 0) < 0)
			return false;
		if (state != VIR_DOMAIN_PAUSED ||
		    reason != VIR_DOMAIN_PAUSED_MIGRATION)
			return true;
		sleep(ARRIVAL_S);
	}
	return false;
}

static bool greet(struct session *session, virDomainPtr domain)
{
	char *version, *cpus;
	pid_t thread = 0;

	version = ask(session, domain, "{\"execute\": \"query-version\"}");
	if (!version)
		return false;
	cpus = ask(session, domain, "{\"execute\": \"query-cpus-fast\"}");
	if (cpus)
		thread = reply_thread(cpus);
	tell(session, line_greeting(version, thread ?
				    process_of_thread(thread) : 0));
	free(version);
	free(cpus);
	return true;
}

static void talk(struct session *session, virConnectPtr connection)
{
	struct json_object *request;
	virDomainPtr domain;
	bool goes_on;

	domain = virDomainLookupByUUIDString(connection, session->uuid);
	if (!domain)
		return;
	if (!wait_for_arrival(session, domain)) {
		virDomainFree(domain);
		return;
	}
	goes_on = greet(session, domain);
	if (!goes_on)
		log_message(LOG_WARNING, "domain %s: no monitor: %s",
			    session->uuid, virGetLastErrorMessage());
	while (goes_on && (request = next_request(session))) {
		goes_on = serve(session, connection, domain, request);
		json_object_put(request);
	}
	virDomainFree(domain);
}

static void *run(void *arg)
{
	struct session *session = arg;
	virConnectPtr connection;

	connection = watch_connect(session->uri);
	if (connection) {
		talk(session, connection);
		virConnectClose(connection);
	}
	mailbox_post(session->mailbox, session->ended);
	return NULL;
}

struct session *session_start(const char *uri, const char *uuid,
			      struct mailbox *mailbox, void *owner)
{
	struct session *session = calloc(1, sizeof(*session));
	struct note *ended = note_new(NOTE_ENDED);
	pthread_attr_t attributes;
	int error;

	if (!session || !ended) {
		free(session);
		note_free(ended);
		return NULL;
	}
	ended->owner = owner;
	session->ended = ended;
	session->uri = uri;
	session->mailbox = mailbox;
	session->owner = owner;
	session->requests = json_object_new_array();
	memcpy(session->uuid, uuid, sizeof(session->uuid));
	pthread_mutex_init(&session->lock, NULL);
	pthread_cond_init(&session->changed, NULL);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	error = pthread_create(&session->thread, &attributes, run, session);
	pthread_attr_destroy(&attributes);
	if (error) {
		note_free(ended);
		json_object_put(session->requests);
		free(session);
		return NULL;
	}
	return session;
}

void session_submit(struct session *session, struct json_object *request)
{
	pthread_mutex_lock(&session->lock);
	json_object_array_add(session->requests, request);
	pthread_cond_signal(&session->changed);
	pthread_mutex_unlock(&session->lock);
}

void session_close(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	session->closed = true;
	pthread_cond_signal(&session->changed);
	pthread_mutex_unlock(&session->lock);
}

void session_cancel(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	session->closed = true;
	session->cancelled = true;
	pthread_cond_signal(&session->changed);
	pthread_mutex_unlock(&session->lock);
}

void session_free(struct session *session)
{
	pthread_join(session->thread, NULL);
	pthread_cond_destroy(&session->changed);
	pthread_mutex_destroy(&session->lock);
	json_object_put(session->requests);
	free(session);
}
