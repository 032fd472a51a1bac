// SPDX-License-Identifier: GPL-2.0
/*
 * What browsers and Prometheus talk to.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <json-c/json.h>
#include <microhttpd.h>

#include "../text.h"
#include "control.h"
#include "http.h"
#include "log.h"
#include "metrics.h"

#define MAX_CONNECTIONS	64
#define MAX_HEADERS	16384	/* bytes of a request, and of an answer's */
#define IDLE_S		10
/* Each connection serves one request and has so long for all of it. */
#define DEADLINE_MS	20000
#define HEALTHY_MS	10000	/* since the last decisions */
#define DEFAULT_SINCE	"1h"
#define NONCE_BYTES	16
#define NONCE_MARK	"@NONCE@"

/* wsrd/page.html, see the Makefile */
extern const char page_start[] __asm__("_binary_page_html_start");
extern const char page_end[] __asm__("_binary_page_html_end");

struct http_client {
	int fd;			/* -1: free */
	int64_t deadline_ms;
};

struct http {
	struct manager *manager;
	struct MHD_Daemon *daemon;
	sd_event_source *io;
	sd_event_source *timer;
	struct http_client clients[MAX_CONNECTIONS];
	bool closed;		/* a connection, in this round */
};

/* One answer. @data is released with free() unless it is @constant. */
struct answer {
	unsigned int status;
	const char *type;
	char *data;
	size_t size;
	bool constant;
	char csp[256];
};

static void set_text(struct answer *answer, unsigned int status,
		     const char *text)
{
	answer->status = status;
	answer->type = "text/plain; charset=utf-8";
	answer->data = (char *)text;
	answer->size = strlen(text);
	answer->constant = true;
}

static const char *parameter(struct MHD_Connection *connection,
			     const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND,
					   name);
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static void add_text(struct json_object *request, const char *name,
		     const char *value)
{
	json_object_object_add(request, name, json_object_new_string(value));
}

/* The answer of wsrctl's socket to @request, whose reference is taken over */
static void set_json(struct http *http, struct answer *answer,
		     struct json_object *request)
{
	struct json_object *object = control_answer(http->manager, request);
	const char *text;

	text = json_object_to_json_string_length(object,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
		&answer->size);
	answer->status = json_object_object_get_ex(object, "error", NULL) ?
			 MHD_HTTP_NOT_FOUND : MHD_HTTP_OK;
	answer->type = "application/json";
	answer->data = malloc(answer->size);
	if (answer->data)
		memcpy(answer->data, text, answer->size);
	json_object_put(object);
	json_object_put(request);
}

static void get_status(struct http *http, struct MHD_Connection *connection,
		       struct answer *answer)
{
	struct json_object *request = json_object_new_object();

	(void)connection;
	add_text(request, "command", "status");
	set_json(http, answer, request);
}

static void get_vm(struct http *http, struct MHD_Connection *connection,
		   struct answer *answer)
{
	struct json_object *request = json_object_new_object();
	const char *name = parameter(connection, "name");

	add_text(request, "command", "explain");
	add_text(request, "vm", name ? name : "");
	set_json(http, answer, request);
}

static void get_history(struct http *http, struct MHD_Connection *connection,
			struct answer *answer)
{
	const char *name = parameter(connection, "vm");
	const char *since = parameter(connection, "since");
	struct json_object *request;
	uint32_t since_ms;

	if (text_parse_ms(since ? since : DEFAULT_SINCE, &since_ms)) {
		set_text(answer, MHD_HTTP_BAD_REQUEST,
			 "since must be a time such as 90s, 20m or 2h\n");
		return;
	}
	request = json_object_new_object();
	add_text(request, "command", "history");
	add_text(request, "vm", name ? name : "");
	json_object_object_add(request, "since-s",
			       json_object_new_int64(since_ms / 1000));
	set_json(http, answer, request);
}

static void get_metrics(struct http *http, struct MHD_Connection *connection,
			struct answer *answer)
{
	const char *accept = header(connection, "Accept");
	bool openmetrics = accept &&
			   strstr(accept, "application/openmetrics-text");

	answer->status = MHD_HTTP_OK;
	answer->type = openmetrics ? METRICS_OPENMETRICS : METRICS_PROMETHEUS;
	answer->data = metrics_text(http->manager, openmetrics, &answer->size);
}

static void get_health(struct http *http, struct MHD_Connection *connection,
		       struct answer *answer)
{
	const struct manager *manager = http->manager;

	(void)connection;
	if (monotonic_ms() - manager->planned_ms < HEALTHY_MS)
		set_text(answer, MHD_HTTP_OK, "ok\n");
	else
		set_text(answer, MHD_HTTP_SERVICE_UNAVAILABLE,
			 "no decisions are made\n");
}

