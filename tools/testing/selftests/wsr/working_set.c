// SPDX-License-Identifier: GPL-2.0
/* The files of working set reporting, for the selftests */
#include <errno.h>
#include <fcntl.h>
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
static char saved[ARRAY_SIZE(settings)][256];

static void restore_settings(void)
{
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
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (ws_read(settings[i], saved[i], sizeof(saved[i])))
			ksft_exit_fail_msg("cannot read %s\n", settings[i]);
	atexit(restore_settings);
}

const char *ws_path(const char *file)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	return path;
}

int ws_read(const char *file, char *text, size_t size)
{
	int fd = open(ws_path(file), O_RDONLY);
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

int ws_write(const char *file, const char *text)
{
	int fd = open(ws_path(file), O_WRONLY);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		error = -errno;
	close(fd);
	return error;
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

uint64_t ws_stat(const char *key)
{
	char text[4096], *line, *state;

	if (ws_read("stat", text, sizeof(text)))
		ksft_exit_fail_msg("cannot read stat\n");
	for (line = strtok_r(text, "\n", &state); line;
	     line = strtok_r(NULL, "\n", &state)) {
		size_t length = strlen(key);

		if (!strncmp(line, key, length) && line[length] == ' ')
			return strtoull(line + length + 1, NULL, 10);
	}
	ksft_exit_fail_msg("stat has no line \"%s\"\n", key);
}

double ws_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}
