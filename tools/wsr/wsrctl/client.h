/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Questions to wsrd over its control socket.
 */
#ifndef WSRCTL_CLIENT_H
#define WSRCTL_CLIENT_H

#include <stddef.h>

struct json_object;
struct json_tokener;

#define CLIENT_SOCKET	"/run/wsr/control"	/* wsrd's default */
#define CLIENT_ERROR	256

/**
 * struct client - a connection
 * @fd:		-1: there is none
 * @tokener:	of the answer that is being received
 * @received:	bytes of it
 * @error:	why the last call failed
 */
struct client {
	int fd;
	struct json_tokener *tokener;
	size_t received;
	char error[CLIENT_ERROR];
};

/**
 * client_open - connect
 * @path:	control socket
 *
 * Return: 0, or -1 with the reason in @client->error; then there is nothing to
 * close.
 */
int client_open(struct client *client, const char *path);

/**
 * client_send - send one request
 * @request:	the reference is taken over
 *
 * Return: 0 or -1, as client_open().
 */
int client_send(struct client *client, struct json_object *request);

/**
 * client_receive - take what has come of the answer
 * @answer:	receives it once it is complete, else NULL; to be released with
 *		json_object_put()
 *
 * Waits for a few seconds if there is nothing to read from @client->fd.
 *
 * Return: 0 or -1, as client_open().
 */
int client_receive(struct client *client, struct json_object **answer);

/** client_close - harmless if it is closed */
void client_close(struct client *client);

/**
 * client_ask - send one request and wait for the answer
 * @path:	control socket
 * @request:	the reference is taken over
 *
 * Ends the program with a message if wsrd can't be asked or refuses.
 *
 * Return: the answer, to be released with json_object_put().
 */
struct json_object *client_ask(const char *path, struct json_object *request);

/**
 * client_stream - the same, for an answer without an end
 *
 * Ends the program with a message if wsrd can't be asked.
 *
 * Return: the descriptor to read from.
 */
int client_stream(const char *path, struct json_object *request);

/** client_request - a new request with this command */
struct json_object *client_request(const char *command);

#endif
