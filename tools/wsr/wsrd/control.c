// SPDX-License-Identifier: GPL-2.0
/*
 * What wsrctl talks to.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "ages.h"
#include "control.h"
#include "log.h"
#include "store.h"
#include "trace.h"
#include "why.h"

#define MAX_CLIENTS	32
#define MAX_REQUEST	4096
#define MAX_DEPTH	4
/* Who records and does not keep up is dropped. */
#define MAX_TRACE	(16 << 20)

struct client {
	struct control *control;
	sd_event_source *io;
	int fd;
	char in[MAX_REQUEST];
	size_t in_len;
	char *out;
	size_t out_len;
	size_t out_start;
	bool records;
	struct trace trace;
};

struct control {
	struct manager *manager;
	sd_event_source *io;
	int fd;
	int spare_fd;	/* to refuse clients when there are no descriptors */
	char path[108];
	struct client *clients[MAX_CLIENTS];
};

static void put_bytes(struct json_object *object, const char *name,
		      uint64_t bytes)
{
	json_object_object_add(object, name, json_object_new_uint64(bytes));
}

static void put_text(struct json_object *object, const char *name,
		     const char *text)
{
	json_object_object_add(object, name, json_object_new_string(text));
}

static void put_number(struct json_object *object, const char *name,
		       double number)
{
	json_object_object_add(object, name,
			       json_object_new_double(isfinite(number) ?
						      number : 0));
}

static void put_age(struct json_object *object, const char *name, double x)
{
	/* Above the grid no age is reached: nothing has to go. */
	if (x < WSR_GRID_MAX_X)
		put_number(object, name, wsr_ms_of_x(x) / 1000);
}

static struct json_object *host_json(const struct manager *manager)
{
	const struct wsr_host *host = &manager->host;
	struct json_object *object = json_object_new_object();

	put_bytes(object, "total-bytes", host->total_bytes);
	put_bytes(object, "other-bytes", host->other_bytes);
	put_bytes(object, "reserved-bytes", host->reserved_bytes);
	put_bytes(object, "buffer-bytes", host->buffer_bytes);
	put_bytes(object, "capacity-bytes", host->capacity_bytes);
	put_bytes(object, "swap-bytes", host->swap_bytes);
	put_bytes(object, "reclaimable-bytes", host->reclaimable_bytes);
	put_bytes(object, "deficit-bytes", host->deficit_bytes);
	put_age(object, "cut-age-s", host->cut_x);
	json_object_object_add(object, "pressed",
			       json_object_new_boolean(host->pressed));
	json_object_object_add(object, "dry-run",
			       json_object_new_boolean(manager->dry_run));
	put_text(object, "policy", manager->policy->name);
	return object;
}

static struct json_object *idle_json(const struct idle_facts *facts)
{
	struct json_object *object = json_object_new_object();

	put_bytes(object, "resident-bytes", facts->resident);
	put_bytes(object, "untracked-bytes", facts->untracked);
	put_bytes(object, "swapped-bytes", facts->swapped);
	put_bytes(object, "empty-bytes", facts->empty);
	put_number(object, "since-s", facts->since_ms / 1000.0);
	return object;
}

static struct json_object *vm_json(struct manager *manager,
				   const struct managed *managed)
{
	const struct wsr_vm *plan = manager_plan(manager, managed);
	const struct vm *vm = managed->vm;
	struct json_object *object = json_object_new_object();
	int64_t now_ms = monotonic_ms();

	put_text(object, "name", vm->name);
	put_text(object, "state", guest_state_name(vm->guest.state));
	if (*vm->guest.why)
		put_text(object, "why", vm->guest.why);
	if (*vm->error)
		put_text(object, "error", vm->error);
	if (!plan)
		return object;
	put_bytes(object, "size-bytes", plan->size_bytes);
	put_bytes(object, "actual-bytes", plan->actual_bytes);
	put_bytes(object, "swapped-bytes", plan->swapped_bytes);
	put_bytes(object, "target-bytes", plan->target_bytes);
	put_bytes(object, "desired-bytes", plan->why.desired);
	put_text(object, "reason", wsr_reason_name(plan->why.reason));
	put_text(object, "reason-text", why_reason_text(plan->why.reason));
	put_text(object, "hold", wsr_hold_name(plan->why.hold));
	put_text(object, "hold-text", why_hold_text(plan->why.hold));
	if (managed->group && managed->group->present)
		put_bytes(object, "cgroup-bytes", managed->group->current);
	if (plan->high_bytes != UINT64_MAX)
		put_bytes(object, "high-bytes", plan->high_bytes);
	if (!plan->has_report)
		return object;
	put_text(object, "source", estimate_source_name(managed->source));
	if (managed->check != CHECK_UNKNOWN)
		put_text(object, "cross-check",
			 estimate_check_name(managed->check));
	if (manager_samples(managed))
		json_object_object_add(object, "idle-pages",
				       idle_json(&managed->idle));
	put_number(object, "report-age-s",
		   (now_ms - plan->report_ms) / 1000.0);
	put_bytes(object, "working-set-bytes", plan->why.wss);
	put_bytes(object, "free-bytes", plan->free);
	put_age(object, "cut-age-s", plan->why.cut_x);
	put_number(object, "refault-bytes-per-s", plan->refault_rate);
	return object;
}

