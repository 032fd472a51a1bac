// SPDX-License-Identifier: GPL-2.0
/*
 * The working sets of QEMU guests, live: options, the event loop,
 * and output as a screen, as plain text or as JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "guest.h"
#include "history.h"
#include "screen.h"
#include "text.h"
#include "view.h"

#define WSRTOP_VERSION	"0.1"

#define TICK_MS		100
#define DRAW_MS		1000	/* the ages on the screen grow */
#define STOP_MS		1000	/* patience when we leave */
#define MIN_INTERVAL_MS	100

enum {
	EXIT_NO_REPORT = 1,
	EXIT_USAGE = 2,
};

enum output {
	OUTPUT_SCREEN,
	OUTPUT_PLAIN,
	OUTPUT_JSON,
};

/* A guest and how far the loop is with it. */
struct entry {
	struct guest guest;
	struct history history;
	bool finished;			/* all reports of --count came */
	bool failed;
	enum guest_state told;		/* last state told on stderr */
};

static struct {
	struct guest_options options;
	enum output output;
	uint64_t count;			/* 0: no limit */
	struct entry *entries;
	unsigned int nr_entries;
	struct view_guest *views;
	unsigned int width;		/* of plain text */
	unsigned int selected;
	bool paused;
	bool help;
	bool quit;
	bool redraw;
	int64_t start_ms;
} app = {
	.options.interval_ms = 2000,
	.options.timeout_ms = 10000,
};

static const char usage[] =
"Usage: wsrtop [OPTION]... [NAME=]SOCKET...\n"
"Show how long the memory of QEMU guests has been idle, live.\n"
"\n"
"Each SOCKET is a QMP socket of one guest: the path of a unix socket, or\n"
"HOST:PORT. NAME is what the guest is called here; by default the name that\n"
"QEMU was given (-name), or the file name of the socket.\n"
"\n"
"QEMU must have been started with these, each guest with its own path:\n"
"  -device virtio-balloon-pci,working-set-reporting=on\n"
"  -qmp unix:/run/vm1.sock,server=on,wait=off\n"
"and the guest's kernel must have CONFIG_VIRTIO_BALLOON_WSR=y.\n"
"\n"
"What to ask for (T is a time: 500ms, 5s, 2m, 1h; without unit: seconds):\n"
"  -b, --bounds T,T,...  idle ages that separate the rows: 1 to 15 times,\n"
"                        increasing. Stays set when wsrtop ends\n"
"  -i, --interval T      ask each guest for a report every T (default 2s)\n"
"      --refresh T       the guest may send data up to T old without looking\n"
"                        at its memory again. Stays set\n"
"      --report T        the guest may also report by itself, at most every\n"
"                        T; 0: never. Stays set\n"
"  -n, --no-set          change nothing and ask for nothing, only listen\n"
"      --device PATH     QOM path of the balloon device (default: found in\n"
"                        /machine/peripheral and /machine/peripheral-anon)\n"
"\n"
"What to print:\n"
"  -1, --once            one report of each guest as plain text, then exit\n"
"  -c, --count N         exit after N reports of each guest\n"
"  -j, --json            one JSON object per report and line\n"
"  -t, --timeout T       with --once, --count: give a guest up that has sent\n"
"                        no report for T (default 10s)\n"
"Without these: a full screen if standard output is a terminal, else plain\n"
"text, report after report.\n"
"\n"
"When wsrtop ends it switches reports off again (they cost the guest CPU\n"
"time), unless they were on before it came:\n"
"      --stop-on-exit    switch them off in any case\n"
"      --leave-on        leave them on in any case\n"
"\n"
"  -h, --help            this text\n"
"  -V, --version         the version\n"
"\n"
"Keys on the screen: up, down, tab select a guest; p pause; ? help; q quit.\n"
"\n"
"Exit status: 0; 1 if a guest gave no report (with --once or --count);\n"
"2 if the command line is wrong.\n"
"\n"
"Examples:\n"
"  wsrtop /run/vm1.sock\n"
"  wsrtop --bounds 1s,10s,1m,10m web=/run/vm1.sock db=/run/vm2.sock\n"
"  wsrtop --once --json /run/vm1.sock\n";

