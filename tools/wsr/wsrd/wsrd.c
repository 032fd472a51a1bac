// SPDX-License-Identifier: GPL-2.0
/*
 * wsrd - gives memory to the guests of an overcommitted host by how much each
 * of them really uses.
 *
 *	config.c   what the operator wants
 *	vm.c       QMP: reports and facts in, balloon and requests out
 *	cgroup.c   control groups: facts and ages in, limits out
 *	estimate.c ages of memory as the host sees them
 *	idle.c     ages by idle page tracking; idle_client.c asks for them
 *	privileged.c  a process that writes to control groups, and runs idle.c
 *	manager.c  calls wsr_plan() of ../lib and carries its actions out
 *	control.c  wsrctl's questions
 *	http.c     those of browsers and Prometheus; metrics.c, page.html
 *	store.c    history
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <linux/capability.h>
#include <locale.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "config.h"
#include "control.h"
#include "descriptors.h"
#include "http.h"
#include "log.h"
#include "manager.h"
#include "store.h"

#define DEFAULT_CONFIG	"/etc/wsr/wsrd.conf"
#define RELEASE_MS	5000

static struct {
	const char *path;
	struct config config;
	struct manager manager;
	struct control *control;
	struct http *http;
	struct privileged *privileged;
	bool dry_run;
	bool stop;
} app = {
	.path = DEFAULT_CONFIG,
};

static const char usage[] =
"Usage: wsrd [OPTION]...\n"
"\n"
"Gives memory to the guests of an overcommitted host by how much each of them\n"
"really uses: it reads their working set reports over QMP and sets balloons.\n"
"\n"
"  -c, --config=FILE  configuration (default " DEFAULT_CONFIG "), and\n"
"                     FILE.d/*.conf\n"
"  -n, --dry-run      decide and tell, but change nothing\n"
"      --check        check the configuration and exit\n"
"  -h, --help         show this\n"
"\n"
"SIGHUP reads the configuration again. wsrctl(1) shows what it does and why.\n";

static int load(struct config *config)
{
	char error[CONFIG_ERROR];

	if (config_load(config, app.path, error)) {
		log_message(LOG_ERR, "%s", error);
		return -1;
	}
	config->dry_run |= app.dry_run;
	return 0;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* What shows and what keeps: decisions go on without them. */
static void restart_views(bool restart_http)
{
	char error[CONFIG_ERROR];

	store_stop(app.manager.store);
	app.manager.store = store_start(&app.manager);
	if (!restart_http)
		return;
	http_stop(app.http);
	if (http_start(&app.manager, &app.http, error))
		log_message(LOG_WARNING, "%s; there is no page and there are no metrics",
			    error);
}

static int on_reload(sd_event_source *source,
		     const struct signalfd_siginfo *info, void *arg)
{
	struct config config, old;

	(void)source;
	(void)info;
	(void)arg;
	sd_notify(0, "RELOADING=1");
	if (!load(&config)) {
		old = app.config;
		app.config = config;
		manager_reload(&app.manager, &app.config);
		restart_views(!same(old.http_address, config.http_address));
		config_free(&old);
		log_message(LOG_INFO, "configuration read again");
	} else {
		log_message(LOG_WARNING,
			    "the configuration of before stays in force");
	}
	sd_notify(0, "READY=1");
	return 0;
}

static int on_stop(sd_event_source *source,
		   const struct signalfd_siginfo *info, void *arg)
{
	(void)source;
	(void)info;
	(void)arg;
	app.stop = true;
	return 0;
}

static void parse_options(int argc, char **argv, bool *check)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "check", no_argument, NULL, 'C' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:nh", options, NULL)) >= 0) {
		switch (option) {
		case 'c':
			app.path = optarg;
			break;
		case 'n':
			app.dry_run = true;
			break;
		case 'C':
			*check = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs("Try wsrd --help\n", stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "wsrd: unexpected argument '%s'; try wsrd --help\n",
			argv[optind]);
		exit(2);
	}
}

/*
 * With the files in it, such as the state: systemd gives all to root at each
 * start. Links are somebody else's file.
 */
static int own_directory(const char *path, uid_t user, gid_t group)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	struct stat status;
	int error = 0;

	if (!directory)
		return -1;
	while (!error && (entry = readdir(directory))) {
		int fd = openat(dirfd(directory), entry->d_name,
				O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			continue;
		if (!fstat(fd, &status) && S_ISREG(status.st_mode) &&
		    status.st_nlink == 1)
			error = fchownat(fd, "", user, group, AT_EMPTY_PATH);
		close(fd);
	}
	if (!error)
		error = fchown(dirfd(directory), user, group);
	closedir(directory);
	return error;
}

