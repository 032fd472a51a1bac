// SPDX-License-Identifier: GPL-2.0
/*
 * libvirt's library for tests of wsr-libvirt, which is linked with this instead:
 * each call goes as a line of JSON to the socket WSR_FAKE_LIBVIRT, where a test
 * is libvirtd, see test_libvirt.py. Lines with "event" come on their own.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

struct _virConnect {
	FILE *in;
	int fd;
	pthread_t reader;
	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t changed;
	struct json_object *reply;
	bool alive;
	virConnectCloseFunc on_close;
	virConnectDomainEventCallback on_lifecycle;
	virConnectDomainQemuMonitorEventCallback on_event;
};

struct _virDomain {
	virConnectPtr connection;
	struct json_object *json;
};

static _Thread_local virError last_error;
static _Thread_local char last_message[1024];

static void set_error(int code, const char *message)
{
	snprintf(last_message, sizeof(last_message), "%s", message);
	last_error.code = code;
	last_error.message = last_message;
}

virErrorPtr virGetLastError(void)
{
	return last_error.code ? &last_error : NULL;
}

const char *virGetLastErrorMessage(void)
{
	return last_error.code ? last_message : "no error";
}

void virSetErrorFunc(void *arg, virErrorFunc handler)
{
	(void)arg;
	(void)handler;
}

int virInitialize(void)
{
	return 0;
}

int virEventRegisterDefaultImpl(void)
{
	return 0;
}

int virEventRunDefaultImpl(void)
{
	pause();
	return 0;
}

static const char *text(struct json_object *json, const char *name)
{
	return json_object_get_string(json_object_object_get(json, name));
}

static virDomainPtr domain_new(virConnectPtr connection,
			       struct json_object *json)
{
	virDomainPtr domain = calloc(1, sizeof(*domain));
	const char *plain = json_object_to_json_string(json);

	domain->connection = connection;
	/* Its own, as threads do not share json-c's counts. */
	domain->json = json_tokener_parse(plain);
	return domain;
}

static void take_event(virConnectPtr connection, struct json_object *json)
{
	virConnectDomainQemuMonitorEventCallback on_event;
	virConnectDomainEventCallback on_lifecycle;
	virDomainPtr domain = domain_new(connection, json);
	const char *event = text(json, "event");

	pthread_mutex_lock(&connection->lock);
	on_event = connection->on_event;
	on_lifecycle = connection->on_lifecycle;
	pthread_mutex_unlock(&connection->lock);
	if (!strcmp(event, "lifecycle") && on_lifecycle)
		on_lifecycle(connection, domain, 0, 0, NULL);
	else if (on_event)
		on_event(connection, domain, event, 1, 2, text(json, "details"),
			 NULL);
	virDomainFree(domain);
}

static void *read_lines(void *arg)
{
	virConnectPtr connection = arg;
	virConnectCloseFunc on_close;
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, connection->in) > 0) {
		struct json_object *json = json_tokener_parse(line);

		if (json_object_object_get_ex(json, "event", NULL)) {
			take_event(connection, json);
			json_object_put(json);
			continue;
		}
		pthread_mutex_lock(&connection->lock);
		connection->reply = json;
		pthread_cond_signal(&connection->changed);
		pthread_mutex_unlock(&connection->lock);
	}
	free(line);
	pthread_mutex_lock(&connection->lock);
	connection->alive = false;
	on_close = connection->on_close;
	pthread_cond_signal(&connection->changed);
	pthread_mutex_unlock(&connection->lock);
	if (on_close)
		on_close(connection, VIR_CONNECT_CLOSE_REASON_EOF, NULL);
	return NULL;
}

/* Takes @json over; returns the reply, NULL for an error. */
static struct json_object *call(virConnectPtr connection, const char *name,
				struct json_object *json)
{
	struct json_object *reply, *error;

	json_object_object_add(json, "call", json_object_new_string(name));
	dprintf(connection->fd, "%s\n", json_object_to_json_string_ext(
		json, JSON_C_TO_STRING_PLAIN));
	json_object_put(json);
	pthread_mutex_lock(&connection->lock);
	while (!connection->reply && connection->alive)
		pthread_cond_wait(&connection->changed, &connection->lock);
	reply = connection->reply;
	connection->reply = NULL;
	pthread_mutex_unlock(&connection->lock);
	last_error.code = 0;
	if (!reply) {
		set_error(VIR_ERR_RPC, "the connection is closed");
	} else if (json_object_object_get_ex(reply, "error", &error)) {
		set_error(json_object_get_int(json_object_object_get(
			error, "code")), text(error, "message"));
		json_object_put(reply);
		reply = NULL;
	}
	return reply;
}

virConnectPtr virConnectOpen(const char *uri)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	virConnectPtr connection = calloc(1, sizeof(*connection));

	(void)uri;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
		 getenv("WSR_FAKE_LIBVIRT"));
	connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(connection->fd, (struct sockaddr *)&address,
		    sizeof(address))) {
		set_error(VIR_ERR_NO_CONNECT, "nobody is there");
		close(connection->fd);
		free(connection);
		return NULL;
	}
	connection->in = fdopen(dup(connection->fd), "r");
	pthread_mutex_init(&connection->lock, NULL);
	pthread_cond_init(&connection->changed, NULL);
	connection->alive = true;
	pthread_create(&connection->reader, NULL, read_lines, connection);
	return connection;
}

int virConnectClose(virConnectPtr connection)
{
	shutdown(connection->fd, SHUT_RDWR);
	pthread_join(connection->reader, NULL);
	json_object_put(connection->reply);
	fclose(connection->in);
	close(connection->fd);
	free(connection);
	return 0;
}

