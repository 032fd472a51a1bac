// SPDX-License-Identifier: GPL-2.0
/* The files of working set reporting, for the selftests */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define MAX_NODES 1024

static const char * const settings[] = {
	"refresh_ms", "report_ms", "intervals_ms",
};

static char directory[128];
/* Of the paths of all files: "directory/", or that of a cgroup */
static char prefix[PATH_MAX];
static char saved[ARRAY_SIZE(settings)][256];

static void use_node(void)
{
	snprintf(prefix, sizeof(prefix), "%s/", directory);
}

static void restore_settings(void)
{
	use_node();
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		ws_write(settings[i], saved[i]);
}

static int find_directory(void)
{
	for (int node = 0; node < MAX_NODES; node++) {
		snprintf(directory, sizeof(directory),
			 "/sys/devices/system/node/node%d/working_set", node);
		if (!access(directory, F_OK))
			return 0;
	}
	strcpy(directory, "/sys/kernel/mm/working_set");
	return access(directory, F_OK);
}

void ws_init(void)
{
	if (find_directory())
		ksft_exit_skip("no directory working_set: the kernel lacks CONFIG_WSR\n");
	if (geteuid())
		ksft_exit_skip("changing the settings needs root\n");
	use_node();
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (ws_read(settings[i], saved[i], sizeof(saved[i])))
			ksft_exit_fail_msg("cannot read %s\n", settings[i]);
	atexit(restore_settings);
}

void ws_use_cgroup(const char *cgroup)
{
	snprintf(prefix, sizeof(prefix), "%s/memory.working_set.", cgroup);
}

const char *ws_path(const char *file)
{
	static char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s%s", prefix, file);
	return path;
}

int ws_read_path(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t got;
	int error;

	if (fd < 0)
		return -errno;
	got = read(fd, text, size - 1);
	error = got < 0 ? -errno : 0;
	close(fd);
	text[got < 0 ? 0 : got] = '\0';
	return error;
}

int ws_write_path(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		error = -errno;
	close(fd);
	return error;
}

int ws_read(const char *file, char *text, size_t size)
{
	return ws_read_path(ws_path(file), text, size);
}

int ws_write(const char *file, const char *text)
{
	return ws_write_path(ws_path(file), text);
}

int ws_parse_histogram(const char *text, struct ws_histogram *histogram)
{
	int length;

	histogram->nr_bins = 0;
	for (; *text; text += length) {
		typeof(histogram->bins[0]) *bin;

		if (histogram->nr_bins > WS_MAX_BOUNDS)
			return -1;
		bin = &histogram->bins[histogram->nr_bins++];
		if (sscanf(text, "%ju anon=%ju file=%ju%n", &bin->bound_ms,
			   &bin->anon_bytes, &bin->file_bytes, &length) != 3) {
			bin->bound_ms = WS_NO_BOUND;
			if (sscanf(text, "max anon=%ju file=%ju%n",
				   &bin->anon_bytes, &bin->file_bytes,
				   &length) != 2)
				return -1;
		}
		if (text[length++] != '\n')
			return -1;
		if (bin->bound_ms == WS_NO_BOUND)
			return text[length] ? -1 : 0;
	}
	/* Nothing at all is right, bins without the last one are not. */
	return histogram->nr_bins ? -1 : 0;
}

void ws_read_histogram(struct ws_histogram *histogram)
{
	char text[4096];
	int error = ws_read("histogram", text, sizeof(text));

	if (error)
		ksft_exit_fail_msg("cannot read histogram: %s\n",
				   strerror(-error));
	if (ws_parse_histogram(text, histogram))
		ksft_exit_fail_msg("histogram has an unexpected format: %s\n",
				   text);
}

uint64_t ws_value(const char *path, const char *key)
{
	char text[16384], *line, *state;

	if (ws_read_path(path, text, sizeof(text)))
		ksft_exit_fail_msg("cannot read %s\n", path);
	for (line = strtok_r(text, "\n", &state); line;
	     line = strtok_r(NULL, "\n", &state)) {
		size_t length = strlen(key);

		if (!strncmp(line, key, length) && line[length] == ' ')
			return strtoull(line + length + 1, NULL, 10);
	}
	ksft_exit_fail_msg("%s has no line \"%s\"\n", path, key);
}

uint64_t ws_stat(const char *key)
{
	return ws_value(ws_path("stat"), key);
}

double ws_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

#define FIFTEEN_BOUNDS "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"

const struct ws_setting ws_valid[] = {
	{ "intervals_ms", "1" },
	{ "intervals_ms", "1000,5000,30000" },
	{ "intervals_ms", "1000,4294967295" },
	{ "intervals_ms", FIFTEEN_BOUNDS },
	{ "refresh_ms", "20" },
	{ "refresh_ms", "2500" },
	{ "report_ms", "0" },
	{ "report_ms", "3000" },
	{ NULL, NULL }
};

const struct ws_setting ws_invalid[] = {
	{ "intervals_ms", "0" },
	{ "intervals_ms", "0,1000" },
	{ "intervals_ms", "-1000" },
	{ "intervals_ms", "1000,1000" },
	{ "intervals_ms", "5000,1000" },
	{ "intervals_ms", "1000,,5000" },
	{ "intervals_ms", ",1000" },
	{ "intervals_ms", "1000,5000ms" },
	{ "intervals_ms", "soon" },
	{ "intervals_ms", "4294967296" },
	{ "intervals_ms", "99999999999999999999999" },
	{ "intervals_ms", FIFTEEN_BOUNDS ",16" },
	{ "refresh_ms", "0" },
	{ "refresh_ms", "19" },
	{ "refresh_ms", "-1" },
	{ "refresh_ms", "often" },
	{ "refresh_ms", "4294967296" },
	{ "refresh_ms", "99999999999999999999999" },
	{ "report_ms", "-1" },
	{ "report_ms", "never" },
	{ "report_ms", "4294967296" },
	{ "report_ms", "99999999999999999999999" },
	{ NULL, NULL }
};

bool ws_reads(const char *file, const char *value)
{
	char text[256], expected[256];

	snprintf(expected, sizeof(expected), "%s\n", value);
	return !ws_read(file, text, sizeof(text)) && !strcmp(text, expected);
}

bool ws_takes(const struct ws_setting *setting)
{
	char line[256];

	/* As echo would write it */
	snprintf(line, sizeof(line), "%s\n", setting->value);
	return !ws_write(setting->file, line) &&
	       ws_reads(setting->file, setting->value);
}

bool ws_refuses(const struct ws_setting *setting)
{
	const char *old = strcmp(setting->file, "intervals_ms") ? "2000" :
								  "1000,7000";

	return !ws_write(setting->file, old) &&
	       ws_write(setting->file, setting->value) == -EINVAL &&
	       ws_reads(setting->file, old);
}

int ws_nr_settings(void)
{
	/* without the last ones */
	return ARRAY_SIZE(ws_valid) + ARRAY_SIZE(ws_invalid) - 2;
}