static struct json_object *done_json(const struct manager *manager,
				     const char *name)
{
	struct json_object *array = json_object_new_array();
	size_t nr = manager->nr_done, first = 0;

	if (nr > MANAGER_ACTIONS)
		first = nr - MANAGER_ACTIONS;
	for (size_t i = first; i < nr; i++) {
		const struct done *done = &manager->done[i % MANAGER_ACTIONS];
		struct json_object *object;

		if (name && strcmp(name, done->name))
			continue;
		object = json_object_new_object();
		json_object_object_add(object, "time",
				       json_object_new_int64(done->time_s));
		put_text(object, "vm", done->name);
		put_text(object, "kind", action_kind_name(done->kind));
		put_bytes(object, "bytes", done->bytes);
		json_object_object_add(object, "grows",
				       json_object_new_boolean(done->grows));
		put_text(object, "reason", wsr_reason_name(done->reason));
		json_object_array_add(array, object);
	}
	return array;
}

static struct json_object *error_json(const char *text)
{
	struct json_object *object = json_object_new_object();

	put_text(object, "error", text);
	return object;
}

/* The bounds of bins that a request names; without them there are no bins */
static int request_bins(struct json_object *request, struct report_node *node)
{
	struct json_object *array, *entry;
	int64_t before_ms = 0, bound_ms;
	size_t nr;

	node->nr_bins = 0;
	if (!json_object_object_get_ex(request, "idle-ages-ms", &array))
		return 0;
	if (!json_object_is_type(array, json_type_array))
		return -1;
	nr = json_object_array_length(array);
	if (nr < 1 || nr >= REPORT_MAX_BINS)
		return -1;
	for (size_t i = 0; i < nr; i++) {
		entry = json_object_array_get_idx(array, i);
		bound_ms = json_object_is_type(entry, json_type_int) ?
			   json_object_get_int64(entry) : 0;
		if (bound_ms <= before_ms || bound_ms > UINT32_MAX)
			return -1;
		node->bins[i].idle_age_ms = bound_ms;
		before_ms = bound_ms;
	}
	node->bins[nr].idle_age_ms = REPORT_OPEN_BIN;
	node->nr_bins = nr + 1;
	return 0;
}

static void fill_bins(struct report_node *node, const struct wsr_curve *curve)
{
	double before[WSR_NR_KINDS] = { 0 }, younger[WSR_NR_KINDS];

	for (unsigned int i = 0; i < node->nr_bins; i++) {
		struct report_bin *bin = &node->bins[i];
		double x = wsr_x_of_ms(bin->idle_age_ms);

		for (int kind = 0; kind < WSR_NR_KINDS; kind++)
			younger[kind] = i + 1 == node->nr_bins ?
					curve->total[kind] :
					wsr_curve_younger(curve, kind, x);
		bin->swap_backed_bytes = younger[WSR_SWAP_BACKED] -
					 before[WSR_SWAP_BACKED];
		bin->file_backed_bytes = younger[WSR_FILE_BACKED] -
					 before[WSR_FILE_BACKED];
		memcpy(before, younger, sizeof(before));
	}
}

static struct json_object *answer_status(struct manager *manager,
					 struct json_object *request)
{
	struct json_object *object, *array, *vm;
	const struct wsr_vm *plan;
	struct report_node node;

