// SPDX-License-Identifier: GPL-2.0
/*
 * wsr-libvirt - a QMP socket for each domain of libvirt, so that wsrd can have
 * guests whose QEMU belongs to libvirt.
 *
 *	relay.c    sockets and clients; never waits
 *	protocol.c QMP as a server speaks it
 *	session.c  a thread for each client: its commands, through libvirt
 *	calls.c    how many calls at a time libvirt gets from these
 *	watch.c    a thread for all domains: start, stop, events
 *	mailbox.c  from these threads to the first one
 */
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "../wsrd/descriptors.h"
#include "../wsrd/log.h"
#include "mailbox.h"
#include "relay.h"
#include "watch.h"

#define DEFAULT_URI		"qemu:///system"
#define DEFAULT_DIRECTORY	"/run/wsr-libvirt"

static struct {
	struct relay_options options;
	struct mailbox mailbox;
} app = {
	.options.uri = DEFAULT_URI,
	.options.directory = DEFAULT_DIRECTORY,
};

static const char usage[] =
"Usage: wsr-libvirt [OPTION]...\n"
"\n"
"Makes a QMP socket for each running domain of libvirt, through which wsrd reads\n"
"reports and sets the balloon.\n"
"\n"
"  -u, --uri=URI        of libvirt on this host (default " DEFAULT_URI ")\n"
"  -d, --directory=DIR  of the sockets (default " DEFAULT_DIRECTORY ")\n"
"  -o, --owner=USER     who may connect: the user of wsrd (default: who starts it)\n"
"  -h, --help           show this\n"
"\n"
"In wsrd.conf: qmp = " DEFAULT_DIRECTORY "/*\n";

static void __attribute__((noreturn)) bad_option(const char *option,
						 const char *reason)
{
	fprintf(stderr, "wsr-libvirt: %s: %s; try wsr-libvirt --help\n", option,
		reason);
	exit(2);
}

static uid_t parse_owner(const char *name)
{
	const struct passwd *user = getpwnam(name);

	if (!user)
		bad_option(name, "there is no such user");
	return user->pw_uid;
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "uri", required_argument, NULL, 'u' },
		{ "directory", required_argument, NULL, 'd' },
		{ "owner", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int option;

	app.options.owner = geteuid();
	while ((option = getopt_long(argc, argv, "u:d:o:h", options,
				     NULL)) >= 0) {
		switch (option) {
		case 'u':
			app.options.uri = optarg;
			break;
		case 'd':
			app.options.directory = optarg;
			break;
		case 'o':
			app.options.owner = parse_owner(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs("Try wsr-libvirt --help\n", stderr);
			exit(2);
		}
	}
	if (optind < argc)
		bad_option(argv[optind], "unexpected argument");
	/* The memory of another host is not ours to give away. */
	if (!strstr(app.options.uri, ":///"))
		bad_option(app.options.uri, "this is not a URI of this host, such as qemu:///system");
}

static int run(sd_event *event)
{
	char error[RELAY_ERROR];
	struct relay *relay;
	int result;

	if (sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL) < 0 ||
	    sd_event_add_signal(event, NULL, SIGINT, NULL, NULL) < 0) {
		log_message(LOG_ERR, "signals can't be handled");
		return 1;
	}
	if (mailbox_init(&app.mailbox)) {
		log_message(LOG_ERR, "no eventfd: %s", strerror(errno));
		return 1;
	}
	relay = relay_start(event, &app.options, &app.mailbox, error);
	if (!relay) {
		log_message(LOG_ERR, "%s", error);
		return 1;
	}
	if (watch_start(app.options.uri, &app.mailbox)) {
		log_message(LOG_ERR, "libvirt's library does not work");
		relay_stop(relay);
		return 1;
	}
	sd_event_set_watchdog(event, true);
	sd_notify(0, "READY=1");
	result = sd_event_loop(event);
	sd_notify(0, "STOPPING=1");
	relay_stop(relay);
	return result < 0;
}

int main(int argc, char **argv)
{
	sd_event *event = NULL;
	sigset_t signals;

	parse_options(argc, argv);
	/* For the event loop; threads inherit that. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	descriptors_raise_limit();
	if (sd_event_new(&event) < 0) {
		log_message(LOG_ERR, "there is no event loop");
		return 1;
	}
	/* Threads may be in libvirt for as long as a QEMU hangs. */
	_exit(run(event));
}