static int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static const char *clock_text(char out[TEXT_SHORT], int64_t seconds)
{
	time_t time = seconds;
	struct tm tm;

	if (!localtime_r(&time, &tm) ||
	    !strftime(out, TEXT_SHORT, "%H:%M:%S", &tm))
		strcpy(out, "?");
	return out;
}

static void fill_view(struct view_guest *view, const struct entry *entry,
		      char received[TEXT_SHORT], int64_t now_ms)
{
	const struct guest *guest = &entry->guest;

	*view = (struct view_guest) {
		.name = guest->name,
		.where = guest->where,
		.state = guest_state_name(guest->state),
		.healthy = guest->state == GUEST_REPORTING,
		.why = *guest->why ? guest->why : NULL,
		.report = guest->has_report ? &guest->report : NULL,
		.data_age_ms = now_ms - guest->data_ms,
		.received = clock_text(received, guest->received_s),
		.history = &entry->history,
		.now_ms = now_ms,
	};
}

/* A reader that went away ends us, but not without tidying up. */
static void flush_output(void)
{
	if (fflush(stdout) || ferror(stdout))
		app.quit = true;
}

static void print_text(struct text *text)
{
	if (text->failed)
		fprintf(stderr, "wsrtop: out of memory\n");
	else if (text->len)
		fputs(text->data, stdout);
	text_free(text);
	flush_output();
}

static struct text plain_text(void)
{
	return (struct text) {
		.width = app.width,
		.utf8 = app.options.utf8,
	};
}

static void print_json(const struct guest *guest, const struct report *report)
{
	struct json_object *json = json_object_new_object();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_object_add(json, "guest",
			       json_object_new_string(guest->name));
	json_object_object_add(json, "socket",
			       json_object_new_string(guest->where));
	json_object_object_add(json, "time-ms",
		json_object_new_int64(now.tv_sec * INT64_C(1000) +
				      now.tv_nsec / 1000000));
	json_object_object_add(json, "report", report_to_json(report));
	puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(json);
	flush_output();
}

static void print_report(struct guest *guest, const struct report *report)
{
	struct entry *entry = guest->owner;
	struct text text = plain_text();
	char received[TEXT_SHORT];
	struct view_guest view;

	if (entry->finished)
		return;
	if (!app.paused)
		app.redraw = true;
	if (app.output == OUTPUT_JSON)
		print_json(guest, report);
	if (report->status != REPORT_OK)
		return;
	history_add(&entry->history, &report->guest, guest->received_ms);
	if (app.output == OUTPUT_PLAIN) {
		fill_view(&view, entry, received, monotonic_ms());
		/* It has just reported, whatever it was before. */
		view.state = guest_state_name(GUEST_REPORTING);
		view.healthy = true;
		view.why = NULL;
		view_guest_full(&text, &view);
		text_newline(&text);
		print_text(&text);
	}
	if (app.count && guest->reports >= app.count) {
		entry->finished = true;
		guest_stop(guest);
	}
}

static void print_heatmaps(void)
{
	struct text text = plain_text();
	char received[TEXT_SHORT];
	struct view_guest view;
	unsigned int i;

	for (i = 0; i < app.nr_entries; i++) {
		fill_view(&view, &app.entries[i], received,
			  monotonic_ms());
		view_heatmap(&text, &view);
	}
	print_text(&text);
}

static void draw(int64_t now_ms)
{
	char received[app.nr_entries][TEXT_SHORT];
	char interval[TEXT_SHORT], clock[TEXT_SHORT], activity[64];
	struct screen_content content = {
		.guests = app.views,
		.nr_guests = app.nr_entries,
		.selected = app.selected,
		.paused = app.paused,
		.help = app.help,
		.activity = activity,
		.clock = clock_text(clock, time(NULL)),
	};
	unsigned int i;

	for (i = 0; i < app.nr_entries; i++)
		fill_view(&app.views[i], &app.entries[i], received[i],
			  now_ms);
	if (app.options.listen_only)
		strcpy(activity, "only listening");
	else
		snprintf(activity, sizeof(activity), "a report every %s",
			 text_bound(interval, app.options.interval_ms));
	screen_draw(&content);
}