	if (request_bins(request, &node))
		return error_json("\"idle-ages-ms\" must be 1 to 15 numbers that increase");
	object = json_object_new_object();
	array = json_object_new_array();
	json_object_object_add(object, "host", host_json(manager));
	for (size_t i = 0; i < manager->nr_vms; i++) {
		vm = vm_json(manager, manager->vms[i]);
		plan = manager_plan(manager, manager->vms[i]);
		if (node.nr_bins && plan && plan->has_report) {
			fill_bins(&node, &plan->curve);
			json_object_object_add(vm, "bins",
					       report_bins_to_json(&node));
		}
		json_object_array_add(array, vm);
	}
	json_object_object_add(object, "vms", array);
	return object;
}

/* The VM that a request names, or NULL with @error */
static struct managed *request_vm(struct manager *manager,
				  struct json_object *request,
				  struct json_object **error)
{
	struct json_object *field;
	struct managed *managed;
	char text[256];

	if (!json_object_object_get_ex(request, "vm", &field) ||
	    !json_object_is_type(field, json_type_string)) {
		*error = error_json("name a VM: \"vm\": \"NAME\"");
		return NULL;
	}
	managed = manager_find(manager, json_object_get_string(field));
	if (!managed) {
		snprintf(text, sizeof(text), "there is no VM called %.64s; wsrctl status shows them",
			 json_object_get_string(field));
		*error = error_json(text);
	}
	return managed;
}

static struct json_object *answer_explain(struct manager *manager,
					  struct json_object *request)
{
	struct json_object *object, *config, *why;
	const struct wsr_vm *plan;
	struct managed *managed = request_vm(manager, request, &object);
	struct ages ages;

	if (!managed)
		return object;
	object = json_object_new_object();
	json_object_object_add(object, "host", host_json(manager));
	json_object_object_add(object, "vm", vm_json(manager, managed));
	config = json_object_new_object();
	put_number(config, "shares", managed->policy.shares);
	put_bytes(config, "min-bytes", managed->policy.min_bytes);
	put_bytes(config, "max-bytes", managed->policy.max_bytes);
	put_number(config, "slo", managed->policy.slo);
	json_object_object_add(object, "config", config);
	json_object_object_add(object, "actions",
			       done_json(manager, managed->vm->name));
	plan = manager_plan(manager, managed);
	if (!plan)
		return object;
	why = json_object_new_object();
	put_bytes(why, "needed-bytes", plan->why.needed);
	put_bytes(why, "floor-bytes", plan->why.floor);
	put_bytes(why, "slo-floor-bytes", plan->why.slo_floor);
	put_bytes(why, "ceiling-bytes", plan->why.ceiling);
	put_age(why, "slo-age-s", plan->why.slo_x);
	put_age(why, "cut-age-s", plan->why.cut_x);
	put_number(why, "predicted-refault-bytes-per-s",
		   plan->why.refault_rate);
	put_number(why, "alpha", plan->alpha);
	put_number(why, "psi", plan->psi);
	ages_of_curve(&ages, &plan->curve);
	json_object_object_add(object, "ages-s", ages_bounds_json());
	json_object_object_add(object, "ages", ages_json(&ages));
	json_object_object_add(object, "why", why);
	if (managed->bad_reason) {
		put_text(object, "refused-report", managed->bad_reason);
		put_bytes(object, "refused-reports", managed->bad_reports);
	}
	return object;
}

static struct json_object *answer_set(struct manager *manager,
				      struct json_object *request)
{
	struct json_object *object, *key, *value;
	struct managed *managed = request_vm(manager, request, &object);
	char error[CONFIG_ERROR];

	if (!managed)
		return object;
	if (!json_object_object_get_ex(request, "key", &key) ||
	    !json_object_object_get_ex(request, "value", &value) ||
	    !json_object_is_type(key, json_type_string) ||
	    !json_object_is_type(value, json_type_string))
		return error_json("\"key\" and \"value\" must be strings");
	if (config_set_vm(&managed->policy, json_object_get_string(key),
			  json_object_get_string(value), error))
		return error_json(error);
	return json_object_new_object();
}

static struct json_object *answer_actions(struct manager *manager,
					  struct json_object *request)
{
	struct json_object *object = json_object_new_object();

	(void)request;
	json_object_object_add(object, "actions", done_json(manager, NULL));
	return object;
}

static struct json_object *answer_history(struct manager *manager,
					  struct json_object *request)
{
	struct json_object *vm, *since;