int virConnectIsAlive(virConnectPtr connection)
{
	bool alive;

	/* Each function of the library begins with this. */
	last_error.code = 0;
	pthread_mutex_lock(&connection->lock);
	alive = connection->alive;
	pthread_mutex_unlock(&connection->lock);
	return alive;
}

int virConnectSetKeepAlive(virConnectPtr connection, int interval,
			   unsigned int count)
{
	(void)connection;
	return interval > 0 && count > 0 ? 0 : -1;
}

int virConnectRegisterCloseCallback(virConnectPtr connection,
				    virConnectCloseFunc callback, void *arg,
				    virFreeCallback release)
{
	(void)arg;
	(void)release;
	pthread_mutex_lock(&connection->lock);
	connection->on_close = callback;
	pthread_mutex_unlock(&connection->lock);
	return 0;
}

int virConnectUnregisterCloseCallback(virConnectPtr connection,
				      virConnectCloseFunc callback)
{
	(void)callback;
	return virConnectRegisterCloseCallback(connection, NULL, NULL, NULL);
}

int virConnectDomainEventRegisterAny(virConnectPtr connection,
				     virDomainPtr domain, int id,
				     virConnectDomainEventGenericCallback callback,
				     void *arg, virFreeCallback release)
{
	(void)domain;
	(void)id;
	(void)arg;
	(void)release;
	pthread_mutex_lock(&connection->lock);
	connection->on_lifecycle = (virConnectDomainEventCallback)(void *)callback;
	pthread_mutex_unlock(&connection->lock);
	return 1;
}

int virConnectDomainEventDeregisterAny(virConnectPtr connection, int id)
{
	return virConnectDomainEventRegisterAny(connection, NULL, id, NULL,
						NULL, NULL) > 0 ? 0 : -1;
}

int virConnectDomainQemuMonitorEventRegister(
	virConnectPtr connection, virDomainPtr domain, const char *event,
	virConnectDomainQemuMonitorEventCallback callback, void *arg,
	virFreeCallback release, unsigned int flags)
{
	(void)domain;
	(void)event;
	(void)arg;
	(void)release;
	(void)flags;
	pthread_mutex_lock(&connection->lock);
	connection->on_event = callback;
	pthread_mutex_unlock(&connection->lock);
	return 1;
}

int virConnectDomainQemuMonitorEventDeregister(virConnectPtr connection,
					       int id)
{
	(void)id;
	virConnectDomainQemuMonitorEventRegister(connection, NULL, NULL, NULL,
						 NULL, NULL, 0);
	return 0;
}

int virConnectListAllDomains(virConnectPtr connection, virDomainPtr **domains,
			     unsigned int flags)
{
	struct json_object *reply, *list;
	size_t nr;

	(void)flags;
	reply = call(connection, "list", json_object_new_object());
	if (!reply)
		return -1;
	list = json_object_object_get(reply, "domains");
	nr = json_object_array_length(list);
	*domains = calloc(nr + 1, sizeof(**domains));
	for (size_t i = 0; i < nr; i++)
		(*domains)[i] = domain_new(connection,
					   json_object_array_get_idx(list, i));
	json_object_put(reply);
	return nr;
}

virDomainPtr virDomainLookupByUUIDString(virConnectPtr connection,
					 const char *uuid)
{
	struct json_object *json = json_object_new_object(), *reply;
	virDomainPtr domain;

	json_object_object_add(json, "uuid", json_object_new_string(uuid));
	reply = call(connection, "lookup", json);
	if (!reply)
		return NULL;
	domain = domain_new(connection, reply);
	json_object_put(reply);
	return domain;
}

const char *virDomainGetName(virDomainPtr domain)
{
	return text(domain->json, "name");
}

unsigned int virDomainGetID(virDomainPtr domain)
{
	return json_object_get_int(json_object_object_get(domain->json, "id"));
}

int virDomainGetUUIDString(virDomainPtr domain, char *buffer)
{
	snprintf(buffer, VIR_UUID_STRING_BUFLEN, "%s",
		 text(domain->json, "uuid"));
	return 0;
}

int virDomainFree(virDomainPtr domain)
{
	json_object_put(domain->json);
	free(domain);
	return 0;
}

int virDomainGetState(virDomainPtr domain, int *state, int *reason,
		      unsigned int flags)
{
	struct json_object *json = json_object_new_object(), *reply;

	(void)flags;
	json_object_object_add(json, "uuid", json_object_new_string(
		text(domain->json, "uuid")));
	reply = call(domain->connection, "state", json);
	if (!reply)
		return -1;
	*state = json_object_get_int(json_object_object_get(reply, "state"));
	*reason = json_object_get_int(json_object_object_get(reply, "reason"));
	json_object_put(reply);
	return 0;
}

int virDomainSetMemoryFlags(virDomainPtr domain, unsigned long memory,
			    unsigned int flags)
{
	struct json_object *json = json_object_new_object(), *reply;

	json_object_object_add(json, "uuid", json_object_new_string(
		text(domain->json, "uuid")));
	json_object_object_add(json, "kib", json_object_new_int64(memory));
	json_object_object_add(json, "flags", json_object_new_int(flags));
	reply = call(domain->connection, "memory", json);
	json_object_put(reply);
	return reply ? 0 : -1;
}

int virDomainQemuMonitorCommand(virDomainPtr domain, const char *command,
				char **result, unsigned int flags)
{
	struct json_object *json = json_object_new_object(), *reply;

	json_object_object_add(json, "uuid", json_object_new_string(
		text(domain->json, "uuid")));
	json_object_object_add(json, "command",
			       json_object_new_string(command));
	json_object_object_add(json, "flags", json_object_new_int(flags));
	reply = call(domain->connection, "monitor", json);
	if (!reply)
		return -1;
	*result = strdup(text(reply, "result"));
	json_object_put(reply);
	return 0;
}
