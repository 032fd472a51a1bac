// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: what comes over a connection to wsrd's page and its metrics, with
 * the library that it uses, and a history.
 */
#include <fcntl.h>
#include <unistd.h>

#include "../wsrd/http.c"
#include "../wsrd/store.h"

#define NR_VMS		2
#define ANSWER_SIZE	(1 << 18)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

/* A VM with a report, and one of which the host knows a little */
static void add_vm(struct manager *manager, size_t i, const char *name)
{
	static struct managed managed[NR_VMS];
	static struct managed *vms[NR_VMS];
	static struct wsr_vm plan[NR_VMS];
	struct report *report;

	managed[i].manager = manager;
	managed[i].vm = vm_new_container(name, NULL, NULL);
	check(managed[i].vm);
	managed[i].policy = config_for_vm(manager->config, name, NULL);
	managed[i].plan = i;
	managed[i].source = i ? ESTIMATE_STAT : ESTIMATE_GUEST;
	vms[i] = &managed[i];
	wsr_vm_init(&plan[i], &managed[i].policy, 2 << 20, 2 << 20, 1000);
	report = &managed[i].vm->guest.report;
	report->nr_nodes = 1;
	report->nodes[0] = (struct report_node) {
		.node_id = REPORT_ALL_NODES, .nr_bins = 2, .lru_bytes = 1 << 20,
		.total_bytes = 2 << 20, .free_bytes = 1 << 20,
		.bins = { { .idle_age_ms = 1500, .swap_backed_bytes = 1 << 19 },
			  { .idle_age_ms = UINT64_MAX,
			    .file_backed_bytes = 1 << 19 } },
	};
	report->guest = report->nodes[0];
	check(!wsr_vm_report(&plan[i], &manager->config->policy, &report->guest,
			     2000));
	manager->vms = manager->plan_vms = vms;
	manager->plan = plan;
	manager->nr_vms = manager->nr_plan = i + 1;
}

/* Its first rows must be there. */
static void start_history(struct manager *manager, char *directory)
{
	char path[64];
	struct json_object *answer, *rows = NULL;

	check(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/history", directory);
	manager->config->history_path = strdup(path);
	manager->config->history_interval_ms = 1;
	manager->store = store_start(manager);
	check(manager->store);
	for (;;) {
		sd_event_run(manager->event, 100000);
		answer = store_history(manager->store, "vm1", 3600);
		if (json_object_object_get_ex(answer, "rows", &rows) &&
		    json_object_array_length(rows))
			break;
		json_object_put(answer);
	}
	json_object_put(answer);
	/* It stays open, but leaves nothing behind. */
	for (const char *end = "\0-wal\0-shm\0"; ; end += strlen(end) + 1) {
		snprintf(path, sizeof(path), "%s/history%s", directory, end);
		if (unlink(path))
			break;
	}
	rmdir(directory);
}

static struct http *new_http(void)
{
	static char directory[] = "/tmp/fuzz-http-XXXXXX";
	static struct sockaddr_storage address;
	static struct manager manager;
	static struct config config;
	static struct http http;
	char error[CONFIG_ERROR];

	check(!config_parse(&config, "fuzz", "[host]\nmemory=1G\nhttp-names = wsr.example other\n",
			    error));
	manager.config = &config;
	manager.policy = wsr_policy_find(config.policy_name);
	check(sd_event_new(&manager.event) >= 0);
	add_vm(&manager, 0, "vm1");
	add_vm(&manager, 1, "a \"name\"\\");
	start_history(&manager, directory);
	check(!start(&http, &manager, MHD_USE_NO_LISTEN_SOCKET, &address));
	return &http;
}

static size_t receive(int fd, char *answer, size_t len)
{
	ssize_t got;

	while ((got = recv(fd, answer + len, ANSWER_SIZE - len, 0)) > 0)
		len += got;
	answer[len] = '\0';
	return len;
}

/* Whatever is asked, nobody gets more than what http.h lists. */
static void check_answer(const char *answer, const char *request, size_t size)
{
	static const char * const headers[] = {
		"\r\nContent-Security-Policy: default-src 'none'",
		"\r\nX-Content-Type-Options: nosniff\r\n",
		"\r\nConnection: close\r\n",
	};
	const char *end = strstr(answer, "\r\n\r\n");
	int status = 0;

	if (!*answer)
		return;
	check(end && sscanf(answer, "HTTP/1.%*1[01] %3d ", &status) == 1);
	/* Others are those of the library. */
	if (status != 200 && status != 405 && status != 421 && status != 503)
		return;
	/* The library takes a zero byte as the end of a word. */
	if (status == 200)
		check(memmem(request, size, "GET", 3) ||
		      memmem(request, size, "HEAD", 4));
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		const char *found = strstr(answer, headers[i]);

		check(found && found < end);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char answer[ANSWER_SIZE + 1];
	static struct http *http;
	const uint8_t *rest = data, *end = data + size;
	const struct sockaddr_storage address = { .ss_family = AF_UNIX };
	size_t len = 0;
	int sockets[2];

	if (!http)
		http = new_http();
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets));
	check(MHD_add_connection(http->daemon, sockets[0],
				 (const struct sockaddr *)&address,
				 sizeof(address)) == MHD_YES);
	while (rest < end) {
		/* In pieces, since nothing says where one read ends. */
		size_t part = size < 300 ? size : 1 + *rest * 4;

		if (part > (size_t)(end - rest))
			part = end - rest;
		if (send(sockets[1], rest, part, MSG_NOSIGNAL) != (ssize_t)part)
			break;
		rest += part;
		serve(http);
		len = receive(sockets[1], answer, len);
	}
	shutdown(sockets[1], SHUT_WR);
	/* All of it is sent soon, and the connection is forgotten then. */
	for (int i = 0; http->clients[0].fd >= 0; i++) {
		check(i < 1000);
		serve(http);
		len = receive(sockets[1], answer, len);
	}
	check(len < ANSWER_SIZE);
	check_answer(answer, (const char *)data, size);
	close(sockets[1]);
	return 0;
}