	if (!manager->store)
		return error_json("no history is kept; [host] history = FILE in wsrd's configuration begins one");
	/* A VM that is gone has a history too. */
	if (!json_object_object_get_ex(request, "vm", &vm) ||
	    !json_object_is_type(vm, json_type_string) ||
	    !json_object_object_get_ex(request, "since-s", &since) ||
	    !json_object_is_type(since, json_type_int) ||
	    json_object_get_int64(since) <= 0 ||
	    json_object_get_int64(since) > UINT32_MAX)
		return error_json("\"vm\" must be a string, and \"since-s\" a number above 0");
	return store_history(manager->store, json_object_get_string(vm),
			     json_object_get_int64(since));
}

static const struct {
	const char *name;
	struct json_object *(*answer)(struct manager *manager,
				      struct json_object *request);
} commands[] = {
	{ "status", answer_status },
	{ "explain", answer_explain },
	{ "set", answer_set },
	{ "actions", answer_actions },
	{ "history", answer_history },
};

struct json_object *control_answer(struct manager *manager,
				   struct json_object *request)
{
	struct json_object *field;

	if (!json_object_is_type(request, json_type_object) ||
	    !json_object_object_get_ex(request, "command", &field) ||
	    !json_object_is_type(field, json_type_string))
		return error_json("a request is an object with \"command\"");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!strcmp(commands[i].name, json_object_get_string(field)))
			return commands[i].answer(manager, request);
	}
	return error_json("unknown command");
}

static void drop(struct client *client)
{
	struct manager *manager = client->control->manager;

	if (manager->trace == &client->trace)
		manager->trace = NULL;
	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		if (client->control->clients[i] == client)
			client->control->clients[i] = NULL;
	}
	sd_event_source_disable_unref(client->io);
	close(client->fd);
	free(client->out);
	free(client);
}

/* What the client takes now; the rest when it has room. */
static int flush_out(struct client *client)
{
	ssize_t sent;

	while (client->out_start < client->out_len) {
		sent = send(client->fd, client->out + client->out_start,
			    client->out_len - client->out_start,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN)
			return 0;
		if (sent <= 0)
			return -1;
		client->out_start += sent;
	}
	free(client->out);
	client->out = NULL;
	client->out_len = 0;
	client->out_start = 0;
	return 0;
}

static int append(struct client *client, struct json_object *json)
{
	const char *text;
	size_t size;
	char *out;

	text = json_object_to_json_string_length(json,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
	out = realloc(client->out, client->out_len + size + 1);
	if (out) {
		client->out = out;
		memcpy(out + client->out_len, text, size);
		out[client->out_len + size] = '\n';
		client->out_len += size + 1;
	}
	json_object_put(json);
	return out ? 0 : -1;
}

/* Called while facts change, so a client is not dropped here. */
static void record_line(void *arg, struct json_object *line)
{
	struct client *client = arg;

	if (client->out_len - client->out_start > MAX_TRACE ||
	    append(client, line)) {
		client->control->manager->trace = NULL;
		shutdown(client->fd, SHUT_RDWR);
		return;
	}
	sd_event_source_set_io_events(client->io, EPOLLOUT);
}

/* From now on the connection is a trace. */
static struct json_object *start_record(struct client *client)
{
	struct manager *manager = client->control->manager;

	if (manager->trace)
		return error_json("somebody else records already");
	client->records = true;
	client->trace = (struct trace) { .line = record_line, .arg = client };
	manager->trace = &client->trace;
	trace_all(manager);
	return NULL;
}

static bool is_record(struct json_object *request)
{
	struct json_object *field;

	return json_object_object_get_ex(request, "command", &field) &&
	       json_object_is_type(field, json_type_string) &&
	       !strcmp(json_object_get_string(field), "record");
}

static int answer_line(struct client *client, const char *line, size_t len)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *request, *answer;

	if (!tokener)
		return -1;
	request = json_tokener_parse_ex(tokener, line, len);
	if (json_tokener_get_error(tokener) != json_tokener_success)
		answer = error_json("this is not JSON");
	else if (is_record(request))
		answer = start_record(client);
	else
		answer = control_answer(client->control->manager, request);
	json_tokener_free(tokener);
	json_object_put(request);
	return answer ? append(client, answer) : 0;
}