/* The directories that systemd made for us have to be ours. */
static int own_directories(uid_t user, gid_t group)
{
	static const char * const variables[] = {
		"RUNTIME_DIRECTORY", "STATE_DIRECTORY",
	};

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *path = getenv(variables[i]);

		if (path && own_directory(path, user, group))
			return -1;
	}
	return 0;
}

/* Become @name for ever; NULL: stay what we are */
static int drop_rights(const char *name, char *error)
{
	struct passwd *user;

	if (!name)
		return 0;
	user = getpwnam(name);
	if (!user) {
		snprintf(error, CONFIG_ERROR, "[host] user = %.64s: there is no such user",
			 name);
		return -1;
	}
	if (user->pw_uid == geteuid())
		return 0;
	if (own_directories(user->pw_uid, user->pw_gid) ||
	    initgroups(name, user->pw_gid) || setgid(user->pw_gid) ||
	    setuid(user->pw_uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		snprintf(error, CONFIG_ERROR, "[host] user = %.64s: %s: start wsrd as root or as this user",
			 name, strerror(errno));
		return -1;
	}
	return 0;
}

/* What sampling of idle pages needs is for the privileged process alone. */
static int drop_sampling_rights(char *error)
{
	const uint32_t rights = 1U << CAP_SYS_ADMIN | 1U << CAP_SYS_PTRACE;
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (!syscall(SYS_capget, &header, data)) {
		data[0].effective &= ~rights;
		data[0].permitted &= ~rights;
		data[0].inheritable &= ~rights;
		if (!syscall(SYS_capset, &header, data))
			return 0;
	}
	snprintf(error, CONFIG_ERROR, "rights can't be given up: %s",
		 strerror(errno));
	return -1;
}

static int release(void)
{
	const int64_t until_ms = monotonic_ms() + RELEASE_MS;

	if (!manager_release(&app.manager))
		return 0;
	while (!manager_released(&app.manager)) {
		if (monotonic_ms() > until_ms) {
			log_message(LOG_WARNING, "not all guests took their memory back");
			return 0;
		}
		if (sd_event_run(app.manager.event, 100000) < 0)
			return -1;
	}
	return 0;
}

static int run(sd_event *event)
{
	char error[CONFIG_ERROR];
	int result;

	if (sd_event_add_signal(event, NULL, SIGHUP, on_reload, NULL) < 0 ||
	    sd_event_add_signal(event, NULL, SIGTERM, on_stop, NULL) < 0 ||
	    sd_event_add_signal(event, NULL, SIGINT, on_stop, NULL) < 0) {
		log_message(LOG_ERR, "signals can't be handled");
		return 1;
	}
	if (privileged_attach(app.privileged, event)) {
		log_message(LOG_ERR, "the privileged process can't be heard");
		return 1;
	}
	if (manager_start(&app.manager, event, &app.config, app.privileged,
			  error)) {
		log_message(LOG_ERR, "%s", error);
		return 1;
	}
	app.control = control_start(&app.manager, error);
	if (!app.control) {
		log_message(LOG_ERR, "%s", error);
		return 1;
	}
	restart_views(true);
	sd_event_set_watchdog(event, true);
	sd_notify(0, "READY=1");
	do {
		result = sd_event_run(event, UINT64_MAX);
	} while (result >= 0 && !app.stop);
	sd_notify(0, "STOPPING=1");
	if (result >= 0)
		result = release();
	http_stop(app.http);
	store_stop(app.manager.store);
	control_stop(app.control);
	manager_stop(&app.manager);
	return result < 0;
}

int main(int argc, char **argv)
{
	sd_event *event = NULL;
	bool check = false;
	char error[CONFIG_ERROR];
	sigset_t signals;
	int status;

	/* Only characters: numbers have a point everywhere. */
	setlocale(LC_CTYPE, "");
	parse_options(argc, argv, &check);
	if (load(&app.config))
		return 2;
	if (check) {
		printf("%s: no errors\n", app.path);
		config_free(&app.config);
		return 0;
	}
	/* From here on for the event loop; the process below ignores them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	descriptors_raise_limit();
	/* Before anything else: it keeps the rights of now, and little more. */
	app.privileged = privileged_start(app.config.cgroup_root,
					  app.config.lru_gen_path,
					  config_idle_root(&app.config), error);
	if (!app.privileged || drop_rights(app.config.user, error) ||
	    (config_idle_root(&app.config) && drop_sampling_rights(error))) {
		log_message(LOG_ERR, "%s", error);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	if (sd_event_new(&event) < 0) {
		log_message(LOG_ERR, "there is no event loop");
		return 1;
	}
	status = run(event);
	privileged_stop(app.privileged);
	sd_event_unref(event);
	config_free(&app.config);
	return status;
}
