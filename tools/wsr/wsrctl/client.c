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

static void __attribute__((noreturn)) give_up(const char *path, const char *why)
{
	fprintf(stderr, "wsrctl: %s: %s\n", path, why);
	if (errno == ENOENT || errno == ECONNREFUSED)
		fputs("wsrctl: wsrd is not running, or uses another socket (--socket)\n",
		      stderr);
	else if (errno == EACCES)
		fputs("wsrctl: only root and the group in [host] control-group may ask\n",
		      stderr);
	exit(1);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = 0;
		give_up(path, "the path of a socket has at most 107 characters");
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		give_up(path, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static int send_request(const char *path, struct json_object *request)
{
	const char *text = json_object_to_json_string_ext(request,
		JSON_C_TO_STRING_PLAIN);
	int fd = connect_to(path);

	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 ||
	    send(fd, "\n", 1, MSG_NOSIGNAL) < 0)
		give_up(path, strerror(errno));
	json_object_put(request);
	return fd;
}

int client_stream(const char *path, struct json_object *request)
{
	struct timeval forever = { 0 };
	int fd = send_request(path, request);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
	return fd;
}

struct json_object *client_ask(const char *path, struct json_object *request)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *answer = NULL, *error;
	char buffer[65536];
	size_t total = 0;
	ssize_t got;
	int fd = send_request(path, request);

	if (!tokener)
		give_up(path, "out of memory");
	while (!answer && total < MAX_ANSWER) {
		got = recv(fd, buffer, sizeof(buffer), 0);
		if (got < 0)
			give_up(path, errno == EAGAIN ?
				"wsrd does not answer" : strerror(errno));
		errno = 0;
		if (!got)
			give_up(path, "wsrd has closed the connection");
		total += got;
		answer = json_tokener_parse_ex(tokener, buffer, got);
		if (!answer && json_tokener_get_error(tokener) !=
		    json_tokener_continue)
			give_up(path, "the answer is not JSON: is this wsrd's socket?");
	}
	json_tokener_free(tokener);
	close(fd);
	if (json_object_object_get_ex(answer, "error", &error)) {
		fprintf(stderr, "wsrctl: %s\n", json_object_get_string(error));
		exit(1);
	}
	return answer;
}
