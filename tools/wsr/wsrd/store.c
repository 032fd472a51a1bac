// SPDX-License-Identifier: GPL-2.0
/*
 * History of all VMs in an sqlite file.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <sqlite3.h>

#include "ages.h"
#include "log.h"
#include "store.h"

#define VERSION		1
#define PRUNE_S		3600	/* between searches for what is too old */
#define DAY_S		86400
#define READ_MS		250	/* the loop does not wait longer for an answer */
#define READ_STEPS	10000	/* of sqlite between looks at the clock */

/* What is kept of a VM. Less than 0: not known. */
struct row {
	char name[GUEST_NAME];
	const char *reason;
	const char *hold;
	int64_t size;
	int64_t actual;
	int64_t target;
	int64_t desired;
	int64_t working_set;
	int64_t free;
	double refault_rate;
	double predicted_rate;
	double psi;
	double cut_age_s;
	unsigned int ages_size;		/* 0: no report, or an old one */
	unsigned char ages[AGES_PACKED];
};

struct batch {
	int64_t time_s;
	int64_t capacity;
	int64_t buffer;
	int64_t reclaimable;
	int64_t deficit;
	size_t nr;
	struct row rows[];
};

/*
 * @lock guards @batch and @stop. The database of the writer is the thread's
 * alone, that of the reader the event loop's.
 */
struct store {
	struct manager *manager;
	char *path;
	uint32_t days;
	sd_event_source *timer;
	uint64_t interval_us;
	sqlite3 *reader;
	bool dropped;			/* a batch; already told */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct batch *batch;
	bool stop;
	atomic_bool ok;
	atomic_bool written;		/* there is something to read */

	sqlite3 *db;
	sqlite3_stmt *add_vm;
	sqlite3_stmt *add_row;
	sqlite3_stmt *add_host;
	int64_t pruned_s;
	bool newer;			/* made by another version */
	bool given_up;
};

static const char schema[] =
"CREATE TABLE vm (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
"CREATE TABLE sample (vm INTEGER NOT NULL, time INTEGER NOT NULL,"
" size INTEGER, actual INTEGER, target INTEGER, desired INTEGER,"
" working_set INTEGER, free INTEGER, refault_rate REAL, predicted_rate REAL,"
" psi REAL, cut_age REAL, reason TEXT, hold TEXT, ages BLOB,"
" PRIMARY KEY (vm, time)) WITHOUT ROWID;"
"CREATE TABLE host (time INTEGER PRIMARY KEY, capacity INTEGER,"
" buffer INTEGER, reclaimable INTEGER, deficit INTEGER);"
"PRAGMA user_version = 1;";

/* The writer's thread */

static int run(struct store *store, const char *sql)
{
	return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

static int user_version(sqlite3 *db)
{
	sqlite3_stmt *statement;
	int version = -1;

	if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL))
		return -1;
	if (sqlite3_step(statement) == SQLITE_ROW)
		version = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	return version;
}

static void close_db(struct store *store)
{
	sqlite3_finalize(store->add_vm);
	sqlite3_finalize(store->add_row);
	sqlite3_finalize(store->add_host);
	store->add_vm = NULL;
	store->add_row = NULL;
	store->add_host = NULL;
	sqlite3_close(store->db);
	store->db = NULL;
}

static int prepare(struct store *store, const char *sql,
		   sqlite3_stmt **statement)
{
	return sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
				  statement, NULL);
}

