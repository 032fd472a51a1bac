/* SPDX-License-Identifier: GPL-2.0 */
/*
 * wsrd's configuration: an INI file and its drop-ins.
 *
 * Strict: an unknown section or key, a value out of range or a key that is
 * given twice in one file is an error that names file and line. A configuration
 * is taken over as a whole or not at all.
 */
#ifndef WSRD_CONFIG_H
#define WSRD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../lib/policy.h"

#define CONFIG_ERROR	512	/* bytes for the texts of errors */
#define CONFIG_MAX_QMP	64	/* patterns in [host] qmp */

enum config_on_stop {
	ON_STOP_RELEASE,	/* give all memory back */
	ON_STOP_KEEP,		/* leave all as it is, for the next start */
};

/**
 * struct config_vm - settings of VMs or of a control group
 * @pattern:	names that they are for, as in fnmatch(3)
 * @is_cgroup:	a [cgroup NAME] of containers; @cgroup is then its path
 * @set:	a bit for each of the keys that were given, see config.c
 * @policy:	for wsr_plan()
 * @qmp:	socket, or NULL
 * @cgroup:	control group of the VM's QEMU, or NULL
 */
struct config_vm {
	char *pattern;
	bool is_cgroup;
	uint32_t set;
	struct wsr_vm_config policy;
	char *qmp;
	char *cgroup;
};

/**
 * struct config - all of it
 * @memory_bytes: of the host, for VMs and all else; 0: ask the kernel
 * @memory_cgroup: control group that holds all VMs, its limit is the memory;
 *		NULL: the host
 * @reserve_bytes: kept for VMs that are to start
 * @swap_bytes, @swap_part: of VMs that the host may swap out until others have
 *		shrunk: the larger one; the part is of the memory
 * @cgroup_root: directory of the control groups (version 2)
 * @lru_gen_path: file of their generations, NULL: do not use it
 * @idle_pages:	"yes", a directory that has /proc and /sys, or NULL or "no"; see
 *		config_idle_root()
 * @user:	who wsrd becomes after its start, NULL: it stays as it is
 * @qmp:	patterns of sockets, as in glob(3)
 * @pressure_us, @pressure_window_us: PSI trigger of the host, 0: none
 * @history_path, @history_days, @history_interval_ms: file (NULL: none), how
 *		long rows are kept, and time between them
 * @http_address: see config_http_address(), NULL: no HTTP
 * @http_names:	of this host, separated by spaces, or NULL
 * @bins:	of the reports that guests are asked for
 * @interval_ms, @report_ms: between requests; between unsolicited reports
 * @vms:	[defaults] first, then [vm] and [cgroup] in order
 */
struct config {
	uint64_t memory_bytes;
	char *memory_cgroup;
	uint64_t reserve_bytes;
	uint64_t swap_bytes;
	double swap_part;
	char *cgroup_root;
	char *lru_gen_path;
	char *idle_pages;
	char *user;
	char *qmp[CONFIG_MAX_QMP];
	unsigned int nr_qmp;
	char *state_path;
	char *control_path;
	char *control_group;
	char *history_path;
	uint32_t history_days;
	uint32_t history_interval_ms;
	char *http_address;
	char *http_names;
	bool dry_run;
	enum config_on_stop on_stop;
	uint32_t pressure_us;
	uint32_t pressure_window_us;

	char *policy_name;
	struct wsr_config policy;

	uint32_t bins;
	uint32_t interval_ms;
	uint32_t report_ms;

	struct config_vm *vms;
	size_t nr_vms;
};

/**
 * config_load - read @path and @path.d/ *.conf in the order of their names
 * @config:	receives a complete configuration, to be released with
 *		config_free()
 * @error:	receives what is wrong, with file and line
 *
 * Later files override earlier ones.
 *
 * Return: 0, or -1 and @config is empty.
 */
int config_load(struct config *config, const char *path,
		char error[CONFIG_ERROR]);

/** config_parse - the same from memory, for tests; @name is for errors */
int config_parse(struct config *config, const char *name, const char *data,
		 char error[CONFIG_ERROR]);

void config_free(struct config *config);

/**
 * config_http_address - an address to listen on
 * @text:	127.0.0.1:9911, [::1]:9911, or a port alone: then loopback
 *
 * Return: 0, or -1 if it is none of these.
 */
int config_http_address(const char *text, struct sockaddr_storage *address);

/**
 * config_idle_root - what is before /proc and /sys where idle pages are sampled
 * Return: NULL if they are not.
 */
const char *config_idle_root(const struct config *config);

/**
 * config_for_vm - settings for the VM @name: of [defaults] and of all sections
 * whose pattern fits, the later one wins
 * @cgroup:	receives the path of its control group or NULL, may be NULL
 */
struct wsr_vm_config config_for_vm(const struct config *config,
				   const char *name, const char **cgroup);

/** config_swaps - may VMs be swapped out? */
static inline bool config_swaps(const struct config *config)
{
	return config->swap_bytes || config->swap_part > 0;
}

/**
 * config_set_policy - change one key of [policy], as "buffer=5%"
 * Return: 0, or -1 with the reason in @error and nothing changed.
 */
int config_set_policy(struct wsr_config *policy, const char *setting,
		      char error[CONFIG_ERROR]);

/**
 * config_set_vm - change one setting, as "shares" to "2", for wsrctl set
 * Return: 0, or -1 with the reason in @error and nothing changed.
 */
int config_set_vm(struct wsr_vm_config *vm, const char *key, const char *value,
		  char error[CONFIG_ERROR]);

#endif