static int make_nonce(char text[2 * NONCE_BYTES + 1])
{
	unsigned char bytes[NONCE_BYTES];

	if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != sizeof(bytes))
		return -1;
	for (int i = 0; i < NONCE_BYTES; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	return 0;
}

/*
 * Only the scripts and styles of the page itself run: they have a number that
 * is another one each time. Whatever else got into the page does not know it.
 */
static void get_page(struct http *http, struct MHD_Connection *connection,
		     struct answer *answer)
{
	size_t left = page_end - page_start, mark = strlen(NONCE_MARK), part;
	const char *from = page_start, *found;
	char nonce[2 * NONCE_BYTES + 1];
	FILE *file;

	(void)http;
	(void)connection;
	if (make_nonce(nonce))
		return;
	file = open_memstream(&answer->data, &answer->size);
	if (!file)
		return;
	while ((found = memmem(from, left, NONCE_MARK, mark))) {
		part = found - from;
		fwrite(from, 1, part, file);
		fputs(nonce, file);
		from += part + mark;
		left -= part + mark;
	}
	fwrite(from, 1, left, file);
	if (fclose(file)) {
		free(answer->data);
		answer->data = NULL;
	}
	answer->status = MHD_HTTP_OK;
	answer->type = "text/html; charset=utf-8";
	snprintf(answer->csp, sizeof(answer->csp), "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		 nonce, nonce);
}

static const struct {
	const char *path;
	void (*get)(struct http *http, struct MHD_Connection *connection,
		    struct answer *answer);
} pages[] = {
	{ "/", get_page },
	{ "/metrics", get_metrics },
	{ "/healthz", get_health },
	{ "/api/v1/status", get_status },
	{ "/api/v1/vm", get_vm },
	{ "/api/v1/history", get_history },
};

static bool is_listed(const char *names, const char *name, size_t len)
{
	while (names && *names) {
		size_t word = strcspn(names, " ");

		if (word == len && !strncasecmp(names, name, len))
			return true;
		names += word + strspn(names + word, " ");
	}
	return false;
}

/*
 * A page of somebody else can give its own name our address, and its script
 * may then read what we say. It can't do that with an address as a name.
 */
static bool is_our_name(const struct http *http, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	char name[256];
	size_t len;

	if (!host)
		return true;	/* no browser */
	len = *host == '[' ? strcspn(host, "]") : strcspn(host, ":");
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	if (*name == '[')
		return inet_pton(AF_INET6, name + 1, address) == 1;
	return inet_pton(AF_INET, name, address) == 1 ||
	       is_listed("localhost", name, len) ||
	       is_listed(http->manager->config->http_names, name, len);
}

static void find_answer(struct http *http, struct MHD_Connection *connection,
			const char *url, const char *method,
			struct answer *answer)
{
	if (!is_our_name(http, header(connection, "Host"))) {
		set_text(answer, MHD_HTTP_MISDIRECTED_REQUEST,
			 "unknown host name: use an IP address, or tell wsrd with [host] http-names\n");
		return;
	}
	if (strcmp(method, "GET") && strcmp(method, "HEAD")) {
		set_text(answer, MHD_HTTP_METHOD_NOT_ALLOWED,
			 "only GET and HEAD: nothing can be changed here\n");
		return;
	}
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (!strcmp(url, pages[i].path)) {
			pages[i].get(http, connection, answer);
			return;
		}
	}
	set_text(answer, MHD_HTTP_NOT_FOUND, "there is no such page\n");
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection,
				  const char *url, const char *method,
				  const char *version, const char *upload,
				  size_t *upload_size, void **context)
{
	struct answer answer = { .csp = "default-src 'none'" };
	struct MHD_Response *response;
	enum MHD_Result result;

	(void)version;
	(void)upload;
	(void)upload_size;
	(void)context;
	find_answer(arg, connection, url, method, &answer);
	if (!answer.data)
		set_text(&answer, MHD_HTTP_INTERNAL_SERVER_ERROR,
			 "out of memory\n");
	response = MHD_create_response_from_buffer(answer.size, answer.data,
		answer.constant ? MHD_RESPMEM_PERSISTENT :
				  MHD_RESPMEM_MUST_FREE);
	if (!response) {
		if (!answer.constant)
			free(answer.data);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", answer.type);
	MHD_add_response_header(response, "Content-Security-Policy",
				answer.csp);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Cross-Origin-Resource-Policy",
				"same-origin");
	MHD_add_response_header(response, "Connection", "close");
	if (answer.status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, "Allow", "GET, HEAD");
	result = MHD_queue_response(connection, answer.status, response);
	MHD_destroy_response(response);
	return result;
}