static void handle_key(enum screen_key key)
{
	unsigned int n = app.nr_entries;

	app.redraw = true;
	if (app.help && key != SCREEN_QUIT) {
		app.help = false;
		return;
	}
	switch (key) {
	case SCREEN_QUIT:
		app.quit = true;
		break;
	case SCREEN_PAUSE:
		app.paused = !app.paused;
		break;
	case SCREEN_HELP:
		app.help = true;
		break;
	case SCREEN_UP:
		if (app.selected)
			app.selected--;
		break;
	case SCREEN_DOWN:
		if (app.selected + 1 < n)
			app.selected++;
		break;
	case SCREEN_NEXT:
		app.selected = (app.selected + 1) % n;
		break;
	default:
		break;
	}
}

static void handle_signal(int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGWINCH) {
		app.quit = true;
	} else if (app.output == OUTPUT_SCREEN) {
		screen_resize();
		app.redraw = true;
	}
}

/*
 * Tell of trouble on stderr, where it does not mix with reports. States that
 * pass by themselves are no trouble.
 */
static void tell_state(struct entry *entry)
{
	struct guest *guest = &entry->guest;

	if (guest->state == entry->told)
		return;
	entry->told = guest->state;
	switch (guest->state) {
	case GUEST_CONNECTING:
	case GUEST_SETUP:
	case GUEST_WAITING:
	case GUEST_REPORTING:
		return;
	default:
		fprintf(stderr, "wsrtop: %s: %s: %s\n", guest->name,
			guest_state_name(guest->state), guest->why);
	}
}

/* With --once and --count: is there still something to wait for? */
static void check_count(int64_t now_ms)
{
	bool waiting = false;
	unsigned int i;

	for (i = 0; i < app.nr_entries; i++) {
		struct entry *entry = &app.entries[i];
		struct guest *guest = &entry->guest;
		int64_t since_ms = guest->received_ms > app.start_ms ?
				   guest->received_ms : app.start_ms;

		if (entry->finished || entry->failed)
			continue;
		if (!guest->hopeless &&
		    now_ms - since_ms < app.options.timeout_ms) {
			waiting = true;
			continue;
		}
		entry->failed = true;
		guest_stop(guest);
	}
	if (!waiting)
		app.quit = true;
}

static void tell_failures(void)
{
	char timeout[TEXT_SHORT];
	unsigned int i;

	for (i = 0; i < app.nr_entries; i++) {
		struct guest *guest = &app.entries[i].guest;

		if (!app.entries[i].failed)
			continue;
		if (guest->hopeless)
			fprintf(stderr, "wsrtop: %s (%s): %s\n", guest->name,
				guest->where, guest->why);
		else
			fprintf(stderr,
				"wsrtop: %s (%s): no report within %s: %s\n",
				guest->name, guest->where,
				text_bound(timeout, app.options.timeout_ms),
				*guest->why ? guest->why :
				guest_state_name(guest->state));
	}
}

/*
 * Wait for descriptors and serve them.
 * @signal_fd:	a signalfd, or -1
 * @keys:	look at the keyboard, too
 */
static void serve(int signal_fd, bool keys)
{
	struct pollfd fds[app.nr_entries + 2];
	enum screen_key key;
	unsigned int i;
	int64_t now_ms;

	for (i = 0; i < app.nr_entries; i++) {
		struct qmp *qmp = &app.entries[i].guest.qmp;

		/* poll() ignores negative descriptors. */
		fds[i].fd = qmp->fd;
		fds[i].events = qmp_poll_events(qmp);
	}
	fds[i].fd = signal_fd;
	fds[i].events = POLLIN;
	fds[i + 1].fd = keys ? STDIN_FILENO : -1;
	fds[i + 1].events = POLLIN;
	if (poll(fds, app.nr_entries + 2, TICK_MS) <= 0)
		return;

	now_ms = monotonic_ms();
	for (i = 0; i < app.nr_entries; i++) {
		if (fds[i].fd >= 0 && fds[i].revents)
			guest_io(&app.entries[i].guest, fds[i].revents,
				 now_ms);
	}
	if (fds[i].revents)
		handle_signal(signal_fd);
	if (fds[i + 1].revents & POLLIN) {
		while ((key = screen_get_key()) != SCREEN_NO_KEY)
			handle_key(key);
	}
	if (fds[i + 1].revents & (POLLHUP | POLLERR))
		app.quit = true;
}

