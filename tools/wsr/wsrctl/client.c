// SPDX-License-Identifier: GPL-2.0
/*
 * Questions to wsrd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "client.h"

#define PATIENCE_S	10
#define MAX_ANSWER	(64 << 20)

struct json_object *client_request(const char *command)
{
	struct json_object *request = json_object_new_object();

	json_object_object_add(request, "command",
			       json_object_new_string(command));
	return request;
}

static int fail(struct client *client, const char *why)
{
	snprintf(client->error, sizeof(client->error), "%s", why);
	client_close(client);
	return -1;
}

static int fail_connect(struct client *client, int error)
{
	const char *hint = "";

	if (error == ENOENT || error == ECONNREFUSED)
		hint = ": wsrd is not running, or uses another socket (--socket)";
	else if (error == EACCES)
		hint = ": only root and the group in [host] control-group may ask";
	snprintf(client->error, sizeof(client->error), "%s%s", strerror(error),
		 hint);
	client_close(client);
	return -1;
}

int client_open(struct client *client, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = PATIENCE_S };

	*client = (struct client) { .fd = -1 };
	if (strlen(path) >= sizeof(address.sun_path))
		return fail(client, "the path of a socket has at most 107 characters");
	strcpy(address.sun_path, path);
	client->tokener = json_tokener_new();
	if (!client->tokener)
		return fail(client, "out of memory");
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return fail(client, strerror(errno));
	setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
		   sizeof(patience));
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)))
		return fail_connect(client, errno);
	return 0;
}

int client_send(struct client *client, struct json_object *request)
{
	const char *text = json_object_to_json_string_ext(request,
		JSON_C_TO_STRING_PLAIN);
	int error = 0;

	if (send(client->fd, text, strlen(text), MSG_NOSIGNAL) < 0 ||
	    send(client->fd, "\n", 1, MSG_NOSIGNAL) < 0)
		error = errno;
	json_object_put(request);
	return error ? fail(client, strerror(error)) : 0;
}

int client_receive(struct client *client, struct json_object **answer)
{
	char buffer[65536];
	ssize_t got = recv(client->fd, buffer, sizeof(buffer), 0);

	*answer = NULL;
	if (got < 0)
		return fail(client, errno == EAGAIN ? "wsrd does not answer" :
			    strerror(errno));
	if (!got)
		return fail(client, "wsrd has closed the connection");
	client->received += got;
	if (client->received > MAX_ANSWER)
		return fail(client, "the answer has no end: is this wsrd's socket?");
	*answer = json_tokener_parse_ex(client->tokener, buffer, got);
	if (*answer)
		client->received = 0;
	else if (json_tokener_get_error(client->tokener) !=
		 json_tokener_continue)
		return fail(client, "the answer is not JSON: is this wsrd's socket?");
	return 0;
}

void client_close(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	if (client->tokener)
		json_tokener_free(client->tokener);
	client->tokener = NULL;
}

static void __attribute__((noreturn)) give_up(const char *path,
					      const struct client *client)
{
	fprintf(stderr, "wsrctl: %s: %s\n", path, client->error);
	exit(1);
}

int client_stream(const char *path, struct json_object *request)
{
	struct timeval forever = { 0 };
	struct client client;

	if (client_open(&client, path) || client_send(&client, request))
		give_up(path, &client);
	setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &forever,
		   sizeof(forever));
	json_tokener_free(client.tokener);
	return client.fd;
}

struct json_object *client_ask(const char *path, struct json_object *request)
{
	struct json_object *answer = NULL, *error;
	struct client client;

	if (client_open(&client, path) || client_send(&client, request))
		give_up(path, &client);
	while (!answer) {
		if (client_receive(&client, &answer))
			give_up(path, &client);
	}
	client_close(&client);
	if (json_object_object_get_ex(answer, "error", &error)) {
		fprintf(stderr, "wsrctl: %s\n", json_object_get_string(error));
		exit(1);
	}
	return answer;
}