static void on_connection(void *arg, struct MHD_Connection *connection,
			  void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info;
	struct http *http = arg;
	struct http_client *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (client)
			client->fd = -1;
		http->closed = true;
		return;
	}
	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_CONNECTION_FD);
	for (int i = 0; info && i < MAX_CONNECTIONS; i++) {
		client = &http->clients[i];
		if (client->fd >= 0)
			continue;
		client->fd = info->connect_fd;
		client->deadline_ms = monotonic_ms() + DEADLINE_MS;
		*context = client;
		return;
	}
}

/* Ends those that take too long. Return: ms until the next one, or -1. */
static int64_t check_deadlines(struct http *http)
{
	int64_t now_ms = monotonic_ms(), wait_ms = -1;

	for (int i = 0; i < MAX_CONNECTIONS; i++) {
		struct http_client *client = &http->clients[i];
		int64_t left_ms = client->deadline_ms - now_ms;

		if (client->fd < 0)
			continue;
		if (left_ms <= 0) {
			/* The library notices that and closes it. */
			shutdown(client->fd, SHUT_RDWR);
			left_ms = 1000;
		}
		if (wait_ms < 0 || left_ms < wait_ms)
			wait_ms = left_ms;
	}
	return wait_ms;
}

static void serve(struct http *http)
{
	int64_t wait_ms;
	MHD_UNSIGNED_LONG_LONG library_ms;

	http->closed = false;
	MHD_run(http->daemon);
	wait_ms = check_deadlines(http);
	/*
	 * When it is full, the library stops to listen; that it has room again
	 * it only sees in the next round, for which it sets no time.
	 */
	if (http->closed)
		wait_ms = 0;
	if (MHD_get_timeout(http->daemon, &library_ms) == MHD_YES &&
	    (wait_ms < 0 || (int64_t)library_ms < wait_ms))
		wait_ms = library_ms;
	if (wait_ms < 0) {
		sd_event_source_set_enabled(http->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time_relative(http->timer, wait_ms * 1000);
	sd_event_source_set_enabled(http->timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	(void)source;
	(void)fd;
	(void)revents;
	serve(arg);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	(void)source;
	(void)usec;
	serve(arg);
	return 0;
}

static int watch(struct http *http)
{
	const union MHD_DaemonInfo *info;

	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info ||
	    sd_event_add_io(http->manager->event, &http->io, info->epoll_fd,
			    EPOLLIN, on_io, http) < 0 ||
	    sd_event_add_time_relative(http->manager->event, &http->timer,
				       CLOCK_MONOTONIC, 0, 1000, on_timer,
				       http) < 0)
		return -1;
	/* Decisions come first. */
	sd_event_source_set_priority(http->io, SD_EVENT_PRIORITY_IDLE);
	sd_event_source_set_priority(http->timer, SD_EVENT_PRIORITY_IDLE);
	return 0;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *v4 = (const void *)address;
	const struct sockaddr_in6 *v6 = (const void *)address;

	if (address->ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* What is still missing is NULL, for http_stop(). */
static int start(struct http *http, struct manager *manager,
		 unsigned int flags, const struct sockaddr_storage *address)
{
	http->manager = manager;
	for (int i = 0; i < MAX_CONNECTIONS; i++)
		http->clients[i].fd = -1;
	http->daemon = MHD_start_daemon(flags | MHD_USE_EPOLL, 0, NULL, NULL,
		on_request, http,
		MHD_OPTION_SOCK_ADDR, (const struct sockaddr *)address,
		MHD_OPTION_LISTENING_ADDRESS_REUSE, 1U,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned int)MAX_CONNECTIONS,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MAX_HEADERS,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
		MHD_OPTION_END);
	return http->daemon ? watch(http) : -1;
}

int http_start(struct manager *manager, struct http **result, char *error)
{
	const char *text = manager->config->http_address;
	struct sockaddr_storage address;
	struct http *http;

	*result = NULL;
	if (!text)
		return 0;
	if (config_http_address(text, &address)) {
		snprintf(error, CONFIG_ERROR, "[host] http = %.64s: not an address",
			 text);
		return -1;
	}
	http = calloc(1, sizeof(*http));
	if (!http) {
		snprintf(error, CONFIG_ERROR, "out of memory");
		return -1;
	}
	if (start(http, manager, address.ss_family == AF_INET6 ?
		  MHD_USE_IPv6 : 0, &address)) {
		snprintf(error, CONFIG_ERROR, "[host] http = %.64s: can't listen there: %s",
			 text, strerror(errno));
		http_stop(http);
		return -1;
	}
	if (!is_loopback(&address))
		log_message(LOG_WARNING, "[host] http = %s: who reaches this address can read names and sizes of all VMs; a proxy in front of a loopback address can ask for passwords",
			    text);
	*result = http;
	return 0;
}

void http_stop(struct http *http)
{
	if (!http)
		return;
	sd_event_source_disable_unref(http->io);
	sd_event_source_disable_unref(http->timer);
	if (http->daemon)
		MHD_stop_daemon(http->daemon);
	free(http);
}
