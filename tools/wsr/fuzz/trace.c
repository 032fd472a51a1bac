// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: a recorded trace, as wsrctl replay reads it. The first byte says
 * what policy decides.
 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../wsrctl/replay.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];
static int file;

static void check(bool good)
{
	if (!good)
		abort();
}

/* Results and errors are written, but for nobody: libFuzzer has its own. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	file = memfd_create("trace", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	stdout = fopen("/dev/null", "we");
	stderr = fopen("/dev/null", "we");
	check(file >= 0 && stdout && stderr);
	return 0;
}

static const struct wsr_policy *pick(uint8_t byte)
{
	int nr = 0;

	while (wsr_policies[nr].name)
		nr++;
	return &wsr_policies[byte % nr];
}

static void check_replay(const struct replay *replay)
{
	check(replay->nr_vms <= REPLAY_MAX_VMS);
	check(isfinite(replay->deficit_seconds) &&
	      isfinite(replay->capacity_seconds) &&
	      replay->deficit_seconds >= 0);
	for (size_t i = 0; i < replay->nr_vms; i++) {
		const struct replay_vm *vm = &replay->vms[i];

		check(strlen(vm->name) < sizeof(vm->name));
		check(isfinite(vm->target_seconds) && vm->target_seconds >= 0);
		check(isfinite(vm->refault_seconds) &&
		      vm->refault_seconds >= 0);
		check(isfinite(vm->vm.why.refault_rate) &&
		      isfinite(vm->vm.alpha));
	}
}

/* Line by line, with a look at what came of each */
static void replay_all(const struct wsr_policy *policy, const char *text,
		       size_t size)
{
	const char *line = text, *end = text + size;
	char error[REPLAY_ERROR] = "";
	struct wsr_config config;
	struct replay replay;

	wsr_config_init(&config);
	check(!replay_init(&replay, policy, &config));
	while (line < end) {
		const char *newline = memchr(line, '\n', end - line);
		size_t len = (newline ? newline + 1 : end) - line;

		if (replay_line(&replay, line, len, error)) {
			check(*error);
			break;
		}
		check_replay(&replay);
		line += len;
	}
	replay_free(&replay);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct wsr_policy *policy = pick(size ? *data : 0);
	char *argv[] = {
		"replay", "--policy", (char *)policy->name, path, NULL
	};
	int status;

	if (!size)
		return 0;
	data++;
	size--;
	replay_all(policy, (const char *)data, size);
	check(!ftruncate(file, 0) &&
	      pwrite(file, data, size, 0) == (ssize_t)size);
	status = replay_main(4, argv);
	check(status == 0 || status == 1);
	return 0;
}