static void loop(int signal_fd)
{
	int64_t now_ms, drawn_ms = 0;
	unsigned int i;

	while (!app.quit) {
		now_ms = monotonic_ms();
		for (i = 0; i < app.nr_entries && !app.paused; i++) {
			struct entry *entry = &app.entries[i];
			enum guest_state before = entry->guest.state;

			if (entry->finished || entry->failed)
				continue;
			guest_tick(&entry->guest, now_ms);
			if (entry->guest.state != before)
				app.redraw = true;
			if (app.output != OUTPUT_SCREEN && !app.count)
				tell_state(entry);
		}
		if (app.count)
			check_count(now_ms);
		if (app.output == OUTPUT_SCREEN &&
		    (app.redraw || (!app.paused &&
				    now_ms - drawn_ms >= DRAW_MS))) {
			draw(now_ms);
			drawn_ms = now_ms;
			app.redraw = false;
		}
		if (!app.quit)
			serve(signal_fd, app.output == OUTPUT_SCREEN);
	}
}

/* Leave the guests as the user wants them, within STOP_MS for all. */
static void stop_guests(void)
{
	int64_t end_ms = monotonic_ms() + STOP_MS;
	bool stopping = true;
	unsigned int i;

	for (i = 0; i < app.nr_entries; i++) {
		if (!app.entries[i].finished && !app.entries[i].failed)
			guest_stop(&app.entries[i].guest);
		/* What still comes is not printed. */
		app.entries[i].finished = true;
	}
	while (stopping && monotonic_ms() < end_ms) {
		stopping = false;
		for (i = 0; i < app.nr_entries; i++)
			stopping |= guest_stopping(&app.entries[i].guest);
		if (stopping)
			serve(-1, false);
	}
}

static void __attribute__((noreturn, format(printf, 1, 2)))
usage_error(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "wsrtop: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nTry 'wsrtop --help'.\n");
	exit(EXIT_USAGE);
}

static uint32_t parse_time(const char *option, const char *string,
			   uint32_t least_ms)
{
	uint32_t ms;

	if (text_parse_ms(string, &ms))
		usage_error("--%s %s: not a time such as 500ms, 5s, 2m or 1h",
			    option, string);
	if (ms < least_ms)
		usage_error("--%s %s: at least %u ms", option, string,
			    least_ms);
	return ms;
}

static void parse_bounds(const char *list)
{
	struct guest_options *options = &app.options;
	char item[TEXT_SHORT];
	const char *end;
	uint32_t ms;
	size_t len;

	options->nr_bounds = 0;
	for (;; list = end + 1) {
		end = strchr(list, ',');
		len = end ? (size_t)(end - list) : strlen(list);
		if (len >= sizeof(item))
			usage_error("--bounds: \"%s\" is too long", list);
		memcpy(item, list, len);
		item[len] = '\0';
		ms = parse_time("bounds", item, 1);
		if (options->nr_bounds == GUEST_MAX_BOUNDS)
			usage_error("--bounds: at most %d times",
				    GUEST_MAX_BOUNDS);
		if (options->nr_bounds &&
		    ms <= options->bounds_ms[options->nr_bounds - 1])
			usage_error("--bounds: %s is not above the time before it",
				    item);
		options->bounds_ms[options->nr_bounds++] = ms;
		if (!end)
			break;
	}
}

static uint64_t parse_count(const char *string)
{
	unsigned long long count;
	char *end;

	errno = 0;
	count = strtoull(string, &end, 10);
	if (errno || *end || string[0] < '0' || string[0] > '9' || !count)
		usage_error("--count %s: not a number above 0", string);
	return count;
}