static int open_tables(struct store *store)
{
	int version;

	/* A commit does not wait for the disk; a crash loses minutes at most. */
	if (run(store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304"))
		return -1;
	version = user_version(store->db);
	if (version < 0)
		return -1;
	if (version == 0 &&
	    (run(store, "BEGIN IMMEDIATE") || run(store, schema) ||
	     run(store, "COMMIT")))
		return -1;
	if (version > VERSION) {
		store->newer = true;
		return -1;
	}
	return prepare(store, "INSERT OR IGNORE INTO vm (name) VALUES (?)",
		       &store->add_vm) ||
	       prepare(store, "INSERT OR REPLACE INTO sample SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15 FROM vm WHERE name = ?1",
		       &store->add_row) ||
	       prepare(store, "INSERT OR REPLACE INTO host VALUES (?, ?, ?, ?, ?)",
		       &store->add_host) ? -1 : 0;
}

/* Sizes of VMs and their names are not for everybody. */
static int open_db(struct store *store)
{
	/* Only a new file: closing it would end sqlite's locks on another. */
	int fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

	if (fd >= 0)
		close(fd);
	if (sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE,
			    NULL))
		return -1;
	sqlite3_busy_timeout(store->db, 1000);
	return open_tables(store);
}

static void bind_bytes(sqlite3_stmt *statement, int column, int64_t bytes)
{
	if (bytes < 0)
		sqlite3_bind_null(statement, column);
	else
		sqlite3_bind_int64(statement, column, bytes);
}

static void bind_number(sqlite3_stmt *statement, int column, double number)
{
	if (number < 0)
		sqlite3_bind_null(statement, column);
	else
		sqlite3_bind_double(statement, column, number);
}

static int finish(sqlite3_stmt *statement)
{
	int result = sqlite3_step(statement);

	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return result == SQLITE_DONE ? 0 : -1;
}

static int write_row(struct store *store, int64_t time_s, const struct row *row)
{
	sqlite3_stmt *add = store->add_row;

	sqlite3_bind_text(store->add_vm, 1, row->name, -1, SQLITE_STATIC);
	if (finish(store->add_vm))
		return -1;
	sqlite3_bind_text(add, 1, row->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(add, 2, time_s);
	bind_bytes(add, 3, row->size);
	bind_bytes(add, 4, row->actual);
	bind_bytes(add, 5, row->target);
	bind_bytes(add, 6, row->desired);
	bind_bytes(add, 7, row->working_set);
	bind_bytes(add, 8, row->free);
	bind_number(add, 9, row->refault_rate);
	bind_number(add, 10, row->predicted_rate);
	bind_number(add, 11, row->psi);
	bind_number(add, 12, row->cut_age_s);
	sqlite3_bind_text(add, 13, row->reason, -1, SQLITE_STATIC);
	sqlite3_bind_text(add, 14, row->hold, -1, SQLITE_STATIC);
	if (row->ages_size)
		sqlite3_bind_blob(add, 15, row->ages, row->ages_size,
				  SQLITE_STATIC);
	return finish(add);
}

/* By VM, so that the key is used: a search through all rows would be long. */
static int prune(struct store *store, int64_t now_s)
{
	int64_t before_s = now_s - (int64_t)store->days * DAY_S;
	char sql[512];

	if (now_s - store->pruned_s < PRUNE_S && now_s >= store->pruned_s)
		return 0;
	store->pruned_s = now_s;
	snprintf(sql, sizeof(sql),
		 "DELETE FROM sample WHERE vm IN (SELECT id FROM vm) AND time < %lld;"
		 "DELETE FROM host WHERE time < %lld;"
		 "DELETE FROM vm WHERE NOT EXISTS (SELECT 1 FROM sample WHERE sample.vm = vm.id)",
		 (long long)before_s, (long long)before_s);
	return run(store, sql);
}

static int write_batch(struct store *store, const struct batch *batch)
{
	if (!store->db && open_db(store))
		return -1;
	if (run(store, "BEGIN IMMEDIATE"))
		return -1;
	for (size_t i = 0; i < batch->nr; i++) {
		if (write_row(store, batch->time_s, &batch->rows[i]))
			return -1;
	}
	sqlite3_bind_int64(store->add_host, 1, batch->time_s);
	sqlite3_bind_int64(store->add_host, 2, batch->capacity);
	sqlite3_bind_int64(store->add_host, 3, batch->buffer);
	sqlite3_bind_int64(store->add_host, 4, batch->reclaimable);
	sqlite3_bind_int64(store->add_host, 5, batch->deficit);
	if (finish(store->add_host) || prune(store, batch->time_s))
		return -1;
	return run(store, "COMMIT");
}

/* Told once; the next success ends that. */
static void failed(struct store *store)
{
	int code = sqlite3_errcode(store->db);
	const char *why = sqlite3_errmsg(store->db);
	bool first = atomic_exchange(&store->ok, false);

	if (store->newer) {
		log_message(LOG_WARNING, "%s: a newer wsrd made it; there is no history: give another file with [host] history",
			    store->path);
		store->given_up = true;
	} else if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
		log_message(LOG_WARNING, "%s: %s; there is no history: move the file away and send SIGHUP, then a new one is made",
			    store->path, why);
		store->given_up = true;
	} else if (first) {
		log_message(LOG_WARNING, "%s: %s; there is no history until it can be written: is the disk full, is the directory there?",
			    store->path, why);
	}
	if (store->db && !sqlite3_get_autocommit(store->db))
		run(store, "ROLLBACK");
	/* What can't be opened now may be possible later. */
	if (store->given_up || !store->add_host)
		close_db(store);
}

static void succeeded(struct store *store)
{
	atomic_store(&store->written, true);
	if (!atomic_exchange(&store->ok, true))
		log_message(LOG_INFO, "%s: history is kept again", store->path);
}

static void *writer(void *arg)
{
	struct store *store = arg;
	struct batch *batch;

	for (;;) {
		pthread_mutex_lock(&store->lock);
		while (!store->batch && !store->stop)
			pthread_cond_wait(&store->wake, &store->lock);
		batch = store->batch;
		store->batch = NULL;
		pthread_mutex_unlock(&store->lock);
		if (!batch)
			break;
		if (!store->given_up && !write_batch(store, batch))
			succeeded(store);
		else if (!store->given_up)
			failed(store);
		free(batch);
	}
	close_db(store);
	return NULL;
}

/* The event loop */

static void fill_row(struct row *row, const struct wsr_vm *plan,
		     const struct vm *vm, const struct wsr_config *config,
		     int64_t now_ms)
{
	struct ages ages;

	snprintf(row->name, sizeof(row->name), "%s", vm->name);
	row->reason = wsr_reason_name(plan->why.reason);
	row->hold = wsr_hold_name(plan->why.hold);
	row->size = plan->size_bytes;
	row->actual = plan->actual_bytes;
	row->target = plan->target_bytes;
	row->desired = plan->why.desired ? (int64_t)plan->why.desired : -1;
	row->psi = plan->psi;
	row->working_set = -1;
	row->free = -1;
	row->refault_rate = -1;
	row->predicted_rate = -1;
	row->cut_age_s = -1;
	row->ages_size = 0;
	if (!plan->has_report || now_ms - plan->report_ms > config->stale_ms)
		return;
	row->working_set = plan->why.wss;
	row->free = plan->free;
	row->refault_rate = plan->refault_rate;
	row->predicted_rate = plan->why.refault_rate;
	if (plan->why.cut_x < WSR_GRID_MAX_X)
		row->cut_age_s = wsr_ms_of_x(plan->why.cut_x) / 1000;
	ages_of_curve(&ages, &plan->curve);
	row->ages_size = ages_pack(&ages, row->ages);
}

static struct batch *make_batch(const struct manager *manager)
{
	const struct wsr_host *host = &manager->host;
	int64_t now_ms = monotonic_ms();
	struct batch *batch = malloc(sizeof(*batch) +
				     manager->nr_plan * sizeof(struct row));

	if (!batch)
		return NULL;
	*batch = (struct batch) {
		.time_s = time(NULL),
		.capacity = host->capacity_bytes,
		.buffer = host->buffer_bytes,
		.reclaimable = host->reclaimable_bytes,
		.deficit = host->deficit_bytes,
		.nr = manager->nr_plan,
	};
	for (size_t i = 0; i < manager->nr_plan; i++)
		fill_row(&batch->rows[i], &manager->plan[i],
			 manager->plan_vms[i]->vm, &manager->config->policy,
			 now_ms);
	return batch;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct store *store = arg;
	struct batch *batch = make_batch(store->manager);
	uint64_t now_us, next_us = usec + store->interval_us;

	pthread_mutex_lock(&store->lock);
	if (!store->batch && batch) {
		store->batch = batch;
		batch = NULL;
		pthread_cond_signal(&store->wake);
	}
	pthread_mutex_unlock(&store->lock);
	if (batch && !store->dropped)
		log_message(LOG_WARNING, "%s: the disk is too slow for the history; parts of it are missing",
			    store->path);
	store->dropped = batch != NULL;
	free(batch);
	sd_event_now(store->manager->event, CLOCK_MONOTONIC, &now_us);
	if (next_us < now_us)
		next_us = now_us + store->interval_us;
	sd_event_source_set_time(source, next_us);
	return 0;
}

static void free_store(struct store *store)
{
	sd_event_source_disable_unref(store->timer);
	sqlite3_close(store->reader);
	free(store->path);
	free(store);
}

static int start_timer(struct store *store)
{
	if (sd_event_add_time_relative(store->manager->event, &store->timer,
				       CLOCK_MONOTONIC, store->interval_us,
				       100000, on_timer, store) < 0)
		return -1;
	return sd_event_source_set_enabled(store->timer, SD_EVENT_ON) < 0 ?
	       -1 : 0;
}

struct store *store_start(struct manager *manager)
{
	const struct config *config = manager->config;
	struct store *store;

	if (!config->history_path)
		return NULL;
	store = calloc(1, sizeof(*store));
	if (!store)
		return NULL;
	store->manager = manager;
	store->path = strdup(config->history_path);
	store->days = config->history_days;
	store->interval_us = config->history_interval_ms * UINT64_C(1000);
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->wake, NULL);
	atomic_init(&store->ok, true);
	atomic_init(&store->written, false);
	if (!store->path || start_timer(store) ||
	    pthread_create(&store->thread, NULL, writer, store)) {
		log_message(LOG_WARNING, "%s: no timer or no thread; there is no history",
			    config->history_path);
		free_store(store);
		return NULL;
	}
	return store;
}