static int receive(struct client *client)
{
	size_t room = sizeof(client->in) - client->in_len;
	char *end;
	ssize_t got;

	got = recv(client->fd, client->in + client->in_len, room, MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got <= 0)
		return -1;
	client->in_len += got;
	while ((end = memchr(client->in, '\n', client->in_len))) {
		size_t len = end - client->in;

		if (answer_line(client, client->in, len))
			return -1;
		client->in_len -= len + 1;
		memmove(client->in, end + 1, client->in_len);
	}
	/* Longer than any request */
	return client->in_len == sizeof(client->in) ? -1 : 0;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents,
		     void *arg)
{
	struct client *client = arg;
	int result = 0;

	(void)fd;
	/* Who does not read its answers does not get more of them. */
	if (client->records && revents & (EPOLLHUP | EPOLLERR))
		result = -1;
	else if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR) && !client->out)
		result = receive(client);
	if (!result)
		result = flush_out(client);
	if (result) {
		drop(client);
		return 0;
	}
	sd_event_source_set_io_events(source, client->out ? EPOLLOUT : EPOLLIN);
	return 0;
}

/* Who is not accepted would wake us again and again. */
static void refuse(struct control *control)
{
	log_message(LOG_WARNING, "%s: a client is refused: %s", control->path,
		    strerror(errno));
	close(control->spare_fd);
	close(accept4(control->fd, NULL, NULL, SOCK_CLOEXEC));
	control->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int on_connect(sd_event_source *source, int fd, uint32_t revents,
		      void *arg)
{
	struct control *control = arg;
	struct client *client = NULL;
	size_t place = 0;
	int client_fd;

	(void)source;
	(void)revents;
	client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client_fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse(control);
		return 0;
	}
	while (place < MAX_CLIENTS && control->clients[place])
		place++;
	if (place < MAX_CLIENTS)
		client = calloc(1, sizeof(*client));
	if (!client) {
		close(client_fd);
		return 0;
	}
	client->control = control;
	client->fd = client_fd;
	control->clients[place] = client;
	if (sd_event_add_io(control->manager->event, &client->io, client_fd,
			    EPOLLIN, on_client, client) < 0)
		drop(client);
	return 0;
}

static int open_socket(struct control *control, char *error)
{
	const struct config *config = control->manager->config;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct group *group = NULL;

	if (strlen(config->control_path) >= sizeof(address.sun_path)) {
		snprintf(error, CONFIG_ERROR, "%s: a socket's path has at most 107 characters",
			 config->control_path);
		return -1;
	}
	strcpy(address.sun_path, config->control_path);
	strcpy(control->path, config->control_path);
	if (config->control_group) {
		group = getgrnam(config->control_group);
		if (!group) {
			snprintf(error, CONFIG_ERROR, "[host] control-group = %.64s: there is no such group",
				 config->control_group);
			return -1;
		}
	}
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			     0);
	if (control->fd < 0) {
		snprintf(error, CONFIG_ERROR, "no socket: %s",
			 strerror(errno));
		return -1;
	}
	/* Somebody who answers there is another wsrd: two would fight. */
	if (!connect(control->fd, (struct sockaddr *)&address,
		     sizeof(address))) {
		snprintf(error, CONFIG_ERROR, "%s: another wsrd is running; stop it first, or give this one another socket with [host] control",
			 control->path);
		return -1;
	}
	unlink(control->path);
	if (bind(control->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    chmod(control->path, group ? 0660 : 0600) ||
	    (group && chown(control->path, -1, group->gr_gid)) ||
	    listen(control->fd, MAX_CLIENTS)) {
		snprintf(error, CONFIG_ERROR, "%s: %s", control->path,
			 strerror(errno));
		return -1;
	}
	return 0;
}

struct control *control_start(struct manager *manager, char *error)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control) {
		snprintf(error, CONFIG_ERROR, "out of memory");
		return NULL;
	}
	control->manager = manager;
	control->fd = -1;
	control->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (open_socket(control, error)) {
		if (control->fd >= 0)
			close(control->fd);
		close(control->spare_fd);
		free(control);
		return NULL;
	}
	if (sd_event_add_io(manager->event, &control->io, control->fd, EPOLLIN,
			    on_connect, control) < 0) {
		snprintf(error, CONFIG_ERROR, "no event source");
		control_stop(control);
		return NULL;
	}
	return control;
}

void control_stop(struct control *control)
{
	if (!control)
		return;
	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		if (control->clients[i])
			drop(control->clients[i]);
	}
	sd_event_source_disable_unref(control->io);
	close(control->fd);
	close(control->spare_fd);
	unlink(control->path);
	free(control);
}
