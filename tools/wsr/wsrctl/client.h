/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Questions to wsrd over its control socket.
 */
#ifndef WSRCTL_CLIENT_H
#define WSRCTL_CLIENT_H

struct json_object;

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