void store_stop(struct store *store)
{
	if (!store)
		return;
	/* The last one to close makes one file of all, and must be the writer. */
	sqlite3_close(store->reader);
	store->reader = NULL;
	pthread_mutex_lock(&store->lock);
	store->stop = true;
	pthread_cond_signal(&store->wake);
	pthread_mutex_unlock(&store->lock);
	pthread_join(store->thread, NULL);
	free(store->batch);
	pthread_cond_destroy(&store->wake);
	pthread_mutex_destroy(&store->lock);
	free_store(store);
}

bool store_ok(const struct store *store)
{
	return atomic_load(&store->ok);
}

static struct json_object *error_json(const char *text)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "error", json_object_new_string(text));
	return object;
}

static int too_long(void *arg)
{
	return monotonic_ms() > *(int64_t *)arg;
}

static void put_column(struct json_object *object, const char *name,
		       sqlite3_stmt *statement, int column)
{
	if (sqlite3_column_type(statement, column) == SQLITE_INTEGER)
		json_object_object_add(object, name, json_object_new_int64(
			sqlite3_column_int64(statement, column)));
	else if (sqlite3_column_type(statement, column) == SQLITE_FLOAT)
		json_object_object_add(object, name, json_object_new_double(
			sqlite3_column_double(statement, column)));
	else if (sqlite3_column_type(statement, column) == SQLITE_TEXT)
		json_object_object_add(object, name, json_object_new_string(
			(const char *)sqlite3_column_text(statement, column)));
}