static void parse_options(int argc, char **argv)
{
	enum {
		OPT_REFRESH = 256,
		OPT_REPORT,
		OPT_DEVICE,
		OPT_STOP,
		OPT_LEAVE,
	};
	static const struct option long_options[] = {
		{ "bounds", required_argument, NULL, 'b' },
		{ "interval", required_argument, NULL, 'i' },
		{ "refresh", required_argument, NULL, OPT_REFRESH },
		{ "report", required_argument, NULL, OPT_REPORT },
		{ "no-set", no_argument, NULL, 'n' },
		{ "device", required_argument, NULL, OPT_DEVICE },
		{ "once", no_argument, NULL, '1' },
		{ "count", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "timeout", required_argument, NULL, 't' },
		{ "stop-on-exit", no_argument, NULL, OPT_STOP },
		{ "leave-on", no_argument, NULL, OPT_LEAVE },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct guest_options *options = &app.options;
	bool once = false;
	int option;

	while ((option = getopt_long(argc, argv, "b:i:n1c:jt:hV",
				     long_options, NULL)) != -1) {
		switch (option) {
		case 'b':
			parse_bounds(optarg);
			break;
		case 'i':
			options->interval_ms = parse_time("interval", optarg,
							  MIN_INTERVAL_MS);
			break;
		case OPT_REFRESH:
			options->set_refresh = true;
			options->refresh_ms = parse_time("refresh", optarg, 0);
			break;
		case OPT_REPORT:
			options->set_report = true;
			options->report_ms = parse_time("report", optarg, 0);
			break;
		case 'n':
			options->listen_only = true;
			break;
		case OPT_DEVICE:
			if (strlen(optarg) >= GUEST_PATH)
				usage_error("--device: the path is too long");
			options->device = optarg;
			break;
		case '1':
			once = true;
			break;
		case 'c':
			app.count = parse_count(optarg);
			break;
		case 'j':
			app.output = OUTPUT_JSON;
			break;
		case 't':
			options->timeout_ms = parse_time("timeout", optarg, 1);
			break;
		case OPT_STOP:
			options->on_exit = GUEST_EXIT_STOP;
			break;
		case OPT_LEAVE:
			options->on_exit = GUEST_EXIT_LEAVE;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case 'V':
			puts("wsrtop " WSRTOP_VERSION);
			exit(0);
		default:
			fprintf(stderr, "Try 'wsrtop --help'.\n");
			exit(EXIT_USAGE);
		}
	}
	if (once && app.count > 1)
		usage_error("--once means --count 1");
	if (once)
		app.count = 1;
	if (options->listen_only && (options->nr_bounds ||
				     options->set_refresh ||
				     options->set_report))
		usage_error("--no-set changes nothing: leave --bounds, --refresh and --report out");
	if (optind == argc)
		usage_error("which guest? Give the path of its QMP socket");
	if (app.output != OUTPUT_JSON &&
	    (once || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)))
		app.output = OUTPUT_PLAIN;
}

static unsigned int plain_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	long width;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		return size.ws_col;
	width = columns ? strtol(columns, NULL, 10) : 0;
	return width >= 20 && width <= 1000 ? width : 80;
}

static void init_guests(char **specs, unsigned int count)
{
	static const struct guest_handlers handlers = {
		.report = print_report,
	};
	unsigned int i;

	app.nr_entries = count;
	app.entries = calloc(count, sizeof(*app.entries));
	app.views = calloc(count, sizeof(*app.views));
	if (!app.entries || !app.views) {
		fprintf(stderr, "wsrtop: out of memory\n");
		exit(EXIT_NO_REPORT);
	}
	for (i = 0; i < count; i++) {
		if (guest_init(&app.entries[i].guest, &app.options, specs[i],
			       &handlers))
			usage_error("%s: %s", specs[i],
				    app.entries[i].guest.qmp.error);
		app.entries[i].guest.owner = &app.entries[i];
		app.entries[i].told = GUEST_CONNECTING;
	}
}

int main(int argc, char **argv)
{
	int status = 0, signal_fd;
	sigset_t signals;
	unsigned int i;

	/* Only characters: numbers are to look the same everywhere. */
	setlocale(LC_CTYPE, "");
	app.options.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	parse_options(argc, argv);
	init_guests(argv + optind, argc - optind);
	app.width = plain_width();

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGWINCH);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signal_fd < 0) {
		perror("wsrtop: signalfd");
		return EXIT_NO_REPORT;
	}
	if (app.output == OUTPUT_SCREEN && screen_open(app.options.utf8)) {
		fprintf(stderr, "wsrtop: this terminal (TERM=%s) has no screen to draw on, going on with plain text\n",
			getenv("TERM") ? getenv("TERM") : "");
		app.output = OUTPUT_PLAIN;
	}

	app.start_ms = monotonic_ms();
	loop(signal_fd);
	screen_close();
	if (app.output == OUTPUT_PLAIN)
		print_heatmaps();
	for (i = 0; app.count && i < app.nr_entries; i++) {
		if (!app.entries[i].finished)
			status = EXIT_NO_REPORT;
	}
	tell_failures();
	stop_guests();
	for (i = 0; i < app.nr_entries; i++)
		guest_close(&app.entries[i].guest);
	free(app.entries);
	free(app.views);
	close(signal_fd);
	return status;
}