static void put_ages(struct json_object *object, sqlite3_stmt *statement,
		     int column)
{
	const void *packed = sqlite3_column_blob(statement, column);
	int size = sqlite3_column_bytes(statement, column);
	struct ages ages;

	if (packed && !ages_unpack(&ages, packed, size))
		json_object_object_add(object, "ages", ages_json(&ages));
}

/* Rows of @sql, columns called as in @names; one more is the ages */
static int read_rows(struct store *store, struct json_object *rows,
		     const char *sql, const char * const *names,
		     const char *vm, int64_t from_s, int64_t step_s)
{
	sqlite3_stmt *statement;
	int result, column;

	if (sqlite3_prepare_v2(store->reader, sql, -1, &statement, NULL))
		return -1;
	sqlite3_bind_int64(statement, 1, from_s);
	sqlite3_bind_int64(statement, 2, step_s);
	if (vm)
		sqlite3_bind_text(statement, 3, vm, -1, SQLITE_STATIC);
	while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
		struct json_object *row = json_object_new_object();

		for (column = 0; names[column]; column++)
			put_column(row, names[column], statement, column);
		if (column < sqlite3_column_count(statement))
			put_ages(row, statement, column);
		json_object_array_add(rows, row);
	}
	sqlite3_finalize(statement);
	return result == SQLITE_DONE ? 0 : -1;
}

static int read_history(struct store *store, struct json_object *rows,
			struct json_object *host, const char *vm,
			int64_t from_s, int64_t step_s)
{
	static const char * const vm_names[] = {
		"time", "size-bytes", "actual-bytes", "target-bytes",
		"desired-bytes", "working-set-bytes", "free-bytes",
		"refault-bytes-per-s", "predicted-refault-bytes-per-s", "psi",
		"cut-age-s", "reason", "hold", NULL
	};
	static const char * const host_names[] = {
		"time", "capacity-bytes", "buffer-bytes", "reclaimable-bytes",
		"deficit-bytes", NULL
	};
	int64_t until_ms = monotonic_ms() + READ_MS;
	int result;

	sqlite3_progress_handler(store->reader, READ_STEPS, too_long,
				 &until_ms);
	/* Other columns are those of the row with the greatest time. */
	result = read_rows(store, rows, "SELECT max(time), size, actual, target, desired, working_set, free, refault_rate, predicted_rate, psi, cut_age, reason, hold, ages FROM sample WHERE vm = (SELECT id FROM vm WHERE name = ?3) AND time > ?1 GROUP BY time / ?2 ORDER BY 1",
			   vm_names, vm, from_s, step_s) ||
		 read_rows(store, host, "SELECT max(time), capacity, buffer, reclaimable, deficit FROM host WHERE time > ?1 GROUP BY time / ?2 ORDER BY 1",
			   host_names, NULL, from_s, step_s) ? -1 : 0;
	sqlite3_progress_handler(store->reader, 0, NULL, NULL);
	return result;
}

static int open_reader(struct store *store)
{
	if (store->reader ||
	    !sqlite3_open_v2(store->path, &store->reader, SQLITE_OPEN_READONLY,
			     NULL))
		return 0;
	sqlite3_close(store->reader);
	store->reader = NULL;
	return -1;
}

struct json_object *store_history(struct store *store, const char *name,
				  uint32_t since_s)
{
	struct json_object *answer = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	struct json_object *host = json_object_new_array();
	int64_t now_s = time(NULL), step_s = since_s / STORE_POINTS + 1;
	const char *why = "wsrd's log says why";
	char text[512];

	json_object_object_add(answer, "vm", json_object_new_string(name));
	json_object_object_add(answer, "until", json_object_new_int64(now_s));
	json_object_object_add(answer, "since-s",
			       json_object_new_int64(since_s));
	json_object_object_add(answer, "step-s", json_object_new_int64(step_s));
	json_object_object_add(answer, "interval-s",
		json_object_new_int64(store->interval_us / 1000000));
	json_object_object_add(answer, "ages-s", ages_bounds_json());
	json_object_object_add(answer, "rows", rows);
	json_object_object_add(answer, "host", host);
	/* Nothing yet, and nothing wrong either */
	if (!atomic_load(&store->written) && atomic_load(&store->ok))
		return answer;
	if (!open_reader(store)) {
		if (!read_history(store, rows, host, name, now_s - since_s,
				  step_s))
			return answer;
		why = sqlite3_errcode(store->reader) == SQLITE_INTERRUPT ?
		      "it takes too long; ask for less with --since" :
		      sqlite3_errmsg(store->reader);
	}
	json_object_put(answer);
	snprintf(text, sizeof(text), "the history can't be read: %s", why);
	/* Another file may be there when it is asked for again. */
	sqlite3_close(store->reader);
	store->reader = NULL;
	return error_json(text);
}
